"""When readers must be told that their right to listen will end, and when it does: to the moment, not at the next
heartbeat."""

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count

from hookbrook.stream import control
from hookbrook.stream.reader import Mode, Reader

#: What a page gets to fetch a new token and open another stream.
NOTICE_US = 30_000_000
#: Entries of readers that have left are removed when they are more than this, and more than those of all others.
MAX_STALE = 1000


class Deadlines:
    """A heap of moments. `clock` is in microseconds since the epoch."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._moments: list[tuple[int, int, Reader]] = []
        self._numbers = count()
        self._stale = 0

    def __len__(self) -> int:
        return len(self._moments)

    def watch(self, reader: Reader) -> None:
        """Nothing happens to a reader whose right has no end."""
        if reader.expires is not None:
            self._push(reader.expires - NOTICE_US, reader)

    def left(self, reader: Reader) -> None:
        if reader.expires is None:
            return
        self._stale += 1
        if self._stale > MAX_STALE and self._stale > len(self._moments) // 2:
            self._moments = [moment for moment in self._moments if moment[2].mode is not Mode.ENDED]
            heapify(self._moments)
            self._stale = 0

    def pass_by(self) -> None:
        """Tell and end those whose moment has come."""
        now = self._clock()
        while self._moments and self._moments[0][0] <= now:
            _, _, reader = heappop(self._moments)
            if reader.mode is Mode.ENDED or reader.expires is None:
                continue
            if now >= reader.expires:
                reader.end(control.expired())
            else:
                reader.tell(control.expiring(reader.expires))
                self._push(reader.expires, reader)

    def next_s(self) -> float | None:
        """Seconds until the next moment, or None if there is none."""
        return max(0.0, (self._moments[0][0] - self._clock()) / 1_000_000) if self._moments else None

    def _push(self, moment: int, reader: Reader) -> None:
        heappush(self._moments, (moment, next(self._numbers), reader))
