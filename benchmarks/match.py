"""Finding who is owed an event among 100,000 endpoints, and saving one endpoint among as many.

No limit stands beside these: they must not depend on how many endpoints there are, which the notes show.
"""

import asyncio
import random
import statistics
import time
from collections.abc import Callable

from harness import Outcome, folder
from msgspec.structs import replace

from hookbrook.core.endpoint import Endpoint
from hookbrook.core.routing import Routes
from hookbrook.store.catalog import Catalog
from hookbrook.store.sqlite import SqliteStore

ENDPOINTS = 100_000
MATCHES = 2000
SAVES = 50
#: One save waits for the disk; the rest of it must not.
WANTED_MS = 1.0


def endpoint(number: int, **fields: object) -> Endpoint:
    values = {"id": f"ep_{number:06}", "url": "https://example.com/hook", "secrets": (), "created": 0, "updated": 0}
    return Endpoint(**{**values, **fields})  # type: ignore[arg-type]


#: How the endpoints differ; each event is owed to a few of them.
KINDS: dict[str, Callable[[int], Endpoint]] = {
    "exact channels": lambda n: endpoint(n, channels=(f"orders.{n}", f"refunds.{n}")),
    "prefixes": lambda n: endpoint(n, channels=(f"orders.{n}.*", f"{'abcdefgh'[n % 8] * (n % 40 + 1)}{n}*")),
    "types, any channel": lambda n: endpoint(n, types=(f"order.{n}.*", f"refund.{n}")),
    "types, one channel": lambda n: endpoint(n, channels=("orders.*",), types=(f"order.{n}.*",)),
    "tenants": lambda n: endpoint(n, tenant=f"t{n % 5000}", types=("order.*",)),
}


def event(number: int) -> tuple[str, tuple[str, ...], str]:
    return f"t{number % 5000}", (f"orders.{number}.items", f"orders.{number}"), f"order.{number}.paid"


def matching(kind: str, count: int) -> list[float]:
    """Milliseconds of each match."""
    routes = Routes(1, map(KINDS[kind], range(count)))
    rng = random.Random(1)
    times = []
    for _ in range(MATCHES):
        tenant, channels, type_ = event(rng.randrange(count))
        begin = time.perf_counter()
        found = routes.owed(tenant if kind == "tenants" else "default", channels, type_)
        times.append((time.perf_counter() - begin) * 1000)
        assert found
    return times


async def saving() -> list[float]:
    """Milliseconds of the event loop's time for each save of one endpoint among all."""
    with folder() as place:
        store = SqliteStore(place / "hookbrook.db")
        await store.open()
        catalog = Catalog(store)
        records = [KINDS["exact channels"](number) for number in range(ENDPOINTS)]
        for start in range(0, ENDPOINTS, 1000):
            await asyncio.gather(*map(store.save, records[start : start + 1000]))
        await catalog.load()
        times = []
        for record in records[:SAVES]:
            begin = time.thread_time()
            await catalog.save(replace(record, url="https://example.com/new", revision=2))
            times.append((time.thread_time() - begin) * 1000)
        await store.close()
        return times


def measure() -> Outcome:
    slowest: list[float] = []
    notes = []
    for kind in KINDS:
        times = sorted(matching(kind, ENDPOINTS))
        few = statistics.median(matching(kind, ENDPOINTS // 100))
        slowest.append(times[len(times) * 99 // 100])
        notes.append(
            f"{kind:20} p50 {statistics.median(times):.4f} ms, p99 {slowest[-1]:.4f} ms; "
            f"p50 among {ENDPOINTS // 100:,}: {few:.4f} ms"
        )
    saves = sorted(asyncio.run(saving()))
    notes.append(f"saving one endpoint: {statistics.median(saves):.2f} ms of the loop, at most {saves[-1]:.2f} ms")
    return Outcome(
        name=f"match: one event among {ENDPOINTS:,} endpoints by their patterns, p99 of each kind",
        unit="ms",
        ours=slowest,
        limit=[],
        limit_name="",
        wanted=WANTED_MS,
        lower_is_better=True,
        notes=notes,
    )


if __name__ == "__main__":
    measure().report()
