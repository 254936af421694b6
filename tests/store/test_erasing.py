"""What was erased is not in the files any more."""

from pathlib import Path
from random import Random

from hookbrook.core.event import NewEvent
from hookbrook.store.sqlite import SqliteStore

SECRET = b"4242424242424242-a-card-number"


def event(number: int) -> NewEvent:
    # Of what would not be any smaller if it was packed.
    data = b'"%b%b"' % (SECRET, Random(number).randbytes(number * 1500).hex().encode())
    return NewEvent(
        id=f"e{number}", channels=("a",), time=0, content_type="application/json", kind="json", data=data,
        dedupe_id=f"e{number}",
    )  # fmt: skip


async def test_no_byte_of_it_is_left_in_the_database_or_its_journal(tmp_path: Path, store: SqliteStore) -> None:
    version, _ = await store.routes()
    # One that lies within a page, and one that fills pages of its own.
    await store.append([event(0), event(5)], [(), ()], version)
    assert holding(tmp_path) != []
    for number in (0, 5):
        await store.erase("default", f"e{number}", now=0)
    assert holding(tmp_path) == []


def holding(folder: Path) -> list[str]:
    """The files that have it."""
    return [path.name for path in folder.iterdir() if SECRET in path.read_bytes()]
