"""When news leaves: at once while the event loop keeps up, together once it does not.

A write to a socket costs microseconds whatever it carries, so what a thousand readers of a thousand events a second
need is not faster writes but fewer. The loop itself says how busy it is: the time from the moment at which news left
until its next turn is what all the writes of that news took, and whatever else had waited. A pause in proportion to
that, and never a longer one than anybody would notice, lets the following news leave together. A loop with little to do
turns in less than `SHORT_S`, and then nothing ever waits. (A fixed pause would delay the words of a chat for one reader
as well; a bound on events waiting would not know what an event costs, which is its number of readers.)
"""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

#: The longest pause: what nobody notices, and short against a p99 of 50 ms.
MAX_PAUSE_S = 0.010
#: The pause is so many times what the last turn took, so that streams take a quarter of the time and leave the rest to
#: those who publish, until the longest pause is reached.
PAUSE_PER_TURN = 3
#: A shorter pause is none: the loop's timers count milliseconds.
SHORT_S = 0.0005


class Pace(Protocol):
    """Decides when news that has come may leave."""

    def start(self, leave: Callable[[], None]) -> None:
        """`leave` MUST be called in the loop at some time after each `news`; one call may serve many."""

    def news(self) -> None: ...


class LoadPace:
    """By how long the loop's turns take; see above."""

    def __init__(self, *, max_pause_s: float = MAX_PAUSE_S) -> None:
        self._max_pause_s = max_pause_s
        self._leave: Callable[[], None] = lambda: None
        #: News has left, and its turn or the pause behind it is not over.
        self._busy = False
        self._waiting = False

    def start(self, leave: Callable[[], None]) -> None:
        self._leave = leave

    def news(self) -> None:
        if self._busy:
            self._waiting = True
        else:
            self._go()

    def _go(self) -> None:
        self._busy = True
        self._waiting = False
        # Called once all writes are made: at once, or at the end of this turn where a transport has something waiting.
        # Before `leave`, which may raise.
        asyncio.get_running_loop().call_soon(self._turned, time.monotonic())
        self._leave()

    def _turned(self, began: float) -> None:
        pause = min(self._max_pause_s, PAUSE_PER_TURN * (time.monotonic() - began))
        if pause < SHORT_S:
            self._rested()
        else:
            asyncio.get_running_loop().call_later(pause, self._rested)

    def _rested(self) -> None:
        if self._waiting:
            self._go()
        else:
            self._busy = False
