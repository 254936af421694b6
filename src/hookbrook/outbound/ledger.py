"""The ledger: outcomes on their way into the table, many to a transaction.

While one batch is being written, the next collects; so under load a commit is shared by many attempts, and at rest
nothing waits. If the table cannot be written to (the disk is full), outcomes are kept and written when it can be: what
was delivered is not delivered again for want of a record. Whoever makes outcomes must stop at `full`.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from msgspec.structs import replace

from hookbrook.core.delivery import Outcome
from hookbrook.core.event import NewEvent
from hookbrook.errors import StoreError
from hookbrook.outbound.clock import Timers
from hookbrook.outbound.lane import Lane
from hookbrook.outbound.standing import Standing
from hookbrook.store.base import Deliveries

logger = logging.getLogger(__name__)

#: Outcomes that wait for the table, at most; with 16 KiB of each answer captured, 8 MiB. Attempts under way when the
#: limit is reached still end, and come on top. If the process is killed, these are what is sent twice: so not more than
#: a disk that works needs, which takes that many in a few hundredths of a second.
MAX_UNRECORDED: Final = 500
#: Outcomes in one transaction: enough to share a commit, few enough that appends do not wait long behind it.
MAX_BATCH: Final = 250
#: How long an outcome waits for company. Each transaction is a flush of the disk, for which an append then has to wait;
#: and nobody waits for an outcome, except the next delivery of a line.
GATHER_S: Final = 0.005
#: Outcomes that a bug keeps from the table, at most; beyond it the table itself is taken to be at fault.
MAX_SET_ASIDE: Final = 100
#: How long to wait before the table is tried again; doubled each time.
FIRST_PAUSE_S: Final = 0.5
MAX_PAUSE_S: Final = 15.0


class Entry(NamedTuple):
    lane: Lane
    outcome: Outcome
    #: What is told once the outcome is in the table.
    notice: NewEvent | None = None
    #: The delivery is of an operational event, about which no other is raised.
    quiet: bool = False


class Ledger:
    def __init__(
        self,
        deliveries: Deliveries,
        *,
        now: Callable[[], int],
        timers: Timers,
        on_recorded: Callable[[Sequence[Entry]], None],
        standing: Standing,
        limit: int = MAX_UNRECORDED,
    ) -> None:
        """`on_recorded` is called in the event loop with outcomes that the table now holds; it must not raise."""
        self._deliveries = deliveries
        self._standing = standing
        self._now = now
        self._timers = timers
        self._on_recorded = on_recorded
        self._limit = limit
        self._entries: list[Entry] = []
        self._writing = 0
        #: The first so many entries are written one by one, because one of them broke a batch.
        self._suspects = 0
        self._wake = asyncio.Event()
        self._pause_over = asyncio.Event()
        self._closing = False
        #: Something in memory goes on only when what waits is written.
        self._is_awaited = False
        self._task: asyncio.Task[None] | None = None
        #: Times that the table could not be written to.
        self.failures = 0
        #: Outcomes that no attempt at writing brought into the table. Their deliveries stay claimed, and so are not
        #: sent for ever.
        self.set_aside = 0

    @property
    def unrecorded(self) -> int:
        return len(self._entries) + self._writing

    @property
    def full(self) -> bool:
        return len(self._entries) + self._writing >= self._limit

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="hookbrook ledger")

    def add(self, entry: Entry) -> None:
        self._entries.append(entry)
        if entry.lane.endpoint.ordering != "none":
            self._is_awaited = True
        if len(self._entries) == 1:
            self._wake.set()

    async def close(self, timeout_s: float) -> None:
        """Write what waits, for no longer than this, and asking a full disk only once more.

        Deliveries whose outcomes still wait then stay pending in the table, and will be sent again.
        """
        if self._task is None:
            return
        self._closing = True
        self._pause_over.set()
        self._wake.set()
        _, running = await asyncio.wait([self._task], timeout=timeout_s)
        for task in running:
            task.cancel()
            await asyncio.wait([task])
        if self.unrecorded:
            logger.error("%d outcomes could not be recorded; their deliveries will be sent again", self.unrecorded)

    async def _run(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            await self._wake.wait()
            if len(self._entries) < MAX_BATCH and not (self._is_awaited or self._closing):
                await asyncio.sleep(GATHER_S)
            self._is_awaited = False
            batch = self._take()
            if not batch:
                if self._closing:
                    return
                self._wake.clear()
                continue
            left = await self._write(batch)
            self._writing = 0
            self._entries[:0] = left
            if not left:
                pause_s = FIRST_PAUSE_S
            elif not self._suspects:
                if self._closing:
                    return
                await self._pause(pause_s)
                pause_s = min(2 * pause_s, MAX_PAUSE_S)

    def _take(self) -> list[Entry]:
        size = 1 if self._suspects else MAX_BATCH
        batch = self._entries[:size]
        del self._entries[:size]
        self._writing = len(batch)
        return batch

    async def _write(self, batch: list[Entry]) -> list[Entry]:
        """Returns what is still to be written."""
        try:
            changes = self._standing.changes((entry.lane.endpoint.id, entry.outcome) for entry in batch)
            outcomes = [entry.outcome for entry in batch]
            await self._deliveries.record(outcomes, now=self._now(), failing=changes)
        except StoreError as exc:
            self.failures += 1
            self._suspects = 0
            logger.warning("Outcomes of deliveries wait, since the store cannot take them: %s", exc)
            return batch
        except Exception:
            # The boundary of the one task that all lanes depend on: an outcome that cannot be written, by a bug, must
            # not keep all the others from the table.
            self.failures += 1
            logger.exception("%d outcomes could not be recorded", len(batch))
            return self._isolate(batch)
        self._suspects = max(0, self._suspects - len(batch))
        self._writing = 0
        self._standing.apply(changes)
        self._on_recorded(batch)
        return []

    def _isolate(self, batch: list[Entry]) -> list[Entry]:
        """What to try next: each by itself, then without what the receiver said; what still fails is set aside."""
        if len(batch) > 1:
            self._suspects = len(batch)
            return batch
        entry = batch[0]
        bare = _bare(entry.outcome)
        if bare != entry.outcome:
            self._suspects = max(1, self._suspects)
            return [entry._replace(outcome=bare)]
        if self.set_aside >= MAX_SET_ASIDE:
            self._suspects = 0
            return batch
        self.set_aside += 1
        self._suspects = max(0, self._suspects - 1)
        return []

    async def _pause(self, seconds: float) -> None:
        """Wait, unless it is time to close."""
        self._pause_over.clear()
        timer = self._timers.call_later(seconds, self._pause_over.set)
        await self._pause_over.wait()
        timer.cancel()


def _bare(outcome: Outcome) -> Outcome:
    """The outcome without anything that the receiver chose."""
    attempt = replace(outcome.attempt, message=None, response_headers=(), response_body=b"")
    return replace(outcome, attempt=attempt)
