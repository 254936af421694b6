"""The statements of `queries.sql` by name, and the batching of rows into one statement.

Python's sqlite3 gives up the interpreter lock around each statement step and must win it back after it, against a busy
event loop. So a group of rows goes in as one statement of many rows, not as many statements.
"""

import re
import sqlite3
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from itertools import chain
from typing import Any

Row = Sequence[object]

#: Rows per statement, falling; what is left over goes into one more. So there are few distinct statements, which
#: SQLite's statement cache holds all, and few steps. SQLite's default SQLITE_MAX_VARIABLE_NUMBER is 32766; 128 rows
#: stay far below.
CHUNKS = (128, 32)
#: What `event_of` reads. The large ones stand last, so that SQLite can filter rows without reading them.
EVENT_COLUMNS = (
    "seq, tenant, channel, more, id, type, source, time, appended, content_type, kind, effect, merge, "
    "packed, request, data"
)
#: The same without the large ones.
BARE_COLUMNS = EVENT_COLUMNS.replace("packed, request, data", "NULL, NULL, NULL")

_BLOCK = re.compile(r"^-- (\w+) --$", re.MULTILINE)


@cache
def _statements() -> dict[str, str]:
    text = files(__package__).joinpath("queries.sql").read_text("utf-8")
    parts = _BLOCK.split(text)
    blocks = zip(parts[1::2], parts[2::2], strict=True)
    return {name: _uncommented(body) for name, body in blocks}


def _uncommented(body: str) -> str:
    lines = [line for line in body.splitlines() if not line.startswith("--")]
    text = " ".join(" ".join(lines).split()).removesuffix(";")
    return text.replace("{columns}", EVENT_COLUMNS).replace("{bare_columns}", BARE_COLUMNS)


def sql(name: str) -> str:
    """The statement of that name, without comments."""
    return _statements()[name]


@cache
def _many(name: str, rows: int, filled: tuple[bool, ...]) -> str:
    marks = ", ".join("?" if is_filled else "NULL" for is_filled in filled)
    row = f"({marks})" if len(filled) > 1 else marks
    return sql(name).replace("{rows}", ", ".join([row] * rows))


def chunks(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """The rows in pieces of the sizes of `CHUNKS`, and the rest."""
    start = 0
    for size in CHUNKS:
        while len(rows) - start >= size:
            yield rows[start : start + size]
            start += size
    if start < len(rows):
        yield rows[start:]


def execute_rows(connection: sqlite3.Connection, name: str, rows: Sequence[Row]) -> list[Any]:
    """Run the statement over all rows, in as few steps as possible; returns what it selects, if it selects."""
    if not rows:
        return []
    found: list[Any] = []
    # At rest each append comes alone, and then every call of Python code counts.
    for piece in chunks(rows) if len(rows) > CHUNKS[-1] else (rows,):
        columns = [_cheap(column) for column in zip(*piece, strict=True)]
        filled = tuple([column is not None for column in columns])
        values = zip(*[column for column in columns if column is not None], strict=True)
        found += connection.execute(_many(name, len(piece), filled), tuple(chain.from_iterable(values))).fetchall()
    return found


def _cheap(column: Sequence[object]) -> Sequence[object] | None:
    """The same values as sqlite3 binds them fastest; None if all of them are NULL, which then stands in the statement.

    It asks for every None and bytes whether somebody has registered an adapter, which costs more than the insert of
    the whole row; a bytearray is bound as it is.
    """
    first = column[0]
    if first is None and column.count(None) == len(column):
        return None
    if type(first) is bytes:
        return [bytearray(value) if type(value) is bytes else value for value in column]
    return column


def execute_values(connection: sqlite3.Connection, name: str, values: Sequence[object]) -> list[Any]:
    """As `execute_rows` for rows of one column."""
    return execute_rows(connection, name, [(value,) for value in values])
