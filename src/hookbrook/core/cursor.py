"""Cursors: positions in the log that survive restarts and cannot be mistaken for positions in another log.

A cursor is written `EPOCH-SEQ` (`k3f9w2-1042`). `seq` numbers events in commit order. The epoch is a random word that
changes whenever the log might have taken another course: at each start of the SQLite writer, and with PostgreSQL's
identity or timeline. Each epoch is kept with its first seq, so the pair says which event of *which history* is meant: a
restored backup will issue the same numbers again, but under an epoch that old readers have never seen.

The alphabet is `[A-Za-z0-9._-]`: a `Last-Event-ID` of other characters, or of more than 128, would cost a CORS
preflight.
"""

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from hookbrook.errors import Invalid

_CURSOR = re.compile(r"([a-z0-9]{4,12})-([0-9]{1,18})\Z")
EPOCH_LENGTH = 6
_EPOCH_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"


def new_epoch(random: bytes) -> str:
    """A word of 6 characters from at least 6 random bytes (2 thousand million possibilities)."""
    return "".join(_EPOCH_ALPHABET[byte % 36] for byte in random[:EPOCH_LENGTH])


@dataclass(frozen=True, slots=True)
class Cursor:
    """A position: just after the event numbered `seq` in the history named `epoch`."""

    epoch: str
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.seq}"

    @classmethod
    def parse(cls, text: str, field: str = "after") -> "Cursor":
        """Raises `Invalid` naming the field if the text is no cursor at all."""
        found = _CURSOR.match(text)
        if found is None:
            raise Invalid.of(field, "is not a cursor; a cursor looks like k3f9w2-1042")
        return cls(found[1], int(found[2]))


@dataclass(frozen=True, slots=True)
class Epoch:
    name: str
    #: The first seq that can be issued under it.
    first_seq: int


class Epochs:
    """The epochs of one log in the order in which they were opened."""

    def __init__(self, epochs: Sequence[Epoch]) -> None:
        self._epochs = tuple(epochs)
        self._firsts = [epoch.first_seq for epoch in epochs]
        self._index = {epoch.name: number for number, epoch in enumerate(epochs)}

    def name_of(self, seq: int) -> str:
        """The epoch under which the event numbered `seq` was appended.

        Several epochs may start at one seq, when a writer started and stopped without an append: the last has it.
        """
        return self._epochs[max(0, bisect_right(self._firsts, seq) - 1)].name

    def cursor(self, seq: int) -> Cursor:
        return Cursor(self.name_of(seq), seq)

    def contains(self, cursor: Cursor, tail: int) -> bool:
        """Whether the cursor is a position of this log whose newest event is `tail`; otherwise it is foreign."""
        number = self._index.get(cursor.epoch)
        if number is None:
            return False
        following = self._firsts[number + 1] if number + 1 < len(self._firsts) else tail + 1
        # The position before an epoch's first event is written with that epoch when the log is still empty.
        return self._firsts[number] - 1 <= cursor.seq <= max(following - 1, self._firsts[number] - 1)
