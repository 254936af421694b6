"""The `Log` port: each MUST of `hookbrook.store.base` by name, and reading against a brute-force model."""

import asyncio
import tempfile
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hookbrook.core.channel import matches_any
from hookbrook.core.cursor import Cursor
from hookbrook.core.delivery import Attempt, Happening, Outcome, State
from hookbrook.core.event import Event, NewEvent
from hookbrook.errors import IdConflict, StaleRouting, StoreUnavailable
from hookbrook.store.base import SEEN_WINDOW_US, Bounds, Query, Store

from .conftest import (
    SECOND_US,
    START_US,
    Backend,
    Clock,
    append,
    endpoint,
    event,
    events,
    owes,
    read_all,
    read_all_back,
)

EVERYTHING = Query(tenant=None)


async def ids(store: Store, query: Query = EVERYTHING) -> list[str]:
    return [event.id for event in await read_all(store, query)]


async def succeed(store: Store, delivery_id: str, clock: Clock) -> None:
    attempt = Attempt(id=f"att_{delivery_id}", delivery_id=delivery_id, started=clock.now, duration=1, status=200)
    await store.record([Outcome(attempt=attempt, happening=Happening.ACCEPTED)], now=clock.now)


# Appending


async def test_an_event_is_kept_as_it_was_given(store: Store, clock: Clock) -> None:
    given_ = event(
        "e1", "home", "also", "third", type="invoice.paid", tenant="acme", source="stripe", time=START_US - 5,
        content_type="application/octet-stream", kind="binary", data=b'\x00\xff\r\n"1E400"',
        request=b'{"method":"POST"}', scope="src_1", dedupe_id="provider's own",
    )  # fmt: skip
    [appended] = await append(store, given_)
    [kept] = await read_all(store)
    assert kept == Event(
        seq=1, epoch=appended.epoch, id="e1", channels=("home", "also", "third"), type="invoice.paid", tenant="acme",
        source="stripe", time=START_US - 5, appended=clock.now, content_type="application/octet-stream", kind="binary",
        data=b'\x00\xff\r\n"1E400"', request=b'{"method":"POST"}',
    )  # fmt: skip
    assert appended.cursor == kept.cursor


async def test_seqs_have_no_gap_in_commit_order(store: Store) -> None:
    results = await asyncio.gather(*[append(store, *events(3, f"{number}.")) for number in range(20)])
    assert sorted(result.seq for batch in results for result in batch) == list(range(1, 61))
    # A batch stands together.
    assert all([result.seq - batch[0].seq for result in batch] == [0, 1, 2] for batch in results)
    assert [event.seq for event in await read_all(store)] == list(range(1, 61))


async def test_what_was_appended_is_there_after_a_restart(backend: Backend, tmp_path: Path, clock: Clock) -> None:
    async with backend.opened(tmp_path, clock) as store:
        [first] = await append(store, event("e1"))
    async with backend.opened(tmp_path, clock) as store:
        assert await ids(store) == ["e1"]
        [second] = await append(store, event("e2"))
        assert second.seq == 2
        bounds = await store.bounds()
        # Each start opens an epoch; cursors of both are the log's own.
        assert first.epoch != second.epoch
        assert all(bounds.epochs.contains(Cursor.parse(each.cursor), bounds.tail) for each in (first, second))


async def test_an_empty_batch_appends_nothing(store: Store) -> None:
    assert await append(store) == []
    assert (await store.bounds()).tail == 0


async def test_an_append_matched_with_old_routes_is_refused_whole(store: Store) -> None:
    before, _ = await store.routes()
    await store.save(endpoint())
    with pytest.raises(StaleRouting):
        await store.append([event("e1")], [()], before)
    assert await ids(store) == []


