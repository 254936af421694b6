"""The log as functions over a connection: merged appends for the writer, and reads.

Reads never look at more rows than a named limit, so that a pattern that matches nothing cannot keep a thread busy: the
page says how far it looked, and the caller asks for the next.
"""

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import msgspec

from hookbrook.core.channel import matches_any
from hookbrook.core.cursor import Epoch, Epochs
from hookbrook.core.delivery import NewDelivery, State
from hookbrook.core.event import Appended, Event, NewEvent
from hookbrook.store.base import BatchConflict, ChannelClosed, IdConflict, Page, Query, StaleRouting
from hookbrook.store.sqlite import channels
from hookbrook.store.sqlite.channels import Name
from hookbrook.store.sqlite.lines import Line, line_up
from hookbrook.store.sqlite.sql import Row, execute_rows, sql
from hookbrook.store.sqlite.writer import AppendJob

#: Seqs that one page of a scan looks at. Two thousand rows take a few milliseconds when they are in the page cache.
SCAN_ROWS = 2000
#: Bytes of one page; events may be a megabyte each, and pages are held in memory.
MAX_PAGE_BYTES = 4 * 1024 * 1024
#: Exact channels up to this many are read one index at a time; more are cheaper as a scan.
MAX_INDEXED_CHANNELS = 8

Key = tuple[str, str, str]


class Batch(msgspec.Struct, kw_only=True, gc=False):
    """One call of `append`. A Struct, because one is made for every publish, and a frozen dataclass costs 1 µs more."""

    events: Sequence[NewEvent]
    owed: Sequence[Sequence[NewDelivery]]
    routing_version: int


@dataclass(slots=True, kw_only=True)
class LogState:
    """What the writer remembers between transactions, so that an append need not ask the database."""

    epochs: Epochs
    epoch: str
    tail: int
    #: The watermark: the oldest event that readers may see.
    oldest: int
    #: When the event before the watermark was appended; 0 if there never was one.
    trimmed: int
    #: The newest `appended`: later events are never stamped earlier, whatever the clock does.
    appended: int
    routing_version: int
    #: No channel has lost anything of its own after this seq.
    floor: int = 0
    #: Whether any channel was ever closed; as long as none was, appends need not ask.
    closings: bool = False
    #: Where trimming goes on: among the pinned events, and among the rows without data.
    looked_at: int = 0
    forgotten: int = 0
    #: Where sweeping goes on: among the newest events, those that age (by rule), and the rows above the watermark.
    counted: int = 0
    aged: Mapping[str, int] = field(default_factory=dict)
    blanked: int = 0


def load_state(connection: sqlite3.Connection, *, new_epoch: str, now: int) -> LogState:
    """Open a new epoch and read where the log stands."""
    tail: int = connection.execute(sql("last_seq")).fetchone()[0]
    connection.execute(sql("open_epoch"), (new_epoch, tail + 1, now))
    epochs = Epochs([Epoch(name, first) for name, first in connection.execute(sql("epochs"))])
    trimmed = _meta(connection, "trimmed")
    return LogState(
        epochs=epochs,
        epoch=new_epoch,
        tail=tail,
        oldest=_meta(connection, "oldest"),
        trimmed=trimmed,
        appended=max(trimmed, connection.execute(sql("last_appended")).fetchone()[0]),
        routing_version=_meta(connection, "routing_version"),
        floor=channels.highest_floor(connection),
        closings=channels.has_closings(connection),
    )


def _meta(connection: sqlite3.Connection, name: str) -> int:
    value: int = connection.execute(sql("get_meta"), (name,)).fetchone()[0]
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Where the log begins, as of the last commit; see `LogState`."""

    oldest: int
    trimmed: int
    floor: int
    closings: bool


def _kept(state: LogState) -> Kept:
    return Kept(oldest=state.oldest, trimmed=state.trimmed, floor=state.floor, closings=state.closings)


class Log:
    """The writer's side: its memory, and the merging of appends."""

    def __init__(self, state: LogState, clock: Callable[[], int]) -> None:
        self.state = state
        #: For other threads, which must not see what may yet be undone.
        self.kept = _kept(state)
        self._before = state
        self._clock = clock

    def begin(self) -> None:
        self._before = replace(self.state)

    def committed(self) -> None:
        state, kept = self.state, self.kept
        if state.oldest != kept.oldest or state.floor != kept.floor or state.closings != kept.closings:
            self.kept = _kept(state)

    def rolled_back(self) -> None:
        self.state = self._before

    def merge(self, connection: sqlite3.Connection, jobs: Sequence[AppendJob]) -> list[Event]:
        """Append the batches of many callers in a few statements. Sets each job's result or error."""
        current = [job for job in jobs if not self._is_stale(job)]
        now = max(self._clock(), self.state.appended)
        seen = _find_seen(connection, chain.from_iterable(job.batch.events for job in current), now)
        rows = _Rows(self.state, wall=self._clock(), closed=self._closed(connection, current))
        for job in current:
            try:
                job.result = rows.add(job.batch, seen)
            except BatchConflict as exc:
                job.error = exc
        rows.insert(connection)
        for event in rows.effects:
            channels.carry_out(connection, event)
            if event.effect == "delete":
                self.state.floor = event.seq
            self.state.closings = True
        self.state.tail = rows.tail
        self.state.appended = rows.now
        return rows.appended

    def _closed(self, connection: sqlite3.Connection, jobs: Sequence[AppendJob]) -> set[Name]:
        if not self.state.closings:
            return set()
        events = chain.from_iterable(job.batch.events for job in jobs)
        return channels.closed_among(connection, ((event.tenant, name) for event in events for name in event.channels))

    def _is_stale(self, job: AppendJob) -> bool:
        if job.batch.routing_version == self.state.routing_version:
            return False
        job.error = StaleRouting("The endpoints have changed since this event was matched with them.")
        return True


