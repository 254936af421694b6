"""Appending to the log: what the writer remembers, and the merging of many appends into few statements."""

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import chain

import msgspec

from hookbrook.core.cursor import Epoch, Epochs
from hookbrook.core.delivery import NewDelivery, State
from hookbrook.core.event import Appended, Event, NewEvent
from hookbrook.errors import BatchConflict, ChannelClosed, IdConflict, StaleRouting
from hookbrook.store.sqlite import channels
from hookbrook.store.sqlite.channels import Name
from hookbrook.store.sqlite.lines import Line, line_up
from hookbrook.store.sqlite.packing import pack
from hookbrook.store.sqlite.reading import meta
from hookbrook.store.sqlite.sql import Row, execute_rows, sql
from hookbrook.store.sqlite.writer import AppendJob

Key = tuple[str, str, str]
#: An event, what it owes, and its seq.
Numbered = tuple[NewEvent, Sequence[NewDelivery], int]


class Batch(msgspec.Struct, kw_only=True, gc=False):
    """One call of `append`. A Struct, because one is made for every publish, and a frozen dataclass costs 1 µs more."""

    events: Sequence[NewEvent]
    owed: Sequence[Sequence[NewDelivery]]
    routing_version: int


class LogState(msgspec.Struct, kw_only=True):
    """What the writer remembers between transactions, so that an append need not ask the database.

    A Struct, because it is copied for each of them.
    """

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
    aged: Mapping[str, int] = msgspec.field(default_factory=dict)
    blanked: int = 0


def load_state(connection: sqlite3.Connection, *, new_epoch: str, now: int) -> LogState:
    """Open a new epoch and read where the log stands."""
    tail: int = connection.execute(sql("last_seq")).fetchone()[0]
    connection.execute(sql("open_epoch"), (new_epoch, tail + 1, now))
    epochs = Epochs([Epoch(name, first) for name, first in connection.execute(sql("epochs"))])
    trimmed = meta(connection, "trimmed")
    return LogState(
        epochs=epochs,
        epoch=new_epoch,
        tail=tail,
        oldest=meta(connection, "oldest"),
        trimmed=trimmed,
        appended=max(trimmed, connection.execute(sql("last_appended")).fetchone()[0]),
        routing_version=meta(connection, "routing_version"),
        floor=channels.highest_floor(connection),
        closings=channels.has_closings(connection),
    )


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
        self._before = copy(self.state)

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
        if self._closed or not all(event.fresh and not event.effect for event in batch.events):
            results, fresh, self._closed = self._judge(batch, seen)
        else:
            # Nothing can speak against them, and most appends are such.
            results, fresh = self._number(batch)
        for event, deliveries, seq in fresh:
            seen[_key(event)] = (seq, event.id, event.digest)
            self._add_event(event, seq)
            for delivery in deliveries:
                self._add_delivery(delivery, event.tenant, seq)
        self.tail += len(fresh)
        return results

    def _number(self, batch: Batch) -> tuple[list[Appended], list[Numbered]]:
        seqs = range(self.tail + 1, self.tail + 1 + len(batch.events))
        epoch = self.epoch
        results = [Appended(id=event.id, seq=seq, epoch=epoch) for event, seq in zip(batch.events, seqs, strict=True)]
        return results, list(zip(batch.events, batch.owed, seqs, strict=True))

    def _judge(
        self, batch: Batch, seen: dict[Key, tuple[int, str, bytes]]
    ) -> tuple[list[Appended], list[Numbered], set[Name]]:
        results: list[Appended] = []
        fresh: list[Numbered] = []
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
        data, packed = pack(event.data)
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
                data,
                packed,
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
    if event.source is not None:
        # A provider knows nothing of our channels, and what it sends is not lost for one that somebody has closed.
        return closed
    for channel in event.channels:
        if (event.tenant, channel) in closed:
            raise ChannelClosed(index, channel)
    return closed | names if event.effect == "close" else closed


def _first_state(delivery: NewDelivery) -> State:
    if delivery.failed is not None:
        return State.FAILED
    return State.HELD if delivery.held else State.PENDING
