"""Streams that end because their channels do, and streams whose channels are deleted under them."""

import json
from pathlib import Path

import pytest

from hookbrook.core.sse import Frame
from hookbrook.store.base import ChannelTrim, Query
from hookbrook.stream import position
from hookbrook.stream.position import Start
from hookbrook.stream.reader import Mode

from .conftest import CONTROL, MemorySink, Rig, rig_on, seq_of

A = Query(tenant="default", channels=("a",))


async def close(rig: Rig, *channels: str, tenant: str = "default") -> None:
    await rig.publish(*channels, effect="close", tenant=tenant)


async def delete(rig: Rig, *channels: str) -> None:
    await rig.publish(*channels, effect="delete", type="hookbrook.deleted")


async def start_after(rig: Rig, seq: int, *channels: str) -> Start:
    """As the door does it for a reader that comes back with that cursor."""
    query = Query(tenant="default", channels=channels)
    start = await position.resume(rig.store, query, str((await rig.store.bounds()).epochs.cursor(seq)), lenient=True)
    standing = await rig.store.standing(query, after=start.after or 0)
    return Start(after=start.after, reset=start.reset, standing=standing)


def told(sink: MemorySink) -> list[tuple[str, int]]:
    """Control events and where they leave the client."""
    return [(frame.type.removeprefix("hookbrook."), seq_of(frame)) for frame in sink.frames if frame.type in CONTROL]


def resets(sink: MemorySink) -> list[Frame]:
    return [frame for frame in sink.frames if frame.type == "hookbrook.reset"]


def widen(sink: MemorySink) -> None:
    """Its client reads as fast as it gets from now on."""
    sink.limit = 1 << 20
    sink.drain()
    assert sink.reader is not None
    sink.reader.resume()


# Closed


async def test_a_live_reader_gets_the_last_event_then_closed_and_the_end(rig: Rig) -> None:
    sink = rig.open("a")
    await rig.publish("a")
    await close(rig, "a")
    assert (sink.seqs, told(sink), sink.closed) == ([1, 2], [("closed", 2)], True)
    assert json.loads(sink.frames[-1].data)["channels"] == ["a"]
    assert sink.reader is not None
    assert (sink.reader.mode, len(rig.hub)) == (Mode.ENDED, 0)


@pytest.mark.parametrize("max_entries", [2, 1000], ids=["from the store", "from memory"])
@pytest.mark.parametrize("after", [0, 3])
async def test_a_reader_that_comes_later_gets_what_is_left_and_then_closed(
    tmp_path: Path, max_entries: int, after: int
) -> None:
    async with rig_on(tmp_path, max_entries=max_entries) as rig:
        await rig.publish("a", count=5)
        await close(rig, "a")
        await rig.publish("b", count=10)
        sink = rig.open("a", start=await start_after(rig, after, "a"))
        await rig.settled(sink)
        assert sink.seqs == list(range(after + 1, 7))
        [(name, place)] = told(sink)
        # At or past the close: whoever comes back from there is told that it is over.
        assert (name, place >= 6, sink.closed) == ("closed", True, True)


async def test_a_reader_that_knows_nothing_of_the_close_at_first_meets_it_on_the_way(small_rig: Rig) -> None:
    await small_rig.publish("a", count=30)
    sink = small_rig.open("a", start=Start(after=0), sink=MemorySink(limit=1))
    await small_rig.settled(sink)
    await close(small_rig, "a")
    while not sink.closed:
        sink.drain()
        await small_rig.settled(sink)
    assert (sink.seqs, told(sink)) == (list(range(1, 32)), [("closed", 31)])


async def test_types_that_the_reader_does_not_want_close_its_stream_all_the_same(small_rig: Rig) -> None:
    live = small_rig.open("a", types=("paid",))
    await small_rig.publish("a", count=20)
    await close(small_rig, "a")
    behind = small_rig.open("a", types=("paid",), start=await start_after(small_rig, 0, "a"))
    await small_rig.settled(behind)
    for sink in (live, behind):
        assert (sink.seqs, told(sink), sink.closed) == ([], [("closed", 21)], True)


async def test_a_stream_of_several_channels_ends_with_the_last_and_one_with_a_pattern_never(rig: Rig) -> None:
    both, pattern, mixed = rig.open("a", "b"), rig.open("a*"), rig.open("a", "b*")
    await close(rig, "a")
    assert not both.closed
    await rig.publish("b")
    await close(rig, "b")
    assert (both.seqs, told(both), both.closed) == ([1, 2, 3], [("closed", 3)], True)
    assert (pattern.closed, mixed.closed) == (False, False)
    await rig.publish("a.1")
    assert (pattern.seqs, mixed.seqs) == ([1, 4], [1, 2, 3])


