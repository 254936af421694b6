"""The `Deliveries` port, and what becomes of deliveries when their endpoint changes."""

import asyncio
from itertools import product

import pytest

from hookbrook.core.delivery import TRANSITIONS, Attempt, Delivery, Happening, NewDelivery, Outcome, State
from hookbrook.core.endpoint import Endpoint
from hookbrook.errors import Conflict, NotFound
from hookbrook.store.base import SEEN_WINDOW_US, DeliveryQuery, Store

from .conftest import SECOND_US, START_US, Clock, append, endpoint, event, events, owes

LATER = START_US + 1000 * SECOND_US


def attempt(delivery_id: str, number: int = 1, **fields: object) -> Attempt:
    values: dict[str, object] = {
        "id": f"att_{delivery_id}_{number}", "delivery_id": delivery_id, "started": START_US + number, "duration": 7,
        "status": 200, **fields,
    }  # fmt: skip
    return Attempt(**values)  # type: ignore[arg-type]


def outcome(delivery_id: str, happening: Happening, number: int = 1, next_at: int | None = None) -> Outcome:
    return Outcome(attempt=attempt(delivery_id, number), happening=happening, next_at=next_at)


async def owe(store: Store, count: int = 1, *, endpoint_id: str = "ep_1", held: bool = False) -> list[str]:
    """Save the endpoint if it is not there; ids of deliveries of new events, in their order."""
    if await store.get(Endpoint, endpoint_id) is None:
        await store.save(endpoint(endpoint_id))
    bounds = await store.bounds()
    batch = [event(f"e{bounds.tail + number}") for number in range(1, count + 1)]
    await append(store, *batch, owed=[owes(each, endpoint_id, held=held) for each in batch])
    return [f"dlv_{each.id}_{endpoint_id}" for each in batch]


async def due_ids(store: Store, *, now: int, endpoint_id: str = "ep_1", limit: int = 100, **more: object) -> list[str]:
    excluding: list[str] = more.get("excluding", [])  # type: ignore[assignment]
    return [
        due.delivery_id
        for due in await store.due(endpoint_id, now=now, first=limit, retries=limit, excluding=excluding)
    ]


async def of(store: Store, delivery_id: str) -> Delivery:
    found = await store.delivery(delivery_id)
    assert found is not None
    return found


async def bring_to(store: Store, state: State, clock: Clock) -> str:
    """A delivery in that state."""
    [dlv] = await owe(store, held=state is State.HELD)
    if state is State.CANCELLED:
        await store.change(dlv, Happening.CANCELLED, now=clock.now)
    elif state in (State.SUCCEEDED, State.FAILED):
        happening = Happening.ACCEPTED if state is State.SUCCEEDED else Happening.EXHAUSTED
        await store.record([outcome(dlv, happening)], now=clock.now)
    assert (await of(store, dlv)).state is state
    return dlv


async def test_what_is_appended_after_the_clock_was_set_back_is_due_at_once(store: Store, clock: Clock) -> None:
    """Events keep the later time, since theirs never goes back; deliveries are asked for by the clock as it is."""
    clock.now = START_US + 3600 * SECOND_US
    await owe(store)
    clock.now = START_US
    after = await owe(store)
    assert await due_ids(store, now=clock.now) == after
    assert (await of(store, after[0])).created == clock.now


# What an append owes


async def test_what_is_owed_is_pending_and_due_at_once(store: Store, clock: Clock) -> None:
    [dlv] = await owe(store)
    assert await of(store, dlv) == Delivery(
        id=dlv, tenant="default", seq=1, event_id="e1", event_type="message", channels=("a",),
        endpoint_id="ep_1", state=State.PENDING,
        attempts=0, next_at=clock.now, created=clock.now, updated=clock.now,
    )  # fmt: skip
    [due] = await store.due("ep_1", now=clock.now, first=10, retries=10, excluding=())
    assert (due.delivery_id, due.endpoint_id, due.attempts, due.event.id) == (dlv, "ep_1", 0, "e1")
    assert due.event.cursor.endswith("-1")


async def test_what_is_owed_to_a_disabled_endpoint_is_held(store: Store) -> None:
    [dlv] = await owe(store, held=True)
    kept = await of(store, dlv)
    assert (kept.state, kept.next_at) == (State.HELD, None)
    assert await due_ids(store, now=LATER) == []
    assert await store.next_due() == {}
    assert await store.next_due_of("ep_1") is None


