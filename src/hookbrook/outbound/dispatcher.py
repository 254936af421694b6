"""The dispatcher: sends what is owed, at once if it can, later by the schedule, and at least once.

    append ──offer──┐                               ┌── slots ──► attempt ──► fetch ──► the receiver
    the table ─page─┴─► lane of the endpoint (queue)┘                │
        ▲                                                            ▼
        └───────────────── ledger (batches) ◄──────────────────── outcome

The table of deliveries is the truth. A delivery reaches its lane from memory right after the commit, or from the table
when its retry is due, when memory had no room for it, and after a restart. Whatever wakes a lane (a timer, a change of
its endpoint, a person's resend, the sweep) only says that the table may hold something due; the lane then reads.

- Nothing is attempted twice at once: see *claims* in `lane`.
- Nothing is forgotten: what is not claimed is in the table, and a sweep asks it every minute for whatever is due,
  which also heals a clock that was set.
- One slow or failing receiver keeps its own slots busy and nobody else's: see *fair shares* in `lane`.
- Nobody is sent to faster than he asked for, or can bear: see `pace`.
- Who is beyond help is left alone: see `operations`, which also says when an endpoint is disabled.
- Memory is bounded: queues by count and bytes, outcomes that wait for the disk by count, attempts by slots.

All methods belong to one event loop.
"""

import asyncio
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from msgspec.structs import replace

from hookbrook.core.delivery import Happening, NewDelivery
from hookbrook.core.endpoint import Endpoint
from hookbrook.core.event import Appended, NewEvent, as_event
from hookbrook.core.fetch import Fetch
from hookbrook.core.routing import Rerouted, Routes
from hookbrook.errors import StoreError
from hookbrook.outbound.attempts import Attempts
from hookbrook.outbound.clock import SteadyClock, Timer, Timers
from hookbrook.outbound.lane import Lane, Owed, Pool
from hookbrook.outbound.ledger import MAX_UNRECORDED, Entry, Ledger
from hookbrook.outbound.operations import Operations
from hookbrook.outbound.pace import Pace
from hookbrook.outbound.pager import Pager
from hookbrook.outbound.stats import Stats
from hookbrook.store.base import Deliveries

logger = logging.getLogger(__name__)

#: Attempts under way at once, over all endpoints; each has a connection. The usual limit of open files is 1,024.
MAX_IN_FLIGHT: Final = 1000
#: Bytes that the deliveries in queues take, over all endpoints.
MAX_QUEUED_BYTES: Final = 64 << 20
#: How often the table is asked for everything that is due.
SWEEP_S: Final = 60.0
#: Timers round; one that fired a microsecond early would find nothing due.
TIMER_SLACK_US: Final = 1000
#: How long a lane waits after our own machine could not make a connection (no file or port left, no proxy); doubled
#: each time that it still cannot.
LOCAL_FAULT_PAUSE_S: Final = 1.0
MAX_LOCAL_FAULT_PAUSE_S: Final = 30.0
#: When disabling an endpoint is tried again after the store could not.
DISABLE_RETRY_S: Final = 5.0
#: What stopping grants the ledger at least.
MIN_FLUSH_S: Final = 2.0

_US: Final = 1_000_000


