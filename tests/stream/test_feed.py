import asyncio

from hypothesis import given
from hypothesis import strategies as st

from hookbrook.core.cursor import Epoch, Epochs
from hookbrook.core.event import Event
from hookbrook.errors import StoreUnavailable
from hookbrook.store.base import Bounds, Listener
from hookbrook.stream.feed import SPAN, WARM_ENTRIES, Feed
from hookbrook.stream.subscription import Entry, Subscription

from .conftest import HandPace, Rig, kept


class Tail:
    """The part of the `Log` port that a feed uses: a log that has `tail` events, and gets more."""

    def __init__(self, tail: int = 0) -> None:
        self.tail = tail
        self.listeners: list[Listener] = []

    def follow(self, listener: Listener) -> Bounds:
        self.listeners.append(listener)
        return Bounds(oldest=1, tail=self.tail, epochs=Epochs([Epoch("abcdef", 1)]))

    def unfollow(self, listener: Listener) -> None:
        self.listeners.remove(listener)

    def commit(self, *sizes: int, request: int = 0) -> list[Event]:
        events = [
            kept(self.tail + number, data=b"x" * size, request=b"y" * request)
            for number, size in enumerate(sizes, start=1)
        ]
        self.tail += len(events)
        for listener in self.listeners:
            listener(events)
        return events


EVERYTHING = Subscription(tenant="default", channels=("*",))


def behind(feed: Feed, seq: int) -> list[int] | None:
    """All seqs that the feed holds behind this one, in as many stretches as it takes; None: it does not reach back."""
    found: list[int] = []
    while seq < feed.tail:
        stretch = feed.after(seq, EVERYTHING)
        if stretch is None:
            assert not found
            return None
        found += [entry.seq for entry in stretch.entries]
        assert seq < stretch.scanned_to <= feed.tail
        assert stretch.scanned_to - seq <= SPAN
        seq = stretch.scanned_to
    return found


def feed_on(tail: Tail, **limits: int) -> tuple[Feed, list[Entry]]:
    feed, heard = Feed(tail, pace=HandPace(), **limits), list[Entry]()  # type: ignore[arg-type]
    feed.start(heard.extend)
    return feed, heard


@given(
    start=st.integers(0, 5),
    commits=st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=12), max_size=12),
    max_entries=st.integers(1, 12),
    max_bytes=st.integers(1, 100),
)
def test_what_the_feed_answers_is_what_follows_or_that_it_does_not_reach_back(
    start: int, commits: list[list[int]], max_entries: int, max_bytes: int
) -> None:
    tail = Tail(start)
    feed, heard = feed_on(tail, max_entries=max_entries, max_bytes=max_bytes)
    log: dict[int, Event] = {}
    for sizes in commits:
        log.update({event.seq: event for event in tail.commit(*sizes)})
        assert feed.tail == tail.tail
        assert feed.cursor == f"abcdef-{tail.tail}"
        reach = next(seq for seq in range(tail.tail + 1) if behind(feed, seq) is not None)
        held = [log[seq] for seq in range(reach + 1, tail.tail + 1)]
        assert len(held) <= max_entries
        assert sum(len(event.data) for event in held) <= max_bytes
        for seq in range(tail.tail + 1):
            assert behind(feed, seq) == (list(range(seq + 1, tail.tail + 1)) if seq >= reach else None)
    # Those who listen get everything, held or not.
    assert [each.event for each in heard] == list(log.values())