async def test_one_event_may_be_owed_to_many(store: Store, clock: Clock) -> None:
    one = event("e1")
    await append(store, one, owed=[owes(one, *(f"ep_{number}" for number in range(200)))])
    assert len(await store.next_due()) == 200
    assert len(await store.deliveries(DeliveryQuery(event_id="e1", limit=1000))) == 200


# What is due


async def test_the_longest_due_come_first_and_what_is_not_due_does_not_come(store: Store, clock: Clock) -> None:
    ids = await owe(store, 5)
    waits = {ids[0]: 50, ids[1]: 10, ids[2]: 40, ids[3]: 20, ids[4]: 30}
    refused = [
        outcome(dlv, Happening.REFUSED, next_at=START_US + seconds * SECOND_US) for dlv, seconds in waits.items()
    ]
    await store.record(refused, now=clock.now)
    in_order = [ids[1], ids[3], ids[4], ids[2], ids[0]]
    for seconds in (0, 9, 10, 29, 30, 60):
        expected = [dlv for dlv in in_order if waits[dlv] <= seconds]
        assert await due_ids(store, now=START_US + seconds * SECOND_US) == expected
    assert await due_ids(store, now=LATER, limit=2) == in_order[:2]
    assert await store.next_due_of("ep_1") == START_US + 10 * SECOND_US


async def test_those_that_are_under_way_are_left_out(store: Store) -> None:
    ids = sorted(await owe(store, 6))
    assert await due_ids(store, now=LATER, limit=3, excluding=ids[:4]) == ids[4:]
    assert await due_ids(store, now=LATER, limit=1, excluding=[ids[1], "dlv_unknown"]) == [ids[0]]
    assert await due_ids(store, now=LATER, excluding=ids) == []


async def test_each_endpoint_has_its_own(store: Store, clock: Clock) -> None:
    [one] = await owe(store, endpoint_id="ep_1")
    [two] = await owe(store, endpoint_id="ep_2")
    await owe(store, endpoint_id="ep_3", held=True)
    await store.record([outcome(two, Happening.REFUSED, next_at=LATER)], now=clock.now)
    assert await due_ids(store, now=clock.now, endpoint_id="ep_1") == [one]
    assert await due_ids(store, now=clock.now, endpoint_id="ep_2") == []
    assert await store.next_due() == {"ep_1": clock.now, "ep_2": LATER}


# Recording


async def test_an_attempt_is_kept_as_it_was(store: Store, clock: Clock) -> None:
    [dlv] = await owe(store)
    full = attempt(
        dlv, address="203.0.113.7:443", status=None, error="timeout", message="No answer within 20 s.",
        response_headers=(("a", "1"), ("a", "ä")), response_body=b"\x00\xff", truncated=True,
    )  # fmt: skip
    await store.record([Outcome(attempt=full, happening=Happening.REFUSED, next_at=LATER)], now=clock.now + 1)
    assert await store.attempts(dlv) == [full]
    kept = await of(store, dlv)
    assert (kept.state, kept.attempts, kept.next_at, kept.updated) == (State.PENDING, 1, LATER, clock.now + 1)
    assert (kept.last_status, kept.last_error) == (None, "No answer within 20 s.")


@pytest.mark.parametrize(
    ("happening", "state"), [(Happening.ACCEPTED, State.SUCCEEDED), (Happening.EXHAUSTED, State.FAILED)]
)
async def test_what_ended_is_due_no_more(store: Store, clock: Clock, happening: Happening, state: State) -> None:
    [dlv] = await owe(store)
    await store.record([outcome(dlv, happening, next_at=LATER)], now=clock.now)
    kept = await of(store, dlv)
    assert (kept.state, kept.attempts, kept.next_at, kept.last_status) == (state, 1, None, 200)
    assert await due_ids(store, now=LATER) == []
    assert await store.next_due() == {}


@pytest.mark.parametrize("state", [State.CANCELLED, State.HELD, State.SUCCEEDED])
async def test_an_outcome_moves_only_what_is_pending_but_its_attempt_is_kept(
    store: Store, clock: Clock, state: State
) -> None:
    dlv = await bring_to(store, state, clock)
    before = await of(store, dlv)
    await store.record([outcome(dlv, Happening.REFUSED, number=2, next_at=LATER)], now=clock.now)
    kept = await of(store, dlv)
    assert (kept.state, kept.next_at) == (state, None)
    assert kept.attempts == before.attempts + 1
    assert (await store.attempts(dlv))[-1].id == f"att_{dlv}_2"


