"""One reader: catching up and live, without a seam."""

import asyncio
import itertools
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hookbrook.core.channel import matches_any
from hookbrook.core.event import Event
from hookbrook.core.sse import HEARTBEAT, Frame, Parser
from hookbrook.errors import StoreUnavailable
from hookbrook.store.base import Page, Query
from hookbrook.store.sqlite import SqliteStore
from hookbrook.stream import position
from hookbrook.stream.feed import SPAN
from hookbrook.stream.position import Start
from hookbrook.stream.reader import Mode
from hookbrook.stream.sink import chunk
from hookbrook.stream.subscription import Format

from .conftest import START_US, MemorySink, Rig, SocketSink, fresh_rig, rig_on, seq_of, until

# Joining


async def test_a_reader_from_now_on_gets_what_comes_next(rig: Rig) -> None:
    await rig.publish(count=3)
    sink = rig.open()
    assert sink.reader is not None
    assert sink.reader.mode is Mode.LIVE
    await rig.publish(count=2)
    assert sink.seqs == [4, 5]


@pytest.mark.parametrize("max_entries", [8, 10_000], ids=["from the store", "from memory"])
async def test_a_reader_from_the_past_gets_it_and_then_what_comes(tmp_path: Path, max_entries: int) -> None:
    async with rig_on(tmp_path, max_entries=max_entries) as rig:
        for _ in range(6):
            await rig.publish(count=150)
        sink = rig.open(start=Start(after=17))
        await rig.settled(sink)
        await rig.publish()
        assert sink.seqs == list(range(18, 902))


async def test_history_of_before_the_feed_was_started_comes_from_the_store(tmp_path: Path) -> None:
    async with rig_on(tmp_path) as rig:
        await rig.publish(count=10)
    async with rig_on(tmp_path) as rig:
        sink = rig.open(start=Start(after=0))
        await rig.settled(sink)
        assert sink.seqs == list(range(1, 11))


async def test_a_reader_far_behind_lets_others_have_their_turn(tmp_path: Path) -> None:
    async with rig_on(tmp_path, max_entries=10 * SPAN) as rig:
        await rig.publish(count=5 * SPAN)
        sink = rig.open(start=Start(after=0))
        assert sink.seqs == list(range(1, SPAN))
        await rig.settled(sink)
        assert len(sink.seqs) == 5 * SPAN


async def test_what_the_store_has_and_the_feed_does_not_know_yet_comes_once(small_rig: Rig) -> None:
    """The writer's thread is a commit ahead of the loop."""
    await small_rig.publish(count=30)
    small_rig.lag.is_held = True
    await small_rig.publish(count=10)
    sinks = [small_rig.open(start=Start(after=after)) for after in (0, 25, 30, 35, 40)]
    told = small_rig.open(start=Start(after=0), control=True)
    await small_rig.settled(told, *sinks)
    small_rig.lag.release()
    await small_rig.publish()
    # Nor is a client ever told a place behind what it has.
    assert [seq_of(frame) for frame in told.frames] == [*range(1, 31), 30, *range(31, 42)]
    assert [sink.seqs for sink in sinks] == [list(range(after + 1, 42)) for after in (0, 25, 30, 35, 40)]


async def test_events_of_a_commit_come_in_order_each_once_whatever_matches(rig: Rig) -> None:
    sink = rig.open("a", "a*", "b", "*")
    await rig.publish("a", "b", count=3)
    await rig.publish("b", "c", "a.1")
    assert sink.seqs == [1, 2, 3, 4]
    again = rig.open("a", "a*", "b", "*", start=Start(after=0))
    await rig.settled(again)
    assert again.seqs == [1, 2, 3, 4]


@pytest.mark.parametrize("start", [None, Start(after=0)], ids=["live", "catching up"])
@pytest.mark.parametrize("max_entries", [1, 1000], ids=["from the store", "from memory"])
async def test_types_and_reserved_names_are_filtered_alike(
    tmp_path: Path, start: Start | None, max_entries: int
) -> None:
    async def publish(rig: Rig) -> None:
        await rig.publish("a", type="paid.late")
        await rig.publish("a", type="hookbrook.sent")
        await rig.publish("hookbrook.x", type="paid")
        await rig.publish("a", type="message")
        await rig.publish("a", type="paid", tenant="other")

    wishes: list[tuple[tuple[str, ...], tuple[str, ...], list[int]]] = [
        (("*",), (), [1, 4]),
        (("a",), ("paid*",), [1]),
        (("*",), ("*",), [1, 4]),
        (("a",), ("hookbrook.sent",), [2]),
        (("hookbrook.*",), ("paid",), [3]),
        (("*", "hookbrook.*"), ("*", "hookbrook.*"), [1, 2, 3, 4]),
    ]
    async with rig_on(tmp_path, max_entries=max_entries) as rig:
        if start is not None:
            await publish(rig)
        sinks = [rig.open(*channels, types=types, start=start) for channels, types, _ in wishes]
        if start is None:
            await publish(rig)
        await rig.settled(*sinks)
        assert [sink.seqs for sink in sinks] == [expected for *_, expected in wishes]


