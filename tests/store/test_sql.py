"""Many rows in few statements: whatever is bound in another way than it was given reads back as it was given."""

import sqlite3
from collections.abc import Iterator

import pytest

from hookbrook.store.sqlite import sql
from hookbrook.store.sqlite.sql import CHUNKS, Row, execute_rows


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch) -> Iterator[sqlite3.Connection]:
    statements = {"put": "INSERT INTO kept VALUES {rows}", "look": "WITH given AS (VALUES {rows}) SELECT * FROM given"}
    monkeypatch.setattr(sql, "sql", statements.__getitem__)
    sql._many.cache_clear()
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE kept (number INTEGER, word TEXT, body BLOB) STRICT")
    yield connection
    connection.close()
    sql._many.cache_clear()


ROWS: dict[str, list[Row]] = {
    "all there": [(1, "one", b"\x00\xff"), (2, "two", b"")],
    "a column of nothing": [(1, None, b"1"), (2, None, b"2")],
    "nothing at all": [(None, None, None), (None, None, None)],
    "nothing first": [(None, "one", None), (2, None, b"2")],
    "nothing last": [(1, "one", b"1"), (None, None, None)],
    "more than a chunk": [(n, None if n % 3 else "x", b"%d" % n) for n in range(sum(CHUNKS) + 5)],
}


@pytest.mark.parametrize("rows", ROWS.values(), ids=list(ROWS))
def test_rows_read_back_as_they_were_given(connection: sqlite3.Connection, rows: list[Row]) -> None:
    assert execute_rows(connection, "put", rows) == []
    assert connection.execute("SELECT * FROM kept ORDER BY rowid").fetchall() == rows
    assert execute_rows(connection, "look", rows) == rows