async def test_what_was_held_while_it_was_under_way_and_arrived_is_not_sent_again(store: Store, clock: Clock) -> None:
    dlv = await bring_to(store, State.HELD, clock)
    await store.record([outcome(dlv, Happening.ACCEPTED)], now=clock.now)
    assert (await of(store, dlv)).state is State.SUCCEEDED


async def test_many_outcomes_are_recorded_at_once_and_attempts_are_listed_oldest_first(
    store: Store, clock: Clock
) -> None:
    ids = await owe(store, 300)
    for number in range(3):
        await store.record(
            [outcome(dlv, Happening.REFUSED, number, next_at=LATER + number) for dlv in ids], now=clock.now
        )
    assert [each.id for each in await store.attempts(ids[7])] == [f"att_{ids[7]}_{number}" for number in range(3)]
    assert (await of(store, ids[299])).attempts == 3
    assert await store.next_due() == {"ep_1": LATER + 2}


async def test_two_outcomes_of_one_delivery_are_applied_one_after_the_other(store: Store, clock: Clock) -> None:
    one, two = await owe(store, 2)
    both = [
        outcome(one, Happening.REFUSED, 1, next_at=LATER),
        outcome(two, Happening.ACCEPTED),
        outcome(one, Happening.ACCEPTED, 2),
    ]
    await store.record(both, now=clock.now)
    kept = await of(store, one)
    assert (kept.state, kept.attempts) == (State.SUCCEEDED, 2)
    assert (await of(store, two)).attempts == 1


async def test_nothing_is_recorded_for_a_delivery_that_is_gone(store: Store, clock: Clock) -> None:
    [dlv] = await owe(store)
    await store.change(dlv, Happening.CANCELLED, now=clock.now)
    clock.now += SEEN_WINDOW_US + SECOND_US
    await store.trim(appended_before=None, keep=0, limit=10)
    assert await store.delivery(dlv) is None
    await store.record([outcome(dlv, Happening.ACCEPTED)], now=clock.now)
    assert await store.attempts(dlv) == []


# Changes by people


@pytest.mark.parametrize(
    ("state", "happening"), list(product(State, [Happening.RESENT, Happening.CANCELLED])), ids=lambda each: str(each)
)
async def test_a_person_changes_a_delivery_by_the_table(
    store: Store, clock: Clock, state: State, happening: Happening
) -> None:
    dlv = await bring_to(store, state, clock)
    if state is State.HELD:
        # Else it would be one that is about to be released.
        await store.save(endpoint(enabled=False, revision=2))
    clock.now += SECOND_US
    if happening not in TRANSITIONS[state]:
        with pytest.raises(Conflict):
            await store.change(dlv, happening, now=clock.now)
        assert (await of(store, dlv)).state is state
        return
    changed = await store.change(dlv, happening, now=clock.now)
    assert changed == await of(store, dlv)
    assert changed.state is TRANSITIONS[state][happening]
    assert changed.next_at == (clock.now if changed.state is State.PENDING else None)
    assert await due_ids(store, now=clock.now) == ([dlv] if changed.state is State.PENDING else [])


async def test_a_resend_begins_a_new_round_of_retries_and_forgets_no_attempt(store: Store, clock: Clock) -> None:
    [dlv] = await owe(store)
    await store.record([outcome(dlv, Happening.REFUSED, 1, next_at=clock.now)], now=clock.now)
    await store.record([outcome(dlv, Happening.EXHAUSTED, 2)], now=clock.now)
    await store.change(dlv, Happening.RESENT, now=clock.now)
    [due] = await store.due("ep_1", now=clock.now, first=10, retries=10, excluding=())
    assert (due.attempts, (await of(store, dlv)).attempts) == (0, 2)
    await store.record([outcome(dlv, Happening.REFUSED, 3, next_at=clock.now)], now=clock.now)
    [due] = await store.due("ep_1", now=clock.now, first=10, retries=10, excluding=())
    assert (due.attempts, (await of(store, dlv)).attempts) == (1, 3)


async def test_what_is_not_there_cannot_be_changed(store: Store) -> None:
    with pytest.raises(NotFound):
        await store.change("dlv_none", Happening.RESENT, now=START_US)
    assert await store.delivery("dlv_none") is None


async def test_what_is_resent_to_a_disabled_endpoint_is_held(store: Store, clock: Clock) -> None:
    dlv = await bring_to(store, State.FAILED, clock)
    await store.save(endpoint(enabled=False, revision=2))
    resent = await store.change(dlv, Happening.RESENT, now=clock.now)
    assert (resent.state, resent.next_at) == (State.HELD, None)
    assert await due_ids(store, now=LATER) == []
    await store.save(endpoint(enabled=True, revision=3))
    assert await due_ids(store, now=LATER) == [dlv]