async def test_once_an_endpoint_is_saved_no_later_append_misses_it(store: Store) -> None:
    """Appends race with a saved endpoint: whichever is accepted after the save was matched with it."""
    outcomes: list[str] = []
    old, _ = await store.routes()

    async def publish(number: int) -> None:
        try:
            await store.append([event(f"e{number}")], [()], old)
            outcomes.append("accepted")
        except StaleRouting:
            outcomes.append("stale")

    async def save() -> None:
        await store.save(endpoint())
        outcomes.append("saved")

    await asyncio.gather(*[publish(number) for number in range(10)], save(), *[publish(n) for n in range(10, 20)])
    assert outcomes.count("accepted") + outcomes.count("stale") == 20
    assert "accepted" not in outcomes[outcomes.index("saved") :]
    assert "stale" not in outcomes[: outcomes.index("saved")]


# Idempotency


async def test_a_known_id_is_answered_with_the_first_event(store: Store) -> None:
    [first] = await append(store, event("e1"))
    [again] = await append(store, event("e1"))
    assert again == type(first)(id="e1", seq=first.seq, epoch=first.epoch, duplicate=True)
    assert await ids(store) == ["e1"]


async def test_a_known_id_is_answered_with_the_first_events_own_cursor_after_a_restart(
    backend: Backend, tmp_path: Path, clock: Clock
) -> None:
    async with backend.opened(tmp_path, clock) as store:
        [first] = await append(store, event("e1"))
    async with backend.opened(tmp_path, clock) as store:
        [again, fresh] = await append(store, event("e1"), event("e2"))
        assert (again.cursor, again.duplicate) == (first.cursor, True)
        assert fresh.epoch != first.epoch


async def test_a_repeat_within_a_batch_is_answered_with_the_first(store: Store) -> None:
    results = await append(store, event("e1"), event("e2"), event("e1"))
    assert [(result.seq, result.duplicate) for result in results] == [(1, False), (2, False), (1, True)]
    assert len({result.epoch for result in results}) == 1
    assert await ids(store) == ["e1", "e2"]


async def test_a_duplicate_owes_nothing(store: Store, clock: Clock) -> None:
    one = event("e1")
    await append(store, one, one, owed=[owes(one, "ep_1"), [*owes(one, "ep_2")]])
    await append(store, one, owed=[owes(one, "ep_3")])
    assert await store.next_due() == {"ep_1": clock.now}


async def test_of_concurrent_appends_of_one_id_exactly_one_is_the_first(store: Store) -> None:
    results = await asyncio.gather(*[append(store, event("same"), event(f"own{number}")) for number in range(30)])
    firsts = [result for result, _ in results if not result.duplicate]
    assert len(firsts) == 1
    assert {(result.seq, result.epoch) for result, _ in results} == {(firsts[0].seq, firsts[0].epoch)}
    assert len(await ids(store)) == 31


@pytest.mark.parametrize("field", ["tenant", "scope"])
async def test_ids_of_other_tenants_and_scopes_are_other_ids(store: Store, field: str) -> None:
    results = await append(store, event("e1"), event("e1", **{field: "other"}))
    assert [result.duplicate for result in results] == [False, False]


async def test_what_is_compared_is_the_dedupe_id_and_what_is_answered_the_firsts_id(store: Store) -> None:
    await append(store, event("evt_1", scope="src_1", dedupe_id="theirs"))
    [again] = await append(store, event("evt_2", scope="src_1", dedupe_id="theirs"))
    assert (again.id, again.duplicate) == ("evt_1", True)


@pytest.mark.parametrize("is_within", [True, False])
async def test_a_known_id_with_another_digest_is_a_conflict_and_nothing_of_the_batch_is_kept(
    store: Store, *, is_within: bool
) -> None:
    first, other = event("e1"), event("e1", data=b"2")
    if not is_within:
        await append(store, first)
    batch = [event("x1"), *([first] if is_within else []), event("x2"), other, event("x3")]
    with pytest.raises(IdConflict) as refused:
        await append(store, *batch, owed=[owes(each, "ep_1") for each in batch])
    assert refused.value.index == batch.index(other)
    assert await ids(store) == ([] if is_within else ["e1"])
    assert await store.next_due() == {}
    # And the ids of the refused batch are still free.
    assert not any(result.duplicate for result in await append(store, event("x1"), event("x2")))


