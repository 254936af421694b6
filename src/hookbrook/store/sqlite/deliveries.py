"""Deliveries and attempts as functions over a connection."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

import msgspec

from hookbrook.core.cursor import Epochs
from hookbrook.core.delivery import Attempt, Delivery, Happening, Outcome, State, after
from hookbrook.core.endpoint import Endpoint
from hookbrook.errors import Conflict, NotFound
from hookbrook.store.base import DeliveryQuery, Due
from hookbrook.store.sqlite.lines import Line, line_of, settle
from hookbrook.store.sqlite.reading import channels_of, event_of
from hookbrook.store.sqlite.sql import execute_rows, execute_values, sql

#: The states of the indexes `delivery_stuck` and `delivery_stuck_of`.
STUCK = (State.FAILED, State.HELD, State.CANCELLED)

_encoder = msgspec.json.Encoder()

#: The id, attempts that count, seq and line of a delivery that is due.
_DueRow = tuple[str, int, int, str | None]
_due_rows = msgspec.json.Decoder(list[_DueRow])


def due(
    connection: sqlite3.Connection,
    endpoint_id: str,
    *,
    now: int,
    first: int,
    retries: int,
    excluding: Sequence[str],
    epochs: Epochs,
) -> list[Due]:
    taken = set(excluding)
    wanted: list[_DueRow] = []
    for retried, limit in ((0, first), (1, retries)):
        if limit:
            found = connection.execute(sql("due_deliveries"), (endpoint_id, retried, now, limit + len(taken)))
            rows = _due_rows.decode(found.fetchone()[0])
            wanted += [row for row in rows if row[0] not in taken][:limit]
    rows_of_events = execute_values(connection, "events_by_seq", list({seq for _, _, seq, _ in wanted}))
    events = {row[0]: event_of(row, epochs) for row in rows_of_events}
    return [
        Due(delivery_id=id_, endpoint_id=endpoint_id, attempts=attempts, event=events[seq], line=line)
        for id_, attempts, seq, line in wanted
    ]


def next_due(connection: sqlite3.Connection) -> dict[str, int]:
    return dict(connection.execute(sql("next_due")).fetchall())


def next_due_of(connection: sqlite3.Connection, endpoint_id: str) -> int | None:
    time: int | None = connection.execute(sql("next_due_of"), (endpoint_id,)).fetchone()[0]
    return time


def record(
    connection: sqlite3.Connection, outcomes: Sequence[Outcome], *, now: int, failing: Mapping[str, int | None]
) -> None:
    """Insert the attempts and move their deliveries, in as few statements as there are chunks."""
    if failing:
        _note_failing(connection, failing)
    execute_rows(connection, "insert_attempts", [_attempt_row(outcome.attempt) for outcome in outcomes])
    moves = [_move(outcome, now) for outcome in outcomes]
    # One statement moves a delivery once; the rare one that has two outcomes is moved by one after the other.
    if len({delivery_id for delivery_id, *_ in moves}) == len(moves):
        moved = execute_rows(connection, "move_deliveries", moves)
    else:
        moved = [row for move in moves for row in execute_rows(connection, "move_deliveries", [move])]
    settle(connection, {Line(*row) for row in moved if row[1] is not None}, now=now)


def _note_failing(connection: sqlite3.Connection, changes: Mapping[str, int | None]) -> None:
    well = [endpoint_id for endpoint_id, since in changes.items() if since is None]
    execute_values(connection, "endpoints_well", well)
    failing = [(endpoint_id, since) for endpoint_id, since in changes.items() if since is not None]
    execute_rows(connection, "endpoints_failing", failing)


def failing_since(connection: sqlite3.Connection, endpoint_ids: Sequence[str] | None) -> dict[str, int]:
    if endpoint_ids is None:
        return dict(connection.execute(sql("failing_since")).fetchall())
    return dict(connection.execute(sql("failing_since_of"), (json.dumps(endpoint_ids),)).fetchall())


def forget_failing(connection: sqlite3.Connection, endpoint_id: str) -> None:
    execute_values(connection, "endpoints_well", [endpoint_id])


def _move(outcome: Outcome, now: int) -> tuple[object, ...]:
    attempt = outcome.attempt
    state = after(State.PENDING, outcome.happening)
    next_at = outcome.next_at if state is State.PENDING else None
    return (attempt.delivery_id, state.value, next_at, attempt.status, attempt.message, now)


def _attempt_row(attempt: Attempt) -> tuple[object, ...]:
    return (
        attempt.delivery_id,
        attempt.id,
        attempt.started,
        attempt.duration,
        attempt.resolve,
        attempt.connect,
        attempt.tls,
        attempt.wait,
        attempt.address,
        attempt.status,
        attempt.error,
        attempt.message,
        _encoder.encode(attempt.response_headers).decode(),
        attempt.response_body,
        int(attempt.truncated),
    )


def change(connection: sqlite3.Connection, delivery_id: str, happening: Happening, *, now: int) -> Delivery:
    delivery = find(connection, delivery_id)
    if delivery is None:
        raise NotFound(f"There is no delivery {delivery_id}.")
    before = delivery.state
    if happening is Happening.RESENT and _is_released(connection, delivery):
        before = after(before, Happening.RELEASED)
    state, line = after(before, happening), line_of(connection, delivery_id)
    if state is State.PENDING:
        state, line = _sendable(connection, delivery, state)
    connection.execute(
        sql("change_delivery"), (state.value, _due(state, now), now, happening is Happening.RESENT, line, delivery_id)
    )
    if line is not None:
        settle(connection, {Line(delivery.endpoint_id, line)}, now=now)
    changed = find(connection, delivery_id)
    assert changed is not None
    return changed


def _sendable(connection: sqlite3.Connection, delivery: Delivery, state: State) -> tuple[State, str | None]:
    """The state in which it waits to be sent, held if its endpoint is disabled, and its line. Raises `Conflict` if it
    never can be: it would wait for ever, and keep its event from being trimmed."""
    is_blank, channel = connection.execute(sql("is_blank"), (delivery.seq,)).fetchone()
    if is_blank:
        raise Conflict(f"The data of event {delivery.event_id} is no longer kept, so it cannot be sent again.")
    endpoint = _endpoint(connection, delivery.endpoint_id)
    if endpoint is None:
        raise Conflict(f"The endpoint {delivery.endpoint_id} was deleted.")
    return state if endpoint.enabled else after(state, Happening.HELD), endpoint.line_of(channel)


def _is_released(connection: sqlite3.Connection, delivery: Delivery) -> bool:
    """Whether it is held only because its endpoint, which was enabled, is owed so many that its turn is yet to come."""
    endpoint = _endpoint(connection, delivery.endpoint_id) if delivery.state is State.HELD else None
    return endpoint is not None and endpoint.enabled


def _endpoint(connection: sqlite3.Connection, endpoint_id: str) -> Endpoint | None:
    row = connection.execute(sql("endpoint_document"), (endpoint_id,)).fetchone()
    return None if row is None else msgspec.json.decode(row[0], type=Endpoint)


def _due(state: State, now: int) -> int | None:
    return now if state is State.PENDING else None


def find(connection: sqlite3.Connection, delivery_id: str) -> Delivery | None:
    statement = sql("find_deliveries").replace("{filter}", "d.id = ?").replace("{indexed}", "").replace("{order}", "")
    row = connection.execute(statement, (delivery_id, 1)).fetchone()
    return None if row is None else _delivery(row)


def search(connection: sqlite3.Connection, query: DeliveryQuery) -> list[Delivery]:
    """See the port. Each state is asked for by itself, so that an index finds the few of them among the many."""
    found = [row for state in query.states or (None,) for row in _search(connection, query, state)]
    found.sort(key=itemgetter(0), reverse=query.after_id is None)
    return [_delivery(row) for row in found[: query.limit]]


def _search(connection: sqlite3.Connection, query: DeliveryQuery, state: State | None) -> list[Any]:
    conditions: list[tuple[str, object]] = [
        ("d.tenant = ?", query.tenant),
        ("d.endpoint_id = ?", query.endpoint_id),
        ("e.id = ?", query.event_id),
        ("d.created >= ?", query.since),
        ("d.created < ?", query.until),
        ("d.id < ?", query.before_id),
        ("d.id > ?", query.after_id),
    ]
    given = [(clause, value) for clause, value in conditions if value is not None]
    clauses = [clause for clause, _ in given] or ["TRUE"]
    if state is not None:
        clauses.append(f"d.state = '{state.value}'")
    if state in STUCK:
        # The index's own condition; SQLite does not see that it follows.
        clauses.append("d.state IN ('failed', 'held', 'cancelled')")
    if query.event_id is not None:
        clauses.append(f"d.seq IN ({sql('seqs_of_event')})")
    extra = (query.event_id, query.event_id) if query.event_id is not None else ()
    statement = sql("find_deliveries").replace("{filter}", " AND ".join(clauses))
    statement = statement.replace("{indexed}", _index_for(query, state))
    statement = statement.replace("{order}", "DESC" if query.after_id is None else "ASC")
    return connection.execute(statement, (*(value for _, value in given), *extra, query.limit)).fetchall()


def owed(connection: sqlite3.Connection, seq: int, after_endpoint_id: str, limit: int) -> list[Delivery]:
    rows = connection.execute(sql("deliveries_of_event"), (seq, after_endpoint_id, limit))
    return [_delivery(row) for row in rows]


def counts(connection: sqlite3.Connection) -> dict[State, int]:
    return {State(state): number for state, number in connection.execute(sql("count_deliveries"))}


def _index_for(query: DeliveryQuery, state: State | None) -> str:
    """SQLite knows no numbers, and takes what it must then read past for as good as what leads to a few rows."""
    if query.event_id is not None or state not in (*STUCK, State.PENDING):
        return ""
    if state is State.PENDING:
        return "INDEXED BY delivery_pending" if query.endpoint_id is None else ""
    return "INDEXED BY delivery_stuck" if query.endpoint_id is None else "INDEXED BY delivery_stuck_of"


def _delivery(row: Sequence[Any]) -> Delivery:
    id_, tenant, seq, event_id, event_type, channel, more, endpoint_id, *rest = row
    state, attempts, next_at, created, updated, status, error = rest
    return Delivery(
        id=id_,
        tenant=tenant,
        seq=seq,
        event_id=event_id,
        event_type=event_type,
        channels=channels_of(channel, more),
        endpoint_id=endpoint_id,
        state=State(state),
        attempts=attempts,
        next_at=next_at,
        created=created,
        updated=updated,
        last_status=status,
        last_error=error,
    )


def attempts_of(connection: sqlite3.Connection, delivery_id: str) -> list[Attempt]:
    return [_attempt(row) for row in connection.execute(sql("attempts_of"), (delivery_id,))]


def _attempt(row: Sequence[Any]) -> Attempt:
    id_, delivery_id, started, duration, resolve, connect, tls, wait, *answer = row
    address, status, error, message, headers, body, truncated = answer
    return Attempt(
        id=id_,
        delivery_id=delivery_id,
        started=started,
        duration=duration,
        resolve=resolve,
        connect=connect,
        tls=tls,
        wait=wait,
        address=address,
        status=status,
        error=error,
        message=message,
        response_headers=tuple((name, value) for name, value in json.loads(headers)),
        response_body=body,
        truncated=bool(truncated),
    )