async def test_nothing_is_resent_to_a_deleted_endpoint(store: Store, clock: Clock) -> None:
    dlv = await bring_to(store, State.FAILED, clock)
    await store.delete(Endpoint, "ep_1")
    with pytest.raises(Conflict, match="deleted"):
        await store.change(dlv, Happening.RESENT, now=clock.now)
    assert (await of(store, dlv)).state is State.FAILED


async def test_what_has_lost_its_data_is_not_resent(store: Store, clock: Clock) -> None:
    """It would be sent empty."""
    dlv = await bring_to(store, State.FAILED, clock)
    await store.trim(appended_before=None, keep=0, limit=10)
    with pytest.raises(Conflict, match="no longer kept"):
        await store.change(dlv, Happening.RESENT, now=clock.now)
    assert (await of(store, dlv)).state is State.FAILED


async def test_what_is_resent_keeps_its_event_from_being_trimmed(store: Store, clock: Clock) -> None:
    dlv = await bring_to(store, State.SUCCEEDED, clock)
    await store.change(dlv, Happening.RESENT, now=clock.now)
    await store.trim(appended_before=None, keep=0, limit=10)
    [due] = await store.due("ep_1", now=clock.now, first=1, retries=1, excluding=())
    assert due.event.data == b"1"


# Changes of the endpoint


async def test_disabling_holds_what_is_pending_and_enabling_releases_it(store: Store, clock: Clock) -> None:
    ids = await owe(store, 3)
    [others] = await owe(store, endpoint_id="ep_2")
    await store.record([outcome(ids[0], Happening.ACCEPTED)], now=clock.now)
    await store.record([outcome(ids[1], Happening.REFUSED, next_at=LATER)], now=clock.now)
    await store.save(endpoint(enabled=False, revision=2))
    assert [(await of(store, dlv)).state for dlv in ids] == [State.SUCCEEDED, State.HELD, State.HELD]
    assert await store.next_due() == {"ep_2": START_US}
    clock.now += SECOND_US
    await store.save(endpoint(enabled=True, revision=3))
    # Due now, whatever its schedule was before.
    assert sorted(await due_ids(store, now=clock.now)) == ids[1:]
    assert (await of(store, others)).state is State.PENDING


async def test_any_other_change_of_an_endpoint_moves_nothing(store: Store, clock: Clock) -> None:
    [dlv] = await owe(store)
    before = await of(store, dlv)
    clock.now += SECOND_US
    await store.save(endpoint(url="https://example.org", revision=2))
    assert await of(store, dlv) == before


async def test_deleting_cancels_what_is_pending_or_held(store: Store, clock: Clock) -> None:
    [pending] = await owe(store)
    [held] = await owe(store, held=True)
    [done] = await owe(store)
    await store.record([outcome(done, Happening.ACCEPTED)], now=clock.now)
    await store.delete(Endpoint, "ep_1")
    states = [(await of(store, dlv)).state for dlv in (pending, held, done)]
    assert states == [State.CANCELLED, State.CANCELLED, State.SUCCEEDED]
    assert await store.next_due() == {}


async def test_every_delivery_of_a_race_with_disabling_is_held(store: Store, clock: Clock) -> None:
    """Whatever was appended before is held by the change; whatever comes after was matched anew."""
    await store.save(endpoint())
    version, _ = await store.routes()

    async def publish(number: int) -> None:
        one = event(f"e{number}")
        await store.append([one], [owes(one, "ep_1")], version)

    changing = store.save(endpoint(enabled=False, revision=2))
    await asyncio.gather(*map(publish, range(10)), changing, *map(publish, range(10, 20)), return_exceptions=True)
    kept = await store.deliveries(DeliveryQuery(limit=100))
    assert {each.state for each in kept} == {State.HELD}
    assert len(kept) >= 10


# First attempts and retries


