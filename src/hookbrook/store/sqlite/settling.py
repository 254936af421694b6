"""What becomes of all that an endpoint is owed when it is disabled, enabled or deleted.

An endpoint may be owed a million deliveries, and one statement that moves them all would keep every append waiting for
as long as it takes. So the transaction that changes the endpoint moves the first of them and notes that there are more;
the others follow step by step. The note is in the file, and a restart goes on from it. Nothing depends on how far that
is: what is still pending for an endpoint that is disabled or gone is sent to nobody, and pins its event as before.

Where deliveries wait for each other they are released at once, whatever it costs: what is released first is sent first.
"""

import sqlite3
from typing import Final

from hookbrook.core.delivery import Happening, State, after, sources_of
from hookbrook.store.sqlite.lines import line_up_endpoint
from hookbrook.store.sqlite.sql import sql

#: Deliveries that the change of an endpoint itself moves: some milliseconds, and most endpoints are owed fewer.
AT_ONCE: Final = 500
_ALL: Final = -1

#: The statements that find what an endpoint is owed in a state, each by an index that holds nothing else.
_FINDERS: Final = {State.PENDING: ("due_of_endpoint", "waiting_of_endpoint"), State.HELD: ("held_of_endpoint",)}


def change_owed(
    connection: sqlite3.Connection, endpoint_id: str, happening: Happening, *, in_order: bool, now: int
) -> None:
    """HELD, RELEASED or CANCELLED for everything that the endpoint is owed, as far as that can be done at once."""
    at_once = in_order and happening is Happening.RELEASED
    _go_on(connection, endpoint_id, happening, limit=_ALL if at_once else AT_ONCE, now=now)
    if at_once:
        line_up_endpoint(connection, endpoint_id, now=now)


def settle(connection: sqlite3.Connection, *, behind: str, limit: int, now: int) -> str | None:
    """See `Settling.settle`."""
    row = connection.execute(sql("next_unsettled"), (behind,)).fetchone()
    if row is None:
        return None
    endpoint_id: str = row[0]
    _go_on(connection, endpoint_id, Happening(row[1]), limit=limit, now=now)
    return endpoint_id


def finish(connection: sqlite3.Connection, endpoint_id: str, *, now: int) -> None:
    """All that is left of one endpoint: before its deliveries are to wait for each other, and before another endpoint
    gets the id of one that was deleted."""
    row = connection.execute(sql("unsettled_of"), (endpoint_id,)).fetchone()
    if row is not None:
        _go_on(connection, endpoint_id, Happening(row[0]), limit=_ALL, now=now)


def _go_on(connection: sqlite3.Connection, endpoint_id: str, happening: Happening, *, limit: int, now: int) -> None:
    sources = [state for state in sources_of(happening) if state in _FINDERS]
    state = after(sources[0], happening)
    due = now if state is State.PENDING else None
    left = limit
    for finder in (name for source in sources for name in _FINDERS[source]):
        statement = sql("change_owed").replace("{which}", sql(finder))
        done = connection.execute(statement, (state.value, due, now, endpoint_id, left)).rowcount
        if limit != _ALL:
            left -= done
    name = "note_unsettled" if left == 0 else "forget_unsettled"
    connection.execute(sql(name), (endpoint_id, happening.value) if left == 0 else (endpoint_id,))
