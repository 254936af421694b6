"""The live readers who asked for the same: what reaches one of them reaches all, in the same bytes."""

import logging
from collections.abc import Iterable

from hookbrook.stream.reader import Reader
from hookbrook.stream.subscription import Entry, Subscription, batches

logger = logging.getLogger("hookbrook.stream")


class Audience:
    """`readers` are live, and every one of them has been written all that the feed has announced."""

    __slots__ = ("readers", "subscription")

    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription
        self.readers: set[Reader] = set()

    def deliver(self, entries: Iterable[Entry]) -> None:
        """Write new entries that matched, in order. Does not raise: what cannot be encoded ends these readers alone."""
        try:
            for batch in batches(entries, self.subscription):
                # A write may set off that a reader leaves, this one or another.
                for reader in tuple(self.readers):
                    reader.deliver(batch)
        except Exception:
            logger.exception("events could not be encoded for %d readers", len(self.readers))
            for reader in tuple(self.readers):
                reader.fail()
