"""A backlog of 1,000,000 pending deliveries: listed, counted and drained, with memory that does not grow with it.

It is made in the store by the same code that appends events, while no server runs; then a server starts on it. Draining
is measured for some seconds. `BENCH_WHOLE=1` drains it to its end, which takes some minutes, and shows the memory and
the rate of each tenth of it.
"""

import asyncio
import os
import statistics
import time
from dataclasses import replace
from pathlib import Path
from urllib.request import urlopen

from deliver import DATA, call, received
from harness import SECONDS, Outcome, folder, free_port, hookbrook_process, process
from msgspec.json import encode

from hookbrook.core.delivery import State
from hookbrook.core.endpoint import Endpoint
from hookbrook.core.event import NewEvent
from hookbrook.store.appender import Appender
from hookbrook.store.base import DeliveryQuery
from hookbrook.store.catalog import Catalog
from hookbrook.store.sqlite import SqliteStore, system_clock

ENDPOINTS = 1000
DELIVERIES = int(os.environ.get("BENCH_BACKLOG", "1000000"))
WHOLE = bool(os.environ.get("BENCH_WHOLE"))
#: For the whole of it.
PATIENCE_S = 900.0
LISTS = 20
WANTED_MS = 10.0


#: What the list is asked for. Where only a few have that state, an index must lead to them.
QUERIES = {
    "pending": DeliveryQuery(states=(State.PENDING,), limit=100),
    "failed": DeliveryQuery(states=(State.FAILED,), limit=100),
    "pending of one endpoint": DeliveryQuery(states=(State.PENDING,), endpoint_id="ep_0500", limit=100),
    "all": DeliveryQuery(limit=100),
}


async def owe(place: Path, receiver: int) -> tuple[float, dict[str, float]]:
    """Make the backlog, and list it while nobody does anything else; returns seconds, and milliseconds by query."""
    store = SqliteStore(place / "hookbrook.db")
    await store.open()
    catalog = Catalog(store)
    await catalog.load()
    appender = Appender(store, catalog, system_clock)
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    for number in range(ENDPOINTS):
        url = f"http://127.0.0.1:{receiver}/{number}"
        await catalog.save(Endpoint(id=f"ep_{number:04}", url=url, secrets=(secret,), created=0, updated=0))
    begin = time.perf_counter()
    for number in range(DELIVERIES // ENDPOINTS):
        event = NewEvent(
            id=f"evt_{number}",
            channels=("orders.42",),
            type="order.paid",
            time=0,
            content_type="application/json",
            kind="json",
            data=encode(DATA),
            dedupe_id=f"evt_{number}",
        )
        await appender.append([event])
    made_s = time.perf_counter() - begin
    listed = {}
    for name, query in QUERIES.items():
        times = []
        for _ in range(LISTS):
            begin = time.perf_counter()
            page = await store.deliveries(query)
            times.append((time.perf_counter() - begin) * 1000)
            if page:
                query = replace(query, before_id=page[-1].id)
        listed[name] = statistics.median(times)
    await store.close()
    return made_s, listed


def resident_mib(pid: int) -> int:
    pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE") >> 20


def listing(port: int, query: str) -> list[float]:
    """Milliseconds of each of some pages, one behind the other."""
    times = []
    following = ""
    for _ in range(LISTS):
        begin = time.perf_counter()
        page = call(port, f"/v1/deliveries?limit=100&{query}{following}")
        times.append((time.perf_counter() - begin) * 1000)
        following = f"&page={page['next']}" if page["next"] else ""
    return times


def drain(receiver: int, pid: int) -> list[str]:
    """For some seconds, or to the end: what to say of rate and memory."""
    begin, before = time.perf_counter(), received(receiver)
    #: Seconds, deliveries since the server's start and memory, twice a second.
    seen: list[tuple[float, int, int]] = [(0.0, before, resident_mib(pid))]
    while seen[-1][1] < DELIVERIES and seen[-1][0] < (PATIENCE_S if WHOLE else 3 * SECONDS):
        time.sleep(0.5)
        seen.append((time.perf_counter() - begin, received(receiver), resident_mib(pid)))
    seconds, count = seen[-1][0], seen[-1][1] - before
    memory = [each for _, _, each in seen]
    notes = [
        f"drained {count / seconds:,.0f} deliveries/s, {count:,} of them in {seconds:.0f} s",
        f"memory  {min(memory)} to {max(memory)} MiB meanwhile",
    ]
    if WHOLE:
        notes += tenths(seen)
    return notes


def tenths(seen: list[tuple[float, int, int]]) -> list[str]:
    """A line for each tenth of the deliveries: its rate, and the most memory."""
    lines = []
    for tenth in range(10):
        first, last = DELIVERIES * tenth // 10, DELIVERIES * (tenth + 1) // 10
        part = [each for each in seen if first <= each[1] <= last]
        if len(part) > 1:
            rate = (part[-1][1] - part[0][1]) / (part[-1][0] - part[0][0])
            most = max(memory for _, _, memory in part)
            lines.append(f"tenth {tenth + 1:>2} {rate:>7,.0f} deliveries/s, {most} MiB")
    return lines


def measure() -> Outcome:
    with folder() as place:
        receiver = free_port()
        with process("benchmarks/receiver.py", str(receiver), port=receiver, core=1):
            made_s, listed = asyncio.run(owe(place, receiver))
            size = sum(file.stat().st_size for file in place.iterdir())
            with hookbrook_process("--allow-networks", "127.0.0.1/32", folder=place) as (port, pid):
                notes = [f"made    {DELIVERIES / made_s:,.0f} deliveries/s, {size / DELIVERIES:.0f} bytes of disk each"]
                begin = time.perf_counter()
                with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as metrics:
                    text = metrics.read().decode()
                name = 'hookbrook_deliveries{status="pending"} '
                pending = next(line for line in text.splitlines() if line.startswith(name))
                counted_ms = (time.perf_counter() - begin) * 1000
                notes.append(f"counted {float(pending.split()[1]):,.0f} pending in {counted_ms:.0f} ms")
                some = listing(port, "status=pending")
                notes.append(f"a page over HTTP while it delivers all it can: {statistics.median(some):.0f} ms")
                notes += drain(receiver, pid)
            notes += [f"a page of 100, {name}: {each:.2f} ms" for name, each in listed.items()]
    return Outcome(
        name=f"backlog: {DELIVERIES:,} pending deliveries to {ENDPOINTS:,} endpoints, a page of the list",
        unit="ms",
        ours=list(listed.values()),
        limit=[],
        limit_name="",
        wanted=WANTED_MS,
        lower_is_better=True,
        notes=notes,
    )


if __name__ == "__main__":
    measure().report()
