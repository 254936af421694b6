"""`GET /v1/events/{id}/explain`: for each endpoint of the tenant, why the event went there or did not."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends

from hookbrook.core.endpoint import Endpoint
from hookbrook.core.event import Event, format_time
from hookbrook.core.explanation import Explanation, explain, explain_owed
from hookbrook.core.filter import Sieve
from hookbrook.errors import Invalid, NotFound
from hookbrook.http.auth import Principal
from hookbrook.http.delivery_models import DeliveryOut
from hookbrook.http.gateway import Gateway
from hookbrook.http.job_models import ExplanationOut, Explanations
from hookbrook.http.request import DEFAULT_LIMIT, Limit, PageToken, admin_of, page_after, page_token

Admin = Annotated[Principal, Depends(admin_of)]


class Explain:
    """The route, bound to a gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._store = gateway.store

    def router(self) -> APIRouter:
        router = APIRouter(tags=["events"])
        # An id may hold a slash.
        path = "/v1/events/{event_id:path}/explain"
        router.add_api_route(path, self.explain, methods=["GET"], summary="Why an event went where it went")
        return router

    async def explain(
        self, event_id: str, admin: Admin, limit: Limit = DEFAULT_LIMIT, page: PageToken = None
    ) -> Explanations:
        """One entry for each endpoint of the event's tenant, and for deleted ones that were owed it, by their ids."""
        event = await self._store.event(admin.tenant, event_id)
        if event is None:
            raise NotFound(f"There is no event {event_id} of the tenant {admin.tenant}, or it is no longer kept.")
        found = await self._found(event, page_after(page), limit)
        following = page_token(found[limit - 1].endpoint_id) if len(found) > limit else None
        return Explanations(
            event_id=event.id,
            tenant=event.tenant,
            accepted_at=format_time(event.appended),
            data=[_shown(each) for each in found[:limit]],
            next=following,
        )

    async def _found(self, event: Event, after: str, limit: int) -> list[Explanation]:
        """One more than the limit, if there are so many."""
        endpoints = {
            endpoint.id: endpoint
            for endpoint in await self._store.records(Endpoint, tenant=event.tenant, after_id=after, limit=limit + 1)
        }
        deliveries = {
            delivery.endpoint_id: delivery
            for delivery in await self._store.owed(event.seq, after_endpoint_id=after, limit=limit + 1)
        }
        found, sieve = [], Sieve(event)
        for endpoint_id in sorted(endpoints.keys() | deliveries.keys())[: limit + 1]:
            endpoint, delivery = endpoints.get(endpoint_id), deliveries.get(endpoint_id)
            if delivery is not None:
                found.append(explain_owed(delivery, endpoint))
            elif endpoint is not None:
                found.append(explain(event, endpoint, passes=_passes(endpoint, sieve)))
                if endpoint.filter is not None:
                    # An expression may keep the loop for some milliseconds; between two of them all others have a turn.
                    await asyncio.sleep(0)
        return found


def _passes(endpoint: Endpoint, sieve: Sieve) -> bool:
    try:
        return endpoint.filter is None or sieve.passes(endpoint.filter)
    except Invalid:
        return False


def _shown(explanation: Explanation) -> ExplanationOut:
    delivery, endpoint = explanation.delivery, explanation.endpoint
    return ExplanationOut(
        endpoint_id=explanation.endpoint_id,
        url=None if endpoint is None else endpoint.url,
        enabled=endpoint is not None and endpoint.enabled,
        owed=delivery is not None,
        reason=explanation.reason.value,
        why=explanation.why,
        changed_since=explanation.changed_since,
        delivery=None if delivery is None else DeliveryOut.model_validate(delivery.as_json()),
    )
