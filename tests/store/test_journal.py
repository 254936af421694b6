"""Who checkpoints, and what those who erase and those who publish have to wait for meanwhile."""

import asyncio
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from tests.store.conftest import event

from hookbrook.errors import StoreUnavailable
from hookbrook.store.sqlite import SqliteStore
from hookbrook.store.sqlite.journal import CUT_PAUSE_S, CUTS, Journal
from hookbrook.store.sqlite.store import READERS

_hooks: list[object] = []
_opened: list[list[sqlite3.Connection]] = []


def _note(audited: str, arguments: tuple[Any, ...]) -> None:
    if audited == "sqlite3.connect/handle":
        for those in _opened:
            those.append(arguments[0])


@contextmanager
def connections() -> Iterator[list[sqlite3.Connection]]:
    """Every connection that is opened inside, in that order."""
    opened: list[sqlite3.Connection] = []
    _opened.append(opened)
    if not _hooks:
        # It cannot be taken away again; with nobody on the list it does nothing.
        sys.addaudithook(_note)
        _hooks.append(_note)
    try:
        yield opened
    finally:
        _opened.remove(opened)


def journal_of(folder: Path) -> int:
    return (folder / "hookbrook.db-wal").stat().st_size


async def erase(store: SqliteStore, name: str) -> None:
    assert await store.erase("default", name, now=0) is not None


class Publishing:
    """Eight that publish all the time while the block runs."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self._published = 0
        self._is_over = False
        self._progress = asyncio.Condition()
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        for number in range(8):
            self._tasks.create_task(self._publish(f"p{number}"))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over = True
        await self._tasks.__aexit__(kind, error, trace)

    async def _publish(self, name: str) -> None:
        number = 0
        while not self._is_over:
            number += 1
            await self._store.append([event(f"{name}-{number}")], [()], 1)
            async with self._progress:
                self._published += 1
                self._progress.notify_all()

    async def wait_for(self, more: int) -> None:
        enough = self._published + more
        async with self._progress:
            await self._progress.wait_for(lambda: self._published >= enough)


async def test_no_connection_but_the_writers_checkpoints_or_commits(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "hookbrook.db")
    with connections() as opened:
        await store.open()
        while len(opened) <= READERS:
            await asyncio.gather(*[store.routes() for _ in range(READERS)])
    said: list[list[str]] = [[] for _ in opened]
    for connection, statements in zip(opened, said, strict=True):
        connection.set_trace_callback(statements.append)
    async with Publishing(store):
        for number in range(5):
            await store.append([event(f"e{number}")], [()], 1)
            await asyncio.gather(*[store.routes() for _ in range(READERS)])
            await erase(store, f"e{number}")
    await store.close()
    of_writer, *rest = said
    assert any("wal_checkpoint" in each for each in of_writer)
    # Which of the threads reads is up to them.
    of_readers = [each for statements in rest for each in statements]
    assert of_readers != []
    assert [each for each in of_readers if "checkpoint" in each or "COMMIT" in each] == []


async def test_erasing_waits_for_no_pause_in_what_is_published(tmp_path: Path, store: SqliteStore) -> None:
    await store.append([event("e")], [()], 1)
    async with Publishing(store) as publishing, asyncio.timeout(60):
        for _ in range(10):
            await erase(store, "e")
            await publishing.wait_for(50)


async def test_whoever_still_reads_the_log_holds_up_the_erasing_and_no_append(
    tmp_path: Path, store: SqliteStore
) -> None:
    await store.append([event("e", data=b'"4242"')], [()], 1)
    with closing(sqlite3.connect(tmp_path / "hookbrook.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT data FROM event").fetchone() == (b'"4242"',)
        async with Publishing(store) as publishing:
            erasing = asyncio.create_task(erase(store, "e"))
            async with asyncio.timeout(4):
                await publishing.wait_for(100)
            assert not erasing.done()
        reader.execute("ROLLBACK")
    await erasing
    assert journal_of(tmp_path) == 0


class Between:
    """The writer: each time that it is asked it gives the next answer, once it may."""

    def __init__(self, *answers: bool | Exception) -> None:
        self.answers = list(answers)
        self.asked = 0
        self.is_asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def __call__(self, run: Callable[[sqlite3.Connection], bool]) -> bool:
        self.asked += 1
        self.is_asked.set()
        await self.may_answer.wait()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Pauses(list[float]):
    async def __call__(self, seconds: float) -> None:
        self.append(seconds)
        await asyncio.sleep(0)


async def test_a_log_that_is_always_read_is_left_after_some_tries_and_that_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    between, pauses = Between(*[False] * CUTS), Pauses()
    await Journal(between, pauses).cut()
    assert between.asked == CUTS
    assert pauses == [CUT_PAUSE_S] * (CUTS - 1)
    assert [record.getMessage() for record in caplog.records] == [
        "what was erased may stay in the write-ahead log until that is written over: it is being read"
    ]


async def test_a_failing_disk_is_told_and_the_erased_stays_erased(caplog: pytest.LogCaptureFixture) -> None:
    await Journal(Between(StoreUnavailable("The disk failed."))).cut()
    [record] = caplog.records
    assert record.getMessage().endswith("written over: The disk failed.")


async def test_all_that_ask_while_one_cut_is_made_share_the_next() -> None:
    between = Between(True, True, True)
    between.may_answer.clear()
    journal = Journal(between)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(journal.cut())
        await between.is_asked.wait()
        for _ in range(10):
            tasks.create_task(journal.cut())
        await asyncio.sleep(0)
        between.may_answer.set()
    assert between.asked == 2
    await journal.cut()
    assert between.asked == 3


async def test_tries_are_shared_too() -> None:
    between, pauses = Between(False, False, True), Pauses()
    journal = Journal(between, pauses)
    await asyncio.gather(*[journal.cut() for _ in range(10)])
    assert between.asked == 3
    assert len(pauses) == 2


async def test_who_is_cancelled_while_the_log_is_cut_leaves_the_others_their_turn() -> None:
    between = Between(True, True)
    between.may_answer.clear()
    journal = Journal(between)
    gone, other = asyncio.create_task(journal.cut()), asyncio.create_task(journal.cut())
    await between.is_asked.wait()
    gone.cancel()
    between.may_answer.set()
    await other
    assert between.asked == 2
