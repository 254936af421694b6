"""Filters at matching: what is owed, what is kept as failed, and who has a turn meanwhile."""

import asyncio
from random import Random

from hookbrook.core.delivery import Happening, State
from hookbrook.core.endpoint import Endpoint
from hookbrook.core.event import NewEvent
from hookbrook.core.routing import Routes
from hookbrook.store.base import DeliveryQuery
from hookbrook.store.matcher import Matcher
from hookbrook.store.sqlite import SqliteStore

from .conftest import endpoint, event, wired

#: About as much work as a filter may be.
HEAVY = "sum(data[*]) && sum(data[*])"


def matcher() -> Matcher:
    return Matcher(lambda: 7, Random(1).randbytes)


async def test_an_endpoint_is_owed_only_what_its_filter_lets_pass(store: SqliteStore) -> None:
    appender, catalog = await wired(store)
    await catalog.save(endpoint("ep_1", filter="data.amount > `100`"))
    await catalog.save(endpoint("ep_2"))
    await appender.append([event("small", data=b'{"amount": 5}'), event("large", data=b'{"amount": 500}')])
    found = await store.deliveries(DeliveryQuery())
    assert sorted((row.event_id, row.endpoint_id) for row in found) == [
        ("large", "ep_1"),
        ("large", "ep_2"),
        ("small", "ep_2"),
    ]


async def test_what_a_filter_cannot_judge_is_kept_as_failed_and_can_be_sent(store: SqliteStore) -> None:
    appender, catalog = await wired(store)
    await catalog.save(endpoint("ep_1", filter="contains(data.tags, 'x')", ordering="all"))
    await appender.append([event("e1", data=b"{}"), event("e2", data=b'{"tags": ["x"]}')])
    bad, good = sorted(await store.deliveries(DeliveryQuery()), key=lambda row: row.event_id)
    assert (bad.event_id, bad.state, bad.attempts, bad.next_at) == ("e1", State.FAILED, 0, None)
    assert bad.last_error is not None
    assert bad.last_error.startswith("The filter of the endpoint failed: the expression does not fit")
    assert (good.event_id, good.state, good.next_at) == ("e2", State.PENDING, good.created)
    sent = await store.change(bad.id, Happening.RESENT, now=bad.created)
    assert (sent.state, sent.next_at) == (State.PENDING, bad.created)


def routes(count: int, text: str) -> Routes:
    # The spaces make texts that differ, of which each is evaluated.
    return Routes(1, [endpoint(f"ep_{number:04}", filter=" " * number + text) for number in range(count)])


def long_list(name: str = "e1") -> NewEvent:
    return event(name, data=b"[" + b",".join([b"1"] * 3000) + b"]")


async def test_many_heavy_filters_keep_the_loop_from_nobody() -> None:
    turns = 0

    async def watch() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    watching = asyncio.create_task(watch())
    busy, heavy = matcher(), routes(40, HEAVY)
    owed = await asyncio.gather(*(busy.match([long_list(f"e{number}")], heavy) for number in range(5)))
    watching.cancel()
    assert [len(found) for [found] in owed] == [40] * 5
    # Each match has one piece of work of its own at first; from then on there is one piece at a time for all of them.
    assert turns >= 5 * 40 - 10


async def test_cheap_filters_wait_for_nobody() -> None:
    task = asyncio.current_task()
    assert task is not None
    found: list[Endpoint] = []
    matching = matcher().match([event("e1", data=b"[1]")], routes(20, "data[0] > `0`"))
    try:
        matching.send(None)
    except StopIteration as stop:
        found = stop.value[0]
    assert len(found) == 20
