"""How a connection ends: once its client has taken what waits for it, or has read why it was refused.

Neither may take for ever. A client that takes nothing is cut off, and so is one that was refused and goes on sending.
"""

import asyncio
import logging
from typing import Any

import httptools
from uvicorn.config import Config

from hookbrook.errors import BadRequest, Problem
from hookbrook.http.bare import Bare
from hookbrook.http.deadline import Deadline
from hookbrook.http.limits import Limits
from hookbrook.http.state import State

log = logging.getLogger("hookbrook.http")


class Ending(Bare):
    """A connection that can end; when it must, the protocol says."""

    #: When something will have taken too long; whoever makes the connection sets it.
    _deadline: Deadline

    def __init__(
        self,
        config: Config,
        server_state: State,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        limits: Limits,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.limits = limits
        #: Whatever else comes is thrown away.
        self._deaf = False
        #: Nothing more will be said; the client is to read what was.
        self._lingering = False
        #: Cuts a client off that takes nothing of what waits for it.
        self._stall: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_rest()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._unwatch()

    def _close(self) -> None:
        """Close once the client has taken what waits for it."""
        self.transport.close()
        self._watch_rest()

    def _linger(self) -> None:
        """Say that nothing more will come, and throw away what does, until the client closes or time is up."""
        self._deaf = self._lingering = True
        self.flow.resume_reading()
        self.transport.write_eof()
        self._deadline.set(self.loop.time() + self.limits.linger_s)

    def _watch_rest(self) -> None:
        if self._stall is None and (size := self.transport.get_write_buffer_size()):
            self._stall = self.loop.call_later(self.limits.stalled_s, self._judge_rest, size)

    def _judge_rest(self, before: int) -> None:
        self._stall = None
        if self.transport.get_write_buffer_size() >= before:
            self.transport.abort()
        else:
            self._watch_rest()

    def _unwatch(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None


def problem_of(error: httptools.HttpParserError) -> Problem:
    """Why a request is refused on which the parser gave up: what its callback raised, or what RFC 9112 says."""
    cause = error.__context__
    if isinstance(cause, Problem):
        return cause
    if cause is None or isinstance(cause, httptools.HttpParserError):
        return BadRequest(f"The request is not valid HTTP/1.1: {cause or error}.")
    log.error("reading a request failed", exc_info=cause)
    return Problem()
