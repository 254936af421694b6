"""The live readers who asked for the same: what reaches one of them reaches all, in the same bytes.

A delivery costs a write to a socket and whatever else is done for each reader. With thousands of them, nothing else is:
those whose sockets take all that they are given form a chorus, to which a batch is written on one file descriptor after
the other, and noted once for all of them. What a reader must know of that (its place, its bytes, whether there was a
sign of life) it works out when it is asked.

A reader leaves the chorus as soon as anything waits in its sink, which a direct write would overtake: because its
socket did not take the whole of a batch, whose rest goes through the sink, or because it alone was written something.
It comes back once all of a batch has gone through the sink at once. What is wrong with a socket that takes nothing, the
sink finds out by trying the same.
"""

import logging
import os
from collections.abc import Iterable, Iterator

from hookbrook.stream.reader import Reader
from hookbrook.stream.sink import Batch
from hookbrook.stream.subscription import Entry, Subscription, batches

logger = logging.getLogger("hookbrook.stream")


class Audience:
    """Its readers are live, and every one of them has been written all that the feed has announced."""

    __slots__ = ("_chorus", "_others", "last", "subscription", "written")

    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription
        #: Readers who are written to directly, and where.
        self._chorus: dict[Reader, int] = {}
        self._others: set[Reader] = set()
        # What the chorus has been written: bytes, and the seq of the last event.
        self.written = 0
        self.last = 0

    def __len__(self) -> int:
        return len(self._chorus) + len(self._others)

    def __iter__(self) -> Iterator[Reader]:
        """Those who are there now; they may leave meanwhile."""
        return iter((*self._chorus, *self._others))

    def add(self, reader: Reader) -> None:
        self._others.add(reader)
        self._enlist(reader)

    def discard(self, reader: Reader) -> None:
        self._others.discard(reader)
        if self._chorus.pop(reader, None) is not None:
            reader.part()

    def release(self, reader: Reader) -> None:
        """Write to it through its sink again."""
        if self._chorus.pop(reader, None) is not None:
            reader.part()
            self._others.add(reader)

    def _enlist(self, reader: Reader) -> None:
        if (fd := reader.follow(self)) is not None:
            self._others.remove(reader)
            self._chorus[reader] = fd

    def deliver(self, entries: Iterable[Entry]) -> None:
        """Write new entries that matched, in order. Does not raise: what cannot be encoded ends these readers alone."""
        try:
            for batch in batches(entries, self.subscription):
                self._deliver(batch)
        except Exception:
            logger.exception("events could not be encoded for %d readers", len(self))
            for reader in self:
                reader.fail()

    def _deliver(self, batch: Batch) -> None:
        # Those who leave the chorus now have had this one.
        others = tuple(self._others)
        self._sing(batch)
        for reader in others:
            # A write may set off that a reader leaves, this one or another.
            if reader in self._others:
                reader.deliver(batch)
                if reader in self._others:
                    self._enlist(reader)

    def _sing(self, batch: Batch) -> None:
        short = _write(self._chorus.values(), batch.chunked)
        self.written += batch.size
        self.last = batch.last
        if short:
            for reader, fd in [(reader, fd) for reader, fd in self._chorus.items() if fd in short]:
                self.release(reader)
                reader.finish(batch, short[fd])


def _write(fds: Iterable[int], data: bytes) -> dict[int, int]:
    """Write to all of them; of those that did not take all of it, how many bytes each has taken."""
    write, size = os.write, len(data)
    short: dict[int, int] = {}
    for fd in fds:
        try:
            taken = write(fd, data)
        except OSError:
            taken = 0
        if taken != size:
            short[fd] = taken
    return short
