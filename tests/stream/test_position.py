"""Where a stream begins."""

import asyncio
import gc
import json
from collections.abc import Iterator
from typing import Any, cast

import pytest

from hookbrook.core.cursor import Cursor
from hookbrook.core.sse import Frame, Parser
from hookbrook.errors import Invalid
from hookbrook.store.base import Log, Page, Query
from hookbrook.store.sqlite import SqliteStore
from hookbrook.stream import position
from hookbrook.stream.position import Start

from .conftest import SECOND_US, START_US, Rig, seq_of

EVERYTHING = Query(tenant="default")


def told(start: Start) -> Frame:
    [frame] = Parser().feed(start.reset)
    assert frame.type == "hookbrook.reset"
    return frame


async def cursor(rig: Rig, seq: int) -> str:
    return str((await rig.store.bounds()).epochs.cursor(seq))


# After a cursor


async def test_after_a_cursor_of_the_log_comes_what_follows(rig: Rig) -> None:
    await rig.publish(count=3)
    for seq in range(4):
        start = await position.resume(rig.store, EVERYTHING, await cursor(rig, seq), lenient=False)
        assert start == Start(after=seq)


@pytest.mark.parametrize("text", ["zzzzzz-1", "zzzzzz-0"])
async def test_a_cursor_of_another_log_is_told_and_goes_on_with_what_comes_next(rig: Rig, text: str) -> None:
    await rig.publish(count=3)
    start = await position.resume(rig.store, EVERYTHING, text, lenient=False)
    assert start.after == 3
    frame = told(start)
    assert json.loads(frame.data) == {
        "reason": "foreign",
        "oldest": await cursor(rig, 0),
        "newest": await cursor(rig, 3),
    }
    assert frame.last_event_id == await cursor(rig, 3)


async def test_a_cursor_beyond_the_log_is_foreign(rig: Rig) -> None:
    """So does a restored backup look to those who were further."""
    await rig.publish(count=3)
    beyond = str(Cursor((await rig.store.bounds()).epochs.name_of(3), 4))
    assert (
        json.loads(told(await position.resume(rig.store, EVERYTHING, beyond, lenient=False)).data)["reason"]
        == "foreign"
    )


async def test_what_is_no_cursor_is_refused_or_foreign(rig: Rig) -> None:
    """A browser repeats its Last-Event-ID for ever, and would never come back from a 4xx."""
    await rig.publish()
    with pytest.raises(Invalid):
        await position.resume(rig.store, EVERYTHING, "yesterday", lenient=False)
    start = await position.resume(rig.store, EVERYTHING, "yesterday", lenient=True)
    assert (start.after, json.loads(told(start).data)["reason"]) == (1, "foreign")


async def test_a_cursor_before_the_oldest_event_is_told_and_goes_on_with_the_oldest(rig: Rig) -> None:
    await rig.publish(count=10)
    await rig.store.trim(appended_before=None, keep=4, limit=100)
    for seq in range(6):
        start = await position.resume(rig.store, EVERYTHING, await cursor(rig, seq), lenient=True)
        assert start.after == 6
        frame = told(start)
        assert (json.loads(frame.data)["reason"], seq_of(frame)) == ("trimmed", 6)
        # Who comes back with the id of the reset is not told again.
        assert await position.resume(rig.store, EVERYTHING, frame.last_event_id, lenient=True) == Start(after=6)
    assert await position.resume(rig.store, EVERYTHING, await cursor(rig, 6), lenient=True) == Start(after=6)


async def test_who_comes_back_with_the_id_of_a_foreign_reset_is_not_told_again(rig: Rig) -> None:
    for _ in range(2):
        frame = told(await position.resume(rig.store, EVERYTHING, "zzzzzz-9", lenient=True))
        here = (await rig.store.bounds()).tail
        assert await position.resume(rig.store, EVERYTHING, frame.last_event_id, lenient=True) == Start(after=here)
        await rig.publish()


async def test_a_cursor_is_intact_as_long_as_nothing_behind_it_was_lost(rig: Rig) -> None:
    await rig.publish(count=10)
    await rig.store.trim(appended_before=None, keep=4, limit=100)
    bounds = rig.store.known_bounds()
    for seq in range(11):
        text = await cursor(rig, seq)
        start = await position.resume(rig.store, EVERYTHING, text, lenient=False)
        assert position.intact(bounds, text) == (seq if seq >= 6 else None)
        assert bool(start.reset) == (seq < 6)
    assert position.intact(bounds, "zzzzzz-8") is None
    with pytest.raises(Invalid):
        position.intact(bounds, "yesterday")


# Since a time


async def test_since_a_time_comes_what_was_appended_then_or_later(rig: Rig) -> None:
    for _ in range(3):
        await rig.publish(count=2)
        rig.clock.now += SECOND_US
    assert await position.since(rig.store, EVERYTHING, 0) == Start(after=0)
    assert await position.since(rig.store, EVERYTHING, START_US) == Start(after=0)
    assert await position.since(rig.store, EVERYTHING, START_US + SECOND_US) == Start(after=2)
    assert await position.since(rig.store, EVERYTHING, START_US + SECOND_US + 1) == Start(after=4)
    assert await position.since(rig.store, EVERYTHING, rig.clock.now) == Start(after=6)


