"""The publish doors: `POST /v1/channels/{channel}` with a raw body, `POST /v1/events` with events.

Plain ASGI, decoded with msgspec: this is the hottest write path. Nothing is answered before the commit.
"""

import asyncio
import re
from collections.abc import Awaitable, Iterator, Sequence
from urllib.parse import quote

import msgspec

from hookbrook.core.channel import DEFAULT_TYPE
from hookbrook.core.cloudevent import BATCH_CONTENT_TYPE
from hookbrook.core.cloudevent import CONTENT_TYPE as CLOUDEVENT_TYPE
from hookbrook.core.event import JSON_TYPE, Appended, NewEvent
from hookbrook.core.ids import ID_BYTES, MAX_ID_LENGTH, check_id, new_id
from hookbrook.core.key import Scope as KeyScope
from hookbrook.core.publication import Press, parse_array, parse_cloud_event, parse_cloud_events, parse_one
from hookbrook.errors import BadRequest, BatchConflict, FieldError, Invalid, Problem, TooLarge, UnsupportedMedia
from hookbrook.http.answer import answer
from hookbrook.http.auth import Principal
from hookbrook.http.body import read_body
from hookbrook.http.gateway import Gateway
from hookbrook.http.problems import ClientGone, Receive, Scope, Send
from hookbrook.http.query import QueryString

CHANNELS = "/v1/channels/"
EVENTS = "/v1/events"

#: Escaped text takes up to 6 bytes for 1 (Cyrillic from a program that escapes all but ASCII takes 3), base64 4 for 3;
#: the envelope of an event has its own names and ids.
ENCODED_FACTOR = 6
ENVELOPE_BYTES = 8 * 1024
#: An array is decoded at once and therefore bounded as a whole.
MAX_ARRAY_BYTES = 32 * 1024 * 1024
#: Lines of one piece of NDJSON that go into one append; more are appended one after another.
MAX_LINES_PER_APPEND = 1000

#: No label, and the one that `curl -d` adds, say nothing about what was sent.
_JSON_TYPES = frozenset({"", "application/json", "text/json", "application/x-www-form-urlencoded"})
NDJSON_TYPES = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})
_JSON_LINES = b"content-type: application/json\r\ncache-control: no-store\r\n"
_encode = msgspec.json.Encoder().encode


#: What the address of a raw publish may say. Anything else is refused: a misspelt `tpye=` would publish another event
#: than was meant.
CHANNEL_PARAMETERS = frozenset({"type", "tenant", "token", "close", "merge"})
#: In a scope: its event was counted by `Publish.single`, and goes the ordinary way all the same.
_COUNTED = "hookbrook.counted"
_PLAIN_ID = re.compile(r"[A-Za-z0-9_-]+\Z")


class Reply(msgspec.Struct, gc=False):
    """What became of one event."""

    id: str
    cursor: str
    duplicate: bool


class Receipt(msgspec.Struct):
    """What became of an NDJSON upload."""

    accepted: int
    cursor: str | None
    duplicates: int


