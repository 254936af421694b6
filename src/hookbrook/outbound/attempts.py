"""Attempts: one request of one delivery, and what its answer means for the endpoint's pace."""

import asyncio
import logging
from collections.abc import Callable
from random import Random
from typing import Final

from hookbrook.core.delivery import Outcome
from hookbrook.core.fetch import Fetch, FetchError, LocalFault, ProxyFailed, Request
from hookbrook.core.ids import ID_BYTES, new_id
from hookbrook.outbound.body import Unfit
from hookbrook.outbound.clock import SteadyClock, Timers
from hookbrook.outbound.lane import Lane, Owed
from hookbrook.outbound.standing import NOT_ITS_FAULT
from hookbrook.outbound.verdict import Result, Try, accepted, conclude, slow_down

logger = logging.getLogger(__name__)

_US: Final = 1_000_000


class Attempts:
    """Args:
    fetch: makes the requests.
    wall: microseconds since 1970.
    steady: the same, never going back: what the next attempt is reckoned from.
    """

    def __init__(
        self, fetch: Fetch, *, wall: Callable[[], int], steady: SteadyClock, timers: Timers, rng: Random
    ) -> None:
        self._fetch = fetch
        self._wall = wall
        self._steady = steady
        self._timers = timers
        self._rng = rng
        #: An expression may keep the loop for some ten milliseconds; between two of them all others have a turn.
        self._reshaping = asyncio.Lock()
        #: Attempts that did not come about, for want of a socket or of the proxy.
        self.prevented = 0
        #: Attempts that our own errors ended.
        self.internal_errors = 0

    async def make(self, lane: Lane, owed: Owed) -> Outcome | None:
        """None: our own machine, or the proxy before it, could not even try."""
        started = self._wall()
        begun = self._timers.time()
        endpoint = lane.endpoint
        attempt_id = new_id("att", started, self._rng.randbytes(ID_BYTES))
        result: Result
        try:
            if endpoint.transform is None:
                request = lane.letterhead.request(owed.event, started // _US, attempt_id)
            else:
                request = await self._reshaped(lane, owed, started // _US, attempt_id)
            result = await self._fetch.send(request)
        except (LocalFault, ProxyFailed) as exc:
            logger.warning("Attempts to %s wait: %s", endpoint.id, exc)
            self.prevented += 1
            return None
        except (FetchError, Unfit) as exc:
            result = exc
        except Exception as exc:
            # The boundary of one attempt: a bug, or an endpoint that cannot be sent to, ends this attempt alone.
            logger.exception("An attempt of %s failed within Hookbrook", owed.delivery_id)
            self.internal_errors += 1
            result = exc
        duration = round((self._timers.time() - begun) * _US)
        done = Try(
            id=attempt_id,
            delivery_id=owed.delivery_id,
            number=owed.attempts + 1,
            started=started,
            duration=duration,
            result=result,
        )
        outcome = accepted(done)
        if outcome is not None:
            lane.pace.arrived()
            return outcome
        outcome = conclude(done, endpoint, now=self._steady.now(), rng=self._rng)
        if outcome.attempt.error not in NOT_ITS_FAULT:
            self._slow_down(lane, done, begun)
        return outcome

    async def _reshaped(self, lane: Lane, owed: Owed, sent_at: int, attempt_id: str) -> Request:
        async with self._reshaping:
            await asyncio.sleep(0)
            return lane.letterhead.request(owed.event, sent_at, attempt_id)

    def _slow_down(self, lane: Lane, done: Try, begun: float) -> None:
        """Let the lane's pace follow from what the receiver did not take."""
        now = self._timers.time()
        lane.pace.failed(now)
        asks, retry_after_s = slow_down(done)
        if asks:
            lane.pace.slow_down(begun, now, retry_after_s)
