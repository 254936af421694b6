"""Who gets which event, who is kept alive, and who is sent away."""

import asyncio
from pathlib import Path
from random import Random

from hookbrook.core.sse import HEARTBEAT
from hookbrook.stream.feed import MAX_NEWS_BYTES
from hookbrook.stream.hub import BEAT_SLICES, DRAIN_STEP, Hub
from hookbrook.stream.position import Start
from hookbrook.stream.reader import Mode
from hookbrook.stream.subscription import MAX_BATCH_BYTES, Subscription

from .conftest import MemorySink, Rig, rig_on, until


async def test_each_reader_gets_what_it_asked_for_and_nothing_of_other_tenants(rig: Rig) -> None:
    wishes = {
        "a": rig.open("a"),
        "a*": rig.open("a*"),
        "a,b": rig.open("a", "b"),
        "paid": rig.open("*", types=("paid",)),
        "theirs": rig.open("*", tenant="two"),
    }
    await rig.publish("a")
    await rig.publish("a.1", "b", type="paid")
    await rig.publish("a", tenant="two")
    got = {name: sink.seqs for name, sink in wishes.items()}
    assert got == {"a": [1], "a*": [1, 2], "a,b": [1, 2], "paid": [2], "theirs": [3]}


async def test_a_reader_of_a_source_gets_what_arrived_there_on_whatever_channel(rig: Rig) -> None:
    wishes = {
        "billing": rig.open(source="billing"),
        "and unverified": rig.open("*", "hookbrook.unverified.billing", source="billing"),
        "paid": rig.open(source="billing", types=("paid",)),
        "of another tenant": rig.open(source="billing", tenant="two"),
        "a": rig.open("a"),
    }
    await rig.publish("a", source="billing")
    await rig.publish("b", source="github")
    await rig.publish("c", source="billing", type="paid")
    await rig.publish("hookbrook.unverified.billing", source="billing")
    await rig.publish("a")
    got = {name: sink.seqs for name, sink in wishes.items()}
    assert got == {"billing": [1, 3], "and unverified": [1, 3, 4], "paid": [3], "of another tenant": [], "a": [1, 5]}


async def test_a_reader_of_a_source_that_has_left_gets_nothing_more(rig: Rig) -> None:
    staying, leaving = rig.open(source="billing"), rig.open(source="billing")
    assert leaving.reader is not None
    leaving.reader.gone()
    await rig.publish("a", source="billing")
    assert (staying.seqs, leaving.seqs) == ([1], [])


async def test_a_commit_of_many_events_comes_to_each_reader_in_order(rig: Rig) -> None:
    everything, some = rig.open(), rig.open("b", types=("paid", "message"))
    for _ in range(5):
        await asyncio.gather(rig.publish("a", count=3), rig.publish("b", count=3), rig.publish("b", type="late"))
    assert everything.seqs == list(range(1, 36))
    assert some.seqs == sorted(some.seqs)
    assert len(some.seqs) == 15


async def test_readers_are_counted_until_they_leave(rig: Rig) -> None:
    sinks = [rig.open(str(number)) for number in range(50)]
    assert len(rig.hub) == 50
    assert {id(reader) for reader in rig.hub.readers()} == {id(sink.reader) for sink in sinks}
    for sink in sinks:
        assert sink.reader is not None
        sink.reader.gone()
        sink.reader.gone()
    assert len(rig.hub) == 0


async def test_one_turn_of_the_heartbeat_reaches_a_part_and_a_round_reaches_all(rig: Rig) -> None:
    sinks = [rig.open() for _ in range(10 * BEAT_SLICES)]
    for turn in range(1, BEAT_SLICES + 1):
        rig.hub.beat_once()
        assert sum(sink.bytes == HEARTBEAT for sink in sinks) == 10 * turn


async def test_the_heartbeat_comes_by_itself(tmp_path: Path) -> None:
    async with rig_on(tmp_path) as rig:
        hub = Hub(rig.store, clock=rig.clock, rng=Random(1), heartbeat_s=0.015)
        hub.start()
        sink = MemorySink()
        sink.reader = hub.open(Subscription(tenant="default", channels=("a",)), sink, after=None, expires=None)
        sink.reader.resume()
        await until(lambda: sink.bytes == HEARTBEAT * 3)
        await hub.stop()


async def test_draining_tells_every_reader_and_ends_it(rig: Rig) -> None:
    live = [rig.open() for _ in range(2 * DRAIN_STEP + 1)]
    await rig.publish()
    stalled = rig.open(sink=MemorySink(limit=1), start=Start(after=0))
    await rig.publish(count=5)
    await rig.hub.drain(0.03)
    assert len(rig.hub) == 0
    for sink in [*live, stalled]:
        assert sink.closed
        assert sink.frames[-1].type == "hookbrook.drain"
        assert sink.frames[-1].retry_ms in range(1000, 5001)
        assert sink.reader is not None
        assert sink.reader.mode is Mode.ENDED
    # Not all are told to come back at once.
    assert len({sink.frames[-1].retry_ms for sink in live}) > 100


