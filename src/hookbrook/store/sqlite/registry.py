"""Sources, endpoints, keys and revocations over a connection: JSON documents with what they are found by."""

import sqlite3
from typing import Any, Final

import msgspec

from hookbrook.core.delivery import Happening
from hookbrook.core.endpoint import Endpoint
from hookbrook.core.eventtype import EventType
from hookbrook.core.job import Job
from hookbrook.core.key import ApiKey
from hookbrook.core.revocation import Revocation
from hookbrook.core.source import Source
from hookbrook.errors import Conflict
from hookbrook.store.base import R, Reroutes
from hookbrook.store.sqlite import failures
from hookbrook.store.sqlite.deliveries import forget_failing
from hookbrook.store.sqlite.lines import change_lines
from hookbrook.store.sqlite.settling import change_owed, finish
from hookbrook.store.sqlite.sql import sql

#: Changes of endpoints that are noted one by one. Who is further behind reads all endpoints.
REROUTES_KEPT: Final = 1000

KINDS: dict[type[Any], str] = {
    Source: "source",
    Endpoint: "endpoint",
    ApiKey: "key",
    Revocation: "revocation",
    Job: "job",
    EventType: "type",
}
Record = Source | Endpoint | ApiKey | Revocation | Job | EventType


def _name_of(record: Record) -> str | None:
    """What must be unique within the kind."""
    if isinstance(record, Source):
        return record.name
    return record.hash if isinstance(record, ApiKey) else None


def _taken(record: Record) -> str:
    if isinstance(record, Source):
        return f"There is already a source {record.id} or one named {record.name!r}."
    return f"There is already {record.id}, or the same key." if isinstance(record, ApiKey) else f"{record.id} exists."


def save(connection: sqlite3.Connection, record: R, *, now: int) -> R:
    kind, name = KINDS[type(record)], _name_of(record)
    before = get(connection, type(record), record.id)
    document = msgspec.json.encode(record).decode()
    try:
        if record.revision == 1:
            connection.execute(sql("insert_record"), (kind, record.id, record.tenant, name, record.revision, document))
        elif not connection.execute(
            sql("update_record"),
            (record.tenant, name, record.revision, document, kind, record.id, record.revision - 1),
        ).rowcount:
            raise Conflict(f"The {kind} {record.id} was changed by somebody else meanwhile; read it again.")
    except sqlite3.IntegrityError:
        raise Conflict(_taken(record)) from None
    if isinstance(record, Endpoint) and before is None:
        finish(connection, record.id, now=now)
    if isinstance(record, Endpoint) and isinstance(before, Endpoint) and before.enabled != record.enabled:
        happening = Happening.RELEASED if record.enabled else Happening.HELD
        in_order = not before.ordering == record.ordering == "none"
        change_owed(connection, record.id, happening, in_order=in_order, now=now)
        if record.enabled:
            forget_failing(connection, record.id)
    if isinstance(record, Endpoint) and isinstance(before, Endpoint) and before.ordering != record.ordering:
        finish(connection, record.id, now=now)
        change_lines(connection, record.id, record.ordering, now=now)
    return record


def delete(connection: sqlite3.Connection, kind: type[R], record_id: str, *, now: int) -> R | None:
    row = connection.execute(sql("delete_record"), (KINDS[kind], record_id)).fetchone()
    if row is None:
        return None
    if kind is Endpoint:
        change_owed(connection, record_id, Happening.CANCELLED, in_order=False, now=now)
        forget_failing(connection, record_id)
    if kind is Source:
        failures.forget(connection, record_id)
    return msgspec.json.decode(row[0], type=kind)


def get(connection: sqlite3.Connection, kind: type[R], record_id: str) -> R | None:
    row = connection.execute(sql("get_record"), (KINDS[kind], record_id)).fetchone()
    return None if row is None else msgspec.json.decode(row[0], type=kind)


def records(connection: sqlite3.Connection, kind: type[R], *, tenant: str | None, after_id: str, limit: int) -> list[R]:
    decoder = msgspec.json.Decoder(kind)
    rows = connection.execute(sql("list_records"), (KINDS[kind], after_id, tenant, limit))
    return [decoder.decode(row[0]) for row in rows]


def reroute(connection: sqlite3.Connection, endpoint_id: str) -> int:
    """The next routing version, and a note that this endpoint is what it changes."""
    version: int = connection.execute(sql("bump_routing_version")).fetchone()[0]
    connection.execute(sql("note_reroute"), (version, endpoint_id))
    connection.execute(sql("forget_reroutes"), (version - REROUTES_KEPT,))
    return version


def rerouted(connection: sqlite3.Connection, since: int) -> Reroutes | None:
    version: int = connection.execute(sql("get_meta"), ("routing_version",)).fetchone()[0]
    found = connection.execute(sql("rerouted"), (since,)).fetchall()
    if sum(times for _, _, times in found) != version - since:
        return None
    decoder = msgspec.json.Decoder(Endpoint)
    return Reroutes(
        version=version,
        saved=[decoder.decode(document) for _, document, _ in found if document is not None],
        deleted=[endpoint_id for endpoint_id, document, _ in found if document is None],
    )


def routes(connection: sqlite3.Connection) -> tuple[int, list[Endpoint]]:
    version: int = connection.execute(sql("get_meta"), ("routing_version",)).fetchone()[0]
    found = connection.execute(sql("list_routes")).fetchall()
    decoder = msgspec.json.Decoder(Endpoint)
    return version, [decoder.decode(row[0]) for row in found]


def secret(connection: sqlite3.Connection, name: str, fresh: bytes) -> bytes:
    key = f"secret:{name}"
    connection.execute(sql("put_meta_once"), (key, fresh))
    value: bytes = connection.execute(sql("get_meta"), (key,)).fetchone()[0]
    return value
