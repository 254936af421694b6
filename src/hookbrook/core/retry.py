"""When the next attempt of a delivery is made.

A schedule is a list of delays; delay number n lies between attempt n and attempt n + 1. An exponential schedule is
written as such and becomes the same list, so that there is one thing to store, to show and to reason about.

Every delay is spread by ± 20 %: deliveries that failed together, because their receiver was down, must not come back
together. A receiver may ask for more time by `Retry-After`; it cannot shorten a delay, nor stretch it beyond a day.
"""

import re
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from random import Random
from typing import Final

from hookbrook.errors import Invalid

_US: Final = 1_000_000

#: Near Standard Webhooks 1.0: 10 attempts over 75 hours, so that a receiver that is down over a weekend loses nothing.
DEFAULT_DELAYS_S: Final = (5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 50400.0, 72000.0, 86400.0)
#: Each delay is multiplied by something between 1 - JITTER and 1 + JITTER.
JITTER: Final = 0.2
#: Shorter delays would hammer a receiver that is already failing.
MIN_DELAY_S: Final = 0.1
#: Longer than a week, and nobody remembers what the webhook was about.
MAX_DELAY_S: Final = 7 * 86400.0
#: The event is kept as long as a delivery may need it; this bounds how long that is.
MAX_TOTAL_S: Final = 30 * 86400.0
#: Attempts are stored one by one.
MAX_ATTEMPTS: Final = 50
MAX_FACTOR: Final = 10.0
#: A receiver that answers `Retry-After: 31536000` would otherwise switch itself off for a year without being disabled.
MAX_RETRY_AFTER_S: Final = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The delays between attempts, in seconds. `Schedule()` is the default; no delays at all means one attempt."""

    delays_s: tuple[float, ...] = DEFAULT_DELAYS_S

    @property
    def attempts(self) -> int:
        """Attempts in all, the first included."""
        return len(self.delays_s) + 1

    @classmethod
    def exponential(
        cls, *, base_s: float, factor: float = 2.0, max_s: float = 86400.0, attempts: int = 10
    ) -> "Schedule":
        """`base_s`, then `factor` times as long each time, never above `max_s`; `attempts` in all."""
        delays = []
        delay = base_s
        for _ in range(attempts - 1):
            delay = min(delay, max_s)
            delays.append(delay)
            delay *= factor
        return cls(delays_s=tuple(delays))


def next_attempt(
    schedule: Schedule, attempt_number: int, now_us: int, rng: Random, retry_after_s: float | None = None
) -> int | None:
    """When to try again after an attempt that failed, in microseconds since the epoch; None when retries are spent.

    Args:
        schedule: the endpoint's delays.
        attempt_number: the attempt that just failed; the first is 1.
        now_us: microseconds since the epoch.
        rng: where the jitter comes from.
        retry_after_s: what the receiver asked for, in seconds (see `parse_retry_after`). It is spread upwards only,
            since RFC 9110 section 10.2.3 asks not to come earlier; it never makes the delay shorter, and at most
            `MAX_RETRY_AFTER_S` of it counts.
    """
    assert attempt_number >= 1
    if attempt_number > len(schedule.delays_s):
        return None
    delay = schedule.delays_s[attempt_number - 1] * rng.uniform(1 - JITTER, 1 + JITTER)
    if retry_after_s is not None:
        asked = min(retry_after_s, MAX_RETRY_AFTER_S) * rng.uniform(1, 1 + JITTER)
        delay = max(delay, min(asked, MAX_RETRY_AFTER_S))
    return now_us + round(delay * _US)


_SECONDS = re.compile(r"[0-9]{1,18}", re.ASCII)


def parse_retry_after(value: str, now_us: int) -> float | None:
    """The seconds that a `Retry-After` field asks to wait (RFC 9110 section 10.2.3), or None if it cannot be read.

    It is a number of seconds, or a date in any of the three forms of section 5.6.7; a date in the past asks for 0.
    """
    value = value.strip(" \t")
    if _SECONDS.fullmatch(value):
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    # RFC 9110 section 5.6.7: the asctime form names no zone and means UTC.
    moment = date if date.tzinfo is not None else date.replace(tzinfo=UTC)
    return max(0.0, moment.timestamp() - now_us / _US)


def parse_schedule(value: object, field: str = "retry") -> Schedule:
    """A schedule as the API takes it; raises `Invalid` naming the wrong member.

    None is the default, a list is the delays in seconds (`[5, 300]`), and an object is exponential:
    `{"base_s": 5, "factor": 2, "max_s": 86400, "attempts": 10}`, of which only `base_s` is required.
    """
    if value is None:
        return Schedule()
    if isinstance(value, dict):
        schedule = _exponential(value, field)
    elif isinstance(value, list | tuple):
        if len(value) >= MAX_ATTEMPTS:
            raise Invalid.of(field, f"may have at most {MAX_ATTEMPTS - 1} delays")
        schedule = Schedule(
            delays_s=tuple(
                _number(delay, f"{field}[{index}]", MIN_DELAY_S, MAX_DELAY_S) for index, delay in enumerate(value)
            )
        )
    else:
        raise Invalid.of(field, "must be a list of delays in seconds, or an object with base_s")
    if sum(schedule.delays_s) > MAX_TOTAL_S:
        raise Invalid.of(field, f"may span at most {MAX_TOTAL_S / 86400:g} days in all")
    return schedule


def _exponential(value: dict[object, object], field: str) -> Schedule:
    unknown = [name for name in value if name not in ("base_s", "factor", "max_s", "attempts")]
    if unknown:
        raise Invalid.of(f"{field}.{unknown[0]}", "is unknown; there are base_s, factor, max_s and attempts")
    if "base_s" not in value:
        raise Invalid.of(f"{field}.base_s", "is required")
    attempts = value.get("attempts", 10)
    if not isinstance(attempts, int) or isinstance(attempts, bool) or not 1 <= attempts <= MAX_ATTEMPTS:
        raise Invalid.of(f"{field}.attempts", f"must be a whole number between 1 and {MAX_ATTEMPTS}")
    return Schedule.exponential(
        base_s=_number(value["base_s"], f"{field}.base_s", MIN_DELAY_S, MAX_DELAY_S),
        factor=_number(value.get("factor", 2), f"{field}.factor", 1.0, MAX_FACTOR),
        max_s=_number(value.get("max_s", 86400), f"{field}.max_s", MIN_DELAY_S, MAX_DELAY_S),
        attempts=attempts,
    )


def _number(value: object, field: str, low: float, high: float) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
        raise Invalid.of(field, f"must be a number between {low:g} and {high:g}")
    return float(value)
