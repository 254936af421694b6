"""Streams on a real store, read through a sink that drains when the test says so."""

import asyncio
import itertools
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Self

import pytest

from hookbrook.core.event import JSON_TYPE, Appended, Event, NewEvent
from hookbrook.core.sse import Frame, Parser
from hookbrook.store.base import Bounds, Listener, Page, Query, Standing
from hookbrook.store.sqlite import SqliteStore
from hookbrook.stream.feed import Feed
from hookbrook.stream.hub import BEAT_SLICES, Hub
from hookbrook.stream.position import Start
from hookbrook.stream.reader import Mode, Reader
from hookbrook.stream.sink import Batch, Direct, chunk
from hookbrook.stream.subscription import Subscription

START_US = 1_790_000_000_000_000
SECOND_US = 1_000_000
#: No wait in these tests is longer; a test that needs it has failed.
PATIENCE_S = 10.0
#: What the stream says on its own account.
CONTROL = {
    f"hookbrook.{word}"
    for word in ("reset", "live", "checkpoint", "ping", "expiring", "expired", "drain", "busy", "closed")
}
#: As good as no limit.
ROOMY = 1 << 30


class Clock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = START_US

    def __call__(self) -> int:
        return self.now


class MemorySink:
    """`Sink` in memory: what was written waits until `drain` hands it to the client."""

    def __init__(self, limit: int = ROOMY) -> None:
        self.limit = limit
        self.waiting: list[bytes] = []
        self.received: list[bytes] = []
        self.closed = False
        self.sent = 0
        self.reader: Reader | None = None
        #: The most that ever waited beyond the limit, and the largest chunk.
        self.excess = 0
        self.largest = 0

    @property
    def size(self) -> int:
        return sum(map(len, self.waiting))

    @property
    def full(self) -> bool:
        return self.size >= self.limit

    @property
    def direct(self) -> Direct | None:
        return None

    def write(self, data: bytes) -> None:
        self.sent += len(data)
        self.waiting.append(data)
        self.largest = max(self.largest, len(data))
        self.excess = max(self.excess, self.size - self.limit)

    def share(self, batch: Batch) -> None:
        self.write(batch.plain)

    def close(self) -> None:
        self.closed = True

    def drain(self) -> bytes:
        """Hand over what waits, and go on if there is room now."""
        was_full, taken = self.full, self.waiting
        self.received += taken
        self.waiting = []
        if was_full and not self.full and self.reader is not None:
            self.reader.resume()
        return b"".join(taken)

    def hang_up(self) -> None:
        """Nobody is left who would take anything."""

    @property
    def bytes(self) -> bytes:
        """All that was written."""
        return b"".join([*self.received, *self.waiting])

    @property
    def frames(self) -> list[Frame]:
        return Parser().feed(self.bytes)

    @property
    def seqs(self) -> list[int]:
        """Seqs of the events that were written, without our control events."""
        return [seq_of(frame) for frame in self.frames if frame.type not in CONTROL]


