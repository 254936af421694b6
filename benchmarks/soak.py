"""Many open streams for a long time: nothing fails, nothing is lost for anybody, and memory stays level.

Readers listen on a few channels while events are published to all of these. One in a hundred stops reading for a while
and goes on; others are cut off at random and come back with the last id that they saw. Every reader checks that what it
gets is its channel's next event. At the end all of them must have got the last one.

So many events are published first that what the server keeps in memory is full, SQLite's cache of pages included, and
the log is trimmed all the time. So what is looked at is a server that has run for long: what grows is a leak.

`SOAK_READERS` (10,000), `SOAK_SECONDS` (600) and `SOAK_EVENTS_PER_S` (5) set how much.
"""

import asyncio
import json
import os
import random
import time
from dataclasses import dataclass, field
from typing import cast

import uvloop
from contenders import get, ours
from crowd import Crowd, publish, raise_file_limit
from harness import LOAD_CORE, folder, post
from streams import resident

READERS = int(os.environ.get("SOAK_READERS", "10000"))
SECONDS = float(os.environ.get("SOAK_SECONDS", "600"))
EVENTS_PER_S = float(os.environ.get("SOAK_EVENTS_PER_S", "5"))
CHANNELS = 10
#: Of all readers: those that stand still at any time, and those that are cut off in a second.
STALLED = 0.01
CUT_PER_S = 0.001
STALL_S = 20.0
LARGE_BYTES = 4000
#: How often memory is looked at.
LOOK_S = 5.0
#: For everybody to have everything after the last event.
PATIENCE_S = 60.0
CONNECTING = 100
#: Events that the log keeps: more than the readers can be behind.
KEPT = 20_000
#: Those that fill the server's memory: 16,384 are held for readers, and 100,000 are 64 MB of pages for SQLite.
FILLING = 150_000


