"""How the writer gathers what many ask for at once into few transactions."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from hookbrook.core.event import Appended, Event, NewEvent
from hookbrook.store.sqlite import SqliteStore, writer

BURST = 40


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(tmp_path / "hookbrook.db")
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
def groups(store: SqliteStore) -> list[int]:
    """Events of each transaction that had any."""
    sizes: list[int] = []

    def note(events: Sequence[Event]) -> None:
        sizes.append(len(events))

    store.follow(note)
    return sizes


def begin(store: SqliteStore, id_: str) -> "asyncio.Future[list[Appended]]":
    event = NewEvent(id=id_, channels=("a",), time=0, content_type="text/plain", kind="text", data=b"1", dedupe_id=id_)
    return asyncio.ensure_future(store.append([event], [()], 1))


async def burst(store: SqliteStore) -> None:
    """Shows the writer that many publish at once."""
    await asyncio.gather(*[begin(store, f"burst{number}") for number in range(BURST)])


async def trickle(store: SqliteStore, count: int, *, turns: int = 1) -> None:
    """One event in so many turns of the loop, which is so busy that the writer could well be done with each of them."""
    begun = []
    for number in range(count):
        begun.append(begin(store, f"drop{number}"))
        time.sleep(0.01)  # noqa: ASYNC251 - it is this that the writer must not take for leisure
        for _ in range(turns):
            await asyncio.sleep(0)
    await asyncio.gather(*begun)


async def crowd(store: SqliteStore) -> int:
    """One event more in each turn of the loop, until the first is on the disk; how many those were."""
    begun = [begin(store, "first")]
    async with asyncio.timeout(30):
        while not begun[0].done():
            begun.append(begin(store, f"more{len(begun)}"))
            await asyncio.sleep(0)
    await asyncio.gather(*begun)
    return len(begun)


@pytest.mark.parametrize("turns", [1, 2])
async def test_what_comes_turn_by_turn_while_many_publish_is_one_transaction(
    store: SqliteStore, groups: list[int], monkeypatch: pytest.MonkeyPatch, turns: int
) -> None:
    """Two turns are what a request takes that is read in one and taken in the next."""
    monkeypatch.setattr(writer, "GATHER_S", 60.0)
    await burst(store)
    await trickle(store, 10, turns=turns)
    assert groups == [BURST, 10]


async def test_a_turn_that_brings_nothing_ends_the_gathering(
    store: SqliteStore, groups: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "GATHER_S", 60.0)
    await burst(store)
    async with asyncio.timeout(30):
        await begin(store, "alone")
    assert groups == [BURST, 1]


async def test_gathering_ends_in_time_although_each_turn_brings_more(
    store: SqliteStore, groups: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "GATHER_S", 0.0)
    await burst(store)
    count = await crowd(store)
    assert len(groups) > 2
    assert sum(groups) == BURST + count


async def test_a_group_that_is_full_waits_for_no_more(
    store: SqliteStore, groups: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "GATHER_S", 60.0)
    monkeypatch.setattr(writer, "MAX_GROUP", 8)
    await burst(store)
    await crowd(store)
    assert max(groups) <= 8


async def test_closing_in_the_midst_of_gathering_keeps_all(
    store: SqliteStore, groups: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "GATHER_S", 60.0)
    await burst(store)
    begun = [begin(store, "first")]
    await asyncio.sleep(0)
    begun.append(begin(store, "second"))
    await store.close()
    assert [each.result()[0].id for each in begun] == ["first", "second"]
    assert sum(groups) == BURST + 2
