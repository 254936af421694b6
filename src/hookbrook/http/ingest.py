"""The door for providers' webhooks: `/in/{source}`.

The order is fixed. The body is read within its limit; the request is verified as of its arrival; a handshake is
answered; what remains is appended, deduplicated by the provider's own id; and only then, durable, it is acknowledged.
Where a provider sends several events in one request, all of them are appended together, each as an event of its own.

What fails verification is refused with 401. A source that does not exist, or is disabled, gives the same answer as one
whose signature does not match, so that nobody finds out names by trying; the log tells the operator which it was.
(A request without any signature learns from an existing source which header is missing. That is on purpose: honest
senders need to know, and whoever signs nothing has guessed the name already.)

A source with `enforce = false` keeps what fails: flagged, on the channel `hookbrook.unverified.{source}`, which no
stream and no endpoint gets unless it asks for it by name, and under dedupe ids of its own, since a forger must not be
able to make the real webhook look like a repeat.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import msgspec

from hookbrook.core.channel import DEFAULT_TYPE
from hookbrook.core.event import (
    BINARY_TYPE,
    JSON_TYPE,
    MAX_CONTENT_TYPE_LENGTH,
    NewEvent,
    format_time,
    is_json,
    kind_of,
)
from hookbrook.core.fetch import Fetch
from hookbrook.core.ids import new_id
from hookbrook.core.received import HIDDEN, in_batch
from hookbrook.core.source import Source
from hookbrook.errors import MethodNotAllowed, Problem
from hookbrook.http.body import read_body
from hookbrook.http.gateway import Gateway
from hookbrook.http.problems import Receive, Scope, Send
from hookbrook.inbound.batch import dedupe_ids, split
from hookbrook.inbound.certificate import Certificates, address
from hookbrook.inbound.challenge import Reply, acknowledge, answer
from hookbrook.inbound.place import HeaderPlace, QueryPlace
from hookbrook.inbound.recipe import Certificate, Row, Token
from hookbrook.inbound.request import PRIVATE_HEADERS, Request
from hookbrook.inbound.template import MISSING, Template
from hookbrook.inbound.verdict import Reason, Verdict
from hookbrook.inbound.verify import dedupe_id, verify

log = logging.getLogger("hookbrook.ingest")

PREFIX: Final = "/in/"
METHODS: Final = "POST, GET, HEAD, OPTIONS"
#: Our own channel of what was kept although it failed verification.
UNVERIFIED_CHANNEL: Final = "hookbrook.unverified."
#: Hashing and reading more than this takes milliseconds, in which nobody else would be served; a thread takes it.
INLINE_BYTES: Final = 256 * 1024
#: Compiled templates that are kept; a source has two.
MAX_TEMPLATES: Final = 2048

#: What the operator can do about a refusal; never says what was received.
HINTS: Final[Mapping[Reason, str]] = {
    Reason.NO_SECRET: "set the source's secret to the one that the provider shows",
    Reason.MISSING_SIGNATURE: "is this the right provider, and does a proxy in front of us drop headers?",
    Reason.MALFORMED_SIGNATURE: "is this the right provider?",
    Reason.MISSING_ID: "is this the right provider?",
    Reason.MISSING_TIMESTAMP: "is this the right provider?",
    Reason.MALFORMED_TIMESTAMP: "is this the right provider?",
    Reason.AMBIGUOUS: "somebody sent a header twice; if it was you, a proxy may have added one",
    Reason.TOO_OLD: "check this machine's clock; a delivery that was held back for minutes looks the same",
    Reason.IN_THE_FUTURE: "check this machine's clock",
    Reason.MISMATCH: "is the secret the one that the provider shows, and does a proxy in front of us change the body?",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """What a request turned out to be: a handshake with its reply, or events; neither if it is refused."""

    verdict: Verdict
    reply: Reply | None = None
    events: Sequence[NewEvent] | None = None
    #: The events came as a list, of which there may also be one, or none.
    batch: bool = False


class Ingest:
    """ASGI. Raises `Problem`s for the boundary around the doors."""

    def __init__(self, gateway: Gateway, fetch: Fetch | None = None) -> None:
        """`fetch` gets certificates; without it, the few providers that sign by one are refused."""
        self._gateway = gateway
        self._template = lru_cache(MAX_TEMPLATES)(_compile)
        self._certificates = Certificates(fetch, gateway.clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        arrived = self._gateway.clock()
        name = _source_name(scope)
        match scope["method"]:
            case "POST":
                reply = await self._take(name, scope, receive, arrived)
            case "GET" | "HEAD" | "OPTIONS" as method:
                reply = self._without_body(name, method, scope)
            case method:
                raise MethodNotAllowed(f"{method} is not possible here.", headers={"Allow": METHODS})
        await _send(send, reply)

    async def _take(self, name: str, scope: Scope, receive: Receive, arrived: int) -> Reply:
        limit = self._gateway.settings.max_webhook_bytes
        body = await read_body(receive, scope["headers"], limit=limit, limit_name="max_webhook_bytes")
        source, row = self._source(name)
        request = self._request(scope, body, self._members(source, row))
        certificate = await self._certificate(source, row, request)
        if len(body) <= INLINE_BYTES:
            judged = self._judge(source, row, request, scope, arrived, certificate)
        else:
            judged = await asyncio.to_thread(self._judge, source, row, request, scope, arrived, certificate)
        if judged.reply is not None:
            if judged.reply.visit is not None:
                await self._certificates.visit(judged.reply.visit)
            return judged.reply
        if not judged.verdict.ok:
            self._note_refusal(source, judged.verdict)
        if judged.events is None:
            raise judged.verdict.problem()
        appended = await self._gateway.appender.append(judged.events) if judged.events else []
        reply = acknowledge(row)
        if reply is not None:
            return reply
        answered = [{"id": each.id, "cursor": each.cursor, "duplicate": each.duplicate} for each in appended]
        body = msgspec.json.encode(answered if judged.batch else answered[0])
        return Reply(status=200, content_type=JSON_TYPE, body=body)

    def _without_body(self, name: str, method: str, scope: Scope) -> Reply:
        """Handshakes and probes. A probe is answered alike whether the source exists or not."""
        source = self._gateway.catalog.sources.get(name)
        row = self._gateway.providers.get(source.provider) if source is not None and source.enabled else None
        if source is not None and row is not None:
            reply = answer(row, source.secrets, self._request(scope, b""))
            if reply is not None:
                return reply
        if method == "GET":
            raise MethodNotAllowed("Webhooks are sent by POST.", headers={"Allow": METHODS})
        # Some providers ask by HEAD or OPTIONS whether anybody is there, before they show a secret.
        return Reply(status=200 if method == "HEAD" else 204, content_type="", body=b"", headers={"Allow": METHODS})

    def _source(self, name: str) -> tuple[Source, Row]:
        source = self._gateway.catalog.sources.get(name)
        if source is None or not source.enabled:
            why = "unknown_source" if source is None else "disabled_source"
            shown = name if name.isprintable() else ascii(name)
            log.warning("refused: source=%.64s reason=%s", shown, why, extra={"source": shown[:64], "reason": why})
            raise Verdict(ok=False, reason=Reason.MISMATCH, detail="No signature matches.").problem()
        row = self._gateway.providers.get(source.provider)
        if row is None:
            log.error("source=%s: its provider %s is no longer declared", source.name, source.provider)
            raise Problem("This source is not set up completely; its operator can see why in the log.")
        return source, row

    def _members(self, source: Source, row: Row) -> frozenset[str] | None:
        """Names of the body's members that are looked at on the way in; None: all of it."""
        names = row.members
        for text in (source.type, source.channel):
            if text is not None:
                found = self._template(text, DEFAULT_TYPE).reads.body
                names = None if names is None or found is None else names | found
        return names

    def _request(self, scope: Scope, body: bytes, members: frozenset[str] | None = None) -> Request:
        query: bytes = scope["query_string"]
        path = scope.get("raw_path") or scope["path"].encode()
        url = self._gateway.settings.base_url + path.decode("latin-1")
        return Request(
            method=scope["method"],
            url=f"{url}?{query.decode('latin-1')}" if query else url,
            headers=scope["headers"],
            query=query,
            body=body,
            members=members,
        )

    async def _certificate(self, source: Source, row: Row, request: Request) -> bytes | None:
        """The certificate that the request names, if its provider signs by one."""
        if not isinstance(row.verify, Certificate):
            return None
        url = address(row.verify, source.secrets, request)
        return None if url is None else await self._certificates.get(url)

    def _judge(
        self, source: Source, row: Row, request: Request, scope: Scope, arrived: int, certificate: bytes | None
    ) -> _Judged:
        """Everything that takes time in proportion to the body, and touches nothing but its arguments."""
        verdict = verify(row, source.secrets, request, now=arrived / 1_000_000, certificate=certificate)
        reply = answer(row, source.secrets, request, verdict)
        if reply is not None:
            return _Judged(verdict=verdict, reply=reply)
        if not verdict.ok and source.enforce:
            return _Judged(verdict=verdict)
        record = _record(row, request, scope, verdict, arrived)
        events = split(row, request) if verdict.ok else None
        if events is None:
            id_ = verdict.dedupe_id or dedupe_id(row, request)
            type_ = verdict.event_type or self._name(row.type, request)
            return _Judged(verdict=verdict, events=[self._event(source, request, verdict, arrived, record, id_, type_)])
        made = [
            self._event(source, event, verdict, arrived, record, id_, self._name(row.type, event))
            for event, id_ in zip(events, dedupe_ids(row, request, events), strict=True)
        ]
        records = in_batch(record, [event.id for event in made], request.body)
        placed = [msgspec.structs.replace(event, request=each) for event, each in zip(made, records, strict=True)]
        return _Judged(verdict=verdict, events=placed, batch=True)

    def _event(
        self, source: Source, request: Request, verdict: Verdict, arrived: int, record: bytes, id_: str, type_: str
    ) -> NewEvent:
        content_type = _content_type(request)
        if source.type is not None:
            type_ = self._name(self._template(source.type, DEFAULT_TYPE), request)
        if verdict.ok:
            channel = source.name
            if source.channel is not None:
                channel = self._name(self._template(source.channel, MISSING), request)
        else:
            channel = UNVERIFIED_CHANNEL + source.name
        return NewEvent(
            id=new_id("evt", arrived, self._gateway.random(10)),
            channels=(channel,),
            type=type_,
            tenant=source.tenant,
            source=source.name,
            time=arrived,
            content_type=content_type,
            kind=kind_of(content_type, request.body),
            data=request.body,
            request=record,
            scope=source.id if verdict.ok else f"{source.id}:unverified",
            dedupe_id=id_,
        )

    @staticmethod
    def _name(template: Template, request: Request) -> str:
        return template.render(request.document_of(template.reads))

    def _note_refusal(self, source: Source, verdict: Verdict) -> None:
        what = "refused" if source.enforce else "kept unverified"
        hint = HINTS.get(verdict.reason, "")
        facts = {"source": source.name, "provider": source.provider, "reason": str(verdict.reason), "hint": hint}
        log.warning("%s: source=%s reason=%s (%s)", what, source.name, verdict.reason, hint, extra=facts)


