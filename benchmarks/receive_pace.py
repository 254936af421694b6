"""How long a webhook waits for its answer at a steady 1,000 a second: verified and durable, 8 KB each, on one core.

Each is timed from the moment at which it was due, so that a server that stalls is charged for all who had to wait.
Limit: a plain ASGI echo of the same requests at the same pace.
"""

import asyncio
import os
import statistics
import time
from collections import deque
from collections.abc import Iterator
from typing import cast

import uvloop
from harness import LOAD_CORE, SECONDS, Outcome, folder, free_port, hookbrook, in_turn, process
from receive import add_source, request

PER_SECOND = 1000
CONNECTIONS = 64
#: The 99th percentile that is wanted, in milliseconds; providers wait for 3 seconds and more.
WANTED_P99_MS = 25.0


class _Line(asyncio.Protocol):
    """One connection, with one request at a time."""

    def __init__(self, idle: "deque[_Line]", waits: list[float]) -> None:
        self._idle = idle
        self._waits = waits
        self._due = 0.0
        self._rest = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._idle.append(self)

    def send(self, data: bytes, due: float) -> None:
        assert self.transport is not None
        self._due = due
        self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        end = data.find(b"\r\n\r\n")
        length = data.find(b"content-length: ")
        if end < 0 or len(data) < end + 4 + int(data[length + 16 : data.find(b"\r", length)]):
            self._rest = data
            return
        self._rest = b""
        if not data.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"a webhook was refused: {data[:200]!r}")
        self._waits.append((time.perf_counter() - self._due) * 1000)
        self._idle.append(self)


async def paced(port: int, requests: Iterator[bytes]) -> list[float]:
    loop = asyncio.get_running_loop()
    idle: deque[_Line] = deque()
    waits: list[float] = []
    for _ in range(CONNECTIONS):
        await loop.create_connection(lambda: _Line(idle, waits), "127.0.0.1", port)
    count = int(PER_SECOND * SECONDS)
    begin = time.perf_counter() + 0.05
    for number in range(count):
        due = begin + number / PER_SECOND
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        while not idle:  # noqa: ASYNC110 - all connections wait for the server, and so does this webhook
            await asyncio.sleep(0.0005)
        idle.popleft().send(next(requests), due)
    deadline = time.monotonic() + 20
    while len(waits) < count:
        if time.monotonic() > deadline:
            raise SystemExit(f"only {len(waits)} of {count} webhooks were answered")
        await asyncio.sleep(0.01)
    for line in idle:
        assert line.transport is not None
        line.transport.close()
    return waits


#: Medians of each run, by port.
MEDIANS: dict[int, list[float]] = {}


def p99_ms(port: int) -> float:
    os.sched_setaffinity(0, {LOAD_CORE})
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        waits = sorted(runner.run(paced(port, request())))
    MEDIANS.setdefault(port, []).append(statistics.median(waits))
    return waits[len(waits) * 99 // 100]


def measure() -> Outcome:
    MEDIANS.clear()
    with folder() as place:
        echo_port = free_port()
        with (
            hookbrook(folder=place) as port,
            process("benchmarks/echo.py", str(echo_port), port=echo_port),
        ):
            add_source(port)
            ours, limit = in_turn(lambda: p99_ms(port), lambda: p99_ms(echo_port))
    medians = [f"{statistics.median(MEDIANS[each]):.2f} ms" for each in (port, echo_port)]
    return Outcome(
        name=f"receive: from a webhook to its answer, {PER_SECOND:,} webhooks/s, verified and durable, 99th percentile",
        unit="ms",
        ours=ours,
        limit=limit,
        limit_name="plain ASGI echo at the same pace",
        wanted=WANTED_P99_MS,
        lower_is_better=True,
        notes=[f"median  {medians[0]}, limit {medians[1]}"],
    )


if __name__ == "__main__":
    measure().report()
