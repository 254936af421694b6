"""The seam under any order of what may happen, with channels that are closed, deleted and trimmed on their own.

Clients come by every kind of start, stall, drain and come back; events are published, held back between commit and
announcement, trimmed as a whole and by channel; channels are closed, deleted and opened again. Each client keeps only
what it received. Whatever the order: nothing is lost, doubled or out of order; what the log no longer shows was told,
after it was lost; and a stream ends only when nothing was left.
"""

import asyncio
import os
import tempfile
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hookbrook.core.channel import matches_any
from hookbrook.core.event import Event
from hookbrook.core.sse import Frame, Parser
from hookbrook.errors import ChannelClosed
from hookbrook.store.base import ChannelTrim, Query
from hookbrook.stream import position
from hookbrook.stream.position import Start
from hookbrook.stream.reader import Mode

from .conftest import CONTROL, Rig, SocketSink, rig_on, seq_of

T = TypeVar("T")
CHANNELS = ["a", "b", "c.1"]
WISHES = [("a",), ("b",), ("a", "b"), ("b", "c*"), ("*",)]
#: What is kept of one channel when it is trimmed on its own.
RULE = ChannelTrim(pattern="a", appended_before=None, keep=2)
ROOMY = 1 << 30


class Sink(SocketSink):
    """Remembers at which step a gap was told."""

    def __init__(self, world: "World", limit: int, *, is_direct: bool) -> None:
        super().__init__(limit, is_direct=is_direct)
        self._world = world
        self.told: list[int] = []

    def write(self, data: bytes) -> None:
        if b"event: hookbrook.reset" in data:
            self.told.append(self._world.step)
        super().write(data)


@dataclass
class World:
    """What there is, and when it went: the model."""

    rig: Rig
    step: int = 0
    #: After each step that may have removed something: the step, the channels' floors, the log's oldest seq.
    losses: list[tuple[int, dict[str, int], int]] = field(default_factory=list)

    async def look(self) -> None:
        floors = {}
        for channel in CHANNELS:
            lost = (await self.rig.store.standing(Query(tenant="default", channels=(channel,)), after=0)).lost
            floors[channel] = lost.seq if lost else 0
        self.losses.append((self.step, floors, (await self.rig.store.bounds()).oldest))

    def lost_at(self, event: Event, patterns: tuple[str, ...]) -> int | None:
        """The step at which readers of these patterns could no longer see it."""
        for step, floors, oldest in self.losses:
            seen = (matches_any(patterns, name) and floors[name] < event.seq for name in event.channels)
            if event.seq < oldest or not any(seen):
                return step
        return None


@dataclass
class Client:
    """What a browser would be: it knows its URL and the last id that it received."""

    world: World
    channels: tuple[str, ...]
    #: Everything up to here was received, or told to be gone.
    place: int
    limit: int
    is_direct: bool
    sink: Sink = field(init=False)
    parser: Parser = field(default_factory=Parser)
    last_id: str = ""
    #: It began with the last few events, and what had been lost before is nothing to it.
    opened: int = -1
    is_over: bool = False

    @property
    def query(self) -> Query:
        return Query(tenant="default", channels=self.channels)

    async def connect(self, start: Start) -> None:
        """As the door does it."""
        rig = self.world.rig
        after = rig.hub.feed.newest if start.after is None else start.after
        standing = start.standing
        if self.query.is_exact:
            closed = (await rig.store.standing(self.query, after=after)).closed
            standing = type(standing)(closed=closed, lost=standing.lost, losses=standing.losses)
            if len(closed) == len(self.channels) and after >= max(closed.values()) and not start.reset:
                self._skip_to(after, told=[])
                self.is_over = True
                return
        self.parser = Parser()
        self.sink = Sink(self.world, self.limit, is_direct=self.is_direct)
        begun = Start(after=after, reset=start.reset, standing=standing)
        rig.open(*self.channels, start=begun, sink=self.sink)

    def receive(self) -> None:
        for frame in self.parser.feed(self.sink.drain()):
            self._take(frame)
            self.last_id = frame.last_event_id or self.last_id

    def _take(self, frame: Frame) -> None:
        seq = seq_of(frame) if frame.last_event_id else self.place
        if frame.type in CONTROL:
            assert seq >= self.place or frame.type == "hookbrook.reset"
            self._skip_to(seq, told=self.sink.told)
            self.is_over = self.is_over or frame.type == "hookbrook.closed"
        else:
            [event] = [each for each in self.world.rig.log if each.seq == seq]
            assert seq > self.place
            assert self._wants(event)
            self._skip_to(seq - 1, told=self.sink.told)
            self.place = seq

    def _skip_to(self, seq: int, *, told: list[int]) -> None:
        for event in self.world.rig.log:
            if self.place < event.seq <= seq and self._wants(event):
                lost = self.world.lost_at(event, self.channels)
                assert lost is not None, f"{event.seq} is missing"
                assert lost <= self.opened or any(step >= lost for step in told), (
                    f"nobody said that {event.seq} is gone"
                )
        self.place = max(self.place, seq)

    def _wants(self, event: Event) -> bool:
        return event.effect != "delete" and any(matches_any(self.channels, name) for name in event.channels)

    async def come_back(self) -> None:
        """The connection is cut; what was under way is lost."""
        assert self.sink.reader is not None
        self.sink.reader.gone()
        # The next connection gets its file descriptor.
        self.sink.hang_up()
        rig = self.world.rig
        cursor = self.last_id or rig.hub.feed.cursor_at(self.place)
        await self.connect(await position.resume(rig.store, self.query, cursor, lenient=True))

    async def finish(self) -> None:
        """Read all that there is."""
        while not self.is_over:
            self.sink.limit = ROOMY
            self.receive()
            assert self.sink.reader is not None
            self.sink.reader.resume()
            await self.world.rig.settled(self.sink)
            self.receive()
            assert self.is_over or self.sink.reader.mode is not Mode.ENDED
            if self.sink.reader.mode is Mode.LIVE:
                self._skip_to(self.world.rig.hub.feed.tail, told=self.sink.told)
                return