async def test_a_channel_that_closed_while_its_reader_was_behind_counts_when_the_feed_has_forgotten_it(
    small_rig: Rig,
) -> None:
    sink = small_rig.open("a", "b")
    await small_rig.publish("a")
    sink.limit = 1
    await close(small_rig, "a")
    widen(sink)
    await small_rig.settled(sink)
    assert sink.reader is not None
    assert sink.reader.mode is Mode.LIVE
    await small_rig.publish("c", count=20)
    await close(small_rig, "b")
    assert (told(sink), sink.closed) == ([("closed", 23)], True)


async def test_one_event_may_close_all_channels_of_a_stream(rig: Rig) -> None:
    sink = rig.open("a", "b")
    await close(rig, "a", "b")
    assert (sink.seqs, sink.closed) == ([1], True)


async def test_a_channel_of_another_tenant_is_another_channel(rig: Rig) -> None:
    sink = rig.open("a")
    await close(rig, "a", tenant="other")
    await rig.publish("a")
    assert (sink.seqs, sink.closed) == ([2], False)


async def test_a_close_that_is_committed_but_not_announced_ends_the_stream_when_it_is(small_rig: Rig) -> None:
    await small_rig.publish("a", count=20)
    small_rig.lag.is_held = True
    await close(small_rig, "a")
    sink = small_rig.open("a", start=Start(after=0))
    await small_rig.settled(sink)
    assert (sink.seqs, sink.closed) == (list(range(1, 21)), False)
    small_rig.lag.release()
    assert (sink.seqs, told(sink), sink.closed) == (list(range(1, 22)), [("closed", 21)], True)


async def test_a_close_told_after_the_wish_to_open_and_before_the_reader_is_not_missed(rig: Rig) -> None:
    """The door fixes the place, asks what is closed, and sends the head; anything may happen in between."""
    await rig.publish("a")
    start = await start_after(rig, 1, "a")
    await close(rig, "a")
    sink = rig.open("a", start=start)
    await rig.settled(sink)
    assert (sink.seqs, sink.closed) == ([2], True)


# Deleted


async def test_a_live_reader_is_told_that_its_channel_was_deleted_and_goes_on(rig: Rig) -> None:
    sink, other, all_of_it = rig.open("a"), rig.open("b"), rig.open("*")
    await rig.publish("a", count=2)
    await delete(rig, "a")
    await rig.publish("a")
    assert (sink.seqs, told(sink)) == ([1, 2, 4], [("reset", 3)])
    assert json.loads(resets(sink)[0].data)["reason"] == "deleted"
    assert (told(other), told(all_of_it), all_of_it.seqs) == ([], [("reset", 3)], [1, 2, 4])


@pytest.mark.parametrize("max_entries", [1, 1000], ids=["from the store", "from memory"])
async def test_a_reader_that_is_behind_is_told_and_gets_nothing_of_what_was_deleted(
    tmp_path: Path, max_entries: int
) -> None:
    async with rig_on(tmp_path, max_entries=max_entries) as rig:
        slow, both = (rig.open(*names, sink=MemorySink(limit=1)) for names in (("a",), ("a", "b")))
        await rig.publish("a")
        await rig.publish("a", "b")
        await rig.publish("a")
        await delete(rig, "a")
        await rig.publish("a")
        for sink in (slow, both):
            widen(sink)
            await rig.settled(sink)
        assert (slow.seqs, told(slow)) == ([1, 5], [("reset", 4)])
        assert (both.seqs, told(both)) == ([1, 2, 5], [("reset", 1)])


async def test_whoever_comes_back_after_the_deletion_is_told_once_at_the_start(rig: Rig) -> None:
    await rig.publish("a", count=2)
    await delete(rig, "a")
    [appended] = await rig.publish("a")
    sink = rig.open("a", start=await start_after(rig, 1, "a"))
    await rig.settled(sink)
    assert [(frame.type, seq_of(frame)) for frame in sink.frames] == [("hookbrook.reset", 3), ("message", 4)]
    again = await start_after(rig, 3, "a")
    assert (again.reset, again.after) == (b"", 3)
    assert appended.seq == 4


async def test_a_channel_that_was_opened_again_by_deletion_ends_no_stream(rig: Rig) -> None:
    await close(rig, "a")
    both = rig.open("a", "b", start=await start_after(rig, 1, "a", "b"))
    await rig.settled(both)
    await delete(rig, "a")
    await close(rig, "b")
    assert not both.closed
    await rig.publish("a")
    await close(rig, "a")
    assert (both.seqs, both.closed) == ([3, 4, 5], True)


