"""What is special about the store on SQLite: the file, its lock, its damage, a full disk, and the group commit."""

import asyncio
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hookbrook.core.cursor import Cursor
from hookbrook.core.delivery import NewDelivery
from hookbrook.core.endpoint import Endpoint
from hookbrook.core.event import Appended, NewEvent
from hookbrook.errors import ConfigError, Conflict, StaleRouting, StoreDamaged, StoreError, StoreFull, StoreUnavailable
from hookbrook.store.base import Query
from hookbrook.store.sqlite import SqliteStore
from hookbrook.store.sqlite.connection import APPLICATION_ID, migration_scripts

EVERYTHING = Query(tenant=None)


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(path)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def event(id: str, data: bytes = b"1", **fields: object) -> NewEvent:
    values: dict[str, object] = {
        "id": id, "channels": ("a",), "time": 0, "content_type": "text/plain", "kind": "text", "data": data,
        "dedupe_id": id, **fields,
    }  # fmt: skip
    return NewEvent(**values)  # type: ignore[arg-type]


def noise(size: int) -> bytes:
    """Data that takes as much room in the file as it is long."""
    return random.Random(size).randbytes(size)


async def append(store: SqliteStore, *events: NewEvent) -> list[Appended]:
    version, _ = await store.routes()
    return await store.append(events, [()] * len(events), version)


async def ids(store: SqliteStore) -> list[str]:
    found: list[str] = []
    after = 0
    while True:
        page = await store.read(EVERYTHING, after=after, limit=1000)
        found += [each.id for each in page.events]
        if page.scanned_to >= page.tail:
            return found
        after = page.scanned_to


async def as_one_group(*calls: Awaitable[Any]) -> list[Any]:
    """The calls' results or errors. What is asked in one turn of the loop becomes one transaction."""
    return await asyncio.gather(*calls, return_exceptions=True)


def run(program: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


# The schema


async def test_a_fresh_file_gets_the_newest_schema_and_says_whose_it_is(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    async with opened(path):
        pass
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(migration_scripts()),)
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


async def test_an_empty_file_is_a_fresh_one(tmp_path: Path) -> None:
    path = tmp_path / "empty.db"
    path.touch()
    async with opened(path) as store:
        await append(store, event("e1"))


async def test_a_file_is_reopened_as_it_was_and_opens_one_epoch_per_start(tmp_path: Path) -> None:
    path = tmp_path / "hookbrook.db"
    epochs = set()
    for number in range(3):
        async with opened(path) as store:
            assert await ids(store) == [f"e{before}" for before in range(number)]
            [appended] = await append(store, event(f"e{number}"))
            epochs.add(appended.epoch)
            assert appended.seq == number + 1
    assert len(epochs) == 3


async def test_a_file_of_a_newer_version_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "hookbrook.db"
    async with opened(path):
        pass
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {len(migration_scripts()) + 1}")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="newer Hookbrook"):
        await SqliteStore(path).open()
    assert path.read_bytes() == before


async def test_another_programs_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE song (name TEXT)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="another program"):
        await SqliteStore(path).open()
    assert path.read_bytes() == before
    assert not path.with_name("theirs.db-wal").exists()