async def test_an_empty_digest_is_never_a_conflict(store: Store) -> None:
    await append(store, event("e1", digest=b""), event("e2"))
    results = await append(store, event("e1", data=b"other"), event("e2", digest=b""))
    assert [result.duplicate for result in results] == [True, True]


async def test_a_refused_batch_does_not_spoil_those_beside_it(store: Store) -> None:
    await append(store, event("taken"))
    bad = [append(store, event(f"b{number}"), event("taken", data=b"2")) for number in range(10)]
    good = [append(store, event(f"g{number}")) for number in range(10)]
    pairs = [coroutine for pair in zip(bad, good, strict=True) for coroutine in pair]
    results = await asyncio.gather(*pairs, return_exceptions=True)
    assert all(isinstance(result, IdConflict) for result in results[::2])
    assert not any(isinstance(result, BaseException) for result in results[1::2])
    assert sorted(await ids(store)) == sorted(["taken", *(f"g{number}" for number in range(10))])


# Following


async def test_append_returns_only_after_the_listeners_have_seen_its_events(store: Store) -> None:
    seen: list[int] = []
    store.follow(lambda news: seen.extend(event.seq for event in news))

    async def publish(number: int) -> None:
        for step in range(5):
            for result in await append(store, *events(2, f"{number}.{step}.")):
                assert result.seq in seen

    await asyncio.gather(*[publish(number) for number in range(10)])
    assert seen == list(range(1, 101))


async def test_a_listener_that_left_hears_no_more(store: Store) -> None:
    seen: list[int] = []

    def listener(news: Sequence[Event]) -> None:
        seen.extend(event.seq for event in news)
        store.unfollow(listener)

    store.follow(listener)
    also: list[int] = []
    store.follow(lambda news: also.extend(event.seq for event in news))
    await append(store, event("e1"))
    await append(store, event("e2"))
    assert (seen, also) == ([1], [1, 2])


async def test_what_listeners_get_is_what_is_read(store: Store) -> None:
    heard: list[Event] = []
    store.follow(heard.extend)
    await append(store, event("e1", "a", "b", request=b"{}"), event("e1", digest=b""))
    await append(store, event("e2", source="github", kind="text", data="ä".encode()))
    assert heard == await read_all(store)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=st.lists(st.lists(st.integers(1, 4), max_size=6), min_size=1, max_size=5),
    joins=st.lists(st.integers(0, 12), min_size=1, max_size=6),
)
def test_whoever_joins_gets_every_event_by_the_tail_or_by_ear_once_in_order(
    backend: Backend, batches: list[list[int]], joins: list[int]
) -> None:
    """Writers append at once while followers join at any moment."""

    async def run(store: Store) -> None:
        numbers = count()
        followers: list[tuple[Bounds, list[Event]]] = []

        async def write(sizes: list[int]) -> None:
            for size in sizes:
                await append(store, *[event(f"e{next(numbers)}") for _ in range(size)])

        async def join(delay: int) -> None:
            for _ in range(delay):
                await asyncio.sleep(0.0005)
            heard: list[Event] = []
            followers.append((store.follow(heard.extend), heard))

        await asyncio.gather(*map(write, batches), *map(join, joins))
        everything = await read_all(store)
        assert [event.seq for event in everything] == list(range(1, sum(map(sum, batches)) + 1))
        for bounds, heard in followers:
            assert everything[: bounds.tail] + heard == everything

    _run_on_fresh_store(backend, run)


def _run_on_fresh_store(backend: Backend, run: Any, clock: Clock | None = None) -> None:
    async def main() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with backend.opened(Path(folder), clock or Clock()) as store:
                await run(store)

    asyncio.run(main())


# Reading against a model