@dataclass(slots=True)
class Soak:
    port: int
    rng: random.Random
    readers: list["Reader"] = field(default_factory=list)
    #: Frames that were read, times that a reader came back or stood still, and what went wrong.
    frames: int = 0
    returns: int = 0
    stalls: int = 0
    errors: list[str] = field(default_factory=list)
    gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CONNECTING))
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def connect(self, reader: "Reader") -> None:
        async def run() -> None:
            async with self.gate:
                loop = asyncio.get_running_loop()
                await loop.create_connection(lambda: reader, "127.0.0.1", self.port)
                await asyncio.wait_for(reader.opened.wait(), 30)

        task = asyncio.create_task(run())
        self.tasks.add(task)
        task.add_done_callback(self._connected)

    def _connected(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.errors.append(f"connecting: {error!r}")


class Reader(asyncio.Protocol):
    """A client that knows its channel, the last id and the last number that it got."""

    def __init__(self, soak: Soak, channel: int) -> None:
        self.soak = soak
        self.channel = channel
        self.opened = asyncio.Event()
        self.last_id = ""
        self.number: int | None = None
        self.over = False
        self.rest = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes.
        self.transport = cast("asyncio.Transport", transport)
        self.rest = b""
        # From its channel's first event at first, so that nothing can be missed before the stream is open. (`since=`
        # would tell, rightly, that some of what filled the memory was trimmed.)
        place = f"last-event-id: {self.last_id}\r\n" if self.last_id else ""
        start = "" if self.last_id else "?last=1000"
        head = f"GET /v1/channels/soak.{self.channel}{start} HTTP/1.1\r\nhost: 127.0.0.1\r\n"
        self.transport.write(f"{head}accept: text/event-stream\r\n{place}\r\n".encode())

    def data_received(self, data: bytes) -> None:
        data = self.rest + data
        if not self.opened.is_set():
            head, mark, data = data.partition(b"\r\n\r\n")
            if not mark:
                self.rest = head
                return
            if b" 200 " not in head[:20]:
                self.soak.errors.append(head.decode("latin-1"))
            self.opened.set()
        *frames, self.rest = data.split(b"\n\n")
        for frame in frames:
            self._take(frame)

    def _take(self, frame: bytes) -> None:
        # The lines between chunks are no fields.
        fields = dict(line.split(b": ", 1) for line in frame.split(b"\n") if b": " in line and line[0] != ord(":"))
        number = int(fields[b"data"][1:].split(b" ")[0]) if b"event" not in fields else -1
        if number < 0 or number != (0 if self.number is None else self.number + 1):
            self.soak.errors.append(f"after {self.number} on channel {self.channel} came {frame!r}")
        self.number = number
        self.last_id = fields[b"id"].decode()
        self.soak.frames += 1

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - how it ended changes nothing
        self.opened = asyncio.Event()
        if not self.over:
            self.soak.returns += 1
            self.soak.connect(self)


async def disturb(soak: Soak) -> None:
    """Cut readers off, and let others stand still for a while."""
    while True:
        await asyncio.sleep(1)
        for _ in range(max(1, round(len(soak.readers) * CUT_PER_S))):
            victim = soak.rng.choice(soak.readers)
            if victim.transport is not None and victim.opened.is_set():
                victim.transport.abort()
        for _ in range(max(1, round(len(soak.readers) * STALLED / STALL_S))):
            soak.stalls += stand_still(soak.rng.choice(soak.readers))


def stand_still(reader: Reader) -> bool:
    transport = reader.transport
    if transport is None or not reader.opened.is_set() or not transport.is_reading():
        return False
    transport.pause_reading()

    def go_on() -> None:
        if not transport.is_closing():
            transport.resume_reading()

    asyncio.get_running_loop().call_later(STALL_S, go_on)
    return True


async def watch(pid: int, seen: list[tuple[float, int]]) -> None:
    begin = time.monotonic()
    while True:
        seen.append((time.monotonic() - begin, resident(pid)))
        await asyncio.sleep(LOOK_S)


def slope(seen: list[tuple[float, int]]) -> float:
    """Bytes a minute over the second half, by least squares; in the first half those who stand still find a level."""
    half = seen[len(seen) // 2 :]
    middle = sum(at for at, _ in half) / len(half)
    level = sum(size for _, size in half) / len(half)
    spread = sum((at - middle) ** 2 for at, _ in half)
    return 60 * sum((at - middle) * (size - level) for at, size in half) / spread if spread else 0.0


async def run(port: int, pid: int) -> bool:
    soak = Soak(port, random.Random(1))
    await fill_memory(port)
    begin = time.monotonic()
    for number in range(READERS):
        reader = Reader(soak, number % CHANNELS)
        soak.readers.append(reader)
        soak.connect(reader)
    await asyncio.gather(*soak.tasks)
    print(
        f"{READERS:,} streams are open after {time.monotonic() - begin:.1f} s; {SECONDS:g} s of soaking …", flush=True
    )
    seen: list[tuple[float, int]] = []
    disturbing, watching = asyncio.create_task(disturb(soak)), asyncio.create_task(watch(pid, seen))
    numbers = iter(range(10**9))

    def request() -> bytes:
        return post("/v1/events", json.dumps(rows("soak", next(numbers))).encode())

    # One connection, since the numbers must be appended in order.
    sent = await publish(port, request, per_second=EVENTS_PER_S, seconds=SECONDS, connections=1)
    disturbing.cancel()
    await everybody_has(soak, sent - 1)
    watching.cancel()
    return report(soak, sent, seen)


async def fill_memory(port: int) -> None:
    """Let the server hold as much as it ever will, before anybody looks at its memory: also the frames of the events in
    its memory, which are made when somebody reads them."""
    reader = Crowd(port, get("/v1/stream?channel=filler.*"), mark=b"\nid: ")
    await reader.gather(1)
    many = [row for number in range(10) for row in rows("filler", number)]
    body = json.dumps(many).encode()
    await publish(port, lambda: post("/v1/events", body), per_second=1000, seconds=FILLING / len(many) / 1000)
    await reader.settled(FILLING * 99 // 100, patience_s=PATIENCE_S)
    reader.leave()


def rows(name: str, number: int) -> list[dict[str, str]]:
    """An event for each channel."""
    return [{"channel": f"{name}.{channel}", "data": f"{number} {fill(channel)}"} for channel in range(CHANNELS)]


def fill(channel: int) -> str:
    """Events of the first channel are so large that whoever stands still falls behind the log."""
    return "." * (LARGE_BYTES if channel == 0 else 0)


async def everybody_has(soak: Soak, number: int) -> None:
    end = time.monotonic() + PATIENCE_S
    while any(reader.number != number for reader in soak.readers) and time.monotonic() < end:  # noqa: ASYNC110 - rare
        await asyncio.sleep(0.2)


def report(soak: Soak, sent: int, seen: list[tuple[float, int]]) -> bool:
    late = sum(reader.number != sent - 1 for reader in soak.readers)
    for reader in soak.readers:
        reader.over = True
        if reader.transport is not None:
            reader.transport.abort()
    print(
        f"{sent * CHANNELS:,} events, {soak.frames:,} deliveries, {soak.returns:,} readers came back, {soak.stalls:,} "
        f"stood still\nlost or out of order: {len(soak.errors)}   without the last event: {late}\n"
        f"memory: {seen[0][1] / 2**20:.1f} MB at first, {seen[-1][1] / 2**20:.1f} MB at last, "
        f"slope over the second half {slope(seen) / 2**10:+.1f} KB a minute"
    )
    for error in soak.errors[:5]:
        print(f"  {error}")
    return not soak.errors and not late


def main() -> None:
    raise_file_limit()
    os.sched_setaffinity(0, {LOAD_CORE})
    with (
        folder() as place,
        ours(place, "--retention-count", str(KEPT)) as contender,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        if not runner.run(run(contender.port, contender.pid)):
            raise SystemExit("FAILED")


if __name__ == "__main__":
    main()
