"""The `Registry` port."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from hookbrook.core.endpoint import Endpoint
from hookbrook.core.key import ApiKey, Scope
from hookbrook.core.revocation import Revocation
from hookbrook.core.source import Source
from hookbrook.errors import Conflict
from hookbrook.store.base import Store

from .conftest import START_US, Backend, Clock, endpoint


def source(id: str = "src_1", **fields: object) -> Source:
    values: dict[str, object] = {"id": id, "name": id, "provider": "github", "created": START_US, "updated": START_US}
    return Source(**{**values, **fields})  # type: ignore[arg-type]


def key(id: str = "key_1", **fields: object) -> ApiKey:
    values: dict[str, object] = {
        "id": id, "hash": id * 3, "hint": "abcd", "scopes": (Scope.PUBLISH,), "created": START_US, "updated": START_US,
    }  # fmt: skip
    return ApiKey(**{**values, **fields})  # type: ignore[arg-type]


def revocation(id: str = "rev_1", **fields: object) -> Revocation:
    values: dict[str, object] = {
        "id": id, "subject": "ann", "expires": START_US + 1, "created": START_US, "updated": START_US,
    }  # fmt: skip
    return Revocation(**{**values, **fields})  # type: ignore[arg-type]


MAKERS: list[Callable[..., Any]] = [source, endpoint, key]
each_kind = pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)


@each_kind
async def test_a_record_is_read_as_it_was_saved(store: Store, make: Callable[..., Any]) -> None:
    record = make("x_1", tenant="acme", description="ä \0 \U0001f40d")
    assert await store.save(record) == record
    assert await store.get(type(record), "x_1") == record
    assert await store.get(type(record), "x_2") is None


async def test_every_field_is_kept(backend: Backend, tmp_path: Path, clock: Clock) -> None:
    records: list[Any] = [
        source(secrets=("a", "b"), channel="x.{body.a}", type="t", enforce=False, enabled=False, declared=True),
        endpoint(
            types=("a*",), channels=("b",), secrets=("whsec_a", "whsec_b"), headers={"x-a": "1"}, retry=(1.5, 2.0),
            concurrency=3, timeout_s=2.5, enabled=False, metadata={"k": "v"}, declared=True,
        ),
        key(scopes=(Scope.ADMIN, Scope.INGEST), expires=START_US + 1),
        revocation(tenant="acme", token="tok_1", revision=1),
    ]  # fmt: skip
    async with backend.opened(tmp_path, clock) as store:
        for record in records:
            await store.save(record)
    async with backend.opened(tmp_path, clock) as store:
        assert [await store.get(type(record), record.id) for record in records] == records


@each_kind
async def test_a_save_must_stand_on_the_stored_revision(store: Store, make: Callable[..., Any]) -> None:
    record = make()
    with pytest.raises(Conflict):
        await store.save(replace(record, revision=2))
    await store.save(record)
    for stale in (1, 3):
        with pytest.raises(Conflict):
            await store.save(replace(record, revision=stale, description="never"))
    second = replace(record, revision=2, description="changed")
    await store.save(second)
    assert await store.get(type(record), record.id) == second


@each_kind
async def test_of_two_who_change_the_same_revision_one_is_refused(store: Store, make: Callable[..., Any]) -> None:
    await store.save(make())
    changes = [replace(make(), revision=2, description=str(number)) for number in range(10)]
    results = await asyncio.gather(*map(store.save, changes), return_exceptions=True)
    [winner] = [result for result in results if not isinstance(result, Conflict)]
    assert await store.get(type(make()), make().id) == winner


async def test_a_sources_name_is_unique_in_the_installation(store: Store) -> None:
    await store.save(source("src_1", name="github"))
    await store.save(source("src_2", name="stripe", tenant="two"))
    with pytest.raises(Conflict, match="github"):
        await store.save(source("src_3", name="github", tenant="two"))
    with pytest.raises(Conflict):
        await store.save(source("src_2", name="github", tenant="two", revision=2))
    # A name that was given up is free.
    await store.save(source("src_1", name="gitlab", revision=2))
    await store.save(source("src_3", name="github"))


async def test_a_keys_hash_is_unique_and_is_not_told(store: Store) -> None:
    await store.save(key("key_1", hash="feedbeef"))
    with pytest.raises(Conflict) as refused:
        await store.save(key("key_2", hash="feedbeef"))
    assert "feedbeef" not in str(refused.value)


async def test_endpoints_may_share_everything_but_their_id(store: Store) -> None:
    await store.save(endpoint("ep_1"))
    await store.save(endpoint("ep_2"))
    with pytest.raises(Conflict):
        await store.save(endpoint("ep_1"))


@each_kind
async def test_what_is_deleted_is_returned_once_and_gone(store: Store, make: Callable[..., Any]) -> None:
    record = make()
    await store.save(record)
    assert await store.delete(type(record), record.id) == record
    assert await store.delete(type(record), record.id) is None
    assert await store.get(type(record), record.id) is None
    await store.save(record)


@each_kind
async def test_records_are_listed_in_the_order_of_their_ids_page_by_page(
    store: Store, make: Callable[..., Any]
) -> None:
    made = [make(f"x_{number:02}", tenant="two" if number % 3 else "one") for number in range(20)]
    for record in reversed(made):
        await store.save(record)
    for tenant in (None, "one", "two", "three"):
        found: list[Any] = []
        while page := await store.records(
            type(made[0]), tenant=tenant, after_id=found[-1].id if found else "", limit=3
        ):
            assert len(page) <= 3
            found += page
        assert found == [record for record in made if tenant in (None, record.tenant)]


async def test_kinds_do_not_meet(store: Store) -> None:
    await store.save(source("x_1"))
    await store.save(endpoint("x_1"))
    assert await store.get(ApiKey, "x_1") is None
    assert await store.delete(ApiKey, "x_1") is None
    assert [type(each) for each in await store.records(Source)] == [Source]


# Routes


async def test_every_change_of_an_endpoint_raises_the_routing_version(store: Store) -> None:
    versions = [(await store.routes())[0]]

    async def changed() -> None:
        versions.append((await store.routes())[0])

    await store.save(endpoint())
    await changed()
    await store.save(endpoint(revision=2, enabled=False))
    await changed()
    await store.delete(Endpoint, "ep_1")
    await changed()
    assert versions == sorted(set(versions))
    assert len(versions) == 4


async def test_nothing_else_raises_the_routing_version(store: Store) -> None:
    await store.save(endpoint())
    before = await store.routes()
    await store.save(source())
    await store.save(key())
    await store.delete(Source, "src_1")
    await store.delete(Endpoint, "ep_none")
    with pytest.raises(Conflict):
        await store.save(endpoint(revision=7))
    assert await store.routes() == before
    # And what is refused leaves the log open to those who matched with these routes.
    await store.append([], [], before[0])


async def test_routes_are_all_endpoints_and_their_version_read_together(
    backend: Backend, tmp_path: Path, clock: Clock
) -> None:
    async with backend.opened(tmp_path, clock) as store:
        for number in range(5):
            await store.save(endpoint(f"ep_{number}", tenant=f"t{number % 2}", enabled=number != 3))
        await store.delete(Endpoint, "ep_1")
        version, endpoints = await store.routes()
        assert [each.id for each in endpoints] == ["ep_0", "ep_2", "ep_3", "ep_4"]
    async with backend.opened(tmp_path, clock) as store:
        assert await store.routes() == (version, endpoints)


async def test_what_changed_since_a_routing_version_is_told_as_it_is_now(store: Store) -> None:
    version, _ = await store.routes()
    kept, gone, late = endpoint("ep_kept"), endpoint("ep_gone"), endpoint("ep_late")
    await store.save(kept)
    await store.save(gone)
    between, _ = await store.routes()
    kept = await store.save(replace(kept, url="https://example.com/new", revision=2))
    await store.delete(Endpoint, gone.id)
    await store.save(late)
    now, _ = await store.routes()
    for since, saved, deleted in (
        (version, [kept, late], [gone.id]),
        (between, [kept, late], [gone.id]),
        (now - 1, [late], []),
        (now, [], []),
    ):
        changed = await store.rerouted(since)
        if changed is None:  # a backend may have forgotten
            continue
        assert changed.version == now
        assert sorted(changed.saved, key=lambda each: each.id) == saved
        assert list(changed.deleted) == deleted
    assert await store.rerouted(now + 1) is None


async def test_while_endpoints_change_each_version_has_one_set_of_routes(store: Store) -> None:
    seen: dict[int, list[Endpoint]] = {}

    async def change(number: int) -> None:
        for revision in range(1, 8):
            await store.save(endpoint(f"ep_{number}", revision=revision))

    async def watch() -> None:
        while len(seen) < 2 or max(seen) < 22:
            version, endpoints = await store.routes()
            assert seen.setdefault(version, endpoints) == endpoints
            assert sum(each.revision for each in endpoints) == version - 1

    await asyncio.gather(*map(change, range(3)), watch(), watch())


# Secrets


async def test_the_first_callers_secret_becomes_it(backend: Backend, tmp_path: Path, clock: Clock) -> None:
    async with backend.opened(tmp_path, clock) as store:
        answers = await asyncio.gather(*[store.secret("token", b"%d\0\xff" % number) for number in range(10)])
        assert len(set(answers)) == 1
        assert await store.secret("other", b"x") == b"x"
    async with backend.opened(tmp_path, clock) as store:
        assert await store.secret("token", b"new") == answers[0]
