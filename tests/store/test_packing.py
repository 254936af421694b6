"""Data that lies in the file compressed: what comes back is what went in, and damage is told."""

import os
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.store.conftest import NOW, event

from hookbrook.core.event import NewEvent
from hookbrook.errors import StoreDamaged
from hookbrook.store.base import Page, Query
from hookbrook.store.sqlite import SqliteStore
from hookbrook.store.sqlite.packing import MIN_BYTES, pack, unpack
from hookbrook.store.sqlite.reading import MAX_PAGE_BYTES

EVERYTHING = Query(tenant=None)
BEFORE_PACKING = 11
OLD_EVENT = """
INSERT INTO event (seq, tenant, channel, id, type, time, appended, content_type, kind, scope, dedupe, digest, data)
VALUES (1, 'default', 'a', 'old', 'message', 0, 0, 'text/plain', 'text', '', 'old', x'', ?)
"""
JSON = b'{"name": "a value that comes again and again"}'


async def append(store: SqliteStore, *events: NewEvent) -> None:
    version, _ = await store.routes()
    await store.append(events, [()] * len(events), version)


async def page_of(store: SqliteStore) -> Page:
    return await store.read(EVERYTHING, after=0, limit=1000)


def holding(folder: Path, piece: bytes) -> list[str]:
    return [path.name for path in folder.iterdir() if piece in path.read_bytes()]


def stored(path: Path, column: str = "data") -> list[object]:
    with sqlite3.connect(path) as connection:
        rows = connection.execute(f"SELECT {column} FROM event ORDER BY seq").fetchall()
    connection.close()
    return [value for (value,) in rows]


@given(st.binary(min_size=0, max_size=200), st.integers(0, 400))
def test_whatever_is_packed_comes_back_and_never_grew(piece: bytes, times: int) -> None:
    data = piece * times
    packed, size = pack(data)
    assert unpack(packed, size) == data
    assert len(packed) <= len(data)


@pytest.mark.parametrize("data", [JSON, JSON * (MIN_BYTES // len(JSON)), os.urandom(8192), b""])
def test_what_is_short_or_cannot_be_packed_is_stored_as_it_is(data: bytes) -> None:
    assert pack(data) == (data, None)


async def test_readers_get_every_byte_of_what_lies_in_the_file_as_a_part_of_that(
    tmp_path: Path, store: SqliteStore
) -> None:
    bodies = [JSON * 200, JSON, os.urandom(4000), b'{"n": 1E400, "n": 2}\r\n' * 300]
    await append(store, *[event(f"e{number}", data=body) for number, body in enumerate(bodies)])
    assert [each.data for each in (await page_of(store)).events] == bodies
    found = await store.event("default", "e0")
    assert found is not None
    assert found.data == bodies[0]
    sizes = [len(data) for data in stored(tmp_path / "hookbrook.db") if isinstance(data, bytes)]
    assert sizes[0] < len(bodies[0]) / 10
    assert sizes[1:3] == [len(bodies[1]), len(bodies[2])]
    assert sizes[3] < len(bodies[3]) / 10


async def test_a_file_from_before_is_read_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    store = SqliteStore(path, clock=lambda: NOW)
    await store.open()
    await store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("ALTER TABLE event DROP COLUMN packed")
        connection.execute(f"PRAGMA user_version = {BEFORE_PACKING}")
        connection.execute(OLD_EVENT, (JSON * 100,))
    connection.close()
    store = SqliteStore(path, clock=lambda: NOW)
    await store.open()
    await append(store, event("new", data=JSON * 100))
    events = (await page_of(store)).events
    await store.close()
    assert [(each.id, each.data) for each in events] == [("old", JSON * 100), ("new", JSON * 100)]


async def test_a_page_is_bounded_by_what_its_data_has_unpacked(store: SqliteStore) -> None:
    megabyte = b" " * (1024 * 1024)
    for number in range(6):
        await append(store, event(f"e{number}", data=megabyte))
    assert len((await page_of(store)).events) == MAX_PAGE_BYTES // len(megabyte)


@pytest.mark.parametrize(
    "change",
    ["data = substr(data, 1, 20)", "data = randomblob(60)", "packed = packed - 1", "packed = packed + 1"],
)
async def test_damaged_data_is_told_as_such(tmp_path: Path, store: SqliteStore, change: str) -> None:
    await append(store, event("e1", data=JSON * 100))
    with sqlite3.connect(tmp_path / "hookbrook.db") as connection:
        connection.execute(f"UPDATE event SET {change}")
    connection.close()
    with pytest.raises(StoreDamaged, match="cannot be unpacked"):
        await page_of(store)
    assert "cannot be unpacked" in (await store.health()).reason


async def test_erasing_leaves_neither_the_data_nor_its_size(tmp_path: Path, store: SqliteStore) -> None:
    body = JSON * 100
    await append(store, event("e1", data=body))
    packed, _ = pack(body)
    assert holding(tmp_path, packed[:64]) != []
    await store.erase("default", "e1", now=NOW)
    [found] = (await page_of(store)).events
    assert (found.kind, found.data) == ("erased", b"")
    assert stored(tmp_path / "hookbrook.db", "packed") == [None]
    assert holding(tmp_path, packed[:64]) == []