_channels = st.sampled_from(["a", "a.1", "a.2", "b", "b.1", "hookbrook.x"])
_types = st.sampled_from(["message", "paid", "paid.late", "hookbrook.sent"])
_tenants = st.sampled_from(["one", "two"])
_sources = st.sampled_from([None, None, "github", "stripe"])
_events = st.lists(
    st.tuples(st.lists(_channels, min_size=1, max_size=3, unique=True), _types, _tenants, _sources),
    min_size=1,
    max_size=40,
)
_patterns = st.one_of(_channels, st.sampled_from(["*", "a*", "a.*", "b.1*", "h*", "hookbrook.*", "x*", "nobody"]))
_type_patterns = st.one_of(_types, st.sampled_from(["*", "paid*", "hookbrook.*"]))
_queries = st.builds(
    Query,
    tenant=st.one_of(st.none(), _tenants),
    channels=st.one_of(
        st.lists(_patterns, max_size=4, unique=True).map(tuple),
        # All by exact name, which a backend may read in a way of its own.
        st.lists(st.sampled_from(["a", "a.1", "b", "nobody"]), min_size=1, max_size=4, unique=True).map(tuple),
    ),
    types=st.lists(_type_patterns, max_size=2, unique=True).map(tuple),
    source=_sources,
)


def _is_wanted(event: NewEvent, query: Query) -> bool:
    return (
        query.tenant in (None, event.tenant)
        and query.source in (None, event.source)
        and matches_any(query.types, event.type)
        and any(matches_any(query.channels, channel) for channel in event.channels)
    )


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    log=_events,
    queries=st.lists(st.tuples(_queries, st.integers(1, 7), st.integers(0, 45)), min_size=1, max_size=12),
    trimmed=st.integers(0, 10),
)
def test_reading_page_by_page_finds_what_the_model_finds(
    backend: Backend,
    log: list[tuple[list[str], str, str, str | None]],
    queries: list[tuple[Query, int, int]],
    trimmed: int,
) -> None:
    model = [
        event(f"e{number}", *channels, type=type_, tenant=tenant, source=source)
        for number, (channels, type_, tenant, source) in enumerate(log, 1)
    ]

    async def run(store: Store) -> None:
        await append(store, *model)
        await store.trim(appended_before=None, keep=max(0, len(model) - trimmed), limit=100)
        for query, limit, place in queries:
            wanted = [
                (seq, each.id)
                for seq, each in enumerate(model, 1)
                if seq > min(trimmed, len(model)) and _is_wanted(each, query)
            ]
            forwards = await read_all(store, query, after=place, limit=limit)
            assert [(each.seq, each.id) for each in forwards] == [pair for pair in wanted if pair[0] > place]
            backwards = await read_all_back(store, query, before=place, limit=limit)
            assert [(each.seq, each.id) for each in backwards] == [pair for pair in wanted if pair[0] < place][::-1]

    _run_on_fresh_store(backend, run)


async def test_a_page_bounds_the_rows_that_it_looks_at(store: Store) -> None:
    await append(store, *events(6000))
    page = await store.read(Query(tenant="default", channels=("none*",)), after=0, limit=10)
    assert page.events == []
    assert 0 < page.scanned_to < page.tail == 6000
    back = await store.read_back(Query(tenant="default", channels=("none*",)), before=6001, limit=10)
    assert back.events == []
    assert 1 < back.scanned_to <= 6000


@pytest.mark.parametrize("channels", [("a",), ("a*",), ("a", "b")])
async def test_a_page_bounds_its_bytes_and_has_at_least_one_event(store: Store, channels: tuple[str, ...]) -> None:
    megabyte = b"x" * 1_000_000
    await append(store, *[event(f"e{number}", "a", "b", data=megabyte, kind="text") for number in range(10)])
    await append(store, event("big", data=megabyte * 6, kind="text"), event("small"))
    query, after, pages = Query(tenant="default", channels=channels), 0, []
    while after < 12:
        page = await store.read(query, after=after, limit=1000)
        pages.append([event.seq for event in page.events])
        assert len(page.events) == 1 or sum(len(event.data) for event in page.events[:-1]) < 5_000_000
        assert page.events
        after = page.scanned_to
    assert [seq for page_ in pages for seq in page_] == list(range(1, 13))
    assert len(pages) > 2
    back = await store.read_back(query, before=13, limit=1000)
    assert [event.seq for event in back.events] == [12, 11]


