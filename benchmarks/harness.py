"""What the benchmarks share: processes pinned to a core, a load that costs little, and ratios of paired runs.

These numbers are taken on whatever machine this is, with whatever else it is doing. So a number of ours never stands
alone: the limit (the least work that anybody could do) and ours are measured in turn, several times, and what is
published is the ratio.
"""

import asyncio
import contextlib
import itertools
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import uvloop

#: The core of what is measured, and the core of the load.
SERVER_CORE, LOAD_CORE = 0, 1
#: Pairs of runs; quick runs are for trying a script out.
PAIRS = int(os.environ.get("BENCH_PAIRS", "5"))
SECONDS = float(os.environ.get("BENCH_SECONDS", "3"))

HERE = Path(__file__).parent


@dataclass(slots=True, kw_only=True)
class Outcome:
    """One line of the table. Figures are per second unless the unit says otherwise."""

    name: str
    unit: str
    ours: list[float]
    limit: list[float]
    limit_name: str
    #: What the ratio ours/limit should reach, or None.
    wanted_ratio: float | None = None
    #: What ours should reach (per second) or stay below (milliseconds), or None.
    wanted: float | None = None
    lower_is_better: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        return [ours / limit for ours, limit in zip(self.ours, self.limit, strict=True)]

    def report(self) -> None:
        print(f"\n{self.name}")
        print(f"  ours    {_spread(self.ours)} {self.unit}{_verdict(self.ours, self.wanted, self.lower_is_better)}")
        if self.limit:
            print(f"  limit   {_spread(self.limit)} {self.unit}   ({self.limit_name})")
            print(f"  ratio   {_spread(self.ratios, digits=2)}{_verdict(self.ratios, self.wanted_ratio, False)}")
        for note in self.notes:
            print(f"  {note}")


def _spread(values: Sequence[float], digits: int | None = None) -> str:
    if digits is None:
        digits = 0 if statistics.median(values) >= 100 else 2
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:,.{digits}f}  (min {low:,.{digits}f}, max {high:,.{digits}f}, n={len(values)})"


def _verdict(values: Sequence[float], wanted: float | None, lower_is_better: bool) -> str:
    if wanted is None:
        return ""
    middle = statistics.median(values)
    reached = middle <= wanted if lower_is_better else middle >= wanted
    sign = "<=" if lower_is_better else ">="
    return f"   wanted {sign} {wanted:g}: {'reached' if reached else 'NOT REACHED'}"


def in_turn(*runs: Callable[[], float]) -> list[list[float]]:
    """Each run once to warm up, then all of them in turn, `PAIRS` times; a list of figures per run."""
    for run in runs:
        run()
    figures: list[list[float]] = [[] for _ in runs]
    for _ in range(PAIRS):
        for run, values in zip(runs, figures, strict=True):
            values.append(run())
    return figures


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def pinned(core: int) -> Iterator[None]:
    """The block runs on that core, so that who only looks on takes nothing from what is measured."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def process(*arguments: str, port: int, core: int = SERVER_CORE) -> Iterator[int]:
    """A Python program pinned to a core, ready once its port accepts; ended with the block. Yields its pid."""
    command = [sys.executable, *arguments]
    child = subprocess.Popen(
        command,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        stderr=subprocess.PIPE if "BENCH_DEBUG" not in os.environ else None,
    )
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if child.poll() is not None:
                raise SystemExit(f"{command} ended with {child.returncode}")
            time.sleep(0.05)
        yield child.pid
    finally:
        child.terminate()
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


@contextlib.contextmanager
def hookbrook(*flags: str, folder: Path) -> Iterator[int]:
    """`hookbrook serve --dev` with its store in the folder; yields its port."""
    with hookbrook_process(*flags, folder=folder) as (port, _):
        yield port


@contextlib.contextmanager
def hookbrook_process(*flags: str, folder: Path) -> Iterator[tuple[int, int]]:
    """The same; yields its port and its pid."""
    port = free_port()
    store = f"sqlite:///{folder / 'hookbrook.db'}"
    arguments = ("-m", "hookbrook", "serve", "--dev", "--port", str(port), "--store", store, "--log-level", "warning")
    with process(*arguments, *flags, port=port) as pid:
        yield port, pid


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A folder on the disk that the project is on: a temporary folder may be memory, where a commit costs nothing."""
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=HERE.parent) as path:
        yield Path(path)


class _Client(asyncio.Protocol):
    """Sends one prepared request again and again, the next when the last was answered, and counts the answers."""

    def __init__(self, load: "Load") -> None:
        self._load = load
        self._transport: asyncio.Transport | None = None
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes.
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def _send(self) -> None:
        assert self._transport is not None
        self._transport.write(next(self._load.requests))

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        end = data.find(b"\r\n\r\n")
        length = data.find(b"content-length: ")
        if end < 0 or length < 0 or len(data) < end + 4 + int(data[length + 16 : data.find(b"\r", length)]):
            self._rest = data
            return
        self._rest = b""
        if not data.startswith(b"HTTP/1.1 20"):
            self._load.failures += 1
        self._load.answers += 1
        if not self._load.over:
            self._send()


@dataclass(slots=True)
class Load:
    """Closed-loop load with raw sockets: about 20 µs of the load's core per request."""

    requests: Iterator[bytes]
    answers: int = 0
    failures: int = 0
    over: bool = False


def post(
    path: str, body: bytes, content_type: str = "application/json", headers: Mapping[str, str] | None = None
) -> bytes:
    lines = (
        f"POST {path} HTTP/1.1",
        "host: 127.0.0.1",
        f"content-type: {content_type}",
        f"content-length: {len(body)}",
        *(f"{name}: {value}" for name, value in (headers or {}).items()),
    )
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode() + body


def requests_per_second(
    port: int, request: bytes | Iterator[bytes], connections: int, seconds: float = SECONDS
) -> float:
    """Requests answered per second over that many connections: the same again and again, or one after another."""
    requests = itertools.repeat(request) if isinstance(request, bytes) else request

    async def run() -> float:
        loop = asyncio.get_running_loop()
        load = Load(requests)
        transports = []
        for _ in range(connections):
            transport, _ = await loop.create_connection(lambda: _Client(load), "127.0.0.1", port)
            transports.append(transport)
        await asyncio.sleep(0.3)
        begin, before = time.perf_counter(), load.answers
        await asyncio.sleep(seconds)
        figure = (load.answers - before) / (time.perf_counter() - begin)
        load.over = True
        for transport in transports:
            transport.close()
        if load.failures:
            raise SystemExit(f"{load.failures} requests failed")
        return figure

    os.sched_setaffinity(0, {LOAD_CORE})
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())
