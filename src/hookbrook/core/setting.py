"""What settings may be set to: a reader for each kind of value.

A reader raises a ValueError that says what is allowed, and never what was given, which may be a secret.
"""

import re
from collections.abc import Callable
from typing import Any

from hookbrook.core.addresses import parse_rules
from hookbrook.core.channel import check_patterns
from hookbrook.core.proxy import parse_proxy
from hookbrook.core.registration import check_public_url
from hookbrook.core.units import format_duration, format_size, parse_duration, parse_size
from hookbrook.errors import Invalid

#: Reads a value from text, or from what TOML or a flag made of it; raises ValueError with what is allowed.
Reader = Callable[[object], Any]


def text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be a text that is not empty")
    return value.strip()


def switch(value: object) -> bool:
    if isinstance(value, bool):
        return value
    states = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if not isinstance(value, str) or value.strip().lower() not in states:
        raise ValueError("must be true or false")
    return states[value.strip().lower()]


def number(low: int, high: int) -> Reader:
    def read(value: object) -> int:
        sentence = f"must be a whole number from {low} to {high}"
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,12}", value.strip()):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(sentence)
        return value

    return read


def size(low: int, high: int) -> Reader:
    def read(value: object) -> int:
        found = parse_size(str(value)) if _is_number_or_text(value) else -1
        if not low <= found <= high:
            raise ValueError(f"must be a size from {format_size(low)} to {format_size(high)}")
        return found

    return read


def duration(low: float, high: float) -> Reader:
    def read(value: object) -> float:
        seconds = parse_duration(str(value)) if _is_number_or_text(value) else -1.0
        if not low <= seconds <= high:
            raise ValueError(f"must be a duration from {format_duration(low)} to {format_duration(high)}")
        return seconds

    return read


def or_none(read: Reader) -> Reader:
    return lambda value: None if isinstance(value, str) and value.strip().lower() == "none" else read(value)


def one_of(*choices: str) -> Reader:
    def read(value: object) -> str:
        if not isinstance(value, str) or value.strip().lower() not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return value.strip().lower()

    return read


def words(value: object) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
        raise ValueError("must be a list of texts (separated by commas outside hookbrook.toml)")
    return tuple(part.strip() for part in parts if part.strip())


def patterns(value: object) -> tuple[str, ...]:
    entries = words(value)
    _as_value_error(lambda: check_patterns("entry", entries))
    return entries


def networks(value: object) -> tuple[str, ...]:
    entries = words(value)
    _as_value_error(lambda: parse_rules(entries, "entry"))
    return entries


def host_names(value: object) -> tuple[str, ...]:
    entries = tuple(word.lower() for word in words(value))
    if any(re.search(r"[\s/@?#]", word) for word in entries):
        raise ValueError("must be host names such as hooks.example.com, without a scheme or path")
    return entries


def origins(value: object) -> tuple[str, ...]:
    entries = tuple(word.lower().removesuffix("/") for word in words(value))
    if not all(re.fullmatch(r"https?://[^\s/@?#]+", word) for word in entries):
        raise ValueError("must be origins such as https://app.example.com")
    return entries


def public_url(value: object) -> str:
    given = text(value)
    _as_value_error(lambda: check_public_url("public_url", given))
    return given.rstrip("/")


def proxy(value: object) -> str:
    given = text(value)
    parse_proxy(given)
    return given


def store(value: object) -> str:
    given = text(value)
    if re.match(r"postgres(?:ql)?://", given):
        raise ValueError("this release keeps its log in SQLite only; write sqlite:///hookbrook.db")
    if not re.fullmatch(r"sqlite:///[^?#\0]+", given) or given.endswith("/") or ":memory:" in given:
        raise ValueError("must be sqlite:///RELATIVE/PATH or sqlite:////ABSOLUTE/PATH")
    return given


def _is_number_or_text(value: object) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _as_value_error(check: Callable[[], object]) -> None:
    try:
        check()
    except Invalid as invalid:
        raise ValueError(invalid.errors[0].message) from invalid
