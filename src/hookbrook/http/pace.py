"""How fast the body of a request must come, and when it is our own fault that it does not."""

import asyncio
from collections.abc import Callable

from uvicorn.protocols.http.flow_control import FlowControl

from hookbrook.http.limits import Limits
from hookbrook.http.problems import Headers


class Flow(FlowControl):
    """Flow control that remembers when we were not reading, since a client cannot be blamed for that time."""

    def __init__(self, transport: asyncio.Transport, now: Callable[[], float]) -> None:
        super().__init__(transport)
        self._now = now
        self._paused_at = 0.0
        #: When reading was last resumed, and the seconds for which it was paused until then.
        self.resumed_at = 0.0
        self.paused_s = 0.0

    def pause_reading(self) -> None:
        if not self.read_paused:
            self._paused_at = self._now()
            super().pause_reading()

    def resume_reading(self) -> None:
        if self.read_paused:
            self.resumed_at = self._now()
            self.paused_s += self.resumed_at - self._paused_at
            super().resume_reading()


class Pace:
    """The pace of one body that did not come with its head; times are the loop's.

    On average it brings `body_rate` once the grace is over, and never pauses longer than `body_idle_s`. A body that
    somebody writes while we read (`live_types`) has only its pauses limited.
    """

    __slots__ = ("_bytes", "_excused", "_flow", "_last_byte", "_limits", "_live", "_paused_s", "_started")

    def __init__(self, limits: Limits, flow: Flow, headers: Headers, now: float) -> None:
        self._limits = limits
        self._flow = flow
        self._live = any(
            name == b"content-type" and value.partition(b";")[0].strip().lower() in limits.live_types
            for name, value in headers
        )
        self._started = self._last_byte = now
        self._paused_s = flow.paused_s
        self._bytes = 0
        self._excused = False

    def arrived(self, size: int, now: float) -> None:
        self._bytes += size
        self._last_byte = now

    def due(self) -> float:
        """When the body will have been too slow, should no further byte come."""
        limits = self._limits
        idle = max(self._last_byte, self._flow.resumed_at) + limits.body_idle_s
        if self._live:
            return idle
        paused_s = self._flow.paused_s - self._paused_s
        average = self._started + paused_s + limits.body_grace_s + self._bytes / limits.body_rate
        return min(idle, average)

    def look(self, now: float, *, uninvited: bool) -> float:
        """When to look again; not after `now` if the body is too slow.

        Args:
            uninvited: the client still waits for our `100 Continue`.
        """
        if self._flow.read_paused or uninvited:
            self._excused = True
            return now + self._limits.body_grace_s
        if self._excused:
            # The excuse ended since the last look, nobody knows when, so the time counts from now.
            self._excused = False
            self._started = self._last_byte = now
            self._paused_s = self._flow.paused_s
        return self.due()
