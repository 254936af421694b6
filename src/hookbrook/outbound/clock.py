"""Time for the dispatcher: timers that a test can drive, and a clock that never goes back."""

from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    def cancel(self) -> None: ...


class Timers(Protocol):
    """What an event loop offers: monotonic seconds, and calls at a later time. Tests hand in a virtual one."""

    def time(self) -> float: ...

    def call_later(self, delay: float, callback: Callable[[], object], /) -> Timer: ...


class SteadyClock:
    """Wall time that never goes back while the process lives.

    The table keeps due times as wall time. If the wall clock is set back by a day, a retry that was due in five seconds
    would wait for a day and five seconds; so what is due is asked of this clock, which then goes on from where it was
    at the pace of the monotonic one. A clock set forward is followed at once: retries come early, which loses nothing.
    After a restart the wall clock counts again.
    """

    def __init__(self, wall: Callable[[], int], timers: Timers) -> None:
        self._wall = wall
        self._timers = timers
        self._ahead = wall() - self._elapsed()

    def now(self) -> int:
        """Microseconds since the Unix epoch."""
        elapsed = self._elapsed()
        self._ahead = max(self._ahead, self._wall() - elapsed)
        return elapsed + self._ahead

    def _elapsed(self) -> int:
        return round(self._timers.time() * 1_000_000)
