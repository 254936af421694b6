"""The pieces of jobs as functions over a connection: what a piece changes, and how far the job got, at once."""

import json
import sqlite3
from collections.abc import Sequence

import msgspec

from hookbrook.core.delivery import Happening, NewDelivery, State, after
from hookbrook.store.base import Advanced, Piece
from hookbrook.store.sqlite import registry
from hookbrook.store.sqlite.lines import Line, settle
from hookbrook.store.sqlite.sql import execute_rows, sql


def advance(connection: sqlite3.Connection, piece: Piece, *, now: int) -> Advanced:
    """See `Jobs.advance`. Inside a transaction that is undone if this raises."""
    connection.execute("SAVEPOINT piece")
    due = _resend(connection, piece, now) if piece.resend else []
    due += _owe(connection, piece, now) if piece.owe else []
    settle(connection, {line for line in due if line.name is not None}, now=now)
    if piece.job.dry_run:
        connection.execute("ROLLBACK TO piece")
    connection.execute("RELEASE piece")
    skipped = len(piece.resend) + len(piece.owe) - len(due)
    job = msgspec.structs.replace(piece.job, sent=piece.job.sent + len(due), skipped=piece.job.skipped + skipped)
    registry.save(connection, job, now=now)
    return Advanced(job=job, endpoints=frozenset() if job.dry_run else frozenset(line.endpoint_id for line in due))


def _resend(connection: sqlite3.Connection, piece: Piece, now: int) -> list[Line]:
    """The endpoint and line of each delivery that is due again; a line without a name is none."""
    return _again(
        connection, "delivery.id IN (SELECT value FROM json_each(?))", (json.dumps(piece.resend),), piece.states, now
    )


def _again(
    connection: sqlite3.Connection, which: str, values: Sequence[object], states: Sequence[State], now: int
) -> list[Line]:
    # What has ended is pending once it is resent, whichever end that was.
    pending = after(State.FAILED, Happening.RESENT)
    statement = sql("resend_deliveries").replace("{which}", which)
    parameters = (pending, after(pending, Happening.HELD), now, now, *values, json.dumps(states))
    return [Line(*row) for row in connection.execute(statement, parameters)]


def _owe(connection: sqlite3.Connection, piece: Piece, now: int) -> list[Line]:
    """Likewise, for deliveries that are made now where the endpoint has none of the event."""
    endpoint_id = piece.job.endpoint_id
    seqs = json.dumps([seq for seq, _ in piece.owe])
    which = "endpoint_id = ? AND delivery.seq IN (SELECT value FROM json_each(?))"
    again = _again(connection, which, (endpoint_id, seqs), piece.states, now) if piece.states else []
    made = execute_rows(connection, "owe_deliveries", [_row(seq, each, now) for seq, each in piece.owe])
    return again + [Line(*row) for row in made]


def _row(seq: int, delivery: NewDelivery, now: int) -> tuple[object, ...]:
    return (delivery.id, seq, delivery.endpoint_id, State.PENDING.value, State.HELD.value, now)
