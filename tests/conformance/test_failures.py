"""The `Failures` port."""

import asyncio
from pathlib import Path

from hookbrook.core.failure import Failure
from hookbrook.core.source import Source
from hookbrook.store.base import Store

from .conftest import START_US, Backend, Clock
from .test_registry import source


def failure(number: int, source_id: str = "src_1", **fields: object) -> Failure:
    values: dict[str, object] = {
        "id": f"fail_{number:04}", "source_id": source_id, "time": START_US + number, "reason": "mismatch",
        "detail": "No signature matches.", "cause": "line_end", "explanation": "ä \0 \U0001f40d", "proven": True,
        "method": "POST", "path": "/in/a", "query": "", "headers": (("x-a", "\xff"),), "address": None, "size": 3,
        "body": b"\x00\xff{", "skipped": 2, **fields,
    }  # fmt: skip
    return Failure(**values)  # type: ignore[arg-type]


async def test_failures_are_read_as_they_were_kept_the_newest_first_and_by_page(store: Store) -> None:
    await store.save(source())
    kept = [failure(number) for number in range(5)]
    await store.keep_failures(kept, each=10)
    assert await store.failures("src_1", limit=2) == [kept[4], kept[3]]
    assert await store.failures("src_1", before_id=kept[3].id, limit=10) == [kept[2], kept[1], kept[0]]
    assert await store.failures("src_2") == []


async def test_only_the_newest_of_each_source_are_kept(store: Store) -> None:
    await store.save(source())
    await store.save(source("src_2"))
    await store.keep_failures([failure(number) for number in range(7)], each=3)
    await store.keep_failures([failure(7), failure(1, "src_2")], each=3)
    assert [each.id for each in await store.failures("src_1")] == ["fail_0007", "fail_0006", "fail_0005"]
    assert [each.id for each in await store.failures("src_2")] == ["fail_0001"]


async def test_the_same_failure_twice_is_one_and_that_of_an_unknown_source_is_none(store: Store) -> None:
    await store.save(source())
    await store.keep_failures([failure(1), failure(1), failure(2, "src_gone")], each=3)
    assert len(await store.failures("src_1")) == 1
    assert await store.failures("src_gone") == []
    await store.keep_failures([], each=3)


async def test_a_deleted_source_leaves_no_failures(store: Store) -> None:
    await store.save(source())
    await store.keep_failures([failure(1)], each=3)
    await store.delete(Source, "src_1")
    await store.save(source())
    assert await store.failures("src_1") == []


async def test_failures_outlast_a_restart(backend: Backend, tmp_path: Path, clock: Clock) -> None:
    async with backend.opened(tmp_path, clock) as store:
        await store.save(source())
        await asyncio.gather(*(store.keep_failures([failure(number)], each=3) for number in range(9)))
    async with backend.opened(tmp_path, clock) as store:
        assert [each.id for each in await store.failures("src_1")] == ["fail_0008", "fail_0007", "fail_0006"]
