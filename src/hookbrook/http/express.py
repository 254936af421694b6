"""The short way for single events, which are most of what is published and received.

An ASGI application costs a task, and a dozen coroutines that hand on what they were handed. An event that has arrived
whole needs none of them until it is on the disk: it is read and given to the log in the step in which its last byte
arrived, and answered in the step that learns of the commit.

This is an optimist. It serves what nearly every publisher and provider sends, with the very parts that the doors use;
whatever else it meets (another door, a refusal, an answer that must wait) it leaves, untouched, to the ordinary way.
"""

import asyncio
from functools import partial
from typing import Protocol

from hookbrook.core.event import Appended, NewEvent
from hookbrook.http.answer import answer
from hookbrook.http.exchange import Exchange
from hookbrook.http.guard import Guard
from hookbrook.http.problems import Receive, Scope, Send
from hookbrook.store.appender import Appender


class Door(Protocol):
    """What takes single events."""

    def single(self, scope: Scope, body: bytes) -> NewEvent | None:
        """The event of a request that brings one and has arrived whole; None for any other request.

        MUST leave everything as it was, but for notes of its own in the scope. May raise anything.
        """

    def receipt(self, scope: Scope, result: Appended) -> tuple[int, bytes, bytes]:
        """Status, header lines (each ended by CR LF) and body of the answer to whoever brought the event."""


class Express:
    """A `Shortcut` for `POST /v1/events`, `POST /v1/channels/{channel}` and `POST /in/{source}`."""

    def __init__(self, guard: Guard, publish: Door, ingest: Door, appender: Appender) -> None:
        self._guard = guard
        self._publish = publish
        self._ingest = ingest
        self._appender = appender

    def __call__(self, exchange: Exchange) -> bool:
        scope = exchange.scope
        if scope["method"] != "POST":
            return False
        path: str = scope["path"]
        if path.startswith("/v1/"):
            door = self._publish
        elif path.startswith("/in/"):
            door = self._ingest
        else:
            return False
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
        status, block, body = door.receipt(exchange.scope, result)
        if exchange.respond(status, b"%bcontent-length: %d\r\n%b" % (block, len(body), lines), body):
            return

        async def answering(scope: Scope, _receive: Receive, send: Send) -> None:
            await answer(scope, send, status, block + lines, body)

        # The client does not read its answers, and this one must wait for it.
        exchange.start(answering)