async def test_what_is_announced_together_happens_to_a_reader_in_order(rig: Rig) -> None:
    sink = rig.open("a")
    rig.lag.is_held = True
    await rig.publish("a")
    await close(rig, "a")
    await delete(rig, "a")
    await rig.publish("a")
    rig.lag.release()
    assert [seq_of(frame) for frame in sink.frames] == [1, 2, 3, 4]
    assert (told(sink), sink.closed) == ([("reset", 3)], False)


async def test_a_deletion_that_nobody_remembers_any_more_still_keeps_the_stream_open(small_rig: Rig) -> None:
    sink = small_rig.open("a", "b")
    await close(small_rig, "a")
    await delete(small_rig, "a")
    await small_rig.publish("b", count=100)
    assert not small_rig.hub.feed.effects
    await close(small_rig, "b")
    assert not sink.closed


# What single channels lose by retention


async def trim(rig: Rig, pattern: str, keep: int) -> None:
    rule = ChannelTrim(pattern=pattern, appended_before=None, keep=keep)
    await rig.store.trim(appended_before=None, keep=None, limit=1000, channels=[rule])


async def test_a_reader_whose_channel_was_trimmed_is_told_and_others_are_not(small_rig: Rig) -> None:
    for _ in range(10):
        await small_rig.publish("a")
        await small_rig.publish("b")
    await trim(small_rig, "a", 2)
    for names, expected, place in [(("a",), [17, 19], 15), (("a", "b"), [*range(2, 17, 2), 17, 18, 19, 20], 1)]:
        sink = small_rig.open(*names, start=await start_after(small_rig, 1, *names))
        await small_rig.settled(sink)
        assert (sink.seqs, told(sink)) == (expected, [("reset", place)])
        assert json.loads(resets(sink)[0].data)["reason"] == "trimmed"
    unhurt = small_rig.open("b", start=await start_after(small_rig, 1, "b"))
    await small_rig.settled(unhurt)
    assert (unhurt.seqs, told(unhurt)) == (list(range(2, 21, 2)), [])


async def test_the_last_few_of_a_trimmed_channel_are_the_last_few_that_are_left(small_rig: Rig) -> None:
    await small_rig.publish("a", count=20)
    await small_rig.publish("b", count=20)
    await trim(small_rig, "a", 3)
    for names, expected in [(("a",), [18, 19, 20]), (("a", "b"), [18, 19, 20, *range(21, 41)])]:
        start = await position.last(small_rig.store, Query(tenant="default", channels=names), 30)
        sink = small_rig.open(*names, start=start)
        await small_rig.settled(sink)
        assert (sink.seqs, told(sink)) == (expected, [])


async def test_a_reader_that_falls_behind_its_channels_retention_is_told_each_time_there_is_a_new_loss(
    small_rig: Rig,
) -> None:
    sink = small_rig.open("a", "b", sink=MemorySink(limit=1))
    await small_rig.publish("b")
    for _ in range(10):
        await small_rig.publish("a")
        await small_rig.publish("b")
    await trim(small_rig, "a", 2)
    for _ in range(3):
        sink.drain()
        await small_rig.settled(sink)
    assert told(sink) == [("reset", 1)]
    await delete(small_rig, "b")
    widen(sink)
    await small_rig.settled(sink)
    assert [name for name, _ in told(sink)] == ["reset", "reset"]
    assert json.loads(resets(sink)[1].data)["reason"] == "deleted"


async def test_an_older_loss_is_told_although_a_newer_one_was_told_before(small_rig: Rig) -> None:
    sink = small_rig.open("a", "b", sink=MemorySink(limit=1))
    await small_rig.publish("b", count=2)
    await small_rig.publish("a", count=20)
    await delete(small_rig, "b")
    await small_rig.publish("c", count=20)
    sink.drain()
    await small_rig.settled(sink)
    await trim(small_rig, "a", 2)
    # What was read for others a moment ago has not lost anything yet.
    small_rig.hub.pages._kept.clear()
    widen(sink)
    await small_rig.settled(sink)
    assert [json.loads(frame.data)["reason"] for frame in resets(sink)] == ["deleted", "deleted"]
    assert sink.seqs[-2:] == [21, 22]


async def test_live_readers_lose_nothing_by_retention(rig: Rig) -> None:
    sink = rig.open("a")
    for _ in range(10):
        await rig.publish("a")
        await trim(rig, "a", 1)
    assert (sink.seqs, told(sink)) == (list(range(1, 11)), [])


async def test_a_checkpoint_comes_while_a_reader_is_on_its_way_through_what_is_not_for_it(rig: Rig) -> None:
    await rig.publish("a")
    await rig.publish("b", count=5)
    asking = rig.open("a", start=Start(after=0), control=True, sink=MemorySink(limit=1))
    asking.limit = 1 << 20
    rig.beat()
    rig.beat()
    assert told(asking) == [("checkpoint", 1)]
    assert A.is_single
