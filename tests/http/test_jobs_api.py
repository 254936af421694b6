"""Explaining where an event went, and jobs, as an administrator asks for them."""

from collections.abc import AsyncIterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
from tests.http.gateway_fixtures import SECOND, Answer, House, call, gateway_in

from hookbrook.core.delivery import Attempt, Happening, Outcome
from hookbrook.core.event import NewEvent
from hookbrook.core.job import Job
from hookbrook.core.key import Scope
from hookbrook.http import api_jobs
from hookbrook.http.history import History
from hookbrook.http.problems import Problems, Receive, Send


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with gateway_in(tmp_path) as house:
        yield house


async def publish(house: House, event_id: str, channel: str = "orders.1", type: str = "paid", **fields: Any) -> None:
    event = NewEvent(
        id=event_id, channels=(channel,), type=type, time=house.clock(), content_type="application/json", kind="json",
        data=b"{}", dedupe_id=event_id, **fields,
    )  # fmt: skip
    await house.gateway.appender.append([event])


async def explained(house: House, event_id: str, query: str = "") -> dict[str, Any]:
    answer = await house.ask("GET", f"/v1/events/{event_id}/explain{query}")
    assert answer.status == 200, answer.body
    document: dict[str, Any] = answer.json()
    return document


# ---- explain


async def test_each_endpoint_of_the_tenant_says_why(house: House) -> None:
    sent = await house.endpoint(types=["paid"])
    held = await house.endpoint(enabled=False)
    typed = await house.endpoint(types=["sent"])
    channelled = await house.endpoint(channels=["chat.*"])
    await house.endpoint(tenant="acme")
    house.clock.advance(1)
    await publish(house, "evt/1")
    house.clock.advance(1)
    late = await house.endpoint()
    page = await explained(house, "evt/1")
    assert {each["endpoint_id"]: each["reason"] for each in page["data"]} == {
        sent["id"]: "owed",
        held["id"]: "owed",
        typed["id"]: "type",
        channelled["id"]: "channel",
        late["id"]: "created_after",
    }
    by_id = {each["endpoint_id"]: each for each in page["data"]}
    assert by_id[sent["id"]]["delivery"]["status"] == "pending"
    assert by_id[held["id"]]["why"] == "It is held while the endpoint is disabled."
    assert by_id[typed["id"]]["delivery"] is None
    assert page["next"] is None


async def test_an_explanation_comes_in_pages_and_names_deleted_endpoints(house: House) -> None:
    made = [await house.endpoint(types=["paid"] if number % 2 else ["sent"]) for number in range(5)]
    house.clock.advance(1)
    await publish(house, "e")
    gone = made[3]["id"]
    assert (await house.ask("DELETE", f"/v1/endpoints/{gone}")).status == 204
    seen: list[Any] = []
    query = "?limit=2"
    while True:
        page = await explained(house, "e", query)
        seen += page["data"]
        if page["next"] is None:
            break
        assert len(page["data"]) == 2
        query = f"?limit=2&page={page['next']}"
    assert [each["endpoint_id"] for each in seen] == sorted(each["id"] for each in made)
    deleted = next(each for each in seen if each["endpoint_id"] == gone)
    assert (deleted["url"], deleted["why"]) == (None, "It was cancelled, because the endpoint was deleted.")


async def test_an_endpoint_that_was_changed_since_says_so(house: House) -> None:
    endpoint = await house.endpoint(types=["sent"])
    house.clock.advance(1)
    await publish(house, "e")
    house.clock.advance(1)
    assert (await house.ask("PATCH", f"/v1/endpoints/{endpoint['id']}", {"types": []})).status == 200
    [told] = (await explained(house, "e"))["data"]
    assert (told["reason"], told["changed_since"]) == ("changed", True)


async def test_another_tenants_event_is_not_explained(house: House) -> None:
    await house.endpoint()
    await publish(house, "theirs", tenant="acme")
    assert (await house.ask("GET", "/v1/events/theirs/explain")).status == 404
    assert (await house.ask("GET", "/v1/events/theirs/explain?tenant=acme")).json()["data"] == []


# ---- what is owed to nobody


async def test_events_that_are_owed_to_nobody_can_be_listed(house: House) -> None:
    await house.endpoint(types=["paid"])
    await publish(house, "owed")
    await publish(house, "lost", type="unknown")
    history = History(house.gateway)

    async def page(scope: MutableMapping[str, Any], _receive: Receive, send: Send) -> None:
        await history.page(scope, send)

    async def ask(query: str, key: str = house.admin) -> Answer:
        headers = {"Authorization": f"Bearer {key}"}
        return await call(Problems(page), "GET", f"/v1/events{query}", headers=headers)

    def ids(answer: Answer) -> list[str]:
        return [each["id"] for each in answer.json()["data"]]

    assert ids(await ask("?deliveries=none")) == ["lost"]
    assert ids(await ask("?deliveries=undelivered")) == ["owed"]
    assert ids(await ask("?deliveries=failed")) == []
    assert set((await ask("?deliveries=lost")).fields) == {"deliveries"}
    reader = await house.key(Scope.SUBSCRIBE)
    assert (await ask("?deliveries=none", reader)).status == 403


