"""A crowd of readers on a real server: all of them come back after a restart, and all are sent away at its end.

`HOOKBROOK_TEST_READERS` sets how many; 5,000 take about a minute.
"""

import asyncio
import os
import random
import resource
import signal
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
from tests.served import Listener, Served

READERS = int(os.environ.get("HOOKBROOK_TEST_READERS", "250"))
#: Within which everybody has everything; a few seconds, and more where thousands share a core with their clients.
FEW_SECONDS = 5.0 + READERS / 200
DRAIN_S = 5
#: Of the events of before the restart; more than the server reads into memory at its start.
EVENTS = 5000
#: Readers that are connecting at once, so that none waits in the kernel for longer than it would try.
CONNECTING = 200


@pytest.fixture(autouse=True)
def many_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield session


async def crowd(port: int, targets: list[tuple[str, dict[str, str]]]) -> list[Listener]:
    gate = asyncio.Semaphore(CONNECTING)

    async def one(target: str, headers: dict[str, str]) -> Listener:
        async with gate:
            listener = await Listener.open("127.0.0.1", port, target, **headers)
            assert listener.status == 200
            return listener

    return await asyncio.gather(*(one(target, headers) for target, headers in targets))


async def leave(listeners: list[Listener]) -> None:
    await asyncio.gather(*(listener.close() for listener in listeners))


async def fill(http: aiohttp.ClientSession, url: str) -> list[str]:
    """Events 0, 1, 2 … of which each is for everybody and for one of the readers; returns the cursors."""
    cursors: list[str] = []
    for first in range(0, EVENTS, 500):
        rows = [{"channels": ["all", f"user.{n % READERS}"], "data": n} for n in range(first, first + 500)]
        async with http.post(f"{url}/v1/events", json=rows) as answer:
            assert answer.status == 201, await answer.text()
            cursors += [reply["cursor"] for reply in await answer.json()]
    return cursors


@pytest.mark.parametrize("whose", ["one channel for all", "a channel for each"])
async def test_a_herd_that_comes_back_after_a_restart_has_everything_within_seconds(
    tmp_path: Path, http: aiohttp.ClientSession, whose: str
) -> None:
    """At places of their own: most a little behind, some so far that the server has to read for them."""
    rng = random.Random(3)
    served = Served(tmp_path, "--dev")
    with served:
        cursors = await fill(http, served.url)
        served.kill()
        served.start()
        places = [EVENTS - 1 - min(int(rng.expovariate(1 / 150)), EVENTS - 1) for _ in range(READERS - 5)]
        places += [0, 1, 7, 50, 99]
        each = whose == "a channel for each"
        targets = [
            (f"/v1/channels/{f'user.{number}' if each else 'all'}", {"last_event_id": cursors[place]})
            for number, place in enumerate(places)
        ]
        begin = time.monotonic()

        async def follow(number: int) -> tuple[Listener, list[str]]:
            target, headers = targets[number]
            [listener] = await crowd(served.port, [(target, headers)])
            wanted = [n for n in range(places[number] + 1, EVENTS) if not each or n % READERS == number]
            got = await listener.data(len(wanted))
            assert got == [str(n) for n in wanted]
            return listener, got

        gate = asyncio.Semaphore(CONNECTING)

        async def in_turn(number: int) -> Listener:
            async with gate:
                return (await follow(number))[0]

        listeners = await asyncio.gather(*map(in_turn, range(READERS)))
        assert time.monotonic() - begin < FEW_SECONDS
        # And from then on they are live, and get nothing twice.
        last = {"channels": ["all"], "data": "end"}
        if each:
            last = {"channels": ["user.0", f"user.{READERS - 1}"], "data": "end"}
            listeners_of = [listeners[0], listeners[-1]]
        else:
            listeners_of = listeners
        async with http.post(f"{served.url}/v1/events", json=last) as answer:
            assert answer.status == 201
        assert {tuple(await listener.data(1)) for listener in listeners_of} == {('"end"',)}
        await leave(listeners)


@dataclass(slots=True)
class Publishing:
    """Publishes until it is refused, and keeps what was acknowledged."""

    url: str
    http: aiohttp.ClientSession
    accepted: list[str] = field(default_factory=list)

    async def run(self, name: str) -> None:
        number = 0
        with suppress(aiohttp.ClientError):
            while True:
                number += 1
                event = {"id": f"{name}-{number}", "channel": "all", "data": number}
                async with self.http.post(f"{self.url}/v1/events", json=event) as answer:
                    if answer.status not in (200, 201):
                        return
                    self.accepted.append(f"{name}-{number}")


async def test_at_the_end_every_reader_is_told_in_turn_and_what_was_accepted_is_kept(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    served = Served(tmp_path, "--dev", "--drain-s", str(DRAIN_S))
    with served:
        listeners = await crowd(served.port, [("/v1/channels/all?format=event", {})] * READERS)
        publishing = Publishing(served.url, http)
        publishers = [asyncio.create_task(publishing.run(f"p{number}")) for number in range(4)]
        ends: list[float] = []

        async def follow(listener: Listener) -> None:
            await listener.rest()
            ends.append(time.monotonic())

        following = [asyncio.create_task(follow(listener)) for listener in listeners]
        await asyncio.sleep(0.3)
        assert served.process is not None
        served.process.send_signal(signal.SIGTERM)
        begin = time.monotonic()
        code = await asyncio.to_thread(served.process.wait, DRAIN_S + 20)
        took = time.monotonic() - begin
        await asyncio.gather(*following, *publishers)
        assert code == 0, served.log
        assert took < DRAIN_S + 2
        told = [listener.frames[-1] for listener in listeners]
        assert {frame.type for frame in told} == {"hookbrook.drain"}
        assert len({frame.retry_ms for frame in told}) > READERS / 10
        # A hundred at a time, a thousand a second.
        assert max(ends) - min(ends) > READERS / 1000 / 3
        for listener in listeners:
            seqs = [int(frame.last_event_id.partition("-")[2]) for frame in listener.frames[:-1]]
            assert seqs == list(range(seqs[0], seqs[-1] + 1)) if seqs else True
        await leave(listeners)
        served.start()
        kept: set[str] = set()
        after = ""
        while True:
            async with http.get(f"{served.url}/v1/events?limit=1000&channel=all&page={after}") as answer:
                page = await answer.json()
            kept |= {event["id"] for event in page["data"]}
            after = page["next"]
            if not after:
                break
        assert publishing.accepted
        assert set(publishing.accepted) <= kept
