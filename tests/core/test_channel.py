from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookbrook.core.channel import (
    MAX_CHANNELS_PER_EVENT,
    MAX_NAME_LENGTH,
    MAX_PATTERNS,
    PatternIndex,
    check_channels,
    check_name,
    check_pattern,
    check_patterns,
    covers,
    matches,
    matches_any,
)
from hookbrook.errors import Invalid

#: Few letters, so that names and patterns meet often, and the reserved prefix with its beginnings.
_words = st.text(alphabet="ab.", max_size=4)
_heads = st.sampled_from(["", "", "", "h", "hook", "hookbrook", "hookbrook.", "hookbrook.a"])
names = st.tuples(_heads, _words).map("".join).filter(bool)
patterns = st.one_of(names, st.tuples(_heads, _words).map(lambda parts: "".join(parts) + "*"))


# Names


@pytest.mark.parametrize(
    "name", ["a", "orders.42", "chat:7", "a@b/c-d_e", "x" * MAX_NAME_LENGTH, "hookbrook", "Hookbrook.x"]
)
def test_a_name_of_the_alphabet_is_taken_as_it_is(name: str) -> None:
    assert check_name("channel", name) == name


@pytest.mark.parametrize(
    "name", ["", "x" * (MAX_NAME_LENGTH + 1), "a b", "a*", "ä", "a\n", "a\0", "a?", "a#", "a%20", "٣", "a\\b", "a+b"]
)
def test_any_other_name_is_refused_and_the_field_is_named(name: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_name("data[3].channel", name)
    assert refused.value.errors[0].field == "data[3].channel"


def test_a_reserved_name_cannot_be_published_but_can_be_asked_for() -> None:
    with pytest.raises(Invalid, match="reserved"):
        check_name("channel", "hookbrook.reset")
    assert check_pattern("channel", "hookbrook.reset") == "hookbrook.reset"


def test_an_event_names_one_to_ten_channels_each_once_with_its_home_first() -> None:
    assert check_channels("channels", ["b", "a", "b"]) == ("b", "a")
    most = [str(number) for number in range(MAX_CHANNELS_PER_EVENT)]
    assert check_channels("channels", most) == tuple(most)
    for wrong in ([], [*most, "one more"], ["a", "b c"]):
        with pytest.raises(Invalid):
            check_channels("channels", wrong)


# Patterns


@pytest.mark.parametrize("pattern", ["*", "a*", "orders.*", "x" * MAX_NAME_LENGTH, "x" * (MAX_NAME_LENGTH - 1) + "*"])
def test_a_pattern_is_a_name_or_a_prefix_with_one_trailing_star(pattern: str) -> None:
    assert check_pattern("channel", pattern) == pattern


@pytest.mark.parametrize("pattern", ["", "**", "*a", "a*b", "a *", "x" * MAX_NAME_LENGTH + "*", "a*\n", "ä*"])
def test_any_other_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(Invalid):
        check_pattern("channel", pattern)


def test_patterns_are_counted_and_each_kept_once() -> None:
    assert check_patterns("types", ["b*", "a", "b*"]) == ("b*", "a")
    with pytest.raises(Invalid, match="at most"):
        check_patterns("types", ["a"] * (MAX_PATTERNS + 1))


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("orders.*", "orders.42.items", True),
        ("orders.*", "orders.", True),
        ("orders.*", "orders", False),
        ("orders", "orders.42", False),
        ("*", "anything/at:all", True),
        ("*", "hookbrook.reset", False),
        ("h*", "hookbrook.reset", False),
        ("hookbrook*", "hookbrook.reset", False),
        ("hookbrook*", "hookbrooks", True),
        ("hookbrook.*", "hookbrook.reset", True),
        ("hookbrook.re*", "hookbrook.reset", True),
        ("hookbrook.reset", "hookbrook.reset", True),
    ],
)
def test_a_pattern_matches_by_prefix_and_reserved_names_only_if_asked_for(
    pattern: str, name: str, *, expected: bool
) -> None:
    assert matches(pattern, name) is expected


def test_no_patterns_match_every_name_that_is_not_reserved() -> None:
    assert matches_any((), "a")
    assert not matches_any((), "hookbrook.reset")
    assert matches_any(("b", "a*"), "ab")
    assert not matches_any(("b", "a*"), "cb")


def _all_names(stem: str) -> Iterable[str]:
    """Names around a pattern: enough to tell two patterns apart, since a pattern looks no further than its prefix."""
    yield from (stem, stem + "a", stem + "q", stem + ".", stem[:-1], stem[:-1] + "q", "q")
    for start in ("hookbrook.", "hookbrook.a", "hookbrook", "hookbrook.q", "hook", "h"):
        yield from (start, start + "q")


@given(patterns, patterns)
def test_a_pattern_covers_another_just_if_it_matches_all_that_the_other_matches(granted: str, asked: str) -> None:
    candidates = {name for pattern in (granted, asked) for name in _all_names(pattern.removesuffix("*")) if name}
    wider = [name for name in candidates if matches(asked, name) and not matches(granted, name)]
    assert covers(granted, asked) is (not wider)


@given(patterns, patterns, names)
def test_what_covers_lets_nothing_through(granted: str, asked: str, name: str) -> None:
    if covers(granted, asked) and matches(asked, name):
        assert matches(granted, name)


# The index

#: Few enough that most patterns meet most names.
_few_names = st.sampled_from(["a", "a.", "a.b", "b", "hook", "hookbrook", "hookbrook.", "hookbrook.a", "hookbrook.a.b"])
_few_patterns = st.one_of(_few_names, _few_names.map(lambda name: name + "*"), st.sampled_from(["*", "h*"]))
_filed = st.lists(st.tuples(st.sampled_from([True, True, False]), _few_patterns, st.integers(0, 2)), max_size=20)


@given(_filed, st.lists(_few_names, min_size=1, max_size=2))
def test_the_index_finds_what_brute_force_finds(steps: list[tuple[bool, str, int]], asked: list[str]) -> None:
    index: PatternIndex[int] = PatternIndex()
    filed: set[tuple[str, int]] = set()
    for is_added, pattern, item in steps:
        if is_added:
            index.add(pattern, item)
            filed.add((pattern, item))
        else:
            index.discard(pattern, item)
            filed.discard((pattern, item))
        expected = {item for pattern, item in filed if any(matches(pattern, name) for name in asked)}
        assert index.match(asked) == expected


def test_an_index_that_was_emptied_looks_at_no_prefix() -> None:
    index: PatternIndex[int] = PatternIndex()
    everything = [("x" * length + "*", length) for length in range(100)]
    for pattern, item in everything:
        index.add(pattern, item)
    for pattern, item in everything:
        index.discard(pattern, item)
        index.discard(pattern, item)
    assert index.match(["x" * 200]) == set()
    assert index._lengths == ()


def test_what_the_index_returns_is_the_callers_own() -> None:
    index: PatternIndex[int] = PatternIndex()
    index.add("a", 1)
    index.match(["a"]).clear()
    assert index.match(["a"]) == {1}
