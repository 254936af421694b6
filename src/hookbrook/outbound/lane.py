"""One endpoint's lane: what is known in memory of what it is owed, and what it has under way.

A lane decides nothing about time and does no I/O; the dispatcher drives it. It exists only while there is something to
do for its endpoint, so that an endpoint at rest costs nothing.

**Claims.** A delivery is *claimed* from the moment it is in memory until its outcome is in the table. What is claimed
is neither taken from memory nor read from the table a second time, so nothing is attempted twice at once, nor again
because the record of the first attempt is late.

**The table is the truth.** Memory spares a read and is never needed: where it has no room, the lane notes that the
table holds more (`more`) and pages it in later.

**Fair shares.** Slots and memory are shared by all lanes. A lane may hold at most as much as is still free (dynamic
thresholds, Choudhury and Hahne 1998): one busy lane gets half of everything, n of them leave 1/(n+1) free, and so the
lane of a healthy endpoint finds room although a thousand others hang.
"""

from collections import deque
from collections.abc import Iterable
from functools import cached_property
from typing import Final

import msgspec

from hookbrook.core.endpoint import Endpoint
from hookbrook.core.event import Event, NewEvent
from hookbrook.outbound.clock import Timer
from hookbrook.outbound.message import Letterhead
from hookbrook.outbound.pace import Pace
from hookbrook.store.base import Due

#: Deliveries of one endpoint known in memory and not under way. Two seconds of work at 500 a second; beyond it, paging
#: costs little against sending.
MAX_QUEUED: Final = 1000
#: Deliveries read from the table at once; some milliseconds of the store's time.
PAGE: Final = 200
#: What an event is taken to weigh until the first of a lane was seen: about the largest that publishers may send.
UNKNOWN_SIZE: Final = 1 << 20


class Pool:
    """Something limited, counted, that lanes share."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    @property
    def free(self) -> int:
        return self.limit - self.used

    def admits(self, held: int, more: int) -> bool:
        """Whether a lane that holds so much of it may take so much more."""
        return held + more <= self.limit - self.used


class Owed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A delivery that may be attempted now."""

    delivery_id: str
    #: Attempts made so far.
    attempts: int
    event: Event | NewEvent
    #: Bytes that it holds in memory, as far as they can be many.
    size: int

    @classmethod
    def of(cls, delivery_id: str, attempts: int, event: Event | NewEvent) -> "Owed":
        size = len(event.data) + (len(event.request) if event.request else 0)
        return cls(delivery_id=delivery_id, attempts=attempts, event=event, size=size)


