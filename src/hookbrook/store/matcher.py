"""The matcher: which deliveries an event owes, by patterns and then by the endpoints' filters.

A filter is somebody else's program, though one with a budget. Many of them, or a batch of events, may add up to more
than the event loop can be kept from everybody else; so after a little work the matcher lets all others go first, and
all matches that have gone so far take turns, one piece of work at a time.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from msgspec.structs import replace

from hookbrook.core.delivery import NewDelivery
from hookbrook.core.endpoint import Endpoint
from hookbrook.core.event import NewEvent
from hookbrook.core.filter import Sieve
from hookbrook.core.ids import ID_BYTES, new_id
from hookbrook.core.routing import Routes
from hookbrook.errors import Invalid

#: Steps of expressions (`core.expression`) at a stretch, about a millisecond: filters as people write them have some
#: tens, so that most events are matched at once.
STRETCH: Final = 2_000


class Matcher:
    """`clock` is microseconds since 1970, `random` makes so many bytes."""

    def __init__(self, clock: Callable[[], int], random: Callable[[int], bytes]) -> None:
        self._clock = clock
        self._random = random
        self._turn = asyncio.Lock()

    def match_now(self, events: Sequence[NewEvent], routes: Routes) -> list[Sequence[NewDelivery]] | None:
        """As `match`, in one step; None if there is a filter to be asked."""
        owed: list[Sequence[NewDelivery]] = []
        for event in events:
            endpoints = routes.owed(event.tenant, event.channels, event.type)
            if any(endpoint.filter for endpoint in endpoints):
                return None
            owed.append([self._delivery(event, endpoint) for endpoint in endpoints])
        return owed

    async def match(self, events: Sequence[NewEvent], routes: Routes) -> list[Sequence[NewDelivery]]:
        """What each event owes, against these routes."""
        owed: list[Sequence[NewDelivery]] = []
        done = 0
        for event in events:
            endpoints = routes.owed(event.tenant, event.channels, event.type)
            if not any(endpoint.filter for endpoint in endpoints):
                owed.append([self._delivery(event, endpoint) for endpoint in endpoints])
                continue
            deliveries, sieve = [], Sieve(event)
            for endpoint in endpoints:
                before = sieve.meter.steps
                delivery = self._sift(event, endpoint, sieve)
                if delivery is not None:
                    deliveries.append(delivery)
                done += sieve.meter.steps - before
                if done >= STRETCH:
                    done = 0
                    await self._let_others_go()
            owed.append(deliveries)
        return owed

    def owe(self, event: NewEvent, endpoint: Endpoint) -> NewDelivery:
        """A delivery of the event to that endpoint, whatever it asks for, and which waits for no other."""
        return replace(self._delivery(event, endpoint), line=None)

    async def _let_others_go(self) -> None:
        async with self._turn:
            await asyncio.sleep(0)

    def _sift(self, event: NewEvent, endpoint: Endpoint, sieve: Sieve) -> NewDelivery | None:
        if endpoint.filter is None:
            return self._delivery(event, endpoint)
        try:
            return self._delivery(event, endpoint) if sieve.passes(endpoint.filter) else None
        except Invalid as exc:
            return self._delivery(
                event, endpoint, failed=f"The filter of the endpoint failed: {exc.errors[0].message}."
            )

    def _delivery(self, event: NewEvent, endpoint: Endpoint, *, failed: str | None = None) -> NewDelivery:
        return NewDelivery(
            id=new_id("dlv", self._clock(), self._random(ID_BYTES)),
            endpoint_id=endpoint.id,
            held=not endpoint.enabled,
            line=endpoint.line_of(event.channels[0]),
            failed=failed,
        )
