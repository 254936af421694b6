"""Reading the log: functions over a connection, inside a read transaction.

Reads never look at more rows than a named limit, so that a pattern that matches nothing cannot keep a thread busy: the
page says how far it looked, and the caller asks for the next.
"""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hookbrook.core.channel import matches_any
from hookbrook.core.cursor import Epochs
from hookbrook.core.delivery import State
from hookbrook.core.event import Event
from hookbrook.store.base import Page, Query
from hookbrook.store.sqlite import channels
from hookbrook.store.sqlite.channels import Name
from hookbrook.store.sqlite.packing import unpack
from hookbrook.store.sqlite.sql import sql

#: Seqs that one page of a scan looks at. Two thousand rows take a few milliseconds when they are in the page cache.
SCAN_ROWS = 2000
#: Bytes of one page; events may be a megabyte each, and pages are held in memory.
MAX_PAGE_BYTES = 4 * 1024 * 1024
#: Exact channels up to this many are read one index at a time; more are cheaper as a scan.
MAX_INDEXED_CHANNELS = 8


def meta(connection: sqlite3.Connection, name: str) -> int:
    """A number of the installation."""
    value: int = connection.execute(sql("get_meta"), (name,)).fetchone()[0]
    return value


def channels_of(home: str, more: str | None) -> tuple[str, ...]:
    return (home, *json.loads(more)) if more else (home,)


def event_of(row: Sequence[Any], epochs: Epochs) -> Event:
    """The event of a row of `EVENT_COLUMNS`."""
    seq, tenant, home, more, id_, type_, source, time, appended, content_type, kind, effect, merge, *content = row
    packed, request, data = content
    return Event(
        seq=seq,
        epoch=epochs.name_of(seq),
        id=id_,
        channels=channels_of(home, more),
        type=type_,
        tenant=tenant,
        source=source,
        time=time,
        appended=appended,
        content_type=content_type,
        kind=kind,
        data=unpack(data, packed) if data else b"",
        request=request,
        effect=effect or "",
        merge=merge or "",
    )


def _is_indexed(query: Query) -> bool:
    """Whether every channel is an exact name, so that the index by channel finds the events without a scan."""
    return query.owed is None and query.is_exact and len(query.channels) <= MAX_INDEXED_CHANNELS


def read(connection: sqlite3.Connection, query: Query, *, after: int, limit: int, epochs: Epochs) -> Page:
    """Forwards from `after`; see `Log.read`. Inside a read transaction."""
    oldest, tail = _ends(connection)
    after = max(after, oldest - 1)
    if _is_indexed(query):
        found, end = _indexed(connection, "read_channels", query, (after, tail + 1), limit), tail
    else:
        end = min(after + SCAN_ROWS, tail)
        found = _scan(connection, "scan", query, (after, end), limit)
    scanned_to = max(found.rows[-1][0] if found.cut else end, after)
    return Page(
        events=_events(connection, found, query, epochs),
        scanned_to=scanned_to,
        oldest=oldest,
        tail=tail,
        standing=channels.standing(connection, query, after=after),
    )


def read_back(
    connection: sqlite3.Connection, query: Query, *, before: int, limit: int, bare: bool, epochs: Epochs
) -> Page:
    """Backwards from `before`; see `Log.read_back`. Inside a read transaction."""
    oldest, tail = _ends(connection)
    before = max(min(before, tail + 1), oldest)
    if _is_indexed(query):
        name = "read_channels_back_bare" if bare else "read_channels_back"
        found, end = _indexed(connection, name, query, (oldest - 1, before), limit), oldest
    else:
        end = max(before - SCAN_ROWS, oldest)
        found = _scan(connection, "scan_back_bare" if bare else "scan_back", query, (before, end), limit)
    scanned_to = min(found.rows[-1][0] if found.cut else end, before)
    events = _events(connection, found, query, epochs)
    return Page(events=events, scanned_to=scanned_to, oldest=oldest, tail=tail)


