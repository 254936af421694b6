"""Durations and sizes as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookbrook.core.units import MAX_DURATION_S, format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0), ("15", 15), ("2.5", 2.5), ("15s", 15), ("250ms", 0.25), ("1.5h", 5400), ("1h30m", 5400),
        ("30d", 2_592_000), ("2w", 1_209_600), (" 7d ", 604_800), ("1d1h1m1s1ms", 90_061.001),
    ],
)  # fmt: skip
def test_a_duration_is_read_as_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "s", "-1s", "1 s", "1S", "1y", "1e9", "inf", "nan", "1.", ".5", "1s2", "1_0", "١s"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a duration"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["36601d", "9" * 40])
def test_a_duration_of_centuries_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="100 years"):
        parse_duration(text)


def test_a_text_without_end_is_not_read() -> None:
    with pytest.raises(ValueError, match="must be"):
        parse_duration("1s" * 1_000_000)
    with pytest.raises(ValueError, match="must be"):
        parse_size("9" * 1_000_000)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0), ("1024", 1024), ("1kB", 1000), ("1KiB", 1024), ("1 MiB", 2**20), ("25mib", 25 * 2**20),
        ("1.5MB", 1_500_000), ("0.5KiB", 512), ("1GiB", 2**30), ("9007199254740993", 9007199254740993),
    ],
)  # fmt: skip
def test_a_size_is_read_as_bytes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-1", "1.5", "1.0001kB", "1XB", "1 M B", "1e3", "inf", "٣"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a size"):
        parse_size(text)


@given(st.integers(min_value=0, max_value=2**50))
def test_a_size_reads_back_as_written(size: int) -> None:
    assert parse_size(format_size(size)) == size


@given(st.integers(min_value=0, max_value=int(MAX_DURATION_S)))
def test_a_duration_reads_back_as_written(seconds: int) -> None:
    assert parse_duration(format_duration(float(seconds))) == seconds


@pytest.mark.parametrize(("seconds", "text"), [(2_592_000.0, "30d"), (90.0, "90s"), (5400.0, "90m"), (0.25, "0.25s")])
def test_a_duration_is_written_short(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
    assert parse_duration(text) == seconds
