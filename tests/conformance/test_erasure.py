"""Erasing: what an event said is gone, everywhere, and that it happened is known."""

import pytest

from hookbrook.core.delivery import Attempt, Delivery, Happening, NewDelivery, Outcome, State
from hookbrook.core.job import Job, JobKind
from hookbrook.errors import Conflict, IdConflict
from hookbrook.store.base import DeliveryQuery, Piece, Query, Store

from .conftest import SECOND_US, START_US, Clock, append, endpoint, event, events, owes, read_all

LATER = START_US + 1000 * SECOND_US


def answered(dlv: str, happening: Happening) -> Outcome:
    attempt = Attempt(
        id=f"att_{dlv}_{happening}", delivery_id=dlv, started=START_US, duration=1, status=500,
        message="It said: secret", response_headers=(("x-echo", "secret"),), response_body=b"secret",
    )  # fmt: skip
    return Outcome(attempt=attempt, happening=happening, next_at=LATER)


async def owed_everywhere(store: Store) -> tuple[list[str], Delivery]:
    """An event that was owed to three, of which one got it; the ids, and the delivery that arrived."""
    for number in (1, 2, 3):
        await store.save(endpoint(f"ep_{number}", enabled=number != 3))
    one = event("e1", data=b'"secret"', request=b'{"headers": [["x", "secret"]]}')
    owed = owes(one, "ep_1", "ep_2") + owes(one, "ep_3", held=True)
    await append(store, one, *events(1, "other"), owed=[owed, []])
    await store.record(
        [answered(owed[0].id, Happening.ACCEPTED), answered(owed[1].id, Happening.REFUSED)], now=START_US
    )
    found = await store.delivery(owed[0].id)
    assert found is not None
    return [each.id for each in owed], found


async def test_what_an_event_said_is_erased_and_that_it_happened_is_shown(store: Store) -> None:
    await owed_everywhere(store)
    erased = await store.erase("default", "e1", now=LATER)
    assert erased is not None
    assert erased.seq == 1
    first, other = await read_all(store)
    assert (first.id, first.kind, first.data, first.request, first.channels) == ("e1", "erased", b"", None, ("a",))
    assert (other.kind, other.data) == ("json", b"1")
    assert await store.event("default", "e1") == first
    assert await store.erase("default", "none", now=LATER) is None
    assert await store.erase("other", "e1", now=LATER) is None
    again = await store.erase("default", "e1", now=LATER)
    assert again is not None
    assert again.cancelled == []


async def test_what_is_owed_of_it_is_cancelled_with_the_reason(store: Store) -> None:
    ids, arrived = await owed_everywhere(store)
    erased = await store.erase("default", "e1", now=LATER)
    assert erased is not None
    assert sorted(erased.cancelled) == [("ep_2", ids[1]), ("ep_3", ids[2])]
    rows = {each.id: each for each in await store.deliveries(DeliveryQuery())}
    assert rows[ids[0]] == arrived
    assert [rows[each].state for each in ids[1:]] == [State.CANCELLED, State.CANCELLED]
    assert rows[ids[1]].last_error == "The event's data was erased."
    for each in ids:
        with pytest.raises(Conflict):
            await store.change(each, Happening.RESENT, now=LATER)
    job = await store.save(Job(id="job_1", kind=JobKind.RECOVER, endpoint_id="ep_1", created=0, updated=0))
    piece = Piece(
        job=Job(id="job_1", kind=JobKind.RECOVER, endpoint_id="ep_1", created=0, updated=0, revision=job.revision + 1),
        resend=ids, owe=[(1, NewDelivery(id="dlv_x", endpoint_id="ep_1"))], states=(State.CANCELLED, State.SUCCEEDED),
    )  # fmt: skip
    assert (await store.advance(piece, now=LATER)).job.skipped == 4


async def test_what_receivers_answered_is_erased_also_when_it_comes_later(store: Store) -> None:
    ids, _ = await owed_everywhere(store)
    await store.erase("default", "e1", now=LATER)
    await store.record([answered(ids[1], Happening.EXHAUSTED)], now=LATER)
    attempts = [attempt for each in ids for attempt in await store.attempts(each)]
    assert len(attempts) == 3
    assert all(each.status == 500 for each in attempts)
    assert "secret" not in repr(attempts)


async def test_its_id_is_recognised_whatever_comes_with_it(store: Store) -> None:
    await owed_everywhere(store)
    await store.erase("default", "e1", now=LATER)
    [same] = await append(store, event("e1", data=b'"secret"'))
    [another] = await append(store, event("e1", data=b"2"))
    assert (same.seq, same.duplicate, another.seq, another.duplicate) == (1, True, 1, True)


async def test_old_data_goes_and_what_is_owed_stays_until_it_is_not(store: Store, clock: Clock) -> None:
    [lost, late] = events(2)
    owed = [[], owes(late, "ep_1")]
    await append(store, lost, late, owed=owed)
    clock.now += 10 * SECOND_US
    await append(store, *events(1, "new"))

    async def kinds() -> list[str]:
        return [each.kind for each in await read_all(store, Query(tenant="default"))]

    before = START_US + SECOND_US
    assert (await store.expire(appended_before=START_US, limit=10)).done == 0
    expired = await store.expire(appended_before=before, limit=10)
    assert (expired.done, expired.up_to) == (2, 2)
    assert await kinds() == ["erased", "json", "json"]
    assert (await store.expire(appended_before=before, limit=10)).done == 0
    await store.record([answered(owed[1][0].id, Happening.ACCEPTED)], now=LATER)
    assert (await store.expire(appended_before=before, limit=10)).done == 1
    assert await kinds() == ["erased", "erased", "json"]
    assert (await store.expire(appended_before=before, limit=10)).done == 0
    # Conflicts are still told: retention is no reason to take another event for this one.
    with pytest.raises(IdConflict):
        await append(store, event("e0", data=b"2"))


async def test_old_data_goes_in_steps_that_end(store: Store, clock: Clock) -> None:
    await append(store, *events(7))
    clock.now += SECOND_US
    done = [(await store.expire(appended_before=clock.now, limit=3)).done for _ in range(4)]
    assert done == [3, 3, 1, 0]
    assert {each.kind for each in await read_all(store)} == {"erased"}
    await store.trim(appended_before=clock.now, keep=None, limit=100)
    assert await read_all(store) == []
