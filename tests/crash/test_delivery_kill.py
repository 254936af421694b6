"""`kill -9` of the server while it delivers; a disk that fills up and has room again. Nothing is lost, and what comes
twice was under way.

`HOOKBROOK_SOAK=1` makes it 20 rounds of 20,000 deliveries each.
"""

import asyncio
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import httpx
import pytest
from tests.served import PATIENCE_S, Served

from hookbrook.outbound.ledger import MAX_UNRECORDED

_soak = bool(os.environ.get("HOOKBROOK_SOAK"))
ROUNDS = 20 if _soak else 2
#: Each event is owed to each endpoint.
EVENTS = 5000 if _soak else 250
ENDPOINTS = 4
BATCH = 250
CONCURRENCY = 25
#: For all deliveries of a round, on a machine that has other things to do.
ROUND_S = 600.0 if _soak else 2 * PATIENCE_S

pytestmark = pytest.mark.crash

_ID = re.compile(rb"\r\nwebhook-id: ([^\r]+)")
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)")


class Receiver(asyncio.Protocol):
    """Answers 204 at once and counts (path, webhook-id)."""

    def __init__(self, arrived: Counter[tuple[bytes, bytes]]) -> None:
        self._arrived = arrived
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[: end + 2]
            length, event_id = _LENGTH.search(head), _ID.search(head)
            assert length is not None
            assert event_id is not None
            size = end + 4 + int(length[1])
            if len(self._buffer) < size:
                return
            self._buffer = self._buffer[size:]
            self._arrived[head.split(b" ", 2)[1], event_id[1]] += 1
            self._transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")


