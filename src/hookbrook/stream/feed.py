"""The feed: follows the log and keeps its recent tail in memory.

Most readers are live or only a moment behind, so what they need next is here, encoded once for all of them. Whoever is
further behind reads from the store until the feed holds what comes next. Seqs are gapless, so an entry's place follows
from its seq.

What was committed is announced when the pace says so: at once, or together with what else comes within milliseconds.
Until then it is no part of the feed, as if it had been committed a moment later.
"""

from collections.abc import Callable, Sequence

from hookbrook.core.cursor import Epochs
from hookbrook.core.event import Event
from hookbrook.store.base import Bounds, Log
from hookbrook.stream.pace import LoadPace, Pace
from hookbrook.stream.subscription import Entry

#: Enough for a client that reconnects within seconds at thousands of events per second.
MAX_ENTRIES = 16_384
#: Bytes of events held, with the requests that brought them; frames of the same size may be held beside it.
MAX_BYTES = 64 * 1024 * 1024
#: News does not wait for the pace beyond this: so much fills a write by itself.
MAX_NEWS_BYTES = 1024 * 1024
#: The oldest entries go in blocks, because removing from the front of a list moves all the others.
TRIM_FRACTION = 4


class Feed:
    """`start` before use. `listener` is called with the new entries after the feed holds them."""

    def __init__(
        self, log: Log, *, max_entries: int = MAX_ENTRIES, max_bytes: int = MAX_BYTES, pace: Pace | None = None
    ) -> None:
        self._log = log
        self._pace = LoadPace() if pace is None else pace
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._entries: list[Entry] = []
        self._bytes = 0
        self._listener: Callable[[Sequence[Entry]], None] = lambda _entries: None
        #: Committed and not yet announced.
        self._news: list[Entry] = []
        self._news_bytes = 0
        #: The newest seq that readers may be given, and the newest that was committed.
        self.tail = 0
        self.newest = 0
        self._epochs = Epochs(())

    def start(self, listener: Callable[[Sequence[Entry]], None]) -> Bounds:
        self._listener = listener
        bounds = self._log.follow(self._committed)
        self.tail = self.newest = bounds.tail
        self._pace.start(self.announce)
        self._epochs = bounds.epochs
        return bounds

    def stop(self) -> None:
        """Announce what waits, and hear no more."""
        self._log.unfollow(self._committed)
        self.announce()

    @property
    def cursor(self) -> str:
        """The position of the tail."""
        return self._entries[-1].event.cursor if self._entries else str(self._epochs.cursor(self.tail))

    def after(self, seq: int, limit: int) -> list[Entry] | None:
        """Up to `limit` entries that follow the seq, or None if the feed does not reach back that far."""
        behind = self.tail - seq
        if behind <= 0:
            return []
        if behind > len(self._entries):
            return None
        start = len(self._entries) - behind
        return self._entries[start : start + limit]

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
        self._entries += entries
        self._bytes += self._news_bytes
        self._news_bytes = 0
        self.tail = entries[-1].seq
        if len(self._entries) > self._max_entries or self._bytes > self._max_bytes:
            self._shrink()
        self._listener(entries)

    def _shrink(self) -> None:
        keep = self._max_entries - self._max_entries // TRIM_FRACTION
        budget = self._max_bytes - self._max_bytes // TRIM_FRACTION
        size = count = 0
        for entry in reversed(self._entries):
            size += _size(entry.event)
            if count == keep or size > budget:
                break
            count += 1
        del self._entries[: len(self._entries) - count]
        self._bytes = sum(_size(entry.event) for entry in self._entries)


def _size(event: Event) -> int:
    return len(event.data) + len(event.request or b"")