async def test_a_file_that_was_refused_is_not_held(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    path.write_bytes(b"no database at all, but long enough to be read as one" * 100)
    for _ in range(2):
        with pytest.raises(StoreDamaged):
            await SqliteStore(path).open()
    path.unlink()
    async with opened(path) as store:
        assert await append(store, event("e1"))


# Who may write


async def test_a_second_store_on_the_file_is_refused_with_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "hookbrook.db"
    link = tmp_path / "link.db"
    link.symlink_to(path)
    async with opened(path) as store:
        for name in (path, link):
            with pytest.raises(ConfigError, match=r"in use by another Hookbrook.*--store"):
                await SqliteStore(name).open()
        assert await append(store, event("e1"))
    async with opened(path):
        pass


HOLDER = """
    import asyncio, sys
    from pathlib import Path
    from hookbrook.store.sqlite import SqliteStore

    async def main():
        await SqliteStore(Path(sys.argv[1])).open()
        print("open", flush=True)
        sys.stdin.read()
    asyncio.run(main())
"""


@contextmanager
def held_by_another_process(path: Path) -> Iterator[None]:
    """Until it is killed at the end."""
    command = [sys.executable, "-c", textwrap.dedent(HOLDER), str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        try:
            yield
        finally:
            process.kill()


async def test_a_second_process_is_refused_until_the_first_has_ended_however_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "hookbrook.db"
    with held_by_another_process(path), pytest.raises(ConfigError, match="in use"):
        await SqliteStore(path).open()
    async with opened(path) as store:
        assert await append(store, event("e1"))


async def test_a_folder_that_is_not_there_or_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in ("missing", "file"):
        with pytest.raises(ConfigError, match=rf"cannot write in .*{folder}.*Make the folder"):
            await SqliteStore(tmp_path / folder / "hookbrook.db").open()


async def test_a_folder_in_which_this_user_may_not_write_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    user = os.geteuid()
    if user == 0:
        # The superuser may write everywhere, so somebody else asks.
        os.seteuid(65534)
    try:
        with pytest.raises(ConfigError, match=r"cannot write in .*Permission denied"):
            await SqliteStore(folder / "hookbrook.db").open()
    finally:
        os.seteuid(user)


async def test_a_path_that_is_a_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "hookbrook.db").mkdir()
    with pytest.raises(StoreUnavailable, match="cannot be opened"):
        await SqliteStore(tmp_path / "hookbrook.db").open()


# Damage


@pytest.mark.parametrize("size", [100, 4096, 100_000])
async def test_a_file_that_is_no_database_stops_the_start_with_a_sentence(tmp_path: Path, size: int) -> None:
    path = tmp_path / "hookbrook.db"
    path.write_bytes(random.Random(1).randbytes(size))
    with pytest.raises(StoreDamaged, match=r"not a sound SQLite database.*backup"):
        await SqliteStore(path).open()


async def damaged(path: Path) -> None:
    """300 events of a page each, of which some in the middle are garbage."""
    async with opened(path) as store:
        for batch in range(3):
            await append(store, *[event(f"e{batch * 100 + number}", noise(4000)) for number in range(100)])
    with path.open("r+b") as file:
        for page in range(120, 200):
            file.seek(page * 4096)
            file.write(random.Random(page).randbytes(4096))


async def test_damaged_pages_fail_the_reads_that_meet_them_and_no_others(tmp_path: Path) -> None:
    path = tmp_path / "hookbrook.db"
    await damaged(path)
    async with opened(path) as store:
        with pytest.raises(StoreDamaged, match=r"not a sound SQLite database.*\.recover"):
            await ids(store)
        # What does not meet them is served, and events are taken.
        assert (await store.read(EVERYTHING, after=0, limit=10)).events[0].id == "e0"
        [appended] = await append(store, event("new"))
        page = await store.read(EVERYTHING, after=appended.seq - 1, limit=10)
        assert [each.id for each in page.events] == ["new"]
        # The operator is told.
        health = await store.health()
        assert health.ok
        assert "not a sound SQLite database" in health.reason


async def test_a_job_that_meets_a_damaged_page_does_not_spoil_the_appends_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "hookbrook.db"
    await damaged(path)
    async with opened(path) as store:
        results = await as_one_group(
            store.append([event("n1")], [()], 1),
            store.trim(appended_before=None, keep=0, limit=1000),
            store.append([event("n2")], [()], 1),
        )
        assert isinstance(results[1], StoreDamaged)
        # The transaction that failed left no hole.
        assert [results[0][0].seq, results[2][0].seq] == [301, 302]
        assert (await store.bounds()).oldest == 1


# No room


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 2 MiB."""
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("mounting a small disk needs the superuser")
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2048k", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


async def test_a_full_disk_refuses_whole_events_and_goes_on_by_itself_when_there_is_room(tiny_disk: Path) -> None:
    ballast = tiny_disk / "ballast"
    ballast.write_bytes(b"x" * 1_000_000)
    async with opened(tiny_disk / "hookbrook.db") as store:
        accepted = await fill(store, StoreFull)
        health = await store.health()
        assert not health.ok
        assert "no room" in health.reason
        # What would have been a conflict with an event that is not kept either, is none.
        huge, other = event("x", noise(20_000), digest=b"1"), event("x", digest=b"2")
        calls = [store.append([each], [()], 1) for each in (huge, other)]
        assert [type(each) for each in await as_one_group(*calls)] == [StoreFull] * 2
        # Reading goes on.
        assert await ids(store) == accepted
        ballast.unlink()
        # Nobody has published since, and yet it is well again.
        assert (await store.health()).ok
        await append(store, event("again"))
        assert await ids(store) == [*accepted, "again"]
    async with opened(tiny_disk / "hookbrook.db") as store:
        assert await ids(store) == [*accepted, "again"]


async def fill(store: SqliteStore, error: type[StoreError]) -> list[str]:
    """Publish in batches until there is no room, then so small that the last gaps are filled; what was accepted."""
    accepted: list[str] = []
    for size in (20_000, 2000, 1):
        with pytest.raises(error) as refused:  # noqa: PT012 - the last of many
            for number in range(10_000):
                batch = [event(f"{size}.{number}.{each}", noise(size)) for each in range(3)]
                await append(store, *batch)
                accepted += [each.id for each in batch]
        assert refused.value.status == error.status
        assert refused.value.detail
    return accepted


LIMITED = """
    import asyncio, resource, signal, sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[2])
    from test_sqlite import append, event, fill, ids, opened
    from hookbrook.errors import StoreError

    async def main():
        path = Path(sys.argv[1])
        async with opened(path) as store:
            # Python ignores SIGXFSZ, so that a write beyond the limit fails with EFBIG.
            resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, resource.RLIM_INFINITY))
            accepted = await fill(store, StoreError)
            health = await store.health()
            assert not health.ok and health.reason, health
            assert await ids(store) == accepted
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            assert (await store.health()).ok
            await append(store, event("again"))
            assert await ids(store) == [*accepted, "again"]
        async with opened(path) as store:
            assert await ids(store) == [*accepted, "again"]
        print(len(accepted), health.reason)
    asyncio.run(main())
