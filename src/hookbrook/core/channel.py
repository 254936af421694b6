"""Channel and type names, the patterns over them, and an index that answers which patterns match a name.

A name is 1 to 200 characters of `A-Za-z0-9._:@/-`. A pattern is an exact name, or a prefix followed by one trailing
`*`; the prefix is plain text and crosses dots (`orders.*` matches `orders.42.items`). Types follow the same rules.

Names that start with `hookbrook.` are reserved: nobody can publish them, and a pattern matches them only if it
starts with `hookbrook.` itself, so that `*` never shows a reader our own events by surprise.
"""

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from functools import lru_cache
from typing import Generic, TypeVar

from hookbrook.errors import Invalid

MAX_NAME_LENGTH = 200
#: An event that named hundreds of channels would make one append touch hundreds of index entries.
MAX_CHANNELS_PER_EVENT = 10
#: One stream's or endpoint's share of the index.
MAX_PATTERNS = 100

RESERVED = "hookbrook."
#: Where our own operational events stand.
OPERATIONS = "hookbrook.ops"
#: Where events stand that somebody made to try an endpoint, and their type unless they say another.
TRIALS = "hookbrook.test"
DEFAULT_TYPE = "message"

_NAME = re.compile(r"[A-Za-z0-9._:@/\-]{1,200}\Z")
_PATTERN = re.compile(r"[A-Za-z0-9._:@/\-]{0,200}\*?\Z")

T = TypeVar("T", bound=Hashable)


def check_name(field: str, value: str) -> str:
    """A name that may be published, or `Invalid` naming the field and the limit."""
    if len(value) > MAX_NAME_LENGTH or not _is_name(value):
        raise Invalid.of(field, f"must be 1 to {MAX_NAME_LENGTH} characters of A-Z a-z 0-9 . _ : @ / -")
    if value.startswith(RESERVED):
        raise Invalid.of(field, f"names that start with {RESERVED!r} are reserved")
    return value


@lru_cache(maxsize=4096)
def _is_name(value: str) -> bool:
    """Publishers use the same few names again and again, and a look-up costs a quarter of the match."""
    return _NAME.match(value) is not None


def check_channels(field: str, channels: Sequence[str]) -> tuple[str, ...]:
    """One to ten names without repeats; the first is the event's home."""
    if not 1 <= len(channels) <= MAX_CHANNELS_PER_EVENT:
        raise Invalid.of(field, f"must name 1 to {MAX_CHANNELS_PER_EVENT} channels")
    for name in channels:
        check_name(field, name)
    return tuple(dict.fromkeys(channels)) if len(channels) > 1 else (channels[0],)


def check_pattern(field: str, value: str) -> str:
    """A pattern that may be subscribed to; reserved names may be asked for."""
    if not value or len(value) > MAX_NAME_LENGTH or not _PATTERN.match(value):
        raise Invalid.of(
            field,
            f"must be 1 to {MAX_NAME_LENGTH} characters of A-Z a-z 0-9 . _ : @ / -, and may end with one *",
        )
    return value


def check_patterns(field: str, values: Sequence[str], *, limit: int = MAX_PATTERNS) -> tuple[str, ...]:
    """Checked patterns without repeats."""
    if len(values) > limit:
        raise Invalid.of(field, f"at most {limit} patterns, got {len(values)}")
    return tuple(dict.fromkeys(check_pattern(field, value) for value in values))


def matches(pattern: str, name: str) -> bool:
    """Whether the pattern matches the name."""
    if not pattern.endswith("*"):
        return pattern == name
    return name.startswith(pattern[:-1]) and (not name.startswith(RESERVED) or pattern.startswith(RESERVED))


def matches_any(patterns: Sequence[str], name: str) -> bool:
    """Whether one of the patterns matches; no patterns match every name that is not reserved."""
    if not patterns:
        return not name.startswith(RESERVED)
    return any(matches(pattern, name) for pattern in patterns)


def covers(granted: str, asked: str) -> bool:
    """Whether every name that `asked` matches is also matched by `granted`."""
    if not granted.endswith("*"):
        return granted == asked
    if not asked.startswith(granted[:-1]):
        return False
    # `*` covers `hook*`, and neither matches reserved names; only `hookbrook.…*` covers `hookbrook.…`.
    return not asked.startswith(RESERVED) or granted.startswith(RESERVED)


class PatternIndex(Generic[T]):
    """Items filed under patterns, found by name in time that does not depend on how many others are filed.

    Exact names are one dictionary look-up. Prefixes are looked up once per distinct prefix *length*, at most 200, since
    a name has one prefix of each length; a trie would walk the same characters in Python instead of in C.
    """

    def __init__(self) -> None:
        self._exact: dict[str, set[T]] = {}
        self._prefix: dict[str, set[T]] = {}
        #: How many prefixes there are of each length, and the lengths that occur, shortest first.
        self._of_length: Counter[int] = Counter()
        self._lengths: tuple[int, ...] = ()

    def add(self, pattern: str, item: T) -> None:
        if not pattern.endswith("*"):
            self._exact.setdefault(pattern, set()).add(item)
            return
        prefix = pattern[:-1]
        if prefix in self._prefix:
            self._prefix[prefix].add(item)
        else:
            self._prefix[prefix] = {item}
            self._count(len(prefix), 1)

    def discard(self, pattern: str, item: T) -> None:
        """Remove the item from under the pattern; nothing happens if it is not there."""
        table, key = (self._prefix, pattern[:-1]) if pattern.endswith("*") else (self._exact, pattern)
        items = table.get(key)
        if items is None:
            return
        items.discard(item)
        if not items:
            del table[key]
            if table is self._prefix:
                self._count(len(key), -1)

    def _count(self, length: int, change: int) -> None:
        before = self._of_length[length]
        self._of_length[length] = before + change
        if not (before and before + change):
            self._lengths = tuple(sorted(+self._of_length))

    def match(self, names: Iterable[str]) -> set[T]:
        """The items under any pattern that matches any of the names, each once."""
        found: set[T] = set()
        for name in names:
            exact = self._exact.get(name)
            if exact:
                found |= exact
            shortest = len(RESERVED) if name.startswith(RESERVED) else 0
            for length in self._lengths:
                if length > len(name):
                    break
                if length >= shortest and (items := self._prefix.get(name[:length])):
                    found |= items
        return found