async def test_first_attempts_and_retries_are_read_apart_of_either_the_longest_due_first(
    store: Store, clock: Clock
) -> None:
    retried = await owe(store, 5)
    for place, dlv in enumerate(retried):
        due_at = clock.now + (5 - place)
        await store.record([outcome(dlv, Happening.REFUSED, next_at=due_at)], now=clock.now)
    fresh = await owe(store, 5)
    clock.now += SECOND_US

    async def due(first: int, retries: int, excluding: tuple[str, ...] = ()) -> list[str]:
        page = await store.due("ep_1", now=clock.now, first=first, retries=retries, excluding=excluding)
        assert all((each.attempts > 0) == (each.delivery_id in retried) for each in page)
        return [each.delivery_id for each in page]

    assert await due(0, 2) == [retried[4], retried[3]]
    assert set(await due(5, 0)) == set(fresh)
    assert len(await due(2, 3)) == 5
    assert await due(0, 5, (retried[4],)) == retried[3::-1]
    assert await due(0, 0) == []


async def test_what_a_person_resends_is_a_first_attempt_again(store: Store, clock: Clock) -> None:
    [dlv] = await owe(store)
    await store.record([outcome(dlv, Happening.REFUSED, next_at=clock.now + SECOND_US)], now=clock.now)
    await store.change(dlv, Happening.RESENT, now=clock.now)
    [due] = await store.due("ep_1", now=clock.now, first=1, retries=0, excluding=())
    assert (due.delivery_id, due.attempts) == (dlv, 0)


async def test_the_next_due_is_the_earlier_of_both_kinds(store: Store, clock: Clock) -> None:
    [retried] = await owe(store)
    [fresh] = await owe(store, endpoint_id="ep_2")
    await store.record([outcome(retried, Happening.REFUSED, next_at=clock.now + SECOND_US)], now=clock.now)
    assert await store.next_due() == {"ep_1": clock.now + SECOND_US, "ep_2": clock.now}
    clock.now += 5 * SECOND_US
    await owe(store)
    assert await store.next_due_of("ep_1") == START_US + SECOND_US
    await store.change(retried, Happening.CANCELLED, now=clock.now)
    assert await store.next_due() == {"ep_1": clock.now, "ep_2": START_US}
    assert await store.next_due_of("ep_1") == clock.now
    await store.change(fresh, Happening.CANCELLED, now=clock.now)
    assert await store.next_due_of("ep_2") is None


# Since when endpoints fail


async def test_since_when_endpoints_fail_is_kept_with_the_outcomes(store: Store, clock: Clock) -> None:
    [first] = await owe(store)
    [second] = await owe(store, endpoint_id="ep_2")
    await store.record([outcome(first, Happening.REFUSED)], now=clock.now, failing={"ep_1": 7, "ep_2": 8})
    assert await store.failing() == {"ep_1": 7, "ep_2": 8}
    assert await store.failing(["ep_2", "ep_3"]) == {"ep_2": 8}
    assert await store.failing([]) == {}
    await store.record([outcome(second, Happening.REFUSED)], now=clock.now, failing={"ep_1": None, "ep_2": 9})
    assert await store.failing() == {"ep_2": 9}


async def test_enabling_or_deleting_an_endpoint_forgets_that_it_failed_and_disabling_does_not(
    store: Store, clock: Clock
) -> None:
    await store.save(endpoint("ep_1"))
    await store.save(endpoint("ep_2"))
    await store.record([], now=clock.now, failing={"ep_1": 7, "ep_2": 8})
    await store.save(endpoint("ep_1", enabled=False, revision=2))
    assert await store.failing() == {"ep_1": 7, "ep_2": 8}
    await store.save(endpoint("ep_1", enabled=True, revision=3))
    assert await store.failing() == {"ep_2": 8}
    await store.delete(Endpoint, "ep_2")
    await store.record([], now=clock.now, failing={"ep_2": 9})
    assert await store.failing() == {}


# Searching


async def test_deliveries_are_searched_newest_first_page_by_page(store: Store, clock: Clock) -> None:
    for number in range(25):
        one = event(f"e{number}", type="paid" if number % 2 else "message")
        await append(store, one, owed=[[NewDelivery(id=f"dlv_{number:03}", endpoint_id=f"ep_{number % 3}")]])
        clock.now += SECOND_US
    found: list[str] = []
    while page := await store.deliveries(DeliveryQuery(limit=10, before_id=found[-1] if found else None)):
        found += [each.id for each in page]
    assert found == [f"dlv_{number:03}" for number in reversed(range(25))]


