"""Many readers of one stream, and one who publishes to them: the load of the stream benchmarks, on a core of its own.

An event's data begins with the moment at which it was sent, so that whoever receives it knows how long it took; both
are this process, so it is one clock. Readers count frames by their ends. That is all they do: a crowd must cost less
than what it measures.
"""

import asyncio
import os
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

#: Every so many readers look at the times; reading all of them would cost more than receiving.
SAMPLED = 10
#: Connections that may be under way at once; the kernel of a peer may hold no more than 128 (nginx: 511).
CONNECTING = 100
#: Connections that publish: an answer that takes long, such as a commit's, must not hold the next event back.
PUBLISHERS = 16
#: An event's data in all.
EVENT_BYTES = 100


def raise_file_limit() -> int:
    """As many open files as this user may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


class Refused(Exception):
    """A server would not take all readers."""


class Listener(asyncio.Protocol):
    """One reader."""

    __slots__ = ("_crowd", "_is_sampled", "frames", "opened", "transport")

    def __init__(self, crowd: "Crowd", *, is_sampled: bool) -> None:
        self._crowd = crowd
        self._is_sampled = is_sampled
        self.opened = asyncio.Event()
        self.frames = 0
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes.
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(self._crowd.request)

    def data_received(self, data: bytes) -> None:
        if not self.opened.is_set():
            self._open(data)
        crowd = self._crowd
        # What is cut in the middle of its mark is rare and counted with the rest, as one byte too little at most.
        count = data.count(crowd.mark)
        self.frames += count
        crowd.frames += count
        if self._is_sampled and count:
            now = time.perf_counter()
            place = data.find(crowd.mark)
            while place >= 0:
                stamp = data[place + 2 : place + 2 + STAMP_DIGITS]
                if len(stamp) == STAMP_DIGITS and stamp.isdigit():
                    crowd.waits.append(now - int(stamp) / 1e6)
                place = data.find(crowd.mark, place + 1)

    def _open(self, data: bytes) -> None:
        if not data.startswith(b"HTTP/1.1 200"):
            self._crowd.refused.append(data[:200])
        self.opened.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - how it ended changes nothing
        self._crowd.lost += 1


#: Digits of a moment in microseconds.
STAMP_DIGITS = 16


def stamped(size: int = EVENT_BYTES) -> bytes:
    """Data that no server has a reason to change, with the moment in front."""
    head = b"@@%016d" % int(time.perf_counter() * 1e6)
    return head + b"." * (size - len(head))


@dataclass(slots=True)
class Crowd:
    """All readers of one server."""

    port: int
    request: bytes
    mark: bytes = b"@@"
    readers: list[Listener] = field(default_factory=list)
    #: How the answers began that were no streams.
    refused: list[bytes] = field(default_factory=list)
    lost: int = 0
    frames: int = 0
    #: Seconds from sending to receiving, of the sampled readers.
    waits: list[float] = field(default_factory=list)

    async def gather(self, count: int, *, patience_s: float = 60.0) -> float:
        """Connect so many and wait until each has the head of its answer; returns the seconds that it took."""
        loop = asyncio.get_running_loop()
        begin = time.perf_counter()
        gate = asyncio.Semaphore(CONNECTING)

        async def connect(number: int) -> None:
            async with gate:
                _, listener = await loop.create_connection(
                    lambda: Listener(self, is_sampled=number % SAMPLED == 0), "127.0.0.1", self.port
                )
                self.readers.append(listener)
                await listener.opened.wait()

        async with asyncio.timeout(patience_s):
            await asyncio.gather(*map(connect, range(count)))
        if self.refused:
            raise Refused(f"{len(self.refused)} of {count} readers were refused: {self.refused[0]!r}")
        return time.perf_counter() - begin

    async def settled(self, frames: int, *, patience_s: float) -> bool:
        """Whether so many frames have arrived in all, in time."""
        end = time.perf_counter() + patience_s
        while self.frames < frames and time.perf_counter() < end:  # noqa: ASYNC110 - an event for each frame costs more
            await asyncio.sleep(0.01)
        return self.frames >= frames

    def leave(self) -> None:
        for reader in self.readers:
            if reader.transport is not None:
                reader.transport.abort()


class Publisher(asyncio.Protocol):
    """One connection on which requests follow each other, each after the answer to the last."""

    def __init__(self) -> None:
        self.is_lost = False
        self._answered: asyncio.Future[bytes] | None = None
        self._transport: asyncio.Transport | None = None
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._rest += data
        end = self._rest.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._rest[:end].lower()
        place = head.find(b"content-length: ")
        length = int(head[place + 16 :].split(b"\r\n")[0]) if place >= 0 else 0
        if b"transfer-encoding: chunked" in head:
            if not self._rest.endswith(b"0\r\n\r\n"):
                return
        elif len(self._rest) < end + 4 + length:
            return
        answer, self._rest = self._rest, b""
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - how it ended changes nothing
        self.is_lost = True

    async def post(self, request: bytes) -> None:
        assert self._transport is not None
        self._answered = asyncio.get_running_loop().create_future()
        # At once, not at the end of the loop's turn as a transport would: what it was stamped with is when it leaves.
        sent = os.write(self._transport.get_extra_info("socket").fileno(), request)
        if sent < len(request):
            self._transport.write(request[sent:])
        answer = await asyncio.wait_for(self._answered, 30)
        if not answer.startswith(b"HTTP/1.1 2"):
            raise SystemExit(f"publishing was answered {answer[:200]!r}")


async def publish(
    port: int, make: Callable[[], bytes], *, per_second: float, seconds: float, connections: int = PUBLISHERS
) -> int:
    """Send what `make` gives at a steady pace, late ones at once; returns how many were sent."""
    loop = asyncio.get_running_loop()
    # Opened when needed, since Pushpin closes each after one request.
    free: asyncio.Queue[Publisher | None] = asyncio.Queue()
    for _ in range(connections):
        free.put_nowait(None)
    begin = time.perf_counter()
    total = max(1, round(per_second * seconds))
    running: set[asyncio.Task[None]] = set()

    async def send(publisher: Publisher | None) -> None:
        if publisher is None or publisher.is_lost:
            _, publisher = await loop.create_connection(Publisher, "127.0.0.1", port)
        await publisher.post(make())
        free.put_nowait(publisher)

    for number in range(total):
        wait = begin + number / per_second - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        task = asyncio.create_task(send(await free.get()))
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.gather(*running)
    return total
