"""What becomes of one webhook on a developer's machine: made whole, perhaps signed anew or edited, and sent on.

A program that is being restarted is waited for: nothing is skipped because it was away for a moment. One that answers
has answered, whatever it says, and one that takes too long has had its turn; either can be asked again by
`hookbrook replay`.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from hookbrook import ApiError, Hookbrook, Webhook
from hookbrook.cli.board import Board, Row
from hookbrook.cli.forward import Answer, Outgoing, Target, Unanswered
from hookbrook.core.expression import Expression
from hookbrook.core.received import HIDDEN, Batch, from_wire
from hookbrook.errors import HookbrookError, Invalid
from hookbrook.inbound import recipe
from hookbrook.inbound.batch import join
from hookbrook.inbound.request import Request
from hookbrook.inbound.sign import sign

#: Seconds between tries while the program is away: a restart is seen soon, and an evening costs next to nothing.
FIRST_PAUSE_S = 0.2
MAX_PAUSE_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """Signs anew by a secret of the developer's own, with the time of now."""

    rows: Mapping[str, recipe.Row]
    secret: str
    #: Instead of the provider that the webhook came from.
    provider: str | None = None
    #: What is signed by providers that sign the URL; absent, the target's.
    url: str | None = None

    def signed(self, outgoing: Outgoing, *, provider: str, url: str, id_: str) -> Outgoing:
        """Raises `Invalid` for a secret that is none of this provider's, or a provider that is not known here."""
        row = self.row(provider)
        return as_outgoing(sign(row, self.secret, as_request(outgoing, self.url or url), now=time.time(), id_=id_))

    def row(self, provider: str) -> recipe.Row:
        name = self.provider or provider
        if name not in self.rows:
            sentence = f"{name!r} is not known on this machine; declare it in hookbrook.toml, or say --provider"
            raise Invalid.of("provider", sentence)
        return self.rows[name]


def as_request(outgoing: Outgoing, url: str) -> Request:
    """As recipes and expressions look at it."""
    return Request(
        method=outgoing.method,
        url=url,
        headers=[(name.encode("latin-1"), value.encode("latin-1")) for name, value in outgoing.headers],
        query=outgoing.query.encode("latin-1"),
        body=outgoing.body,
    )


def as_outgoing(request: Request) -> Outgoing:
    """The inverse of `as_request`."""
    return Outgoing(
        method=request.method,
        headers=tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers),
        query=request.query.decode("latin-1"),
        body=request.body,
    )


class Forwarder:
    """Sends webhooks of one source to one target, one after the other.

    Args:
        wanted: only those for which this is true (JMESPath's truth) of `{headers, query, body, type, …}`.
        edit: changes each before it is sent and signed; None from it leaves that one out.
    """

    def __init__(
        self,
        brook: Hookbrook,
        source: str,
        target: Target,
        board: Board,
        *,
        rows: Mapping[str, recipe.Row],
        signer: Signer | None = None,
        wanted: Expression | None = None,
        edit: Callable[[Outgoing, str], Outgoing | None] | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._brook = brook
        self._source = source
        self._target = target
        self._board = board
        self._rows = rows
        self._signer = signer
        self._wanted = wanted
        self._edit = edit
        self._sleep = sleep
        self._told_hidden = False
        #: The first event of the request with several events that was sent last.
        self.batch: str | None = None

    def take(self, webhook: Webhook) -> None:
        """Returns when it is answered, or will not be. Raises ApiError if the server refuses the rest of it."""
        batch = webhook.request.batch
        if isinstance(batch, Batch):
            if batch.first == self.batch:
                return  # it came with the one before
            self.batch = batch.first
        webhook, body, note = self._whole(webhook)
        request = webhook.request
        query = "" if request.query == HIDDEN else request.query
        outgoing = Outgoing(method=request.method, query=query, headers=request.headers, body=body)
        if not self._is_wanted(webhook, outgoing):
            return
        changed = outgoing if self._edit is None else self._edit(outgoing, self._target.path())
        if changed is not None:
            self._send(webhook, changed, note)

    def _send(self, webhook: Webhook, outgoing: Outgoing, note: str) -> None:
        try:
            if self._signer is not None:
                url = self._target.full(outgoing.query)
                provider = webhook.request.provider
                outgoing = self._signer.signed(outgoing, provider=provider, url=url, id_=webhook.id)
                note = ", ".join(part for part in ("signed anew", note) if part)
            elif not self._told_hidden and any(value == HIDDEN for _, value in webhook.request.headers):
                self._told_hidden = True
                self._board.tell("credentials in headers are not kept in the log, and left out; --resign puts them in")
            answer = self._answer(outgoing)
        except (Unanswered, Invalid) as error:
            self._board.row(Row(type=webhook.type, event_id=webhook.id, answer=str(error), note=note))
            return
        self._board.row(Row(type=webhook.type, event_id=webhook.id, answer=answer, note=note))

    def _answer(self, outgoing: Outgoing) -> Answer:
        pause = FIRST_PAUSE_S
        while True:
            try:
                answer = self._target.send(outgoing)
            except Unanswered as error:
                if not error.again:
                    raise
                self._board.state(f"waiting for {self._target.url}: {error}")
                self._sleep(pause)
                pause = min(pause * 1.5, MAX_PAUSE_S)
            else:
                if pause > FIRST_PAUSE_S:
                    self._board.state(f"forwarding {self._source} to {self._target.url}")
                return answer

    def _whole(self, webhook: Webhook) -> tuple[Webhook, bytes, str]:
        """The request that brought it, with all of its body, and what there is to say about that."""
        batch = webhook.request.batch
        note = ""
        if isinstance(batch, Batch) and batch.index:
            first = self._find(batch.first)
            webhook = first or webhook
            note = "" if first else "alone: the others that it came with were repeats"
        body = webhook.raw
        if body is None:
            body = self._brook.download(f"{self._path(webhook.id)}/body")
        if note and (row := self._rows.get(webhook.request.provider)) is not None:
            body = join(row, body)
        return webhook, body, note

    def _find(self, event_id: str) -> Webhook | None:
        try:
            return from_wire(self._brook.download(self._path(event_id)))
        except ApiError as error:
            if error.status != 404:
                raise
            return None

    def _path(self, event_id: str) -> str:
        return f"/v1/sources/{quote(self._source, safe='')}/requests/{quote(event_id, safe='')}"

    def _is_wanted(self, webhook: Webhook, outgoing: Outgoing) -> bool:
        if self._wanted is None:
            return True
        facts = {
            "id": webhook.id,
            "type": webhook.type,
            "channel": webhook.channels[0],
            "channels": list(webhook.channels),
            "source": webhook.source,
            "verified": webhook.request.verified,
        }
        try:
            found = self._wanted.evaluate({**as_request(outgoing, "").document, **facts})
        except HookbrookError as error:
            self._board.tell(f"{webhook.id}: --match: {error}")
            return False
        # JMESPath's truth: an empty text, list or object is false, and the number 0 is true.
        return found is not None and found is not False and found not in ("", [], {})
