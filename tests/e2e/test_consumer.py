"""A consumer without a public URL: it gets every event at least once, across runs of its own and of the server."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.served import PATIENCE_S, Running, running

from hookbrook import AsyncHookbrook, CursorFile, Event, Events, Hookbrook, HookbrookError, Reset


@pytest.fixture
async def brook(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path / "server") as app:
        yield app


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()


def some(events: Events, count: int) -> list[Event]:
    """So many events, the last of which is not dealt with."""
    with events:
        return [next(events) for _ in range(count)]


async def test_what_was_not_dealt_with_comes_again_and_nothing_else(brook: Running, tmp_path: Path) -> None:
    place = tmp_path / "billing.cursor"
    for number in range(5):
        await brook.publish("orders.1", str(number))
    await brook.publish("other", "9")
    with Hookbrook(str(brook.http.base_url)) as client:
        first = await asyncio.to_thread(some, client.events("orders.*", save=place, since="1h"), 3)
        assert [event.data for event in first] == [0, 1, 2]
        assert CursorFile(place).load() == first[1].cursor
        second = await asyncio.to_thread(some, client.events("orders.*", save=str(place), since="1h"), 3)
    assert [event.data for event in second] == [2, 3, 4]


async def test_a_first_run_begins_now_and_remembers_that_before_anything_comes(brook: Running, tmp_path: Path) -> None:
    place = CursorFile(tmp_path / "cursor")
    await brook.publish("orders.1", "0")
    async with AsyncHookbrook(str(brook.http.base_url)) as client, asyncio.timeout(PATIENCE_S):
        events = client.events("orders.*", save=place)
        waiting = asyncio.create_task(anext(events))
        while place.load() is None:  # noqa: ASYNC110 - what is waited for is a file
            await asyncio.sleep(0.01)
        waiting.cancel()
        await events.close()
        # It comes while nobody reads.
        await brook.publish("orders.1", "1")
        async with client.events("orders.*", save=place) as again:
            event = await anext(again)
            assert event.data == 1
            await brook.publish("orders.1", "2")
            assert (await anext(again)).data == 2
        assert place.load() == event.cursor


async def test_a_place_that_is_gone_is_told(brook: Running, tmp_path: Path) -> None:
    place = CursorFile(tmp_path / "cursor")
    place.save("zzzzzz-7")
    async with (
        AsyncHookbrook(str(brook.http.base_url)) as client,
        asyncio.timeout(PATIENCE_S),
        client.events("orders.*", save=place) as events,
    ):
        with pytest.raises(Reset):
            await anext(events)
        await brook.publish("orders.1", "1")
        assert (await anext(events)).data == 1


def test_a_file_that_cannot_be_kept_stops_the_consumer(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\xff")
    with pytest.raises(HookbrookError, match="no cursor can be read"):
        CursorFile(tmp_path / "file").load()
    with pytest.raises(HookbrookError, match="cannot be kept"):
        CursorFile(tmp_path / "nowhere" / "file").save("k3f9w2-1")
    assert CursorFile(tmp_path / "none").load() is None