class SocketSink(MemorySink):
    """`MemorySink` whose client has a socket with little room: what that does not take waits here.

    Args:
        is_direct: offer the socket to those who would write to it themselves.
    """

    def __init__(self, limit: int = ROOMY, *, is_direct: bool = True) -> None:
        super().__init__(limit)
        self.mine, self._theirs = socket.socketpair()
        for end in (self.mine, self._theirs):
            end.setblocking(False)
        # The least that the kernel allows: a few thousand bytes.
        self.mine.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        self._is_direct = is_direct
        self._wire = bytearray()
        #: What the sink itself was given to write.
        self.writes: list[bytes] = []

    @property
    def direct(self) -> Self | None:
        return self if self._is_direct else None

    @property
    def fd(self) -> int | None:
        return None if self.waiting else self.mine.fileno()

    def write(self, data: bytes) -> None:
        self.sent += len(data)
        self._push(chunk(data))

    def share(self, batch: Batch) -> None:
        self.sent += batch.size
        self._push(batch.chunked)

    def finish(self, batch: Batch, taken: int) -> None:
        self._push(batch.chunked[taken:])

    def _push(self, data: bytes) -> None:
        self.writes.append(data)
        self.waiting.append(data)
        self.largest = max(self.largest, len(data))
        self._flush()
        self.excess = max(self.excess, self.size - self.limit)

    def _flush(self) -> bool:
        """Give the socket what it takes; whether that was anything."""
        before = self.size
        with suppress(BlockingIOError):
            while self.waiting:
                taken = self.mine.send(self.waiting[0])
                self.waiting[:1] = [self.waiting[0][taken:]] if taken < len(self.waiting[0]) else []
        return self.size < before

    def drain(self) -> bytes:
        was_full, before = self.full, len(self.received)
        self._pull()
        if was_full and not self.full and self.reader is not None:
            self.reader.resume()
        return b"".join(self.received[before:])

    def _pull(self) -> None:
        """Let the client take all that there is."""
        while True:
            with suppress(BlockingIOError):
                while data := self._theirs.recv(65536):
                    self._wire += data
            if not self._flush():
                break
        while (end := self._wire.find(b"\r\n")) >= 0:
            size = int(self._wire[:end], 16)
            if len(self._wire) < end + size + 4:
                break
            assert self._wire[end + 2 + size : end + size + 4] == b"\r\n"
            self.received.append(bytes(self._wire[end + 2 : end + 2 + size]))
            del self._wire[: end + size + 4]

    @property
    def bytes(self) -> bytes:
        self._pull()
        return b"".join(self.received)

    def hang_up(self) -> None:
        """Close both ends, so that others get their file descriptors; the reader must be gone."""
        self.mine.close()
        self._theirs.close()


class HandPace:
    """`Pace` by hand: news leaves at once, unless a test says that the loop is busy."""

    def __init__(self) -> None:
        self._leave: Callable[[], None] = lambda: None
        self.is_busy = False

    def start(self, leave: Callable[[], None]) -> None:
        self._leave = leave

    def news(self) -> None:
        if not self.is_busy:
            self._leave()

    def rest(self) -> None:
        """The loop has time again."""
        self.is_busy = False
        self._leave()


