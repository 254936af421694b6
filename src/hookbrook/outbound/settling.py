"""Brings to its end what the change of an endpoint began: see `Settling.settle`.

Step by step and with a pause after each, so that what is published meanwhile waits for one step at the most. How far it
is stands in the table, so a start goes on where a stop, or a crash, has broken it off.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from hookbrook.core.routing import Rerouted, Routes
from hookbrook.errors import StoreError
from hookbrook.store.base import Settling

logger = logging.getLogger(__name__)

#: Deliveries of one step: a transaction of some milliseconds.
STEP: Final = 500
#: Behind a step, so that this takes no more than about half of the disk.
PAUSE_S: Final = 0.01
#: When a step is tried again that the store could not do.
RETRY_S: Final = 5.0


class Settler:
    """All methods belong to one event loop.

    Args:
        poke: tells the dispatcher that an endpoint may have something due.
        clock: wall time in microseconds.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        table: Settling,
        poke: Callable[[str], None],
        *,
        clock: Callable[[], int],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._table = table
        self._poke = poke
        self._clock = clock
        self._sleep = sleep
        self._task: asyncio.Task[None] | None = None
        #: Whose turn it was last.
        self._last = ""
        #: Something changed since the table was last asked.
        self._changed = False
        self._stopped = False

    async def start(self) -> None:
        """Go on with what was not brought to its end."""
        self._look()

    def routes_changed(self, _routes: Routes, changes: Sequence[Rerouted]) -> None:
        """Endpoints were saved or deleted (`Catalog.on_routes`)."""
        if any(before is not None and (after is None or after.enabled != before.enabled) for before, after in changes):
            self._look()

    async def stop(self) -> None:
        """Stop between two steps, or in the middle of one that is then done whole or not at all.

        What changes from now on, such as an endpoint that a last attempt disables, is settled after the next start.
        """
        self._stopped = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    @property
    def at_rest(self) -> bool:
        return self._task is None

    def _look(self) -> None:
        self._changed = True
        if self._task is None and not self._stopped:
            self._task = asyncio.create_task(self._run(), name="hookbrook settling")

    async def _run(self) -> None:
        try:
            while self._changed:
                self._changed = False
                while (pause_s := await self._step()) is not None:
                    await self._sleep(pause_s)
        except Exception:
            # The boundary of a task: what is left to do is found again at the next change, and at the next start.
            logger.exception("What endpoints are owed could not be settled")
        finally:
            self._task = None

    async def _step(self) -> float | None:
        """How long to pause, or None if there is no more to do."""
        try:
            endpoint_id = await self._table.settle(behind=self._last, limit=STEP, now=self._clock())
        except StoreError as exc:
            logger.warning("What endpoints are owed waits for the store: %s", exc)
            return RETRY_S
        if endpoint_id is None:
            return None
        self._last = endpoint_id
        self._poke(endpoint_id)
        return PAUSE_S