async def test_all_of_a_page_is_of_one_snapshot(store: Store) -> None:
    """While events come in and the oldest go, every page is whole between its own ends."""
    stop = asyncio.Event()

    async def publish() -> None:
        for number in range(60):
            await append(store, *events(5, f"{number}."))
            await store.trim(appended_before=None, keep=20, limit=10)
        stop.set()

    async def read() -> None:
        while not stop.is_set():
            page = await store.read(EVERYTHING, after=0, limit=1000)
            assert [event.seq for event in page.events] == list(range(page.oldest, page.tail + 1))
            assert page.scanned_to == page.tail

    await asyncio.gather(publish(), read(), read())


async def test_one_event_is_found_by_its_id_in_its_tenant(store: Store) -> None:
    await append(store, event("e1"), event("evt_2", scope="src_1", dedupe_id="x"), event("e3", dedupe_id="key"))
    for event_id in ("e1", "evt_2", "e3"):
        found = await store.event("default", event_id)
        assert found is not None
        assert found.id == event_id
        assert await store.event("other", event_id) is None
    assert await store.event("default", "x") is None
    await store.trim(appended_before=None, keep=1, limit=10)
    assert await store.event("default", "e1") is None


# Time


async def test_seq_at_is_the_last_event_before_that_time(store: Store, clock: Clock) -> None:
    for _ in range(5):
        await append(store, *events(2, f"{clock.now}."))
        clock.now += SECOND_US
    assert await store.seq_at(0) == 0
    assert await store.seq_at(START_US) == 0
    assert await store.seq_at(START_US + 1) == 2
    assert await store.seq_at(START_US + 2 * SECOND_US) == 4
    assert await store.seq_at(START_US + 100 * SECOND_US) == 10


async def test_append_times_never_decrease_though_the_clock_is_set_back(
    backend: Backend, tmp_path: Path, clock: Clock
) -> None:
    async def publish(store: Store, *moments: int) -> None:
        for moment in moments:
            clock.now = START_US + moment
            await append(store, event(f"e{moment}.{await store.seq_at(10**17)}"))

    async with backend.opened(tmp_path, clock) as store:
        await publish(store, 50, 10, 60, 20)
    async with backend.opened(tmp_path, clock) as store:
        await publish(store, 30, 70)
        times = [event.appended - START_US for event in await read_all(store)]
        assert times == [50, 50, 60, 60, 60, 70]
        assert [await store.seq_at(START_US + moment) for moment in (50, 51, 60, 61, 71)] == [0, 2, 2, 5, 6]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    moves=st.lists(st.integers(-3, 5), min_size=1, max_size=15),
    trimmed=st.integers(0, 15),
    asked=st.lists(st.integers(-5, 40), min_size=1, max_size=10),
)
def test_seq_at_finds_what_the_model_finds(backend: Backend, moves: list[int], trimmed: int, asked: list[int]) -> None:
    clock = Clock()

    async def run(store: Store) -> None:
        for number, move in enumerate(moves):
            clock.now += move
            await append(store, event(f"e{number}"))
        times = [each.appended for each in await read_all(store)]
        await store.trim(appended_before=None, keep=max(0, len(times) - trimmed), limit=100)
        for moment in asked:
            before = [seq for seq, time in enumerate(times, 1) if time < START_US + moment]
            assert await store.seq_at(START_US + moment) == max([min(trimmed, len(times)), *before])

    _run_on_fresh_store(backend, run, clock)


# Trimming


async def trim_all(store: Store, *, limit: int = 10, **limits: int | None) -> list[int]:
    """Step by step until there is no more to do; the steps' progress."""
    steps = []
    while True:
        wanted: dict[str, int | None] = {"appended_before": None, "keep": None, **limits}
        steps.append(await store.trim(appended_before=wanted["appended_before"], keep=wanted["keep"], limit=limit))
        assert len(steps) < 1000
        if steps[-1] < limit:
            return steps


