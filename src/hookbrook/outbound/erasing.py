"""The erasure of a whole tenant, step by step: first what could bring new events, then what is there.

Each step is done whole or not at all, and the next one finds what is left; so it outlasts a restart like every job.
What is published for the tenant after the erasure was asked for is not part of it.
"""

from collections.abc import Callable
from typing import Final, Protocol, TypeVar

from hookbrook.core.endpoint import Endpoint
from hookbrook.core.eventtype import EventType
from hookbrook.core.job import Job, JobState, moved
from hookbrook.core.key import ApiKey
from hookbrook.core.revocation import Revocation
from hookbrook.core.source import Source
from hookbrook.store.base import Advanced, Jobs, R, Registry

#: Events of one step, each with its deliveries and attempts; a transaction of some milliseconds.
STEP: Final = 200
#: Records read per call.
PAGE: Final = 100
#: Where a job stands once nothing can bring new events any more.
_SHUT: Final = "shut"


K = TypeVar("K", ApiKey, Source, Endpoint, EventType, Revocation)


class Catalog(Protocol):
    """As much of `store.catalog` as is needed here."""

    async def delete(self, kind: type[R], record_id: str, /) -> R | None: ...


class Store(Jobs, Registry, Protocol):
    """As much of the store as is needed here."""


class Eraser:
    """`forget` is called with the tenant and the last seq that is erased: end its streams, and hold nothing of it."""

    def __init__(
        self, store: Store, catalog: Catalog, forget: Callable[[str, int], None], *, clock: Callable[[], int]
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._forget = forget
        self._clock = clock

    async def step(self, job: Job) -> Advanced:
        """Raises `Conflict` if somebody changed the job, and `StoreError`."""
        if not job.position:
            await self._delete_all(ApiKey, job)
            await self._delete_all(Source, job)
            await self._delete_all(Endpoint, job)
            await self._delete_all(EventType, job)
            await self._delete_all(Revocation, job)
            self._forget(job.tenant, job.end)
        now = self._clock()
        done = await self._store.erase_tenant(moved(job, now, position=_SHUT), limit=STEP, now=now)
        if done.job.state is not JobState.RUNNING:
            # Again, for those who came back and read what was still there.
            self._forget(job.tenant, job.end)
        return done

    async def _delete_all(self, kind: type[K], job: Job) -> None:
        after = ""
        while page := await self._store.records(kind, tenant=job.tenant, after_id=after, limit=PAGE):
            for record in page:
                if record.created <= job.created:
                    await self._catalog.delete(kind, record.id)
            after = page[-1].id
