"""Failed webhooks as functions over a connection: documents by source, the newest only."""

import sqlite3
from collections.abc import Sequence

import msgspec

from hookbrook.core.failure import Failure
from hookbrook.store.sqlite.sql import sql


def keep(connection: sqlite3.Connection, failures: Sequence[Failure], *, each: int) -> None:
    for failure in failures:
        values = (failure.source_id, failure.id, msgspec.json.encode(failure), failure.source_id)
        connection.execute(sql("insert_failure"), values)
    for source_id in {failure.source_id for failure in failures}:
        connection.execute(sql("trim_failures"), (source_id, source_id, each))


def of_source(connection: sqlite3.Connection, source_id: str, *, before_id: str | None, limit: int) -> list[Failure]:
    decoder = msgspec.json.Decoder(Failure)
    rows = connection.execute(sql("list_failures"), (source_id, before_id, before_id, limit))
    return [decoder.decode(row[0]) for row in rows]


def forget(connection: sqlite3.Connection, source_id: str) -> None:
    connection.execute(sql("delete_failures"), (source_id,))
