"""The history doors: `GET /v1/events`, `GET /v1/events/{id}` and `GET /v1/channels/{channel}` as JSON or NDJSON.

Pages go forwards in log order. `after` is a cursor to start from, and `page` the `next` of the page before; both name a
position in the log, so a page stays right while events are appended.
"""

from dataclasses import replace

import msgspec

from hookbrook.core.channel import MAX_PATTERNS, check_patterns
from hookbrook.core.cursor import Cursor
from hookbrook.core.delivery import UNDELIVERED, State
from hookbrook.core.event import Event, parse_time, to_json
from hookbrook.core.key import Scope as KeyScope
from hookbrook.core.units import parse_duration
from hookbrook.errors import Gone, Invalid, NotFound
from hookbrook.http.auth import Principal
from hookbrook.http.gateway import Gateway
from hookbrook.http.problems import Scope, Send
from hookbrook.http.query import QueryString
from hookbrook.store.base import Bounds, Lost, Query

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
#: Pages of the store that one request may look at before it answers with what it has: a pattern that matches little
#: must not occupy a reading thread for minutes. The answer's `next` goes on where it stopped.
MAX_STORE_PAGES = 50
#: Bytes of the data on one page. A webhook may have 25 MB, and the answer is built in memory.
MAX_PAGE_BYTES = 4 * 1024 * 1024
NDJSON = "application/x-ndjson"
#: What `deliveries=` may say, and what it means.
_DELIVERIES = {"none": (), "undelivered": UNDELIVERED, **{str(state): (state,) for state in State}}


