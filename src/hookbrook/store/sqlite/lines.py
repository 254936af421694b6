"""Lines: deliveries of which each waits until the one before it has ended.

A line is named by its endpoint and a text (`Endpoint.line_of`), and its order is that of the log. The first of a line
that is pending has a time at which it is due; those behind it have none, so that whoever asks what is due never meets
them. Whatever may change who is first calls `settle` in the same transaction. What was given up or cancelled is no
longer pending, and so holds up nobody.
"""

import sqlite3
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from hookbrook.core.endpoint import Ordering
from hookbrook.store.sqlite.sql import execute_rows, sql


class Line(NamedTuple):
    endpoint_id: str
    name: str


def line_of(connection: sqlite3.Connection, delivery_id: str) -> str | None:
    line: str | None = connection.execute(sql("line_of"), (delivery_id,)).fetchone()[0]
    return line


def waits_for(connection: sqlite3.Connection, delivery_id: str) -> str | None:
    row = connection.execute(sql("waits_for"), (delivery_id,)).fetchone()
    return None if row is None else row[0]


def line_up(connection: sqlite3.Connection, lines: AbstractSet[Line], *, now: int) -> None:
    """Something came to the end of these lines, or the first of them has ended."""
    execute_rows(connection, "line_up", [(*line, now) for line in lines])


def settle(connection: sqlite3.Connection, lines: AbstractSet[Line], *, now: int) -> None:
    """Anything may have changed in these lines: one that was sent again stands before all that came after it."""
    execute_rows(connection, "step_back", list(lines))
    line_up(connection, lines, now=now)


def line_up_endpoint(connection: sqlite3.Connection, endpoint_id: str, *, now: int) -> None:
    """All that the endpoint is owed has become pending."""
    connection.execute(sql("line_up_endpoint"), (endpoint_id, now))


def change_lines(connection: sqlite3.Connection, endpoint_id: str, ordering: Ordering, *, now: int) -> None:
    """The endpoint asks for another order, also of what it is owed already."""
    connection.execute(sql("change_lines"), (endpoint_id, ordering, now))
    line_up_endpoint(connection, endpoint_id, now=now)
