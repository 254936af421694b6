"""One reader of a stream: catching up from the log, or live.

There is one path for joining, slow and returning readers. A reader has a cursor. While that is behind the feed's tail,
the reader takes the next entries from the feed's memory or pages from the store, filters and writes them; when the
cursor has reached the tail it becomes live *in the same loop step*, without an await between, so nothing can be
appended unseen. When its sink is full it simply stops, keeping nothing but its cursor, and goes on catching up once the
sink has drained. So there is no queue per reader to overflow, and no seam between history and live.
"""

import asyncio
import logging
from collections.abc import Iterable
from contextlib import suppress
from enum import Enum
from typing import Protocol

from hookbrook.core.event import Event
from hookbrook.core.sse import HEARTBEAT, with_retry
from hookbrook.errors import StoreError
from hookbrook.store.base import Bounds, Log
from hookbrook.stream import control
from hookbrook.stream.connection import Connection
from hookbrook.stream.feed import Feed
from hookbrook.stream.pages import PAGE, Pages
from hookbrook.stream.sink import Batch, Sink
from hookbrook.stream.subscription import Entry, Subscription, batches

logger = logging.getLogger("hookbrook.stream")

#: Blocks of the feed without anything for this reader that one step may pass, before other work gets its turn.
STEP_BLOCKS = 16
#: Events per page for clients that take the least.
MIN_PAGE = 4
#: How long to wait before reading again when the store could not be read.
STORE_RETRY_S = 1.0


class Mode(Enum):
    CATCHING_UP = "catching up"
    LIVE = "live"
    ENDED = "ended"


class Home(Protocol):
    """What a reader needs of the hub. One object for all of them: a callable for each reader's each need adds up."""

    @property
    def feed(self) -> Feed: ...
    @property
    def log(self) -> Log: ...
    @property
    def pages(self) -> Pages: ...

    def join(self, reader: "Reader") -> None:
        """Deliver to it from now on: it has all up to the feed's tail."""

    def leave(self, reader: "Reader") -> None:
        """Deliver to it no more."""

    def wait(self, reader: "Reader") -> None:
        """Call its `resume` after the feed's next announcement."""

    def closed(self, reader: "Reader") -> None:
        """Forget it."""


