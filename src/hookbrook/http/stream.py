"""The stream doors: `GET /v1/channels/{channel}` for whoever accepts an event stream, and `GET /v1/stream`.

The door decides who may listen to what and from where; then a `Reader` does the rest through the `Sink` port. Under our
own server the socket is taken over and the request's task ends; under any other the task lives as long as the stream.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from hookbrook.core.ids import new_id
from hookbrook.core.sse import HEARTBEAT
from hookbrook.errors import Invalid
from hookbrook.http.auth import CredentialExpired, Principal
from hookbrook.http.busy import STREAM_HEADERS
from hookbrook.http.exchange import HAND_OVER, Taken
from hookbrook.http.gateway import Gateway
from hookbrook.http.history import time_of, wanted_events
from hookbrook.http.problems import Receive, Scope, Send
from hookbrook.http.query import QueryString
from hookbrook.http.sinks import STALLED_S, AsgiSink, TransportSink
from hookbrook.http.turnstile import Turnstile
from hookbrook.store.base import Query, Standing
from hookbrook.stream import position
from hookbrook.stream.connection import Connection
from hookbrook.stream.hub import Hub
from hookbrook.stream.subscription import Format, Subscription, sees_all

#: What may be asked for by name; the provider's request has a door of its own.
FORMATS = tuple(kind for kind in Format if kind is not Format.REQUEST)


class Stream:
    def __init__(self, gateway: Gateway, hub: Hub, *, stalled_s: float = STALLED_S) -> None:
        self._gateway = gateway
        self._hub = hub
        self._stalled_s = stalled_s
        self._turnstile = Turnstile()

    async def __call__(self, scope: Scope, receive: Receive, send: Send, channel: str | None = None) -> None:
        await self._turnstile.enter()
        try:
            principal = self._gateway.auth.authenticate(scope)
        except CredentialExpired:
            # Whoever can send a header can read a status. An EventSource can do neither, and gives up after a 401.
            if scope["method"] == "HEAD" or any(name == b"authorization" for name, _ in scope["headers"]):
                raise
            await self._gateway.admission.send_expired(send)
            return
        query = QueryString(scope["query_string"])
        wanted = wanted_events(principal, query, channel, limit=self._gateway.settings.max_stream_channels)
        if not wanted.channels:
            raise Invalid.of("channel", "name at least one channel or pattern: ?channel=orders.*")
        await self.open(scope, receive, send, principal, _subscription(principal, query, wanted), query)

    async def open(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        principal: Principal,
        subscription: Subscription,
        query: QueryString,
    ) -> None:
        """Answer with the stream, from where the request says; whoever calls has judged what may be read."""
        admission = self._gateway.admission
        address = self._gateway.proxies.client_of(scope)
        is_head = scope["method"] == "HEAD"
        if not is_head and (busy := admission.connect(address)) is not None:
            await admission.send_away(send, busy)
            return
        start = await self._start(scope, query, subscription.query)
        # Fixed before the head is sent: whoever has read that may publish, and some servers pass it on earlier than
        # they return from `send`. And before it is asked what is closed, so that nobody closes unseen in between.
        after = self._hub.feed.newest if start.after is None else start.after
        standing = await self._standing(subscription, start, after)
        if _is_over(subscription, standing, after) and not start.reset:
            # An EventSource that is answered so does not come back (WHATWG HTML section 9.2.2).
            await send({"type": "http.response.start", "status": 204, "headers": [(b"cache-control", b"no-store")]})
            await send({"type": "http.response.body", "body": b""})
            return
        connection = self._connection(scope, principal, subscription.tenant, address)
        if not is_head and (busy := admission.open(connection)) is not None:
            await admission.send_away(send, busy)
            return
        await send({"type": "http.response.start", "status": 200, "headers": STREAM_HEADERS})
        if is_head:
            await send({"type": "http.response.body", "body": b""})
            return
        open_reader = partial(
            self._hub.open,
            subscription,
            after=after,
            expires=principal.expires,
            # A first byte makes proxies pass the head on at once.
            greeting=start.reset or HEARTBEAT,
            connection=connection,
            standing=standing,
        )
        if (taken := _take_over(scope)) is not None:
            sink = TransportSink(taken, stalled_s=self._stalled_s)
            sink.start(open_reader(sink=sink))
            admission.tell_of_tabs(connection)
        else:
            asgi_sink = AsgiSink(receive, send, stalled_s=self._stalled_s)
            reader = open_reader(sink=asgi_sink)
            admission.tell_of_tabs(connection)
            await asgi_sink.run(reader)

    def _connection(self, scope: Scope, principal: Principal, tenant: str, address: str) -> Connection:
        now = self._gateway.clock()
        return Connection(
            id=new_id("con", now, self._gateway.random(16)),
            tenant=tenant,
            kind=principal.kind,
            subject=principal.subject,
            rests_on=principal.rests_on,
            address=address,
            since=now,
            browser=browser_of(scope, principal, address),
        )

    async def _standing(self, subscription: Subscription, start: position.Start, after: int) -> Standing:
        """What is known of the channels; only of those that may end is there more to know than where to start."""
        store = self._gateway.store
        if not subscription.is_exact or not (await store.bounds()).closings:
            return start.standing
        found = await store.standing(subscription.query, after=after)
        # What was lost meanwhile was not told with the start.
        return replace(start.standing, closed=found.closed)

    async def _start(self, scope: Scope, query: QueryString, wanted: Query) -> position.Start:
        """The header wins over the query, since a page's URL repeats its query at every reconnect."""
        given = [name for name in ("after", "since", "last") if query.one(name) is not None]
        if len(given) > 1:
            raise Invalid.of(given[1], f"cannot be combined with {given[0]}")
        header = next((value for name, value in scope["headers"] if name == b"last-event-id"), b"")
        if header:
            return await position.resume(self._gateway.store, wanted, header.decode("latin-1"), lenient=True)
        # Polyfills that cannot set the header say it in the query.
        spelled = query.one("lastEventId") or query.one("last-event-id") or query.one("last_event_id")
        if spelled:
            return await position.resume(self._gateway.store, wanted, spelled, lenient=True)
        if (after := query.one("after")) is not None:
            return await position.resume(self._gateway.store, wanted, after, lenient=False)
        if (since := query.one("since")) is not None:
            return await position.since(self._gateway.store, wanted, time_of(since, self._gateway.clock()))
        if query.one("last") is not None:
            count = query.number("last", default=0, low=0, high=position.MAX_LAST)
            return await position.last(self._gateway.store, wanted, count)
        return position.Start()


