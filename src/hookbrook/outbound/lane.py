"""One endpoint's lane: what is known in memory of what it is owed, and what it has under way.

A lane decides nothing about time and does no I/O; the dispatcher drives it. It exists only while there is something to
do for its endpoint, so that an endpoint at rest costs nothing.

**Claims.** A delivery is *claimed* from the moment it is in memory until its outcome is in the table. What is claimed
is neither taken from memory nor read from the table a second time, so nothing is attempted twice at once, nor again
because the record of the first attempt is late.

**Lines.** Where an endpoint asks for order, the table says what is first in each line, and nothing else of the line is
taken while that is claimed.

**The table is the truth.** Memory spares a read and is never needed: where it has no room, the lane notes that the
table holds more (`more`) and pages it in later.

**Fair shares.** Slots and memory are shared by all lanes. A lane may hold at most as much as is still free (dynamic
thresholds, Choudhury and Hahne 1998): one busy lane gets half of everything, n of them leave 1/(n+1) free, and so the
lane of a healthy endpoint finds room although a thousand others hang.

**Fresh before stale.** First attempts and retries have a queue each, are paged in apart, and retries never hold more
than half of the lane's slots; so a flood of retries, however slowly they fail, delays no fresh event. Where both wait,
every fourth goes to a retry, so that a flood of fresh events does not starve them either.
"""

from collections import deque
from collections.abc import Sequence
from functools import cached_property
from typing import Final, NamedTuple

import msgspec

from hookbrook.core.endpoint import Endpoint
from hookbrook.core.event import Event
from hookbrook.outbound.clock import Timer
from hookbrook.outbound.message import Letterhead
from hookbrook.outbound.pace import Pace
from hookbrook.store.base import Due

#: Deliveries of one endpoint known in memory and not under way. Two seconds of work at 500 a second; beyond it, paging
#: costs little against sending.
MAX_QUEUED: Final = 1000
#: Deliveries read from the table at once; some milliseconds of the store's time.
PAGE: Final = 400
#: Bytes of memory that a delivery takes beside its event's data: its id, its claim, and an event of its own, since each
#: page is decoded apart. Measured as resident memory over 20,000 of them; one whose event others hold too takes less.
OVERHEAD: Final = 1024
#: What an event is taken to weigh until the first of a lane was seen: about the largest that publishers may send.
UNKNOWN_SIZE: Final = 1 << 20
#: While first attempts wait too, one in so many slots goes to a retry.
RETRY_SHARE: Final = 4


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
    event: Event
    #: Bytes that it holds in memory.
    size: int
    #: What else is in this line waits until this has ended.
    line: str | None = None

    @classmethod
    def of(cls, delivery_id: str, attempts: int, event: Event, line: str | None = None) -> "Owed":
        size = OVERHEAD + len(event.data) + (len(event.request) if event.request else 0)
        return cls(delivery_id=delivery_id, attempts=attempts, event=event, size=size, line=line)


class Wish(NamedTuple):
    """How many deliveries a lane wants to be read."""

    first: int
    retries: int


class Queue:
    """Deliveries of one kind, known in memory and not under way."""

    __slots__ = ("bytes", "entries", "more")

    def __init__(self) -> None:
        self.entries: deque[Owed] = deque()
        self.bytes = 0
        #: The table may hold due deliveries of the kind that are not claimed.
        self.more = False