class LaggingLog:
    """The log of a store whose news can be held back, as they are between a commit and the loop's next step."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self._listener: Listener | None = None
        self._news: list[Event] = []
        self.is_held = False

    def follow(self, listener: Listener) -> Bounds:
        self._listener = listener
        return self._store.follow(self._hear)

    def unfollow(self, listener: Listener) -> None:
        self._store.unfollow(self._hear)

    def _hear(self, events: Sequence[Event]) -> None:
        self._news += events
        if not self.is_held:
            self.release()

    def release(self) -> None:
        news, self._news, self.is_held = self._news, [], False
        if news and self._listener is not None:
            self._listener(news)

    async def read(self, query: Query, *, after: int, limit: int) -> Page:
        return await self._store.read(query, after=after, limit=limit)

    async def read_back(self, query: Query, *, before: int, limit: int, bare: bool = False) -> Page:
        return await self._store.read_back(query, before=before, limit=limit, bare=bare)

    async def standing(self, query: Query, *, after: int) -> Standing:
        return await self._store.standing(query, after=after)

    async def bounds(self) -> Bounds:
        return await self._store.bounds()


def seq_of(frame: Frame) -> int:
    return int(frame.last_event_id.partition("-")[2])


@dataclass(slots=True)
class Rig:
    store: SqliteStore
    lag: LaggingLog
    hub: Hub
    clock: Clock
    pace: HandPace
    #: Everything that was ever appended, in order.
    log: list[Event] = field(default_factory=list)
    sinks: list[MemorySink] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    async def publish(self, *channels: str, count: int = 1, **fields: object) -> list[Appended]:
        """Events on these channels (`a` if none), as one batch."""
        batch = [event(f"e{next(self._numbers)}", *channels, **fields) for _ in range(count)]
        version, _ = await self.store.routes()
        return await self.store.append(batch, [()] * count, version)

    def open(
        self, *channels: str, start: Start | None = None, sink: MemorySink | None = None, expires: int | None = None,
        **wishes: object,
    ) -> MemorySink:  # fmt: skip
        """A reader of these channels (`*` if none), begun."""
        values: dict[str, object] = {"tenant": "default", "channels": channels or ("*",), **wishes}
        made, begin = sink or MemorySink(), start or Start()
        self.sinks.append(made)
        made.reader = self.hub.open(
            Subscription(**values),  # type: ignore[arg-type]
            made,
            after=begin.after,
            expires=expires,
            greeting=begin.reset,
            standing=begin.standing,
        )
        made.reader.resume()
        return made

    async def settled(self, *sinks: MemorySink) -> None:
        """Wait until each reader is live, full, ended, or ahead of what was announced."""
        await until(lambda: all(self._is_settled(sink) for sink in sinks))

    def _is_settled(self, sink: MemorySink) -> bool:
        assert sink.reader is not None
        if sink.full or sink.reader.mode is not Mode.CATCHING_UP:
            return True
        return sink.reader.cursor > self.hub.feed.tail

    def beat(self) -> None:
        """A whole heartbeat."""
        for _ in range(BEAT_SLICES):
            self.hub.beat_once()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - the condition is another part's state, without an event of its own
            await asyncio.sleep(0.001)


def event(id: str, *channels: str, **fields: object) -> NewEvent:
    values: dict[str, object] = {
        "id": id, "channels": channels or ("a",), "time": START_US, "content_type": JSON_TYPE, "kind": "json",
        "data": b"1", "dedupe_id": id, **fields,
    }  # fmt: skip
    return NewEvent(**values)  # type: ignore[arg-type]


def kept(seq: int, *channels: str, **fields: object) -> Event:
    """An event as the log would hold it."""
    values: dict[str, object] = {
        "seq": seq, "epoch": "abcdef", "id": f"e{seq}", "channels": channels or ("a",), "type": "message",
        "tenant": "default", "source": None, "time": START_US, "appended": START_US, "content_type": JSON_TYPE,
        "kind": "json", "data": b"1", **fields,
    }  # fmt: skip
    return Event(**values)  # type: ignore[arg-type]


@asynccontextmanager
async def rig_on(
    folder: Path, *, max_entries: int = 1000, make: Callable[..., SqliteStore] = SqliteStore
) -> AsyncIterator[Rig]:
    clock = Clock()
    store = make(folder / "hookbrook.db", clock=clock)
    await store.open()
    # The heartbeat comes by `Rig.beat` alone.
    lag = LaggingLog(store)
    pace = HandPace()
    feed = Feed(lag, max_entries=max_entries, pace=pace)  # type: ignore[arg-type]
    hub = Hub(lag, clock=clock, rng=Random(1), heartbeat_s=1e6, feed=feed)  # type: ignore[arg-type]
    hub.start()
    rig = Rig(store, lag, hub, clock, pace)
    store.follow(rig.log.extend)
    try:
        yield rig
    finally:
        for reader in hub.readers():
            reader.gone()
        for sink in rig.sinks:
            sink.hang_up()
        await hub.stop()
        await store.close()


@asynccontextmanager
async def fresh_rig(**settings: int) -> AsyncIterator[Rig]:
    """For properties, which need one for each example."""
    with tempfile.TemporaryDirectory() as folder:
        async with rig_on(Path(folder), **settings) as rig:  # type: ignore[arg-type]
            yield rig


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig_on(tmp_path) as made:
        yield made


@pytest.fixture
async def small_rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """Its feed holds so little that readers who are behind must page from the store."""
    async with rig_on(tmp_path, max_entries=8) as made:
        yield made
