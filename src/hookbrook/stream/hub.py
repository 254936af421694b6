"""The hub: knows all readers, finds those of an event, keeps their connections alive, and sends them away."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from random import Random

from hookbrook.core.channel import RESERVED, PatternIndex, matches_any
from hookbrook.core.event import Event
from hookbrook.store.base import Log
from hookbrook.stream import control
from hookbrook.stream.control import RETRY_MS
from hookbrook.stream.feed import Feed
from hookbrook.stream.reader import Reader
from hookbrook.stream.sink import Sink
from hookbrook.stream.subscription import Entry, Subscription

#: Readers told to go per step of draining.
DRAIN_STEP = 100
#: Heartbeats are spread over this many turns per period.
BEAT_SLICES = 15


class Hub:
    """All methods belong to one event loop.

    Args:
        clock: microseconds since the Unix epoch, for readers whose right to listen ends.
        rng: spreads the moments at which clients come back.
        feed: one of another size than the usual.
    """

    def __init__(
        self, log: Log, *, clock: Callable[[], int], rng: Random, heartbeat_s: float = 15.0, feed: Feed | None = None
    ) -> None:
        self.feed = Feed(log) if feed is None else feed
        self._log = log
        self._clock = clock
        self._rng = rng
        self._heartbeat_s = heartbeat_s
        self._live: dict[str, PatternIndex[Reader]] = {}
        #: By tenant and source, those that read what arrives there, on whatever channel it is put.
        self._of_source: dict[tuple[str, str], set[Reader]] = {}
        self._readers: list[set[Reader]] = [set() for _ in range(BEAT_SLICES)]
        self._slice_of: dict[Reader, set[Reader]] = {}
        self._turn = 0
        self._beating: asyncio.Task[None] | None = None
        self.draining = False

    def start(self) -> None:
        self.feed.start(self._publish)
        self._beating = asyncio.get_running_loop().create_task(self._beat(), name="hookbrook-heartbeat")

    async def stop(self) -> None:
        self.feed.stop()
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)

    def __len__(self) -> int:
        return len(self._slice_of)

    def readers(self) -> Iterator[Reader]:
        return iter(tuple(self._slice_of))

    def open(
        self, subscription: Subscription, sink: Sink, *, after: int | None, expires: int | None, greeting: bytes = b""
    ) -> Reader:
        """A new reader from just after the seq, or from now on. Call its `resume` once the response has begun.

        While the hub drains, the reader is told so and ended at once.
        """
        if greeting:
            sink.write(greeting)
        reader = Reader(
            subscription,
            feed=self.feed,
            log=self._log,
            sink=sink,
            cursor=self.feed.tail if after is None else after,
            retry_ms=self._rng.randint(*RETRY_MS),
            expires=expires,
            join=self._join,
            leave=self._leave,
            closed=self._closed,
        )
        piece = min(self._readers, key=len)
        piece.add(reader)
        self._slice_of[reader] = piece
        if self.draining:
            self._send_away(reader)
        return reader

    async def drain(self, window_s: float) -> None:
        """Tell every reader to come back later, and end it; spread over the window."""
        self.draining = True
        readers = tuple(self._slice_of)
        steps = max(1, -(-len(readers) // DRAIN_STEP))
        for step in range(steps):
            for reader in readers[step * DRAIN_STEP : (step + 1) * DRAIN_STEP]:
                self._send_away(reader)
            await asyncio.sleep(window_s / steps if steps > 1 else 0)

    def _send_away(self, reader: Reader) -> None:
        reader.end(control.drain(self._rng))

    def _join(self, reader: Reader) -> None:
        if reader.subscription.source is not None:
            key = (reader.subscription.tenant, reader.subscription.source)
            self._of_source.setdefault(key, set()).add(reader)
            return
        index = self._live.setdefault(reader.subscription.tenant, PatternIndex())
        for pattern in reader.subscription.channels:
            index.add(pattern, reader)

    def _leave(self, reader: Reader) -> None:
        if reader.subscription.source is not None:
            key = (reader.subscription.tenant, reader.subscription.source)
            readers = self._of_source.get(key, set())
            readers.discard(reader)
            if not readers:
                self._of_source.pop(key, None)
            return
        index = self._live.get(reader.subscription.tenant)
        if index is not None:
            for pattern in reader.subscription.channels:
                index.discard(pattern, reader)

    def _closed(self, reader: Reader) -> None:
        piece = self._slice_of.pop(reader, None)
        if piece is not None:
            piece.discard(reader)

    def _publish(self, entries: Sequence[Entry]) -> None:
        """Each reader gets all of a commit's entries that it wants in one call."""
        if len(entries) == 1:
            for reader in self._readers_of(entries[0].event):
                reader.deliver(entries)
            return
        wanted: dict[Reader, list[Entry]] = {}
        for entry in entries:
            for reader in self._readers_of(entry.event):
                theirs = wanted.get(reader)
                if theirs is None:
                    wanted[reader] = [entry]
                else:
                    theirs.append(entry)
        for reader, theirs in wanted.items():
            reader.deliver(theirs)

    def _readers_of(self, event: Event) -> list[Reader]:
        """The live readers that want the event; what they want of types is judged once for all that want the same."""
        found = self._readers_of_source(event) if event.source is not None else []
        index = self._live.get(event.tenant)
        if index is None:
            return found
        judged: dict[tuple[str, ...], bool] = {(): not event.type.startswith(RESERVED)}
        for reader in index.match(event.channels):
            types = reader.subscription.types
            is_wanted = judged.get(types)
            if is_wanted is None:
                is_wanted = judged[types] = matches_any(types, event.type)
            if is_wanted:
                found.append(reader)
        return found

    def _readers_of_source(self, event: Event) -> list[Reader]:
        readers = self._of_source.get((event.tenant, event.source or ""), ())
        return [reader for reader in readers if reader.subscription.wants(event)]

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._heartbeat_s / BEAT_SLICES)
            self.beat_once()

    def beat_once(self) -> None:
        """One of the `BEAT_SLICES` turns of a heartbeat: end whose right to listen has ended, keep the others alive."""
        now = self._clock()
        for reader in tuple(self._readers[self._turn]):
            if reader.expires is not None and now >= reader.expires:
                reader.end(control.expired())
            else:
                reader.beat()
        self._turn = (self._turn + 1) % BEAT_SLICES
