"""The pager: reads due deliveries from the table for the lanes that want a page, a few lanes at a time."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from hookbrook.errors import StoreError
from hookbrook.outbound.lane import Lane, Wish
from hookbrook.store.base import Deliveries, Due

logger = logging.getLogger(__name__)

#: Pages read at once. A start with a hundred thousand endpoints in arrears asks for them in turn.
MAX_READS: Final = 4
#: A lane with attempts under way cannot ask the table when its next delivery is due, since those that are under way
#: are due as well; so it looks again after this long. Below the shortest delay of the default schedule.
RECHECK_US: Final = 2_000_000
#: When to look again after the table could not be read.
RETRY_US: Final = 1_000_000


class Pager:
    def __init__(
        self,
        deliveries: Deliveries,
        *,
        now: Callable[[], int],
        on_page: Callable[[Lane, int | None], None],
    ) -> None:
        """`on_page` is called with a lane after its page was read, and when to wake it next (None: no need)."""
        self._deliveries = deliveries
        self._now = now
        self._on_page = on_page
        self._lanes: OrderedDict[str, Lane] = OrderedDict()
        self._readers: set[asyncio.Task[None]] = set()

    def want(self, lane: Lane) -> None:
        self._lanes[lane.endpoint.id] = lane
        if len(self._readers) < MAX_READS:
            reader = asyncio.create_task(self._read_pages(), name="hookbrook pager")
            self._readers.add(reader)
            reader.add_done_callback(self._readers.discard)

    async def close(self) -> None:
        """Forget who wants a page; wait for those that are being read."""
        self._lanes.clear()
        if self._readers:
            await asyncio.wait(self._readers)

    async def _read_pages(self) -> None:
        while self._lanes:
            _, lane = self._lanes.popitem(last=False)
            if lane.wants_page:
                await self._read_page(lane)

    async def _read_page(self, lane: Lane) -> None:
        generation = lane.generation
        wish = lane.begin_page()
        page: list[Due] = []
        wake_at = None
        try:
            page, wake_at = await self._due(lane, wish)
        except StoreError as exc:
            logger.warning("The deliveries due to %s could not be read: %s", lane.endpoint.id, exc)
            wake_at = self._now() + RETRY_US
        except Exception:
            # The boundary of a task on which other lanes depend.
            logger.exception("The deliveries due to %s could not be read", lane.endpoint.id)
            wake_at = self._now() + RETRY_US
        if lane.generation != generation:
            # The endpoint was disabled meanwhile, and perhaps enabled again: what was read may be held by now.
            page = []
        lane.end_page(page, wish)
        self._on_page(lane, wake_at)

    async def _due(self, lane: Lane, wish: Wish) -> tuple[list[Due], int | None]:
        """A page, and when to wake the lane if that was all."""
        now = self._now()
        claims = lane.claims
        page = await self._deliveries.due(
            lane.endpoint.id, now=now, first=wish.first, retries=wish.retries, excluding=claims
        )
        if claims or page:
            return page, now + RECHECK_US
        next_at = await self._deliveries.next_due_of(lane.endpoint.id)
        # What is due already and yet was not in the page came since; a moment's pause keeps this from being a busy loop
        # should the table ever contradict itself.
        return page, None if next_at is None else max(next_at, now + RETRY_US)
