"""One reader of a stream: catching up from the log, or live.

There is one path for joining, slow and returning readers. A reader has a cursor. While that is behind the feed's tail,
the reader takes the next entries from the feed's memory or pages from the store, filters and writes them; when the
cursor has reached the tail it becomes live *in the same loop step*, without an await between, so nothing can be
appended unseen. When its sink is full it simply stops, keeping nothing but its cursor, and goes on catching up once the
sink has drained. So there is no queue per reader to overflow, and no seam between history and live.

What its channels have lost is told before anything is written that lies behind the loss. Whether all of them have ended
is asked whenever the reader has reached the tail, which is the only place where nothing can be left of them.
"""

import asyncio
import logging
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from enum import Enum
from typing import Protocol

from hookbrook.core.event import Event
from hookbrook.core.sse import HEARTBEAT
from hookbrook.errors import StoreError
from hookbrook.store.base import Bounds, Log, Lost, Standing
from hookbrook.stream import control
from hookbrook.stream.connection import Connection
from hookbrook.stream.feed import Feed
from hookbrook.stream.pages import PAGE, Pages
from hookbrook.stream.sink import Batch, Sink
from hookbrook.stream.subscription import Entry, Subscription, batches, merged_entries

logger = logging.getLogger("hookbrook.stream")

#: Blocks of the feed without anything for this reader that one step may pass, before other work gets its turn.
STEP_BLOCKS = 16
#: Events per page for clients that take the least.
MIN_PAGE = 4
#: Nothing is known of its channels, which is so for most readers; one object for all of them.
NOTHING_KNOWN = Standing()
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


class Chorus(Protocol):
    """Readers whose sockets are written to directly, past `Reader.deliver`, and all the same."""

    @property
    def written(self) -> int:
        """Bytes that each of them has been written, by a count that began before any of them came."""

    @property
    def last(self) -> int:
        """The seq of the last event among those."""

    def release(self, reader: "Reader") -> None:
        """Write to it by `Reader.deliver` again."""