def _ends(connection: sqlite3.Connection) -> tuple[int, int]:
    """Oldest and tail as of this snapshot."""
    return meta(connection, "oldest"), connection.execute(sql("last_seq")).fetchone()[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    rows: list[Any]
    #: A limit ended it, so there may be more between the last row and the end of what was asked for.
    cut: bool


def _take(rows: Iterable[Any], limit: int) -> _Found:
    """Rows up to the limits of number and bytes, at least one if there is one."""
    taken: list[Any] = []
    size = 0
    for row in rows:
        taken.append(row)
        packed, request, data = row[-3:]
        size += (packed or len(data or b"")) + len(request or b"")
        if len(taken) == limit or size >= MAX_PAGE_BYTES:
            return _Found(rows=taken, cut=True)
    return _Found(rows=taken, cut=False)


def _events(connection: sqlite3.Connection, found: _Found, query: Query, epochs: Epochs) -> list[Event]:
    """Those of the rows that match, on a channel on which they are still shown."""
    events = [event_of(row, epochs) for row in found.rows]
    floors: dict[Name, int] = {}
    if events and channels.highest_floor(connection) >= min(events[0].seq, events[-1].seq):
        floors = channels.floors_of(connection, ((event.tenant, name) for event in events for name in event.channels))
    return [
        event
        for event in events
        if query.tenant in (None, event.tenant)
        and query.source in (None, event.source)
        and matches_any(query.types, event.type)
        and channels.is_shown(event, query.channels, floors)
    ]


def _indexed(connection: sqlite3.Connection, name: str, query: Query, between: tuple[int, int], limit: int) -> _Found:
    """The first rows over all channels, each once. Rows of the wrong type count too: they were looked at."""
    low, high = between
    floors = channels.floors_of(connection, ((query.tenant or "", channel) for channel in query.channels))
    values = [
        value
        for channel in query.channels
        for value in (query.tenant, channel, max(low, floors.get((query.tenant or "", channel), 0)), high) * 2
    ]
    statement = sql(name).replace("{seqs}", " UNION ".join([sql("seqs_of_channel")] * len(query.channels)))
    return _take(connection.execute(statement, (*values, limit)), limit)


def _scan(connection: sqlite3.Connection, name: str, query: Query, between: tuple[int, int], limit: int) -> _Found:
    clauses: list[str] = ["data IS NOT NULL"]
    values: list[object] = []
    if query.tenant is not None:
        clauses.append("tenant = ?")
        values.append(query.tenant)
    if query.source is not None:
        clauses.append("source = ?")
        values.append(query.source)
    if query.owed is not None:
        clauses.append(_owed_filter(query.owed))
    if query.channels:
        homes, home_values = channels.pattern_filter("channel", query.channels)
        clauses.append(f"(more IS NOT NULL OR {homes})")
        values += home_values
    if query.types:
        types, type_values = channels.pattern_filter("type", query.types)
        clauses.append(types)
        values += type_values
    statement = sql(name).replace("{filter}", " AND ".join(clauses))
    return _take(connection.execute(statement, (*between, *values, limit)), limit)


def _owed_filter(states: Sequence[State]) -> str:
    listed = ", ".join(f"'{state.value}'" for state in states)
    return sql("owed_like_this").replace("{states}", listed) if states else sql("owed_to_nobody")


def seq_at(connection: sqlite3.Connection, time_us: int) -> int:
    """See `Log.seq_at`. Inside a read transaction."""
    oldest, tail = _ends(connection)
    return first_at(connection, time_us, oldest, tail + 1) - 1


def first_at(connection: sqlite3.Connection, time_us: int, low: int, high: int) -> int:
    """The first seq of `low` to `high` whose event, or the next there is, was appended at that time or later.

    Binary search over the primary key: `appended` never decreases, so it needs no index of its own.
    """
    while low < high:
        middle = (low + high) // 2
        row = connection.execute(sql("first_seq_from"), (middle,)).fetchone()
        if row is None or row[1] >= time_us:
            high = middle
        else:
            low = row[0] + 1
    return min(low, high)


def find(connection: sqlite3.Connection, tenant: str, event_id: str, epochs: Epochs) -> Event | None:
    """See `Log.event`. Inside a read transaction."""
    row = connection.execute(sql("event_published"), (tenant, event_id)).fetchone()
    row = row or connection.execute(sql("event_received"), (event_id, tenant)).fetchone()
    if row is None or row[0] < meta(connection, "oldest"):
        return None
    event = event_of(row, epochs)
    floors = channels.floors_of(connection, ((event.tenant, channel) for channel in event.channels))
    return event if any(floors.get((tenant, name), 0) < event.seq for name in event.channels) else None
