"""Lets so many in per turn of the event loop, the others in the order in which they came.

After a restart thousands of readers ask for their streams within a moment. Opening one takes a fraction of a
millisecond; all of them in one turn would keep those who are already there waiting for a second.
"""

import asyncio
from collections import deque

#: Streams that are opened in one turn: about five milliseconds of work, and more than a thousand a second.
PER_TURN = 32


class Turnstile:
    """Belongs to one event loop. The queue is bounded by the connections that may be open."""

    def __init__(self, *, per_turn: int = PER_TURN) -> None:
        self._per_turn = per_turn
        self._left = per_turn
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_turning = False

    async def enter(self) -> None:
        """Returns at once unless many want to."""
        self._turn_soon()
        if self._left and not self._waiting:
            self._left -= 1
            return
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        await future

    def _turn_soon(self) -> None:
        if not self._is_turning:
            self._is_turning = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._is_turning = False
        self._left = self._per_turn
        while self._left and self._waiting:
            future = self._waiting.popleft()
            # Who has left meanwhile takes nobody's place.
            if not future.done():
                future.set_result(None)
                self._left -= 1
        if self._waiting:
            self._turn_soon()
