"""What is kept, as the whole app's trimming does it."""

import asyncio
from pathlib import Path

import msgspec

from hookbrook.core.retention import Rule
from hookbrook.store.base import Query
from hookbrook.store.retention import Retention
from hookbrook.store.sqlite import SqliteStore

from .conftest import NOW, event

HOUR_US = 3600 * 1_000_000


class Clock:
    now = NOW

    def __call__(self) -> int:
        return self.now


async def kept(store: SqliteStore, channel: str) -> list[str]:
    page = await store.read(Query(tenant="default", channels=(channel,)), after=0, limit=100)
    return [each.id for each in page.events]


async def append(store: SqliteStore, *names: str, channel: str) -> None:
    await store.append([event(name, channel) for name in names], [()] * len(names), 1)


async def test_the_whole_log_and_single_channels_have_limits_of_their_own(tmp_path: Path) -> None:
    clock = Clock()
    store = SqliteStore(tmp_path / "hookbrook.db", clock=clock)
    await store.open()
    rules = (Rule(channels="t*", count=1), Rule(channels="u", age_s=3600.0))
    retention = Retention(store, age_s=2 * 3600.0, count=None, clock=clock, rules=rules)
    for channel in "t", "u", "v":
        await append(store, *(f"{channel}{number}" for number in range(3)), channel=channel)
    await retention.step()
    assert [len(await kept(store, channel)) for channel in "tuv"] == [1, 3, 3]
    clock.now += HOUR_US + 1
    await retention.step()
    assert [len(await kept(store, channel)) for channel in "tuv"] == [1, 0, 3]
    clock.now += HOUR_US
    await retention.step()
    assert [len(await kept(store, channel)) for channel in "tuv"] == [0, 0, 0]
    await store.close()


async def test_without_any_limit_the_data_of_deleted_channels_goes_all_the_same(store: SqliteStore) -> None:
    await append(store, "e1", channel="a")
    await store.append([msgspec.structs.replace(event("gone"), effect="delete")], [()], 1)
    running = asyncio.create_task(Retention(store, age_s=None, count=None, clock=lambda: NOW).run())
    async with asyncio.timeout(10):
        while await _data(store):  # noqa: ASYNC110 - trimming has no event of its own
            await asyncio.sleep(0.01)
    running.cancel()


async def _data(store: SqliteStore) -> int:
    found = await store._read(lambda connection: connection.execute("SELECT count(data) FROM event").fetchone())
    return int(found[0])
