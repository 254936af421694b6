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
from typing import Final

import msgspec

from hookbrook.core.event import JSON_TYPE, Appended, NewEvent
from hookbrook.core.fetch import Fetch
from hookbrook.core.source import Source
from hookbrook.errors import MethodNotAllowed, Problem
from hookbrook.http.answer import answer as answer_at_once
from hookbrook.http.body import read_body
from hookbrook.http.decoy import SIGNATURE, Decoys
from hookbrook.http.failures import Failed, FailureLog
from hookbrook.http.gateway import Gateway
from hookbrook.http.intake import UNVERIFIED_CHANNEL as UNVERIFIED_CHANNEL
from hookbrook.http.intake import Arrival, Intake, Judged
from hookbrook.http.problems import Receive, Scope, Send
from hookbrook.inbound.case import Case, Other
from hookbrook.inbound.certificate import Certificates
from hookbrook.inbound.challenge import Reply, acknowledge, answer
from hookbrook.inbound.request import Request
from hookbrook.inbound.verdict import Reason, Verdict, mismatch

log = logging.getLogger("hookbrook.ingest")

PREFIX: Final = "/in/"
METHODS: Final = "POST, GET, HEAD, OPTIONS"
#: Hashing and reading more than this takes milliseconds, in which nobody else would be served; a thread takes it.
INLINE_BYTES: Final = 256 * 1024

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
    Reason.NETWORK: "it came from an address that is in none of the source's networks",
    Reason.MISMATCH: "is the secret the one that the provider shows, and does a proxy in front of us change the body?",
}


#: In a scope: the request is one of our own (`api_trigger`), which comes from no network.
OURS: Final = "hookbrook.ours"
#: In a scope: what `Ingest.single` has found about its request, if it is no single event.
_FOUND: Final = "hookbrook.found"
#: In a scope: the source that it was found to be an event of.
_INTAKE: Final = "hookbrook.intake"
_ALLOW: Final = {"Allow": METHODS}
#: The answers to probes, by method. Where a challenge was asked and not met, this is none of the answers to it.
_PROBED: Final[Mapping[str, Reply]] = {
    "GET": Reply(status=200, content_type="text/plain", body=b"Webhooks are sent here by POST.\n", headers=_ALLOW),
    "HEAD": Reply(status=200, content_type="", body=b"", headers=_ALLOW),
    "OPTIONS": Reply(status=204, content_type="", body=b"", headers=_ALLOW),
}
_JSON_LINE: Final = b"content-type: application/json\r\n"
_encode = msgspec.json.Encoder().encode


class _Found(msgspec.Struct, frozen=True, kw_only=True):
    """A request at a source, and what it turned out to be."""

    intake: Intake
    request: Request
    arrival: Arrival
    judged: Judged
    certificate: bytes | None = None


