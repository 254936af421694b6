"""Lets so many in per turn of the event loop, the others in the order in which they came.

After a restart thousands of readers ask for their streams within a moment. Opening one takes a fraction of a
millisecond; all of them in one turn would keep those who are already there waiting for a second.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial

#: Streams that are opened in one turn: about five milliseconds of work, and thousands a second.
PER_TURN = 32


class Turnstile:
    """Belongs to one event loop. The queue is bounded by the connections that may be open."""

    def __init__(self, *, per_turn: int = PER_TURN) -> None:
        self._per_turn = per_turn
        self._left = per_turn
        self._waiting: deque[Callable[[], bool]] = deque()
        self._is_turning = False

    async def enter(self) -> None:
        """Returns at once unless many want to."""
        if self._may_pass():
            return
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(partial(_let_in, future))
        await future

    def admit(self, enter: Callable[[], bool]) -> None:
        """Call `enter`, at once unless many want to; it returns whether it took the place, and must not raise."""
        if self._may_pass():
            enter()
        else:
            self._waiting.append(enter)

    def _may_pass(self) -> bool:
        if not self._is_turning:
            self._is_turning = True
            asyncio.get_running_loop().call_soon(self._turn)
        if self._waiting or not self._left:
            return False
        self._left -= 1
        return True

    def _turn(self) -> None:
        self._is_turning = bool(self._waiting)
        if self._is_turning:
            asyncio.get_running_loop().call_soon(self._turn)
        self._left = self._per_turn
        while self._left and self._waiting:
            # Who has left meanwhile takes nobody's place.
            if self._waiting.popleft()():
                self._left -= 1


def _let_in(future: "asyncio.Future[None]") -> bool:
    if future.done():
        return False
    future.set_result(None)
    return True
