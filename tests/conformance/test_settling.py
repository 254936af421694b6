"""Endpoints that are owed a great many deliveries when they are disabled, enabled or deleted."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from hookbrook.core.delivery import Happening, State
from hookbrook.core.endpoint import Endpoint
from hookbrook.errors import Conflict
from hookbrook.store.base import Store

from .conftest import SECOND_US, Backend, Clock, endpoint
from .test_deliveries import due_ids, of, outcome, owe
from .test_lines import change
from .test_lines import owe as owe_in_line

#: More than any backend moves at once.
MANY = 1200
STEP = 300


async def states(store: Store) -> dict[State, int]:
    return {state: count for state, count in (await store.counts()).items() if count}


async def settled(store: Store, clock: Clock) -> int:
    """Steps until nothing is left; each moves so many at the most."""
    steps = 0
    before = await states(store)
    while await store.settle(limit=STEP, now=clock.now) is not None:
        steps += 1
        after = await states(store)
        assert sum(abs(after.get(state, 0) - before.get(state, 0)) for state in State) <= 2 * STEP
        before = after
    return steps


async def test_what_a_disabled_endpoint_is_owed_is_held_in_the_end(store: Store, clock: Clock) -> None:
    await owe(store, MANY)
    await owe(store, 3, endpoint_id="ep_2")
    await store.save(endpoint(enabled=False, revision=2))
    assert (await states(store))[State.PENDING] > 3, "not all of them at once"
    assert await settled(store, clock) > 1
    assert await states(store) == {State.HELD: MANY, State.PENDING: 3}
    assert list(await store.next_due()) == ["ep_2"]


async def test_what_an_enabled_endpoint_is_owed_is_due_in_the_end(store: Store, clock: Clock) -> None:
    await store.save(endpoint(enabled=False))
    await owe(store, MANY, held=True)
    clock.now += SECOND_US
    await store.save(endpoint(revision=2))
    assert (await states(store))[State.HELD] > 0, "not all of them at once"
    await settled(store, clock)
    assert await states(store) == {State.PENDING: MANY}
    assert len(await due_ids(store, now=clock.now, limit=2 * MANY)) == MANY


async def test_what_a_deleted_endpoint_is_owed_is_cancelled_in_the_end(store: Store, clock: Clock) -> None:
    await owe(store, MANY // 2)
    await owe(store, MANY // 2, held=True)
    await store.delete(Endpoint, "ep_1")
    assert len(await states(store)) > 1, "not all of them at once"
    await settled(store, clock)
    assert await states(store) == {State.CANCELLED: MANY}


@pytest.mark.parametrize("steps", [0, 1])
async def test_a_restart_goes_on_with_what_was_left(backend: Backend, tmp_path: Path, clock: Clock, steps: int) -> None:
    async with backend.opened(tmp_path, clock) as store:
        await owe(store, MANY)
        await store.save(endpoint(enabled=False, revision=2))
        for _ in range(steps):
            assert await store.settle(limit=STEP, now=clock.now) == "ep_1"
    async with backend.opened(tmp_path, clock) as store:
        await settled(store, clock)
        assert await states(store) == {State.HELD: MANY}


async def test_the_last_change_holds(store: Store, clock: Clock) -> None:
    await owe(store, MANY)
    await store.save(endpoint(enabled=False, revision=2))
    await store.save(endpoint(enabled=True, revision=3))
    await settled(store, clock)
    assert await states(store) == {State.PENDING: MANY}
    await store.save(endpoint(enabled=False, revision=4))
    await store.delete(Endpoint, "ep_1")
    await settled(store, clock)
    assert await states(store) == {State.CANCELLED: MANY}


async def test_what_has_an_outcome_meanwhile_keeps_it(store: Store, clock: Clock) -> None:
    ids = await owe(store, MANY)
    await store.save(endpoint(enabled=False, revision=2))
    last = [each for each in ids if (await of(store, each)).state is State.PENDING][:2]
    await store.record([outcome(last[0], Happening.ACCEPTED)], now=clock.now)
    await store.record([outcome(last[1], Happening.REFUSED, next_at=clock.now + SECOND_US)], now=clock.now)
    await settled(store, clock)
    assert (await of(store, last[0])).state is State.SUCCEEDED
    assert (await of(store, last[1])).state is State.HELD
    assert await states(store) == {State.HELD: MANY - 1}


async def test_what_waits_in_line_is_released_all_at_once(store: Store, clock: Clock) -> None:
    """What came first must be sent first."""
    ids = await owe_in_line(store, *["orders.1"] * MANY)
    await change(store, enabled=False)
    await settled(store, clock)
    assert await states(store) == {State.HELD: MANY}
    await change(store, enabled=True)
    assert await states(store) == {State.PENDING: MANY}
    assert await due_ids(store, now=clock.now) == ids[:1]
    assert await settled(store, clock) == 0


async def test_an_order_that_is_asked_for_while_some_are_left_holds_for_all(store: Store, clock: Clock) -> None:
    await store.save(endpoint(enabled=False))
    ids = await owe(store, MANY, held=True)
    before = await store.save(endpoint(revision=2))
    await store.save(replace(before, ordering="all", revision=3))
    await settled(store, clock)
    assert await states(store) == {State.PENDING: MANY}
    assert await due_ids(store, now=clock.now) == ids[:1]


async def test_a_new_endpoint_does_not_inherit_what_an_older_one_of_its_id_left(store: Store, clock: Clock) -> None:
    await owe(store, MANY)
    await store.delete(Endpoint, "ep_1")
    await owe(store, 5)
    await settled(store, clock)
    assert await states(store) == {State.CANCELLED: MANY, State.PENDING: 5}


async def test_what_is_yet_to_be_released_can_be_sent_at_once(store: Store, clock: Clock) -> None:
    await store.save(endpoint(enabled=False))
    ids = await owe(store, MANY, held=True)
    with pytest.raises(Conflict):
        await store.change(ids[-1], Happening.RESENT, now=clock.now)
    await store.save(endpoint(revision=2))
    held = [each for each in ids if (await of(store, each)).state is State.HELD]
    sent = await store.change(held[-1], Happening.RESENT, now=clock.now)
    assert (sent.state, sent.next_at) == (State.PENDING, clock.now)
    await settled(store, clock)
    assert await states(store) == {State.PENDING: MANY}


async def test_endpoints_have_their_turns_one_after_the_other(store: Store, clock: Clock) -> None:
    for each in ("ep_1", "ep_2"):
        await owe(store, MANY, endpoint_id=each)
        await store.save(endpoint(id=each, enabled=False, revision=2))
    turns, last = [], ""
    for _ in range(4):
        last = await store.settle(behind=last, limit=10, now=clock.now) or ""
        turns.append(last)
    assert turns == ["ep_1", "ep_2", "ep_1", "ep_2"]
