"""The copy of the registry that requests are judged by."""

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace

from hookbrook.core.endpoint import Endpoint
from hookbrook.core.key import ApiKey, Scope
from hookbrook.core.routing import Rerouted
from hookbrook.core.source import Source
from hookbrook.errors import Conflict
from hookbrook.store.base import Reroutes
from hookbrook.store.catalog import PAGE, Catalog
from hookbrook.store.sqlite import SqliteStore
from hookbrook.store.sqlite.registry import REROUTES_KEPT

from .conftest import endpoint, wired


async def test_everything_is_loaded_however_much_it_is(store: SqliteStore) -> None:
    keys = [
        ApiKey(id=f"key_{number:05}", hash=f"h{number}", hint="", scopes=(Scope.ADMIN,), created=0, updated=0)
        for number in range(PAGE + 3)
    ]
    await asyncio.gather(*map(store.save, keys))
    catalog = Catalog(store)
    await catalog.load()
    assert len(catalog.keys) == PAGE + 3


async def test_a_change_is_seen_at_once_and_what_is_gone_is_gone(store: SqliteStore) -> None:
    _, catalog = await wired(store)
    source = Source(id="src_1", name="github", provider="github", created=0, updated=0)
    await catalog.save(source)
    renamed = replace(source, name="gitlab", revision=2)
    await catalog.save(renamed)
    assert catalog.sources == {"gitlab": renamed}
    with pytest.raises(Conflict):
        await catalog.save(replace(source, name="late", revision=2))
    assert catalog.sources == {"gitlab": renamed}
    key = ApiKey(id="key_1", hash="h", hint="", scopes=(), created=0, updated=0)
    await catalog.save(key)
    assert catalog.keys == {"h": key}
    assert await catalog.delete(ApiKey, "key_1") == key
    assert await catalog.delete(Source, "src_1") == renamed
    assert await catalog.delete(Source, "src_1") is None
    assert (catalog.keys, catalog.sources) == ({}, {})


async def test_listeners_get_the_routes_of_now_and_of_every_change(store: SqliteStore) -> None:
    _, catalog = await wired(store)
    await catalog.save(endpoint("ep_0"))
    heard: list[tuple[int, list[str], list[Rerouted]]] = []
    catalog.on_routes(lambda routes, changes: heard.append((routes.version, list(routes.by_id), list(changes))))
    saved = await catalog.save(endpoint())
    await catalog.delete(Endpoint, "ep_1")
    assert [known for _, known, _ in heard] == [["ep_0"], ["ep_0", "ep_1"], ["ep_0"]]
    first, second, third = (changes for _, _, changes in heard)
    assert [each.id for each in first] == ["ep_0"]
    assert (second, third) == ([Rerouted(None, saved)], [Rerouted(saved, None)])
    assert [version for version, _, _ in heard] == sorted({version for version, _, _ in heard})


async def test_a_change_of_one_endpoint_does_not_read_the_others(tmp_path: Path) -> None:
    class Counting(SqliteStore):
        whole = 0

        async def routes(self) -> tuple[int, list[Endpoint]]:
            self.whole += 1
            return await super().routes()

    store = Counting(tmp_path / "hookbrook.db")
    await store.open()
    _, catalog = await wired(store)
    assert store.whole == 1
    for number in range(5):
        await catalog.save(endpoint(f"ep_{number}"))
    await catalog.delete(Endpoint, "ep_0")
    assert (store.whole, sorted(catalog.routes.by_id)) == (1, ["ep_1", "ep_2", "ep_3", "ep_4"])
    await store.close()


async def test_who_is_too_far_behind_to_be_told_what_changed_reads_all(store: SqliteStore) -> None:
    _, catalog = await wired(store)
    await catalog.save(endpoint("ep_gone"))
    kept = [endpoint(f"ep_{number}") for number in range(REROUTES_KEPT)]
    await store.delete(Endpoint, "ep_gone")
    await asyncio.gather(*map(store.save, kept))
    changes: list[Rerouted] = []
    catalog.on_routes(lambda _, changed: changes.extend(changed))
    changes.clear()
    routes = await catalog.refresh_routes()
    assert routes.by_id == {each.id: each for each in kept}
    assert {each.id: each.after for each in changes} == {"ep_gone": None, **routes.by_id}


class Overtaken(SqliteStore):
    """The first answer about routes arrives last."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.is_overtaking = False
        self.taken, self.late = asyncio.Event(), asyncio.Event()

    async def rerouted(self, since: int) -> Reroutes | None:
        answer = await super().rerouted(since)
        if self.is_overtaking and not self.taken.is_set():
            self.taken.set()
            await self.late.wait()
        return answer


async def test_routes_that_arrive_late_do_not_replace_newer_ones(tmp_path: Path) -> None:
    store = Overtaken(tmp_path / "hookbrook.db")
    await store.open()
    _, catalog = await wired(store)
    await catalog.save(endpoint())
    store.is_overtaking = True
    overtaken = asyncio.create_task(catalog.refresh_routes())
    await store.taken.wait()
    await catalog.delete(Endpoint, "ep_1")
    store.late.set()
    await overtaken
    assert not catalog.routes.by_id
    await store.close()
