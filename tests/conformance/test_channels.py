"""The `Log` port where single channels are concerned: closing, deleting, and keeping less of some than of others."""

import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hookbrook.core.channel import matches, matches_any
from hookbrook.core.delivery import Attempt, Happening, Outcome
from hookbrook.core.event import Event
from hookbrook.errors import ChannelClosed, IdConflict
from hookbrook.store.base import SEEN_WINDOW_US, ChannelTrim, Lost, Query, Store

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

A = Query(tenant="default", channels=("a",))
B = Query(tenant="default", channels=("b",))
ALL = Query(tenant="default", channels=("*",))


async def ids(store: Store, query: Query = ALL) -> list[str]:
    return [event.id for event in await read_all(store, query)]


async def trim_all(store: Store, *rules: ChannelTrim, keep: int | None = None, limit: int = 100) -> None:
    while await store.trim(appended_before=None, keep=keep, limit=limit, channels=rules) >= limit:
        pass


def keeping(pattern: str, keep: int | None, *, before: int | None = None) -> ChannelTrim:
    return ChannelTrim(pattern=pattern, appended_before=before, keep=keep)


def closing(id: str, *channels: str, **fields: object) -> Any:
    return event(id, *channels, effect="close", **fields)


def deleting(id: str, *channels: str) -> Any:
    return event(id, *channels, effect="delete", type="hookbrook.deleted")


# Closing


async def test_what_an_event_does_and_what_it_merges_with_is_kept(store: Store) -> None:
    await append(store, event("e1", merge="reply 1"), closing("e2"))
    first, second = await read_all(store)
    assert (first.effect, first.merge, second.effect, second.merge) == ("", "reply 1", "close", "")


async def test_a_closed_channel_takes_no_more_events_and_others_do(store: Store) -> None:
    await append(store, event("e1"), closing("e2"))
    with pytest.raises(ChannelClosed) as refused:
        await append(store, event("e3"))
    assert (refused.value.index, refused.value.status) == (0, 409)
    assert "'a'" in str(refused.value)
    await append(store, event("e4", "a.b"), event("e5", tenant="other"))
    assert await ids(store) == ["e1", "e2", "e4"]


async def test_a_batch_with_one_event_for_a_closed_channel_is_refused_whole(store: Store) -> None:
    await append(store, closing("e1", "b"))
    with pytest.raises(ChannelClosed) as refused:
        await append(store, event("e2"), event("e3", "c", "b"), event("e4"))
    assert refused.value.index == 1
    assert await ids(store) == ["e1"]


async def test_within_a_batch_nothing_follows_the_event_that_closes(store: Store) -> None:
    with pytest.raises(ChannelClosed) as refused:
        await append(store, event("e1"), closing("e2"), event("e3"))
    assert refused.value.index == 2
    assert await ids(store) == []
    # Nothing was closed by what was refused.
    await append(store, event("e1"), event("e3"))


async def test_an_event_closes_all_channels_that_it_names(store: Store) -> None:
    await append(store, closing("e1", "a", "b"))
    for channel in ("a", "b"):
        with pytest.raises(ChannelClosed):
            await append(store, event("e2", channel))


async def test_a_repeat_of_the_closing_event_or_one_before_is_a_duplicate(store: Store) -> None:
    first = await append(store, event("e1"), closing("e2"))
    again = await append(store, event("e1"), closing("e2"))
    assert [each.cursor for each in again] == [each.cursor for each in first]
    assert all(each.duplicate for each in again)
    with pytest.raises(IdConflict):
        await append(store, closing("e2", data=b"other"))
    with pytest.raises(ChannelClosed):
        await append(store, closing("e3"))


async def test_of_racing_publishers_none_is_accepted_after_the_one_that_closes(store: Store) -> None:
    async def publish(number: int) -> int | None:
        try:
            [appended] = await append(store, closing("end") if number == 10 else event(f"e{number}"))
        except ChannelClosed:
            return None
        return appended.seq

    seqs = await asyncio.gather(*[publish(number) for number in range(20)])
    assert seqs[10] is not None
    assert max(seq for seq in seqs if seq is not None) == seqs[10]
    assert [each.seq for each in await read_all(store, A)] == sorted(seq for seq in seqs if seq is not None)


