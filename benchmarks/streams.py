"""Streaming, side by side: one channel, and 100 to 10,000 readers of it, on one core.

For each of them the same in one run: how many readers it takes in a second, what an idle one costs in memory, what all
of them cost while nothing happens, and for events of 100 bytes the CPU time of one delivery and how long it took from
before it was posted until it was read. Peers: nginx with nchan, Pushpin, sse-starlette, FastAPI's own SSE. Limit: a
bare uvloop loop that writes what is posted and does nothing else. Only ours has the events on the disk before it
delivers them.

CPU time is that of all processes and threads of a server, the kernel's work included. An event costs something before
anybody reads it: the request that brings it, and with ours the disk. How much of the CPU time of a delivery that is
depends on the number of readers, so beside the whole stands what the readers alone cost: the whole less what as many
events cost the same server at the same pace without readers. The machine may be busy with
other things, so every round measures all of them one after another, and a ratio is the median of the rounds' ratios.
"""

import asyncio
import os
import statistics
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import uvloop
from contenders import CHOSEN, Contender, get, installed, ours
from crowd import Crowd, Refused, publish, raise_file_limit, stamped
from harness import LOAD_CORE, PAIRS, SECONDS, folder, post
from plot import Series, draw

SIZES = tuple(int(size) for size in os.environ.get("BENCH_READERS", "100,1000,5000,10000").split(","))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", str(max(1, PAIRS // 2))))
#: Offered to everybody: what all but the slowest peer can do.
DELIVERIES_PER_S = 10_000
#: To see how far ours goes: readers, events a second, events per request.
FLOOD = (1000, 1000, 25)
IDLE_S = 1.0
#: Part of a core that a server with nothing to do may use.
CALM_CPU = 0.03
OURS, LIMIT, NCHAN, STARLETTE = "Hookbrook", "bare uvloop", "nginx + nchan", "sse-starlette"
PICTURE = Path(__file__).parents[1] / "docs" / "img" / "streams.svg"

T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class Figures:
    """Of one contender with so many readers, once."""

    cpu_us: float
    #: The same without what the events cost when nobody reads them.
    readers_us: float
    p50_ms: float
    p99_ms: float
    bytes_per_reader: float
    accepts_per_s: float
    idle_cpu: float
    #: Part of the events that had arrived in time.
    arrived: float


@dataclass(slots=True)
class Results:
    #: contender -> readers -> one for each round
    rows: dict[str, dict[int, list[Figures]]] = field(default_factory=dict)

    def add(self, name: str, size: int, figures: Figures) -> None:
        self.rows.setdefault(name, {}).setdefault(size, []).append(figures)

    def median(self, name: str, size: int, attribute: str) -> float:
        return statistics.median(float(getattr(each, attribute)) for each in self.rows[name][size])

    def ratio(self, name: str, size: int, attribute: str, *, of: str = OURS) -> float | None:
        """Ours (or another's) to theirs, the median over the rounds."""
        mine, theirs = self.rows.get(of, {}).get(size), self.rows.get(name, {}).get(size)
        if not mine or not theirs:
            return None
        pairs = zip(mine, theirs, strict=False)
        return statistics.median(
            float(getattr(a, attribute)) / max(float(getattr(b, attribute)), 1e-9) for a, b in pairs
        )


def family(pid: int) -> list[int]:
    """The process and its descendants."""
    found = [pid]
    for each in found:
        for task in Path(f"/proc/{each}/task").glob("*/children"):
            found += map(int, task.read_text("ascii").split())
    return found


def cpu_s(pid: int) -> float:
    """CPU seconds that it, its threads and its descendants have used, by the scheduler's own count."""
    total = 0
    for each in family(pid):
        for task in Path(f"/proc/{each}/task").glob("*/schedstat"):
            total += int(task.read_text("ascii").split()[0])
    return total / 1e9


def resident(pid: int) -> int:
    pages = sum(int(Path(f"/proc/{each}/statm").read_text("ascii").split()[1]) for each in family(pid))
    return pages * os.sysconf("SC_PAGE_SIZE")


