"""Cutting the write-ahead log to nothing, once pages must go that it still holds as they were.

SQLite from 3.7.0 to 3.51.2 can lose committed pages if one connection checkpoints while another commits and begins the
log anew (sqlite.org/wal.html#walresetbug; mended in 3.51.3, 3.50.7 and 3.44.6, and Python runs on whatever the machine
has). Asking for `TRUNCATE` is no help: where the write lock is not to be had in time, SQLite checkpoints beside the
one who holds it. So the connection that writes is the only one that ever checkpoints, between two transactions: what
never happens at once cannot race. By itself SQLite does so only behind a commit, and when the last connection closes.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable

from hookbrook.errors import Problem
from hookbrook.store.sqlite.connection import BUSY_TIMEOUT_MS

logger = logging.getLogger("hookbrook.store")

#: How long a cut waits for those who still read pages of the log. Nobody's event is written meanwhile.
CUT_WAIT_MS = 100
#: Times that a cut is tried, and the time between two in which events are written.
CUTS = 6
CUT_PAUSE_S = 0.5


class Journal:
    """The write-ahead log, for those who must know that it was cut. Used in the event loop.

    Args:
        between: runs something on the writing connection, between two transactions.
    """

    def __init__(
        self,
        between: Callable[[Callable[[sqlite3.Connection], bool]], Awaitable[bool]],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._between = between
        self._sleep = sleep
        self._turn = asyncio.Lock()
        #: How many have asked, and up to which of them the log was cut or given up.
        self._asked = 0
        self._served = 0

    async def cut(self) -> None:
        """Return once the log holds nothing of before the call, or when it cannot be cut: then the log says so.

        All that ask while one cut is made are served by the next. Else each would let the writer wait.
        """
        self._asked += 1
        number = self._asked
        async with self._turn:
            if self._served < number:
                self._served = await self._cut()

    async def _cut(self) -> int:
        """How many are served."""
        asked, why = self._asked, "it is being read"
        for attempt in range(CUTS):
            if attempt:
                await self._sleep(CUT_PAUSE_S)
            asked = self._asked
            try:
                if await self._between(cut):
                    return asked
            except Problem as exc:
                why = str(exc)
                break
        logger.warning("what was erased may stay in the write-ahead log until that is written over: %s", why)
        return asked


def cut(connection: sqlite3.Connection) -> bool:
    """Move the log into the database and empty it; False if somebody still reads from it. Between two transactions."""
    connection.execute(f"PRAGMA busy_timeout = {CUT_WAIT_MS}")
    try:
        is_busy: int = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    finally:
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    return not is_busy