def _key(event: NewEvent) -> Key:
    return (event.tenant, event.scope, event.dedupe_id)


def _find_seen(
    connection: sqlite3.Connection, events: Iterable[NewEvent], now: int
) -> dict[Key, tuple[int, str, bytes]]:
    """(tenant, scope, dedupe) -> (seq, id, digest) of those that the log has, and that count as known at `now`."""
    wanted = {_key(event): event.window_us for event in events if not event.fresh}
    seen = {}
    for tenant, scope, dedupe, seq, id_, digest, appended in execute_rows(connection, "find_seen", list(wanted)):
        window = wanted[tenant, scope, dedupe]
        if window is not None and appended + window < now:
            # The id is given free, because it is unique; an id never has this character.
            connection.execute(sql("release_seen"), (seq,))
        else:
            seen[tenant, scope, dedupe] = (seq, id_, digest)
    return seen


class _Rows:
    """Rows of one transaction's appends, numbered as they are added."""

    def __init__(self, state: LogState, *, wall: int, closed: set[Name]) -> None:
        #: What the events are stamped with; never goes back.
        self.now = max(wall, state.appended)
        #: Deliveries are due by the clock that is asked whether they are: after it was set back, they would wait.
        self._wall = wall
        self.epoch = state.epoch
        self.tail = state.tail
        self._epochs = state.epochs
        self.appended: list[Event] = []
        #: Those of them that do something to their channels.
        self.effects: list[Event] = []
        #: Channels that are closed, by the log or by what was added.
        self._closed = closed
        self._events: list[Row] = []
        self._channels: list[Row] = []
        self._deliveries: list[Row] = []
        self._lines: set[Line] = set()

    def add(self, batch: Batch, seen: dict[Key, tuple[int, str, bytes]]) -> list[Appended]:
        """All events of the batch, or none of them: raises `BatchConflict` and leaves everything as it was."""
        if len(batch.events) == 1 and batch.events[0].fresh and not self._closed and not batch.events[0].effect:
            # Nothing can speak against it, and most appends are such.
            return [self._add_fresh(batch.events[0], batch.owed[0], seen)]
        results, fresh, self._closed = self._judge(batch, seen)
        for event, deliveries, seq in fresh:
            seen[_key(event)] = (seq, event.id, event.digest)
            self._add_event(event, seq)
            for delivery in deliveries:
                self._add_delivery(delivery, event.tenant, seq)
        self.tail += len(fresh)
        return results

    def _add_fresh(
        self, event: NewEvent, owed: Sequence[NewDelivery], seen: dict[Key, tuple[int, str, bytes]]
    ) -> Appended:
        self.tail = seq = self.tail + 1
        seen[_key(event)] = (seq, event.id, event.digest)
        self._add_event(event, seq)
        for delivery in owed:
            self._add_delivery(delivery, event.tenant, seq)
        return Appended(id=event.id, seq=seq, epoch=self.epoch)

    def _judge(
        self, batch: Batch, seen: dict[Key, tuple[int, str, bytes]]
    ) -> tuple[list[Appended], list[tuple[NewEvent, Sequence[NewDelivery], int]], set[Name]]:
        results: list[Appended] = []
        fresh: list[tuple[NewEvent, Sequence[NewDelivery], int]] = []
        within: dict[Key, tuple[int, str, bytes]] = {}
        closed = self._closed
        for index, (event, deliveries) in enumerate(zip(batch.events, batch.owed, strict=True)):
            key = _key(event)
            first = seen.get(key) or within.get(key)
            if first is None:
                seq = self.tail + len(fresh) + 1
                if closed or event.effect:
                    closed = _judge_channels(event, index, closed)
                within[key] = (seq, event.id, event.digest)
                fresh.append((event, deliveries, seq))
                results.append(Appended(id=event.id, seq=seq, epoch=self.epoch))
                continue
            seq, first_id, digest = first
            if digest and event.digest and digest != event.digest:
                raise IdConflict(index, event.id)
            results.append(Appended(id=first_id, seq=seq, epoch=self._epochs.name_of(seq), duplicate=True))
        return results, fresh, closed

    def _add_event(self, event: NewEvent, seq: int) -> None:
        home, *others = event.channels
        self._events.append(
            (
                seq,
                event.tenant,
                home,
                json.dumps(others) if others else None,
                event.id,
                event.type,
                event.source,
                event.time,
                self.now,
                event.content_type,
                event.kind,
                event.scope,
                event.dedupe_id,
                event.digest,
                event.request,
                event.data,
                event.effect or None,
                event.merge or None,
            )
        )
        self._channels += [(event.tenant, channel, seq) for channel in others]
        self.appended.append(
            Event(
                seq=seq,
                epoch=self.epoch,
                id=event.id,
                channels=event.channels,
                type=event.type,
                tenant=event.tenant,
                source=event.source,
                time=event.time,
                appended=self.now,
                content_type=event.content_type,
                kind=event.kind,
                data=event.data,
                request=event.request,
                effect=event.effect,
                merge=event.merge,
            )
        )
        if event.effect:
            self.effects.append(self.appended[-1])

    def _add_delivery(self, delivery: NewDelivery, tenant: str, seq: int) -> None:
        state, line = _first_state(delivery), delivery.line
        due = self._wall if state is State.PENDING and line is None else None
        if line is not None:
            self._lines.add(Line(delivery.endpoint_id, line))
        self._deliveries.append(
            (
                *(delivery.id, tenant, seq, delivery.endpoint_id, line, state.value, 0, due),
                *(self._wall, self._wall, delivery.failed),
            )
        )

    def insert(self, connection: sqlite3.Connection) -> None:
        execute_rows(connection, "insert_events", self._events)
        execute_rows(connection, "insert_event_channels", self._channels)
        execute_rows(connection, "insert_deliveries", self._deliveries)
        line_up(connection, self._lines, now=self._wall)


