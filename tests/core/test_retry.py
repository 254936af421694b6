from datetime import UTC, datetime
from email.utils import formatdate
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookbrook.core.retry import (
    JITTER,
    MAX_ATTEMPTS,
    MAX_DELAY_S,
    MAX_RETRY_AFTER_S,
    Schedule,
    next_attempt,
    parse_retry_after,
    parse_schedule,
)
from hookbrook.errors import Invalid

US = 1_000_000
NOW = 1_790_000_000 * US


def test_the_default_spans_75_hours_in_ten_attempts() -> None:
    schedule = Schedule()
    assert schedule.delays_s == (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
    assert schedule.attempts == 10
    assert 75 * 3600 < sum(schedule.delays_s) < 76 * 3600


@given(st.integers(1, 9), st.integers())
def test_each_delay_is_spread_by_a_fifth(attempt: int, seed: int) -> None:
    delay = Schedule().delays_s[attempt - 1]
    due = next_attempt(Schedule(), attempt, NOW, Random(seed))
    assert due is not None
    assert (1 - JITTER) * delay * US - 1 <= due - NOW <= (1 + JITTER) * delay * US + 1


def test_the_spread_uses_its_whole_width() -> None:
    rng = Random(1)
    waits = [(next_attempt(Schedule(delays_s=(100,)), 1, NOW, rng) or 0) - NOW for _ in range(1000)]
    assert min(waits) < 81 * US
    assert max(waits) > 119 * US


def test_the_same_rng_gives_the_same_moments() -> None:
    assert next_attempt(Schedule(), 3, NOW, Random(7)) == next_attempt(Schedule(), 3, NOW, Random(7))


def test_retries_are_spent_after_the_last_delay() -> None:
    assert next_attempt(Schedule(), 9, NOW, Random(1)) is not None
    assert next_attempt(Schedule(), 10, NOW, Random(1)) is None
    assert next_attempt(Schedule(delays_s=()), 1, NOW, Random(1)) is None
    assert next_attempt(Schedule(), 10, NOW, Random(1), retry_after_s=60) is None


@given(st.floats(0, 10**9), st.integers())
def test_retry_after_lengthens_a_delay_and_never_shortens_it(asked: float, seed: int) -> None:
    due = next_attempt(Schedule(delays_s=(60,)), 1, NOW, Random(seed), asked)
    assert due is not None
    wait = (due - NOW) / US
    assert wait >= 60 * (1 - JITTER) - 1e-6
    assert wait >= min(asked, MAX_RETRY_AFTER_S) - 1e-6
    assert wait <= max(MAX_RETRY_AFTER_S, 60 * (1 + JITTER)) + 1e-6


def test_a_delay_longer_than_the_cap_on_retry_after_stands() -> None:
    due = next_attempt(Schedule(delays_s=(MAX_DELAY_S,)), 1, NOW, Random(1), 5)
    assert due is not None
    assert due - NOW >= (1 - JITTER) * MAX_DELAY_S * US


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        (" 120\t", 120),
        ("999999999999", 999999999999),
        ("Sun, 06 Nov 1994 08:50:37 GMT", 60),
        ("Sunday, 06-Nov-94 08:50:37 GMT", 60),
        ("Sun Nov  6 08:50:37 1994", 60),
        ("Sun, 06 Nov 1994 08:00:00 GMT", 0),
    ],
)
def test_retry_after_is_read_in_every_form_of_rfc_9110(value: str, seconds: float) -> None:
    now = int(datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC).timestamp()) * US
    assert parse_retry_after(value, now) == seconds


@given(st.integers(0, 4_000_000_000))
def test_a_date_written_by_the_standard_library_is_read(moment: int) -> None:
    assert parse_retry_after(formatdate(moment, usegmt=True), 0) == moment


@pytest.mark.parametrize(
    "value", ["", "soon", "-1", "1.5", "1e3", "٣", "1" * 5000, "Sun, 99 Nov 1994 08:49:37 GMT", "Sun,", "0x10"]
)
def test_a_retry_after_that_cannot_be_read_is_ignored(value: str) -> None:
    assert parse_retry_after(value, NOW) is None


@given(st.text())
def test_any_retry_after_is_a_wait_or_ignored(value: str) -> None:
    seconds = parse_retry_after(value, NOW)
    assert seconds is None or seconds >= 0


def test_schedules_are_read() -> None:
    assert parse_schedule(None) == Schedule()
    assert parse_schedule([]) == Schedule(delays_s=())
    assert parse_schedule([5, 300.5]) == Schedule(delays_s=(5.0, 300.5))
    assert parse_schedule((5.0,)) == Schedule(delays_s=(5.0,))
    assert parse_schedule({"base_s": 5, "factor": 2, "max_s": 30, "attempts": 6}).delays_s == (5, 10, 20, 30, 30)
    assert parse_schedule({"base_s": 5}).attempts == 10
    assert parse_schedule({"base_s": 5, "attempts": 1}).delays_s == ()
    assert parse_schedule({"base_s": 1, "factor": 10, "attempts": 20, "max_s": 3600}).delays_s[-1] == 3600


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ("5", "retry"),
        (5, "retry"),
        (True, "retry"),
        ([5, "300"], "retry[1]"),
        ([True], "retry[0]"),
        ([-1], "retry[0]"),
        ([0], "retry[0]"),
        ([float("nan")], "retry[0]"),
        ([float("inf")], "retry[0]"),
        ([10**400], "retry[0]"),
        ([None], "retry[0]"),
        ([MAX_DELAY_S + 1], "retry[0]"),
        ([1] * MAX_ATTEMPTS, "retry"),
        ([MAX_DELAY_S] * 5, "retry"),
        ({}, "retry.base_s"),
        ({"base_s": 0}, "retry.base_s"),
        ({"base_s": 5, "factor": 0.5}, "retry.factor"),
        ({"base_s": 5, "factor": 11}, "retry.factor"),
        ({"base_s": 5, "max_s": MAX_DELAY_S + 1}, "retry.max_s"),
        ({"base_s": 5, "attempts": 0}, "retry.attempts"),
        ({"base_s": 5, "attempts": 2.0}, "retry.attempts"),
        ({"base_s": 5, "attempts": True}, "retry.attempts"),
        ({"base_s": 5, "attempts": MAX_ATTEMPTS + 1}, "retry.attempts"),
        ({"base_s": 5, "jitter": 1}, "retry.jitter"),
        ({"base_s": 86400, "factor": 2, "max_s": 604800, "attempts": 20}, "retry"),
    ],
)
def test_a_wrong_schedule_is_named(value: object, field: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_schedule(value)
    assert caught.value.errors[0].field == field
