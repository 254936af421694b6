"""Requests on their way to their sockets: those that come close together are written one behind the other.

A write costs several times as much when it wakes somebody up. A receiver on the same machine sleeps while the next
request is made here, and each write then has to wake its processor; the next write right behind finds it awake.
"""

import asyncio
from collections.abc import Callable
from typing import Final

#: Requests that are written together at the most: making so many takes a millisecond, for which the first one waits.
MAX_WAITING: Final = 16


class Outbox:
    """For one event loop."""

    def __init__(self) -> None:
        self._waiting: list[Callable[[], None]] = []
        self._loop = asyncio.get_running_loop()

    def put(self, write: Callable[[], None]) -> None:
        """Call `write`, which must not raise, when the loop has done what it can do at once, or earlier."""
        if not self._waiting:
            self._loop.call_soon(self._write_all)
        self._waiting.append(write)
        if len(self._waiting) >= MAX_WAITING:
            self._write_all()

    def _write_all(self) -> None:
        waiting, self._waiting = self._waiting, []
        for write in waiting:
            write()