class _Receipt(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    id: str
    cursor: str
    duplicate: bool


class Ingest:
    """ASGI. Raises `Problem`s for the boundary around the doors."""

    def __init__(self, gateway: Gateway, fetch: Fetch | None = None) -> None:
        """`fetch` gets certificates; without it, the few providers that sign by one are refused."""
        self._gateway = gateway
        self._certificates = Certificates(fetch, gateway.clock)
        #: What we call ourselves if nobody says how providers do.
        self._base = gateway.settings.base_url
        self._inline_bytes = min(INLINE_BYTES, gateway.settings.max_webhook_bytes)
        #: By the source's name; an entry is good for the very record that it was made of.
        self._intakes: dict[str, Intake] = {}
        self._decoys = Decoys(gateway.providers.values(), gateway.random)
        self.failures = FailureLog(gateway.store, rows=gateway.providers, random=gateway.random)

    async def close(self) -> None:
        """Keep the failures that are still to be explained."""
        await self.failures.close()

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
        await _send(scope, send, reply)

    def single(self, scope: Scope, body: bytes) -> NewEvent | None:
        """The event of a webhook that has arrived whole, is verified, and is one; None for any other.

        What was found about another is left in the scope for the ordinary way, which need not look again. Raises what
        the door raises.
        """
        arrived = self._gateway.clock()
        intake = self._intake(_source_name(scope)) if len(body) <= self._inline_bytes else None
        if intake is None or intake.needs_certificate:
            return None
        request, arrival = self._received(intake, scope, body, arrived)
        judged = intake.judge(request, arrival, None)
        if judged.verdict.ok and judged.events and not judged.batch and not intake.answers_nothing:
            # And not what was found: hundreds of requests wait for a commit, and what is free at once is used again.
            scope[_INTAKE] = intake
            return judged.events[0]
        scope[_FOUND] = _Found(intake=intake, request=request, arrival=arrival, judged=judged)
        return None

    def receipt(self, scope: Scope, appended: Appended) -> tuple[int, bytes, bytes]:
        """Status, header lines and body of the answer, once the event of `single` is durable."""
        intake: Intake = scope[_INTAKE]
        self._gateway.tally.count(intake.source.id, "duplicate" if appended.duplicate else "accepted")
        reply = acknowledge(intake.row)
        if reply is None:
            return 200, _JSON_LINE, _encode(_receipt(appended))
        return reply.status, _lines(reply), reply.body

    async def _take(self, name: str, scope: Scope, receive: Receive, arrived: int) -> Reply:
        limit = self._gateway.settings.max_webhook_bytes
        body = await read_body(receive, scope["headers"], limit=limit, limit_name="max_webhook_bytes")
        intake = self._intake(name)
        if intake is None:
            raise await self._refused_without_source(name, scope, body, arrived)
        found: _Found | None = scope.pop(_FOUND, None)
        if found is None or found.intake is not intake:
            found = await self._judged(intake, scope, body, arrived)
        judged = found.judged
        if not judged.verdict.ok and judged.reply is None:
            self._note_failure(found)
        if judged.reply is not None:
            self._gateway.tally.count(intake.source.id, "challenge")
            if judged.reply.visit is not None:
                await self._certificates.visit(judged.reply.visit)
            return judged.reply
        if judged.events is None:
            self._gateway.tally.count(intake.source.id, "refused")
            raise judged.verdict.problem()
        appended = await self._gateway.appender.append(judged.events) if judged.events else []
        return self._acknowledged(intake, judged, appended)

    async def _judged(self, intake: Intake, scope: Scope, body: bytes, arrived: int) -> "_Found":
        request, arrival = self._received(intake, scope, body, arrived)
        url = intake.certificate_address(request)
        certificate = None if url is None else await self._certificates.get(url)
        if len(body) <= INLINE_BYTES:
            judged = intake.judge(request, arrival, certificate)
        else:
            judged = await asyncio.to_thread(intake.judge, request, arrival, certificate)
        return _Found(intake=intake, request=request, arrival=arrival, judged=judged, certificate=certificate)

    def _received(self, intake: Intake, scope: Scope, body: bytes, arrived: int) -> tuple[Request, Arrival]:
        arrival = Arrival(
            at=arrived,
            path=_path(scope),
            address=self._gateway.proxies.client_of(scope) or None,
            is_ours=scope.get(OURS, False),
        )
        return self._request(intake.source, scope, body, intake), arrival

    def _acknowledged(self, intake: Intake, judged: Judged, appended: Sequence[Appended]) -> Reply:
        """What the provider reads; by now its events are durable."""
        tally, source_id = self._gateway.tally, intake.source.id
        repeats = sum([each.duplicate for each in appended])
        if repeats:
            tally.count(source_id, "duplicate", repeats)
        if len(appended) > repeats:
            tally.count(source_id, "accepted" if judged.verdict.ok else "unverified", len(appended) - repeats)
        reply = acknowledge(intake.row)
        if reply is not None:
            return reply
        answered = [_receipt(each) for each in appended]
        body = _encode(answered if judged.batch else answered[0])
        return Reply(status=200, content_type=JSON_TYPE, body=body)

    def _without_body(self, name: str, method: str, scope: Scope) -> Reply:
        """Handshakes and probes. A probe is answered alike whether the source exists or not."""
        source = self._gateway.catalog.sources.get(name)
        row = self._gateway.providers.get(source.provider) if source is not None and source.enabled else None
        if source is not None and row is not None:
            reply = answer(row, source.secrets, self._request(source, scope, b""))
            if reply is not None:
                self._gateway.tally.count(source.id, "challenge")
                return reply
        # Some providers ask by one of these whether anybody is there, before they show a secret.
        return _PROBED[method]

    def _intake(self, name: str) -> Intake | None:
        """None for a source that does not exist or is disabled."""
        source = self._gateway.catalog.sources.get(name)
        if source is None or not source.enabled:
            return None
        intake = self._intakes.get(name)
        if intake is None or intake.source is not source:
            row = self._gateway.providers.get(source.provider)
            if row is None:
                log.error("source=%s: its provider %s is no longer declared", source.name, source.provider)
                raise Problem("This source is not set up completely; its operator can see why in the log.")
            self._intakes = {known: each for known, each in self._intakes.items() if known in self._sources}
            intake = self._intakes[name] = Intake(source, row, self._gateway.random)
        return intake

    @property
    def _sources(self) -> dict[str, Source]:
        return self._gateway.catalog.sources

    def _request(self, source: Source, scope: Scope, body: bytes, intake: Intake | None = None) -> Request:
        return Request(
            method=scope["method"],
            url="" if intake is not None and not intake.needs_url else self._url(source, scope),
            headers=scope["headers"],
            lowered=True,
            query=scope["query_string"],
            body=body,
            members=None if intake is None else intake.members,
        )

    def _url(self, source: Source, scope: Scope) -> str:
        """The address that the provider was given, with its query."""
        gateway, query = self._gateway, scope["query_string"]
        base = source.public_url or gateway.settings.public_url or gateway.proxies.base_of(scope) or self._base
        url: str = base + _path(scope)
        return f"{url}?{query.decode('latin-1')}" if query else url

    # What is refused

    async def _refused_without_source(self, name: str, scope: Scope, body: bytes, arrived: int) -> Problem:
        """The answer of a source whose signature does not match, after as much work."""
        signed = {**scope, "headers": [*scope["headers"], SIGNATURE]}
        await self._judged(self._decoys.for_(scope["headers"]), signed, body, arrived)
        why = "disabled_source" if name in self._sources else "unknown_source"
        skipped = self.failures.allows("", why, arrived)
        if skipped is not None:
            shown = (name if name.isprintable() else ascii(name))[:64]
            facts = {"source": shown, "reason": why, "skipped": skipped}
            log.warning("refused: source=%s reason=%s%s", shown, why, _more(skipped), extra=facts)
        refusal = mismatch()
        return Verdict(ok=False, reason=refusal.reason, detail=refusal.detail).problem()

    def _note_failure(self, found: "_Found") -> None:
        """Log it and have it explained, unless there are too many."""
        source, verdict, arrival = found.intake.source, found.judged.verdict, found.arrival
        skipped = self.failures.allows(source.id, str(verdict.reason), arrival.at)
        if skipped is None:
            return
        what = "refused" if source.enforce else "kept unverified"
        hint = HINTS.get(verdict.reason, "")
        facts = {"source": source.name, "provider": source.provider, "reason": str(verdict.reason), "hint": hint}
        log.warning(
            "%s: source=%s reason=%s (%s)%s",
            what,
            source.name,
            verdict.reason,
            hint,
            _more(skipped),
            extra={**facts, "skipped": skipped},
        )
        case = Case(
            row=found.intake.row,
            secrets=source.secrets,
            request=found.request,
            verdict=verdict,
            now=arrival.at / 1_000_000,
            rows=self._gateway.providers,
            others=self._others(source),
            certificate=found.certificate,
            address=arrival.address,
        )
        self.failures.keep(
            Failed(
                source_id=source.id,
                source=source.name,
                case=case,
                arrived=arrival.at,
                path=arrival.path,
                address=arrival.address,
                skipped=skipped,
            )
        )

    def _others(self, source: Source) -> list[Other]:
        """The other sources of its tenant; nothing is told of another tenant's."""
        rows = self._gateway.providers
        return [
            Other(name=other.name, row=rows[other.provider], secrets=other.secrets)
            for other in self._sources.values()
            if other.tenant == source.tenant and other.id != source.id and other.provider in rows
        ]


def _receipt(appended: Appended) -> _Receipt:
    return _Receipt(id=appended.id, cursor=appended.cursor, duplicate=appended.duplicate)


def _more(skipped: int) -> str:
    return f", and {skipped} more like it before" if skipped else ""


def _source_name(scope: Scope) -> str:
    """What follows `/in/`; an ASGI path begins with the path under which a host program has mounted us."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", "")).removeprefix(PREFIX)


def _path(scope: Scope) -> str:
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return raw.decode("latin-1")


async def _send(scope: Scope, send: Send, reply: Reply) -> None:
    block = _lines(reply)
    if reply.status == 204:
        # RFC 9110 section 8.6: a 204 has no Content-Length.
        headers = [tuple(line.split(b": ", 1)) for line in block.split(b"\r\n")[:-1]]
        await send({"type": "http.response.start", "status": 204, "headers": headers})
        await send({"type": "http.response.body", "body": b""})
        return
    await answer_at_once(scope, send, reply.status, block, reply.body)


def _lines(reply: Reply) -> bytes:
    """The header lines of a reply, each ended by CR LF."""
    if not reply.headers and reply.content_type == JSON_TYPE:
        return _JSON_LINE
    headers = [(name.lower(), value) for name, value in reply.headers.items()]
    if reply.content_type:
        headers.append(("content-type", reply.content_type))
    return b"".join([b"%b: %b\r\n" % (name.encode(), value.encode("latin-1")) for name, value in headers])