@pytest.fixture
async def receiver() -> AsyncIterator[tuple[str, Counter[tuple[bytes, bytes]]]]:
    arrived: Counter[tuple[bytes, bytes]] = Counter()
    server = await asyncio.get_running_loop().create_server(lambda: Receiver(arrived), "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", arrived
    server.close()


async def register(client: httpx.AsyncClient, url: str, count: int) -> None:
    for number in range(count):
        answer = await client.post("/v1/endpoints", json={"url": f"{url}/{number}", "concurrency": CONCURRENCY})
        assert answer.status_code == 201, answer.text


async def publish(client: httpx.AsyncClient, ids: list[str]) -> None:
    """All of them, batch by batch; who is killed meanwhile gets the batch again, which does nothing a second time."""
    for start in range(0, len(ids), BATCH):
        batch = [{"id": each, "channel": f"orders.{each[-1]}", "data": {"n": each}} for each in ids[start:][:BATCH]]
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    answer = await client.post("/v1/events", json=batch)
                    assert answer.status_code in (200, 201), answer.text
                    break
                except httpx.TransportError:
                    await asyncio.sleep(0.02)


async def until(condition: Callable[[], bool], seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - another process brings it about
            await asyncio.sleep(0.01)


@pytest.mark.timeout(3600 if _soak else 120)
async def test_no_delivery_is_lost_by_kills_and_only_what_was_under_way_comes_twice(
    tmp_path: Path, receiver: tuple[str, Counter[tuple[bytes, bytes]]]
) -> None:
    url, arrived = receiver
    chance = random.Random()
    served = Served(tmp_path, "--dev", "--allow-networks", "127.0.0.0/8", "--log-level", "info")
    await asyncio.to_thread(served.start)
    doubles: list[int] = []
    try:
        async with httpx.AsyncClient(base_url=served.url, timeout=PATIENCE_S) as client:
            await register(client, url, ENDPOINTS)
            for round_ in range(ROUNDS):
                ids = [f"evt_{round_}_{number}" for number in range(EVENTS)]
                wanted = (round_ + 1) * EVENTS * ENDPOINTS
                before = arrived.total() - len(arrived)
                publishing = asyncio.create_task(publish(client, ids))
                # Some die early, some late: after so many of this round's deliveries.
                enough = len(arrived) + chance.randrange(1, EVENTS * ENDPOINTS * 9 // 10)
                await until(lambda enough=enough: len(arrived) >= enough, ROUND_S)  # type: ignore[misc]
                served.kill()
                await asyncio.to_thread(served.start)
                await publishing
                await until(lambda wanted=wanted: len(arrived) >= wanted, ROUND_S)  # type: ignore[misc]
                doubles.append(arrived.total() - len(arrived) - before)
            await ended(client, "pending")
            await asyncio.sleep(0.2)
            assert len(arrived) == ROUNDS * EVENTS * ENDPOINTS
            assert arrived.total() == len(arrived) + sum(doubles), "something came twice without a kill"
            # In flight is what a receiver has, and what it has answered and the table has not: none is begun while
            # so many outcomes wait for the table.
            assert max(doubles) < ENDPOINTS * CONCURRENCY + MAX_UNRECORDED
    finally:
        served.kill()
    assert " ERROR " not in served.log
    print(f"{len(arrived)} deliveries, {ROUNDS} kills; came twice, by kill: {doubles}")


async def ended(client: httpx.AsyncClient, state: str) -> None:
    """Wait until no delivery is in that state."""
    async with asyncio.timeout(PATIENCE_S):
        query = {"status": state, "limit": "1"}
        while (await client.get("/v1/deliveries", params=query)).json()["data"]:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.05)


class Narrow:
    """A server whose disk can be filled and freed."""

    def __init__(self, served: Served, fill: Callable[[], None], free: Callable[[], None]) -> None:
        self.served = served
        self.fill = fill
        self.free = free


@contextmanager
def limited_files(folder: Path) -> Iterator[Narrow]:
    """The kernel lets the server's files grow no further. Needs no rights: only the soft limit changes."""
    served = Served(folder, "--dev", "--allow-networks", "127.0.0.0/8")
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]

    def limit(size: int) -> None:
        assert served.process is not None
        resource.prlimit(served.process.pid, resource.RLIMIT_FSIZE, (size, hard))

    with served:
        yield Narrow(served, lambda: limit(64 * 1024), lambda: limit(hard))


@contextmanager
def small_disk(folder: Path) -> Iterator[Narrow]:
    """A file system of some megabytes in memory, within a name space of its own; needs one that may be made."""
    disk = folder / "disk"
    disk.mkdir()
    entered = ["unshare", "--map-root-user", "--mount"]
    mount = f"mount -t tmpfs -o size=48m tmpfs {disk}"
    if not shutil.which("unshare") or subprocess.run([*entered, "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a file system")

    class InSmallDisk(Served):
        def command(self) -> list[str]:
            inner = " ".join([*super().command(), "--store", f"sqlite:///{disk}/hookbrook.db"])
            return [*entered, "sh", "-c", f"{mount} && exec {inner}"]

    served = InSmallDisk(folder, "--dev", "--allow-networks", "127.0.0.0/8")
    with served:
        assert served.process is not None
        ballast = Path(f"/proc/{served.process.pid}/root{disk}/ballast")

        def fill() -> None:
            with ballast.open("wb", buffering=0) as file:
                try:
                    while True:
                        file.write(bytes(4096))
                except OSError:
                    return

        yield Narrow(served, fill, ballast.unlink)


@pytest.mark.parametrize("narrow", [limited_files, small_disk])
async def test_a_full_disk_refuses_events_and_loses_and_doubles_none(
    tmp_path: Path, receiver: tuple[str, Counter[tuple[bytes, bytes]]], narrow: Callable[[Path], Iterator[Narrow]]
) -> None:
    url, arrived = receiver
    with narrow(tmp_path) as disk:  # type: ignore[attr-defined]
        async with httpx.AsyncClient(base_url=disk.served.url, timeout=PATIENCE_S) as client:
            await register(client, url, 1)
            accepted: set[bytes] = set()
            refused = 0
            filled_at = 0.0
            for number in range(300):
                if number == 100:
                    await asyncio.to_thread(disk.fill)
                    filled_at = time.monotonic()
                event = {"id": f"evt_{number}", "channel": "orders.1", "data": "x" * 1000}
                answer = await client.post("/v1/events", json=event)
                if answer.status_code == 201:
                    accepted.add(f"evt_{number}".encode())
                else:
                    assert answer.status_code in (503, 507), answer.text
                    assert answer.headers["content-type"] == "application/problem+json"
                    refused += 1
                if refused == 20:
                    assert (await client.get("/readyz")).status_code == 503
                    await asyncio.to_thread(disk.free)
                    refused += 1
            assert refused > 20, "the disk was never full"
            assert time.monotonic() - filled_at < PATIENCE_S
            assert len(accepted) >= 200, "it has room again"
            await until(lambda: len(arrived) >= len(accepted), PATIENCE_S)
            await ended(client, "pending")
            assert {event_id for _, event_id in arrived} == accepted
            assert set(arrived.values()) == {1}
            assert (await client.get("/readyz")).status_code == 200
        assert disk.served.end(signal.SIGTERM) == 0
    assert json.dumps(disk.served.log).count(" ERROR ") == 0
