"""The one way into the log: match the events with the routes, append them with what they owe, tell the dispatcher.

Matching happens outside the store's lock, against the routes held in memory. If those turn out to be old, the store
refuses the append, the routes are read anew and the events are matched again.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from functools import partial

from hookbrook.core.delivery import NewDelivery
from hookbrook.core.entropy import Entropy
from hookbrook.core.event import Appended, NewEvent
from hookbrook.errors import StaleRouting
from hookbrook.store.base import Log
from hookbrook.store.catalog import Catalog
from hookbrook.store.matcher import Matcher

#: Called in the event loop after the commit, for each new event that is owed to somebody.
OwedListener = Callable[[NewEvent, Appended, Sequence[NewDelivery]], None]

#: Endpoints would have to change between every match and append for this not to suffice.
MAX_MATCHES = 20


class Appender:
    """Every publish, every webhook and every operational event goes through `append`."""

    def __init__(self, log: Log, catalog: Catalog, clock: Callable[[], int]) -> None:
        self._log = log
        self._catalog = catalog
        self._matcher = Matcher(clock, Entropy(os.urandom))
        self._listener: OwedListener | None = None

    def on_owed(self, listener: OwedListener) -> None:
        self._listener = listener

    def begin(self, events: Sequence[NewEvent]) -> "asyncio.Future[list[Appended]] | None":
        """As `append`, begun in this very step; None if something must be awaited or matched before.

        A failed one left nothing behind.
        """
        routes = self._catalog.routes
        owed = self._matcher.match_now(events, routes) if routes.by_id else ((),) * len(events)
        if owed is None:
            return None
        begun = self._log.append(events, owed, routes.version)
        if not isinstance(begun, asyncio.Future):
            begun = asyncio.ensure_future(begun)
        if any(owed):
            begun.add_done_callback(partial(self._begun_is_done, events, owed))
        return begun

    def _begun_is_done(
        self,
        events: Sequence[NewEvent],
        owed: Sequence[Sequence[NewDelivery]],
        begun: "asyncio.Future[list[Appended]]",
    ) -> None:
        if not begun.cancelled() and begun.exception() is None:
            self._tell(events, begun.result(), owed)

    async def append(self, events: Sequence[NewEvent]) -> list[Appended]:
        """Append all or none; durable when it returns. Raises what `Log.append` raises, except `StaleRouting`."""
        for attempt in range(1, MAX_MATCHES + 1):
            routes = self._catalog.routes
            # Of the beginning: while filters give others a turn, the routes are changed in place.
            version = routes.version
            owed = await self._matcher.match(events, routes) if routes.by_id else None
            try:
                appended = await self._log.append(events, owed or ((),) * len(events), version)
            except StaleRouting:
                if attempt == MAX_MATCHES:
                    raise
                await self._catalog.refresh_routes()
                continue
            if owed is not None:
                self._tell(events, appended, owed)
            break
        return appended

    async def append_for(self, event: NewEvent, endpoint_id: str) -> str | None:
        """Append an event that is owed to that endpoint and to no other; the id of its delivery, or None if there is no
        such endpoint. Raises as `append`."""
        for attempt in range(1, MAX_MATCHES + 1):
            routes = self._catalog.routes
            endpoint = routes.by_id.get(endpoint_id)
            if endpoint is None:
                return None
            owed = [[self._matcher.owe(event, endpoint)]]
            try:
                appended = await self._log.append([event], owed, routes.version)
            except StaleRouting:
                if attempt == MAX_MATCHES:
                    raise
                await self._catalog.refresh_routes()
                continue
            self._tell([event], appended, owed)
            return owed[0][0].id
        return None

    def _tell(
        self, events: Sequence[NewEvent], appended: Sequence[Appended], owed: Sequence[Sequence[NewDelivery]]
    ) -> None:
        if self._listener is not None:
            for event, result, deliveries in zip(events, appended, owed, strict=True):
                if deliveries and not result.duplicate:
                    self._listener(event, result, deliveries)