async def test_of_racing_publishers_one_closes(store: Store) -> None:
    outcomes = await asyncio.gather(*[append(store, closing(f"e{n}")) for n in range(10)], return_exceptions=True)
    assert sum(isinstance(outcome, list) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, ChannelClosed) for outcome in outcomes) == 9


async def test_a_channel_stays_closed_after_a_restart_and_after_its_events_were_trimmed(
    backend: Backend, tmp_path: Path, clock: Clock
) -> None:
    async with backend.opened(tmp_path, clock) as store:
        await append(store, event("e1"), closing("e2"))
        await trim_all(store, keep=0)
    clock.now += 10 * SEEN_WINDOW_US
    async with backend.opened(tmp_path, clock) as store:
        await trim_all(store, keep=0)
        with pytest.raises(ChannelClosed):
            await append(store, event("e3"))
        assert (await store.standing(A, after=0)).closed == {"a": 2}
        assert (await store.bounds()).closings


async def test_which_channels_are_closed_is_told_of_those_asked_for_by_name(store: Store) -> None:
    assert not (await store.bounds()).closings
    await append(store, event("e1", "b"), closing("e2"), closing("e3", "c"), closing("e4", tenant="other"))
    assert (await store.standing(A, after=0)).closed == {"a": 2}
    several = Query(tenant="default", channels=("a", "b", "c", "d"))
    assert (await store.standing(several, after=9)).closed == {"a": 2, "c": 3}
    assert (await store.read(several, after=0, limit=1)).standing.closed == {"a": 2, "c": 3}
    many = Query(tenant="default", channels=("a", *(f"x{number}" for number in range(50))))
    assert (await store.read(many, after=0, limit=1)).standing.closed == {"a": 2}
    for query in (Query(tenant="default", channels=("a", "b*")), ALL, Query(tenant=None)):
        assert (await store.standing(query, after=0)).closed == {}


# Deleting


async def test_nothing_up_to_the_deletion_is_shown_on_the_channel_and_it_is_open_again(store: Store) -> None:
    await append(store, event("e1"), closing("e2"))
    [deleted] = await append(store, deleting("gone", "a"))
    assert await ids(store, A) == []
    assert await ids(store, Query(tenant="default", channels=("*",), types=("hookbrook.*",))) == []
    assert await read_all_back(store, A, before=99, limit=10) == []
    assert await store.event("default", "e1") is None
    await append(store, event("e3"))
    assert await ids(store, A) == ["e3"]
    assert (await store.standing(A, after=0)).lost == Lost(seq=deleted.seq, why="deleted")
    assert (await store.standing(A, after=0)).closed == {}


async def test_what_stands_on_other_channels_too_is_shown_there(store: Store) -> None:
    await append(store, event("e1", "a", "b"), event("e2", "b", "a"), event("e3", "a"), event("e4", "b"))
    await append(store, deleting("gone", "a"))
    await trim_all(store)
    assert await ids(store, A) == []
    assert await ids(store, B) == ["e1", "e2", "e4"]
    assert await ids(store, ALL) == ["e1", "e2", "e4"]
    assert await ids(store, Query(tenant="default", channels=("a", "b"))) == ["e1", "e2", "e4"]
    assert await store.event("default", "e1") is not None
    assert await store.event("default", "e3") is None
    await append(store, deleting("gone too", "b"))
    await trim_all(store)
    assert await ids(store, ALL) == []
    assert await store.event("default", "e1") is None


async def test_another_tenants_channel_of_the_same_name_is_untouched(store: Store) -> None:
    await append(store, event("e1"), event("theirs", tenant="other"))
    await append(store, deleting("gone", "a"))
    assert await ids(store, Query(tenant="other", channels=("a",))) == ["theirs"]
    assert (await store.standing(Query(tenant="other", channels=("a",)), after=0)).lost is None


