"""Opening the database file, and what SQLite's errors mean for people."""

import fcntl
import os
import sqlite3
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import IO

from hookbrook.errors import ConfigError, StoreDamaged, StoreError, StoreFull, StoreUnavailable

#: "Hook" in ASCII: tells our files from other SQLite databases.
APPLICATION_ID = 0x486F6F6B
#: Pages that the write-ahead log may hold before they are moved into the database, 4 MiB. No commit is answered while
#: they are moved: four times as many cost no less per event, and made webhooks of 8 KB wait for 40 ms (`receive_pace`).
CHECKPOINT_PAGES = 1000
#: The write-ahead log is cut back to this after a burst.
JOURNAL_SIZE_LIMIT = 64 * 1024 * 1024
CACHE_KIB = 64 * 1024
#: A backup tool may hold a lock for a moment.
BUSY_TIMEOUT_MS = 5000


def connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=512)
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    connection.execute(f"PRAGMA query_only = {'ON' if read_only else 'OFF'}")
    return connection


def open_writer(path: Path) -> sqlite3.Connection:
    """The one connection that writes, with the schema brought up to date. Raises `ConfigError` or a `StoreError`."""
    _make_private(path)
    try:
        connection = connect(path, read_only=False)
        try:
            # Before the journal is set: a database that is not ours stays as it is.
            version = judge(connection, path)
            _prepare(connection)
            migrate(connection, version)
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as exc:
        raise explain(exc, path) from exc
    return connection


def _make_private(path: Path) -> None:
    """Make a new file that only its owner can read, since it will hold secrets; SQLite gives what it puts beside it the
    same mode. A file that is there keeps the mode that somebody gave it."""
    # What cannot be made here cannot be opened either, and that says why.
    with suppress(OSError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    # FULL: the write-ahead log reaches the disk before a commit returns. NORMAL would lose the newest on a power cut.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit = {JOURNAL_SIZE_LIMIT}")
    connection.execute("PRAGMA temp_store = MEMORY")
    # What was erased or trimmed must not be found in free pages. Not every SQLite is built with this.
    connection.execute("PRAGMA secure_delete = ON")


def hold(path: Path) -> IO[bytes]:
    """The lock that keeps a second writer process away; it ends with the process, however that ends.

    Two writers would be safe for the data but not faster, and one would starve for seconds.
    """
    # Beside the file itself, so that a symbolic link to it does not lead around the lock.
    beside = path.resolve().with_name(path.resolve().name + ".lock")
    try:
        lock = beside.open("ab")
    except OSError as exc:
        raise ConfigError(
            "store", f"cannot write in {path.parent}: {exc.strerror}. Make the folder and let this user write there."
        ) from exc
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise ConfigError(
            "store", f"{path} is in use by another Hookbrook. Stop that one, or give this one another --store."
        ) from None
    return lock


def judge(connection: sqlite3.Connection, path: Path) -> int:
    """The version of the file's schema, 0 for an empty file. Raises `ConfigError` if it is not for us to write."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    application: int = connection.execute("PRAGMA application_id").fetchone()[0]
    tables: int = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if tables and application != APPLICATION_ID:
        raise ConfigError("store", f"{path} is the database of another program. Choose another file.")
    if version > len(migration_scripts()):
        raise ConfigError(
            "store", f"{path} was written by a newer Hookbrook (schema {version}). Start that version, or a copy of it."
        )
    return version


def migrate(connection: sqlite3.Connection, version: int) -> None:
    """Run the numbered migrations that this file has not seen, each in a transaction of its own."""
    migrations = migration_scripts()
    for number, script in enumerate(migrations[version:], start=version + 1):
        marks = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {number}"
        connection.executescript(f"BEGIN IMMEDIATE; {script}; {marks}; COMMIT;")


def migration_scripts() -> list[str]:
    """The migrations in order; `0001_first.sql` is number 1."""
    folder = files(__package__).joinpath("migrations")
    scripts = sorted((entry.name, entry) for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [entry.read_text("utf-8") for _, entry in scripts]


#: The machine is at fault, not what was asked: whatever is asked at this moment would fail alike.
_OF_THE_MACHINE = frozenset(
    {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_BUSY}
    | {sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PERM}
)
_OF_THE_FILE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def _code(exc: sqlite3.Error) -> int:
    return getattr(exc, "sqlite_errorcode", 0) & 0xFF


def blames_machine(exc: sqlite3.Error) -> bool:
    """Whether everybody's request would fail now: a full or failing disk, a lock that is held."""
    return _code(exc) in _OF_THE_MACHINE


def blames_file(exc: sqlite3.Error) -> bool:
    """Whether a page of the file is damaged; requests that do not touch it still work."""
    return _code(exc) in _OF_THE_FILE


def explain(exc: sqlite3.Error, path: Path) -> StoreError:
    """SQLite's error as ours, with a sentence that says what to do."""
    code = _code(exc)
    if code == sqlite3.SQLITE_FULL:
        return StoreFull(f"There is no room left for {path.name}. Free some disk space; it goes on by itself.")
    if code in _OF_THE_FILE:
        return StoreDamaged(
            f"{path.name} is not a sound SQLite database ({exc}). Restore it from a backup, or move it away to begin "
            "anew; `sqlite3 FILE .recover` may save what is in it."
        )
    if code == sqlite3.SQLITE_CANTOPEN:
        return StoreUnavailable(f"{path} cannot be opened. Does its folder exist, and may this user write there?")
    if code == sqlite3.SQLITE_READONLY:
        return StoreUnavailable(f"{path} is read-only for this user. Change its owner or its mode.")
    if code == sqlite3.SQLITE_IOERR:
        return StoreUnavailable(
            f"The disk failed while {path.name} was used ({exc}). Look at the system's log, and at limits of file size "
            "and disk quotas."
        )
    return StoreUnavailable(f"{path.name} could not be used: {exc}.")