class Seam(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.stack = AsyncExitStack()
        self.clients: list[Client] = []
        folder = self.stack.enter_context(tempfile.TemporaryDirectory())
        self.rig = self.run(self.stack.enter_async_context(rig_on(Path(folder), max_entries=8)))
        self.world = World(self.rig)
        self.run(self.world.look())

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(coroutine)

    @rule(
        names=st.lists(st.sampled_from(CHANNELS), min_size=1, max_size=2, unique=True),
        count=st.integers(1, 9),
        effect=st.sampled_from(["", "", "", "", "close", "delete"]),
        size=st.sampled_from([1, 1, 1, 900, 3000]),
    )
    def publish(self, names: list[str], count: int, effect: str, size: int) -> None:
        async def act() -> None:
            fields: dict[str, Any] = {"data": b"1" * size}
            if effect == "delete":
                fields |= {"effect": effect, "type": "hookbrook.deleted"}
            try:
                await self.rig.publish(*names, count=count, **fields)
                if effect == "close":
                    await self.rig.publish(*names, effect="close")
            except ChannelClosed:
                assert effect != "delete"
            await self.world.look()

        self.run(act())

    @rule(
        wish=st.sampled_from(WISHES),
        kind=st.sampled_from(["now", "cursor", "cursor", "last", "foreign"]),
        number=st.integers(0, 40),
        limit=st.sampled_from([1, 60, 300, ROOMY]),
        is_direct=st.booleans(),
    )
    def join(self, wish: tuple[str, ...], kind: str, number: int, limit: int, is_direct: bool) -> None:
        async def act() -> None:
            store = self.rig.store
            bounds = await store.bounds()
            client = Client(self.world, wish, self.rig.hub.feed.newest, limit, is_direct)
            start = Start()
            if kind == "cursor":
                client.place = min(number, bounds.tail)
                cursor = str(bounds.epochs.cursor(client.place))
                start = await position.resume(store, client.query, cursor, lenient=False)
            elif kind == "last":
                start = await position.last(store, client.query, number)
                assert start.after is not None
                client.place, client.opened = start.after, self.world.step
            elif kind == "foreign":
                start = await position.resume(store, client.query, "zzzzzz-3", lenient=True)
                client.place = bounds.tail
            await client.connect(start)
            if not client.is_over:
                self.clients.append(client)

        self.run(act())

    @precondition(lambda self: self.clients)
    @rule(which=st.integers(0, 9), what=st.sampled_from(["drain", "drain", "stall", "come back"]))
    def behave(self, which: int, what: str) -> None:
        client = self.clients[which % len(self.clients)]
        if what == "stall":
            client.sink.limit = 1
            return

        async def act() -> None:
            client.receive()
            if what == "come back" and not client.is_over:
                await client.come_back()
            if client.is_over:
                self.clients.remove(client)

        self.run(act())

    @rule(keep=st.integers(0, 12))
    def trim(self, keep: int) -> None:
        self.run(self.rig.store.trim(appended_before=None, keep=keep, limit=1000))
        self.run(self.world.look())

    @rule()
    def trim_channel(self) -> None:
        self.run(self.rig.store.trim(appended_before=None, keep=None, limit=1000, channels=[RULE]))
        self.run(self.world.look())

    @rule(turns=st.integers(1, 3))
    def wait(self, turns: int) -> None:
        async def act() -> None:
            for _ in range(turns):
                await asyncio.sleep(0.001)

        self.run(act())

    @rule(what=st.sampled_from(["hold", "release", "beat", "forget pages"]))
    def happen(self, what: str) -> None:
        async def act() -> None:
            if what == "hold":
                self.rig.lag.is_held = True
            elif what == "release":
                self.rig.lag.release()
            elif what == "beat":
                self.rig.beat()
            else:
                # Time passes, after which pages are read anew.
                self.rig.hub.pages._kept.clear()

        self.run(act())

    @invariant()
    def time_passes(self) -> None:
        if hasattr(self, "world"):
            self.world.step += 1

    def teardown(self) -> None:
        if not hasattr(self, "rig"):
            return

        async def act() -> None:
            self.rig.lag.release()
            for client in self.clients:
                await client.finish()

        try:
            self.run(act())
        finally:
            self.run(self.stack.aclose())
            self.loop.close()


TestSeam = Seam.TestCase
#: `SEAM_EXAMPLES=2000` looks for hours where the usual run looks for seconds, which is the same run each time.
EXAMPLES = int(os.environ.get("SEAM_EXAMPLES", "15"))
TestSeam.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=40, deadline=None, derandomize="SEAM_EXAMPLES" not in os.environ
)
