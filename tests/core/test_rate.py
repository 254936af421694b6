"""Token buckets: what is given, what has to wait, and how little is remembered."""

from hypothesis import given
from hypothesis import strategies as st

from hookbrook.core.rate import Buckets


def test_a_burst_is_given_at_once_and_then_one_token_at_a_time() -> None:
    buckets = Buckets(rate=2, burst=3)
    assert [buckets.take("ann", 0.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert 0.49 < buckets.take("ann", 0.0) <= 0.5
    assert buckets.take("ann", 0.5) == 0.0
    assert buckets.take("ann", 0.5) > 0


def test_who_was_refused_has_lost_nothing() -> None:
    buckets = Buckets(rate=1, burst=1)
    assert buckets.take("ann", 0.0) == 0.0
    for _ in range(100):
        assert buckets.take("ann", 0.5) > 0
    assert buckets.take("ann", 1.0) == 0.0


def test_one_party_does_not_take_from_another() -> None:
    buckets = Buckets(rate=1, burst=1)
    assert buckets.take("ann", 0.0) == 0.0
    assert buckets.take("bob", 0.0) == 0.0


def test_a_batch_is_given_whole_and_owed() -> None:
    buckets = Buckets(rate=10, burst=5)
    assert buckets.take("ann", 0.0, 100) == 0.0
    assert 9.5 < buckets.take("ann", 0.0) < 9.7
    assert buckets.take("ann", 9.61) == 0.0


def test_so_many_parties_are_remembered_and_the_longest_silent_is_forgotten_first() -> None:
    buckets = Buckets(rate=1, burst=1, max_parties=3)
    for party in ("a", "b", "c"):
        buckets.take(party, 0.0)
    buckets.take("a", 1.0)
    buckets.take("d", 1.0)
    assert len(buckets) == 3
    assert buckets.take("a", 1.0) > 0
    assert buckets.take("b", 0.5) == 0.0


@given(st.lists(st.floats(0, 2), max_size=80), st.floats(0.5, 50), st.integers(1, 20))
def test_nobody_ever_gets_more_than_burst_and_rate_allow(pauses: list[float], rate: float, burst: int) -> None:
    buckets = Buckets(rate, burst)
    now, taken = 0.0, []
    for pause in pauses:
        now += pause
        if buckets.take("ann", now) == 0.0:
            taken.append(now)
    for first, start in enumerate(taken):
        for last in range(first, len(taken)):
            assert last - first + 1 <= burst + (taken[last] - start) * rate + 1e-3


@given(st.floats(0.5, 50), st.integers(1, 20))
def test_who_waits_as_long_as_he_was_told_gets_a_token(rate: float, burst: int) -> None:
    buckets = Buckets(rate, burst)
    while (wait := buckets.take("ann", 0.0)) == 0.0:
        pass
    assert buckets.take("ann", wait + 1e-6) == 0.0
