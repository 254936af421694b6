"""The short way for single events, which are most of what is published.

An ASGI application costs a task, and a dozen coroutines that hand on what they were handed. An event that has arrived
whole needs none of them until it is on the disk: it is read and given to the log in the step in which its last byte
arrived, and answered in the step that learns of the commit.

This is an optimist. It serves what nearly every publisher sends, with the very parts that the doors use; whatever else
it meets (another door, a refusal, an answer that must wait) it leaves, untouched, to the ordinary way.
"""

import asyncio
from functools import partial

from hookbrook.core.event import Appended
from hookbrook.http.answer import answer
from hookbrook.http.exchange import Exchange
from hookbrook.http.guard import Guard
from hookbrook.http.problems import Receive, Scope, Send
from hookbrook.http.publish import Publish
from hookbrook.store.appender import Appender


class Express:
    """A `Shortcut` for `POST /v1/events` and `POST /v1/channels/{channel}`."""

    def __init__(self, guard: Guard, publish: Publish, appender: Appender) -> None:
        self._guard = guard
        self._publish = publish
        self._appender = appender

    def __call__(self, exchange: Exchange) -> bool:
        scope = exchange.scope
        if scope["method"] != "POST" or not scope["path"].startswith("/v1/"):
            return False
        try:
            lines = self._guard.lines_for(self._guard.judge(scope))
            event = self._publish.single(scope, bytes(exchange.body))
            begun = None if event is None else self._appender.begin((event,))
        except Exception:  # noqa: BLE001 - nothing has happened yet; the ordinary way meets the same, and can tell it
            return False
        if begun is None:
            return False
        begun.add_done_callback(partial(self._committed, exchange, lines))
        return True

    def _committed(self, exchange: Exchange, lines: bytes, begun: "asyncio.Future[list[Appended]]") -> None:
        try:
            (result,) = begun.result()
        except Exception:  # noqa: BLE001 - nothing was appended; the ordinary way meets the same, and can tell it
            exchange.start()
            return
        status, block, body = self._publish.receipt(exchange.scope, result)
        if exchange.respond(status, b"%bcontent-length: %d\r\n%b" % (block, len(body), lines), body):
            return

        async def answering(scope: Scope, _receive: Receive, send: Send) -> None:
            await answer(scope, send, status, block + lines, body)

        # The client does not read its answers, and this one must wait for it.
        exchange.start(answering)
