from hypothesis import given
from hypothesis import strategies as st

from hookbrook.core.cursor import Epoch, Epochs
from hookbrook.core.event import Event
from hookbrook.store.base import Bounds, Listener
from hookbrook.stream.feed import TRIM_FRACTION, Feed
from hookbrook.stream.subscription import Entry

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


def feed_on(tail: Tail, **limits: int) -> tuple[Feed, list[Entry]]:
    feed, heard = Feed(tail, pace=HandPace(), **limits), list[Entry]()  # type: ignore[arg-type]
    feed.start(heard.extend)
    return feed, heard


@given(
    start=st.integers(0, 5),
    commits=st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=12), max_size=12),
    asked=st.lists(st.tuples(st.integers(0, 80), st.integers(1, 10)), max_size=10),
    max_entries=st.integers(1, 12),
    max_bytes=st.integers(1, 100),
)
def test_what_the_feed_answers_is_what_follows_or_that_it_does_not_reach_back(
    start: int, commits: list[list[int]], asked: list[tuple[int, int]], max_entries: int, max_bytes: int
) -> None:
    tail = Tail(start)
    feed, heard = feed_on(tail, max_entries=max_entries, max_bytes=max_bytes)
    log: dict[int, Event] = {}
    for sizes in commits:
        log.update({event.seq: event for event in tail.commit(*sizes)})
        assert feed.tail == tail.tail
        assert feed.cursor == f"abcdef-{tail.tail}"
        # Between its limit and the part of it to which it is cut back, the feed reaches back to anything.
        reach = next((seq for seq in range(tail.tail + 1) if feed.after(seq, 1) is not None), tail.tail)
        held = [log[seq] for seq in range(reach + 1, tail.tail + 1)]
        assert len(held) <= max_entries
        assert sum(len(event.data) for event in held) <= max_bytes
        for seq, limit in asked:
            entries = feed.after(seq, limit)
            if seq >= tail.tail:
                assert entries == []
            elif seq >= reach:
                assert entries is not None
                assert [each.event for each in entries] == [log[seq + 1 + n] for n in range(len(entries))]
                assert len(entries) == min(limit, tail.tail - seq)
            else:
                assert entries is None
    # Those who listen get everything, held or not.
    assert [each.event for each in heard] == list(log.values())


def test_the_oldest_go_in_blocks() -> None:
    tail = Tail()
    feed, _ = feed_on(tail, max_entries=16)
    tail.commit(*[1] * 16)
    assert feed.after(0, 100) is not None
    tail.commit(1)
    assert feed.after(17 - (16 - 16 // TRIM_FRACTION) - 1, 100) is None
    assert len(feed.after(17 - (16 - 16 // TRIM_FRACTION), 100) or ()) == 12


def test_the_requests_that_brought_the_events_count_too() -> None:
    tail = Tail()
    feed, _ = feed_on(tail, max_bytes=1000)
    for _ in range(20):
        tail.commit(1, request=300)
    assert feed.after(20 - 4, 100) is None
    assert feed.after(20 - 1, 100) is not None


def test_one_event_larger_than_the_feed_is_not_held_but_passed_on() -> None:
    tail = Tail()
    feed, heard = feed_on(tail, max_bytes=1000)
    tail.commit(10, 2000)
    assert (feed.tail, feed.after(1, 10), feed.after(2, 10), len(heard)) == (2, None, [], 2)
    tail.commit(10)
    assert [entry.seq for entry in feed.after(2, 10) or ()] == [3]


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
    assert (feed.tail, feed.after(3, 10), feed.after(2, 10)) == (3, [], None)
    await rig.publish()
    assert [entry.seq for entry in heard] == [4]
    feed.stop()