class Reader:
    """Created by the hub; the stream door tells it when its sink drains or its client leaves.

    None of the public methods raises: whatever goes wrong at one reader ends that reader alone, and reaches neither the
    other readers nor the publisher.
    """

    __slots__ = (
        "_home",
        "_page",
        "_retry_ms",
        "_sink",
        "_task",
        "_told_live",
        "_wrote",
        "connection",
        "cursor",
        "expires",
        "mode",
        "subscription",
    )

    def __init__(
        self,
        subscription: Subscription,
        *,
        home: Home,
        sink: Sink,
        cursor: int,
        retry_ms: int,
        expires: int | None,
        connection: Connection | None = None,
    ) -> None:
        #: Under which the stream is listed and counted.
        self.connection = connection
        self.subscription = subscription
        #: Everything up to this seq has been written, or is not wanted.
        self.cursor = cursor
        #: When the right to listen ends, in microseconds since the epoch, or None.
        self.expires = expires
        self.mode = Mode.CATCHING_UP
        self._home = home
        self._sink = sink
        self._retry_ms: int | None = retry_ms
        self._task: asyncio.Task[None] | None = None
        self._wrote = False
        self._told_live = False
        #: How many events to ask the store for.
        self._page = PAGE

    # Asked by whoever shows the open streams

    @property
    def lag(self) -> int:
        """Events of the log that it has not got to yet; at most so many are for it."""
        return 0 if self.mode is Mode.LIVE else max(0, self._home.feed.tail - self.cursor)

    @property
    def sent(self) -> int:
        """Bytes written so far."""
        return self._sink.sent

    async def next_missing(self) -> Event | None:
        """The first event that it has not got to yet; raises a `StoreError`."""
        feed, cursor = self._home.feed, self.cursor
        while cursor < feed.tail and (near := feed.after(cursor, self.subscription)) is not None:
            if near.entries:
                return near.entries[0].event
            cursor = near.scanned_to
        if cursor >= feed.tail:
            return None
        page = await self._home.log.read(self.subscription.query, after=cursor, limit=1)
        return page.events[0] if page.events else None

    # Called by the hub

    def deliver(self, batch: Batch) -> None:
        """Write news that matched."""
        if self.mode is not Mode.LIVE:
            return
        try:
            if self._sink.full:
                self._fall_behind(batch.first - 1)
            else:
                self._send(batch)
        except Exception:  # noqa: BLE001 - see the class
            self.fail()

    def beat(self) -> None:
        """A sign of life, unless something was written since the last one or the sink has enough to do.

        Whoever asked for it gets the position with it, if the log has moved on without anything for this reader.
        """
        if self.mode is Mode.ENDED:
            return
        try:
            if not self._wrote and not self._sink.full:
                self._show_life()
        except Exception:  # noqa: BLE001 - see the class
            self.fail()
        self._wrote = False

    def _show_life(self) -> None:
        if self.subscription.control and self.mode is Mode.LIVE and self._home.feed.tail > self.cursor:
            self.cursor = self._home.feed.tail
            self._sink.write(control.checkpoint(self._home.feed.cursor))
        elif self.subscription.control:
            self._sink.write(control.ping())
        else:
            self._sink.write(HEARTBEAT)

    def end(self, last_words: bytes = b"") -> None:
        """Say why, and close."""
        if self.mode is Mode.ENDED:
            return
        try:
            if last_words:
                self._sink.write(last_words)
            self._sink.close()
        except Exception:  # noqa: BLE001 - see the class
            self.fail()
        self.gone()

    # Called by the door and its sink

    def resume(self) -> None:
        """Go on from the cursor: at the start, and when the sink has drained."""
        if self.mode is not Mode.CATCHING_UP or self._task is not None:
            return
        try:
            self._pump()
        except Exception:  # noqa: BLE001 - see the class
            self.fail()

    def gone(self) -> None:
        """The client has left. Nothing is written any more."""
        if self.mode is Mode.ENDED:
            return
        if self.mode is Mode.LIVE:
            self._home.leave(self)
        self.mode = Mode.ENDED
        self._home.closed(self)
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def fail(self) -> None:
        """End it because of the exception that is being handled."""
        logger.exception("a reader failed and was ended")
        # Closing may fail for the same reason; the client then leaves by itself.
        with suppress(Exception):
            self._sink.close()
        self.gone()

    # Catching up

    def _fall_behind(self, cursor: int) -> None:
        self._home.leave(self)
        self.mode = Mode.CATCHING_UP
        self.cursor = cursor

    def _pump(self) -> None:
        """Move on as far as it goes without awaiting; start reading from the store if the feed does not reach back."""
        if self._sink.full:
            return
        if self.cursor < self._home.feed.tail:
            self._step()
        elif self.cursor > self._home.feed.tail:
            # It knows of an event that was committed and has not been announced yet.
            self._home.wait(self)
        else:
            self.mode = Mode.LIVE
            self._home.join(self)
            if self.subscription.control and not self._told_live:
                self._told_live = True
                self._sink.write(control.live(self._home.feed.cursor))

    def _step(self) -> None:
        for _ in range(STEP_BLOCKS):
            stretch = self._home.feed.after(self.cursor, self.subscription)
            if stretch is None:
                self._start_reading()
                return
            self._take(stretch.entries)
            if self._sink.full:
                return
            self.cursor = stretch.scanned_to
            if stretch.entries or self.cursor >= self._home.feed.tail:
                break
        # Others get their turn: a reader far behind would otherwise hold the loop for all its backlog.
        asyncio.get_running_loop().call_soon(self.resume)

    def _take(self, entries: Iterable[Entry]) -> None:
        """Write entries until the sink is full; the cursor follows what was written."""
        for batch in batches(entries, self.subscription):
            if self._sink.full:
                return
            self._send(batch)

    def _start_reading(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._read(), name="hookbrook-catch-up")

    async def _read(self) -> None:
        try:
            await self._read_page()
        except Exception:  # noqa: BLE001 - see the class
            self.fail()
        else:
            self._task = None
            self.resume()

    async def _read_page(self) -> None:
        try:
            page = await self._home.pages.after(self.subscription.query, self.cursor, limit=self._page)
        except StoreError as exc:
            # The client keeps its place: reading goes on where it stopped once the store is well again.
            logger.warning("a stream waits for the store: %s", exc)
            await asyncio.sleep(STORE_RETRY_S)
            return
        if page.oldest > self.cursor + 1:
            self._tell_trimmed(page.oldest, await self._home.log.bounds())
        # What the store has but the feed has not announced yet will come by the feed.
        after, tail = self.cursor, self._home.feed.tail
        entries = [entry for entry in page.entries if after < entry.seq <= tail]
        self._take(entries)
        if not self._sink.full:
            self.cursor = max(self.cursor, min(page.scanned_to, tail))
            self._page = min(PAGE, self._page * 2)
        else:
            # The rest of the page was read for nothing; a slow client's next one is as small as what it took.
            taken = sum(entry.seq <= self.cursor for entry in entries)
            self._page = max(MIN_PAGE, min(self._page, taken))

    def _tell_trimmed(self, first: int, bounds: Bounds) -> None:
        """The log was trimmed past this reader while it was behind: a gap is told, never hidden."""
        self.cursor = first - 1
        oldest, newest = bounds.epochs.cursor(self.cursor), bounds.epochs.cursor(bounds.tail)
        self._write(control.reset("trimmed", oldest=str(oldest), newest=str(newest)))

    def _send(self, batch: Batch) -> None:
        if self._retry_ms is None:
            self._sink.share(batch)
        else:
            self._write(batch.plain)
        self._wrote = True
        self.cursor = batch.last

    def _write(self, frame: bytes) -> None:
        if self._retry_ms is not None:
            frame = with_retry(frame, self._retry_ms)
            self._retry_ms = None
        self._wrote = True
        self._sink.write(frame)
