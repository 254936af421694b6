"""The stream doors: `GET /v1/channels/{channel}` for whoever accepts an event stream, and `GET /v1/stream`.

The door decides who may listen to what and from where; then a `Reader` does the rest through the `Sink` port. Under our
own server the socket is taken over and the request's task ends; under any other the task lives as long as the stream.

Most streams begin with what comes next, or with a cursor behind which nothing was lost. Then nothing has to be awaited
before they are open, and under our own server such a one has no task at all (`quick`).
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial

from hookbrook.core.ids import ID_BYTES, new_id
from hookbrook.core.sse import HEARTBEAT
from hookbrook.errors import Invalid
from hookbrook.http.asked import NOW, Asked, Asking, Beginning
from hookbrook.http.auth import CredentialExpired, Principal
from hookbrook.http.busy import STREAM_HEADERS
from hookbrook.http.exchange import HAND_OVER, Taken
from hookbrook.http.gateway import Gateway
from hookbrook.http.history import time_of
from hookbrook.http.problems import ClientGone, Receive, Scope, Send
from hookbrook.http.sinks import STALLED_S, AsgiSink, TransportSink
from hookbrook.http.turnstile import Turnstile
from hookbrook.store.base import Query, Standing
from hookbrook.stream import position
from hookbrook.stream.connection import Connection
from hookbrook.stream.hub import Hub
from hookbrook.stream.reader import Reader
from hookbrook.stream.subscription import Format, Subscription


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What a stream's request asks for, and by what right."""

    principal: Principal
    asked: Asked
    #: The cursor behind which it begins.
    seen: str | None
    #: Whose address it was judged for.
    of: str | None

    def holds_for(self, client: tuple[str, int] | None) -> bool:
        """Whether the same request from there is judged alike. A credential may have ended meanwhile."""
        kind = self.principal.kind
        return kind == "anonymous" or (kind == "dev" and client is not None and client[0] == self.of)