async def test_the_whole_event_names_only_the_channels_that_may_be_known(rig: Rig) -> None:
    sink = rig.open("a", format=Format.EVENT, may_see=lambda channel: channel in ("a", "b"))
    await rig.publish("a", "secret", "b")
    [frame] = sink.frames
    assert json.loads(frame.data)["channels"] == ["a", "b"]
    assert "secret" not in frame.data


# Slow readers


async def test_a_slow_reader_is_given_no_more_than_its_limit_and_gets_all_when_it_drains(small_rig: Rig) -> None:
    sink = small_rig.open(sink=MemorySink(limit=100))
    for _ in range(20):
        await small_rig.publish(count=10)
        assert sink.excess <= sink.largest
    assert sink.reader is not None
    assert sink.reader.mode is Mode.CATCHING_UP
    while len(sink.seqs) < 200:
        sink.drain()
        await small_rig.settled(sink)
        assert sink.excess <= sink.largest
    sink.drain()
    assert sink.seqs == list(range(1, 201))
    await small_rig.settled(sink)
    await small_rig.publish()
    assert sink.seqs[-1] == 201


async def test_a_slow_reader_holds_nothing_back_from_the_others(rig: Rig) -> None:
    slow, fast = rig.open(sink=MemorySink(limit=1)), rig.open()
    await rig.publish(count=5)
    await rig.publish(count=5)
    assert fast.seqs == list(range(1, 11))
    assert slow.seqs == [1, 2, 3, 4, 5]


async def test_what_was_trimmed_behind_a_slow_reader_is_told(small_rig: Rig) -> None:
    sink = small_rig.open(sink=MemorySink(limit=1))
    await small_rig.publish(count=1)
    await small_rig.publish(count=30)
    await small_rig.store.trim(appended_before=None, keep=3, limit=100)
    sink.limit = 1 << 20
    sink.drain()
    sink.reader.resume()  # type: ignore[union-attr]
    await small_rig.settled(sink)
    kinds = [(frame.type, seq_of(frame)) for frame in sink.frames]
    assert kinds == [("message", 1), ("hookbrook.reset", 28), ("message", 29), ("message", 30), ("message", 31)]
    assert json.loads(sink.frames[1].data)["reason"] == "trimmed"


async def test_what_is_trimmed_but_still_in_memory_is_no_gap(rig: Rig) -> None:
    await rig.publish(count=30)
    await rig.store.trim(appended_before=None, keep=0, limit=100)
    sink = rig.open(start=Start(after=5))
    await rig.settled(sink)
    assert sink.seqs == list(range(6, 31))
    assert len(sink.frames) == 25


# Retry and heartbeat


async def test_retry_comes_with_the_greeting_and_is_part_of_the_first_event(rig: Rig) -> None:
    sink = rig.open(start=Start(reset=HEARTBEAT + rig.hub.retry()))
    rig.beat()
    assert re.fullmatch(rb": hb\nretry: \d+\n: hb\n", sink.bytes)
    await rig.publish(count=3)
    assert b"retry" not in sink.waiting[-1]
    retries = [frame.retry_ms for frame in sink.frames]
    assert retries[0] in range(1000, 3001)
    assert retries[1:] == [None, None]


async def test_a_heartbeat_comes_only_to_those_who_got_nothing_since_the_last(rig: Rig) -> None:
    sink = rig.open()
    await rig.publish()
    written = sink.bytes
    rig.beat()
    assert sink.bytes == written
    rig.beat()
    rig.beat()
    assert sink.bytes == written + HEARTBEAT * 2


