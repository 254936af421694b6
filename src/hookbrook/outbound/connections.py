"""Open connections that wait for their next request, and which of them may have one."""

import asyncio
from collections.abc import Hashable
from time import monotonic

from hookbrook.outbound.clock import Timer
from hookbrook.outbound.outbox import Outbox
from hookbrook.outbound.wire import Wire


class Connections:
    """A pool by origin. The newest is taken first, so that those that are not needed grow old and end.

    Args:
        size: how many may wait; beyond it the one that has waited longest is closed.
        idle_s: how long one may wait.
        max_age_s: no request starts on an older connection.
    """

    def __init__(self, *, size: int, idle_s: float, max_age_s: float) -> None:
        self._size = size
        self._idle_s = idle_s
        self._max_age_s = max_age_s
        #: Those that wait, the longest first, with their origins.
        self._idle: dict[Wire, Hashable] = {}
        self._by_origin: dict[Hashable, list[Wire]] = {}
        #: All that are open, in use or not.
        self._open: dict[Wire, Hashable] = {}
        self._outbox = Outbox()
        self._timer: Timer | None = None
        self._closed = False

    def wire(self, origin: Hashable) -> Wire:
        """A protocol for a new connection."""
        wire = Wire(self._outbox, released=self._release, lost=self._forget)
        self._open[wire] = origin
        return wire

    def take(self, origin: Hashable) -> Wire | None:
        """One that is free, or None."""
        waiting = self._by_origin.get(origin)
        while waiting:
            wire = waiting.pop()
            if not waiting:
                del self._by_origin[origin]
            del self._idle[wire]
            if not wire.is_closing and monotonic() - wire.born <= self._max_age_s:
                return wire
            wire.close()
        return None

    def close(self) -> None:
        """End all of them, also those in use."""
        self._closed = True
        self._stop_timer()
        for wire in list(self._open):
            wire.abort()

    def _release(self, wire: Wire) -> None:
        if self._closed or not self._size:
            wire.close()
            return
        origin = self._open[wire]
        self._idle[wire] = origin
        self._by_origin.setdefault(origin, []).append(wire)
        if len(self._idle) > self._size:
            self._drop_oldest()
        if self._timer is None:
            self._plan()

    def _forget(self, wire: Wire) -> None:
        self._open.pop(wire, None)
        self._unlist(wire)

    def _unlist(self, wire: Wire) -> None:
        origin = self._idle.pop(wire, None)
        if origin is not None:
            waiting = self._by_origin[origin]
            waiting.remove(wire)
            if not waiting:
                del self._by_origin[origin]

    def _drop_oldest(self) -> None:
        wire = next(iter(self._idle))
        self._unlist(wire)
        wire.close()

    # One timer for all: it looks after the one that has waited longest.

    def _plan(self) -> None:
        oldest = next(iter(self._idle), None)
        if oldest is not None:
            left = oldest.idle_since + self._idle_s - monotonic()
            self._timer = asyncio.get_running_loop().call_later(max(left, 0.0), self._expire)

    def _expire(self) -> None:
        self._timer = None
        now = monotonic()
        while (oldest := next(iter(self._idle), None)) is not None and now - oldest.idle_since >= self._idle_s:
            self._drop_oldest()
        self._plan()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
