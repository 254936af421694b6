"""The `Jobs` port: a piece and how far the job got are one transaction."""

from collections.abc import Sequence

import msgspec
import pytest

from hookbrook.core.delivery import Attempt, Happening, NewDelivery, Outcome, State
from hookbrook.core.job import Job, JobKind, JobState, moved
from hookbrook.errors import Conflict
from hookbrook.store.base import DeliveryQuery, Piece, Store

from .conftest import SECOND_US, START_US, Clock, append, endpoint, events, owes

LATER = START_US + 1000 * SECOND_US


async def job(store: Store, **fields: object) -> Job:
    values: dict[str, object] = {
        "id": "job_1", "kind": JobKind.RECOVER, "endpoint_id": "ep_1", "created": START_US,
        "updated": START_US, **fields,
    }  # fmt: skip
    return await store.save(Job(**values))  # type: ignore[arg-type]


def after(job: Job, position: str) -> Job:
    return moved(job, LATER, position=position)


async def failed(store: Store, count: int, *, happening: Happening = Happening.EXHAUSTED) -> list[str]:
    """Deliveries to ep_1 that have ended like this."""
    await store.save(endpoint())
    batch = events(count)
    owed = [owes(each, "ep_1") for each in batch]
    await append(store, *batch, owed=owed)
    ids = [each.id for (each,) in owed]
    await store.record([ended(dlv, happening) for dlv in ids], now=START_US)
    return ids


def ended(dlv: str, happening: Happening) -> Outcome:
    attempt = Attempt(id=f"att_{dlv}", delivery_id=dlv, started=START_US, duration=1, status=500)
    return Outcome(attempt=attempt, happening=happening)


async def states(store: Store) -> dict[str, State]:
    return {each.id: each.state for each in await store.deliveries(DeliveryQuery(limit=1000))}


def owed(seqs: Sequence[int], prefix: str = "dlv_new") -> list[tuple[int, NewDelivery]]:
    return [(seq, NewDelivery(id=f"{prefix}{seq}", endpoint_id="ep_1")) for seq in seqs]


async def test_a_piece_and_the_position_are_kept_together_and_once(store: Store) -> None:
    ids = await failed(store, 3)
    first = await job(store)
    done = await store.advance(Piece(job=after(first, ids[1]), resend=ids[:2], states=(State.FAILED,)), now=LATER)
    assert (done.job.position, done.job.sent, done.job.skipped) == (ids[1], 2, 0)
    assert done.endpoints == {"ep_1"}
    assert await store.get(Job, "job_1") == done.job
    assert list((await states(store)).values()).count(State.PENDING) == 2
    # The same piece again, as by a second runner.
    with pytest.raises(Conflict):
        await store.advance(Piece(job=after(first, ids[2]), resend=ids, states=(State.FAILED,)), now=LATER)
    assert await store.get(Job, "job_1") == done.job
    assert list((await states(store)).values()).count(State.PENDING) == 2


async def test_nothing_is_done_for_a_job_that_was_cancelled(store: Store) -> None:
    ids = await failed(store, 1)
    first = await job(store)
    await store.save(moved(first, LATER, state=JobState.CANCELLED))
    with pytest.raises(Conflict):
        await store.advance(Piece(job=after(first, ids[0]), resend=ids, states=(State.FAILED,)), now=LATER)
    assert await states(store) == {ids[0]: State.FAILED}


async def test_what_a_job_makes_due_is_a_retry(store: Store) -> None:
    ids = await failed(store, 1)
    await append(store, *events(1, "new"))
    one = await job(store)
    done = await store.advance(Piece(job=after(one, "1"), resend=ids, states=(State.FAILED,)), now=LATER)
    await store.advance(Piece(job=after(done.job, "2"), owe=owed([2])), now=LATER)
    assert await store.due("ep_1", now=LATER, first=10, retries=0, excluding=[]) == []
    due = await store.due("ep_1", now=LATER, first=0, retries=10, excluding=[])
    assert [each.attempts for each in due] == [1, 1]