def _compile(text: str, missing: str) -> Template:
    return Template.compile(text, missing=missing)


def _source_name(scope: Scope) -> str:
    """What follows `/in/`; an ASGI path begins with the path under which a host program has mounted us."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", "")).removeprefix(PREFIX)


def _content_type(request: Request) -> str:
    """The label as received, if it is one; unlabelled bytes are looked at."""
    values = request.header(b"content-type")
    if values:
        label = values[0].decode("latin-1")
        if len(label) <= MAX_CONTENT_TYPE_LENGTH and label.isascii() and label.isprintable() and label:
            return label
    return JSON_TYPE if is_json(request.body) else BINARY_TYPE


def _record(row: Row, request: Request, scope: Scope, verdict: Verdict, arrived: int) -> bytes:
    """The request as it is kept beside the body; header values as received, but for credentials."""
    private = set(PRIVATE_HEADERS)
    secret_parameters = set()
    if isinstance(row.verify, Token):
        private |= {place.key for place in row.verify.places if isinstance(place, HeaderPlace)}
        secret_parameters = {place.name for place in row.verify.places if isinstance(place, QueryPlace)}
    headers = [
        (name.decode("latin-1"), HIDDEN if name.lower() in private else value.decode("latin-1"))
        for name, value in request.headers
    ]
    query = request.query.decode("latin-1")
    if secret_parameters & request.query_fields.keys():
        query = HIDDEN
    client = scope.get("client")
    return msgspec.json.encode(
        {
            "method": request.method,
            "path": (scope.get("raw_path") or scope["path"].encode()).decode("latin-1"),
            "query": query,
            "headers": headers,
            "address": client[0] if client else None,
            "received_at": format_time(arrived),
            "verified": verdict.reason is Reason.VERIFIED,
            "reason": str(verdict.reason),
            "covers": verdict.covers,
            "provider": row.id,
        }
    )


async def _send(send: Send, reply: Reply) -> None:
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in reply.headers.items()]
    if reply.content_type:
        headers.append((b"content-type", reply.content_type.encode("latin-1")))
    if reply.status != 204:
        headers.append((b"content-length", str(len(reply.body)).encode()))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})
