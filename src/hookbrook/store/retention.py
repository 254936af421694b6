"""Retention: trims the log by age and by count, as a whole and by channel, a little at a time."""

import asyncio
import logging
from collections.abc import Callable, Sequence

from hookbrook.core.retention import Rule
from hookbrook.errors import StoreError
from hookbrook.store.base import ChannelTrim, Log

logger = logging.getLogger("hookbrook.store")

#: Events per step. A step is one transaction, and appends wait for it: 500 deletions take a few milliseconds.
STEP = 500
#: Between steps while there is more to trim, so that trimming takes a small share of the disk.
PAUSE_S = 0.05
#: Between looks while there is nothing to trim.
IDLE_S = 10.0


def _ignore(_seq: int) -> None:
    return None


class Retention:
    """Args: age in seconds and count of events to keep, of the whole log and by rules for each channel; None for no
    such limit. `clock` is in microseconds. `body_age_s` is for how long the data of events is kept, if less long; and
    `forget` is called with a seq up to which no data should be held any more.
    """

    def __init__(
        self,
        log: Log,
        *,
        age_s: float | None,
        count: int | None,
        clock: Callable[[], int],
        rules: Sequence[Rule] = (),
        body_age_s: float | None = None,
        forget: Callable[[int], None] = _ignore,
    ) -> None:
        self._log = log
        self._age_s = age_s
        self._count = count
        self._clock = clock
        self._rules = rules
        self._body_age_s = body_age_s
        self._forget = forget

    async def run(self) -> None:
        """Trim until cancelled. Without any limit there still is the data of deleted channels to be let go."""
        while True:
            try:
                more = await self.step() >= STEP
            except StoreError as exc:
                # The next append will tell the publisher the same; trimming simply comes again.
                logger.warning("trimming waits: %s", exc)
                more = False
            await asyncio.sleep(PAUSE_S if more else IDLE_S)

    async def step(self) -> int:
        """One step; returns how much was done, less than `STEP` when there is no more to do now."""
        channels = [
            ChannelTrim(pattern=rule.channels, appended_before=self._before(rule.age_s), keep=rule.count)
            for rule in self._rules
        ]
        trimmed = await self._log.trim(
            appended_before=self._before(self._age_s), keep=self._count, limit=STEP, channels=channels
        )
        return max(trimmed, await self._expire())

    async def _expire(self) -> int:
        """A step of letting the data of events go; the events stay."""
        before = self._before(self._body_age_s)
        if before is None:
            return 0
        expired = await self._log.expire(appended_before=before, limit=STEP)
        if expired.done:
            self._forget(expired.up_to)
        return expired.done

    def _before(self, age_s: float | None) -> int | None:
        return None if age_s is None else self._clock() - round(age_s * 1_000_000)
