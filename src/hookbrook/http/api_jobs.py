"""`/v1/jobs`: what did not arrive is sent again, and past events are sent to an endpoint, over a range of time."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Request, Response

from hookbrook.core.channel import check_patterns
from hookbrook.core.delivery import State
from hookbrook.core.endpoint import Endpoint
from hookbrook.core.ids import ID_BYTES, new_id
from hookbrook.core.job import Job, JobKind, JobState, Which, check_job, ended
from hookbrook.core.registration import check_all, check_description, check_tenant
from hookbrook.errors import Conflict, Invalid, TooMany
from hookbrook.http.auth import Principal
from hookbrook.http.gateway import Gateway
from hookbrook.http.job_models import JobIn, JobList, JobOut, ReplayIn
from hookbrook.http.request import (
    DEFAULT_LIMIT,
    Limit,
    PageToken,
    admin_of,
    idempotent_id,
    location,
    moment_of,
    next_page,
    owned,
    page_after,
)

Admin = Annotated[Principal, Depends(admin_of)]

#: What a person says of a job, and what no repeat may change. Times are left out: `2h` means another one later.
_ASKED = ("kind", "endpoint_id", "types", "channels", "states", "which", "rate", "dry_run", "description")
#: Jobs that are kept, whether they run or have ended; each is a row of a few hundred bytes, and a page of a list.
MAX_JOBS = 1000


class Jobs:
    """The routes, bound to a gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._store = gateway.store

    def router(self) -> APIRouter:
        router = APIRouter(tags=["jobs"])
        one, add = "/v1/jobs/{job_id}", router.add_api_route
        add("/v1/jobs", self.create, methods=["POST"], status_code=201, summary="Start a job")
        add("/v1/jobs", self.list, methods=["GET"], summary="List the jobs, the oldest first")
        add(one, self.read, methods=["GET"], summary="Read a job and how far it got")
        add(f"{one}/cancel", self.cancel, methods=["POST"], summary="Cancel a job")
        add(one, self.delete, methods=["DELETE"], status_code=204, summary="Forget a job that has ended")
        replay = "/v1/endpoints/{endpoint_id}/replay"
        add(replay, self.replay, methods=["POST"], status_code=201, summary="Send past events to an endpoint")
        return router

    async def create(self, request: Request, response: Response, body: JobIn, admin: Admin) -> JobOut:
        """`recover` sends again what has ended, `replay` sends past events, also those that were never owed."""
        tenant = body.tenant or admin.tenant
        if body.endpoint_id is not None:
            endpoint = owned(await self._store.get(Endpoint, body.endpoint_id), admin, "endpoint")
            if body.tenant not in (None, endpoint.tenant):
                raise Invalid.of("tenant", "is not the endpoint's")
            tenant = endpoint.tenant
        elif body.kind == "replay":
            raise Invalid.of("endpoint_id", "is required for a replay")
        job_id = idempotent_id(request, admin, "job", tenant)
        job = await self._made(body, tenant, job_id)
        try:
            await self._check_room()
            saved = await self._store.save(job)
        except Conflict:
            first = None if job_id is None else await self._store.get(Job, job_id)
            if first is None:
                raise
            saved = _same_as_first(job, first)
        self._gateway.begin_job(saved.id)
        response.headers["Location"] = location(request, f"/v1/jobs/{saved.id}")
        return _shown(saved)

    async def replay(
        self, request: Request, response: Response, endpoint_id: str, body: ReplayIn, admin: Admin
    ) -> JobOut:
        whole = JobIn(kind="replay", endpoint_id=endpoint_id, **body.model_dump())
        return await self.create(request, response, whole, admin)

    async def list(self, admin: Admin, limit: Limit = DEFAULT_LIMIT, page: PageToken = None) -> JobList:
        found = await self._store.records(Job, tenant=admin.view, after_id=page_after(page), limit=limit + 1)
        jobs, following = next_page(found, limit)
        return JobList(data=[_shown(job) for job in jobs], next=following)

    async def read(self, job_id: str, admin: Admin) -> JobOut:
        return _shown(await self._find(job_id, admin))

    async def cancel(self, job_id: str, admin: Admin) -> JobOut:
        """What it has sent stays sent; it sends no more."""
        while True:
            job = await self._find(job_id, admin)
            try:
                return _shown(await self._store.save(ended(job, JobState.CANCELLED, self._gateway.clock())))
            except Conflict:
                # A piece came between, unless it has ended by now.
                if (await self._find(job_id, admin)).state is not JobState.RUNNING:
                    raise

    async def delete(self, job_id: str, admin: Admin) -> None:
        if (await self._find(job_id, admin)).state is JobState.RUNNING:
            raise Conflict("The job is running; cancel it first.")
        await self._store.delete(Job, job_id)

    async def _find(self, job_id: str, admin: Principal) -> Job:
        return owned(await self._store.get(Job, job_id), admin, "job")

    async def _check_room(self) -> None:
        if len(await self._store.records(Job, limit=MAX_JOBS)) >= MAX_JOBS:
            raise TooMany(f"There are {MAX_JOBS} jobs already (MAX_JOBS); forget some that have ended.")

    async def _made(self, body: JobIn, tenant: str, job_id: str | None) -> Job:
        now = self._gateway.clock()
        job = Job(
            id=job_id or new_id("job", now, self._gateway.random(ID_BYTES)),
            tenant=tenant,
            kind=JobKind(body.kind),
            endpoint_id=body.endpoint_id,
            types=tuple(body.types),
            channels=tuple(body.channels),
            states=tuple(State(status) for status in body.statuses) if body.kind == "recover" else (),
            since=moment_of("since", body.since, now),
            until=moment_of("until", body.until, now),
            which=Which(body.which),
            rate=body.rate,
            dry_run=body.dry_run,
            description=body.description,
            created=now,
            updated=now,
        )
        check_all(
            lambda: check_job(job),
            lambda: check_tenant("tenant", job.tenant),
            lambda: check_patterns("types", job.types),
            lambda: check_patterns("channels", job.channels),
            lambda: check_description("description", job.description),
        )
        return await self._placed(job) if job.kind is JobKind.REPLAY else job

    async def _placed(self, job: Job) -> Job:
        """A replay between the seqs that its times mean now."""
        first = 0 if job.since is None else await self._store.seq_at(job.since)
        tail = (await self._store.bounds()).tail
        end = tail if job.until is None else await self._store.seq_at(job.until)
        return msgspec.structs.replace(job, position=str(first), end=end)


def _same_as_first(job: Job, first: Job) -> Job:
    """The first job of an `Idempotency-Key`. Raises `Conflict` if it was asked for something else."""
    if any(getattr(job, name) != getattr(first, name) for name in _ASKED):
        raise Conflict("This Idempotency-Key was used for another job.")
    return first


def _shown(job: Job) -> JobOut:
    return JobOut.model_validate(job.as_json())
