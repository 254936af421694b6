"""Rules of retention for single channels, as hookbrook.toml declares them.

    [[retention]]
    channels = "ticker.*"
    age = "1h"
    count = 100

The first rule whose pattern matches a channel holds for it, in every tenant. Both limits apply to each channel on its
own, beside those of the whole log.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from hookbrook.core.channel import check_pattern
from hookbrook.core.declared import as_config, check_keys, read_tables
from hookbrook.core.units import format_duration, parse_duration
from hookbrook.errors import ConfigError

#: Each rule with an age walks over the log once.
MAX_RULES: Final = 50
#: The events of a channel are counted from its newest whenever it gets another.
MAX_COUNT: Final = 100_000
MIN_AGE_S: Final = 1.0
MAX_AGE_S: Final = 100 * 365 * 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    #: A pattern.
    channels: str
    #: How long events are kept, in seconds; None for no such limit.
    age_s: float | None = None
    #: How many are kept of each channel; None for no such limit.
    count: int | None = None


def read_rules(tables: object) -> tuple[Rule, ...]:
    """The `[[retention]]`; raises `ConfigError` naming the key (`retention[0].age`)."""
    rules = tuple(_read_rule(key, table) for key, table in read_tables("retention", tables))
    if len(rules) > MAX_RULES:
        raise ConfigError("retention", f"may have at most {MAX_RULES} rules, not {len(rules)}")
    return rules


def _read_rule(key: str, table: Mapping[str, object]) -> Rule:
    check_keys(key, table, ("channels", "age", "count"), required=("channels",))
    channels, count = table["channels"], table.get("count")
    if not isinstance(channels, str):
        raise ConfigError(f"{key}.channels", 'must be a pattern such as "ticker.*"')
    as_config(key, check_pattern, "channels", channels)
    if "age" not in table and "count" not in table:
        raise ConfigError(key, "needs an age, a count or both")
    if count is not None and (not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MAX_COUNT):
        raise ConfigError(f"{key}.count", f"must be a whole number from 1 to {MAX_COUNT}")
    return Rule(channels=channels, age_s=_read_age(key, table.get("age")), count=count)


def _read_age(key: str, value: object) -> float | None:
    if value is None:
        return None
    try:
        age_s = parse_duration(str(value))
    except ValueError:
        age_s = -1.0
    if isinstance(value, bool) or not MIN_AGE_S <= age_s <= MAX_AGE_S:
        allowed = f"from {format_duration(MIN_AGE_S)} to {format_duration(MAX_AGE_S)}"
        raise ConfigError(f"{key}.age", f"must be a duration {allowed}")
    return age_s