async def measure_one(contender: Contender, size: int) -> Figures:
    crowd = Crowd(contender.port, contender.listen)
    # What a server needs anyway is not charged to the readers.
    warm = Crowd(contender.port, contender.listen)
    await warm.gather(min(50, size))
    await asyncio.sleep(0.2)
    before = resident(contender.pid)
    took = await crowd.gather(size, patience_s=120)
    await asyncio.sleep(IDLE_S)
    memory, idle = resident(contender.pid), cpu_s(contender.pid)
    await asyncio.sleep(IDLE_S)
    idle = cpu_s(contender.pid) - idle
    warm.leave()
    await asyncio.sleep(0.2)
    sent, spent = await publishing(contender, size, crowd)
    waits = sorted(crowd.waits) or [float("inf")]
    crowd.leave()
    # Afterwards, since a server may keep events for readers who come later.
    await calm(contender)
    _, alone = await publishing(contender, size, None)
    return Figures(
        cpu_us=spent / max(1, crowd.frames) * 1e6,
        readers_us=(spent - alone) / max(1, crowd.frames) * 1e6,
        p50_ms=waits[len(waits) // 2] * 1e3,
        p99_ms=waits[len(waits) * 99 // 100] * 1e3,
        bytes_per_reader=(memory - before) / size,
        accepts_per_s=size / took,
        idle_cpu=idle / IDLE_S,
        arrived=crowd.frames / (sent * size),
    )


async def calm(contender: Contender, *, patience_s: float = 20.0) -> None:
    """Wait until the server has done with readers who left: some need seconds for it."""
    end = time.perf_counter() + patience_s
    used = 1.0
    while used > CALM_CPU and time.perf_counter() < end:
        before = cpu_s(contender.pid)
        await asyncio.sleep(0.3)
        used = (cpu_s(contender.pid) - before) / 0.3


async def publishing(contender: Contender, size: int, crowd: Crowd | None) -> tuple[int, float]:
    """How many events were published at the pace for so many readers, and the CPU seconds until all had them."""
    rate = max(1.0, DELIVERIES_PER_S / size)
    begin = cpu_s(contender.pid)
    sent = await publish(contender.publish_port, contender.publish, per_second=rate, seconds=max(SECONDS, 4 / rate))
    if crowd is not None:
        await crowd.settled(sent * size, patience_s=15)
    return sent, cpu_s(contender.pid) - begin


def on_load_core(main: Coroutine[Any, Any, T]) -> T:
    os.sched_setaffinity(0, {LOAD_CORE})
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def compare(place: Path) -> Results:
    contenders, missing = installed()
    for sentence in missing:
        print(sentence)
    results = Results()
    for size in SIZES:
        for number in range(ROUNDS):
            for name, make in contenders.items():
                if number and name not in (OURS, LIMIT, NCHAN):
                    continue
                try:
                    with make(place) as contender:
                        results.add(name, size, on_load_core(measure_one(contender, size)))
                except (Refused, TimeoutError) as exc:
                    print(f"{name} at {size:,} readers is left out: {exc!r}")
    return results


HEADINGS = (
    "readers",
    "",
    "CPU/delivery",
    "readers alone",
    "p50",
    "p99",
    "memory/reader",
    "accepts/s",
    "idle CPU",
    "arrived",
)


def table(results: Results) -> None:
    print("{:>8} {:<14} {:>13} {:>13} {:>9} {:>9} {:>14} {:>10} {:>9} {:>8}".format(*HEADINGS))
    for size in SIZES:
        for name, by_size in results.rows.items():
            if size not in by_size:
                continue

            def median(attribute: str, *, name: str = name, size: int = size) -> float:
                return results.median(name, size, attribute)

            print(
                f"{size:>8,} {name:<14} {median('cpu_us'):>10.2f} µs "
                f"{median('readers_us'):>10.2f} µs {median('p50_ms'):>6.1f} ms {median('p99_ms'):>6.1f} ms "
                f"{median('bytes_per_reader') / 1024:>11.2f} KB "
                f"{median('accepts_per_s'):>10,.0f} {median('idle_cpu'):>8.2%} {median('arrived'):>8.1%}"
            )


#: Against whom, what, at how many readers, and what the ratio should be: at most, or (False) at least.
WANTED = (
    (NCHAN, "cpu_us", 0, 1.0, True),
    (LIMIT, "cpu_us", 0, 1.2, True),
    (LIMIT, "p99_ms", 0, 1.2, True),
    (NCHAN, "p99_ms", 5000, 0.6, True),
    (NCHAN, "accepts_per_s", 0, 0.6, False),
    (STARLETTE, "cpu_us", 0, 0.25, True),
    (STARLETTE, "bytes_per_reader", 0, 0.1, True),
)


#: Whose, against whose, what: nothing is wanted of these, but they say what can be.
COMPARED = ((OURS, NCHAN, "readers_us"), (OURS, LIMIT, "readers_us"), (LIMIT, NCHAN, "p99_ms"))


def verdicts(results: Results) -> None:
    for peer, attribute, least, wanted, is_most in WANTED:
        for size in SIZES:
            ratio = results.ratio(peer, size, attribute)
            if size < least or ratio is None:
                continue
            reached = ratio <= wanted if is_most else ratio >= wanted
            sign = "<=" if is_most else ">="
            print(
                f"  {attribute:<17} {ratio:6.2f} x {peer:<14} at {size:>6,} readers   wanted {sign} {wanted:g}: "
                f"{'reached' if reached else 'NOT REACHED'}"
            )
    for name, peer, attribute in COMPARED:
        for size in SIZES:
            ratio = results.ratio(peer, size, attribute, of=name)
            if ratio is not None:
                print(f"  {attribute:<17} {ratio:6.2f} x {peer:<14} at {size:>6,} readers   {name}, to compare")
    for size in SIZES if OURS in results.rows else ():
        kilobytes = results.median(OURS, size, "bytes_per_reader") / 1024
        print(f"  memory per idle reader {kilobytes:.2f} KB at {size:,}   wanted <= 3: {_reached(kilobytes <= 3)}")


def _reached(is_reached: bool) -> str:
    return "reached" if is_reached else "NOT REACHED"


def flood(place: Path) -> None:
    """How far ours goes: more events than could be written one by one."""
    readers, per_second, batch = FLOOD

    async def run(contender: Contender) -> None:
        crowd = Crowd(contender.port, contender.listen)
        await crowd.gather(readers)

        def request() -> bytes:
            lines = (b'{"channel":"bench","data":"%b"}' % stamped(98) for _ in range(batch))
            return post("/v1/events", b"\n".join(lines), "application/x-ndjson")

        begin, used = time.perf_counter(), cpu_s(contender.pid)
        sent = await publish(contender.port, request, per_second=per_second / batch, seconds=2 * SECONDS)
        await crowd.settled(sent * batch * readers, patience_s=30)
        took, used = time.perf_counter() - begin, cpu_s(contender.pid) - used
        waits = sorted(crowd.waits)
        p99 = waits[len(waits) * 99 // 100] * 1e3
        rate = crowd.frames / took
        print(
            f"\ncoalescing: {readers:,} readers x {per_second:,} durable events/s in requests of {batch}\n"
            f"  {rate:,.0f} deliveries/s of {readers * per_second:,} offered, {used / crowd.frames * 1e6:.2f} µs each, "
            f"{used / took:.0%} of a core, p50 {waits[len(waits) // 2] * 1e3:.1f} ms, p99 {p99:.1f} ms, "
            f"{crowd.frames / (sent * batch * readers):.1%} arrived\n"
            f"  wanted >= 700,000 deliveries/s at p99 <= 50 ms: {_reached(rate >= 700_000 and p99 <= 50)}"
        )
        crowd.leave()

    with ours(place) as contender:
        on_load_core(run(contender))


def channels(place: Path) -> None:
    """Whether publishing costs more when many other channels are open."""

    async def run(contender: Contender, others: int) -> float:
        crowds = []
        for first in range(0, others, 100):
            query = "&".join(f"channel=other.{first + number}" for number in range(min(100, others - first)))
            crowd = Crowd(contender.port, get(f"/v1/stream?{query}"))
            await crowd.gather(1)
            crowds.append(crowd)
        reader = Crowd(contender.port, contender.listen)
        await reader.gather(1)
        await asyncio.sleep(0.5)
        begin = cpu_s(contender.pid)
        sent = await publish(contender.port, contender.publish, per_second=500, seconds=SECONDS)
        used = (cpu_s(contender.pid) - begin) / sent * 1e6
        for crowd in (*crowds, reader):
            crowd.leave()
        return used

    ratios = []
    for _ in range(ROUNDS):
        costs = []
        for others in (10, 100_000):
            with ours(place) as contender:
                costs.append(on_load_core(run(contender, others)))
        ratios.append(costs[1] / costs[0])
        print(f"\npublishing to one reader: {costs[0]:.0f} µs with 10 other channels, {costs[1]:.0f} µs with 100,000")
    ratio = statistics.median(ratios)
    print(f"  ratio {ratio:.2f}   wanted <= 1.2: {_reached(ratio <= 1.2)}")


def main() -> None:
    raise_file_limit()
    with folder() as place:
        results = compare(place)
        print(f"\nstreams: one channel, events of 100 bytes, {DELIVERIES_PER_S:,} deliveries/s offered, one core")
        table(results)
        verdicts(results)
        if CHOSEN:
            return
        flood(place)
        channels(place)
    series = [
        Series(name, [(size, results.median(name, size, "cpu_us")) for size in SIZES if size in results.rows[name]])
        for name in results.rows
    ]
    PICTURE.write_text(draw("CPU time of one delivery", "readers", "µs", series), "utf-8")
    print(f"\nDrawn: {PICTURE.relative_to(Path(__file__).parents[1])}")


if __name__ == "__main__":
    main()
