"""The short way for single events and new streams, which are most of what is asked for.

An ASGI application costs a task, and a dozen coroutines that hand on what they were handed. An event that has arrived
whole needs none of them until it is on the disk: it is read and given to the log together with all that arrived in the
same turn of the loop, and answered in the step that learns of the commit. A stream that begins with what comes next is
open in the step in which it was asked for, unless many were.

This is an optimist. It serves what nearly every publisher, provider and reader sends, with the very parts that the
doors use; whatever else it meets (another door, a refusal, an answer that must wait) it leaves, untouched, to the
ordinary way.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Protocol

from hookbrook.core.event import Appended, NewEvent
from hookbrook.http.answer import answer
from hookbrook.http.busy import STREAM_HEADERS
from hookbrook.http.doors import STREAM
from hookbrook.http.exchange import Exchange, Taken, Visitor
from hookbrook.http.guard import Guard
from hookbrook.http.history import accept
from hookbrook.http.problems import Problems, Receive, Scope, Send
from hookbrook.http.publish import CHANNELS
from hookbrook.http.stream import Judged
from hookbrook.http.turnstile import Turnstile
from hookbrook.store.appender import Appender

log = logging.getLogger("hookbrook.http")

_STREAM_LINES = b"".join(b"%b: %b\r\n" % header for header in STREAM_HEADERS)


class Door(Protocol):
    """What takes single events."""

    def single(self, scope: Scope, body: bytes) -> NewEvent | None:
        """The event of a request that brings one and has arrived whole; None for any other request.

        MUST leave everything as it was, but for notes of its own in the scope. May raise anything.
        """

    def receipt(self, scope: Scope, result: Appended) -> tuple[int, bytes, bytes]:
        """Status, header lines (each ended by CR LF) and body of the answer to whoever brought the event."""


class Streams(Protocol):
    """What opens streams."""

    @property
    def turnstile(self) -> Turnstile: ...

    def judge(self, scope: Scope, channel: str | None) -> Judged:
        """What is asked for, and by what right. May raise anything."""

    def greeting(self) -> bytes:
        """What the body of a stream begins with."""

    def quick(self, scope: Scope, judged: Judged) -> Callable[[Taken], None] | None:
        """What opens the stream that was asked for on its socket, the head of the answer and the greeting written;
        None if the ordinary way must.

        Leaves everything as it was, but for counts of what was asked for. May raise anything; so may what it returns,
        which then MUST have cut the connection.
        """


class Express:
    """A `Shortcut` for `POST /v1/events`, `/v1/channels/{channel}` and `/in/{source}`, and for streams."""

    def __init__(self, guard: Guard, publish: Door, ingest: Door, streams: Streams, appender: Appender) -> None:
        self._guard = guard
        self._publish = publish
        self._ingest = ingest
        self._streams = streams
        self._appender = appender
        #: What brings events and has arrived in this turn of the loop.
        self._arrived: list[tuple[Exchange, Door]] = []

    def __call__(self, exchange: Exchange | Visitor) -> bool:
        scope = exchange.scope
        path: str = scope["path"]
        method = scope["method"]
        if method == "GET" and (path == STREAM or (path.startswith(CHANNELS) and "text/event-stream" in accept(scope))):
            self._streams.turnstile.admit(partial(self._enter, exchange))
            return True
        if method != "POST" or not isinstance(exchange, Exchange):
            return False
        if path.startswith("/in/"):
            door = self._ingest
        elif path.startswith("/v1/"):
            door = self._publish
        else:
            return False
        if not self._arrived:
            asyncio.get_running_loop().call_soon(self._take_all)
        self._arrived.append((exchange, door))
        return True

    def _take_all(self) -> None:
        """Take what has arrived, one after the other.

        Taken each as it arrived, they would cost more: the processor has at hand what has just run, and then that
        would be the reading of another socket.
        """
        arrived, self._arrived = self._arrived, []
        for exchange, door in arrived:
            # Who has left meanwhile would be answered by nobody, as on the ordinary way.
            if not self._take(exchange, door) and not exchange.disconnected:
                exchange.start()

    def _take(self, exchange: Exchange, door: Door) -> bool:
        """Give the event of a request to the log, to be answered once it is durable; False if the ordinary way must."""
        scope = exchange.scope
        try:
            lines = self._guard.lines_for(self._guard.judge(scope))
            event = door.single(scope, bytes(exchange.body))
            begun = None if event is None else self._appender.begin((event,))
        except Exception:  # noqa: BLE001 - nothing has happened yet; the ordinary way meets the same, and can tell it
            return False
        if begun is None:
            return False
        begun.add_done_callback(partial(self._committed, exchange, door, lines))
        return True

    def _committed(self, exchange: Exchange, door: Door, lines: bytes, begun: "asyncio.Future[list[Appended]]") -> None:
        try:
            (result,) = begun.result()
        except Exception:  # noqa: BLE001 - nothing was appended; the ordinary way meets the same, and can tell it
            exchange.start()
            return
        except asyncio.CancelledError as error:  # whether it was appended is not known, so not once more
            self._fail(exchange, error)
            return
        try:
            status, block, body = door.receipt(exchange.scope, result)
        except Exception as error:  # noqa: BLE001 - it is durable, so not once more; `_fail` tells the log
            self._fail(exchange, error)
            return
        if exchange.respond(status, b"%bcontent-length: %d\r\n%b" % (block, len(body), lines), body):
            return

        async def answering(scope: Scope, _receive: Receive, send: Send) -> None:
            await answer(scope, send, status, block + lines, body)

        # The client does not read its answers, and this one must wait for it.
        exchange.start(answering)

    def _fail(self, exchange: Exchange, error: BaseException) -> None:
        """Answer as the ordinary way does where a door raises this."""

        async def failing(_scope: Scope, _receive: Receive, _send: Send) -> None:
            raise error

        exchange.start(self._guard.around(Problems(failing)))

    def _enter(self, visitor: Visitor) -> bool:
        """Open the stream, in its turn; False if its client has left meanwhile."""
        if visitor.disconnected:
            return False
        try:
            lines, judged = self._judge(visitor)
            begin = self._streams.quick(visitor.scope, judged)
        except Exception:  # noqa: BLE001 - nothing has happened yet; the ordinary way meets the same, and can tell it
            begin = None
        if begin is None:
            visitor.start()
        elif (taken := visitor.take_over(200, _STREAM_LINES + lines, self._streams.greeting())) is not None:
            _begin(begin, taken)
        return True

    def _judge(self, visitor: Visitor) -> tuple[bytes, Judged]:
        """The header lines for the page that asks, and what is asked for; worked out once for all who ask alike."""
        scope, notes = visitor.scope, visitor.notes
        if notes is not None:
            noted: tuple[bytes, Judged] | None = notes.get(STREAM)
            if noted is not None and noted[1].holds_for(scope["client"]):
                return noted
        path: str = scope["path"]
        lines = self._guard.lines_for(self._guard.judge(scope))
        judged = self._streams.judge(scope, None if path == STREAM else path[len(CHANNELS) :])
        if notes is not None:
            notes[STREAM] = (lines, judged)
        return lines, judged


def _begin(begin: Callable[[Taken], None], taken: Taken) -> None:
    try:
        begin(taken)
    except Exception:  # the boundary of a request: those who wait behind it have their turn all the same
        log.exception("a stream could not be begun")
