"""The stream doors: `GET /v1/channels/{channel}` for whoever accepts an event stream, and `GET /v1/stream`.

The door decides who may listen to what and from where; then a `Reader` does the rest through the `Sink` port. The sink
here works on any ASGI server: it collects what the reader writes and sends it from the request's own task.
"""

import asyncio
from collections.abc import Callable

from hookbrook.core.sse import HEARTBEAT
from hookbrook.errors import Invalid
from hookbrook.http.auth import Principal
from hookbrook.http.gateway import Gateway
from hookbrook.http.history import time_of, wanted_events
from hookbrook.http.problems import ClientGone, Receive, Scope, Send
from hookbrook.http.query import QueryString
from hookbrook.store.base import Query
from hookbrook.stream import position
from hookbrook.stream.hub import Hub
from hookbrook.stream.reader import Reader
from hookbrook.stream.subscription import Format, Subscription

#: Bytes that may wait for one client before its reader stops and goes on from the log later.
SINK_BYTES = 64 * 1024
#: A client that does not take `PIECE_BYTES` in so long is gone, or as good as.
STALLED_S = 60.0
#: What is sent at once. A frame may have many megabytes, and whoever takes them slowly is not stalled.
PIECE_BYTES = 64 * 1024

_HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    # nginx would otherwise hold tokens back until its buffer is full.
    (b"x-accel-buffering", b"no"),
    (b"vary", b"accept"),
]


class Stream:
    def __init__(self, gateway: Gateway, hub: Hub, *, stalled_s: float = STALLED_S) -> None:
        self._gateway = gateway
        self._hub = hub
        self._stalled_s = stalled_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send, channel: str | None = None) -> None:
        principal = self._gateway.auth.authenticate(scope)
        query = QueryString(scope["query_string"])
        wanted = wanted_events(principal, query, channel)
        if not wanted.channels:
            raise Invalid.of("channel", "name at least one channel or pattern: ?channel=orders.*")
        subscription = _subscription(principal, query, wanted)
        start = await self._start(scope, query, wanted)
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return
        sink = AsgiSink(receive, send, stalled_s=self._stalled_s)
        reader = self._hub.open(
            subscription,
            sink,
            after=start.after,
            expires=principal.expires,
            # A first byte makes proxies pass the head on at once.
            greeting=start.reset or HEARTBEAT,
        )
        await sink.run(reader)

    async def _start(self, scope: Scope, query: QueryString, wanted: Query) -> position.Start:
        """The header wins over the query, since a page's URL repeats its query at every reconnect."""
        given = [name for name in ("after", "since", "last") if query.one(name) is not None]
        if len(given) > 1:
            raise Invalid.of(given[1], f"cannot be combined with {given[0]}")
        header = next((value for name, value in scope["headers"] if name == b"last-event-id"), b"")
        if header:
            return await position.resume(self._gateway.store, header.decode("latin-1"), lenient=True)
        # Polyfills that cannot set the header say it in the query.
        spelled = query.one("lastEventId") or query.one("last-event-id") or query.one("last_event_id")
        if spelled:
            return await position.resume(self._gateway.store, spelled, lenient=True)
        if (after := query.one("after")) is not None:
            return await position.resume(self._gateway.store, after, lenient=False)
        if (since := query.one("since")) is not None:
            return await position.since(self._gateway.store, time_of(since, self._gateway.clock()))
        if query.one("last") is not None:
            count = query.number("last", default=0, low=0, high=position.MAX_LAST)
            return await position.last(self._gateway.store, wanted, count)
        return position.Start()


def _subscription(principal: Principal, query: QueryString, wanted: Query) -> Subscription:
    name = query.one("format") or Format.DATA.value
    if name not in set(Format):
        raise Invalid.of("format", f"must be one of {', '.join(Format)}")
    may_see: Callable[[str], bool] = principal.may_subscribe
    return Subscription(
        tenant=principal.tenant,
        channels=wanted.channels,
        types=wanted.types,
        format=Format(name),
        control=query.number("control", default=0, low=0, high=1) == 1,
        may_see=may_see,
    )


class AsgiSink:
    """`Sink` over ASGI's `send`. `run` is the stream's life."""

    def __init__(self, receive: Receive, send: Send, *, stalled_s: float = STALLED_S) -> None:
        self._receive = receive
        self._send = send
        self._stalled_s = stalled_s
        self._waiting: list[bytes] = []
        self._size = 0
        self._wake = asyncio.Event()
        self._ending = False
        self._left = False

    @property
    def full(self) -> bool:
        return self._size >= SINK_BYTES

    def write(self, chunk: bytes) -> None:
        self._waiting.append(chunk)
        self._size += len(chunk)
        self._wake.set()

    def close(self) -> None:
        self._ending = True
        self._wake.set()

    async def run(self, reader: Reader) -> None:
        """Send what is written until the client leaves or the stream is closed; raises `ClientGone` if it stalls."""
        watcher = asyncio.create_task(self._watch())
        try:
            reader.resume()
            while not self._left:
                await self._wake.wait()
                self._wake.clear()
                await self._flush(reader)
                if self._ending and not self._waiting:
                    await self._send_in_time(b"", more=False)
                    return
        finally:
            reader.gone()
            watcher.cancel()

    async def _flush(self, reader: Reader) -> None:
        while self._waiting and not self._left:
            chunk = b"".join(self._waiting)
            self._waiting.clear()
            for start in range(0, len(chunk), PIECE_BYTES):
                await self._send_in_time(chunk[start : start + PIECE_BYTES], more=True)
            self._size -= len(chunk)
            if not self.full:
                # It may have been full only while this was sent; a reader that did not stop takes no notice.
                reader.resume()

    async def _send_in_time(self, piece: bytes, *, more: bool) -> None:
        try:
            async with asyncio.timeout(self._stalled_s):
                await self._send({"type": "http.response.body", "body": piece, "more_body": more})
        except TimeoutError:
            raise ClientGone(f"the client took no byte for {self._stalled_s:g} s") from None

    async def _watch(self) -> None:
        """Notice the client leaving even while there is nothing to send."""
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._left = True
                self._wake.set()
                return
