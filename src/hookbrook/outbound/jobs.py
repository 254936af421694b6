"""The runner of jobs: does them piece by piece, at the pace that each asks for, and goes on with them after a restart.

What a job does is decided here, above the store: which deliveries or events come next, and which of them are meant. The
store then does the piece and keeps how far the job got, in one transaction. A job that was cancelled, or done by
another process, is found out by that: its piece is refused.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from random import Random
from typing import Final, Protocol

from hookbrook.core.delivery import NewDelivery
from hookbrook.core.endpoint import Endpoint
from hookbrook.core.event import Event
from hookbrook.core.filter import Sieve
from hookbrook.core.ids import ID_BYTES, new_id
from hookbrook.core.job import RESENT_BY, Job, JobKind, JobState, ended, moved
from hookbrook.core.routing import Routes, patterns_of, wants
from hookbrook.errors import Conflict, Invalid, StoreError
from hookbrook.outbound.erasing import Eraser
from hookbrook.store.base import Advanced, Deliveries, DeliveryQuery, Jobs, Log, Piece, Query, Registry

logger = logging.getLogger(__name__)

#: Deliveries or events of one piece: a transaction of a few milliseconds, for which appends wait.
PIECE: Final = 200
#: Between pieces of a job without a rate, so that jobs take a small share of the disk.
PAUSE_S: Final = 0.02
#: Jobs done at once; further ones wait for their turn, which a job gives up when its rate makes it wait.
MAX_RUNNING: Final = 8
#: When a piece is tried again that the store could not do.
RETRY_S: Final = 5.0
#: Records read per call at the start.
PAGE: Final = 200


class Store(Log, Deliveries, Jobs, Registry, Protocol):
    """As much of the store as a job needs."""


class Runner:
    """All methods belong to one event loop.

    Args:
        routes: the endpoints of now.
        poke: tells the dispatcher that an endpoint has something due.
        eraser: does the steps of a tenant's erasure.
        clock: wall time in microseconds.
        rng: for the ids of deliveries.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        store: Store,
        routes: Callable[[], Routes],
        poke: Callable[[str], None],
        eraser: Eraser,
        *,
        clock: Callable[[], int],
        rng: Random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._routes = routes
        self._poke = poke
        self._eraser = eraser
        self._clock = clock
        self._rng = rng
        self._sleep = sleep
        self._turns = asyncio.Semaphore(MAX_RUNNING)
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Go on with what was running. Raises `StoreError`."""
        after = ""
        while True:
            page = await self._store.records(Job, after_id=after, limit=PAGE)
            for job in page:
                if job.state is JobState.RUNNING:
                    self.begin(job.id)
            if len(page) < PAGE:
                return
            after = page[-1].id

    def begin(self, job_id: str) -> None:
        """Do a job that the store has. Nothing happens if it is being done."""
        if job_id not in self._tasks:
            task = asyncio.create_task(self._run(job_id), name="hookbrook job")
            self._tasks[job_id] = task
            task.add_done_callback(lambda _: self._tasks.pop(job_id, None))

    async def stop(self) -> None:
        """Stop between pieces, or in the middle of one that is then done whole or not at all."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, job_id: str) -> None:
        try:
            while True:
                async with self._turns:
                    pause_s = await self._turn(job_id)
                if pause_s is None:
                    return
                await self._sleep(pause_s)
        except Exception:
            # The boundary of a task: one job's bug must not be another's, and the job begins again at a restart.
            logger.exception("The job %s was given up", job_id)

    async def _turn(self, job_id: str) -> float | None:
        """Pieces up to a long pause, which is returned; None if there is no more to do."""
        while (pause_s := await self._step(job_id)) is not None and pause_s <= PAUSE_S:
            await self._sleep(pause_s)
        return pause_s

    async def _step(self, job_id: str) -> float | None:
        """One piece; returns how long to pause behind it, or None if there is no more to do."""
        job = None
        try:
            job = await self._store.get(Job, job_id)
            if job is None or job.state is not JobState.RUNNING:
                return None
            done = await self._do(job)
        except Conflict:
            # Somebody changed it meanwhile; it is read again.
            return 0.0
        except StoreError as exc:
            logger.warning("The job %s waits for the store: %s", job_id, exc)
            return RETRY_S
        for endpoint_id in done.endpoints:
            self._poke(endpoint_id)
        return None if done.job.state is not JobState.RUNNING else _pause_s(job, done)

    async def _do(self, job: Job) -> Advanced:
        if job.kind is JobKind.ERASE:
            return await self._eraser.step(job)
        return await self._store.advance(await self._next_piece(job), now=self._clock())

    async def _next_piece(self, job: Job) -> Piece:
        endpoint = None if job.endpoint_id is None else self._routes().by_id.get(job.endpoint_id)
        if job.endpoint_id is not None and endpoint is None:
            return Piece(job=ended(job, JobState.FAILED, self._clock(), "The endpoint was deleted."))
        if job.kind is JobKind.RECOVER:
            return await self._recover(job)
        assert endpoint is not None
        return await self._replay(job, endpoint)

    async def _recover(self, job: Job) -> Piece:
        """Deliveries from the oldest to the newest, which keep their place when they are sent again."""
        limit = _limit(job)
        query = DeliveryQuery(
            tenant=job.tenant,
            states=job.states,
            endpoint_id=job.endpoint_id,
            since=job.since,
            until=job.created + 1 if job.until is None else job.until,
            after_id=job.position,
            limit=limit,
        )
        found = await self._store.deliveries(query)
        chosen = [each.id for each in found if job.narrows_to(each.channels, each.event_type)]
        position = found[-1].id if found else job.position
        after = self._after(job, position, len(found), over=len(found) < limit)
        return Piece(job=after, resend=chosen, states=job.states)

    async def _replay(self, job: Job, endpoint: Endpoint) -> Piece:
        """Events from the oldest to the newest, as far as there were any when the job was made."""
        position = int(job.position or 0)
        query = Query(tenant=job.tenant, channels=patterns_of(endpoint), types=endpoint.types)
        page = await self._store.read(query, after=position, limit=_limit(job))
        now = self._clock()
        owe = [
            (event.seq, NewDelivery(id=new_id("dlv", now, self._rng.randbytes(ID_BYTES)), endpoint_id=endpoint.id))
            for event in page.events
            if event.seq <= job.end
            and job.narrows_to(event.channels, event.type)
            and wants(endpoint, event)
            and await _passes(endpoint, event)
        ]
        looked_at = sum(event.seq <= job.end for event in page.events)
        over = page.scanned_to >= min(job.end, page.tail)
        after = self._after(job, str(min(page.scanned_to, job.end)), looked_at, over=over)
        return Piece(job=after, owe=owe, states=RESENT_BY[job.which])

    def _after(self, job: Job, position: str, looked_at: int, *, over: bool) -> Job:
        """The job behind a piece."""
        state = JobState.DONE if over else JobState.RUNNING
        looked_at += job.looked_at
        return moved(job, self._clock(), position=position, looked_at=looked_at, state=state)


async def _passes(endpoint: Endpoint, event: Event) -> bool:
    """What its filter says; an event to which that cannot be applied is sent, since a person asks for it."""
    if endpoint.filter is None:
        return True
    # An expression may keep the loop for some milliseconds; between two of them all others have a turn.
    await asyncio.sleep(0)
    try:
        return Sieve(event).passes(endpoint.filter)
    except Invalid:
        return True


def _limit(job: Job) -> int:
    """How many make a piece: not more than the rate allows in a second, so that it is kept evenly."""
    return PIECE if job.rate is None else max(1, min(PIECE, int(job.rate)))


def _pause_s(before: Job, done: Advanced) -> float:
    sent = done.job.sent - before.sent
    return PAUSE_S if before.rate is None or before.dry_run else max(PAUSE_S, sent / before.rate)