class Publish:
    """Both publish doors."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._appender = gateway.appender
        self._settings = gateway.settings
        self._limited = gateway.admission.limits_publishing
        #: What the JSON of one event may take, and what may be read at once.
        self._line_bytes = ENCODED_FACTOR * self._settings.max_event_bytes + ENVELOPE_BYTES
        self._whole_bytes = max(MAX_ARRAY_BYTES, self._line_bytes)

    def single(self, scope: Scope, body: bytes) -> NewEvent | None:
        """The event of a request that publishes one and has arrived whole; None for any other request.

        Raises what the doors raise.
        """
        path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        if path.startswith(CHANNELS) and len(path) > len(CHANNELS):
            event = self._raw(self._gateway.auth.authenticate(scope), scope, path[len(CHANNELS) :], body)
        elif path != EVENTS or _label(scope) not in _JSON_TYPES or _is_array(body) or len(body) > self._whole_bytes:
            return None
        else:
            event = self._one(self._gateway.auth.authenticate(scope), scope, body)
        if self._limited:
            scope[_COUNTED] = True
        return event

    async def channel(self, scope: Scope, receive: Receive, send: Send, channel: str) -> None:
        """`POST /v1/channels/{channel}`: the body, byte for byte, becomes the data of one event."""
        principal = self._gateway.auth.authenticate(scope)
        principal.require_publish((channel,))
        limit = self._settings.max_event_bytes
        body = await read_body(receive, scope["headers"], limit=limit, limit_name="max_event_bytes")
        await self._append_one(self._raw(principal, scope, channel, body), scope, send)

    def _raw(self, principal: Principal, scope: Scope, channel: str, body: bytes) -> NewEvent:
        principal.require_publish((channel,))
        query = QueryString(scope["query_string"])
        query.check_names(CHANNEL_PARAMETERS)
        headers = scope["headers"]
        event = self._press(principal).raw(
            body,
            _header(headers, b"content-type"),
            channel,
            query.one("type") or DEFAULT_TYPE,
            _key(headers),
            close=query.number("close", default=0, low=0, high=1) == 1,
            merge=query.one("merge"),
        )
        if self._limited:
            self._count(principal, scope, 1)
        return event

    def events(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """`POST /v1/events`: one event, an array, NDJSON or a CloudEvent, told apart by the content type."""
        principal = self._gateway.auth.authenticate(scope)
        if not principal.publish:
            principal.require(KeyScope.PUBLISH)
        label = _label(scope)
        if label in NDJSON_TYPES:
            return self._lines(principal, scope, receive, send)
        if label in (CLOUDEVENT_TYPE, BATCH_CONTENT_TYPE):
            return self._cloud_events(principal, scope, receive, send, batch=label == BATCH_CONTENT_TYPE)
        if label in _JSON_TYPES:
            return self._json(principal, scope, receive, send)
        raise UnsupportedMedia(
            f"{label} is not one of application/json, application/x-ndjson, {CLOUDEVENT_TYPE}. "
            "To publish a body of any type as it is, POST it to /v1/channels/{channel}."
        )

    async def _json(self, principal: Principal, scope: Scope, receive: Receive, send: Send) -> None:
        body = await self._whole(scope, receive)
        if not _is_array(body):
            await self._append_one(self._one(principal, scope, body), scope, send)
            return
        key = _key(scope["headers"])
        press = self._press(principal)
        items = parse_array(body)
        self._check_count(len(items))
        if self._limited:
            self._count(principal, scope, len(items))
        events = [press.publication(item, f"[{n}].", _nth(key, n)) for n, item in enumerate(items)]
        await self._append_all(principal, events, scope, send)

    def _one(self, principal: Principal, scope: Scope, body: bytes) -> NewEvent:
        event = self._press(principal).publication(parse_one(body), id=_key(scope["headers"]))
        principal.require_publish(event.channels)
        if self._limited:
            self._count(principal, scope, 1)
        return event

    async def _cloud_events(
        self, principal: Principal, scope: Scope, receive: Receive, send: Send, *, batch: bool
    ) -> None:
        channel = QueryString(scope["query_string"]).one("channel")
        body = await self._whole(scope, receive)
        press = self._press(principal)
        if not batch:
            event = press.cloud_event(parse_cloud_event(body), channel)
            principal.require_publish(event.channels)
            if self._limited:
                self._count(principal, scope, 1)
            await self._append_one(event, scope, send)
            return
        items = parse_cloud_events(body)
        self._check_count(len(items))
        if self._limited:
            self._count(principal, scope, len(items))
        events = [press.cloud_event(item, channel, f"[{n}].") for n, item in enumerate(items)]
        await self._append_all(principal, events, scope, send)

    def _whole(self, scope: Scope, receive: Receive) -> Awaitable[bytes]:
        return read_body(receive, scope["headers"], limit=self._whole_bytes, limit_name="of events in one request")

    async def _append_one(self, event: NewEvent, scope: Scope, send: Send) -> None:
        (result,) = await self._appender.append((event,))
        await answer(scope, send, *self.receipt(scope, result))

    def receipt(self, scope: Scope, result: Appended) -> tuple[int, bytes, bytes]:
        """Status, header lines and body of the answer to whoever published the event."""
        reply = _encode(_reply(result))
        if result.duplicate:
            return 200, _JSON_LINES, reply
        return 201, b"%blocation: %b\r\n" % (_JSON_LINES, _location(scope, result.id)), reply

    async def _append_all(self, principal: Principal, events: Sequence[NewEvent], scope: Scope, send: Send) -> None:
        for event in events:
            principal.require_publish(event.channels)
        try:
            results = await self._appender.append(events) if events else []
        except BatchConflict as exc:
            exc.errors = [FieldError(f"[{exc.index}].{exc.field}", exc.message)]
            exc.extra = {**exc.extra, "index": exc.index}
            raise
        reply = _encode([_reply(result) for result in results])
        status = 200 if all(result.duplicate for result in results) else 201
        await answer(scope, send, status, _JSON_LINES, reply)

    async def _lines(self, principal: Principal, scope: Scope, receive: Receive, send: Send) -> None:
        """Each line is appended and fanned out as it arrives; the lines before a bad one stand."""
        address = self._gateway.proxies.client_of(scope)
        upload = Upload(self._gateway, principal, _key(scope["headers"]), address)
        lines = Lines()
        more = True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                raise ClientGone("the client went away in the middle of its lines")
            more = message.get("more_body", False)
            whole = lines.feed(message.get("body", b""))
            # The last line need not end with a line end; a commit of its own would cost as much as all before it.
            await upload.take(whole if more else whole + lines.end())
            if lines.unfinished > self._line_bytes:
                raise upload.too_long(self._line_bytes)
        reply = _encode(upload.receipt)
        await answer(scope, send, 200, _JSON_LINES, reply)

    def _count(self, principal: Principal, scope: Scope, count: int) -> None:
        """Raises `TooMany` if the party publishes faster than it may. What `single` counted is not counted again."""
        if scope.pop(_COUNTED, False):
            return
        self._gateway.admission.publish(principal, self._gateway.proxies.client_of(scope), count)

    def _check_count(self, count: int) -> None:
        limit = self._settings.max_batch_events
        if count > limit:
            raise TooLarge(
                f"An array may have {limit} events (max_batch_events), not {count}. NDJSON has no such limit.",
                extra={"limit": limit},
            )

    def _press(self, principal: Principal) -> Press:
        return press_for(self._gateway, principal)


class Lines:
    """Cuts a body into lines as it arrives. What is unfinished is not looked at again with every piece."""

    def __init__(self) -> None:
        self._rest = bytearray()

    @property
    def unfinished(self) -> int:
        """Bytes of the line that has not ended yet."""
        return len(self._rest)

    def feed(self, piece: bytes) -> list[bytes]:
        """The lines that this piece completes."""
        *lines, rest = piece.split(b"\n")
        if lines:
            self._rest += lines[0]
            lines[0] = bytes(self._rest)
            self._rest.clear()
        self._rest += rest
        return lines

    def end(self) -> list[bytes]:
        """The last line, if it did not end with a line end."""
        rest = [bytes(self._rest)] if self._rest else []
        self._rest.clear()
        return rest


class Upload:
    """One NDJSON request: counts what was appended, and says so when a line is refused."""

    def __init__(self, gateway: Gateway, principal: Principal, key: str | None, address: str) -> None:
        self._gateway = gateway
        self._principal = principal
        self._key = key
        self._address = address
        self._line = 0
        self.receipt = Receipt(accepted=0, cursor=None, duplicates=0)

    async def take(self, lines: Sequence[bytes]) -> None:
        """Append the lines in order. Raises a `Problem` that names the line and what was accepted before it."""
        for piece in _pieces(lines, MAX_LINES_PER_APPEND):
            await self._take_piece(piece)

    async def _take_piece(self, lines: Sequence[bytes]) -> None:
        self._check_holds()
        press = press_for(self._gateway, self._principal)
        events: list[NewEvent] = []
        numbers: list[int] = []
        refusal: Problem | None = None
        for line in lines:
            self._line += 1
            if not line.strip():
                continue
            try:
                events.append(self._read(press, line))
            except Problem as problem:
                refusal = problem
                break
            numbers.append(self._line)
        await self._wait_for_turn(len(events))
        await self._append(events, numbers)
        if refusal is not None:
            raise self.told(refusal) from None

    def _check_holds(self) -> None:
        """An upload may last for hours, and the key or token that it began with may end before."""
        try:
            self._gateway.auth.check_holds(self._principal)
        except Problem as problem:
            self._line += 1
            raise self.told(problem) from None

    async def _wait_for_turn(self, count: int) -> None:
        """An upload that is over its rate is read more slowly; refusing it would only make the client send it again."""
        while True:
            wait = self._gateway.admission.wait_to_publish(self._principal, self._address, count)
            if not wait:
                return
            await asyncio.sleep(wait)

    def _read(self, press: Press, line: bytes) -> NewEvent:
        event = press.publication(parse_one(line), id=_nth(self._key, self._line))
        self._principal.require_publish(event.channels)
        return event

    async def _append(self, events: Sequence[NewEvent], numbers: Sequence[int]) -> None:
        """All of them; or, if one of them conflicts with the log, those before it."""
        conflict: BatchConflict | None = None
        while events:
            try:
                results = await self._gateway.appender.append(events)
            except BatchConflict as exc:
                conflict, events = exc, events[: exc.index]
                continue
            except Problem as problem:
                self._line = numbers[0]
                raise self.told(problem) from None
            self.receipt.accepted += len(results)
            self.receipt.duplicates += sum(result.duplicate for result in results)
            self.receipt.cursor = results[-1].cursor
            break
        if conflict is not None:
            self._line = numbers[len(events)]
            raise self.told(conflict) from None

    def too_long(self, limit: int) -> Problem:
        """The refusal of the line that is arriving."""
        self._line += 1
        return self.told(TooLarge(f"A line may have {limit} bytes.", extra={"limit": limit}))

    def told(self, problem: Problem) -> Problem:
        """The problem with what a client needs to go on: the line, how many were accepted, and the last cursor."""
        if isinstance(problem, BadRequest):
            # The request could be read; one of its lines could not.
            problem = Invalid(problem.detail)
        problem.extra = {
            **problem.extra,
            "line": self._line,
            "accepted": self.receipt.accepted,
            "cursor": self.receipt.cursor,
        }
        return problem


def press_for(gateway: Gateway, principal: Principal) -> Press:
    now, random = gateway.clock(), gateway.random
    return Press(
        tenant=principal.tenant,
        now=now,
        fresh_id=lambda: new_id("evt", now, random(ID_BYTES)),
        max_event_bytes=gateway.settings.max_event_bytes,
        judge=gateway.schemas.judge if gateway.catalog.validated else None,
    )


def _pieces(lines: Sequence[bytes], size: int) -> Iterator[Sequence[bytes]]:
    for start in range(0, len(lines), size):
        yield lines[start : start + size]


def _reply(result: Appended) -> Reply:
    return Reply(id=result.id, cursor=result.cursor, duplicate=result.duplicate)


def _location(scope: Scope, event_id: str) -> bytes:
    """Where the event can be read: an id may hold what means something else in a path."""
    root = scope.get("root_path")
    # The ids that we make need no escaping, and finding that out costs ten times less than escaping.
    name = event_id if _PLAIN_ID.match(event_id) else quote(event_id, safe=":@")
    return f"{quote(root) if root else ''}/v1/events/{name}".encode()


def _is_array(body: bytes) -> bool:
    return not body.startswith(b"{") and body.lstrip(b" \t\r\n").startswith(b"[")


def _label(scope: Scope) -> str:
    """The media type alone (RFC 9110 section 8.3.1), in lower case; "" if none is said."""
    text = _header(scope["headers"], b"content-type")
    return text if text == JSON_TYPE else text.partition(";")[0].strip().lower()


def _header(headers: list[tuple[bytes, bytes]], name: bytes) -> str:
    for key, value in headers:
        if key == name:
            return value.decode("latin-1")
    return ""


def _key(headers: list[tuple[bytes, bytes]]) -> str | None:
    """`Idempotency-Key`, which serves as the id of an event that has none."""
    value = _header(headers, b"idempotency-key")
    if not value:
        return None
    # Room for the number that an array or NDJSON adds.
    if len(value) > MAX_ID_LENGTH - 16:
        raise Invalid.of("Idempotency-Key", f"may have at most {MAX_ID_LENGTH - 16} characters")
    return check_id("Idempotency-Key", value)


def _nth(key: str | None, number: int) -> str | None:
    return None if key is None else f"{key}.{number}"