"""


def test_a_limit_of_file_size_refuses_whole_events_and_goes_on_when_it_is_lifted(tmp_path: Path) -> None:
    """As a full disk, but anybody may set such a limit; SQLite takes it for a failing disk."""
    ended = run(LIMITED, tmp_path / "hookbrook.db", Path(__file__).parent)
    assert ended.returncode == 0, ended.stderr
    count, _, reason = ended.stdout.partition(" ")
    assert int(count) > 10
    assert "limits of file size" in reason


# Group commit


MISTAKES = {
    "too large a number": event("bad", time=1 << 70),
    "half a surrogate pair": event("bad", type="\ud800"),
    "no channel": event("bad", channels=()),
    "not of its type": event("bad", tenant=None),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
async def test_a_job_with_a_mistake_does_not_spoil_its_neighbours(tmp_path: Path, mistake: NewEvent) -> None:
    """What cannot be bound to a statement fails the whole transaction; the others get one of their own."""
    path = tmp_path / "hookbrook.db"
    async with opened(path) as store:
        heard: list[str] = []
        store.follow(lambda news: heard.extend(each.id for each in news))
        batch = [*(event(f"e{number}") for number in range(5)), mistake, *(event(f"e{n}") for n in range(5, 10))]
        results = await as_one_group(*[store.append([each], [()], 1) for each in batch])
        assert [isinstance(result, list) for result in results] == [True] * 5 + [False] + [True] * 5
        # A mistake of ours is no state of the disk.
        assert not isinstance(results[5], StoreError)
        assert (await store.health()).ok
        assert heard == await ids(store) == [f"e{number}" for number in range(10)]


async def test_a_conflict_with_what_was_not_kept_is_none(tmp_path: Path) -> None:
    path = tmp_path / "hookbrook.db"
    async with opened(path) as store:
        batches = [[event("x", digest=b"1"), MISTAKES["too large a number"]], [event("x", digest=b"2")]]
        results = await as_one_group(*[store.append(each, [()] * len(each), 1) for each in batches])
        assert [isinstance(result, list) for result in results] == [False, True]
        assert await ids(store) == ["x"]


async def test_what_a_refused_job_has_written_is_undone_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "hookbrook.db"

    def refuse(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO meta VALUES ('never', 1)")
        raise Conflict("changed its mind")

    async with opened(path) as store:
        results = await as_one_group(
            store.append([event("e1")], [()], 1),
            store._write(refuse),
            store.append([event("e2")], [()], 1),
        )
        assert isinstance(results[1], Conflict)
        assert await ids(store) == ["e1", "e2"]
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM meta WHERE name = 'never'").fetchone() == (0,)
    connection.close()


async def test_a_delivery_id_that_is_taken_fails_its_append_alone_and_whole(tmp_path: Path) -> None:
    async with opened(tmp_path / "hookbrook.db") as store:
        owed = [NewDelivery(id="dlv_1", endpoint_id="ep_1")]
        await store.append([event("first")], [owed], 1)
        results = await as_one_group(
            store.append([event("good")], [()], 1),
            store.append([event("bad"), event("worse")], [owed, ()], 1),
        )
        assert isinstance(results[1], sqlite3.IntegrityError)
        assert await ids(store) == ["first", "good"]


async def test_what_a_cancelled_caller_asked_for_is_done_all_the_same(tmp_path: Path) -> None:
    async with opened(tmp_path / "hookbrook.db") as store:
        heard: list[str] = []
        store.follow(lambda news: heard.extend(each.id for each in news))
        callers = [asyncio.ensure_future(store.append([event(f"e{number}")], [()], 1)) for number in range(20)]
        await asyncio.sleep(0)
        for caller in callers[::2]:
            caller.cancel()
        results = await asyncio.gather(*callers, return_exceptions=True)
        assert [isinstance(result, list) for result in results] == [False, True] * 10
        await append(store, event("more"))
        assert heard == await ids(store) == [*(f"e{number}" for number in range(20)), "more"]


async def test_closing_finishes_what_was_accepted(tmp_path: Path) -> None:
    path = tmp_path / "hookbrook.db"
    store = SqliteStore(path)
    await store.open()
    callers = [asyncio.ensure_future(store.append([event(f"e{number}")], [()], 1)) for number in range(50)]
    await asyncio.sleep(0)
    await store.close()
    results = await asyncio.gather(*callers)
    assert [result.seq for [result] in results] == list(range(1, 51))
    with pytest.raises(StoreUnavailable):
        await store.append([event("late")], [()], 1)
    async with opened(path) as store:
        assert len(await ids(store)) == 50


async def test_a_listener_that_fails_leaves_nobody_waiting(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with opened(tmp_path / "hookbrook.db") as store:

        def fail(news: object) -> None:
            raise RuntimeError("a bug")

        store.follow(fail)
        async with asyncio.timeout(5):
            assert await append(store, event("e1"))
        assert "a listener of the log failed" in caplog.text


async def test_readers_do_not_wait_for_the_writer_nor_it_for_them(tmp_path: Path) -> None:
    """Another process holds the write lock, as a backup tool may: appends wait, reads do not."""
    path = tmp_path / "hookbrook.db"
    async with opened(path) as store:
        await append(store, event("e1"))
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        waiting = asyncio.ensure_future(store.append([event("e2")], [()], 1))
        for _ in range(20):
            assert await ids(store) == ["e1"]
        assert not waiting.done()
        other.execute("ROLLBACK")
        await waiting
        # And one that reads for long holds up no append.
        other.execute("BEGIN")
        assert other.execute("SELECT count(*) FROM event").fetchone() == (2,)
        async with asyncio.timeout(2):
            await append(store, event("e3"))
        assert other.execute("SELECT count(*) FROM event").fetchone() == (2,)
        other.close()
        assert await ids(store) == ["e1", "e2", "e3"]


async def test_routes_that_changed_in_the_same_group_are_seen(tmp_path: Path) -> None:
    async with opened(tmp_path / "hookbrook.db") as store:
        endpoint = Endpoint(id="ep_1", url="https://example.com", secrets=(), created=0, updated=0)

        async def append_after() -> list[Appended]:
            return await store.append([event("after")], [()], 1)

        results = await as_one_group(store.append([event("before")], [()], 1), store.save(endpoint), append_after())
        assert isinstance(results[2], StaleRouting)
        assert await ids(store) == ["before"]


# Backups


async def test_cursors_from_after_a_backup_are_foreign_to_the_log_restored_from_it(tmp_path: Path) -> None:
    path, backup = tmp_path / "hookbrook.db", tmp_path / "backup.db"
    async with opened(path) as store:
        kept = [(await append(store, event(f"e{number}")))[0].cursor for number in range(5)]
        copy = sqlite3.connect(backup)
        source = sqlite3.connect(path)
        source.backup(copy)
        source.close()
        copy.close()
        lost = [(await append(store, event(f"lost{number}")))[0].cursor for number in range(5)]
    async with opened(backup) as store:
        assert await ids(store) == [f"e{number}" for number in range(5)]
        again = [(await append(store, event(f"new{number}")))[0] for number in range(7)]
        bounds = await store.bounds()
        # The same numbers are issued again, for other events.
        assert [each.seq for each in again][:5] == [Cursor.parse(text).seq for text in lost]
        assert all(bounds.epochs.contains(Cursor.parse(text), bounds.tail) for text in kept)
        assert not any(bounds.epochs.contains(Cursor.parse(text), bounds.tail) for text in lost)


async def test_a_store_that_was_never_opened_is_closed(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "hookbrook.db")
    await store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.read(EVERYTHING, after=0, limit=1)
    assert not (await store.health()).ok


def modes_of_others(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o077 for path in folder.iterdir() if path.suffix != ".lock"}


async def test_only_its_owner_can_read_a_new_file_and_what_lies_beside_it(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "x.db")
    await store.open()
    await store.secret("token", b"secret")
    assert modes_of_others(tmp_path) == {"x.db": 0, "x.db-wal": 0, "x.db-shm": 0}
    await store.close()


# Ids made just now


async def test_a_fresh_id_is_taken_from_then_on(tmp_path: Path) -> None:
    async with opened(tmp_path / "hookbrook.db") as store:
        made = msgspec.structs.replace(event("e1"), fresh=True)
        first, repeated = await as_one_group(store.append([made], [()], 1), store.append([event("e1")], [()], 1))
        [later] = await store.append([event("e1")], [()], 1)
        assert [each.duplicate for each in (first[0], repeated[0], later)] == [False, True, True]


async def test_an_id_wrongly_called_fresh_spoils_nobody_elses_append(tmp_path: Path) -> None:
    async with opened(tmp_path / "hookbrook.db") as store:
        await append(store, event("e1"))
        wrong = msgspec.structs.replace(event("e1"), fresh=True)
        refused, other = await as_one_group(store.append([wrong], [()], 1), store.append([event("e2")], [()], 1))
        assert isinstance(refused, sqlite3.IntegrityError)
        assert other[0].seq == 2
        assert await ids(store) == ["e1", "e2"]