class Dispatcher:
    """See the module.

    Args:
        deliveries: the table.
        fetch: makes the requests.
        operations: disables endpoints and tells what people should know.
        clock: wall time in microseconds.
        rng: for jitter and the ids of attempts.
        timers: the running event loop if None; must be given when the dispatcher is made outside of it.
        max_in_flight: attempts under way at once, over all endpoints.
        max_queued_bytes: bytes that the deliveries in queues take, over all endpoints.
        max_unrecorded: outcomes that wait for the table, above which no attempt is begun.
    """

    def __init__(
        self,
        deliveries: Deliveries,
        fetch: Fetch,
        operations: Operations,
        *,
        clock: Callable[[], int],
        rng: Random,
        timers: Timers | None = None,
        max_in_flight: int = MAX_IN_FLIGHT,
        max_queued_bytes: int = MAX_QUEUED_BYTES,
        max_unrecorded: int = MAX_UNRECORDED,
    ) -> None:
        self._deliveries = deliveries
        self._operations = operations
        self._now = clock
        self._timers: Timers = timers or asyncio.get_running_loop()
        self._steady = SteadyClock(clock, self._timers)
        self._attempts = Attempts(fetch, wall=clock, steady=self._steady, timers=self._timers, rng=rng)
        self._slots = Pool(max_in_flight)
        self._memory = Pool(max_queued_bytes)
        self._ledger = Ledger(
            deliveries,
            now=clock,
            timers=self._timers,
            on_recorded=self._recorded,
            standing=operations.standing,
            limit=max_unrecorded,
        )
        self._pager = Pager(deliveries, now=self._steady.now, on_page=self._page_read)
        self._routes = Routes(0, ())
        #: Those with something to do, by endpoint.
        self._lanes: dict[str, Lane] = {}
        #: Of endpoints without a lane, as far as there is something to remember.
        self._paces: dict[str, Pace] = {}
        #: Those that want a slot that is not theirs to take; first come, first served.
        self._waiting: OrderedDict[str, Lane] = OrderedDict()
        self._workers: set[asyncio.Task[None]] = set()
        #: Endpoints that are being disabled.
        self._disabling: set[str] = set()
        self._running = False
        self._sweep_timer: Timer | None = None
        self._sweep_task: asyncio.Task[None] | None = None
        self._outcomes: Counter[Happening] = Counter()
        self._internal_errors = 0

    # What others tell it.

    async def start(self) -> None:
        """Begin with what the table says is due. The routes must be known by now. Raises `StoreError`."""
        self._running = True
        self._operations.standing.load(await self._deliveries.failing())
        self._ledger.start()
        await self._look_at_all()
        self._plan_sweep()

    def offer(self, new_event: NewEvent, appended: Appended, owed: Sequence[NewDelivery]) -> None:
        """New deliveries, just committed (`Appender.on_owed`). Cheap, and remembers no more than memory allows."""
        if not self._running:
            return
        event = as_event(new_event, appended, self._now())
        for new in owed:
            if new.failed is not None:
                self._operations.tell_unfiltered(self._routes.by_id.get(new.endpoint_id), event, new)
                continue
            lane = None if new.held else self._lane(new.endpoint_id)
            if lane is not None:
                lane.offer(Owed.of(new.id, 0, event, new.line))
                self._pump(lane)

    def routes_changed(self, routes: Routes, changes: Sequence[Rerouted]) -> None:
        """Endpoints were saved or deleted (`Catalog.on_routes`)."""
        self._routes = routes
        for change in changes:
            before, after = change
            if before is None:
                continue
            lane = self._lanes.get(change.id)
            if lane is not None:
                self._change(lane, after or replace(lane.endpoint, enabled=False))
            elif after is not None and after.revision != before.revision:
                # Its own limits apply from now on, and it gets a new chance.
                self._paces.pop(change.id, None)
            if after is None:
                self._operations.standing.forget(change.id)
                self._paces.pop(change.id, None)
            elif after.enabled and not before.enabled:
                self._operations.standing.forget(change.id)
                self.poke(change.id)

    def _change(self, lane: Lane, endpoint: Endpoint) -> None:
        if endpoint.revision != lane.endpoint.revision or endpoint.enabled != lane.endpoint.enabled:
            lane.change(endpoint)
            self._pump(lane)

    def poke(self, endpoint_id: str) -> None:
        """A person changed what the endpoint is owed (a resend): read the table again."""
        lane = self._lane(endpoint_id) if self._running else None
        if lane is not None:
            lane.ask()
            self._pump(lane)

    def forget(self, endpoint_id: str, delivery_id: str) -> None:
        """A person cancelled a delivery: it is not begun any more; if an attempt is under way, that goes on."""
        lane = self._lanes.get(endpoint_id)
        if lane is not None:
            lane.forget(delivery_id)
            self._pump(lane)

    async def stop(self, grace_s: float) -> None:
        """Begin no attempt any more, let those under way end within the grace, and record what came of them.

        An attempt that does not end in time is broken off; its delivery stays pending, and is sent again after a start.
        """
        self._running = False
        deadline = asyncio.get_running_loop().time() + grace_s
        self._cancel_timers()
        if self._workers:
            _, late = await asyncio.wait(self._workers, timeout=grace_s)
            for worker in late:
                worker.cancel()
            if late:
                logger.warning("%d attempts did not end within %g s; they will be made again", len(late), grace_s)
                await asyncio.wait(late)
        await self._pager.close()
        if self._sweep_task is not None:
            await asyncio.wait([self._sweep_task])
        left = deadline - asyncio.get_running_loop().time()
        await self._ledger.close(max(MIN_FLUSH_S, left))

    def stats(self) -> Stats:
        return Stats(
            lanes=len(self._lanes),
            in_flight=self._slots.used,
            queued=sum(lane.queued for lane in self._lanes.values()),
            queued_bytes=self._memory.used,
            unrecorded=self._ledger.unrecorded,
            outcomes=dict(self._outcomes),
            internal_errors=self._internal_errors + self._attempts.internal_errors,
            prevented=self._attempts.prevented,
            record_failures=self._ledger.failures,
            set_aside=self._ledger.set_aside,
        )

    # Lanes.

    def _lane(self, endpoint_id: str) -> Lane | None:
        """The endpoint's lane, or None if nothing may be sent to it."""
        lane = self._lanes.get(endpoint_id)
        if lane is None:
            endpoint = self._routes.by_id.get(endpoint_id)
            if endpoint is None or not endpoint.enabled:
                return None
            pace = self._paces.pop(endpoint_id, None)
            if pace is None:
                pace = Pace(endpoint)
            lane = self._lanes[endpoint_id] = Lane(endpoint, self._memory, pace)
        return lane if lane.endpoint.enabled else None

    @property
    def _open(self) -> bool:
        """Whether attempts may be begun at all."""
        return self._running and not self._ledger.full

    def _pump(self, lane: Lane) -> None:
        """Begin what the lane may begin, see that it gets what it lacks, and let go of it if it has nothing to do."""
        while lane.wants_slot and not self._must_wait(lane, self._timers.time()):
            if not (self._open and self._slots.admits(lane.running, 1)):
                self._waiting[lane.endpoint.id] = lane
                return
            self._begin(lane, lane.take())
        if lane.wants_page:
            if self._open and self._slots.admits(lane.running, 1):
                self._pager.want(lane)
            else:
                # Data is read only when it can be sent soon.
                self._waiting[lane.endpoint.id] = lane
        elif lane.idle and self._lanes.get(lane.endpoint.id) is lane:
            del self._lanes[lane.endpoint.id]
            if not lane.pace.at_rest(self._timers.time()):
                self._paces[lane.endpoint.id] = lane.pace

    def _must_wait(self, lane: Lane, now: float) -> bool:
        """Whether its pace forbids a request now; the lane is then woken when it does no more."""
        wait_s = lane.pace.wait(now)
        if wait_s <= 0:
            return False
        if lane.pace_timer is None:
            lane.pace_timer = self._timers.call_later(wait_s + TIMER_SLACK_US / _US, lambda: self._resume(lane))
        return True

    def _resume(self, lane: Lane) -> None:
        lane.pace_timer = None
        self._pump(lane)

    def _serve_waiting(self) -> None:
        for _ in range(len(self._waiting)):
            if not (self._open and self._slots.free):
                return
            _, lane = self._waiting.popitem(last=False)
            self._pump(lane)

    def _page_read(self, lane: Lane, wake_at: int | None) -> None:
        if wake_at is not None:
            self._wake(lane, wake_at)
        self._pump(lane)

    def _wake(self, lane: Lane, at: int) -> None:
        """Let the lane read the table then; what is due after the next sweep, the sweep will find."""
        left = at - self._steady.now()
        delay_s = (left + TIMER_SLACK_US) / _US if left > 0 else 0.0
        if not (self._running and lane.endpoint.enabled) or delay_s > SWEEP_S:
            return
        if lane.timer is not None:
            if lane.timer_at <= at:
                return
            lane.timer.cancel()
        lane.timer_at = at
        lane.timer = self._timers.call_later(delay_s, lambda: self._woken(lane))

    def _woken(self, lane: Lane) -> None:
        lane.timer = None
        lane.look()
        self._pump(lane)

    # Attempts.

    def _begin(self, lane: Lane, owed: Owed) -> None:
        lane.running += 1
        lane.pace.begin(self._timers.time())
        self._slots.used += 1
        worker = asyncio.create_task(self._work(lane, owed), name="hookbrook attempts")
        self._workers.add(worker)
        worker.add_done_callback(self._workers.discard)

    async def _work(self, lane: Lane, first: Owed) -> None:
        """One slot of a lane: attempt after attempt, as long as there is something to do."""
        owed: Owed | None = first
        try:
            while owed is not None:
                try:
                    outcome = await self._attempts.make(lane, owed)
                finally:
                    lane.over(owed)
                if outcome is None:
                    self._pause(lane)
                    break
                lane.faults = 0
                self._outcomes[outcome.happening] += 1
                entry = self._operations.weigh(lane, owed, outcome)
                lane.ending = lane.ending or entry.outcome.disables is not None
                self._ledger.add(entry)
                owed = self._next(lane)
        except Exception:
            # The boundary of a worker. What it could not conclude was perhaps sent, and is sent again: not at once.
            logger.exception("A slot of %s failed within Hookbrook", lane.endpoint.id)
            self._internal_errors += 1
            self._pause(lane)
        finally:
            if owed is not None:
                # Not attempted, or broken off by a stop.
                lane.put_back(owed)
            lane.running -= 1
            self._slots.used -= 1
            self._serve_waiting()
            self._pump(lane)

    def _next(self, lane: Lane) -> Owed | None:
        """The next delivery for a slot of the lane, or None if the slot is not the lane's to keep."""
        slots = self._slots
        others_wait = self._waiting and not slots.free
        if not self._open or others_wait or not slots.admits(lane.running - 1, 0):
            return None
        now = self._timers.time()
        if lane.stopped or lane.running > lane.room or not lane.has_next or self._must_wait(lane, now):
            return None
        lane.pace.begin(now)
        owed = lane.take()
        if lane.wants_page:
            self._pager.want(lane)
        return owed

    def _pause(self, lane: Lane) -> None:
        def resume() -> None:
            lane.paused = False
            self._pump(lane)

        if not lane.paused:
            lane.paused = True
            self._timers.call_later(min(LOCAL_FAULT_PAUSE_S * 2**lane.faults, MAX_LOCAL_FAULT_PAUSE_S), resume)
            lane.faults = min(lane.faults + 1, 10)

    def _recorded(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            lane, outcome = entry.lane, entry.outcome
            lane.release(outcome.attempt.delivery_id)
            if outcome.next_at is not None:
                self._wake(lane, outcome.next_at)
            if entry.notice is not None:
                self._operations.tell(entry.notice)
            if outcome.disables is not None and lane.ending:
                self._disable(entry)
        for lane in {entry.lane for entry in entries}:
            self._pump(lane)
        self._serve_waiting()

    def _disable(self, entry: Entry) -> None:
        """Now that the table has what the decision was made on."""
        endpoint_id = entry.lane.endpoint.id
        if self._running and endpoint_id not in self._disabling:
            self._disabling.add(endpoint_id)
            task = asyncio.create_task(self._disable_now(entry), name="hookbrook disabling")
            self._workers.add(task)
            task.add_done_callback(self._workers.discard)

    async def _disable_now(self, entry: Entry) -> None:
        lane, reason = entry.lane, entry.outcome.disables
        assert reason is not None
        try:
            await self._operations.disable(lane.endpoint, reason, quietly=entry.quiet)
        except StoreError as exc:
            logger.warning("The endpoint %s cannot be disabled yet: %s", lane.endpoint.id, exc)
            self._timers.call_later(DISABLE_RETRY_S, lambda: self._disable(entry))
            return
        finally:
            self._disabling.discard(lane.endpoint.id)
        lane.ending = False
        self._pump(lane)

    # The sweep.

    async def _look_at_all(self) -> None:
        """Wake the lanes of all endpoints that the table says are due, now or before the next sweep."""
        due = await self._deliveries.next_due()
        horizon = self._steady.now() + round(SWEEP_S * _US)
        now = self._timers.time()
        self._paces = {key: pace for key, pace in self._paces.items() if not pace.at_rest(now)}
        for endpoint_id, at in due.items():
            lane = self._lane(endpoint_id) if at <= horizon else None
            if lane is not None:
                self._wake(lane, at)

    def _plan_sweep(self) -> None:
        def begin() -> None:
            self._sweep_task = asyncio.create_task(self._sweep(), name="hookbrook sweep")

        if self._running:
            self._sweep_timer = self._timers.call_later(SWEEP_S, begin)

    async def _sweep(self) -> None:
        try:
            await self._look_at_all()
        except StoreError as exc:
            logger.warning("The table of deliveries could not be read, and will be in %g s: %s", SWEEP_S, exc)
        except Exception:
            # The boundary of a task that must come back every minute.
            logger.exception("The table of deliveries could not be read")
        finally:
            self._plan_sweep()

    def _cancel_timers(self) -> None:
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        for lane in self._lanes.values():
            lane.cancel_timer()