async def test_whoever_comes_while_the_hub_drains_is_sent_away(rig: Rig) -> None:
    for _ in range(3 * DRAIN_STEP):
        rig.open()
    draining = asyncio.create_task(rig.hub.drain(0.05))
    await until(lambda: rig.hub.draining)
    late = rig.open(start=Start(after=0, reset=b": hello\n"))
    assert late.closed
    assert late.bytes.startswith(b": hello\n")
    assert late.frames[-1].type == "hookbrook.drain"
    await draining
    assert len(rig.hub) == 0


async def test_draining_without_readers_is_done_at_once(rig: Rig) -> None:
    await asyncio.wait_for(rig.hub.drain(60), 1)


async def test_a_hub_that_was_stopped_publishes_no_more(tmp_path: Path) -> None:
    async with rig_on(tmp_path) as rig:
        hub = Hub(rig.store, clock=rig.clock, rng=Random(1))
        hub.start()
        sink = MemorySink()
        reader = hub.open(Subscription(tenant="default", channels=("*",)), sink, after=None, expires=None)
        reader.resume()
        await rig.publish()
        await hub.stop()
        await rig.publish()
        assert sink.seqs == [1]


async def test_a_reader_that_leaves_by_the_hand_of_another_is_not_written_to(rig: Rig) -> None:
    """Whatever a write sets off, a reader that has ended gets nothing more."""

    class Jealous(MemorySink):
        def write(self, chunk: bytes) -> None:
            super().write(chunk)
            for other in rig.hub.readers():
                if other is not self.reader:
                    other.gone()

    one, two = rig.open(sink=Jealous()), rig.open(sink=Jealous())
    await rig.publish(count=2)
    assert sorted([one.seqs, two.seqs]) == [[], [1, 2]]


# Together


async def test_readers_who_asked_for_the_same_get_the_same_bytes_without_a_copy(rig: Rig) -> None:
    sinks = [rig.open("a*", "b") for _ in range(3)]
    await rig.publish(count=1)
    await rig.publish(count=5)
    shared = {id(sink.waiting[-1]) for sink in sinks}
    assert len(shared) == 1
    assert [len(sink.waiting) for sink in sinks] == [2, 2, 2]
    assert [sink.seqs for sink in sinks] == [[1, 2, 3, 4, 5, 6]] * 3


async def test_news_that_waits_leaves_as_one_write_for_each_reader(rig: Rig) -> None:
    one, two = rig.open("a"), rig.open("*")
    rig.pace.is_busy = True
    for name in ("a", "b", "a"):
        await rig.publish(name)
    assert (one.waiting, two.waiting) == ([], [])
    rig.pace.rest()
    assert (len(one.waiting), len(two.waiting)) == (1, 1)
    assert (one.seqs, two.seqs) == ([1, 3], [1, 2, 3])


async def test_whoever_knows_of_an_event_that_still_waits_gets_exactly_what_follows(rig: Rig) -> None:
    rig.pace.is_busy = True
    await rig.publish(count=2)
    knowing = rig.open(start=Start(after=1))
    fresh = rig.open()
    await rig.publish()
    gone = rig.open()
    assert gone.reader is not None
    gone.reader.gone()
    rig.pace.rest()
    await rig.publish()
    assert (knowing.seqs, fresh.seqs, gone.seqs) == ([2, 3, 4], [3, 4], [])


async def test_news_that_would_fill_a_write_by_itself_does_not_wait(rig: Rig) -> None:
    sink = rig.open()
    rig.pace.is_busy = True
    await rig.publish(data=b"1" * (MAX_NEWS_BYTES // 2))
    assert sink.seqs == []
    await rig.publish(data=b"1" * (MAX_NEWS_BYTES // 2 + 1))
    assert sink.seqs == [1, 2]


async def test_what_waits_leaves_before_readers_are_sent_away(rig: Rig) -> None:
    sink = rig.open()
    rig.pace.is_busy = True
    await rig.publish(count=2)
    await rig.hub.drain(0)
    assert [frame.type for frame in sink.frames] == ["message", "message", "hookbrook.drain"]


async def test_a_large_announcement_reaches_a_slow_reader_in_pieces(rig: Rig) -> None:
    sink = rig.open(sink=MemorySink(limit=1))
    await rig.publish(count=8, data=b"1" * (MAX_BATCH_BYTES // 2 - 100))
    assert sink.seqs == [1, 2]
    assert sink.size <= MAX_BATCH_BYTES