class Lane:
    """See the module."""

    def __init__(self, endpoint: Endpoint, memory: Pool, pace: Pace) -> None:
        self.endpoint = endpoint
        self.pace = pace
        #: Wakes the lane when its pace lets it go on.
        self.pace_timer: Timer | None = None
        #: The table may hold due deliveries that are not claimed.
        self.more = False
        #: A page is being read.
        self.reading = False
        #: Attempts under way.
        self.running = 0
        #: Nothing is started for a moment, because our own machine could not.
        self.paused = False
        #: The endpoint is about to be disabled, unless somebody changes it first.
        self.ending = False
        #: Wakes the lane when its next delivery is due, at `timer_at`.
        self.timer: Timer | None = None
        self.timer_at = 0
        #: Counts what makes a page that is being read worthless: disabling and enabling.
        self.generation = 0
        self.queued_bytes = 0
        self._memory = memory
        self._queue: deque[Owed] = deque()
        self._claimed: set[str] = set()
        #: Claims made while a page was being read. The page may hold them too, even though they are done by then.
        self._arrived: set[str] = set()
        #: Claims for which somebody asked while they stood: when one ends, the table may hold it as due again.
        self._again: set[str] = set()
        self._largest = UNKNOWN_SIZE

    @cached_property
    def letterhead(self) -> Letterhead:
        """Raises `Invalid` if one of the endpoint's secrets is none."""
        return Letterhead(self.endpoint)

    @property
    def queued(self) -> int:
        return len(self._queue)

    @property
    def claims(self) -> list[str]:
        return list(self._claimed)

    @property
    def idle(self) -> bool:
        """Nothing under way, nothing known, nothing expected."""
        return not (self._claimed or self.running or self.more or self.reading or self.timer or self.stopped)

    @property
    def stopped(self) -> bool:
        """Nothing may be begun now."""
        return self.paused or self.ending

    @property
    def room(self) -> int:
        """How many attempts may be under way."""
        return min(self.endpoint.concurrency, self.pace.room)

    @property
    def wants_slot(self) -> bool:
        return bool(self._queue) and self.running < self.room and not self.stopped

    @property
    def wants_page(self) -> bool:
        """Early enough that the next page is there before the last one is used up."""
        low = min(self.endpoint.concurrency, PAGE // 2)
        return self.more and not (self.reading or self.stopped) and len(self._queue) < low

    def change(self, endpoint: Endpoint) -> None:
        """The endpoint was saved; applies from the next attempt on."""
        self.endpoint = endpoint
        self.pace.change(endpoint)
        self.ending = False
        self.__dict__.pop("letterhead", None)

    def offer(self, owed: Owed) -> None:
        """A delivery that was just written to the table."""
        if self.more or len(self._arrived) >= MAX_QUEUED or not self._keep(owed):
            # What the table already holds is older and goes first.
            self.more = True
        elif self.reading:
            self._arrived.add(owed.delivery_id)

    def page_limit(self) -> int:
        """How many deliveries to read, so that their data is unlikely to exceed the memory's share."""
        return max(1, min(PAGE, self._memory.free // self._largest))

    def begin_page(self) -> None:
        self.reading = True
        self.more = False
        self._arrived.clear()

    def end_page(self, page: Iterable[Due], *, full: bool) -> None:
        """Take what was read; `full` if the table may hold more of it."""
        self.reading = False
        self.more = self.more or full
        sizes = []
        for due in page:
            if due.delivery_id in self._arrived:
                continue
            owed = Owed.of(due.delivery_id, due.attempts, due.event)
            sizes.append(owed.size)
            if not self._keep(owed):
                self.more = True
                break
        self._arrived.clear()
        if sizes:
            self._largest = max(*sizes, 1)

    def _keep(self, owed: Owed) -> bool:
        """Claim and queue it, or say no. An empty queue takes anything, so that no event is too large to be sent."""
        if owed.delivery_id in self._claimed:
            return True
        if self._queue and (len(self._queue) >= MAX_QUEUED or not self._memory.admits(self.queued_bytes, owed.size)):
            return False
        self._claimed.add(owed.delivery_id)
        self._push(owed)
        return True

    def _push(self, owed: Owed, *, first: bool = False) -> None:
        if first:
            self._queue.appendleft(owed)
        else:
            self._queue.append(owed)
        self.queued_bytes += owed.size
        self._memory.used += owed.size

    def take(self) -> Owed:
        """The next delivery to attempt; it stays claimed."""
        owed = self._queue.popleft()
        self.queued_bytes -= owed.size
        self._memory.used -= owed.size
        return owed

    def put_back(self, owed: Owed) -> None:
        """An attempt that did not come about, for no fault of the endpoint's."""
        if self.endpoint.enabled:
            self._push(owed, first=True)
        else:
            self.release(owed.delivery_id)

    def release(self, delivery_id: str) -> None:
        """Its outcome is in the table, or it was given back to it."""
        self._claimed.discard(delivery_id)
        if delivery_id in self._again:
            self._again.discard(delivery_id)
            self.more = True

    def ask(self) -> None:
        """Somebody changed the table: read it again, also for what is claimed now and will not be then."""
        self.more = True
        self._again = set(self._claimed)

    def drop(self) -> None:
        """Give everything back to the table that is not under way."""
        self.generation += 1
        self.more = False
        self._again.clear()
        while self._queue:
            self._claimed.discard(self.take().delivery_id)
        self.cancel_timer()

    def forget(self, delivery_id: str) -> None:
        """Somebody cancelled it; if its attempt is under way, that goes on."""
        found = next((owed for owed in self._queue if owed.delivery_id == delivery_id), None)
        if found is not None:
            self._queue.remove(found)
            self.queued_bytes -= found.size
            self._memory.used -= found.size
            self._claimed.discard(delivery_id)

    def cancel_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if self.pace_timer is not None:
            self.pace_timer.cancel()
            self.pace_timer = None
