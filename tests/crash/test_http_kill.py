"""Publishers at full speed over HTTP, and `kill -9` of the server at random moments, on one file."""

import asyncio
import itertools
import json
import random
import socket
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.served import PATIENCE_S, Served

from hookbrook.http.server import Server

ROUNDS = 20
SINGLES = 4
UPLOADS = 2
LINES = 25


@dataclass(slots=True)
class Ledger:
    """What the server has acknowledged: the id of each event, per publisher in order."""

    accepted: dict[str, list[str]] = field(default_factory=dict)
    #: id -> cursor, where the server said one.
    cursors: dict[str, str] = field(default_factory=dict)

    def note(self, publisher: str, event_id: str, cursor: str | None = None) -> None:
        self.accepted.setdefault(publisher, []).append(event_id)
        if cursor is not None:
            self.cursors[event_id] = cursor

    @property
    def count(self) -> int:
        return sum(map(len, self.accepted.values()))


@pytest.fixture
async def received() -> AsyncIterator[tuple[str, Counter[str]]]:
    """A receiver of webhooks: its URL, and how often each id arrived."""
    ids: Counter[str] = Counter()

    async def take(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        ids[next(value for name, value in scope["headers"] if name == b"webhook-id").decode()] += 1
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    server = Server(take, host="127.0.0.1", port=0)
    await server.start()
    yield f"http://127.0.0.1:{server.port}/", ids
    await server.finish(1)


async def publish_singly(
    session: aiohttp.ClientSession, name: str, ledger: Ledger, numbers: "itertools.count[int]"
) -> None:
    """One event after the other, until the server is gone."""
    while True:
        event_id = f"{name}-{next(numbers)}"
        async with session.post("/v1/events", json={"channel": name, "id": event_id, "data": 1}) as answer:
            document = await answer.json()
            assert answer.status == 201, document
        ledger.note(name, event_id, document["cursor"])


async def publish_lines(
    session: aiohttp.ClientSession, name: str, ledger: Ledger, numbers: "itertools.count[int]"
) -> None:
    """Uploads of several lines, each line a write of its own, until the server is gone."""
    while True:
        ids = [f"{name}-{next(numbers)}" for _ in range(LINES)]

        async def lines(ids: list[str] = ids) -> AsyncIterator[bytes]:
            for event_id in ids:
                yield json.dumps({"channel": name, "id": event_id, "data": 1}).encode() + b"\n"

        headers = {"content-type": "application/x-ndjson"}
        async with session.post("/v1/events", data=lines(), headers=headers) as answer:
            document = await answer.json()
            assert answer.status == 200, document
        assert document["accepted"] == LINES
        for event_id in ids[:-1]:
            ledger.note(name, event_id)
        ledger.note(name, ids[-1], document["cursor"])


async def one_round(served: Served, ledger: Ledger, numbers: "itertools.count[int]", after_s: float) -> None:
    before = ledger.count
    async with aiohttp.ClientSession(served.url) as session:
        publishers = [publish_singly(session, f"single{n}", ledger, numbers) for n in range(SINGLES)]
        publishers += [publish_lines(session, f"upload{n}", ledger, numbers) for n in range(UPLOADS)]
        tasks = [asyncio.create_task(publisher) for publisher in publishers]
        async with asyncio.timeout(PATIENCE_S):
            while ledger.count == before:  # noqa: ASYNC110 - the publishers share no event with us
                await asyncio.sleep(0.001)
        await asyncio.sleep(after_s)
        served.kill()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            # The connection is lost, and nothing else has gone wrong.
            assert isinstance(ended, aiohttp.ClientError), ended


async def kept(served: Served) -> list[dict[str, Any]]:
    async with (
        aiohttp.ClientSession(served.url) as session,
        session.get("/v1/events", headers={"accept": "application/x-ndjson"}) as answer,
    ):
        assert answer.status == 200
        return [json.loads(line) for line in (await answer.text()).splitlines()]


@pytest.mark.crash
@pytest.mark.timeout(400)
async def test_what_was_acknowledged_survives_twenty_kills_once_in_order_and_delivered(
    tmp_path: Path, received: tuple[str, Counter[str]]
) -> None:
    url, arrived = received
    ledger = Ledger()
    numbers = itertools.count()
    rng = random.Random(20)
    served = Served(tmp_path, "--dev", "--allow-networks", "127.0.0.0/8", "--log-level", "warning")
    served.port = free_port()
    try:
        for number in range(ROUNDS):
            await asyncio.to_thread(served.start)
            if number == 0:
                await register(served, url)
            await one_round(served, ledger, numbers, rng.random() * 0.3)
        await asyncio.to_thread(served.start)
        found = await kept(served)

        times = Counter(event["id"] for event in found)
        assert max(times.values()) == 1
        assert ledger.count > ROUNDS * 10
        for name, accepted in ledger.accepted.items():
            places = {event["id"]: place for place, event in enumerate(found) if event["channels"] == [name]}
            assert [each for each in accepted if each not in places] == [], f"lost of {name}"
            assert [places[each] for each in accepted] == sorted(places[each] for each in accepted)
        cursors = {event["id"]: event["cursor"] for event in found}
        assert {each: cursors[each] for each in ledger.cursors} == ledger.cursors

        # Not only what was acknowledged: whatever is in the log is owed.
        async with asyncio.timeout(PATIENCE_S * 2):
            while times.keys() - arrived.keys():  # noqa: ASYNC110 - the receiver is another program's stand-in
                await asyncio.sleep(0.05)
        assert arrived.keys() == times.keys()
    finally:
        if served.running:
            served.kill()
    assert " ERROR " not in served.log
    print(f"{ledger.count} acknowledged, {len(found)} kept, {arrived.total()} deliveries for {len(arrived)} events")


async def register(served: Served, url: str) -> None:
    async with (
        aiohttp.ClientSession(served.url) as session,
        session.post("/v1/endpoints", json={"url": url, "concurrency": 20}) as answer,
    ):
        assert answer.status == 201, await answer.text()


def free_port() -> int:
    """For a server that says nothing of its port, since it logs only warnings."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
