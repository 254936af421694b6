"""Data that is worth it lies in the file compressed, and is what it was to whoever reads it.

Webhooks are kilobytes of JSON, most of it names and addresses that come again and again. What a commit costs goes by
the pages that it writes, once into the write-ahead log and once into the database, so LZ4 more than pays for itself,
and the file holds more events.
"""

import sqlite3

from lz4.block import LZ4BlockError, compress, decompress

#: What is shorter shares its page with others anyway.
MIN_BYTES = 1024


def pack(data: bytes) -> tuple[bytes, int | None]:
    """What is stored for the data, and how long that was; None beside the data itself, where packing saves too little.

    Each eighth that it does not save would be unpacked for nothing at every reading.
    """
    if len(data) < MIN_BYTES:
        return data, None
    packed: bytes = compress(data, store_size=False)
    return (packed, len(data)) if 8 * len(packed) <= 7 * len(data) else (data, None)


def unpack(stored: bytes, size: int | None) -> bytes:
    """The data again, from what `pack` gave. Raises SQLite's own error for a damaged file if it is not that."""
    if size is None:
        return stored
    try:
        data: bytes = decompress(stored, uncompressed_size=size)
    except LZ4BlockError as exc:
        raise _damage(str(exc)) from exc
    if len(data) != size:
        raise _damage(f"{len(data)} bytes where there were {size}")
    return data


def _damage(why: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(f"data cannot be unpacked: {why}")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error