async def test_what_is_owed_of_a_deleted_channel_stays_owed_with_its_data(store: Store, clock: Clock) -> None:
    await store.save(endpoint())
    owed = event("owed", data=b"due")
    await append(store, owed, event("free"), owed=[owes(owed, "ep_1"), ()])
    await append(store, deleting("gone", "a"))
    await trim_all(store)
    [due] = await store.due("ep_1", now=clock.now, first=10, retries=10, excluding=())
    assert due.event.data == b"due"
    attempt = Attempt(id="att_1", delivery_id="dlv_owed_ep_1", started=clock.now, duration=1, status=200)
    await store.record([Outcome(attempt=attempt, happening=Happening.ACCEPTED)], now=clock.now)
    await trim_all(store)
    # The log as a whole passes over it later, as over everything.
    clock.now += SEEN_WINDOW_US + SECOND_US
    await trim_all(store, keep=0)
    await trim_all(store, keep=0)
    assert await store.delivery("dlv_owed_ep_1") is None


async def test_the_ids_of_a_deleted_channel_are_recognised_for_as_long_as_those_of_trimmed_events(
    store: Store, clock: Clock
) -> None:
    await append(store, event("e1"))
    await append(store, deleting("gone", "a"), event("last", "b"))
    await trim_all(store)
    [again] = await append(store, event("e1"))
    assert again.duplicate
    clock.now += SEEN_WINDOW_US + SECOND_US
    await trim_all(store)
    [again] = await append(store, event("e1"))
    assert not again.duplicate
    assert await ids(store, A) == ["e1"]


async def test_a_loss_is_told_by_name_by_pattern_and_in_pages_to_those_who_have_not_passed_it(store: Store) -> None:
    await append(store, event("e1"), event("e2", "b"))
    [gone] = await append(store, deleting("gone", "a"))
    lost = Lost(seq=gone.seq, why="deleted")
    assert (await store.bounds()).floor >= gone.seq
    for query in (A, ALL, Query(tenant=None), Query(tenant="default", channels=("x", "a*"))):
        assert (await store.standing(query, after=0)).lost == lost
        assert (await store.read(query, after=gone.seq - 1, limit=9)).standing.lost == lost
        assert (await store.standing(query, after=gone.seq)).lost is None
    for query in (B, Query(tenant="default", channels=("b*", "a.*")), Query(tenant="other")):
        assert (await store.standing(query, after=0)).lost is None


async def test_a_deletion_is_known_and_carried_out_after_a_restart(
    backend: Backend, tmp_path: Path, clock: Clock
) -> None:
    async with backend.opened(tmp_path, clock) as store:
        await append(store, *events(5))
        [gone] = await append(store, deleting("gone", "a"))
    clock.now += SEEN_WINDOW_US + SECOND_US
    async with backend.opened(tmp_path, clock) as store:
        assert (await store.bounds()).floor >= gone.seq
        assert (await store.standing(A, after=0)).lost == Lost(seq=gone.seq, why="deleted")
        assert await ids(store, A) == []
        await trim_all(store)
        assert not (await append(store, event("e0")))[0].duplicate


async def test_whether_there_was_another_loss_shows_although_an_older_one_was_newer(store: Store) -> None:
    await append(store, *events(5), *(event(f"b{number}", "b") for number in range(5)))
    await trim_all(store, keeping("*", 5))
    seen = [(await store.standing(ALL, after=0)).losses]
    await append(store, deleting("gone", "b"))
    for name in ("x1", "x2", "x3"):
        await append(store, event(name))
        await trim_all(store, keeping("*", 5))
        standing = (await store.read(ALL, after=0, limit=1)).standing
        assert standing.lost == Lost(seq=11, why="deleted")
        seen.append(standing.losses)
    assert len(set(seen)) == 4
    assert (await store.standing(B, after=0)).losses == seen[-1]
    assert (await store.standing(B, after=99)).lost is None


# Keeping less of some channels


