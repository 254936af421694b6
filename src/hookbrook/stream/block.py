"""Neighbouring entries of the log in memory, found by what readers ask for.

After a restart thousands of readers come back at once, each a few hundred events behind and each on a channel of its
own. Looking at every entry for every one of them would take the loop seconds. So the entries of a block are filed by
channel when the first reader asks, and what a pattern matches is found once for all who ask the same.
"""

from bisect import bisect_right
from collections.abc import Hashable, Iterable, Sequence

from hookbrook.core.channel import matches_any
from hookbrook.stream.subscription import Entry, Subscription

#: Answers that a block remembers. More different patterns than that ask again from the start.
MAX_ANSWERS = 64


class Block:
    """Entries in order of their seqs, which may have gaps."""

    __slots__ = ("_answers", "_of_channel", "entries")

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._of_channel: dict[tuple[str, str], list[Entry]] | None = None
        self._answers: dict[Hashable, list[Entry]] = {}

    def append(self, entry: Entry) -> None:
        self.entries.append(entry)
        if self._of_channel is not None:
            _file(self._of_channel, entry)
        if self._answers:
            self._answers = {}

    def put_before(self, entries: Iterable[Entry]) -> None:
        """Older entries, in order."""
        self.entries[:0] = entries
        self._forget()

    def drop(self, count: int) -> list[Entry]:
        """Remove the oldest so many, and return them."""
        dropped = self.entries[:count]
        del self.entries[:count]
        self._forget()
        return dropped

    def _forget(self) -> None:
        self._of_channel = None
        self._answers = {}

    def wanted(self, subscription: Subscription, *, after: int) -> Sequence[Entry]:
        """Those that the reader wants and that come after the seq."""
        if not self.entries:
            return ()
        if self._of_channel is None:
            self._of_channel = {}
            for entry in self.entries:
                _file(self._of_channel, entry)
        if _is_one_name(subscription):
            filed = self._of_channel.get((subscription.tenant, subscription.channels[0]))
            if filed is None:
                return ()
            return [entry for entry in _behind(filed, after) if subscription.wants(entry.event)]
        asked = subscription.asked
        answer = self._answers.get(asked)
        if answer is None:
            if len(self._answers) >= MAX_ANSWERS:
                self._answers = {}
            answer = self._answers[asked] = self._find(self._of_channel, subscription)
        return _behind(answer, after)

    def _find(self, of_channel: dict[tuple[str, str], list[Entry]], subscription: Subscription) -> list[Entry]:
        # By channel first: there are fewer channels than entries, and most are not wanted.
        found = {
            entry.seq: entry
            for (tenant, channel), entries in of_channel.items()
            if tenant == subscription.tenant and matches_any(subscription.channels, channel)
            for entry in entries
            if subscription.wants(entry.event)
        }
        return [found[seq] for seq in sorted(found)]


def _file(of_channel: dict[tuple[str, str], list[Entry]], entry: Entry) -> None:
    event = entry.event
    for channel in event.channels:
        of_channel.setdefault((event.tenant, channel), []).append(entry)


def _is_one_name(subscription: Subscription) -> bool:
    return len(subscription.channels) == 1 and not subscription.channels[0].endswith("*")


def _behind(entries: list[Entry], seq: int) -> Sequence[Entry]:
    return entries[bisect_right(entries, seq, key=_seq) :] if entries and entries[0].seq <= seq else entries


def _seq(entry: Entry) -> int:
    return entry.seq
