"""A store, and the appender and catalogue on it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hookbrook.core.endpoint import Endpoint
from hookbrook.core.event import NewEvent
from hookbrook.store.appender import Appender
from hookbrook.store.catalog import Catalog
from hookbrook.store.sqlite import SqliteStore

NOW = 1_790_000_000_000_000


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    made = SqliteStore(tmp_path / "hookbrook.db", clock=lambda: NOW)
    await made.open()
    yield made
    await made.close()


def event(name: str, channel: str = "a") -> NewEvent:
    return NewEvent(
        id=name, channels=(channel,), time=0, content_type="text/plain", kind="text", data=b"1", dedupe_id=name
    )


def endpoint(name: str = "ep_1", *, enabled: bool = True, channels: tuple[str, ...] = ()) -> Endpoint:
    return Endpoint(id=name, url="https://x", secrets=(), channels=channels, enabled=enabled, created=0, updated=0)


async def wired(store: SqliteStore) -> tuple[Appender, Catalog]:
    catalog = Catalog(store)
    await catalog.load()
    return Appender(store, catalog, lambda: NOW), catalog
