"""Readers whose right to listen ends are told in time, and ended to the moment."""

import asyncio
import json
import time
from pathlib import Path
from random import Random

from hookbrook.core.event import parse_time
from hookbrook.stream.deadlines import MAX_STALE, NOTICE_US, Deadlines
from hookbrook.stream.feed import Feed
from hookbrook.stream.hub import Hub
from hookbrook.stream.reader import Mode
from hookbrook.stream.subscription import Subscription

from .conftest import SECOND_US, MemorySink, Rig, rig_on, until


def names(sink: MemorySink) -> list[str]:
    return [frame.type for frame in sink.frames]


async def test_a_reader_is_told_thirty_seconds_before_its_right_ends_and_again_when_it_does(rig: Rig) -> None:
    end = rig.clock.now + 60 * SECOND_US
    sink, ever = rig.open(expires=end), rig.open()
    rig.clock.now = end - NOTICE_US - 1
    rig.beat()
    assert names(sink) == []
    rig.clock.now += 1
    rig.beat()
    assert names(sink) == ["hookbrook.expiring"]
    assert parse_time(json.loads(sink.frames[0].data)["expires"]) == end
    await rig.publish()
    rig.clock.now = end - 1
    rig.beat()
    assert names(sink) == ["hookbrook.expiring", "message"]
    assert not sink.closed
    rig.clock.now += 1
    rig.beat()
    assert names(sink) == ["hookbrook.expiring", "message", "hookbrook.expired"]
    assert (sink.closed, ever.closed) == (True, False)
    await rig.publish()
    assert (sink.seqs, ever.seqs) == ([1], [1, 2])


async def test_whoever_comes_with_less_is_told_at_once(rig: Rig) -> None:
    sink = rig.open(expires=rig.clock.now + SECOND_US)
    rig.beat()
    assert names(sink) == ["hookbrook.expiring"]


async def test_a_reader_that_is_behind_expires_too(rig: Rig) -> None:
    sink = rig.open(sink=MemorySink(limit=1), expires=rig.clock.now + SECOND_US)
    await rig.publish(count=3)
    rig.clock.now += SECOND_US
    rig.beat()
    assert sink.closed
    sink.drain()
    assert sink.frames[-1].type == "hookbrook.expired"


async def test_it_happens_to_the_moment_and_not_at_the_next_heartbeat(tmp_path: Path) -> None:
    def clock() -> int:
        return time.time_ns() // 1000

    async with rig_on(tmp_path) as rig:
        hub = Hub(rig.store, clock=clock, rng=Random(1), heartbeat_s=1e6, feed=Feed(rig.store))
        hub.start()
        late, early = MemorySink(), MemorySink()
        wish = Subscription(tenant="default", channels=("a",))
        late.reader = hub.open(wish, late, after=None, expires=clock() + 3600 * SECOND_US)
        end = clock() + 50_000
        early.reader = hub.open(wish, early, after=None, expires=end)
        await until(lambda: early.closed)
        assert 0 <= clock() - end < 5 * SECOND_US
        assert (late.closed, names(late)) == (False, [])
        late.reader.gone()
        await hub.stop()


async def test_readers_that_left_are_not_remembered_until_their_time_would_have_come(rig: Rig) -> None:
    deadlines = Deadlines(rig.clock)
    for _ in range(3 * MAX_STALE):
        sink = rig.open(expires=rig.clock.now + 3600 * SECOND_US)
        assert sink.reader is not None
        deadlines.watch(sink.reader)
        sink.reader.gone()
        assert sink.reader.mode is Mode.ENDED
        deadlines.left(sink.reader)
    assert len(deadlines) <= MAX_STALE


async def test_one_reader_that_fails_keeps_no_other_from_being_told(rig: Rig) -> None:
    class Broken(MemorySink):
        def write(self, data: bytes) -> None:
            raise OSError("the transport is closed")

    end = rig.clock.now + SECOND_US
    broken, whole = rig.open(sink=Broken(), expires=end), rig.open(expires=end)
    rig.clock.now = end
    rig.beat()
    await asyncio.sleep(0)
    assert whole.closed
    assert broken.reader is not None
    assert broken.reader.mode is Mode.ENDED