async def test_only_what_is_in_the_states_is_sent_again_and_the_rest_is_counted(store: Store) -> None:
    ids = await failed(store, 2, happening=Happening.ACCEPTED)
    await store.change(ids[0], Happening.RESENT, now=START_US)
    done = await store.advance(
        Piece(job=after(await job(store), "x"), resend=ids, states=(State.FAILED, State.SUCCEEDED)), now=LATER
    )
    assert (done.job.sent, done.job.skipped) == (1, 1)


async def test_a_replay_owes_each_event_once(store: Store) -> None:
    ids = await failed(store, 2)
    await append(store, *events(2, "new"))
    one = await job(store, kind=JobKind.REPLAY)
    done = await store.advance(Piece(job=after(one, "4"), owe=owed([1, 2, 3, 4])), now=LATER)
    assert (done.job.sent, done.job.skipped) == (2, 2)
    assert {each.seq for each in await store.deliveries(DeliveryQuery(states=(State.PENDING,)))} == {3, 4}
    again = await store.advance(
        Piece(job=after(done.job, "4"), owe=owed([1, 2, 3, 4], "dlv_more"), states=(State.FAILED,)), now=LATER
    )
    assert (again.job.sent - 2, again.job.skipped - 2) == (2, 2)
    assert (await states(store))[ids[0]] is State.PENDING
    assert len(await states(store)) == 4


async def test_a_dry_run_counts_the_same_and_changes_nothing(store: Store) -> None:
    ids = await failed(store, 2)
    await append(store, *events(2, "new"))
    before = await states(store)
    one = await job(store, dry_run=True)
    done = await store.advance(
        Piece(job=after(one, "9"), resend=[*ids, "dlv_none"], owe=owed([3, 4, 9]), states=(State.FAILED,)), now=LATER
    )
    assert (done.job.sent, done.job.skipped, done.endpoints) == (4, 2, frozenset())
    assert await states(store) == before
    assert await store.get(Job, "job_1") == done.job


async def test_what_could_never_be_sent_is_passed_over(store: Store, clock: Clock) -> None:
    ids = await failed(store, 2)
    clock.now += SECOND_US
    await store.trim(appended_before=clock.now, keep=None, limit=10)
    done = await store.advance(
        Piece(job=after(await job(store), "x"), resend=ids, owe=owed([1]), states=(State.FAILED,)), now=LATER
    )
    assert (done.job.sent, done.job.skipped) == (0, 3)


async def test_nothing_is_sent_to_another_tenants_endpoint_or_one_that_is_gone(store: Store) -> None:
    ids = await failed(store, 1)
    await append(store, *events(1, "theirs", tenant="two"))
    done = await store.advance(Piece(job=after(await job(store), "x"), owe=owed([2])), now=LATER)
    assert done.job.skipped == 1
    gone = await store.get(type(endpoint()), "ep_1")
    assert gone is not None
    await store.delete(type(gone), "ep_1")
    more = await store.advance(
        Piece(job=after(done.job, "x"), resend=ids, owe=owed([1]), states=(State.FAILED,)), now=LATER
    )
    assert more.job.skipped == 3


async def test_what_a_job_sends_stands_in_the_line_of_its_endpoint(store: Store) -> None:
    ids = await failed(store, 3)
    await store.save(msgspec.structs.replace(endpoint(), ordering="channel", revision=2))
    await append(store, *events(2, "new", channels=("b",)))
    piece = Piece(job=after(await job(store), "x"), resend=ids, owe=owed([4, 5]), states=(State.FAILED,))
    assert (await store.advance(piece, now=LATER)).job.sent == 5
    due = await store.due("ep_1", now=LATER, first=10, retries=10, excluding=[])
    assert [(each.event.seq, each.line) for each in due] == [(1, "a"), (4, "b")]


async def test_what_is_sent_to_a_disabled_endpoint_is_held(store: Store) -> None:
    ids = await failed(store, 1)
    await append(store, *events(1, "new"))
    await store.save(msgspec.structs.replace(endpoint(), enabled=False, revision=2))
    await store.advance(
        Piece(job=after(await job(store), "x"), resend=ids, owe=owed([2]), states=(State.FAILED,)), now=LATER
    )
    assert set((await states(store)).values()) == {State.HELD}
