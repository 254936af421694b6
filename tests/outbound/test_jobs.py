"""Jobs on a real store, dispatcher and receiver: recovering and replaying, at a pace, across restarts."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from msgspec.structs import replace

from hookbrook.core.delivery import Attempt, Happening, NewDelivery, Outcome, State
from hookbrook.core.endpoint import Endpoint
from hookbrook.core.event import NewEvent
from hookbrook.core.job import Job, JobKind, JobState, Which, ended
from hookbrook.core.key import ApiKey
from hookbrook.core.source import Source
from hookbrook.outbound.erasing import STEP, Eraser
from hookbrook.outbound.jobs import MAX_RUNNING, PIECE, Runner
from hookbrook.store.base import Advanced, Piece, Query
from hookbrook.store.sqlite import SqliteStore

from .conftest import Serve
from .rig import START_US, Post, Rig, VirtualTime, rig_on

FAILED = (State.FAILED,)


def sleeping_in(time: VirtualTime) -> Callable[[float], Awaitable[None]]:
    async def sleep(seconds: float) -> None:
        over = asyncio.get_running_loop().create_future()
        time.call_later(seconds, lambda: None if over.done() else over.set_result(None))
        await over

    return sleep


def runner_of(rig: Rig, store: SqliteStore | None = None) -> Runner:
    assert rig.dispatcher is not None
    return Runner(
        store or rig.store,
        lambda: rig.catalog.routes,
        rig.dispatcher.poke,
        eraser_of(rig, store or rig.store),
        clock=rig.time.clock,
        rng=rig.rng,
        sleep=sleeping_in(rig.time),
    )


def eraser_of(rig: Rig, store: SqliteStore, forget: Callable[[str, int], None] = lambda _, __: None) -> Eraser:
    return Eraser(store, rig.catalog, forget, clock=rig.time.clock)


async def job(rig: Rig, **fields: object) -> Job:
    values: dict[str, object] = {
        "id": "job_1", "kind": JobKind.RECOVER, "states": FAILED, "created": rig.time.clock(), "updated": START_US,
        **fields,
    }  # fmt: skip
    if values["kind"] is JobKind.REPLAY:
        values.setdefault("end", (await rig.store.bounds()).tail)
    return await rig.store.save(Job(**values))  # type: ignore[arg-type]


async def read(rig: Rig, job_id: str = "job_1") -> Job:
    found = await rig.store.get(Job, job_id)
    assert found is not None
    return found


async def run_to_the_end(rig: Rig, runner: Runner, job_id: str = "job_1", *, seconds: float = 600) -> Job:
    runner.begin(job_id)
    return await finished(rig, job_id, seconds=seconds)


async def finished(rig: Rig, job_id: str = "job_1", *, seconds: float = 600) -> Job:
    async with asyncio.timeout(20):
        while (found := await read(rig, job_id)).state is JobState.RUNNING:
            await asyncio.sleep(0.001)
            await rig.advance(0.05)
            seconds -= 0.05
            assert seconds > 0
        while any(  # noqa: ASYNC110 - a task's end is what is waited for
            task.get_name() == "hookbrook job" for task in asyncio.all_tasks()
        ):
            await asyncio.sleep(0.001)
    await rig.settled()
    return found


async def given_up(rig: Rig, count: int) -> list[str]:
    """So many events that were given up before the receiver was well."""
    version, [endpoint] = await rig.store.routes()
    ids = [f"e{number:04}" for number in range(count)]
    for start in range(0, count, 100):
        some = ids[start : start + 100]
        owed = [[NewDelivery(id=f"dlv_{each}", endpoint_id=endpoint.id)] for each in some]
        await rig.store.append([event(each, rig) for each in some], owed, version)
        await rig.store.record([exhausted(f"dlv_{each}") for each in some], now=rig.time.clock())
    return ids


def event(event_id: str, rig: Rig) -> NewEvent:
    return NewEvent(
        id=event_id, channels=("orders.1",), time=rig.time.clock(), content_type="application/json", kind="json",
        data=b"{}", dedupe_id=event_id,
    )  # fmt: skip


def exhausted(delivery_id: str) -> Outcome:
    attempt = Attempt(id=f"att_{delivery_id}", delivery_id=delivery_id, started=START_US, duration=1, status=500)
    return Outcome(attempt=attempt, happening=Happening.EXHAUSTED)


async def test_what_was_given_up_is_sent_again(tmp_path: Path, serve: Serve) -> None:
    post = Post()
    async with rig_on(tmp_path / "a.db") as rig:
        await rig.start()
        await rig.endpoint((await serve(post)).url, retry=())
        ids = await given_up(rig, 5)
        await rig.publish("fresh")
        await rig.settled()
        await job(rig)
        done = await run_to_the_end(rig, runner_of(rig))
        assert (done.state, done.looked_at, done.sent, done.skipped) == (JobState.DONE, 5, 5, 0)
        assert sorted(post.ids) == [*ids, "fresh"]
        assert set((await rig.states()).values()) == {State.SUCCEEDED}


async def test_a_job_is_narrowed_by_time_type_channel_and_endpoint(tmp_path: Path, serve: Serve) -> None:
    post = Post("500 No")
    async with rig_on(tmp_path / "a.db") as rig:
        await rig.start()
        url = (await serve(post)).url
        one, two = [await rig.endpoint(url, retry=()) for _ in range(2)]
        await rig.publish("early")
        await rig.advance(1000)
        since = rig.time.clock()
        await rig.publish("a", type="paid")
        await rig.publish("b", type="paid", channels=("chat.1", "orders.9"))
        await rig.publish("c", type="sent")
        await rig.settled()
        await rig.advance(1000)
        await rig.publish("late", type="paid")
        await rig.settled()
        post.answer = "204 No Content"
        post.requests.clear()
        await rig.advance(1000)
        narrow = {"endpoint_id": two.id, "types": ("pa*",), "channels": ("orders.*",)}
        await job(rig, **narrow, since=since, until=since + 1_000_000)
        done = await run_to_the_end(rig, runner_of(rig))
        assert sorted(post.ids) == ["a", "b"]
        assert {row.endpoint_id for row in await rig.rows(states=(State.SUCCEEDED,))} == {two.id} != {one.id}
        assert done.sent == 2


async def test_a_new_endpoint_gets_the_past_it_asks_for(tmp_path: Path, serve: Serve) -> None:
    post = Post()
    async with rig_on(tmp_path / "a.db") as rig:
        await rig.start()
        await rig.publish("x", type="paid")
        await rig.publish("y", type="sent")
        await rig.publish("z", type="paid", channels=("hookbrook.ops",))
        endpoint = await rig.endpoint((await serve(post)).url, types=("paid",))
        await rig.publish("new", type="paid")
        await rig.settled()
        await job(rig, kind=JobKind.REPLAY, endpoint_id=endpoint.id, which=Which.UNDELIVERED)
        done = await run_to_the_end(rig, runner_of(rig))
        assert post.ids == ["new", "x"]
        assert (done.sent, done.skipped) == (1, 1)
        await job(rig, id="job_2", kind=JobKind.REPLAY, endpoint_id=endpoint.id, which=Which.ALL)
        await run_to_the_end(rig, runner_of(rig), "job_2")
        assert sorted(post.ids) == ["new", "new", "x", "x"]


async def test_what_is_published_meanwhile_is_not_part_of_it(tmp_path: Path, serve: Serve) -> None:
    post = Post()
    async with rig_on(tmp_path / "a.db") as rig:
        await rig.start()
        endpoint = await rig.endpoint((await serve(post)).url)
        await rig.publish("before")
        await rig.settled()
        await job(rig, kind=JobKind.REPLAY, endpoint_id=endpoint.id, which=Which.ALL)
        await rig.publish("after")
        await rig.settled()
        done = await run_to_the_end(rig, runner_of(rig))
        assert (done.looked_at, done.position) == (1, "1")
        assert sorted(post.ids) == ["after", "before", "before"]


async def test_the_rate_is_kept_and_fresh_events_do_not_wait(tmp_path: Path, serve: Serve) -> None:
    post = Post()
    async with rig_on(tmp_path / "a.db") as rig:
        await rig.start()
        await rig.endpoint((await serve(post)).url, retry=())
        await given_up(rig, 50)
        await job(rig, rate=5.0)
        began = rig.time.clock()
        runner_of(rig).begin("job_1")
        for second in range(1, 4):
            await rig.advance(1)
            assert len(post.ids) <= 5 * (second + 1)
        await rig.publish("fresh")
        await rig.settled()
        assert "fresh" in post.ids[-6:]
        await finished(rig)
        assert len(post.ids) == 51
        assert rig.time.clock() - began >= 9_000_000


async def test_slow_jobs_keep_no_other_from_its_turn(tmp_path: Path, serve: Serve) -> None:
    async with rig_on(tmp_path / "a.db") as rig:
        await rig.start()
        await rig.endpoint((await serve(Post())).url, retry=())
        await given_up(rig, MAX_RUNNING + 5)
        runner = runner_of(rig)
        for number in range(MAX_RUNNING):
            runner.begin((await job(rig, id=f"job_slow{number}", rate=0.01)).id)
        await job(rig, states=(State.CANCELLED,))
        runner.begin("job_1")
        for _ in range(200):
            await asyncio.sleep(0.001)
            await rig.advance(0.05)
        assert (await read(rig)).state is JobState.DONE
        assert (await read(rig, "job_slow0")).state is JobState.RUNNING
        await runner.stop()


class Dies(SqliteStore):
    """A store whose process is gone behind so many pieces, as the runner sees it."""

    pieces = 2

    async def advance(self, piece: Piece, *, now: int) -> Advanced:
        done = await super().advance(piece, now=now)
        self.pieces -= 1
        if self.pieces == 0:
            raise asyncio.CancelledError
        return done


async def test_a_job_goes_on_after_a_restart_and_does_nothing_twice(tmp_path: Path, serve: Serve) -> None:
    post = Post()
    count = 3 * PIECE + 7
    async with rig_on(tmp_path / "a.db") as rig:
        await rig.start()
        await rig.endpoint((await serve(post)).url, retry=(), concurrency=100)
        ids = await given_up(rig, count)
        await job(rig)
    dying = Dies(tmp_path / "a.db", clock=rig.time.clock)
    await dying.open()
    first = Runner(
        dying,
        lambda: rig.catalog.routes,
        lambda _: None,
        eraser_of(rig, dying),
        clock=rig.time.clock,
        rng=rig.rng,
        sleep=lambda _: nap(),
    )
    await first.start()
    while dying.pieces:  # noqa: ASYNC110 - what is waited for is the store's
        await asyncio.sleep(0.001)
    await first.stop()
    await dying.close()
    async with rig_on(tmp_path / "a.db", time=rig.time) as again:
        await again.start()
        assert (await read(again)).looked_at == 2 * PIECE
        runner = runner_of(again)
        await runner.start()
        done = await finished(again)
        assert (done.state, done.looked_at, done.sent) == (JobState.DONE, count, count)
        assert sorted(post.ids) == ids


def nap() -> Awaitable[None]:
    return asyncio.sleep(0)


async def test_a_cancelled_job_sends_no_more(tmp_path: Path, serve: Serve) -> None:
    post = Post()
    async with rig_on(tmp_path / "a.db") as rig:
        await rig.start()
        await rig.endpoint((await serve(post)).url, retry=())
        await given_up(rig, 10)
        await job(rig, rate=1.0)
        runner = runner_of(rig)
        runner.begin("job_1")
        while not (await read(rig)).sent:  # noqa: ASYNC110 - likewise
            await asyncio.sleep(0.001)
        await rig.store.save(ended(await read(rig), JobState.CANCELLED, rig.time.clock()))
        await asyncio.sleep(0.01)
        await rig.advance(20)
        await rig.settled()
        assert len(post.ids) == 1
        await runner.stop()


async def test_a_job_whose_endpoint_is_gone_ends_and_says_so(tmp_path: Path, serve: Serve) -> None:
    async with rig_on(tmp_path / "a.db") as rig:
        await rig.start()
        endpoint = await rig.endpoint((await serve(Post())).url)
        await rig.publish("a")
        await job(rig, kind=JobKind.REPLAY, endpoint_id=endpoint.id)
        await rig.catalog.delete(Endpoint, endpoint.id)
        done = await run_to_the_end(rig, runner_of(rig))
        assert (done.state, done.error) == (JobState.FAILED, "The endpoint was deleted.")


async def test_a_dry_run_sends_nothing(tmp_path: Path, serve: Serve) -> None:
    post = Post()
    async with rig_on(tmp_path / "a.db") as rig:
        await rig.start()
        endpoint = await rig.endpoint((await serve(post)).url, retry=())
        await given_up(rig, 3)
        await rig.change(endpoint, enabled=True, types=("none",))
        await rig.change(replace(endpoint, revision=2), types=())
        await job(rig, dry_run=True)
        await job(rig, id="job_2", dry_run=True, kind=JobKind.REPLAY, endpoint_id=endpoint.id, which=Which.MISSING)
        first = await run_to_the_end(rig, runner_of(rig))
        second = await run_to_the_end(rig, runner_of(rig), "job_2")
        assert (first.sent, second.sent, second.skipped) == (3, 0, 3)
        assert post.ids == []
        assert set((await rig.states()).values()) == {State.FAILED}


async def test_a_tenant_is_erased_with_all_that_is_its_and_nothing_else(tmp_path: Path, serve: Serve) -> None:
    post = Post()
    async with rig_on(tmp_path / "a.db") as rig:
        await rig.start()
        url = (await serve(post)).url
        await rig.endpoint(url)
        theirs = await rig.endpoint(url, tenant="acme")
        key = ApiKey(id="key_1", tenant="acme", hash="h", hint="", scopes=(), created=START_US, updated=START_US)
        await rig.catalog.save(key)
        source = Source(id="src_1", name="in", provider="github", tenant="acme", created=START_US, updated=START_US)
        await rig.catalog.save(source)
        count = 2 * STEP + 3
        for start in range(0, count, 100):
            await rig.publish(*(f"t{number}" for number in range(start, min(count, start + 100))), tenant="acme")
        await rig.publish("mine", data=b"[1]")
        await rig.settled()
        told: list[tuple[str, int]] = []
        end = (await rig.store.bounds()).tail
        await rig.publish("later", tenant="acme")
        erase = await job(rig, kind=JobKind.ERASE, tenant="acme", end=end, states=())
        eraser = eraser_of(rig, rig.store, lambda tenant, seq: told.append((tenant, seq)))
        # As if the process had ended behind the first step.
        step = await eraser.step(erase)
        assert (step.job.state, step.job.sent) == (JobState.RUNNING, STEP)
        runner = runner_of(rig)
        await runner.start()
        done = await finished(rig)
        assert (done.state, done.sent, told[0]) == (JobState.DONE, count, ("acme", end))
        left = await rig.store.read(Query(tenant=None), after=0, limit=1000)
        assert [event.id for event in left.events] == ["mine", "later"]
        assert {row.event_id for row in await rig.rows()} == {"mine", "later"}
        assert (rig.catalog.keys, rig.catalog.sources) == ({}, {})
        assert theirs.id not in rig.catalog.routes.by_id
        lost = (await rig.store.standing(Query(tenant="acme", channels=("orders.1",)), after=0)).lost
        assert lost is not None
        assert lost.why == "deleted"
