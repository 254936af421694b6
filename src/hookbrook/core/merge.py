"""Merging: neighbouring pieces of one text, shown as one event.

A model's reply is published word by word, each event with the same `merge` key. Whoever watches live sees it word by
word; whoever comes back in the middle need not get four thousand events to see what one could say. The merged event has
the text of all in order, and everything else of the last: its id, its time, its cursor.

What is merged must read exactly as if it had come apart. So only text merges with text, and a JSON string with a JSON
string, of the same key, channels, type and content type; and not where a border would change the meaning: between CR
and LF, which a stream would make one line end of, and within a surrogate pair, which is two escapes in JSON.
"""

import re
from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from hookbrook.core.event import Event
from hookbrook.errors import Invalid

#: A key names one text, as an id names one event.
MAX_KEY_LENGTH = 200
#: Data of one merged event. It is built in memory for one reader, and a client shows it at once.
MAX_MERGED_BYTES = 64 * 1024

#: Data that adds nothing.
_NO_TEXT = (b"", b'""')
#: A JSON string that ends with the first half of a surrogate pair.
_HALF = re.compile(rb'\\u[dD][89abAB][0-9a-fA-F]{2}"\Z')


def check_merge(field: str, value: str) -> str:
    """The key that a publisher chose, or `Invalid`."""
    if not 1 <= len(value) <= MAX_KEY_LENGTH or not value.isprintable():
        raise Invalid.of(field, f"must have 1 to {MAX_KEY_LENGTH} printable characters")
    return value


def merged(events: Iterable[Event]) -> Iterator[Event]:
    """The events in order, neighbours joined where they may be; one that stays alone is the same object."""
    run: list[Event] = []
    # How the text of the run ends; its last event may have none.
    end, size = b"", 0
    for event in events:
        if run and not (size + len(event.data) <= MAX_MERGED_BYTES and _may_follow(run[-1], end, event)):
            yield _joined(run)
            run, end, size = [], b"", 0
        run.append(event)
        end = event.data if event.data not in _NO_TEXT else end
        size += len(event.data)
    if run:
        yield _joined(run)


def _may_follow(first: Event, end: bytes, second: Event) -> bool:
    return (
        first.merge != ""
        and first.merge == second.merge
        and first.effect == ""
        and _label(first) == _label(second)
        and _has_clean_border(first, end, second)
    )


def _label(event: Event) -> tuple[object, ...]:
    return (event.kind, event.type, event.channels, event.content_type, event.tenant, event.source)


def _has_clean_border(first: Event, end: bytes, second: Event) -> bool:
    if first.kind == "text":
        return not (end.endswith(b"\r") and second.data.startswith(b"\n"))
    return first.kind == "json" and _is_string(first.data) and _is_string(second.data) and not _HALF.search(end)


def _is_string(data: bytes) -> bool:
    # Data of this kind is JSON already, so a quote at either end makes it a string.
    return data.startswith(b'"') and data.endswith(b'"')


def _joined(run: list[Event]) -> Event:
    if len(run) == 1:
        return run[0]
    last = run[-1]
    if last.kind == "text":
        data = b"".join(event.data for event in run)
    else:
        data = b'"%b"' % b"".join(event.data[1:-1] for event in run)
    return replace(last, data=data, request=None)