async def test_trimming_by_count_keeps_the_newest(store: Store) -> None:
    await append(store, *events(35))
    assert await trim_all(store, keep=12) == [10, 10, 3]
    assert await ids(store) == [f"e{number}" for number in range(23, 35)]
    assert (await store.bounds()).oldest == 24
    assert await trim_all(store, keep=12) == [0]
    assert await trim_all(store, keep=100) == [0]


async def test_trimming_by_age_keeps_what_is_young_enough(store: Store, clock: Clock) -> None:
    for _ in range(10):
        await append(store, *events(2, f"{clock.now}."))
        clock.now += SECOND_US
    await trim_all(store, appended_before=START_US + 4 * SECOND_US)
    assert [event.seq for event in await read_all(store)] == list(range(9, 21))
    await trim_all(store, appended_before=clock.now)
    assert await ids(store) == []


async def test_the_watermark_is_seen_by_bounds_and_pages_and_survives_a_restart(
    backend: Backend, tmp_path: Path, clock: Clock
) -> None:
    async with backend.opened(tmp_path, clock) as store:
        await append(store, *events(10))
        clock.now += SECOND_US
        await append(store, *events(10, "late"))
        assert (await store.bounds()).trimmed == 0
        await trim_all(store, keep=8)
    async with backend.opened(tmp_path, clock) as store:
        bounds = await store.bounds()
        assert (bounds.oldest, bounds.tail, bounds.trimmed) == (13, 20, START_US + SECOND_US)
        page = await store.read(EVERYTHING, after=0, limit=100)
        assert (page.oldest, page.tail, page.events[0].seq) == (13, 20, 13)


async def test_a_log_that_was_trimmed_to_nothing_goes_on_with_the_next_seq(
    backend: Backend, tmp_path: Path, clock: Clock
) -> None:
    async with backend.opened(tmp_path, clock) as store:
        await append(store, *events(5))
        clock.now += SEEN_WINDOW_US + SECOND_US
        await trim_all(store, keep=0)
        bounds = await store.bounds()
        assert (bounds.oldest, bounds.tail) == (6, 5)
    clock.now = START_US - SECOND_US
    async with backend.opened(tmp_path, clock) as store:
        assert await read_all(store) == []
        [next_] = await append(store, event("next"))
        assert next_.seq == 6
        # Not even now does the time of append decrease.
        assert [event.appended for event in await read_all(store)] == [START_US]


async def test_an_event_that_is_owed_keeps_its_data_until_the_debt_has_ended(store: Store, clock: Clock) -> None:
    batch = [event("pending", "x", "y", data=b"due"), event("held"), event("done"), event("free")]
    owed = [owes(batch[0], "ep_1"), owes(batch[1], "ep_2", held=True), owes(batch[2], "ep_3"), ()]
    await append(store, *batch, owed=owed)
    await succeed(store, "dlv_done_ep_3", clock)
    await trim_all(store, keep=0)
    assert await ids(store) == []
    [due] = await store.due("ep_1", now=clock.now, first=10, retries=10, excluding=())
    assert (due.event.data, due.event.channels) == (b"due", ("x", "y"))
    # The debt ends; the event goes on being trimmed, and long after nothing is left of it.
    await succeed(store, "dlv_pending_ep_1", clock)
    await trim_all(store, keep=0)
    clock.now += SEEN_WINDOW_US + SECOND_US
    await trim_all(store, keep=0)
    await trim_all(store, keep=0)
    assert await store.delivery("dlv_pending_ep_1") is None
    assert await store.attempts("dlv_pending_ep_1") == []
    assert await store.delivery("dlv_done_ep_3") is None
    kept = await store.delivery("dlv_held_ep_2")
    assert kept is not None
    assert kept.event_id == "held"


async def test_a_dead_receivers_arrears_do_not_keep_other_events(store: Store, clock: Clock) -> None:
    """Many pinned events stand before those that can go, and fewer are looked at per step than there are."""
    owed = events(30, "owed")
    await append(store, *owed, *events(30, "free"), owed=[*(owes(each, "ep_1") for each in owed), *[()] * 30])
    clock.now += SEEN_WINDOW_US + SECOND_US
    await trim_all(store, keep=0, limit=7)
    [*again] = await append(store, *events(30, "free"))
    assert not any(result.duplicate for result in again)
    assert len(await store.due("ep_1", now=clock.now, first=100, retries=100, excluding=())) == 30