async def test_each_channel_keeps_its_newest_and_the_first_rule_that_matches_holds(store: Store) -> None:
    for number in range(6):
        await append(store, *(event(f"{channel}{number}", channel) for channel in ("t.x", "t.y", "u")))
    rules = (keeping("t.x", 2), keeping("t.*", 4))
    await trim_all(store, *rules, limit=2)
    assert await ids(store, Query(tenant="default", channels=("t.x",))) == ["t.x4", "t.x5"]
    assert await ids(store, Query(tenant="default", channels=("t.y",))) == ["t.y2", "t.y3", "t.y4", "t.y5"]
    assert len(await ids(store, Query(tenant="default", channels=("u",)))) == 6
    assert (await store.standing(Query(tenant="default", channels=("t.x",)), after=9)).lost == Lost(
        seq=10, why="trimmed"
    )
    # What comes later is counted as well.
    await append(store, event("t.x6", "t.x"))
    await trim_all(store, *rules)
    assert await ids(store, Query(tenant="default", channels=("t.x",))) == ["t.x5", "t.x6"]


async def test_events_of_a_channel_go_by_age_while_others_stay(store: Store, clock: Clock) -> None:
    await append(store, event("old", "t"), event("kept", "u"))
    clock.now += 60 * SECOND_US
    await append(store, event("young", "t"))
    await trim_all(store, keeping("t", None, before=clock.now))
    assert await ids(store) == ["kept", "young"]
    clock.now += 60 * SECOND_US
    await trim_all(store, keeping("t", None, before=clock.now))
    assert await ids(store) == ["kept"]


async def test_rules_go_on_after_a_restart(backend: Backend, tmp_path: Path, clock: Clock) -> None:
    async with backend.opened(tmp_path, clock) as store:
        await append(store, *events(5))
        await trim_all(store, keeping("a", 3))
    async with backend.opened(tmp_path, clock) as store:
        await append(store, *events(5, "f"))
        await trim_all(store, keeping("a", 3))
        assert await ids(store) == ["f2", "f3", "f4"]
        assert (await store.bounds()).floor == 7


async def test_a_step_does_little_and_says_that_there_is_more(store: Store) -> None:
    await append(store, *events(50))
    rule = keeping("a", 1)
    steps = 0
    while await store.trim(appended_before=None, keep=None, limit=10, channels=(rule,)) >= 10:
        steps += 1
    assert steps >= 5
    assert await ids(store) == ["e49"]


async def test_the_whole_log_can_be_trimmed_over_what_single_channels_have_lost(store: Store, clock: Clock) -> None:
    owed = event("owed", data=b"due")
    await store.save(endpoint())
    await append(store, owed, *events(5), owed=[owes(owed, "ep_1"), *[()] * 5])
    await trim_all(store, keeping("a", 1))
    clock.now += SEEN_WINDOW_US + SECOND_US
    await append(store, event("later", "b"))
    await trim_all(store, keeping("a", 1), keep=1)
    assert await ids(store) == ["later"]
    assert (await store.bounds()).trimmed == START_US
    [due] = await store.due("ep_1", now=clock.now, first=10, retries=10, excluding=())
    assert due.event.data == b"due"


# Everything at once, against a model that does it the long way


@dataclass(slots=True)
class Model:
    """What should be shown, by brute force."""

    log: list[Event] = field(default_factory=list)
    closed: set[str] = field(default_factory=set)
    floors: dict[str, int] = field(default_factory=dict)
    oldest: int = 1

    def shown(self, patterns: Sequence[str]) -> list[int]:
        return [
            each.seq
            for each in self.log
            if each.seq >= self.oldest and matches_any((), each.type) and self._is_on(each, patterns)
        ]

    def _is_on(self, each: Event, patterns: Sequence[str]) -> bool:
        return any(matches_any(patterns, name) and self.floors.get(name, 0) < each.seq for name in each.channels)

    def on(self, name: str) -> list[int]:
        return [each.seq for each in self.log if name in each.channels and each.seq > self.floors.get(name, 0)]

    def trim(self, rules: Sequence[ChannelTrim]) -> None:
        for name in NAMES:
            rule = next((rule for rule in rules if matches(rule.pattern, name)), None)
            seqs = self.on(name)
            if rule is not None and rule.keep is not None and len(seqs) > rule.keep:
                self.floors[name] = seqs[-rule.keep - 1]
            if rule is not None and rule.appended_before is not None:
                old = [seq for seq in seqs if self.log[seq - 1].appended < rule.appended_before]
                self.floors[name] = max([self.floors.get(name, 0), *old])

    def newest_loss(self, patterns: Sequence[str], after: int) -> int | None:
        losses = [floor for name, floor in self.floors.items() if matches_any(patterns, name) and floor > after]
        return max(losses, default=None)