async def test_no_heartbeat_is_written_while_the_sink_is_full(rig: Rig) -> None:
    sink = rig.open(sink=MemorySink(limit=1))
    await rig.publish()
    written = sink.bytes
    rig.beat()
    rig.beat()
    assert sink.bytes == written
    sink.drain()
    rig.beat()
    assert sink.bytes == written + HEARTBEAT


async def test_a_reader_whose_sink_is_full_at_its_first_beat_gets_one_later(rig: Rig) -> None:
    sink = rig.open(sink=MemorySink(limit=0))
    rig.beat()
    assert sink.bytes == b""
    sink.limit = 10
    rig.beat()
    assert sink.bytes == HEARTBEAT


# Routine control events


async def test_whoever_asks_is_told_once_when_it_has_caught_up_and_where_it_stands(rig: Rig) -> None:
    await rig.publish(count=2)
    asking, quiet = (rig.open("a", start=Start(after=0), control=control) for control in (True, False))
    await rig.settled(asking, quiet)
    assert [frame.type for frame in asking.frames] == ["message", "message", "hookbrook.live"]
    assert seq_of(asking.frames[-1]) == 2
    await rig.publish("elsewhere", count=5)
    for _ in range(3):
        rig.beat()
    # A checkpoint moves the client's cursor; nobody is told the same place twice.
    assert [(frame.type, seq_of(frame)) for frame in asking.frames[3:]] == [
        ("hookbrook.checkpoint", 7),
        ("hookbrook.ping", 7),
    ]
    await rig.publish("a")
    assert (asking.seqs, quiet.seqs) == ([1, 2, 8], [1, 2, 8])
    assert {frame.type for frame in quiet.frames} == {"message"}


# Failing


class Broken(MemorySink):
    """Fails at what it is told to fail at."""

    def __init__(self, *fails: str) -> None:
        super().__init__()
        self.fails = set(fails)

    def write(self, data: bytes) -> None:
        if "write" in self.fails:
            raise OSError("the transport is closed")
        super().write(data)

    def close(self) -> None:
        super().close()
        if "close" in self.fails:
            raise OSError("the transport is closed")


