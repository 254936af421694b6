"""`kill -9` of the server in the middle of a job: it goes on after the start, passes over nothing, repeats nothing.

What a job does is exact; what is delivered is delivered at least once, since attempts under way are made again.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.served import PATIENCE_S, Served

from hookbrook.http.server import Server
from hookbrook.outbound.ledger import MAX_UNRECORDED

pytestmark = pytest.mark.crash

EVENTS = 400
#: Deliveries a second, so that a job lasts long enough to be killed in.
RATE = 50
KILLS = 2
CONCURRENCY = 10
IDS = [f"evt_{number:04}" for number in range(EVENTS)]


class Receiver:
    """Answers 204, and counts the ids that arrived by path."""

    def __init__(self) -> None:
        self.arrived: dict[str, Counter[str]] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        event_id = next(value for name, value in scope["headers"] if name == b"webhook-id").decode()
        self.arrived.setdefault(scope["path"], Counter())[event_id] += 1
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


@pytest.fixture
async def receiver() -> AsyncIterator[tuple[str, Receiver]]:
    receiver = Receiver()
    server = Server(receiver, host="127.0.0.1", port=0)
    await server.start()
    yield f"http://127.0.0.1:{server.port}", receiver
    await server.finish(1)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    served = Served(tmp_path, "--dev", "--allow-networks", "127.0.0.0/8", "--log-level", "info")
    await asyncio.to_thread(served.start)
    yield served
    served.kill()
    assert " ERROR " not in served.log


@pytest.fixture
async def client(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=served.url, timeout=PATIENCE_S) as client:
        yield client


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(2 * PATIENCE_S):
        while not await condition():  # noqa: ASYNC110 - another process brings it about
            await asyncio.sleep(0.02)


async def create(client: httpx.AsyncClient, path: str, body: object) -> Any:
    answer = await client.post(path, json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def publish(client: httpx.AsyncClient) -> None:
    await create(client, "/v1/events", [{"id": each, "channel": "orders.1", "data": "a letter"} for each in IDS])


async def killed_in(served: Served, client: httpx.AsyncClient, job_id: str) -> Any:
    """Kill it at a few random moments of the job, and start it again; returns the job when it has ended."""
    chance = random.Random()
    moments = sorted(chance.sample(range(EVENTS // 20, EVENTS // 2), KILLS))

    async def job() -> Any:
        return (await client.get(f"/v1/jobs/{job_id}")).json()

    for moment in moments:

        async def there(moment: int = moment) -> bool:
            now = await job()
            assert now["status"] == "running", "it was over before it was killed"
            return bool(now["sent"] >= moment)

        await until(there)
        served.kill()
        await asyncio.to_thread(served.start)

    async def ended() -> bool:
        return bool((await job())["status"] != "running")

    await until(ended)
    return await job()


async def deliveries(client: httpx.AsyncClient, endpoint_id: str) -> list[Any]:
    """All of the endpoint, once none is pending."""

    async def none_pending() -> bool:
        query = {"status": "pending", "endpoint_id": endpoint_id, "limit": "1"}
        return not (await client.get("/v1/deliveries", params=query)).json()["data"]

    await until(none_pending)
    found: list[Any] = []
    page: str | None = ""
    while page is not None:
        query = {"endpoint_id": endpoint_id, "limit": "100", **({"page": page} if page else {})}
        answer = (await client.get("/v1/deliveries", params=query)).json()
        found += answer["data"]
        page = answer["next"]
    return found


def check_arrivals(arrived: Counter[str]) -> None:
    """Each at least once, and no more doubles than were in flight at the kills."""
    assert set(arrived) == set(IDS)
    assert arrived.total() - EVENTS < KILLS * (CONCURRENCY + MAX_UNRECORDED)


@pytest.mark.timeout(180)
async def test_a_recovery_that_is_killed_sends_each_failed_delivery_again_once(
    served: Served, client: httpx.AsyncClient, receiver: tuple[str, Receiver]
) -> None:
    url, behind = receiver
    # Too large for the endpoint: given up at once, and no reason to think that its receiver is down.
    body = {"url": f"{url}/a", "max_body_bytes": 1, "concurrency": CONCURRENCY}
    endpoint = await create(client, "/v1/endpoints", body)
    await publish(client)
    failed = await deliveries(client, endpoint["id"])
    assert Counter(each["status"] for each in failed) == {"failed": EVENTS}
    assert (await client.patch(f"/v1/endpoints/{endpoint['id']}", json={"max_body_bytes": None})).status_code == 200
    job = await create(client, "/v1/jobs", {"kind": "recover", "endpoint_id": endpoint["id"], "rate": RATE})
    done = await killed_in(served, client, job["id"])
    assert (done["status"], done["looked_at"], done["sent"], done["skipped"]) == ("done", EVENTS, EVENTS, 0)
    sent = await deliveries(client, endpoint["id"])
    assert {each["id"] for each in sent} == {each["id"] for each in failed}
    # The attempt that failed and one more: none was resent by two pieces.
    assert Counter((each["status"], each["attempts"]) for each in sent) == {("succeeded", 2): EVENTS}
    check_arrivals(behind.arrived["/a"])


@pytest.mark.timeout(180)
async def test_a_replay_that_is_killed_owes_each_event_once(
    served: Served, client: httpx.AsyncClient, receiver: tuple[str, Receiver]
) -> None:
    url, behind = receiver
    await publish(client)
    endpoint = await create(client, "/v1/endpoints", {"url": f"{url}/b", "concurrency": CONCURRENCY})
    job = await create(client, f"/v1/endpoints/{endpoint['id']}/replay", {"which": "missing", "rate": RATE})
    done = await killed_in(served, client, job["id"])
    assert (done["status"], done["looked_at"], done["sent"], done["skipped"]) == ("done", EVENTS, EVENTS, 0)
    sent = await deliveries(client, endpoint["id"])
    assert Counter(each["event_id"] for each in sent) == Counter(IDS)
    assert Counter((each["status"], each["attempts"]) for each in sent) == {("succeeded", 1): EVENTS}
    check_arrivals(behind.arrived["/b"])