class Reader:
    """Created by the hub; the stream door tells it when its sink drains or its client leaves.

    None of the public methods raises: whatever goes wrong at one reader ends that reader alone, and reaches neither the
    other readers nor the publisher.
    """

    __slots__ = (
        "_chorus",
        "_heard",
        "_home",
        "_page",
        "_sink",
        "_standing",
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
        expires: int | None,
        connection: Connection | None = None,
        standing: Standing = NOTHING_KNOWN,
    ) -> None:
        #: Under which the stream is listed and counted.
        self.connection = connection
        self.subscription = subscription
        #: Everything up to this seq has been written, or is not wanted. Behind that while in a chorus, until `_settle`.
        self.cursor = cursor
        #: When the right to listen ends, in microseconds since the epoch, or None.
        self.expires = expires
        self.mode = Mode.CATCHING_UP
        self._home = home
        #: What is known of its channels; the reader was told of its loss.
        self._standing = standing
        self._sink = sink
        #: Where it is written to directly, and what of that it has taken into its own account.
        self._chorus: Chorus | None = None
        self._heard = 0
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
        self._settle()
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

    def follow(self, chorus: Chorus) -> int | None:
        """Be written to directly from now on, there; None if it must be by `deliver`."""
        if self.mode is not Mode.LIVE:
            return None
        try:
            fd = self._fd()
        except Exception:  # noqa: BLE001 - see the class
            self.fail()
            return None
        if fd is not None:
            self._chorus = chorus
            self._heard = chorus.written
        return fd

    def part(self) -> None:
        """Be written to by `deliver` again."""
        self._settle()
        self._chorus = None

    def finish(self, batch: Batch, taken: int) -> None:
        """Write what is left of news of which the socket has taken only so many bytes."""
        try:
            if (direct := self._sink.direct) is not None:
                direct.finish(batch, taken)
        except Exception:  # noqa: BLE001 - see the class
            self.fail()

    def affect(self, event: Event) -> None:
        """An event that does something to its channels; what the reader wants of it was delivered before."""
        if self.mode is not Mode.LIVE:
            return
        try:
            self.cursor = max(self.cursor, event.seq)
            if event.effect == "close":
                if self.subscription.is_exact:
                    self._see_closed(event)
            else:
                self._hear_of(self._home.feed.effects.lost(self.subscription, event.seq - 1))
        except Exception:  # noqa: BLE001 - see the class
            self.fail()

    def tell(self, frame: bytes) -> None:
        """A control event that has no place in the log."""
        if self.mode is Mode.ENDED:
            return
        try:
            self._write(frame)
        except Exception:  # noqa: BLE001 - see the class
            self.fail()

    def beat(self) -> None:
        """A sign of life, unless something was written since the last one or the sink has enough to do.

        Whoever asked for it gets the position with it, if the log has moved on without anything for this reader.
        """
        if self.mode is Mode.ENDED:
            return
        try:
            self._settle()
            if not self._wrote and not self._sink.full:
                self._show_life()
        except Exception:  # noqa: BLE001 - see the class
            self.fail()
        self._wrote = False

    def _show_life(self) -> None:
        feed = self._home.feed
        if not self.subscription.control:
            self._put(HEARTBEAT)
        elif self.mode is Mode.CATCHING_UP:
            # A long way without anything for this reader.
            self._put(control.checkpoint(feed.cursor_at(self.cursor)))
        elif feed.tail > self.cursor:
            self.cursor = feed.tail
            self._put(control.checkpoint(feed.cursor))
        else:
            self._put(control.ping())

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
        elif self._is_finished():
            self._finish()
        else:
            self.mode = Mode.LIVE
            self._home.join(self)
            if self.subscription.control and not self._told_live:
                self._told_live = True
                self._put(control.live(self._home.feed.cursor))

    def _step(self) -> None:
        effects = self._home.feed.effects
        if effects:
            self._hear_of(effects.lost(self.subscription, self.cursor))
            # Kept, since the feed may have forgotten it when the last of several channels is closed.
            if closed := effects.closed(self.subscription):
                self._standing = replace(self._standing, closed={**self._standing.closed, **closed})
        for _ in range(STEP_BLOCKS):
            stretch = self._home.feed.after(self.cursor, self.subscription)
            if stretch is None:
                self._start_reading()
                return
            self._take(effects.shown(stretch.entries, self.subscription))
            if self._sink.full:
                return
            self.cursor = max(self.cursor, stretch.scanned_to)
            if stretch.entries or self.cursor >= self._home.feed.tail:
                break
        # Others get their turn: a reader far behind would otherwise hold the loop for all its backlog.
        asyncio.get_running_loop().call_soon(self.resume)

    def _take(self, entries: Iterable[Entry]) -> None:
        """Write entries until the sink is full; the cursor follows what was written."""
        if self.subscription.merge:
            entries = merged_entries(entries)
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
        self._learn(page.standing)
        # What the store has but the feed has not announced yet will come by the feed.
        after, tail = self.cursor, self._home.feed.tail
        entries = [entry for entry in page.entries if after < entry.seq <= tail]
        # The page may have been read for somebody who came a moment ago.
        self._take(self._home.feed.effects.shown(entries, self.subscription))
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

    def _learn(self, standing: Standing) -> None:
        """What a page of the store says of the channels. It may be a moment old, and begin before this reader."""
        lost, before = standing.lost, self._standing
        if standing.losses < before.losses:
            return
        if standing.losses == before.losses:
            # Without another loss in between nothing was opened again, and what either knows is closed.
            standing = replace(standing, closed={**before.closed, **standing.closed})
        # What was counted since may be another loss beside one that was told.
        is_news = standing.losses > before.losses or _seq(lost) > _seq(before.lost)
        self._standing = standing
        if is_news and lost is not None and lost.seq > self.cursor:
            self._tell_lost(lost)

    def _hear_of(self, lost: Lost | None) -> None:
        """As `_learn`, of a deletion in the feed's memory."""
        if lost is None:
            return
        before = self._standing
        closed = self._home.feed.effects.still_closed(self.subscription.tenant, before.closed)
        self._standing = replace(before, closed=closed)
        if lost.seq > _seq(before.lost):
            self._standing = replace(self._standing, lost=lost)
            self._tell_lost(lost)

    def _see_closed(self, event: Event) -> None:
        theirs = (channel for channel in event.channels if channel in self.subscription.channels)
        closed = {**self._standing.closed, **dict.fromkeys(theirs, event.seq)}
        self._standing = replace(self._standing, closed=closed)
        if self._is_finished():
            self._finish()

    def _tell_lost(self, lost: Lost) -> None:
        if self.subscription.is_exact and len(self.subscription.channels) == 1:
            # Of a single channel nothing is left up to there; of several, the others go on from here.
            self.cursor = max(self.cursor, lost.seq)
        feed = self._home.feed
        told = control.reset(
            lost.why, oldest=feed.cursor_at(lost.seq), newest=feed.cursor, at=feed.cursor_at(self.cursor)
        )
        self._write(told)

    def _is_finished(self) -> bool:
        """Whether nothing can come any more, and all that came was written. Only at the tail."""
        closed, effects = self._standing.closed, self._home.feed.effects
        if not (closed or effects) or not self.subscription.is_exact:
            return False
        end = effects.end(self.subscription, closed)
        return end is not None and end <= self.cursor

    def _finish(self) -> None:
        self.end(control.closed(self.subscription.channels, self._home.feed.cursor_at(self.cursor)))

    # Writing

    def _send(self, batch: Batch) -> None:
        self._sink.share(batch)
        self._wrote = True
        self.cursor = batch.last

    def _write(self, frame: bytes) -> None:
        self._wrote = True
        self._put(frame)

    def _put(self, frame: bytes) -> None:
        """Write what is for this reader alone."""
        self._sink.write(frame)
        if self._chorus is not None and self._fd() is None:
            # The next batch must not overtake what waits.
            self._chorus.release(self)

    def _fd(self) -> int | None:
        direct = self._sink.direct
        return None if direct is None else direct.fd

    def _settle(self) -> None:
        """Take what was written directly into its own account."""
        chorus = self._chorus
        if chorus is not None and chorus.written != self._heard:
            self._sink.sent += chorus.written - self._heard
            self._heard = chorus.written
            self._wrote = True
            self.cursor = max(self.cursor, chorus.last)


def _seq(lost: Lost | None) -> int:
    return 0 if lost is None else lost.seq
