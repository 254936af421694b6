"""Erasing: the data of single events, the data of events that are old enough, and whole tenants.

An event whose data was erased stays where it was: readers see that something stood there, its id is still recognised,
and only what it said is gone, also from what receivers answered. A tenant goes altogether, row by row, and its channels
are marked as deleted up to where they reached, so that a reader of long ago is told.

What is overwritten here is overwritten on the disk as well (`secure_delete`), once the write-ahead log was moved into
the database.
"""

import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec

from hookbrook.core.delivery import Happening, State, after
from hookbrook.core.job import Job, JobState
from hookbrook.store.base import Advanced, Erased, Expired
from hookbrook.store.sqlite import registry
from hookbrook.store.sqlite.channels import names_of
from hookbrook.store.sqlite.lines import Line, settle
from hookbrook.store.sqlite.log import Log
from hookbrook.store.sqlite.reading import first_at
from hookbrook.store.sqlite.sql import execute_rows, execute_values, sql

#: Why a delivery was cancelled, for people.
ERASED = "The event's data was erased."
#: What belongs to events, in the order in which it goes.
_BELONGINGS = ("delete_attempts", "delete_deliveries", "delete_event_channels", "unpin", "forget_bodies")


def erase(connection: sqlite3.Connection, tenant: str, event_id: str, *, now: int) -> Erased | None:
    """See `Log.erase`. Inside a transaction."""
    row = connection.execute(sql("event_published"), (tenant, event_id)).fetchone()
    row = row or connection.execute(sql("event_received"), (event_id, tenant)).fetchone()
    if row is None:
        return None
    seq: int = row[0]
    _erase_data(connection, [seq])
    # An exact fingerprint of what is gone would let anybody try out what it was.
    connection.execute(sql("forget_digest"), (seq,))
    cancelled = after(State.PENDING, Happening.CANCELLED)
    rows = connection.execute(sql("cancel_owed"), (cancelled, now, ERASED, seq)).fetchall()
    settle(connection, {Line(endpoint_id, line) for _, endpoint_id, line in rows if line is not None}, now=now)
    return Erased(seq=seq, cancelled=[(endpoint_id, delivery_id) for delivery_id, endpoint_id, _ in rows])


def _erase_data(connection: sqlite3.Connection, seqs: Sequence[int]) -> None:
    execute_values(connection, "erase_events", seqs)
    execute_values(connection, "erase_answers", seqs)


class Expirer:
    """Runs in the writer thread. Two walks, as in `trimming`: one over the events that become too old, and one over
    those that were still owed when they did."""

    def __init__(self, log: Log) -> None:
        self._log = log
        #: Where the second walk goes on.
        self._looked_at = 0

    def step(self, connection: sqlite3.Connection, *, appended_before: int, limit: int) -> Expired:
        """See `Log.expire`."""
        state = self._log.state
        start = max(connection.execute(sql("get_meta"), ("bodies",)).fetchone()[0], state.oldest - 1)
        end = min(first_at(connection, appended_before, start + 1, state.tail + 1) - 1, start + limit)
        if end > start:
            connection.execute(sql("note_late_bodies"), (start, end))
            fresh = [seq for (seq,) in connection.execute(sql("bodies_between"), (start, end))]
            _erase_data(connection, fresh)
            connection.execute(sql("put_meta"), ("bodies", end))
        late = self._late(connection, limit)
        return Expired(done=max(end - start, late), up_to=end)

    def _late(self, connection: sqlite3.Connection, limit: int) -> int:
        rows = connection.execute(sql("late_bodies_after"), (self._looked_at, limit)).fetchall()
        free = [seq for seq, is_owed in rows if not is_owed]
        _erase_data(connection, free)
        execute_values(connection, "forget_bodies", free)
        self._looked_at = rows[-1][0] if len(rows) == limit else 0
        return len(free)


def erase_tenant(connection: sqlite3.Connection, job: Job, *, limit: int, now: int) -> Advanced:
    """See `Jobs.erase`. Inside a transaction that is undone if this raises."""
    rows = connection.execute(sql("events_of_tenant"), (job.tenant, job.end, limit)).fetchall()
    _mark_deleted(connection, rows)
    seqs = [row[0] for row in rows]
    for statement in (*_BELONGINGS, "delete_events"):
        execute_values(connection, statement, seqs)
    state = JobState.RUNNING
    if len(rows) < limit:
        connection.execute(sql("delete_records_of_tenant"), (job.tenant, job.id))
        state = JobState.DONE
    count = len(rows)
    saved = msgspec.structs.replace(job, state=state, looked_at=job.looked_at + count, sent=job.sent + count)
    registry.save(connection, saved, now=now)
    return Advanced(job=saved)


def _mark_deleted(connection: sqlite3.Connection, rows: Sequence[Sequence[Any]]) -> None:
    newest: dict[tuple[str, str], int] = {}
    for row in rows:
        for name in names_of(row):
            newest[name] = max(row[0], newest.get(name, 0))
    execute_rows(connection, "mark_deleted", [(*name, seq) for name, seq in newest.items()])
    if newest:
        connection.execute(sql("count_loss"))
