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


def event(name: str, channel: str = "a", *, data: bytes | None = None) -> NewEvent:
    """A text, or JSON if its data is given."""
    is_text = data is None
    return NewEvent(
        id=name,
        channels=(channel,),
        time=0,
        content_type="text/plain" if is_text else "application/json",
        kind="text" if is_text else "json",
        data=data or b"1",
        dedupe_id=name,
    )


def endpoint(name: str = "ep_1", **fields: object) -> Endpoint:
    values: dict[str, object] = {"url": "https://x", "secrets": (), "created": 0, "updated": 0, **fields}
    return Endpoint(id=name, **values)  # type: ignore[arg-type]


async def wired(store: SqliteStore) -> tuple[Appender, Catalog]:
    catalog = Catalog(store)
    await catalog.load()
    return Appender(store, catalog, lambda: NOW), catalog
