"""What every backend of the store is asked, and the backends that are asked."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from hookbrook.core.delivery import NewDelivery
from hookbrook.core.endpoint import Endpoint
from hookbrook.core.event import JSON_TYPE, Appended, Event, NewEvent, digest
from hookbrook.store.base import Page, Query, Store
from hookbrook.store.sqlite import SqliteStore

START_US = 1_790_000_000_000_000
SECOND_US = 1_000_000


class Clock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = START_US

    def __call__(self) -> int:
        return self.now


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    name: str
    #: Makes a store, not yet open, that keeps everything in the folder; the same folder means the same store.
    make: Callable[[Path, Callable[[], int]], Store]

    @asynccontextmanager
    async def opened(self, folder: Path, clock: Callable[[], int]) -> AsyncIterator[Store]:
        store = self.make(folder, clock)
        await store.open()
        try:
            yield store
        finally:
            await store.close()


BACKENDS = [Backend(name="sqlite", make=lambda folder, clock: SqliteStore(folder / "hookbrook.db", clock=clock))]


@pytest.fixture(params=BACKENDS, ids=lambda backend: backend.name)
def backend(request: pytest.FixtureRequest) -> Backend:
    chosen: Backend = request.param
    return chosen


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(backend: Backend, tmp_path: Path, clock: Clock) -> AsyncIterator[Store]:
    async with backend.opened(tmp_path, clock) as opened:
        yield opened


def event(id: str, *channels: str, **fields: object) -> NewEvent:
    """On channel `a` unless said otherwise; the digest follows from the content."""
    values: dict[str, object] = {
        "id": id, "channels": channels or ("a",), "type": "message", "time": START_US, "content_type": JSON_TYPE,
        "kind": "json", "data": b"1", "dedupe_id": id, **fields,
    }  # fmt: skip
    made = NewEvent(**values)  # type: ignore[arg-type]
    if "digest" in fields:
        return made
    content = digest(made.channels, made.type, made.content_type, made.data)
    return NewEvent(**{**values, "digest": content})  # type: ignore[arg-type]


def events(count: int, prefix: str = "e", **fields: object) -> list[NewEvent]:
    return [event(f"{prefix}{number}", **fields) for number in range(count)]


def endpoint(id: str = "ep_1", **fields: object) -> Endpoint:
    values: dict[str, object] = {
        "id": id, "url": "https://example.com", "secrets": ("whsec_x",), "created": START_US, "updated": START_US,
    }  # fmt: skip
    return Endpoint(**{**values, **fields})  # type: ignore[arg-type]


def owes(event_: NewEvent, *endpoint_ids: str, held: bool = False) -> list[NewDelivery]:
    """Deliveries whose ids follow from the event's and the endpoint's."""
    return [NewDelivery(id=f"dlv_{event_.id}_{each}", endpoint_id=each, held=held) for each in endpoint_ids]


async def append(store: Store, *batch: NewEvent, owed: Sequence[Sequence[NewDelivery]] | None = None) -> list[Appended]:
    """As one batch, against the routes of now."""
    version, _ = await store.routes()
    return await store.append(batch, [()] * len(batch) if owed is None else owed, version)


async def read_all(store: Store, query: Query | None = None, *, after: int = 0, limit: int = 100) -> list[Event]:
    """Page by page until the end of the log; each page must get further than the one before."""
    found: list[Event] = []
    while True:
        page = await store.read(query or Query(tenant=None), after=after, limit=limit)
        _check_page(page, limit)
        assert all(event.seq > after for event in page.events)
        found += page.events
        if page.scanned_to >= page.tail:
            return found
        assert page.scanned_to > after
        after = page.scanned_to


async def read_all_back(store: Store, query: Query, *, before: int, limit: int) -> list[Event]:
    found: list[Event] = []
    while True:
        page = await store.read_back(query, before=before, limit=limit)
        _check_page(page, limit)
        assert all(event.seq < before for event in page.events)
        found += page.events
        if page.scanned_to <= page.oldest:
            return found
        assert page.scanned_to < before
        before = page.scanned_to


def _check_page(page: Page, limit: int) -> None:
    assert len(page.events) <= limit
    assert all(page.oldest <= event.seq <= page.tail for event in page.events)
