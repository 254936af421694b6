"""`POST /v1/endpoints/{id}/test`: an event of one's own making for one endpoint, so that its owner sees what arrives.

It is an event like others, in the log and with a delivery that can be looked at, but on a channel of ours: no stream
and no other endpoint takes it for something that has happened.
"""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field

from hookbrook.core.channel import TRIALS, check_name
from hookbrook.core.endpoint import Endpoint
from hookbrook.core.event import JSON_TYPE, NewEvent
from hookbrook.core.ids import ID_BYTES, new_id
from hookbrook.errors import Conflict, Invalid, NotFound
from hookbrook.http.auth import Principal
from hookbrook.http.delivery_models import DeliveryOut
from hookbrook.http.gateway import Gateway
from hookbrook.http.models import Model
from hookbrook.http.request import admin_of, location, owned

Admin = Annotated[Principal, Depends(admin_of)]

DEFAULT_DATA = {"test": True}


class TrialIn(Model):
    """What the event says."""

    type: str | None = Field(
        default=None, description="The event's type; `hookbrook.test` if absent.", examples=["order.paid"]
    )
    data: Any = Field(default=DEFAULT_DATA, description="The event's data.", examples=[{"total": 120}])


class Trial:
    """The route, bound to a gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def router(self) -> APIRouter:
        router = APIRouter(tags=["endpoints"])
        path = "/v1/endpoints/{endpoint_id}/test"
        router.add_api_route(path, self.test, methods=["POST"], status_code=201, summary="Send a test event")
        return router

    async def test(
        self, endpoint_id: str, request: Request, response: Response, admin: Admin, body: TrialIn | None = None
    ) -> DeliveryOut:
        """The endpoint is sent this event whatever its patterns and filter say, in its own format, signed as ever, and
        before what waits in its lines."""
        endpoint = owned(await self._gateway.store.get(Endpoint, endpoint_id), admin, "endpoint")
        if not endpoint.enabled:
            raise Conflict("The endpoint is disabled; enable it first.")
        event = self._event(body or TrialIn(), endpoint)
        delivery_id = await self._gateway.appender.append_for(event, endpoint_id)
        delivery = None if delivery_id is None else await self._gateway.store.delivery(delivery_id)
        if delivery is None:
            raise NotFound("The endpoint was deleted meanwhile.")
        response.headers["Location"] = location(request, f"/v1/deliveries/{delivery.id}")
        return DeliveryOut.model_validate(delivery.as_json())

    def _event(self, body: TrialIn, endpoint: Endpoint) -> NewEvent:
        now = self._gateway.clock()
        data = msgspec.json.encode(body.data)
        limit = self._gateway.settings.max_event_bytes
        if len(data) > limit:
            raise Invalid.of("data", f"may have at most {limit} bytes (max_event_bytes)")
        event_id = new_id("evt", now, self._gateway.random(ID_BYTES))
        return NewEvent(
            id=event_id,
            channels=(TRIALS,),
            type=TRIALS if body.type is None else check_name("type", body.type),
            tenant=endpoint.tenant,
            time=now,
            content_type=JSON_TYPE,
            kind="json",
            data=data,
            dedupe_id=event_id,
        )
