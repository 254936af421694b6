"""Deliveries in lines: of each line only the first that is pending is due, whatever happens to it."""

from random import Random

import pytest
from msgspec.structs import replace

from hookbrook.core.delivery import TRANSITIONS, Happening, NewDelivery, State
from hookbrook.core.endpoint import Endpoint, Ordering
from hookbrook.errors import Conflict
from hookbrook.store.base import DeliveryQuery, Store

from .conftest import SECOND_US, Clock, append, endpoint, event
from .test_deliveries import due_ids, of, outcome


async def current(store: Store) -> Endpoint:
    found = await store.get(Endpoint, "ep_1")
    if found is None:
        found = await store.save(endpoint("ep_1", ordering="channel"))
    return found


async def change(store: Store, **fields: object) -> None:
    before = await current(store)
    await store.save(replace(before, revision=before.revision + 1, **fields))


async def owe(store: Store, *channels: str) -> list[str]:
    """A new event on each channel, owed to an endpoint that asks for order by channel unless it was changed."""
    to = await current(store)
    tail = (await store.bounds()).tail
    batch = [event(f"e{tail + number}", channel) for number, channel in enumerate(channels, 1)]
    owed = [
        [NewDelivery(id=f"dlv_{each.id}", endpoint_id=to.id, held=not to.enabled, line=to.line_of(each.channels[0]))]
        for each in batch
    ]
    await append(store, *batch, owed=owed)
    return [f"dlv_{each.id}" for each in batch]


async def test_the_next_of_a_channel_waits_for_the_one_before_and_other_channels_go_on(
    store: Store, clock: Clock
) -> None:
    a1, b1, a2 = await owe(store, "a", "b", "a")
    a3, b2 = await owe(store, "a", "b")
    assert await due_ids(store, now=clock.now) == [a1, b1]
    assert (await of(store, a2)).next_at is None
    assert [await store.waits_for(dlv) for dlv in (a1, b1, a2, a3)] == [None, None, a1, a1]
    assert await store.waits_for("dlv_none") is None
    await store.record([outcome(b1, Happening.ACCEPTED)], now=clock.now)
    assert await due_ids(store, now=clock.now) == [a1, b2]
    await store.record([outcome(a1, Happening.ACCEPTED), outcome(b2, Happening.ACCEPTED)], now=clock.now)
    assert await due_ids(store, now=clock.now) == [a2]
    await store.record([outcome(a2, Happening.ACCEPTED)], now=clock.now)
    assert await due_ids(store, now=clock.now) == [a3]


async def test_one_line_of_all_channels_goes_in_the_order_of_the_log(store: Store, clock: Clock) -> None:
    await current(store)
    await change(store, ordering="all")
    waiting = await owe(store, "b", "a", "c", "a")
    for dlv in waiting:
        assert await due_ids(store, now=clock.now) == [dlv]
        assert await store.next_due() == {"ep_1": clock.now}
        await store.record([outcome(dlv, Happening.ACCEPTED)], now=clock.now)
    assert await store.next_due() == {}


async def test_a_retry_that_is_planned_holds_up_the_line_until_its_time(store: Store, clock: Clock) -> None:
    a1, _ = await owe(store, "a", "a")
    later = clock.now + 60 * SECOND_US
    await store.record([outcome(a1, Happening.REFUSED, next_at=later)], now=clock.now)
    assert await due_ids(store, now=later - 1) == []
    assert await store.next_due_of("ep_1") == later
    assert await due_ids(store, now=later) == [a1]


@pytest.mark.parametrize("happening", [Happening.EXHAUSTED, Happening.CANCELLED])
async def test_what_has_failed_for_good_or_was_cancelled_holds_up_nobody(
    store: Store, clock: Clock, happening: Happening
) -> None:
    a1, a2 = await owe(store, "a", "a")
    if happening is Happening.CANCELLED:
        await store.change(a1, happening, now=clock.now)
    else:
        await store.record([outcome(a1, happening)], now=clock.now)
    assert await due_ids(store, now=clock.now) == [a2]


