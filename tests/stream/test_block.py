from hypothesis import given
from hypothesis import strategies as st

from hookbrook.stream.block import MAX_ANSWERS, Block
from hookbrook.stream.subscription import Entry, Subscription

from .conftest import kept

_channels = st.lists(st.sampled_from(["a", "a.b", "b", "hookbrook.x"]), min_size=1, max_size=3, unique=True)
_types = st.sampled_from(["message", "paid", "hookbrook.y"])
_events = st.lists(st.tuples(_channels, _types, st.sampled_from(["default", "other"])), max_size=20)
_asked = st.builds(
    Subscription,
    tenant=st.just("default"),
    channels=st.lists(st.sampled_from(["*", "a", "a*", "b", "hookbrook.*"]), min_size=1, max_size=2).map(tuple),
    types=st.lists(st.sampled_from(["*", "paid", "hookbrook.*"]), max_size=2).map(tuple),
)


@given(
    events=_events, more=_events, older=_events, questions=st.lists(st.tuples(_asked, st.integers(0, 70)), max_size=6)
)
def test_what_a_block_finds_is_what_a_look_at_every_entry_finds(
    events: list[tuple[list[str], str, str]],
    more: list[tuple[list[str], str, str]],
    older: list[tuple[list[str], str, str]],
    questions: list[tuple[Subscription, int]],
) -> None:
    def entries(rows: list[tuple[list[str], str, str]], start: int) -> list[Entry]:
        # Seqs have gaps: events of a channel may have been deleted.
        return [
            Entry(kept(start + 2 * n, *channels, type=type_, tenant=tenant))
            for n, (channels, type_, tenant) in enumerate(rows)
        ]

    block = Block()

    def check() -> None:
        for subscription, after in questions:
            expected = [entry for entry in block.entries if entry.seq > after and subscription.wants(entry.event)]
            assert list(block.wanted(subscription, after=after)) == expected

    for entry in entries(events, 41):
        block.append(entry)
    check()
    for entry in entries(more, 90):
        block.append(entry)
    check()
    block.put_before(entries(older, 1))
    check()
    held = list(block.entries)
    assert [*block.drop(3), *block.entries] == held
    check()


def test_a_pattern_is_looked_up_once_for_all_who_ask_the_same() -> None:
    block = Block()
    for seq in range(1, 6):
        block.append(Entry(kept(seq)))
    first, second = (block.wanted(Subscription(tenant="default", channels=("*",)), after=0) for _ in range(2))
    assert first is second
    block.append(Entry(kept(6)))
    assert len(block.wanted(Subscription(tenant="default", channels=("*",)), after=0)) == 6


def test_answers_are_bounded() -> None:
    block = Block()
    block.append(Entry(kept(1)))
    for number in range(3 * MAX_ANSWERS):
        block.wanted(Subscription(tenant="default", channels=(f"a{number}*",)), after=0)
        assert len(block._answers) <= MAX_ANSWERS