# ---- jobs


async def job(house: House, **fields: Any) -> Any:
    answer = await house.ask("POST", "/v1/jobs", {"kind": "recover", **fields})
    assert answer.status == 201, answer.body
    return answer.json()


async def test_a_job_is_made_begun_shown_and_cancelled(house: House) -> None:
    endpoint = await house.endpoint()
    made = await job(house, endpoint_id=endpoint["id"], since="2h", types=["paid"], rate=5, dry_run=True)
    assert house.begun == [made["id"]]
    assert (made["status"], made["kind"], made["statuses"], made["rate"]) == ("running", "recover", ["failed"], 5)
    assert made["since"] == "2026-11-23T14:20:00Z"
    assert (await house.ask("GET", f"/v1/jobs/{made['id']}")).json() == made
    assert (await house.ask("GET", "/v1/jobs")).json() == {"data": [made], "next": None}
    assert (await house.ask("DELETE", f"/v1/jobs/{made['id']}")).status == 409
    assert (await house.ask("POST", f"/v1/jobs/{made['id']}/cancel")).json()["status"] == "cancelled"
    assert (await house.ask("POST", f"/v1/jobs/{made['id']}/cancel")).status == 409
    assert (await house.ask("DELETE", f"/v1/jobs/{made['id']}")).status == 204
    assert (await house.ask("GET", f"/v1/jobs/{made['id']}")).status == 404


async def test_a_replay_is_bounded_by_the_log_of_now(house: House) -> None:
    await publish(house, "a")
    house.clock.advance(10)
    await publish(house, "b")
    endpoint = await house.endpoint()
    answer = await house.ask("POST", f"/v1/endpoints/{endpoint['id']}/replay", {"since": "5s", "which": "missing"})
    assert answer.status == 201
    made = await house.gateway.store.get(Job, answer.json()["id"])
    assert made is not None
    assert (made.position, made.end, made.which, made.tenant) == ("1", 2, "missing", "default")


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"kind": "erase"}, {"kind"}),
        ({"kind": "replay"}, {"endpoint_id"}),
        ({"kind": "recover", "rate": 0}, {"rate"}),
        ({"kind": "recover", "statuses": ["pending"]}, {"statuses[0]"}),
        ({"kind": "recover", "statuses": []}, {"statuses"}),
        ({"kind": "recover", "since": "1h", "until": "2h"}, {"until"}),
        ({"kind": "recover", "types": ["a b"], "channels": ["**"]}, {"types", "channels"}),
        ({"kind": "recover", "since": "soon"}, {"since"}),
        ({"kind": "recover", "speed": 1}, {"speed"}),
    ],
)
async def test_what_no_job_can_be_is_named(house: House, fields: dict[str, Any], wrong: set[str]) -> None:
    answer = await house.ask("POST", "/v1/jobs", fields)
    assert (answer.status, set(answer.fields)) == (422, wrong)
    assert house.begun == []


async def test_a_job_sent_twice_is_one_job(house: House) -> None:
    first = await house.ask("POST", "/v1/jobs", {"kind": "recover"}, **{"Idempotency-Key": "k"})
    second = await house.ask("POST", "/v1/jobs", {"kind": "recover"}, **{"Idempotency-Key": "k"})
    other = await house.ask("POST", "/v1/jobs", {"kind": "recover", "rate": 1}, **{"Idempotency-Key": "k"})
    assert (first.status, second.json()["id"], other.status) == (201, first.json()["id"], 409)


async def test_jobs_are_bounded_and_for_administrators(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_jobs, "MAX_JOBS", 2)
    await job(house)
    await job(house)
    assert (await house.ask("POST", "/v1/jobs", {"kind": "recover"})).status == 429
    other = await house.key(Scope.PUBLISH, Scope.SUBSCRIBE)
    for method, path in (("POST", "/v1/jobs"), ("GET", "/v1/jobs"), ("GET", "/v1/events/e/explain")):
        assert (await house.ask(method, path, {"kind": "recover"}, key=other)).status == 403


async def test_an_attempt_shows_where_its_time_went(house: House) -> None:
    await house.endpoint()
    await publish(house, "e")
    [delivery] = (await house.ask("GET", "/v1/deliveries?status=undelivered")).json()["data"]
    attempt = Attempt(
        id="att_1", delivery_id=delivery["id"], started=house.clock(), duration=5 * SECOND, connect=1500, wait=2000,
        status=200,
    )  # fmt: skip
    await house.gateway.store.record([Outcome(attempt=attempt, happening=Happening.ACCEPTED)], now=house.clock())
    [shown] = (await house.ask("GET", f"/v1/deliveries/{delivery['id']}")).json()["history"]
    assert shown["timing"] == {"resolve_ms": None, "connect_ms": 1.5, "tls_ms": None, "wait_ms": 2.0}
    assert (await house.ask("GET", "/v1/deliveries?status=undelivered")).json()["data"] == []
    assert len((await house.ask("GET", "/v1/deliveries?status=failed&status=succeeded")).json()["data"]) == 1
