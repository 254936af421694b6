"""Delivering webhooks: a backlog of signed deliveries to one endpoint, durable results, on one core.

Limit: a bare aiohttp loop that posts the same body with as many requests in flight, and neither signs nor records.
"""

import asyncio
import json
import time
import urllib.request
from pathlib import Path

import aiohttp
import uvloop
from harness import (
    LOAD_CORE,
    SECONDS,
    SERVER_CORE,
    Outcome,
    folder,
    free_port,
    hookbrook_process,
    in_turn,
    pinned,
    process,
)

from hookbrook.core.delivery import Attempt, Happening
from hookbrook.core.delivery import Outcome as Recorded
from hookbrook.core.endpoint import Endpoint
from hookbrook.core.event import NewEvent
from hookbrook.store.appender import Appender
from hookbrook.store.base import DeliveryQuery
from hookbrook.store.catalog import Catalog
from hookbrook.store.sqlite import SqliteStore, system_clock

IN_FLIGHT = 100
BATCH = 1000
DATA = {"order": 42, "total": "19.90", "currency": "EUR", "items": 3}


def call(port: int, path: str, body: object = None, method: str = "GET") -> dict[str, object]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("content-type", "application/json")
    with urllib.request.urlopen(request, timeout=60) as response:
        answer = json.load(response)
    return answer if isinstance(answer, dict) else {"data": answer}


def received(port: int) -> int:
    count = call(port, "/count")["count"]
    assert isinstance(count, int)
    return count


def dispatch(port: int, receiver: int) -> float:
    """Deliveries per second while a backlog that was held is worked off, from when all of it may be sent."""
    before = received(receiver)
    endpoint = call(port, "/v1/endpoints")["data"][0]["id"]  # type: ignore[index]
    call(port, f"/v1/endpoints/{endpoint}", {"enabled": False}, "PATCH")
    # More than can be sent in the time; what is left is sent before the next run begins.
    backlog = int(SECONDS * 6000) // BATCH * BATCH + BATCH
    for _ in range(backlog // BATCH):
        call(port, "/v1/events", [{"channel": "orders.42", "type": "order.paid", "data": DATA}] * BATCH, "POST")
    call(port, f"/v1/endpoints/{endpoint}", {"enabled": True}, "PATCH")
    while call(port, "/v1/deliveries?status=held&limit=1")["data"]:
        time.sleep(0.02)
    begin, early = time.perf_counter(), received(receiver) - before
    while (count := received(receiver) - before) < backlog:
        if time.perf_counter() - begin > 120:
            raise SystemExit(f"only {count} of {backlog} deliveries arrived")
        time.sleep(0.02)
    return (backlog - early) / (time.perf_counter() - begin)


def bare(receiver: int) -> float:
    """Posts per second of a bare aiohttp loop."""

    async def run() -> float:
        body = json.dumps(DATA).encode()
        count = 0
        end = time.perf_counter() + SECONDS
        connector = aiohttp.TCPConnector(limit=IN_FLIGHT)

        async def one(session: aiohttp.ClientSession) -> None:
            nonlocal count
            while time.perf_counter() < end:
                async with session.post(f"http://127.0.0.1:{receiver}/hook", data=body) as response:
                    await response.read()
                count += 1

        begin = time.perf_counter()
        async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
            await asyncio.gather(*(one(session) for _ in range(IN_FLIGHT)))
        return count / (time.perf_counter() - begin)

    with pinned(SERVER_CORE), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


def written_bytes(pid: int) -> int:
    """What the process has had written to the disk since its start, as the kernel counts it."""
    lines = Path(f"/proc/{pid}/io").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))


def rows() -> str:
    """Row writes of one delivery that arrives at once, counted by SQLite itself."""

    async def count() -> tuple[int, int]:
        with folder() as place:
            store = SqliteStore(place / "hookbrook.db")
            await store.open()
            catalog = Catalog(store)
            await catalog.load()
            await catalog.save(Endpoint(id="ep_1", url="http://127.0.0.1", secrets=(), created=0, updated=0))
            names = {"id": "evt_1", "dedupe_id": "evt_1", "channels": ("a",), "content_type": "text/plain"}
            event = NewEvent(time=0, kind="text", data=b"x", **names)  # type: ignore[arg-type]
            connection = store._connection
            start = connection.total_changes
            await Appender(store, catalog, system_clock).append([event])
            appended = connection.total_changes
            [row] = await store.deliveries(DeliveryQuery(limit=1))
            attempt = Attempt(id="att_1", delivery_id=row.id, started=0, duration=1, status=204)
            await store.record([Recorded(attempt=attempt, happening=Happening.ACCEPTED)], now=1)
            recorded = connection.total_changes
            await store.close()
            return appended - start, recorded - appended

    appended, recorded = asyncio.run(count())
    return f"{appended} rows written when it is owed (one is the event), {recorded} when it has arrived"


def measure() -> Outcome:
    with folder() as place:
        receiver = free_port()
        with (
            process("benchmarks/receiver.py", str(receiver), port=receiver, core=1),
            hookbrook_process("--allow-networks", "127.0.0.1/32", folder=place) as (port, pid),
        ):
            url = f"http://127.0.0.1:{receiver}/hook"
            call(port, "/v1/endpoints", {"url": url, "concurrency": IN_FLIGHT}, "POST")
            with pinned(LOAD_CORE):
                ours, limit = in_turn(lambda: dispatch(port, receiver), lambda: bare(receiver))
            before, count = written_bytes(pid), received(receiver)
            dispatch(port, receiver)
            written, sent = written_bytes(pid) - before, received(receiver) - count
    return Outcome(
        name=f"deliver: signed, recorded webhooks to one endpoint, {IN_FLIGHT} in flight, one core",
        unit="deliveries/s",
        ours=ours,
        limit=limit,
        limit_name="bare aiohttp loop: no signature, no record",
        wanted_ratio=0.5,
        wanted=5000.0,
        notes=[f"disk    {written / sent:,.0f} bytes written for each delivery, its log and tables; {rows()}"],
    )


if __name__ == "__main__":
    measure().report()
