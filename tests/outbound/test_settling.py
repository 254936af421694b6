"""Settling on a real store: in steps that others come between."""

import asyncio
from pathlib import Path

from msgspec.structs import replace

from hookbrook.core.delivery import NewDelivery, State
from hookbrook.core.endpoint import Endpoint
from hookbrook.core.event import NewEvent
from hookbrook.errors import StoreFull
from hookbrook.outbound.settling import PAUSE_S, RETRY_S, STEP, Settler
from hookbrook.store.catalog import Catalog
from hookbrook.store.sqlite import SqliteStore

MANY = 4 * STEP
NOW = 1_795_450_800_000_000
ENDPOINT = Endpoint(id="ep_1", url="https://example.com", created=NOW, updated=NOW, secrets=())


def event(number: int) -> NewEvent:
    name = f"e{number}"
    return NewEvent(
        id=name, dedupe_id=name, channels=("a",), time=NOW, content_type="text/plain", kind="text", data=b""
    )


async def owed_many(store: SqliteStore, *ids: str) -> Catalog:
    """To one endpoint, or to each of several."""
    catalog = Catalog(store)
    await catalog.load()
    for each in ids or ("ep_1",):
        await catalog.save(replace(ENDPOINT, id=each))
    owed = [
        [NewDelivery(id=f"dlv_{number:05}{each}", endpoint_id=each) for each in ids or ("ep_1",)]
        for number in range(MANY)
    ]
    await store.append([event(number) for number in range(MANY)], owed, catalog.routes.version)
    return catalog


async def rest(settler: Settler) -> None:
    async with asyncio.timeout(30):
        while not settler.at_rest:  # noqa: ASYNC110 - a task's end is what is waited for
            await asyncio.sleep(0.001)


async def test_events_are_appended_between_the_steps(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "hookbrook.db", clock=lambda: NOW)
    await store.open()
    catalog = await owed_many(store)
    pending: list[int] = []
    poked: list[str] = []

    async def publish_instead(seconds: float) -> None:
        assert seconds == PAUSE_S
        await store.append([event(MANY + len(pending))], [[]], catalog.routes.version)
        pending.append((await store.counts())[State.PENDING])

    settler = Settler(store, poked.append, clock=lambda: NOW, sleep=publish_instead)
    catalog.on_routes(settler.routes_changed)
    await catalog.save(replace(ENDPOINT, url="https://example.org", revision=2))
    assert settler.at_rest, "nothing to settle"
    await catalog.save(replace(ENDPOINT, enabled=False, revision=3))
    await rest(settler)
    assert len(pending) >= 3
    assert pending == sorted(pending, reverse=True)
    assert pending[0] > pending[-1] == 0
    assert set(poked) == {"ep_1"}
    await store.close()


async def test_a_start_goes_on_with_what_a_stop_broke_off(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "hookbrook.db", clock=lambda: NOW)
    await store.open()
    catalog = await owed_many(store)

    async def never(_: float) -> None:
        await asyncio.Event().wait()

    settler = Settler(store, lambda _: None, clock=lambda: NOW, sleep=never)
    catalog.on_routes(settler.routes_changed)
    await catalog.delete(Endpoint, "ep_1")
    await asyncio.sleep(0)
    await settler.stop()
    assert (await store.counts())[State.PENDING] > 0
    await store.close()

    again = SqliteStore(tmp_path / "hookbrook.db", clock=lambda: NOW)
    await again.open()
    settler = Settler(again, lambda _: None, clock=lambda: NOW)
    await settler.start()
    await rest(settler)
    assert (await again.counts())[State.CANCELLED] == MANY
    await again.close()


async def test_what_changes_after_a_stop_is_left_to_the_next_start(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "hookbrook.db", clock=lambda: NOW)
    await store.open()
    catalog = await owed_many(store)
    settler = Settler(store, lambda _: None, clock=lambda: NOW)
    catalog.on_routes(settler.routes_changed)
    await settler.stop()
    await catalog.save(replace(ENDPOINT, enabled=False, revision=2))
    assert settler.at_rest, "nobody would end it, and the store is about to be closed"
    assert (await store.counts())[State.PENDING] > 0
    await store.close()


async def test_a_store_that_cannot_write_is_asked_again_later(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "hookbrook.db", clock=lambda: NOW)
    await store.open()
    catalog = await owed_many(store)
    pauses: list[float] = []

    class Full:
        async def settle(self, *, behind: str = "", limit: int, now: int) -> str | None:
            if not pauses:
                raise StoreFull("full")
            return await store.settle(behind=behind, limit=limit, now=now)

    async def at_once(seconds: float) -> None:
        pauses.append(seconds)

    settler = Settler(Full(), lambda _: None, clock=lambda: NOW, sleep=at_once)
    await catalog.save(replace(ENDPOINT, enabled=False, revision=2))
    await settler.start()
    await rest(settler)
    assert pauses[0] == RETRY_S
    assert (await store.counts())[State.HELD] == MANY
    await store.close()


async def test_endpoints_that_are_owed_many_have_their_steps_in_turn(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "hookbrook.db", clock=lambda: NOW)
    await store.open()
    catalog = await owed_many(store, "ep_1", "ep_2", "ep_3")
    turns: list[str] = []
    for each in ("ep_1", "ep_2", "ep_3"):
        await catalog.save(replace(ENDPOINT, id=each, enabled=False, revision=2))
    settler = Settler(store, turns.append, clock=lambda: NOW)
    await settler.start()
    await rest(settler)
    assert turns[:6] == ["ep_1", "ep_2", "ep_3"] * 2
    assert (await store.counts())[State.HELD] == 3 * MANY
    await store.close()