@pytest.mark.parametrize("fails", [("write",), ("write", "close")], ids="+".join)
@pytest.mark.parametrize("place", ["deliver", "beat", "catch up", "page", "last words"])
async def test_a_failing_sink_ends_its_reader_alone(
    tmp_path: Path, fails: tuple[str, ...], place: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with rig_on(tmp_path, max_entries=1 if place == "page" else 1000) as rig:
        if place in ("catch up", "page"):
            await rig.publish(count=5)
        start = Start(after=0) if place in ("catch up", "page") else None
        good, bad, also_good = rig.open(start=start), rig.open(start=start, sink=Broken(*fails)), rig.open(start=start)
        if place == "deliver":
            [appended] = await rig.publish()
            assert appended.seq == 1
        if place == "last words":
            await rig.hub.drain(0)
        rig.beat()
        await rig.settled(good, bad, also_good)
        assert bad.reader is not None
        assert bad.reader.mode is Mode.ENDED
        assert bad.closed
        assert good.bytes
        assert len(good.bytes) == len(also_good.bytes)
        if place != "last words":
            assert not good.closed
            assert len(rig.hub) == 2
        await rig.publish()
        assert "a reader failed and was ended" in caplog.text


class Troubled(SqliteStore):
    """Cannot be read a few times."""

    troubles = 0

    async def read(self, query: Query, *, after: int, limit: int) -> Page:
        if self.troubles:
            self.troubles -= 1
            raise StoreUnavailable("the disk is busy")
        return await super().read(query, after=after, limit=limit)


async def test_a_reader_waits_for_a_store_that_cannot_be_read_and_goes_on_where_it_was(tmp_path: Path) -> None:
    async with rig_on(tmp_path, max_entries=8, make=Troubled) as rig:
        await rig.publish(count=30)
        assert isinstance(rig.store, Troubled)
        rig.store.troubles = 1
        sink = rig.open(start=Start(after=3))
        await until(lambda: rig.store.troubles == 0)  # type: ignore[attr-defined]
        await rig.publish(count=30)
        await rig.settled(sink)
        assert sink.seqs == list(range(4, 61))


async def test_a_client_that_leaves_while_its_page_is_read_is_forgotten(small_rig: Rig) -> None:
    await small_rig.publish(count=30)
    sink = small_rig.open(start=Start(after=0))
    assert sink.reader is not None
    sink.reader.gone()
    await small_rig.publish()
    sink.reader.resume()
    sink.reader.beat()
    sink.reader.end(b"never")
    sink.reader.gone()
    await until(lambda: "hookbrook-catch-up" not in {task.get_name() for task in asyncio.all_tasks()})
    assert (sink.bytes, len(small_rig.hub), sink.closed) == (b"", 0, False)


async def test_an_ended_reader_is_written_no_more(rig: Rig) -> None:
    sink = rig.open()
    assert sink.reader is not None
    sink.reader.end(b"last words")
    await rig.publish()
    rig.beat()
    assert (sink.bytes, sink.closed, len(rig.hub)) == (b"last words", True, 0)


# The seam, under any order of what may happen. Clients come, stall, drain and come back while events are published and
# trimmed; each keeps only what it received. Whatever the order: nothing is lost, doubled or out of order, and what the
# log no longer had was told.

CHANNELS = ["a", "b", "c.1"]
WISHES = [("a",), ("b", "c*"), ("*",), ("a", "a*", "b")]


@dataclass(slots=True)
class Client:
    """What a browser would be: it knows its URL and the last id that it received."""

    rig: Rig
    channels: tuple[str, ...]
    start: Start
    #: Everything that this client should get lies behind this seq, as far as it knows.
    place: int
    limit: int
    is_direct: bool
    last_id: str = ""
    sink: SocketSink = field(init=False)
    parser: Parser = field(default_factory=Parser)

    @property
    def query(self) -> Query:
        return Query(tenant="default", channels=self.channels)

    def connect(self, start: Start) -> None:
        self.parser = Parser()
        self.sink = SocketSink(self.limit, is_direct=self.is_direct)
        self.rig.open(*self.channels, start=start, sink=self.sink)

    def receive(self) -> None:
        for frame in self.parser.feed(self.sink.drain()):
            self._check(frame)
            self.last_id = frame.last_event_id or self.last_id

    def wanted(self, after: int, until_: int) -> list[int]:
        return [event.seq for event in self.rig.log if after < event.seq <= until_ and self._wants(event)]

    def _wants(self, event: Event) -> bool:
        return any(matches_any(self.channels, channel) for channel in event.channels)

    def _check(self, frame: Frame) -> None:
        seq = seq_of(frame)
        if frame.type == "hookbrook.reset":
            assert seq >= self.place
            if json.loads(frame.data)["reason"] == "trimmed":
                # What was told to be gone is gone.
                oldest = self.rig.store.known_bounds().oldest
                assert all(lost < oldest for lost in self.wanted(self.place, seq))
        else:
            assert self.wanted(self.place, seq) == [seq]
        self.place = seq

    async def come_back(self) -> None:
        """The connection is cut; what was under way is lost."""
        assert self.sink.reader is not None
        self.sink.reader.gone()
        # The next connection gets its file descriptor.
        self.sink.hang_up()
        if self.last_id:
            self.connect(await position.resume(self.rig.store, self.query, self.last_id, lenient=True))
        else:
            self.connect(self.start)
            if self.start.after is None:
                assert self.sink.reader is not None
                self.place = self.sink.reader.cursor

    async def finish(self) -> None:
        self.sink.limit = 1 << 30
        self.receive()
        assert self.sink.reader is not None
        self.sink.reader.resume()
        await self.rig.settled(self.sink)
        self.receive()
        assert self.wanted(self.place, self.rig.hub.feed.tail) == []
        assert self.sink.reader.mode is Mode.LIVE


async def begin(rig: Rig, wish: int, kind: str, number: int, limit: int, is_direct: bool) -> Client:
    """A client, and by the model of the log where it should begin."""
    channels = WISHES[wish]
    store, log = rig.store, rig.log
    bounds = await store.bounds()
    client = Client(rig, channels, Start(), rig.hub.feed.newest, limit, is_direct)
    if kind == "cursor":
        client.place = min(number, bounds.tail)
        client.start = await position.resume(
            store, client.query, str(bounds.epochs.cursor(client.place)), lenient=False
        )
    elif kind == "since":
        moment = START_US + number
        client.place = max([0, *(event.seq for event in log if event.appended < moment)])
        client.start = await position.since(store, client.query, moment)
    elif kind == "last":
        seen = [seq for seq in client.wanted(0, bounds.tail) if seq >= bounds.oldest]
        client.place = seen[-number] - 1 if 0 < number <= len(seen) else bounds.oldest - 1 if number else bounds.tail
        client.start = await position.last(store, client.query, number)
    elif kind == "foreign":
        client.place = bounds.tail
        client.start = await position.resume(store, client.query, "zzzzzz-3", lenient=True)
    return client


_steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("publish"), st.sampled_from(CHANNELS), st.integers(1, 12),
            st.sampled_from([1, 1, 1, 900, 3000]), st.booleans(),
        ),
        st.tuples(
            st.just("join"), st.sampled_from(range(len(WISHES))),
            st.sampled_from(["now", "cursor", "cursor", "since", "last", "foreign"]), st.integers(0, 40),
            st.sampled_from([1, 60, 300, 1 << 30]), st.booleans(),
        ),
        st.tuples(st.sampled_from(["drain", "back", "stall"]), st.integers(0, 5)),
        st.tuples(st.just("trim"), st.integers(0, 10)),
        st.tuples(st.just("pause"), st.integers(0, 3)),
        st.tuples(st.sampled_from(["beat", "hold", "release", "busy", "rest"])),
    ),
    min_size=5, max_size=40,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(steps=_steps)
