"""Erasing what should not be kept: the data of one event, and whole tenants."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from hookbrook.core.endpoint import Endpoint
from hookbrook.core.ids import ID_BYTES, new_id
from hookbrook.core.job import Job, JobKind, JobState
from hookbrook.core.registration import check_tenant
from hookbrook.core.source import Source
from hookbrook.errors import Conflict, NotFound
from hookbrook.http.auth import Principal
from hookbrook.http.gateway import Gateway
from hookbrook.http.job_models import JobOut
from hookbrook.http.request import admin_of, location

Admin = Annotated[Principal, Depends(admin_of)]


class Erasure:
    """The routes, bound to a gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._store = gateway.store

    def router(self) -> APIRouter:
        router = APIRouter()
        add = router.add_api_route
        # An id may hold a slash.
        add(
            "/v1/events/{event_id:path}/data",
            self.event,
            methods=["DELETE"],
            status_code=204,
            summary="Erase what an event said",
            tags=["events"],
        )
        add(
            "/v1/tenants/{tenant}",
            self.tenant,
            methods=["DELETE"],
            status_code=202,
            summary="Erase a tenant and all that is its",
            tags=["tenants"],
        )
        return router

    async def event(self, event_id: str, admin: Admin) -> None:
        """Its data, the request that brought it, and what receivers answered. What is still owed of it is cancelled.

        The event stands where it was, shows that it was erased, and its id is recognised as before.
        """
        erased = await self._store.erase(admin.tenant, event_id, now=self._gateway.clock())
        if erased is None:
            raise NotFound(f"There is no event {event_id} of the tenant {admin.tenant}, or it is no longer kept.")
        self._gateway.forget_data(erased.seq)
        for endpoint_id, delivery_id in erased.cancelled:
            self._gateway.dispatcher_forget(endpoint_id, delivery_id)
            # What waited behind it may be due now.
            self._gateway.dispatcher_poke(endpoint_id)

    async def tenant(self, request: Request, response: Response, tenant: str, admin: Admin) -> JobOut:
        """Events, deliveries, attempts, endpoints, sources, keys and jobs: in small steps, as a job that outlasts a
        restart. Streams end. What is published for the tenant from now on is not part of it.
        """
        check_tenant("tenant", tenant)
        self._check_spared(tenant, admin)
        job = await self._running(tenant)
        if job is None:
            now = self._gateway.clock()
            job = Job(
                id=new_id("job", now, self._gateway.random(ID_BYTES)),
                tenant=tenant,
                kind=JobKind.ERASE,
                end=(await self._store.bounds()).tail,
                created=now,
                updated=now,
            )
            job = await self._store.save(job)
        self._gateway.begin_job(job.id)
        response.headers["Location"] = location(request, f"/v1/jobs/{job.id}")
        return JobOut.model_validate(job.as_json())

    def _check_spared(self, tenant: str, admin: Principal) -> None:
        """Raises `Conflict` for what would come back at the next start, or would lock out whoever asks."""
        catalog = self._gateway.catalog
        if any(key.id == admin.subject and key.tenant == tenant for key in catalog.keys.values()):
            raise Conflict("Your key is one of this tenant's, and would go with it; use another one.")
        records: list[Endpoint | Source] = [*catalog.routes.by_id.values(), *catalog.sources.values()]
        for record in records:
            if record.tenant == tenant and record.declared:
                raise Conflict(f"hookbrook.toml declares {record.id} of this tenant; remove that and restart first.")

    async def _running(self, tenant: str) -> Job | None:
        jobs = await self._store.records(Job, tenant=tenant)
        running = (job for job in jobs if job.kind is JobKind.ERASE and job.state is JobState.RUNNING)
        return next(running, None)
