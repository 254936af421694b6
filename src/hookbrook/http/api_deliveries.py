"""`/v1/deliveries`: what is owed to endpoints, what became of it, and what a person can do about it."""

from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query

from hookbrook.core.delivery import UNDELIVERED, Delivery, Happening, State
from hookbrook.errors import Conflict
from hookbrook.http.auth import Principal
from hookbrook.http.delivery_models import AttemptOut, DeliveryInFull, DeliveryList, DeliveryOut
from hookbrook.http.gateway import Gateway
from hookbrook.http.request import DEFAULT_LIMIT, Limit, PageToken, admin_of, moment_of, next_page, owned, page_after
from hookbrook.store.base import DeliveryQuery

Admin = Annotated[Principal, Depends(admin_of)]
Moment = Annotated[str | None, Query(description="RFC 3339, or how long ago: `2h`.")]
#: `undelivered` for all that has not arrived, or a state.
Word = Literal["pending", "succeeded", "failed", "cancelled", "held", "undelivered"]
Status = Annotated[list[Word] | None, Query(description="May be repeated.")]
Id = Annotated[str | None, Query(max_length=256)]


class Deliveries:
    """The routes, bound to a gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._store = gateway.store

    def router(self) -> APIRouter:
        router = APIRouter(tags=["deliveries"])
        one = "/v1/deliveries/{delivery_id}"
        router.add_api_route("/v1/deliveries", self.list, methods=["GET"], summary="List deliveries, newest first")
        router.add_api_route(one, self.read, methods=["GET"], summary="Read a delivery with its attempts")
        router.add_api_route(f"{one}/resend", self.resend, methods=["POST"], summary="Send a delivery again, now")
        router.add_api_route(f"{one}/cancel", self.cancel, methods=["POST"], summary="Give a delivery up")
        return router

    async def list(
        self,
        admin: Admin,
        status: Status = None,
        endpoint_id: Id = None,
        event_id: Id = None,
        since: Moment = None,
        until: Moment = None,
        limit: Limit = DEFAULT_LIMIT,
        page: PageToken = None,
    ) -> DeliveryList:
        """`since` and `until` are about when the delivery was created; `undelivered` is pending, held or failed."""
        now = self._gateway.clock()
        query = DeliveryQuery(
            tenant=admin.view,
            states=_states(status or ()),
            endpoint_id=endpoint_id,
            event_id=event_id,
            since=moment_of("since", since, now),
            until=moment_of("until", until, now),
            before_id=page_after(page) or None,
            limit=limit + 1,
        )
        found, following = next_page(await self._store.deliveries(query), limit)
        return DeliveryList(data=[DeliveryOut.model_validate(each.as_json()) for each in found], next=following)

    async def read(self, delivery_id: str, admin: Admin) -> DeliveryInFull:
        return await self._in_full(await self._find(delivery_id, admin))

    async def resend(self, delivery_id: str, admin: Admin) -> DeliveryInFull:
        """One more attempt at once, with a new round of retries behind it, whatever came of it before."""
        delivery = await self._find(delivery_id, admin)
        endpoint = self._gateway.catalog.routes.by_id.get(delivery.endpoint_id)
        if endpoint is None:
            raise Conflict("Its endpoint was deleted.")
        if not endpoint.enabled:
            raise Conflict("Its endpoint is disabled; enable it first.")
        if await self._store.event(delivery.tenant, delivery.event_id) is None:
            raise Conflict("Its event is no longer kept.")
        return await self._change(delivery, Happening.RESENT)

    async def cancel(self, delivery_id: str, admin: Admin) -> DeliveryInFull:
        cancelled = await self._change(await self._find(delivery_id, admin), Happening.CANCELLED)
        self._gateway.dispatcher_forget(cancelled.endpoint_id, cancelled.id)
        return cancelled

    async def _change(self, delivery: Delivery, happening: Happening) -> DeliveryInFull:
        changed = await self._store.change(delivery.id, happening, now=self._gateway.clock())
        self._gateway.dispatcher_poke(changed.endpoint_id)
        return await self._in_full(changed)

    async def _in_full(self, delivery: Delivery) -> DeliveryInFull:
        history = [AttemptOut.model_validate(each.as_json()) for each in await self._store.attempts(delivery.id)]
        waits_for = await self._store.waits_for(delivery.id)
        shown = DeliveryOut.model_validate(delivery.as_json()).model_dump()
        return DeliveryInFull(**shown, waits_for=waits_for, history=history)

    async def _find(self, delivery_id: str, admin: Principal) -> Delivery:
        return owned(await self._store.delivery(delivery_id), admin, "delivery")


def _states(words: Sequence[Word]) -> tuple[State, ...]:
    """The states, each once, in the order of the table."""
    wanted = {state for word in words for state in (UNDELIVERED if word == "undelivered" else (State(word),))}
    return tuple(state for state in State if state in wanted)
