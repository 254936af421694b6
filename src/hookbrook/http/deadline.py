"""The deadline of a connection, kept by one lazy timer.

The timer is not moved when the deadline moves later, as it does with every request: it fires at the old time, sees
that the deadline has moved, and goes to sleep until then. The usual pair of setting and cancelling a timer for each
request is saved.
"""

import asyncio
from collections.abc import Callable
from typing import Final

NEVER: Final = float("inf")


class Deadline:
    """Times are the loop's. `passed` is called with the time once the deadline has come, and may `set` another."""

    __slots__ = ("_at", "_due", "_loop", "_passed", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, passed: Callable[[float], None]) -> None:
        self._loop = loop
        self._passed = passed
        self._at = NEVER
        self._timer: asyncio.TimerHandle | None = None
        self._due = NEVER

    def set(self, at: float) -> None:
        self._at = at
        if at < self._due:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(at, self._fired)
            self._due = at

    def clear(self) -> None:
        """There is nothing to be waited for; the timer may sleep on."""
        self._at = NEVER

    def end(self) -> None:
        """The connection is no longer watched, and let go of: held, it would be garbage in a circle."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._at = self._due = NEVER
        self._passed = _nobody_waits

    def _fired(self) -> None:
        self._timer = None
        self._due = NEVER
        if self._at == NEVER:
            return
        now = self._loop.time()
        if now < self._at:
            self.set(self._at)
        else:
            self._passed(now)


def _nobody_waits(_now: float) -> None:
    return None
