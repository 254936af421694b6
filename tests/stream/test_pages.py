"""Herds: the log is read once for all who need the same."""

import asyncio
from pathlib import Path

import pytest

from hookbrook.errors import StoreUnavailable
from hookbrook.store.base import Page, Query
from hookbrook.store.sqlite import SqliteStore
from hookbrook.stream.pages import KEEP_S, MAX_KEPT_BYTES, PAGE, ROUND, Pages
from hookbrook.stream.position import Start

from .conftest import Rig, rig_on, until

ALL = Query(tenant="default", channels=("a",))


class Counting(SqliteStore):
    """Counts what is read."""

    reads = 0
    fails = False

    async def read(self, query: Query, *, after: int, limit: int) -> Page:
        self.reads += 1
        await asyncio.sleep(0)
        if self.fails:
            raise StoreUnavailable("the disk is busy")
        return await super().read(query, after=after, limit=limit)


def reads_of(rig: Rig) -> int:
    assert isinstance(rig.store, Counting)
    return rig.store.reads


async def test_a_herd_at_many_places_reads_each_page_once(tmp_path: Path) -> None:
    async with rig_on(tmp_path, max_entries=8, make=Counting) as rig:
        events = 4 * PAGE
        for _ in range(events // 64):
            await rig.publish(count=64)
        places = range(0, 3 * PAGE, 7)
        sinks = [rig.open("a", start=Start(after=place)) for place in places]
        await rig.settled(*sinks)
        for place, sink in zip(places, sinks, strict=True):
            assert sink.seqs == list(range(place + 1, events + 1))
        # Everybody's pages begin at one of these places.
        assert reads_of(rig) <= events // ROUND


async def test_frames_of_a_page_are_made_once_for_all(tmp_path: Path) -> None:
    async with rig_on(tmp_path, max_entries=8, make=Counting) as rig:
        await rig.publish(count=50)
        pages = Pages(rig.store)
        first, second = await asyncio.gather(pages.after(ALL, 3), pages.after(ALL, 9))
        later = await pages.after(ALL, 20)
        assert first is second is later
        assert [entry.seq for entry in first.entries] == list(range(1, 51))
        assert reads_of(rig) == 1


async def test_whoever_leaves_takes_the_page_from_nobody(tmp_path: Path) -> None:
    async with rig_on(tmp_path, max_entries=8, make=Counting) as rig:
        await rig.publish(count=50)
        leaver, other = rig.open("a", start=Start(after=0)), rig.open("a", start=Start(after=1))
        await asyncio.sleep(0)
        assert leaver.reader is not None
        leaver.reader.gone()
        await rig.settled(other)
        assert (leaver.seqs, other.seqs) == ([], list(range(2, 51)))


async def test_a_reading_that_fails_is_told_to_all_and_tried_anew(tmp_path: Path) -> None:
    async with rig_on(tmp_path, max_entries=8, make=Counting) as rig:
        await rig.publish(count=50)
        assert isinstance(rig.store, Counting)
        pages = Pages(rig.store)
        rig.store.fails = True
        told = await asyncio.gather(*[pages.after(ALL, 0) for _ in range(3)], return_exceptions=True)
        assert [type(error) for error in told] == [StoreUnavailable] * 3
        rig.store.fails = False
        assert len((await pages.after(ALL, 0)).entries) == 50
        assert reads_of(rig) == 2


async def test_small_pages_are_read_for_one_reader_alone(tmp_path: Path) -> None:
    async with rig_on(tmp_path, max_entries=8, make=Counting) as rig:
        await rig.publish(count=50)
        pages = Pages(rig.store)
        small = await pages.after(ALL, 3, limit=4)
        assert [entry.seq for entry in small.entries] == [4, 5, 6, 7]
        await pages.after(ALL, 3)
        assert await pages.after(ALL, 3, limit=4) is not small
        assert reads_of(rig) == 2


async def test_a_page_of_large_events_that_all_stand_before_the_reader_is_followed_by_its_own(tmp_path: Path) -> None:
    async with rig_on(tmp_path, max_entries=8) as rig:
        for _ in range(10):
            await rig.publish(data=b"1" * 1_000_000)
        page = await Pages(rig.store).after(ALL, 8)
        assert [entry.seq for entry in page.entries] == [9, 10]


async def test_what_is_kept_is_bounded_in_bytes_and_goes_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hookbrook.stream.pages.KEEP_S", KEEP_S / 100)
    async with rig_on(tmp_path, max_entries=8) as rig:
        pages = Pages(rig.store)
        for number in range(30):
            await rig.publish(f"c{number}", data=b"1" * 1_000_000)
        for number in range(30):
            await pages.after(Query(tenant="default", channels=(f"c{number}",)), 0)
            assert pages._bytes <= MAX_KEPT_BYTES
        await until(lambda: not pages._kept)
        assert pages._bytes == 0


async def test_what_is_read_while_something_of_it_is_erased_is_neither_kept_nor_given_to_newcomers(
    tmp_path: Path,
) -> None:
    async with rig_on(tmp_path, max_entries=8, make=Counting) as rig:
        await rig.publish(count=50)
        pages = Pages(rig.store)
        early = asyncio.create_task(pages.after(ALL, 3))
        await until(lambda: reads_of(rig) == 1)
        pages.forget()
        later, _ = await asyncio.gather(pages.after(ALL, 3), early)
        assert later is not early.result()
        assert await pages.after(ALL, 3) is later
        assert reads_of(rig) == 2