async def test_each_filter_narrows_the_search(store: Store, clock: Clock) -> None:
    batch = [
        event("e0"), event("e1", tenant="two"), event("evt_2", scope="src_1", dedupe_id="x"),
        event("evt_2", tenant="two", scope="src_1", dedupe_id="y"),
    ]  # fmt: skip
    deliveries = [
        [NewDelivery(id=f"dlv_{number}", endpoint_id=f"ep_{number % 2}", held=number == 2)] for number in range(4)
    ]
    for one, owed in zip(batch, deliveries, strict=True):
        await append(store, one, owed=[owed])
        clock.now += SECOND_US

    async def found(**filters: object) -> set[str]:
        return {each.id[-1] for each in await store.deliveries(DeliveryQuery(**filters))}  # type: ignore[arg-type]

    assert await found() == set("0123")
    assert await found(tenant="two") == set("13")
    assert await found(states=(State.HELD,)) == set("2")
    assert await found(states=(State.HELD, State.PENDING)) == set("0123")
    assert await found(endpoint_id="ep_1") == set("13")
    assert await found(endpoint_id="ep_1", states=(State.HELD,)) == set()
    assert await found(event_id="e0") == set("0")
    assert await found(event_id="e1", tenant="default") == set()
    assert await found(event_id="evt_2") == set("23")
    assert await found(event_id="evt_2", tenant="two") == set("3")
    assert await found(event_id="none") == set()
    assert await found(since=START_US + SECOND_US, until=START_US + 3 * SECOND_US) == set("12")


async def test_what_did_not_arrive_is_listed_in_pages_whatever_its_state(store: Store, clock: Clock) -> None:
    happenings = [Happening.EXHAUSTED, Happening.ACCEPTED, Happening.CANCELLED, None]
    dlvs = await owe(store, 12)
    for number, dlv in enumerate(dlvs):
        happening = happenings[number % 4]
        if happening is Happening.CANCELLED:
            await store.change(dlv, happening, now=clock())
        elif happening is not None:
            await store.record([outcome(dlv, happening)], now=clock())
    wanted = (State.FAILED, State.PENDING, State.HELD)
    found: list[str] = []
    while page := await store.deliveries(DeliveryQuery(states=wanted, limit=2, before_id=found[-1] if found else None)):
        found += [each.id for each in page]
    expected = sorted([dlv for number, dlv in enumerate(dlvs) if number % 4 in (0, 3)], reverse=True)
    assert found == expected
    up = ""
    while page := await store.deliveries(DeliveryQuery(states=wanted, limit=2, after_id=up)):
        assert [each.id for each in page] == [expected.pop() for _ in page]
        up = page[-1].id
    assert expected == []


async def test_where_the_time_of_an_attempt_went_is_kept(store: Store) -> None:
    [dlv] = await owe(store)
    timed = attempt(dlv, resolve=1, connect=2, tls=None, wait=4)
    await store.record([Outcome(attempt=timed, happening=Happening.ACCEPTED)], now=LATER)
    assert await store.attempts(dlv) == [timed]


async def test_what_has_not_succeeded_is_counted_by_state(store: Store, clock: Clock) -> None:
    assert not any((await store.counts()).values())
    pending, arrived, *spent, cancelled = await owe(store, 5)
    await store.record([outcome(arrived, Happening.ACCEPTED)], now=clock.now)
    await store.record([outcome(each, Happening.EXHAUSTED) for each in spent], now=clock.now)
    await store.change(cancelled, Happening.CANCELLED, now=clock.now)
    assert (await of(store, pending)).state is State.PENDING
    assert await store.counts() == {State.PENDING: 1, State.FAILED: 2, State.CANCELLED: 1}
    await store.delete(Endpoint, "ep_1")
    assert await store.counts() == {State.PENDING: 0, State.FAILED: 2, State.CANCELLED: 2}


async def test_deliveries_name_their_event(store: Store) -> None:
    await append(store, *events(1, type="paid"), owed=[[NewDelivery(id="dlv_1", endpoint_id="ep_1")]])
    [kept] = await store.deliveries(DeliveryQuery())
    assert (kept.event_id, kept.event_type, kept.seq) == ("e0", "paid", 1)


async def test_what_one_event_was_owed_is_read_by_endpoint(store: Store) -> None:
    [one, two] = events(2)
    owed = [owes(one, *(f"ep_{number}" for number in (3, 1, 2))), owes(two, "ep_0")]
    await append(store, one, two, owed=owed)
    first = await store.owed(1, after_endpoint_id="", limit=2)
    rest = await store.owed(1, after_endpoint_id="ep_2", limit=2)
    assert [each.endpoint_id for each in (*first, *rest)] == ["ep_1", "ep_2", "ep_3"]
    assert await store.owed(9, after_endpoint_id="", limit=2) == []
