"""What follows from an outcome beyond its delivery: endpoints are disabled, and people are told what they should know.

Telling must never hold deliveries up, so events wait here for the log, bounded by number. If the log cannot take them
for long (the disk is full), the oldest are dropped and counted: what they tell stands in the tables all the same.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from msgspec.structs import replace

from hookbrook.core.delivery import Happening, NewDelivery, Outcome
from hookbrook.core.endpoint import FAILING, Endpoint
from hookbrook.core.event import Appended, Event, NewEvent
from hookbrook.core.operational import (
    delivery_failed,
    delivery_unfiltered,
    endpoint_disabled,
    endpoint_failing,
    endpoint_recovered,
    is_operational,
)
from hookbrook.errors import Conflict, StoreError
from hookbrook.outbound.clock import Timers
from hookbrook.outbound.lane import Lane, Owed
from hookbrook.outbound.ledger import Entry
from hookbrook.outbound.standing import NOT_ITS_FAULT, Standing

logger = logging.getLogger(__name__)

#: Events that wait for the log; with about 500 bytes each, 5 MB.
MAX_WAITING: Final = 10_000
#: Events in one append.
MAX_BATCH: Final = 100
#: How long to wait after the log could not take them.
PAUSE_S: Final = 5.0


class Catalog(Protocol):
    """As much of `store.catalog` as is needed here."""

    async def save(self, record: Endpoint, /) -> Endpoint: ...

    async def refresh_routes(self) -> object: ...


Append = Callable[[Sequence[NewEvent]], Awaitable[list[Appended]]]


_US: Final = 1_000_000


class Operations:
    """`disable_after_s`: how long nothing must have arrived before an endpoint is disabled; None: it never is."""

    def __init__(
        self,
        catalog: Catalog,
        append: Append,
        *,
        now: Callable[[], int],
        disable_after_s: float | None,
        timers: Timers | None = None,
    ) -> None:
        self.standing = Standing()
        self._disable_after = None if disable_after_s is None else round(disable_after_s * _US)
        self._catalog = catalog
        self._append = append
        self._now = now
        self._timers: Timers = timers or asyncio.get_running_loop()
        self._waiting: deque[NewEvent] = deque()
        self._task: asyncio.Task[None] | None = None
        self._pause_over = asyncio.Event()
        self._closing = False
        #: Events that were dropped, because too many waited.
        self.dropped = 0

    def tell(self, event: NewEvent) -> None:
        """Append it soon."""
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(event)
        if self._task is None and not self._closing:
            self._task = asyncio.create_task(self._tell_all(), name="hookbrook operations")

    def weigh(self, lane: Lane, owed: Owed, outcome: Outcome) -> Entry:
        """The outcome with what follows from it for the endpoint, and what is to be told of it."""
        if outcome.happening is Happening.ACCEPTED:
            since = self.standing.since(lane.endpoint.id)
            return Entry(lane, outcome, None if since is None else self._recovery(lane, owed, since))
        quiet = is_operational(owed.event)
        now = self._now()
        since = None if outcome.attempt.error in NOT_ITS_FAULT else self.standing.since(lane.endpoint.id)
        if since is not None and self._disable_after is not None and outcome.disables is None:
            disabled_at = since + self._disable_after
            # One attempt that fails after a long silence says little; one more, or the last, says enough.
            again = owed.attempts > 0 or outcome.happening is Happening.EXHAUSTED
            if now >= disabled_at and again:
                outcome = replace(outcome, disables=FAILING)
            elif now >= since + self._disable_after // 2 and not quiet and self.standing.warn_once(lane.endpoint.id):
                self.tell(endpoint_failing(lane.endpoint, since, disabled_at=disabled_at, now=now))
        notice = None
        if outcome.happening is Happening.EXHAUSTED and not quiet:
            notice = delivery_failed(lane.endpoint, owed.event, outcome, now=now)
        return Entry(lane, outcome, notice, quiet)

    def _recovery(self, lane: Lane, owed: Owed, since: int) -> NewEvent | None:
        """What is to be told because something has arrived, if the owner had reason to worry."""
        if self._disable_after is None or is_operational(owed.event):
            return None
        now = self._now()
        return endpoint_recovered(lane.endpoint, since, now=now) if now >= since + self._disable_after // 2 else None

    def tell_unfiltered(self, endpoint: Endpoint | None, event: Event, delivery: NewDelivery) -> None:
        """A delivery has failed from the start, because the endpoint's filter did."""
        if endpoint is not None and not is_operational(event):
            self.tell(delivery_unfiltered(endpoint, event, delivery, now=self._now()))

    async def disable(self, endpoint: Endpoint, reason: str, *, quietly: bool) -> None:
        """Disable the endpoint, if it is still as it was when that was decided: a change by its owner is a new chance.

        Raises `StoreError`.
        """
        now, since = self._now(), self.standing.since(endpoint.id)
        disabled = replace(endpoint, enabled=False, disabled_reason=reason, updated=now, revision=endpoint.revision + 1)
        try:
            await self._catalog.save(disabled)
        except Conflict:
            await self._catalog.refresh_routes()
            return
        logger.warning("The endpoint %s is disabled: %s", endpoint.id, reason)
        if not quietly:
            self.tell(endpoint_disabled(disabled, reason, since, now=now))

    async def close(self) -> None:
        """Append what waits, if the log takes it at once."""
        self._closing = True
        self._pause_over.set()
        if self._task is not None:
            await asyncio.wait([self._task])
        if self._waiting:
            await self._tell_some()

    async def _tell_all(self) -> None:
        while self._waiting:
            told = await self._tell_some()
            if not told:
                if self._closing:
                    break
                self._pause_over.clear()
                timer = self._timers.call_later(PAUSE_S, self._pause_over.set)
                await self._pause_over.wait()
                timer.cancel()
        self._task = None

    async def _tell_some(self) -> bool:
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_BATCH))]
        try:
            await self._append(batch)
        except StoreError as exc:
            logger.warning("Operational events wait, since the log cannot take them: %s", exc)
            self._waiting.extendleft(reversed(batch))
            return False
        except Exception:
            # The boundary of a task that goes on: one event that cannot be kept must not stop all others.
            logger.exception("%d operational events could not be appended", len(batch))
        return True