def _judge_channels(event: NewEvent, index: int, closed: set[Name]) -> set[Name]:
    """Which channels are closed once the event has been added; raises `ChannelClosed` if it cannot be."""
    names = {(event.tenant, channel) for channel in event.channels}
    if event.effect == "delete":
        return closed - names
    for channel in event.channels:
        if (event.tenant, channel) in closed:
            raise ChannelClosed(index, channel)
    return closed | names if event.effect == "close" else closed


def _first_state(delivery: NewDelivery) -> State:
    if delivery.failed is not None:
        return State.FAILED
    return State.HELD if delivery.held else State.PENDING


def channels_of(home: str, more: str | None) -> tuple[str, ...]:
    return (home, *json.loads(more)) if more else (home,)


def event_of(row: Sequence[Any], epochs: Epochs) -> Event:
    """The event of a row of `EVENT_COLUMNS`."""
    seq, tenant, home, more, id_, type_, source, time, appended, content_type, kind, effect, merge, request, data = row
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
        data=data if data is not None else b"",
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


def read_back(connection: sqlite3.Connection, query: Query, *, before: int, limit: int, epochs: Epochs) -> Page:
    """Backwards from `before`; see `Log.read_back`. Inside a read transaction."""
    oldest, tail = _ends(connection)
    before = max(min(before, tail + 1), oldest)
    if _is_indexed(query):
        found, end = _indexed(connection, "read_channels_back", query, (oldest - 1, before), limit), oldest
    else:
        end = max(before - SCAN_ROWS, oldest)
        found = _scan(connection, "scan_back", query, (before, end), limit)
    scanned_to = min(found.rows[-1][0] if found.cut else end, before)
    events = _events(connection, found, query, epochs)
    return Page(events=events, scanned_to=scanned_to, oldest=oldest, tail=tail)


def _ends(connection: sqlite3.Connection) -> tuple[int, int]:
    """Oldest and tail as of this snapshot."""
    return _meta(connection, "oldest"), connection.execute(sql("last_seq")).fetchone()[0]


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
        size += len(row[-1] or b"") + len(row[-2] or b"")
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
    if row is None or row[0] < _meta(connection, "oldest"):
        return None
    event = event_of(row, epochs)
    floors = channels.floors_of(connection, ((event.tenant, channel) for channel in event.channels))
    return event if any(floors.get((tenant, name), 0) < event.seq for name in event.channels) else None
