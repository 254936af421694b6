"""Sweeping: what single channels are to lose, by rules of retention or because somebody deleted them.

Rules raise floors, and raising one hides all below it at once, however much that is. Two walks over the log find the
channels to look at, each event seen once by either: one behind the newest event, since only an append makes a channel
have too many; and one behind the clock for each rule with an age.

Sweeping then goes up each channel to its floor. An event goes when it is below the floors of all its channels; what is
owed is pinned, as in `trimming`, and rows whose ids need no longer be recognised are removed.
"""

import sqlite3
from collections.abc import Sequence

from hookbrook.core.channel import matches
from hookbrook.store.base import ChannelTrim
from hookbrook.store.sqlite import channels
from hookbrook.store.sqlite.channels import Name, names_of
from hookbrook.store.sqlite.log import Log
from hookbrook.store.sqlite.reading import first_at
from hookbrook.store.sqlite.sql import execute_values, sql


class Sweeper:
    """Runs in the writer thread, on the log's own memory."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def step(
        self, connection: sqlite3.Connection, rules: Sequence[ChannelTrim], *, seen_before: int, limit: int
    ) -> int:
        """Returns how much was done, as the port's `trim` says. Arguments as for `Trimmer.step`."""
        done = 0
        if any(rule.keep is not None for rule in rules):
            done = self._count(connection, rules, limit)
        for rule in rules:
            if rule.appended_before is not None:
                done = max(done, self._age(connection, rules, rule, rule.appended_before, limit))
        if self._log.state.floor:
            done = max(
                done,
                self._sweep(connection, seen_before, limit),
                self._forget(connection, seen_before, limit),
            )
            for statement in ("forget_floors", "forget_channels"):
                connection.execute(sql(statement), (self._log.state.oldest, limit))
        return done

    # Raising floors

    def _count(self, connection: sqlite3.Connection, rules: Sequence[ChannelTrim], limit: int) -> int:
        """Look at the channels of the newest events, and leave each as many as its rule says."""
        state = self._log.state
        start = max(state.counted, state.oldest - 1)
        rows = connection.execute(sql("channels_between"), (start, state.tail + 1, limit)).fetchall()
        for name in {name for row in rows for name in names_of(row)}:
            rule = _rule_of(rules, name)
            if rule is not None and rule.keep is not None:
                surplus = connection.execute(
                    f"{sql('seqs_of_channel')} ORDER BY 1 DESC LIMIT 1 OFFSET ?",
                    (*(*name, 0, state.tail + 1) * 2, rule.keep),
                ).fetchone()
                if surplus is not None:
                    self._raise(connection, name, surplus[0])
        state.counted = rows[-1][0] if rows else start
        return len(rows)

    def _age(
        self,
        connection: sqlite3.Connection,
        rules: Sequence[ChannelTrim],
        rule: ChannelTrim,
        before: int,
        limit: int,
    ) -> int:
        """Look at events that have become as old as this rule allows."""
        state = self._log.state
        start = max(state.aged.get(rule.pattern, 0), state.oldest - 1)
        end = first_at(connection, before, start + 1, state.tail + 1)
        rows = connection.execute(sql("channels_between"), (start, end, limit)).fetchall()
        newest = {name: row[0] for row in rows for name in names_of(row) if _rule_of(rules, name) is rule}
        for name, seq in newest.items():
            self._raise(connection, name, seq)
        state.aged = {**state.aged, rule.pattern: rows[-1][0] if len(rows) == limit else end - 1}
        return len(rows)

    def _raise(self, connection: sqlite3.Connection, name: Name, floor: int) -> None:
        channels.raise_floor(connection, name, floor)
        self._log.state.floor = max(self._log.state.floor, floor)

    # Carrying out what they promise

    def _sweep(self, connection: sqlite3.Connection, seen_before: int, limit: int) -> int:
        """Up to `limit` events of channels that have not been swept up to their floors."""
        swept = 0
        for tenant, name, floor, start in connection.execute(sql("unswept"), (limit,)).fetchall():
            low = max(start, self._log.state.oldest - 1)
            ends = (tenant, name, low, floor + 1) * 2
            rows = connection.execute(f"{sql('seqs_of_channel')} ORDER BY 1 LIMIT ?", (*ends, limit - swept)).fetchall()
            self._remove(connection, [seq for (seq,) in rows], seen_before)
            is_cut = len(rows) == limit - swept
            connection.execute(sql("swept"), (rows[-1][0] if is_cut else floor, tenant, name))
            # A channel counts though it had nothing left: there may be as many of these.
            swept += max(1, len(rows))
            if swept >= limit:
                return limit
        return swept

    def _remove(self, connection: sqlite3.Connection, seqs: Sequence[int], seen_before: int) -> None:
        """Those of the events that are shown nowhere any more."""
        rows = execute_values(connection, "channels_of", seqs)
        floors = channels.floors_of(connection, (name for row in rows for name in names_of(row)))
        gone = {row[0]: row[-1] for row in rows if all(floors.get(name, 0) >= row[0] for name in names_of(row))}
        owed = {seq for (seq,) in execute_values(connection, "owed_among", list(gone))}
        execute_values(connection, "pin", list(owed))
        free = [seq for seq in gone if seq not in owed]
        # The newest row stays, so that the next start knows how late it is.
        old = [seq for seq in free if gone[seq] < seen_before and seq < self._log.state.tail]
        execute_values(connection, "blank_events", free)
        _delete(connection, old)

    def _forget(self, connection: sqlite3.Connection, seen_before: int, limit: int) -> int:
        """Rows that were blanked before their ids could be forgotten: another walk, as far behind as that takes."""
        state = self._log.state
        start = max(state.blanked, state.oldest - 1)
        end = first_at(connection, seen_before, start + 1, max(state.tail, start + 1))
        rows = connection.execute(sql("blanks_between"), (start, end, limit)).fetchall()
        _delete(connection, [seq for seq, is_blank in rows if is_blank])
        state.blanked = rows[-1][0] if len(rows) == limit else end - 1
        return len(rows)


def _rule_of(rules: Sequence[ChannelTrim], name: Name) -> ChannelTrim | None:
    return next((rule for rule in rules if matches(rule.pattern, name[1])), None)


def _delete(connection: sqlite3.Connection, seqs: Sequence[int]) -> None:
    for statement in ("delete_attempts", "delete_deliveries", "delete_event_channels", "delete_events"):
        execute_values(connection, statement, seqs)