class History:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._store = gateway.store

    async def event(self, scope: Scope, send: Send, event_id: str) -> None:
        """`GET /v1/events/{id}`: one event, with the provider's request if it was received."""
        principal = self._gateway.auth.authenticate(scope)
        event = await self._store.event(principal.tenant, event_id)
        if event is None or not any(principal.may_subscribe(channel) for channel in event.channels):
            raise NotFound(f"There is no event {event_id}, or it is no longer kept.")
        # A token is given to somebody's browser, which has no business with a provider's signatures and addresses.
        is_ours = principal.kind in ("key", "dev")
        body = to_json(event, channels=_visible(event, principal), request=is_ours)
        await _send(send, scope, body, b"application/json")

    async def page(self, scope: Scope, send: Send, channel: str | None = None) -> None:
        """A page of events, or all of them as NDJSON if that is accepted."""
        principal = self._gateway.auth.authenticate(scope)
        query = QueryString(scope["query_string"])
        wanted = _narrowed(wanted_events(principal, query, channel), query.one("deliveries"), principal)
        after = await self._start(query)
        if NDJSON in accept(scope):
            await self._export(scope, send, principal, wanted, after)
            return
        limit = query.number("limit", default=DEFAULT_LIMIT, low=1, high=MAX_LIMIT)
        is_at_cursor = query.one("page") is not None or query.one("after") is not None
        events, scanned_to, tail = await self._collect(wanted, after, limit, may_miss=not is_at_cursor)
        following = None
        if scanned_to < tail:
            following = str((await self._store.bounds()).epochs.cursor(scanned_to))
        data = b",".join(to_json(event, channels=_visible(event, principal)) for event in events)
        body = b'{"data":[%b],"next":%b}' % (data, msgspec.json.encode(following))
        await _send(send, scope, body, b"application/json", vary=True)

    async def _collect(self, query: Query, after: int, limit: int, *, may_miss: bool) -> tuple[list[Event], int, int]:
        """Raises `Gone` if what the channels have lost lies behind a cursor, unless the reader knows of none."""
        events: list[Event] = []
        page = await self._store.read(query, after=after, limit=limit)
        if page.standing.lost is not None and not may_miss:
            raise await self._gone(page.standing.lost)
        size = 0
        for _ in range(MAX_STORE_PAGES):
            events += page.events
            size += sum(len(event.data) for event in page.events)
            if len(events) >= limit or size >= MAX_PAGE_BYTES or page.scanned_to >= page.tail:
                break
            page = await self._store.read(query, after=page.scanned_to, limit=limit - len(events))
        return events, page.scanned_to, page.tail

    async def _gone(self, lost: Lost) -> Gone:
        bounds = await self._store.bounds()
        ends = {"oldest": str(bounds.epochs.cursor(lost.seq)), "newest": str(bounds.epochs.cursor(bounds.tail))}
        return Gone(
            "Events after this cursor are no longer kept on these channels.", extra={"reason": lost.why, **ends}
        )

    async def _export(self, scope: Scope, send: Send, principal: Principal, query: Query, after: int) -> None:
        """Everything up to the tail of now, one event per line, read page by page as the client takes it."""
        end = (await self._store.bounds()).tail
        headers = [(b"content-type", NDJSON.encode()), (b"cache-control", b"no-store"), (b"vary", b"accept")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        while after < end and scope["method"] != "HEAD":
            page = await self._store.read(query, after=after, limit=MAX_LIMIT)
            if page.oldest > after + 1:
                # Trimmed while the client took its time. A connection that is cut says so; a gap would say nothing.
                raise Gone("The log was trimmed past the place that this export had reached.")
            lines = [to_json(event, channels=_visible(event, principal)) + b"\n" for event in page.events]
            if lines:
                await send({"type": "http.response.body", "body": b"".join(lines), "more_body": True})
            after = max(page.scanned_to, after + 1)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _start(self, query: QueryString) -> int:
        text, since = query.one("page") or query.one("after"), query.one("since")
        bounds = await self._store.bounds()
        if text is not None:
            return position_of(text, bounds, "page" if query.one("page") else "after")
        if since is not None:
            return await self._store.seq_at(time_of(since, self._gateway.clock()))
        return bounds.oldest - 1


def position_of(text: str, bounds: Bounds, field: str) -> int:
    """The seq of a cursor of this log; raises `Invalid`, or `Gone` with the cursors between which it can be read."""
    cursor = Cursor.parse(text, field)
    ends = {
        "oldest": str(bounds.epochs.cursor(bounds.oldest - 1)),
        "newest": str(bounds.epochs.cursor(bounds.tail)),
    }
    if not bounds.epochs.contains(cursor, bounds.tail):
        raise Gone(f"{field}: this cursor belongs to another log.", extra={"reason": "foreign", **ends})
    if cursor.seq < bounds.oldest - 1:
        raise Gone(f"{field}: the events after this cursor are no longer kept.", extra={"reason": "trimmed", **ends})
    return cursor.seq


def time_of(text: str, now: int) -> int:
    """`since`: an RFC 3339 time, or how long ago (`2h`), in microseconds since the epoch. Raises `Invalid`."""
    try:
        return now - round(parse_duration(text) * 1_000_000)
    except (ValueError, OverflowError):
        pass
    try:
        return parse_time(text, "since")
    except Invalid:
        raise Invalid.of("since", "must be a duration such as 2h, or a time such as 2026-11-23T16:20:00Z") from None


def wanted_events(principal: Principal, query: QueryString, channel: str | None, *, limit: int = MAX_PATTERNS) -> Query:
    """What a reader asks for, checked against what it may read. The path's channel comes before `?channel=`."""
    named = query.all("channel") if channel is None else [channel]
    channels = check_patterns("channel", named, limit=limit)
    types = check_patterns("type", query.all("type"))
    # No channel at all asks for everything that is not reserved.
    principal.require_subscribe(channels or ("*",))
    return Query(tenant=principal.tenant, channels=channels, types=types)


def _narrowed(wanted: Query, deliveries: str | None, principal: Principal) -> Query:
    """`?deliveries=`: only what is owed to nobody, or what stands like this with somebody."""
    if deliveries is None:
        return wanted
    principal.require(KeyScope.ADMIN)
    states = _DELIVERIES.get(deliveries)
    if states is None:
        raise Invalid.of("deliveries", f"must be one of {', '.join(_DELIVERIES)}")
    return replace(wanted, owed=states)


def accept(scope: Scope) -> str:
    return ",".join(value.decode("latin-1").lower() for name, value in scope["headers"] if name == b"accept")


def _visible(event: Event, principal: Principal) -> tuple[str, ...]:
    if len(event.channels) == 1:
        return event.channels
    return tuple(channel for channel in event.channels if principal.may_subscribe(channel))


async def _send(send: Send, scope: Scope, body: bytes, content_type: bytes, *, vary: bool = False) -> None:
    headers = [
        (b"content-type", content_type),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
    ]
    if vary:
        headers.append((b"vary", b"accept"))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