async def test_since_a_time_of_which_some_was_trimmed_is_told(rig: Rig) -> None:
    for _ in range(4):
        await rig.publish(count=2)
        rig.clock.now += SECOND_US
    # Of those of the second moment, one is gone.
    await rig.store.trim(appended_before=None, keep=5, limit=100)
    for moment in (0, START_US, START_US + SECOND_US):
        start = await position.since(rig.store, EVERYTHING, moment)
        assert start.after == 3
        frame = told(start)
        assert (json.loads(frame.data)["reason"], seq_of(frame)) == ("trimmed", 3)
    assert await position.since(rig.store, EVERYTHING, START_US + SECOND_US + 1) == Start(after=4)


async def test_since_a_time_after_all_that_was_trimmed_nothing_is_missing(rig: Rig) -> None:
    await rig.publish(count=5)
    await rig.store.trim(appended_before=None, keep=0, limit=100)
    assert await position.since(rig.store, EVERYTHING, START_US + 1) == Start(after=5)
    assert told(await position.since(rig.store, EVERYTHING, START_US))


# The last few


async def test_the_last_few_that_match(rig: Rig) -> None:
    for number in range(10):
        await rig.publish("a" if number % 2 else "b")
    a = Query(tenant="default", channels=("a",))
    seqs = [2, 4, 6, 8, 10]
    for count in range(1, 6):
        assert await position.last(rig.store, a, count) == Start(after=seqs[-count] - 1)
    assert await position.last(rig.store, a, 0) == Start(after=10)
    assert await position.last(rig.store, a, 100) == Start(after=1)
    assert await position.last(rig.store, EVERYTHING, 3) == Start(after=7)


@pytest.mark.parametrize("query", [Query(tenant="nobody"), Query(tenant="default", channels=("none", "no*"))])
async def test_the_last_few_of_nothing_begin_with_what_comes_next(rig: Rig, query: Query) -> None:
    """At the log's beginning, the reader would be told of every trimming, though nothing of that was ever for it."""
    await rig.publish(count=10)
    assert await position.last(rig.store, query, 3) == Start(after=10)


async def test_the_last_few_of_an_empty_log(rig: Rig) -> None:
    assert await position.last(rig.store, EVERYTHING, 3) == Start(after=0)


async def test_the_last_few_of_a_trimmed_log_begin_with_its_oldest(rig: Rig) -> None:
    await rig.publish(count=10)
    await rig.store.trim(appended_before=None, keep=2, limit=100)
    assert await position.last(rig.store, EVERYTHING, 5) == Start(after=8)
    await rig.store.trim(appended_before=None, keep=0, limit=100)
    assert await position.last(rig.store, EVERYTHING, 5) == Start(after=10)


async def test_the_last_few_are_found_behind_much_that_does_not_match(rig: Rig) -> None:
    await rig.publish("rare", count=3)
    await rig.publish("noise", count=5000)
    rare = Query(tenant="default", channels=("rare*",))
    assert await position.last(rig.store, rare, 2) == Start(after=1)
    assert await position.last(rig.store, rare, 9) == Start(after=0)


class CountingLog:
    """A real log that notes how many pages are in memory whenever another one is asked for."""

    def __init__(self, log: SqliteStore) -> None:
        self._log = log
        self.held: list[int] = []
        self.limits: list[int] = []
        #: Of the events that were read.
        self.bytes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def read_back(self, query: Query, *, before: int, limit: int, bare: bool = False) -> Page:
        self.limits.append(limit)
        self.held.append(sum(isinstance(each, Page) for each in gc.get_objects()))
        page = await self._log.read_back(query, before=before, limit=limit, bare=bare)
        self.bytes += sum(len(event.data) + len(event.request or b"") for event in page.events)
        return page


@pytest.fixture
def nothing_older() -> Iterator[None]:
    """Hide all objects that are there from `gc.get_objects`: looking through a million of them takes most of a test."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("nothing_older")
async def test_those_who_wait_for_a_page_hold_none(rig: Rig) -> None:
    """A thousand readers that all ask for their last events would otherwise hold a page of megabytes each."""
    for _ in range(4):
        await rig.publish(count=1000)
    log = CountingLog(rig.store)
    nobody = Query(tenant="default", channels=("nobody.*",))
    starts = await asyncio.gather(*(position.last(cast("Log", log), nobody, 5) for _ in range(30)))
    assert {start.after for start in starts} == {4000}
    assert len(log.held) > 30
    # Those that the reading threads have made and that were not looked at yet.
    assert max(log.held) < 10


async def test_the_last_many_are_counted_without_their_data_and_in_pieces(rig: Rig) -> None:
    await rig.publish(count=2500)
    for query in (EVERYTHING, Query(tenant="default", channels=("a",))):
        log = CountingLog(rig.store)
        assert await position.last(cast("Log", log), query, 2200) == Start(after=300)
        assert log.limits == [1000, 1000, 200]
        assert log.bytes == 0