class Lane:
    """See the module."""

    def __init__(self, endpoint: Endpoint, memory: Pool, pace: Pace) -> None:
        self.endpoint = endpoint
        self.pace = pace
        #: Wakes the lane when its pace lets it go on.
        self.pace_timer: Timer | None = None
        #: A page is being read.
        self.reading = False
        #: Attempts under way, and how many of them are retries.
        self.running = 0
        self.retrying = 0
        #: Nothing is started for a moment, because our own machine could not.
        self.paused = False
        #: How often in a row it could not.
        self.faults = 0
        #: The endpoint is about to be disabled, unless somebody changes it first.
        self.ending = False
        #: Wakes the lane when its next delivery is due, at `timer_at`.
        self.timer: Timer | None = None
        self.timer_at = 0
        #: Counts what makes a page that is being read worthless: disabling and enabling.
        self.generation = 0
        self._memory = memory
        self._first = Queue()
        self._retries = Queue()
        #: First attempts taken since a retry was, while one waited.
        self._passed_over = 0
        #: Claimed deliveries with their lines.
        self._claimed: dict[str, str | None] = {}
        #: Of those, the lines. Of one line nothing is begun while anything of it is claimed.
        self._lines: set[str] = set()
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
        return len(self._first.entries) + len(self._retries.entries)

    @property
    def queued_bytes(self) -> int:
        return self._first.bytes + self._retries.bytes

    @property
    def more(self) -> bool:
        """The table may hold due deliveries that are not claimed."""
        return self._first.more or self._retries.more

    def look(self) -> None:
        """The table may hold something due, of either kind."""
        self._first.more = self._retries.more = True

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
        return self.pace.room

    @property
    def wants_slot(self) -> bool:
        return self.has_next and self.running < self.room and not self.stopped

    @property
    def has_next(self) -> bool:
        """Whether something waits that may have a slot."""
        return bool(self._first.entries) or self._may_retry

    @property
    def _may_retry(self) -> bool:
        return bool(self._retries.entries) and self.retrying < max(1, self.room // 2)

    @property
    def wants_page(self) -> bool:
        """Early enough that the next page is there before the last one is used up."""
        first, retries = self._first, self._retries
        if self.reading or not (first.more or retries.more) or self.stopped:
            return False
        return self._lacks(first) or self._lacks(retries)

    def _lacks(self, queue: Queue) -> bool:
        """Whether more of its kind should be read now; not if there was no room for what is read."""
        if not queue.more:
            return False
        known = len(queue.entries)
        few = known < PAGE // 2 and known < 2 * self.endpoint.concurrency
        return few and (not known or self._admits(queue, self._largest))

    def change(self, endpoint: Endpoint) -> None:
        """The endpoint was saved; applies from the next attempt on. What is not under way is given back to the table if
        the endpoint is disabled now, or orders its deliveries in another way."""
        reordered = endpoint.ordering != self.endpoint.ordering
        self.endpoint = endpoint
        self.pace.change(endpoint)
        self.ending = False
        self.__dict__.pop("letterhead", None)
        if reordered or not endpoint.enabled:
            self.drop()
        if reordered and endpoint.enabled:
            self.look()

    def offer(self, owed: Owed) -> None:
        """A delivery that was just written to the table."""
        in_line = owed.line is not None
        if in_line or self._first.more or len(self._arrived) >= MAX_QUEUED or not self._keep(owed):
            # What the table already holds is older and goes first; and only the table knows who is first in a line.
            self._first.more = True
        elif self.reading:
            self._arrived.add(owed.delivery_id)

    def begin_page(self) -> Wish:
        """How many deliveries to read, so that their data is unlikely to exceed the memory's share."""
        limit = max(1, min(PAGE, self._memory.free // (2 * self._largest)))
        wish = Wish(*(limit if self._lacks(queue) else 0 for queue in (self._first, self._retries)))
        self.reading = True
        self._first.more = self._first.more and not wish.first
        self._retries.more = self._retries.more and not wish.retries
        self._arrived.clear()
        return wish

    def end_page(self, page: Sequence[Due], wish: Wish) -> None:
        """Take what was read. As many as were wished for: the table may hold more of them."""
        self.reading = False
        retries = sum(due.attempts > 0 for due in page)
        self._first.more |= 0 < wish.first <= len(page) - retries
        self._retries.more |= 0 < wish.retries <= retries
        sizes = []
        for due in page:
            if due.delivery_id in self._arrived:
                continue
            owed = Owed.of(due.delivery_id, due.attempts, due.event, due.line)
            sizes.append(owed.size)
            if not self._keep(owed):
                self._queue_of(owed).more = True
        self._arrived.clear()
        if sizes:
            self._largest = max(*sizes, 1)

    def _keep(self, owed: Owed) -> bool:
        """Claim and queue it, or say no. An empty queue takes anything, so that no event is too large to be sent."""
        if owed.delivery_id in self._claimed or owed.line in self._lines:
            return True
        queue = self._queue_of(owed)
        if queue.entries and (len(queue.entries) >= MAX_QUEUED or not self._admits(queue, owed.size)):
            return False
        self._claimed[owed.delivery_id] = owed.line
        if owed.line is not None:
            self._lines.add(owed.line)
        self._push(queue, owed)
        return True

    def _admits(self, queue: Queue, size: int) -> bool:
        # Retries leave half of the lane's share to first attempts.
        held = self.queued_bytes if queue is self._first else self.queued_bytes + self._retries.bytes
        return self._memory.admits(held, size)

    def _queue_of(self, owed: Owed) -> Queue:
        return self._retries if owed.attempts else self._first

    def _push(self, queue: Queue, owed: Owed, *, front: bool = False) -> None:
        if front:
            queue.entries.appendleft(owed)
        else:
            queue.entries.append(owed)
        queue.bytes += owed.size
        self._memory.used += owed.size

    def take(self) -> Owed:
        """The next delivery to attempt; it stays claimed. Whoever takes it says when it is `over`."""
        queue = self._first
        if self._may_retry and (not self._first.entries or self._passed_over >= RETRY_SHARE - 1):
            queue = self._retries
            self.retrying += 1
        self._passed_over = self._passed_over + 1 if queue is self._first and self._retries.entries else 0
        return self._pop(queue)

    def _pop(self, queue: Queue) -> Owed:
        owed = queue.entries.popleft()
        queue.bytes -= owed.size
        self._memory.used -= owed.size
        return owed

    def over(self, owed: Owed) -> None:
        """What was taken is no longer under way."""
        if owed.attempts:
            self.retrying -= 1

    def put_back(self, owed: Owed) -> None:
        """An attempt that did not come about, for no fault of the endpoint's."""
        if self.endpoint.enabled:
            self._push(self._queue_of(owed), owed, front=True)
        else:
            self.release(owed.delivery_id)

    def release(self, delivery_id: str) -> None:
        """Its outcome is in the table, or it was given back to it."""
        in_line = self._unclaim(delivery_id) is not None
        if in_line or delivery_id in self._again:
            self._again.discard(delivery_id)
            self.look()

    def _unclaim(self, delivery_id: str) -> str | None:
        """The line of what was claimed; the next in it may be due now."""
        line = self._claimed.pop(delivery_id, None)
        if line is not None:
            self._lines.discard(line)
        return line

    def ask(self) -> None:
        """Somebody changed the table: read it again, also for what is claimed now and will not be then."""
        self.look()
        self._again = set(self._claimed)

    def drop(self) -> None:
        """Give everything back to the table that is not under way."""
        self.generation += 1
        self._again.clear()
        for queue in (self._first, self._retries):
            queue.more = False
            while queue.entries:
                self._unclaim(self._pop(queue).delivery_id)
        self.cancel_timer()

    def forget(self, delivery_id: str) -> None:
        """Somebody cancelled it; if its attempt is under way, that goes on."""
        for queue in (self._first, self._retries):
            found = next((owed for owed in queue.entries if owed.delivery_id == delivery_id), None)
            if found is not None:
                queue.entries.remove(found)
                queue.bytes -= found.size
                self._memory.used -= found.size
                self.release(delivery_id)

    def cancel_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if self.pace_timer is not None:
            self.pace_timer.cancel()
            self.pace_timer = None