def test_no_more_goes_than_a_part_of_a_block() -> None:
    tail = Tail()
    feed, _ = feed_on(tail, max_entries=4 * SPAN)
    tail.commit(*[1] * (4 * SPAN))
    assert behind(feed, 0) is not None
    tail.commit(1)
    assert behind(feed, 0) is None
    assert behind(feed, SPAN // 4) is not None


def test_the_requests_that_brought_the_events_count_too() -> None:
    tail = Tail()
    feed, _ = feed_on(tail, max_bytes=1000)
    for _ in range(20):
        tail.commit(1, request=300)
    assert behind(feed, 20 - 4) is None
    assert behind(feed, 20 - 1) is not None


def test_one_event_larger_than_the_feed_is_not_held_but_passed_on() -> None:
    tail = Tail()
    feed, heard = feed_on(tail, max_bytes=1000)
    tail.commit(10, 2000)
    assert (feed.tail, behind(feed, 1), behind(feed, 2), len(heard)) == (2, None, [], 2)
    tail.commit(10)
    assert behind(feed, 2) == [3]


def test_a_feed_that_was_stopped_hears_no_more() -> None:
    tail = Tail()
    feed, heard = feed_on(tail)
    feed.stop()
    tail.commit(1)
    assert (feed.tail, heard) == (0, [])


async def test_the_feed_of_a_store_begins_at_its_tail(rig: Rig) -> None:
    await rig.publish(count=3)
    feed = Feed(rig.store)
    heard: list[Entry] = []
    feed.start(heard.extend)
    assert (feed.tail, behind(feed, 3), behind(feed, 2)) == (3, [], None)
    await rig.publish()
    assert [entry.seq for entry in heard] == [4]
    feed.stop()


async def test_a_feed_that_was_warmed_holds_the_logs_end_of_before_it_was_started(rig: Rig) -> None:
    await rig.publish(count=300)
    await rig.publish("a", tenant="other")
    await rig.publish("hookbrook.x", type="hookbrook.y")
    feed = Feed(rig.store, pace=HandPace())
    feed.start(lambda _entries: None)
    warming = asyncio.create_task(feed.warm())
    await rig.publish(count=3)
    await warming
    assert behind(feed, 0) == [*range(1, 301), 303, 304, 305]
    ours = feed.after(256, Subscription(tenant="default", channels=("hookbrook.*",), types=("*", "hookbrook.*")))
    assert ours is not None
    assert [entry.seq for entry in ours.entries] == [302]
    assert feed.cursor == str((await rig.store.bounds()).epochs.cursor(305))
    feed.stop()


async def test_no_more_is_read_at_the_start_than_the_limits_allow(rig: Rig) -> None:
    for _ in range(6):
        await rig.publish(count=1000)
    few, many = Feed(rig.store, max_entries=1000), Feed(rig.store)
    for feed in (few, many):
        feed.start(lambda _entries: None)
        await feed.warm()
        feed.stop()
    assert behind(few, 5000) == list(range(5001, 6001))
    assert behind(few, 4999) is None
    assert behind(many, 6000 - WARM_ENTRIES) is not None
    assert behind(many, 0) is None


async def test_a_store_that_cannot_be_read_leaves_the_feed_cold_and_running(rig: Rig) -> None:
    class Silent(Tail):
        async def read_back(self, *_: object, **__: object) -> object:
            raise StoreUnavailable("the disk is busy")

    tail = Silent(5)
    feed, _ = feed_on(tail)
    await feed.warm()
    tail.commit(1)
    assert (behind(feed, 4), behind(feed, 5)) == (None, [6])


def test_what_was_erased_is_forgotten_with_all_before_it_and_the_rest_is_held() -> None:
    tail = Tail()
    feed, heard = feed_on(tail)
    for _ in range(3):
        tail.commit(*[10] * SPAN)
        feed.announce()
    feed.forget(SPAN + 7)
    assert behind(feed, SPAN + 6) is None
    assert behind(feed, SPAN + 7) == list(range(SPAN + 8, 3 * SPAN + 1))
    feed.forget(10 * SPAN)
    assert behind(feed, 3 * SPAN) == []
    tail.commit(10)
    feed.announce()
    assert behind(feed, 3 * SPAN) == [3 * SPAN + 1]
    assert heard[-1].seq == 3 * SPAN + 1
