"""How SQLite finds what it is asked about lines: by an index, however long they are."""

import json
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from hookbrook.store.sqlite.connection import open_writer
from hookbrook.store.sqlite.lines import Line, line_up, settle
from hookbrook.store.sqlite.sql import sql

LONG = 20_000


@pytest.fixture
def line(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A store whose only line is long, and of which nothing is due yet."""
    connection = open_writer(tmp_path / "a.db")
    connection.execute("BEGIN")
    for number in range(1, LONG + 1):
        row = (f"dlv_{number:06}", "default", number, "ep_1", "a", "pending", 0, None, 0, 0, None)
        connection.execute(sql("insert_deliveries").replace("{rows}", "(" + ",".join("?" * len(row)) + ")"), row)
    yield connection
    connection.close()


class Steps:
    """Counts hundreds of steps of SQLite's virtual machine."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.count = 0
        connection.set_progress_handler(self._step, 100)

    def _step(self) -> int:
        self.count += 1
        return 0


def test_a_long_line_costs_no_more_than_a_short_one(line: sqlite3.Connection) -> None:
    steps = Steps(line)
    line_up(line, {Line("ep_1", "a")}, now=7)
    settle(line, {Line("ep_1", "a")}, now=7)
    (due,) = line.execute(sql("due_deliveries"), ("ep_1", 0, 7, 100)).fetchone()
    assert [row[0] for row in json.loads(due)] == ["dlv_000001"]
    assert line.execute(sql("next_due")).fetchall() == [("ep_1", 7)]
    assert line.execute(sql("next_due_of"), ("ep_1",)).fetchone() == (7,)
    assert steps.count < 20


@pytest.mark.parametrize("name", ["due_deliveries", "next_due", "next_due_of", "line_up", "step_back"])
def test_no_statement_of_the_hot_path_scans_the_deliveries(line: sqlite3.Connection, name: str) -> None:
    statement = sql(name).replace("{rows}", "('ep_1', 'a', 7)")
    values = [7] * len(set(re.findall(r"\?\d*", statement)) if "?1" in statement else re.findall(r"\?", statement))
    plan = [row[3] for row in line.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
    assert not [step for step in plan if re.match(r"SCAN (delivery|later|earlier)\b", step)], plan
