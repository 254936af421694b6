"""The one way into the log."""

import asyncio

from hookbrook.core.delivery import NewDelivery
from hookbrook.core.endpoint import Endpoint
from hookbrook.core.event import Appended, NewEvent
from hookbrook.store.base import DeliveryQuery
from hookbrook.store.sqlite import SqliteStore

from .conftest import endpoint, event, wired


async def owed(store: SqliteStore) -> list[tuple[str, str]]:
    found = await store.deliveries(DeliveryQuery(limit=1000))
    return sorted((each.event_id, each.endpoint_id) for each in found)


async def test_an_event_is_owed_to_the_endpoints_that_asked_for_it(store: SqliteStore) -> None:
    appender, catalog = await wired(store)
    await appender.append([event("before")])
    await catalog.save(endpoint("ep_1"))
    await catalog.save(endpoint("ep_2", channels=("b*",)))
    await appender.append([event("e1"), event("e2", "b1")])
    assert await owed(store) == [("e1", "ep_1"), ("e2", "ep_1"), ("e2", "ep_2")]


async def test_an_append_with_old_routes_matches_again(store: SqliteStore) -> None:
    """Another node has saved an endpoint, of which this catalogue does not know."""
    appender, catalog = await wired(store)
    await store.save(endpoint("ep_1"))
    assert not catalog.routes.by_id
    [appended] = await appender.append([event("e1")])
    assert not appended.duplicate
    assert await owed(store) == [("e1", "ep_1")]
    await store.delete(Endpoint, "ep_1")
    await appender.append([event("e2")])
    assert await owed(store) == [("e1", "ep_1")]


async def test_no_event_that_follows_a_saved_endpoint_misses_it(store: SqliteStore) -> None:
    appender, catalog = await wired(store)
    saved: list[str] = []
    after: dict[str, list[str]] = {}

    async def publish(task: int) -> None:
        for number in range(20):
            name = f"e{task}.{number}"
            after[name] = list(saved)
            await appender.append([event(name)])

    async def save() -> None:
        for number in range(5):
            await catalog.save(endpoint(f"ep_{number}"))
            saved.append(f"ep_{number}")

    await asyncio.gather(*map(publish, range(4)), save())
    pairs = await owed(store)
    assert len(pairs) == len(set(pairs))
    for name, known in after.items():
        assert {(name, each) for each in known} <= set(pairs)


async def test_the_dispatcher_hears_of_what_is_new_and_only_after_the_commit(store: SqliteStore) -> None:
    appender, catalog = await wired(store)
    heard: list[tuple[str, int, list[NewDelivery]]] = []

    def listen(new: NewEvent, appended: Appended, deliveries: object) -> None:
        assert store.known_bounds().tail >= appended.seq
        heard.append((new.id, appended.seq, list(deliveries)))  # type: ignore[call-overload]

    appender.on_owed(listen)
    await appender.append([event("nobody's")])
    await catalog.save(endpoint("ep_1", channels=("a",)))
    await catalog.save(endpoint("ep_2", channels=("a",), enabled=False))
    await appender.append([event("e1"), event("elsewhere", "b"), event("e1")])
    await appender.append([event("e1")])
    [(name, seq, deliveries)] = heard
    assert (name, seq) == ("e1", 2)
    assert [(each.endpoint_id, each.held) for each in deliveries] == [("ep_1", False), ("ep_2", True)]
    assert len({each.id for each in deliveries}) == 2


async def test_endpoints_that_change_in_the_middle_of_a_long_match_are_matched_again(store: SqliteStore) -> None:
    """Filters give everybody else a turn, and meanwhile the routes are changed in place."""
    appender, catalog = await wired(store)
    await catalog.save(endpoint("ep_gone"))
    await catalog.save(endpoint("ep_heavy", filter="sum(data[*]) && sum(data[*])"))
    async with appender._matcher._turn:
        appending = asyncio.create_task(appender.append([event("e1", data=b"[" + b",".join([b"1"] * 3000) + b"]")]))
        await asyncio.sleep(0)
        await catalog.save(endpoint("ep_new"))
        await catalog.delete(Endpoint, "ep_gone")
    await appending
    assert await owed(store) == [("e1", "ep_heavy"), ("e1", "ep_new")]
