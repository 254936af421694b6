"""Trimming: the watermark moves up the log, data goes, and at last the rows go too.

The watermark moves over a few events per step, and readers then no longer see them. Their data goes at once, except
that of the *pinned*, which somebody is still owed; it goes when the last of those debts has ended. A row without data
remembers that its id was seen, and is forgotten when it need no longer be.
"""

import sqlite3

from hookbrook.store.sqlite.log import Log, LogState
from hookbrook.store.sqlite.reading import first_at
from hookbrook.store.sqlite.sql import execute_values, sql


class Trimmer:
    """Runs in the writer thread, on the log's own memory."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def step(
        self,
        connection: sqlite3.Connection,
        *,
        appended_before: int | None,
        keep: int | None,
        seen_before: int,
        limit: int,
    ) -> int:
        """Returns how much was done, as the port's `trim` says.

        Args:
            seen_before: ids of events appended before that time need no longer be recognised.
        """
        state = self._log.state
        oldest = _watermark(connection, state, appended_before, keep, limit)
        passed = oldest - state.oldest
        if passed:
            _pass_over(connection, state.oldest, oldest)
            last = connection.execute(sql("appended_before"), (oldest,)).fetchone()
            state.trimmed = max(state.trimmed, last[0] if last else 0)
            state.oldest = oldest
            connection.execute(sql("put_meta"), ("oldest", oldest))
            connection.execute(sql("put_meta"), ("trimmed", state.trimmed))
        freed = self._free(connection, limit)
        forgotten = self._forget(connection, seen_before, limit)
        return max(passed, freed, forgotten)

    def _free(self, connection: sqlite3.Connection, limit: int) -> int:
        """Look at some of the pinned events, and blank those that nobody is owed any more."""
        rows = connection.execute(sql("pinned_after"), (self._log.state.looked_at, limit)).fetchall()
        free = [seq for seq, is_owed in rows if not is_owed]
        execute_values(connection, "blank_events", free)
        execute_values(connection, "unpin", free)
        # They may lie behind what was forgotten already.
        self._log.state.forgotten = min([self._log.state.forgotten, *(seq - 1 for seq in free)])
        self._log.state.looked_at = rows[-1][0] if len(rows) == limit else 0
        return len(free)

    def _forget(self, connection: sqlite3.Connection, seen_before: int, limit: int) -> int:
        """Remove rows of events appended before that time, with all that belongs to them."""
        end = first_at(connection, seen_before, 1, self._log.state.oldest)
        rows = connection.execute(sql("forgettable"), (self._log.state.forgotten, end, limit)).fetchall()
        seqs = [seq for (seq,) in rows]
        for statement in ("delete_attempts", "delete_deliveries", "delete_event_channels", "delete_events"):
            execute_values(connection, statement, seqs)
        self._log.state.forgotten = seqs[-1] if len(seqs) == limit else max(self._log.state.forgotten, end - 1)
        return len(seqs)


def _watermark(
    connection: sqlite3.Connection, state: LogState, appended_before: int | None, keep: int | None, limit: int
) -> int:
    wanted = state.oldest
    if appended_before is not None:
        wanted = max(wanted, first_at(connection, appended_before, state.oldest, state.tail + 1))
    if keep is not None:
        wanted = max(wanted, state.tail - keep + 1)
    return min(wanted, state.oldest + limit, state.tail + 1)


def _pass_over(connection: sqlite3.Connection, start: int, end: int) -> None:
    """The watermark moves from `start` to `end`: pin what is owed, and let go of the data of all else."""
    connection.execute(sql("pin_owed"), (start, end))
    connection.execute(sql("blank_unpinned"), (start, end, start, end))
