"""A process that appends as fast as it can, from several tasks and in batches of several sizes, until it is killed.

Arguments: the database's path, and a word that no other round has. Every acknowledged batch is one line on stdout, its
ids separated by blanks, and written in one go: a line counts when it is whole.
"""

import asyncio
import os
import sys
import time
from pathlib import Path

from hookbrook.core.endpoint import Endpoint
from hookbrook.core.event import NewEvent
from hookbrook.store.appender import Appender
from hookbrook.store.catalog import Catalog
from hookbrook.store.sqlite import SqliteStore

TASKS = 8
#: Events per batch, by task.
SIZES = (1, 1, 1, 2, 3, 5, 20, 100)


def now_us() -> int:
    return time.time_ns() // 1000


async def main(path: Path, round_: str) -> None:
    store = SqliteStore(path, clock=now_us)
    await store.open()
    catalog = Catalog(store)
    await catalog.load()
    if not catalog.routes.by_id:
        for number, channels in enumerate([("a*",), ("b",)]):
            await catalog.save(
                Endpoint(id=f"ep_{number}", url="https://x", secrets=(), channels=channels, created=0, updated=0)
            )
    appender = Appender(store, catalog, now_us)
    os.write(1, b"\n")

    async def publish(task: int) -> None:
        number = 0
        while True:
            ids = [f"{round_}.{task}.{number + each}" for each in range(SIZES[task])]
            number += len(ids)
            await appender.append([_event(each) for each in ids])
            os.write(1, " ".join(ids).encode() + b"\n")

    await asyncio.gather(*map(publish, range(TASKS)))


def _event(id: str) -> NewEvent:
    # Every third is on no channel that anybody asked for.
    channel = ("a.1", "b", "c")[sum(id.encode()) % 3]
    data = id.encode() * 20
    return NewEvent(
        id=id, channels=(channel,), time=0, content_type="text/plain", kind="text", data=data, dedupe_id=id, digest=b"1"
    )


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