NAMES = ["a", "b", "c.1", "c.2"]
QUERIES = [("a",), ("b", "c.1"), ("c.*",), ("*",), ("a", "c*")]
_names = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True)
_steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["publish", "publish", "publish", "close", "delete"]), _names),
        st.tuples(st.just("trim")),
        st.tuples(st.just("trim whole"), st.integers(0, 8)),
        st.tuples(st.just("wait"), st.sampled_from([1, 30, 8 * 24 * 3600])),
        st.tuples(st.just("restart")),
    ),
    min_size=5, max_size=30,
)  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=_steps, limit=st.integers(1, 5), keep=st.integers(1, 3))
def test_whatever_is_closed_deleted_and_trimmed_reads_show_what_is_left(
    backend: Backend, steps: list[tuple[Any, ...]], limit: int, keep: int
) -> None:
    asyncio.run(_run(backend, steps, limit, keep))


async def _run(backend: Backend, steps: list[tuple[Any, ...]], limit: int, keep: int) -> None:
    clock, model = Clock(), Model()
    with tempfile.TemporaryDirectory() as folder:
        store = backend.make(Path(folder), clock)
        await store.open()
        store.follow(model.log.extend)
        for number, (what, *arguments) in enumerate(steps):
            match what:
                case "publish" | "close" | "delete":
                    [names] = arguments
                    await _append(store, model, f"e{number}", what, names)
                case "trim":
                    rules = (
                        keeping("c.1", keep),
                        keeping("c*", None, before=clock.now - 20 * SECOND_US),
                        keeping("b", 1 + keep, before=clock.now - 10 * SECOND_US),
                    )
                    await trim_all(store, *rules, limit=limit)
                    model.trim(rules)
                case "trim whole":
                    await trim_all(store, keep=arguments[0], limit=limit)
                    model.oldest = max(model.oldest, len(model.log) - arguments[0] + 1)
                case "wait":
                    clock.now += arguments[0] * SECOND_US
                case "restart":
                    await store.close()
                    store = backend.make(Path(folder), clock)
                    await store.open()
                    store.follow(model.log.extend)
            await _check(store, model)
        await store.close()


async def _append(store: Store, model: Model, id: str, what: str, names: list[str]) -> None:
    effect = {"publish": "", "close": "close", "delete": "delete"}[what]
    made = event(id, *names, effect=effect, type="hookbrook.deleted" if effect == "delete" else "message")
    if effect != "delete" and model.closed & set(names):
        with pytest.raises(ChannelClosed):
            await append(store, made)
        return
    [appended] = await append(store, made)
    if effect == "close":
        model.closed |= set(names)
    elif effect == "delete":
        model.closed -= set(names)
        model.floors |= dict.fromkeys(names, appended.seq)


async def _check(store: Store, model: Model) -> None:
    for patterns in QUERIES:
        query = Query(tenant="default", channels=patterns)
        shown = model.shown(patterns)
        assert [each.seq for each in await read_all(store, query, limit=3)] == shown
        assert [each.seq for each in await read_all_back(store, query, before=1000, limit=3)] == shown[::-1]
        for after in (model.oldest - 1, len(model.log) // 2, len(model.log)):
            if after >= model.oldest - 1:
                lost = (await store.standing(query, after=after)).lost
                assert (lost and lost.seq) == model.newest_loss(patterns, after)
    for each in model.log:
        found = await store.event("default", each.id)
        assert (found is not None) == (each.seq >= model.oldest and model._is_on(each, ("*",)))
