"""Pages of the log beyond what the feed holds, read once for all who need the same.

When a server has been away, the readers of one channel come back within seconds, all of them a little or a lot behind,
and each at a place of its own. A page begins at a round seq at or before the reader's, so that neighbours ask for the
same one; whoever asks while it is being read waits for that reading; and it is kept for a moment, for those who come
after. Its entries are shared, and so are their frames.

A reader whose client takes little asks for small pages, which nobody else would want; it reads for itself.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from hookbrook.store.base import Log, Query, Standing
from hookbrook.stream.subscription import Entry

#: Events per page for clients that keep up, and the seqs to whose multiples the beginnings of their pages are rounded
#: down: at most a quarter of a page is behind its reader.
PAGE = 256
ROUND = 64
#: How long a page is kept for others. A herd comes within seconds; what it was for is in the page cache after that.
KEEP_S = 2.0
#: Bytes of events that are kept; beyond it pages go early. One page may have 4 MiB of data.
MAX_KEPT_BYTES = 64 * 1024 * 1024
#: What an event takes in memory beside its data, its frame included.
EVENT_BYTES = 800


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedPage:
    """What the store holds for a query behind a seq."""

    entries: Sequence[Entry]
    after: int
    #: No further event matches up to this seq.
    scanned_to: int
    #: The log's oldest seq at the moment of reading.
    oldest: int
    #: Of the query's channels; losses after `after`, which may stand before the reader.
    standing: Standing
    size: int

    def reaches(self, seq: int) -> bool:
        """Whether it says what follows the seq, if only that nothing does for a while."""
        return self.after <= seq < self.scanned_to


class Pages:
    """All methods belong to one event loop."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._reading: dict[tuple[Query, int], asyncio.Task[SharedPage]] = {}
        #: Oldest first.
        self._kept: dict[Query, list[SharedPage]] = {}
        self._bytes = 0

    async def after(self, query: Query, seq: int, *, limit: int = PAGE) -> SharedPage:
        """A page that says what follows the seq, and perhaps what stands a little before it.

        Raises what `Log.read` raises.
        """
        for page in self._kept.get(query, ()):
            if page.reaches(seq):
                return page
        if limit < PAGE:
            return await self._read(query, seq, limit)
        start = seq - seq % ROUND
        page = await self._share(query, start)
        # Of events of megabytes a page has few, which may all stand before the reader.
        return page if page.reaches(seq) or start == seq else await self._share(query, seq)

    async def _share(self, query: Query, start: int) -> SharedPage:
        key = (query, start)
        task = self._reading.get(key)
        if task is None:
            task = self._reading[key] = asyncio.get_running_loop().create_task(self._read_and_keep(key))
        # Whoever leaves while it is read must not take it from the others.
        return await asyncio.shield(task)

    async def _read_and_keep(self, key: tuple[Query, int]) -> SharedPage:
        query, start = key
        is_current = False
        try:
            page = await self._read(query, start, PAGE)
        finally:
            if self._reading.get(key) is asyncio.current_task():
                is_current = True
                del self._reading[key]
        if is_current:
            self._keep(query, page)
        return page

    async def _read(self, query: Query, after: int, limit: int) -> SharedPage:
        page = await self._log.read(query, after=after, limit=limit)
        return SharedPage(
            entries=[Entry(event) for event in page.events],
            after=after,
            scanned_to=page.scanned_to,
            oldest=page.oldest,
            standing=page.standing,
            size=sum(EVENT_BYTES + len(event.data) + len(event.request or b"") for event in page.events),
        )

    def _keep(self, query: Query, page: SharedPage) -> None:
        if page.size > MAX_KEPT_BYTES // 2:
            return
        while self._bytes + page.size > MAX_KEPT_BYTES:
            oldest = next(iter(self._kept))
            self._drop(oldest, self._kept[oldest][0])
        self._kept.setdefault(query, []).append(page)
        self._bytes += page.size
        asyncio.get_running_loop().call_later(KEEP_S, self._drop, query, page)

    def forget(self) -> None:
        """Keep nothing that was read before now, and give nothing to newcomers that is being read."""
        self._reading = {}
        self._kept = {}
        self._bytes = 0

    def _drop(self, query: Query, page: SharedPage) -> None:
        kept = self._kept.get(query)
        if kept is not None and page in kept:
            kept.remove(page)
            self._bytes -= page.size
            if not kept:
                del self._kept[query]