class Stream:
    def __init__(self, gateway: Gateway, hub: Hub, *, stalled_s: float = STALLED_S) -> None:
        self._gateway = gateway
        self._hub = hub
        self._stalled_s = stalled_s
        self._asking = Asking(gateway.settings.max_stream_channels)
        #: Whoever calls `quick` goes through it as well.
        self.turnstile = Turnstile()

    async def __call__(self, scope: Scope, receive: Receive, send: Send, channel: str | None = None) -> None:
        await self.turnstile.enter()
        try:
            principal = self._gateway.auth.authenticate(scope)
        except CredentialExpired:
            # Whoever can send a header can read a status. An EventSource can do neither, and gives up after a 401.
            if scope["method"] == "HEAD" or any(name == b"authorization" for name, _ in scope["headers"]):
                raise
            await self._gateway.admission.send_expired(send)
            return
        asked = self._asked(principal, channel, scope)
        await self.open(scope, receive, send, principal, asked.subscription, asked.beginning)

    def judge(self, scope: Scope, channel: str | None) -> Judged:
        """What a request asks for, and by what right. Raises what refuses it."""
        principal = self._gateway.auth.authenticate(scope)
        asked = self._asked(principal, channel, scope)
        client = scope["client"]
        return Judged(
            principal=principal,
            asked=asked,
            seen=_last_event_id(scope) or asked.beginning.seen or asked.beginning.after,
            of=None if client is None else client[0],
        )

    def greeting(self) -> bytes:
        """What the body of a stream begins with, if nothing was lost before."""
        return HEARTBEAT + self._hub.retry()

    def quick(self, scope: Scope, judged: Judged) -> Callable[[Taken], None] | None:
        """What opens the stream on the request's socket, once the greeting was written with the head of the answer;
        None if that must be asked in the ordinary way.

        May raise what that raises, and leaves everything as it was but for the count of streams that were asked for.
        """
        gateway, principal, seen = self._gateway, judged.principal, judged.seen
        subscription, bounds = judged.asked.subscription, gateway.store.known_bounds()
        after = position.intact(bounds, seen) if seen else None
        if (after is None and (seen or judged.asked.beginning is not NOW)) or (
            bounds.closings and subscription.is_exact
        ):
            # What was lost or closed, the store knows.
            return None
        address = gateway.proxies.client_of(scope)
        connection = self._connection(scope, principal, subscription.tenant, address)
        if gateway.admission.open(connection) is not None or gateway.admission.connect(address) is not None:
            return None
        open_reader = partial(
            self._hub.open,
            subscription,
            after=after,
            expires=principal.expires,
            connection=connection,
        )
        return partial(self._begin, open_reader, connection)

    def _begin(self, open_reader: Callable[..., Reader], connection: Connection, taken: Taken) -> None:
        try:
            sink = TransportSink(taken, stalled_s=self._stalled_s)
            taken.follow(sink)
            sink.start(open_reader(sink=sink))
            self._gateway.admission.tell_of_tabs(connection)
        except Exception:
            # The head was sent, and nobody else has the connection.
            taken.transport.abort()
            raise

    def _asked(self, principal: Principal, channel: str | None, scope: Scope) -> Asked:
        """Raises what refuses it, if the principal may not have it too."""
        asked = self._asking(principal.tenant, channel, scope["query_string"])
        subscription = asked.subscription
        # No channel at all asks for everything that is not reserved.
        principal.require_subscribe(subscription.channels or ("*",))
        if not subscription.channels:
            raise Invalid.of("channel", "name at least one channel or pattern: ?channel=orders.*")
        if subscription.format is Format.DATA:
            return asked
        # Kept for as long as the stream lasts, and asked only where an event's channels are named.
        return replace(asked, subscription=replace(subscription, may_see=principal.may_subscribe))

    async def open(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        principal: Principal,
        subscription: Subscription,
        beginning: Beginning,
    ) -> None:
        """Answer with the stream, from where the request says; whoever calls has judged what may be read."""
        admission = self._gateway.admission
        address = self._gateway.proxies.client_of(scope)
        is_head = scope["method"] == "HEAD"
        if not is_head and (busy := admission.connect(address)) is not None:
            await admission.send_away(send, busy)
            return
        start = await _unless_gone(receive, self._start(scope, beginning, subscription.query), beginning)
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
            greeting=(start.reset or HEARTBEAT) + self._hub.retry(),
            connection=connection,
            standing=standing,
        )
        if (taken := _take_over(scope)) is not None:
            self._begin(open_reader, connection, taken)
        else:
            asgi_sink = AsgiSink(receive, send, stalled_s=self._stalled_s)
            reader = open_reader(sink=asgi_sink)
            admission.tell_of_tabs(connection)
            await asgi_sink.run(reader)

    def _connection(self, scope: Scope, principal: Principal, tenant: str, address: str) -> Connection:
        now = self._gateway.clock()
        return Connection(
            id=new_id("con", now, self._gateway.random(ID_BYTES)),
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

    async def _start(self, scope: Scope, beginning: Beginning, wanted: Query) -> position.Start:
        """The header wins over the query, since a page's URL repeats its query at every reconnect."""
        store = self._gateway.store
        seen = _last_event_id(scope) or beginning.seen
        if seen:
            return await position.resume(store, wanted, seen, lenient=True)
        if beginning.after is not None:
            return await position.resume(store, wanted, beginning.after, lenient=False)
        if beginning.since is not None:
            return await position.since(store, wanted, time_of(beginning.since, self._gateway.clock()))
        if beginning.last is not None:
            return await position.last(store, wanted, beginning.last)
        return position.Start()


async def _unless_gone(receive: Receive, starting: Awaitable[position.Start], beginning: Beginning) -> position.Start:
    """Where to start; raises `ClientGone` if that must be looked for and the server says that the client has left.

    Ours says so when the connection is reset: one that only stops sending may still read.
    """
    if beginning.last is None:
        return await starting
    looking, leaving = asyncio.ensure_future(starting), asyncio.ensure_future(_departure(receive))
    try:
        await asyncio.wait((looking, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not looking.done():
            raise ClientGone("the client left before its last events were found")
        return looking.result()
    finally:
        for task in (looking, leaving):
            task.cancel()


async def _departure(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _last_event_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"last-event-id":
            text: str = value.decode("latin-1")
            return text
    return ""


def _is_over(subscription: Subscription, standing: Standing, after: int) -> bool:
    """Whether all channels are closed, and the reader is at or past the last close."""
    closed = standing.closed
    return len(closed) == len(subscription.channels) and after >= max(closed.values())


def browser_of(scope: Scope, principal: Principal, address: str) -> int | None:
    """The same number for all streams that one browser opens to one origin of ours; None for programs.

    Only browsers send `Sec-Fetch-Mode` (Fetch Metadata, section 2). Two people with the same browser behind one
    address, and without a subject, are taken for one.
    """
    if all(name != b"sec-fetch-mode" for name, _ in scope["headers"]):
        return None
    headers = dict(scope["headers"])
    return hash((headers.get(b"host"), headers.get(b"user-agent"), address, principal.kind, principal.subject))


def _take_over(scope: Scope) -> Taken | None:
    """The socket, if the server offers it."""
    hand_over: Callable[[], Taken | None] | None = (scope.get("extensions") or {}).get(HAND_OVER)
    return None if hand_over is None else hand_over()