def _is_over(subscription: Subscription, standing: Standing, after: int) -> bool:
    """Whether all channels are closed, and the reader is at or past the last close."""
    closed = standing.closed
    return len(closed) == len(subscription.channels) and after >= max(closed.values())


def wants_control(query: QueryString) -> bool:
    """Whether the routine control events are asked for too."""
    return query.number("control", default=0, low=0, high=1) == 1


def browser_of(scope: Scope, principal: Principal, address: str) -> int | None:
    """The same number for all streams that one browser opens to one origin of ours; None for programs.

    Only browsers send `Sec-Fetch-Mode` (Fetch Metadata, section 2). Two people with the same browser behind one
    address, and without a subject, are taken for one.
    """
    headers = dict(scope["headers"])
    if b"sec-fetch-mode" not in headers:
        return None
    return hash((headers.get(b"host"), headers.get(b"user-agent"), address, principal.kind, principal.subject))


def _take_over(scope: Scope) -> Taken | None:
    """The socket, if the server offers it."""
    hand_over: Callable[[], Taken | None] | None = (scope.get("extensions") or {}).get(HAND_OVER)
    return None if hand_over is None else hand_over()


def _subscription(principal: Principal, query: QueryString, wanted: Query) -> Subscription:
    name = query.one("format") or Format.DATA.value
    if name not in FORMATS:
        raise Invalid.of("format", f"must be one of {', '.join(FORMATS)}")
    return Subscription(
        tenant=principal.tenant,
        channels=wanted.channels,
        types=wanted.types,
        format=Format(name),
        control=wants_control(query),
        merge=query.number("merge", default=0, low=0, high=1) == 1,
        # Kept for as long as the stream lasts, and asked only where an event's channels are named.
        may_see=sees_all if name == Format.DATA else principal.may_subscribe,
    )
