"""The hub: knows all readers, finds those of an event, keeps their connections alive, and sends them away."""

import asyncio
from collections.abc import Callable, Hashable, Iterator, Sequence
from random import Random

from hookbrook.core.channel import RESERVED, PatternIndex, matches_any
from hookbrook.core.event import Event
from hookbrook.store.base import Log, Standing
from hookbrook.stream import control
from hookbrook.stream.audience import Audience
from hookbrook.stream.connection import Connection
from hookbrook.stream.connections import Connections
from hookbrook.stream.deadlines import Deadlines
from hookbrook.stream.feed import Feed
from hookbrook.stream.pages import Pages
from hookbrook.stream.reader import NOTHING_KNOWN, Reader
from hookbrook.stream.sink import Sink
from hookbrook.stream.subscription import Entry, Subscription

#: Readers told to go per step of draining.
DRAIN_STEP = 100
#: Heartbeats are spread over this many turns per period.
BEAT_SLICES = 15
#: Deadlines are looked at this often even if none should come: the clock may be set.
MAX_NAP_S = 60.0


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
        self.connections = Connections()
        self.log = log
        self.pages = Pages(log)
        self._clock = clock
        self._rng = rng
        self._heartbeat_s = heartbeat_s
        #: Live readers by what they asked for, and by tenant those who may want an event.
        self._audiences: dict[Hashable, Audience] = {}
        self._live: dict[str, PatternIndex[Audience]] = {}
        #: By tenant and source, those that read what arrives there, on whatever channel it is put.
        self._of_source: dict[tuple[str, str], set[Audience]] = {}
        #: Those who wait for the next announcement.
        self._early: set[Reader] = set()
        self._readers: list[set[Reader]] = [set() for _ in range(BEAT_SLICES)]
        self._slice_of: dict[Reader, set[Reader]] = {}
        self._turn = 0
        self._opened = 0
        self._beating: asyncio.Task[None] | None = None
        self._deadlines = Deadlines(clock)
        self._alarm: asyncio.TimerHandle | None = None
        self.draining = False

    def start(self) -> None:
        self.feed.start(self._publish)
        self._beating = asyncio.get_running_loop().create_task(self._beat(), name="hookbrook-heartbeat")

    async def stop(self) -> None:
        self.feed.stop()
        if self._alarm is not None:
            self._alarm.cancel()
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)

    def __len__(self) -> int:
        return len(self._slice_of)

    def readers(self) -> Iterator[Reader]:
        return iter(tuple(self._slice_of))

    def open(
        self,
        subscription: Subscription,
        sink: Sink,
        *,
        after: int | None,
        expires: int | None,
        greeting: bytes = b"",
        connection: Connection | None = None,
        standing: Standing = NOTHING_KNOWN,
    ) -> Reader:
        """A new reader from just after the seq, or from now on. Call its `resume` once the response has begun.

        While the hub drains, the reader is told so and ended at once.

        Args:
            greeting: what is still to be written of the stream's beginning, `retry` at its end.
            connection: under which the stream is listed and counted until it ends.
            standing: what is known of its channels, at some moment after the feed's newest event was `after` or later;
                the loss in it was told in the greeting, or need not be.
        """
        if greeting:
            sink.write(greeting)
        reader = Reader(
            subscription,
            home=self,
            sink=sink,
            cursor=self.feed.newest if after is None else after,
            expires=expires,
            connection=connection,
            standing=standing,
        )
        if connection is not None:
            self.connections.add(connection, reader)
        # In turn: those who leave leave the pieces about as full as each other.
        piece = self._readers[self._opened % BEAT_SLICES]
        self._opened += 1
        piece.add(reader)
        self._slice_of[reader] = piece
        if expires is not None:
            self._deadlines.watch(reader)
            self._set_alarm()
        if self.draining:
            self._send_away(reader)
        return reader

    def retry(self) -> bytes:
        """When to come back if the connection is cut, for the end of a greeting: a line of what event will be first."""
        return control.retry(self._rng)

    def forget(self, seq: int) -> None:
        """Hold nothing up to the seq in memory: something of it was erased."""
        self.feed.forget(seq)
        self.pages.forget()

    def forget_tenant(self, tenant: str, seq: int) -> None:
        """As `forget`; the tenant's streams end."""
        self.forget(seq)
        self.connections.end(lambda each: each.tenant == tenant, control.expired("erased"))

    async def drain(self, window_s: float) -> None:
        """Tell every reader to come back later, and end it; spread over the window."""
        self.draining = True
        self.feed.announce()
        readers = tuple(self._slice_of)
        steps = max(1, -(-len(readers) // DRAIN_STEP))
        for step in range(steps):
            for reader in readers[step * DRAIN_STEP : (step + 1) * DRAIN_STEP]:
                self._send_away(reader)
            await asyncio.sleep(window_s / steps if steps > 1 else 0)

    def _send_away(self, reader: Reader) -> None:
        reader.end(control.drain(self._rng))

    # Called by readers

    def join(self, reader: Reader) -> None:
        key = reader.subscription.audience
        audience = self._audiences.get(key)
        if audience is None:
            audience = self._audiences[key] = Audience(reader.subscription)
            self._file(audience)
        audience.add(reader)

    def leave(self, reader: Reader) -> None:
        key = reader.subscription.audience
        audience = self._audiences.get(key)
        if audience is None:
            return
        audience.discard(reader)
        if not audience:
            del self._audiences[key]
            self._unfile(audience)

    def wait(self, reader: Reader) -> None:
        self._early.add(reader)

    def closed(self, reader: Reader) -> None:
        self._early.discard(reader)
        if reader.connection is not None:
            self.connections.remove(reader.connection)
        piece = self._slice_of.pop(reader, None)
        if piece is not None:
            piece.discard(reader)
            self._deadlines.left(reader)

    def _publish(self, entries: Sequence[Entry]) -> None:
        start = 0
        for number, entry in enumerate(entries, 1):
            if entry.event.effect:
                self._deliver(entries[start:number])
                self._affect(entry.event)
                start = number
        self._deliver(entries[start:] if start else entries)
        early, self._early = self._early, set()
        for reader in early:
            reader.resume()

    def _affect(self, event: Event) -> None:
        """Those who listen to the event's channels learn what it does to them, whatever types they want."""
        index = self._live.get(event.tenant)
        for audience in index.match(event.channels) if index is not None else ():
            for reader in audience:
                reader.affect(event)

    def _deliver(self, entries: Sequence[Entry]) -> None:
        """Each audience gets all of them that it wants in one call."""
        wanted: dict[Audience, list[Entry]] = {}
        found: dict[Hashable, list[Audience]] = {}
        for entry in entries:
            event = entry.event
            key = (event.tenant, event.channels, event.type, event.source)
            audiences = found.get(key)
            if audiences is None:
                audiences = found[key] = self._audiences_of(event)
            for audience in audiences:
                theirs = wanted.get(audience)
                if theirs is None:
                    wanted[audience] = [entry]
                else:
                    theirs.append(entry)
        for audience, theirs in wanted.items():
            audience.deliver(theirs)

    def _audiences_of(self, event: Event) -> list[Audience]:
        """Those who want such an event; what they want of types is judged once for all that want the same."""
        found = self._audiences_of_source(event) if event.source is not None else []
        index = self._live.get(event.tenant)
        if index is None:
            return found
        judged: dict[tuple[str, ...], bool] = {(): not event.type.startswith(RESERVED)}
        for audience in index.match(event.channels):
            types = audience.subscription.types
            is_wanted = judged.get(types)
            if is_wanted is None:
                is_wanted = judged[types] = matches_any(types, event.type)
            if is_wanted:
                found.append(audience)
        return found

    def _audiences_of_source(self, event: Event) -> list[Audience]:
        audiences = self._of_source.get((event.tenant, event.source or ""), ())
        return [audience for audience in audiences if audience.subscription.wants(event)]

    def _file(self, audience: Audience) -> None:
        asked = audience.subscription
        if asked.source is not None:
            self._of_source.setdefault((asked.tenant, asked.source), set()).add(audience)
            return
        index = self._live.setdefault(asked.tenant, PatternIndex())
        for pattern in asked.channels:
            index.add(pattern, audience)

    def _unfile(self, audience: Audience) -> None:
        asked = audience.subscription
        if asked.source is not None:
            self._of_source[asked.tenant, asked.source].discard(audience)
            if not self._of_source[asked.tenant, asked.source]:
                del self._of_source[asked.tenant, asked.source]
            return
        for pattern in asked.channels:
            self._live[asked.tenant].discard(pattern, audience)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._heartbeat_s / BEAT_SLICES)
            self.beat_once()

    def beat_once(self) -> None:
        """One of the `BEAT_SLICES` turns of a heartbeat."""
        self._deadlines.pass_by()
        for reader in tuple(self._readers[self._turn]):
            reader.beat()
        self._turn = (self._turn + 1) % BEAT_SLICES

    def _set_alarm(self) -> None:
        """For the next moment at which somebody's right to listen ends, or nearly does."""
        nap_s = self._deadlines.next_s()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if nap_s is not None:
            self._alarm = asyncio.get_running_loop().call_later(min(nap_s, MAX_NAP_S), self._ring)

    def _ring(self) -> None:
        self._deadlines.pass_by()
        self._set_alarm()