async def test_what_is_resent_goes_before_what_came_after_it(store: Store, clock: Clock) -> None:
    a1, a2, a3 = await owe(store, "a", "a", "a")
    await store.record([outcome(a1, Happening.EXHAUSTED)], now=clock.now)
    await store.record([outcome(a2, Happening.REFUSED, next_at=clock.now + SECOND_US)], now=clock.now)
    await store.change(a1, Happening.RESENT, now=clock.now)
    assert await due_ids(store, now=clock.now + SECOND_US) == [a1]
    # One that was under way meanwhile ends as it may.
    await store.record([outcome(a2, Happening.REFUSED, 2, next_at=clock.now + SECOND_US)], now=clock.now)
    assert await due_ids(store, now=clock.now + SECOND_US) == [a1]
    await store.record([outcome(a1, Happening.ACCEPTED, 2)], now=clock.now)
    assert await due_ids(store, now=clock.now) == [a2]
    await store.change(a2, Happening.CANCELLED, now=clock.now)
    assert await due_ids(store, now=clock.now) == [a3]


async def test_disabling_and_enabling_keeps_the_order(store: Store, clock: Clock) -> None:
    a1, b1, a2 = await owe(store, "a", "b", "a")
    await change(store, enabled=False)
    [a3] = await owe(store, "a")
    assert await due_ids(store, now=clock.now) == []
    clock.now += SECOND_US
    await change(store, enabled=True)
    for expected in ([a1, b1], [a2], [a3]):
        assert await due_ids(store, now=clock.now) == expected
        await store.record([outcome(dlv, Happening.ACCEPTED) for dlv in expected], now=clock.now)


async def test_another_ordering_applies_to_what_is_owed_already(store: Store, clock: Clock) -> None:
    a1, b1, a2 = await owe(store, "a", "b", "a")
    await change(store, ordering="none")
    assert set(await due_ids(store, now=clock.now)) == {a1, b1, a2}
    await change(store, ordering="all")
    assert await due_ids(store, now=clock.now) == [a1]
    await change(store, ordering="channel", enabled=False)
    await change(store, enabled=True)
    assert await due_ids(store, now=clock.now) == [a1, b1]


async def test_what_ended_under_another_ordering_is_resent_by_the_one_of_now(store: Store, clock: Clock) -> None:
    await current(store)
    await change(store, ordering="none")
    a1, a2 = await owe(store, "a", "a")
    await store.record([outcome(a1, Happening.EXHAUSTED), outcome(a2, Happening.EXHAUSTED)], now=clock.now)
    await change(store, ordering="channel")
    await store.change(a2, Happening.RESENT, now=clock.now)
    await store.change(a1, Happening.RESENT, now=clock.now)
    assert await due_ids(store, now=clock.now) == [a1]


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_happens_only_the_first_of_each_line_is_due_and_it_always_is(
    store: Store, clock: Clock, seed: int
) -> None:
    rng = Random(seed)
    orders: dict[str, str] = {}
    for number in range(60):
        clock.now += SECOND_US
        step = rng.randrange(9)
        if step < 3 or not orders:
            channels = [rng.choice("abc") for _ in range(rng.randint(1, 4))]
            orders |= dict(zip(await owe(store, *channels), channels, strict=True))
        elif step < 6:
            for dlv in rng.sample(sorted(orders), min(3, len(orders))):
                happening = rng.choice([Happening.ACCEPTED, Happening.REFUSED, Happening.EXHAUSTED])
                next_at = clock.now if happening is Happening.REFUSED else None
                await store.record([outcome(dlv, happening, number, next_at=next_at)], now=clock.now)
        elif step < 8:
            await _by_hand(store, clock, rng, sorted(orders))
        elif rng.random() < 0.5:
            await change(store, enabled=not (await current(store)).enabled)
        else:
            orderings: list[Ordering] = ["none", "channel", "all"]
            await change(store, ordering=rng.choice(orderings))
        await _check(store, clock, orders)


async def _by_hand(store: Store, clock: Clock, rng: Random, ids: list[str]) -> None:
    dlv = rng.choice(ids)
    happening = rng.choice([Happening.RESENT, Happening.CANCELLED])
    if happening in TRANSITIONS[(await of(store, dlv)).state]:
        await store.change(dlv, happening, now=clock.now)
    else:
        with pytest.raises(Conflict):
            await store.change(dlv, happening, now=clock.now)


async def _check(store: Store, clock: Clock, channels: dict[str, str]) -> None:
    to = await current(store)
    pending = await store.deliveries(DeliveryQuery(states=(State.PENDING,), limit=1000))
    firsts: dict[object, str] = {}
    for row in sorted(pending, key=lambda row: row.seq):
        line = to.line_of(channels[row.id])
        firsts.setdefault(row.id if line is None else line, row.id)
    assert sorted(await due_ids(store, now=clock.now)) == sorted(firsts.values())
    assert (await store.next_due_of("ep_1") is None) == (not firsts)
    assert bool(await store.next_due()) == bool(firsts)
