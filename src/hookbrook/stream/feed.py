"""The feed: follows the log and keeps its recent tail in memory.

Most readers are live or only a moment behind, so what they need next is here, encoded once for all of them. Whoever is
further behind reads from the store until the feed holds what comes next. At the start the feed reads the log's last
events, once, for all the readers who come back after a restart.

What was committed is announced when the pace says so: at once, or together with what else comes within milliseconds.
Until then it is no part of the feed, as if it had been committed a moment later.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hookbrook.core.channel import RESERVED
from hookbrook.core.cursor import Epochs
from hookbrook.core.event import Event
from hookbrook.errors import StoreError
from hookbrook.store.base import Bounds, Log, Query
from hookbrook.stream.block import Block
from hookbrook.stream.effects import Effects
from hookbrook.stream.pace import LoadPace, Pace
from hookbrook.stream.subscription import Entry, Subscription

logger = logging.getLogger("hookbrook.stream")

#: Enough for a client that reconnects within seconds at thousands of events per second.
MAX_ENTRIES = 16_384
#: Bytes of events held, with the requests that brought them; frames of the same size may be held beside it.
MAX_BYTES = 64 * 1024 * 1024
#: News does not wait for the pace beyond this: so much fills a write by itself.
MAX_NEWS_BYTES = 1024 * 1024
#: Seqs of one block, which is what a reader looks at in one step.
SPAN = 256
#: What is read at the start: more than is published while a server sends its readers away, and a moment's reading.
WARM_ENTRIES = 4096
WARM_BYTES = 8 * 1024 * 1024
WARM_PAGE = 1000
#: Everything, also what has to be asked for by name.
_EVERYTHING = ("*", f"{RESERVED}*")


@dataclass(frozen=True, slots=True)
class Stretch:
    """What a reader wants of a stretch of the log."""

    entries: Sequence[Entry]
    #: The last seq that was looked at.
    scanned_to: int


class Feed:
    """`start` before use. `listener` is called with the new entries after the feed holds them."""

    def __init__(
        self,
        log: Log,
        *,
        max_entries: int = MAX_ENTRIES,
        max_bytes: int = MAX_BYTES,
        pace: Pace | None = None,
    ) -> None:
        self._log = log
        self._pace = LoadPace() if pace is None else pace
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._span = min(SPAN, max_entries)
        #: By number: a block holds the seqs from `number * span` on. One without entries may be missing.
        self._blocks: dict[int, Block] = {}
        self._count = 0
        self._bytes = 0
        #: What lies behind this seq is held.
        self._floor = 0
        self._listener: Callable[[Sequence[Entry]], None] = lambda _entries: None
        #: Committed and not yet announced.
        self._news: list[Entry] = []
        self._news_bytes = 0
        #: The newest seq that readers may be given, and the newest that was committed.
        self.tail = 0
        self.newest = 0
        self._epochs = Epochs(())
        self.effects = Effects()

    def start(self, listener: Callable[[Sequence[Entry]], None]) -> Bounds:
        self._listener = listener
        bounds = self._log.follow(self._committed)
        self.tail = self.newest = self._floor = bounds.tail
        self._pace.start(self.announce)
        self._epochs = bounds.epochs
        return bounds

    async def warm(self) -> None:
        """Read the log's last events, so that readers who come back need not. They may come meanwhile."""
        everything = Query(tenant=None, channels=_EVERYTHING, types=_EVERYTHING)
        count = size = 0
        while count < min(WARM_ENTRIES, self._max_entries // 2) and size < min(WARM_BYTES, self._max_bytes // 2):
            floor = self._floor
            try:
                page = await self._log.read_back(everything, before=floor + 1, limit=WARM_PAGE)
            except StoreError as exc:
                logger.warning("the log's last events are read when they are asked for: %s", exc)
                return
            if self._floor != floor or page.scanned_to > floor:
                return
            self._put_before([Entry(event) for event in reversed(page.events)], floor=page.scanned_to - 1)
            count += len(page.events)
            size += sum(map(_size, page.events))

    def stop(self) -> None:
        """Announce what waits, and hear no more."""
        self._log.unfollow(self._committed)
        self.announce()

    @property
    def cursor(self) -> str:
        """The position of the tail."""
        last = self._blocks.get(self.tail // self._span)
        if last is not None and last.entries and last.entries[-1].seq == self.tail:
            return last.entries[-1].event.cursor
        return str(self._epochs.cursor(self.tail))

    def cursor_at(self, seq: int) -> str:
        """The position just after the event of that seq."""
        return str(self._epochs.cursor(seq))

    def after(self, seq: int, subscription: Subscription) -> Stretch | None:
        """What the reader wants of the next block behind the seq, or None if the feed does not reach back that far."""
        if seq < self._floor:
            return None
        number = (seq + 1) // self._span
        block = self._blocks.get(number)
        entries = () if block is None else block.wanted(subscription, after=seq)
        return Stretch(entries, scanned_to=min((number + 1) * self._span - 1, self.tail))

    def _committed(self, events: Sequence[Event]) -> None:
        self._news += map(Entry, events)
        self._news_bytes += sum(map(_size, events))
        self.newest = events[-1].seq
        if self._news_bytes > MAX_NEWS_BYTES:
            self.announce()
        else:
            self._pace.news()

    def announce(self) -> None:
        """Let what waits for the pace leave now."""
        if not self._news:
            return
        entries, self._news = self._news, []
        for entry in entries:
            self._block_of(entry.seq).append(entry)
        self._count += len(entries)
        self._bytes += self._news_bytes
        self._news_bytes = 0
        self.tail = entries[-1].seq
        for entry in entries:
            if entry.event.effect:
                self.effects.note(entry.event)
        self._shrink()
        self._listener(entries)

    def forget(self, seq: int) -> None:
        """Hold nothing up to the seq any more, because something of it was erased: readers ask the store for it."""
        self.announce()
        for number in [number for number in self._blocks if number * self._span <= seq]:
            block = self._blocks[number]
            dropped = block.drop(sum(entry.seq <= seq for entry in block.entries))
            self._count -= len(dropped)
            self._bytes -= sum(_size(entry.event) for entry in dropped)
            if not block.entries:
                del self._blocks[number]
        self._floor = max(self._floor, min(seq, self.tail))

    def _block_of(self, seq: int) -> Block:
        number = seq // self._span
        block = self._blocks.get(number)
        if block is None:
            block = self._blocks[number] = Block()
        return block

    def _put_before(self, entries: Sequence[Entry], *, floor: int) -> None:
        by_number: dict[int, list[Entry]] = {}
        for entry in entries:
            by_number.setdefault(entry.seq // self._span, []).append(entry)
            self._count += 1
            self._bytes += _size(entry.event)
        for number, theirs in by_number.items():
            self._blocks.setdefault(number, Block()).put_before(theirs)
        self._floor = floor
        # The oldest stands first, for `_shrink`.
        self._blocks = dict(sorted(self._blocks.items()))

    def _shrink(self) -> None:
        """Remove the oldest until the limits are kept: the first block, or of the last one what is needed."""
        while self._count > self._max_entries or self._bytes > self._max_bytes:
            number, block = next(iter(self._blocks.items()))
            dropped = block.drop(max(1, len(block.entries) // 4))
            self._count -= len(dropped)
            self._bytes -= sum(_size(entry.event) for entry in dropped)
            self._floor = dropped[-1].seq
            if not block.entries:
                del self._blocks[number]
        if self.effects:
            self.effects.forget(self._floor + 1)


def _size(event: Event) -> int:
    return len(event.data) + len(event.request or b"")