def test_no_order_of_joining_stalling_draining_returning_and_trimming_loses_or_doubles_anything(
    steps: list[tuple[object, ...]],
) -> None:
    asyncio.run(_run(steps))


async def _run(steps: list[tuple[object, ...]]) -> None:
    async with fresh_rig(max_entries=8) as rig:
        clients: list[Client] = []
        publishing: set[asyncio.Task[object]] = set()

        async def published() -> None:
            await asyncio.gather(*publishing)

        for step in steps:
            match step:
                case ("publish", str(channel), int(count), int(size), bool(is_awaited)):
                    rig.clock.now += 1
                    publish = rig.publish(channel, "b", count=count, data=b"1" * size)
                    task: asyncio.Task[object] = asyncio.create_task(publish)
                    publishing.add(task)
                    if is_awaited:
                        await task
                case ("join", int(wish), str(kind), int(number), int(limit), bool(is_direct)):
                    if kind != "now":
                        await published()
                    client = await begin(rig, wish, kind, number, limit, is_direct)
                    client.connect(client.start)
                    clients.append(client)
                case (str(name), int(which)) if name in ("drain", "back", "stall") and clients:
                    chosen = clients[which % len(clients)]
                    if name == "drain":
                        chosen.receive()
                    elif name == "stall":
                        chosen.sink.limit = 1
                    else:
                        await chosen.come_back()
                case ("trim", int(keep)):
                    await rig.store.trim(appended_before=None, keep=keep, limit=100)
                case ("pause", int(turns)):
                    for _ in range(turns):
                        await asyncio.sleep(0.001)
                case ("beat",):
                    rig.beat()
                case ("hold",):
                    rig.lag.is_held = True
                case ("release",):
                    rig.lag.release()
                case ("busy",):
                    rig.pace.is_busy = True
                case ("rest",):
                    rig.pace.rest()
        await published()
        rig.lag.release()
        rig.pace.rest()
        for client in clients:
            await client.finish()
            sink = client.sink
            assert sink.excess <= sink.largest + len(chunk(HEARTBEAT))


@settings(max_examples=6, deadline=None)
@given(
    delays=st.lists(st.integers(0, 30), min_size=1, max_size=8),
    limits=st.lists(st.sampled_from([100, 1000, 1 << 30]), min_size=8, max_size=8),
)
def test_readers_who_join_while_many_publish_get_everything_once(delays: list[int], limits: list[int]) -> None:
    async def run() -> None:
        async with fresh_rig(max_entries=32) as rig:

            async def publish() -> None:
                for _ in range(4):
                    await rig.publish(count=9)

            async def join(delay: int, limit: int) -> tuple[int, MemorySink]:
                await asyncio.sleep(delay / 1000)
                after = max(0, rig.hub.feed.tail - delay)
                sink = rig.open(start=Start(after=after), sink=MemorySink(limit))
                return after, sink

            joined = asyncio.gather(*map(join, delays, itertools.cycle(limits)))
            await asyncio.gather(*[publish() for _ in range(4)])
            for after, sink in await joined:
                while len(sink.seqs) < len(rig.log) - after:
                    sink.drain()
                    await rig.settled(sink)
                assert sink.seqs == list(range(after + 1, len(rig.log) + 1))

    asyncio.run(run())
