"""Trying an endpoint with an event of one's own making."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.http.gateway_fixtures import House, gateway_in

from hookbrook.core.channel import TRIALS
from hookbrook.core.delivery import State
from hookbrook.store.base import DeliveryQuery, Query


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with gateway_in(tmp_path) as house:
        yield house


async def test_a_trial_is_owed_to_that_endpoint_alone_whatever_it_asks_for(house: House) -> None:
    endpoint = await house.endpoint(types=["never.*"], filter="`false`", ordering="all")
    await house.endpoint()
    answer = await house.ask(
        "POST", f"/v1/endpoints/{endpoint['id']}/test", {"type": "order.paid", "data": {"total": 120}}
    )
    made = answer.json()
    assert (answer.status, answer.headers["location"]) == (201, f"/v1/deliveries/{made['id']}")
    assert (made["endpoint_id"], made["event_type"], made["status"]) == (endpoint["id"], "order.paid", "pending")
    assert made["next_attempt_at"] is not None
    [row] = await house.gateway.store.deliveries(DeliveryQuery())
    assert (row.id, row.state) == (made["id"], State.PENDING)
    page = await house.gateway.store.read(Query(tenant=None, channels=(TRIALS,)), after=0, limit=9)
    assert [(event.channels, event.data) for event in page.events] == [((TRIALS,), b'{"total":120}')]
    everything = await house.gateway.store.read(Query(tenant=None), after=0, limit=9)
    assert everything.events == []


async def test_a_trial_needs_no_body(house: House) -> None:
    endpoint = await house.endpoint()
    answer = await house.ask("POST", f"/v1/endpoints/{endpoint['id']}/test")
    assert (answer.status, answer.json()["event_type"]) == (201, "hookbrook.test")


@pytest.mark.parametrize("body", [{"type": "hookbrook.ops"}, {"type": "a b"}, {"other": 1}, {"type": 1}])
async def test_a_wrong_trial_is_named(house: House, body: Any) -> None:
    endpoint = await house.endpoint()
    answer = await house.ask("POST", f"/v1/endpoints/{endpoint['id']}/test", body)
    assert answer.status == 422
    assert answer.json()["errors"][0]["field"] in body


async def test_a_trial_of_what_is_disabled_or_not_there_is_refused(house: House) -> None:
    endpoint = await house.endpoint(enabled=False)
    assert (await house.ask("POST", f"/v1/endpoints/{endpoint['id']}/test")).status == 409
    assert (await house.ask("POST", "/v1/endpoints/ep_00000000000000000000000000/test")).status == 404