async def test_an_id_is_recognised_after_its_event_was_trimmed_until_the_window_has_passed(
    store: Store, clock: Clock
) -> None:
    [first] = await append(store, event("e1"))
    await append(store, event("e2"))
    await trim_all(store, keep=0)
    clock.now += SEEN_WINDOW_US - SECOND_US
    await trim_all(store, keep=0)
    [again] = await append(store, event("e1"))
    assert (again.cursor, again.duplicate) == (first.cursor, True)
    with pytest.raises(IdConflict):
        await append(store, event("e1", data=b"other"))
    clock.now += 2 * SECOND_US
    await trim_all(store, keep=0)
    [new] = await append(store, event("e1"))
    assert (new.seq, new.duplicate) == (3, False)


async def test_an_event_that_is_kept_is_recognised_however_old_it_is(store: Store, clock: Clock) -> None:
    await append(store, event("e1"))
    clock.now += 100 * SEEN_WINDOW_US
    await trim_all(store, keep=10)
    assert (await append(store, event("e1")))[0].duplicate


# Closed


async def test_a_closed_store_refuses_everything_and_says_so(backend: Backend, tmp_path: Path, clock: Clock) -> None:
    async with backend.opened(tmp_path, clock) as store:
        await append(store, event("e1"))
    for call in (
        store.append([event("e2")], [()], 1),
        store.read(EVERYTHING, after=0, limit=1),
        store.trim(appended_before=None, keep=0, limit=1),
        store.due("ep_1", now=0, first=1, retries=1, excluding=()),
        store.routes(),
    ):
        with pytest.raises(StoreUnavailable, match="closed"):
            await call
    assert not (await store.health()).ok
    await store.close()


async def test_an_id_is_known_for_as_long_as_the_event_that_repeats_it_says(store: Store, clock: Clock) -> None:
    def webhook(id: str, window_s: int | None) -> NewEvent:
        window = None if window_s is None else window_s * SECOND_US
        return event(id, scope="src_1", dedupe_id="d1", digest=b"", window_us=window)

    [first] = await append(store, webhook("e1", 60))
    clock.now += 60 * SECOND_US
    [still] = await append(store, webhook("e2", 60))
    clock.now += SECOND_US
    [longer] = await append(store, webhook("e3", 3600))
    [for_ever] = await append(store, webhook("e4", None))
    assert {each.id for each in (still, longer, for_ever)} == {first.id}
    assert all(each.duplicate for each in (still, longer, for_ever))
    [again] = await append(store, webhook("e5", 60))
    assert (again.id, again.duplicate) == ("e5", False)
    [repeat] = await append(store, webhook("e6", 60))
    assert (repeat.id, repeat.duplicate) == ("e5", True)
    assert [each.id for each in await read_all(store)] == ["e1", "e5"]
    found = await store.event("default", "e1")
    assert found is not None, "what was let go of is an event all the same"


async def test_what_is_owed_to_nobody_is_found_and_so_is_what_has_not_arrived(store: Store) -> None:
    batch = events(6)
    owed = [owes(batch[0], "ep_1"), (), owes(batch[2], "ep_1", held=True), (), owes(batch[4], "ep_1", "ep_2"), ()]
    await append(store, *batch, owed=owed)
    await store.change(owed[0][0].id, Happening.CANCELLED, now=START_US)

    async def found(states: tuple[State, ...], *channels: str) -> list[int]:
        query = Query(tenant="default", channels=channels, owed=states)
        return [event.seq for event in await read_all(store, query, limit=2)]

    assert await found(()) == [2, 4, 6]
    assert await found((), "a") == [2, 4, 6]
    assert await found((), "b") == []
    assert await found((State.CANCELLED,)) == [1]
    assert await found((State.PENDING, State.HELD)) == [3, 5]
