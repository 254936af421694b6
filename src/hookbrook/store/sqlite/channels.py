"""What is known of channels beside their events: which are closed, and up to where their events are gone.

Events of a channel up to its *floor* are no longer shown on it, though the log as a whole may reach further back: a
rule of retention has raised the floor, or somebody deleted the channel. Raising it is one row, whatever lies below; the
data goes later, a little at a time (`sweeping`).
"""

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hookbrook.core.channel import matches_any
from hookbrook.core.event import Event
from hookbrook.store.base import Lost, Query, Standing
from hookbrook.store.sqlite.sql import execute_rows, sql

#: A tenant and a channel's name.
Name = tuple[str, str]


def names_of(row: Sequence[Any]) -> list[Name]:
    """The channels of a row of (seq, tenant, channel, more, …)."""
    _, tenant, home, more = row[:4]
    return [(tenant, home), *((tenant, name) for name in json.loads(more))] if more else [(tenant, home)]


def standing(connection: sqlite3.Connection, query: Query, *, after: int) -> Standing:
    """See `Log.standing`. Inside a read transaction."""
    if query.is_exact:
        return _of_names(connection, query, after)
    return Standing(lost=_newest_loss(connection, query, after), losses=_losses(connection))


def _of_names(connection: sqlite3.Connection, query: Query, after: int) -> Standing:
    rows = execute_rows(connection, "find_channels", [(query.tenant, name) for name in query.channels])
    losses = [Lost(seq=floor, why=why) for _, _, _, floor, why in rows if floor > after]
    return Standing(
        closed={name: closed for _, name, closed, _, _ in rows if closed is not None},
        lost=max(losses, key=lambda lost: lost.seq, default=None),
        losses=_losses(connection),
    )


def _losses(connection: sqlite3.Connection) -> int:
    row = connection.execute(sql("get_meta"), ("losses",)).fetchone()
    return row[0] if row else 0


def _newest_loss(connection: sqlite3.Connection, query: Query, after: int) -> Lost | None:
    """Over all channels that the query matches. From the highest floor downwards, so that it stops at the first."""
    clauses, values = ["TRUE"], list[object]()
    if query.tenant is not None:
        clauses, values = ["tenant = ?"], [query.tenant]
    if query.channels:
        names, more = pattern_filter("name", query.channels)
        clauses, values = [*clauses, names], [*values, *more]
    statement = sql("floors_above").replace("{filter}", " AND ".join(clauses))
    for name, floor, why in connection.execute(statement, (after, *values)):
        if matches_any(query.channels, name):
            return Lost(seq=floor, why=why)
    return None


def pattern_filter(column: str, patterns: Sequence[str]) -> tuple[str, list[object]]:
    """SQL that is true at least where a pattern matches; the exact rule is applied to what it lets through."""
    clauses: list[str] = []
    values: list[object] = []
    for pattern in patterns:
        if not pattern.endswith("*"):
            clauses.append(f"{column} = ?")
            values.append(pattern)
        elif len(pattern) > 1:
            clauses.append(f"({column} >= ? AND {column} < ?)")
            values += [pattern[:-1], pattern[:-2] + chr(ord(pattern[-2]) + 1)]
        else:
            return "TRUE", []
    return "(" + " OR ".join(clauses) + ")", values


def highest_floor(connection: sqlite3.Connection) -> int:
    row = connection.execute(sql("highest_floor")).fetchone()
    return row[0] if row else 0


def has_closings(connection: sqlite3.Connection) -> bool:
    return connection.execute(sql("any_closed")).fetchone() is not None


def closed_among(connection: sqlite3.Connection, names: Iterable[Name]) -> set[Name]:
    rows = execute_rows(connection, "find_channels", list(set(names)))
    return {(tenant, name) for tenant, name, closed, _, _ in rows if closed is not None}


def floors_of(connection: sqlite3.Connection, names: Iterable[Name]) -> dict[Name, int]:
    """The floors of those channels that have one."""
    rows = execute_rows(connection, "find_channels", list(set(names)))
    return {(tenant, name): floor for tenant, name, _, floor, _ in rows if floor}


def is_shown(event: Event, patterns: Sequence[str], floors: Mapping[Name, int]) -> bool:
    """Whether the event is still shown on one of its channels that the patterns match."""
    return any(
        matches_any(patterns, channel) and floors.get((event.tenant, channel), 0) < event.seq
        for channel in event.channels
    )


def carry_out(connection: sqlite3.Connection, event: Event) -> None:
    """Write down what an event with an effect does to its channels."""
    for channel in event.channels:
        if event.effect == "close":
            connection.execute(sql("close_channel"), (event.tenant, channel, event.seq))
        elif event.effect == "delete":
            connection.execute(sql("delete_channel"), (event.tenant, channel, event.seq))
            connection.execute(sql("count_loss"))


def raise_floor(connection: sqlite3.Connection, name: Name, floor: int) -> None:
    if connection.execute(sql("trim_channel"), (*name, floor)).rowcount:
        connection.execute(sql("count_loss"))
