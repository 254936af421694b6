"""What `hookbrook listen` shows: one row for each webhook, and on a terminal a line below that says how things are."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from hookbrook.cli.forward import Answer

if TYPE_CHECKING:
    from rich.live import Live

#: Widths of the columns; what is longer pushes the rest of its row to the right.
TYPE_WIDTH = 32
STATUS_WIDTH = 26


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What became of one webhook."""

    type: str
    event_id: str
    #: The answer, or why there is none.
    answer: Answer | str
    #: What somebody should know about how it was sent.
    note: str = ""

    @property
    def ok(self) -> bool:
        return isinstance(self.answer, Answer) and self.answer.ok

    def text(self, now: datetime) -> str:
        """One line, whatever a webhook's type or a program's answer holds."""
        if isinstance(self.answer, Answer):
            status = f"{self.answer.status} {self.answer.reason}".strip()
            took = f"{self.answer.seconds * 1000:.0f} ms"
            more = "" if self.ok else self.answer.text
        else:
            status, took, more = self.answer, "", ""
        columns = [f"{now:%H:%M:%S}", self.type.ljust(TYPE_WIDTH), self.event_id, status.ljust(STATUS_WIDTH)]
        columns += [took.rjust(8), " · ".join(part for part in (self.note, _one_line(more)) if part)]
        return _one_line("  ".join(columns)).rstrip()


class Board:
    """Rows on standard output; what is about the connection goes below them, or to standard error in a pipe."""

    def __init__(self) -> None:
        #: Answered with a 2xx, and all others.
        self.answered = 0
        self.failed = 0
        self._live: Live | None = None
        self._state = ""

    @contextmanager
    def shown(self) -> Iterator["Board"]:
        """On a terminal the last line is kept up to date inside."""
        if not sys.stdout.isatty():
            yield self
            return
        # Imported late: in a pipe nothing is drawn.
        from rich.live import Live

        from hookbrook.cli.connection import console

        with Live(console=console(), refresh_per_second=4, transient=True) as live:
            self._live = live
            self.state(self._state)
            try:
                yield self
            finally:
                self._live = None

    def row(self, row: Row) -> None:
        if row.ok:
            self.answered += 1
        else:
            self.failed += 1
        text = row.text(datetime.now().astimezone())
        if self._live is None:
            print(text, flush=True)
            return
        from rich.text import Text

        self._live.console.print(Text(text, style="" if row.ok else "red"))
        self.state(self._state)

    def state(self, sentence: str) -> None:
        """How things are now: connected, waiting for the program."""
        changed, self._state = sentence != self._state, sentence
        if self._live is not None:
            from rich.text import Text

            count = f"{self.answered} ok" + (f", {self.failed} failed" if self.failed else "")
            self._live.update(Text(f"● {sentence} · {count}", style="dim"))
        elif changed and sentence:
            print(f"--- {_one_line(sentence)} ---", file=sys.stderr, flush=True)

    def tell(self, sentence: str) -> None:
        """Something that must not be missed, such as a gap."""
        if self._live is None:
            print(f"--- {_one_line(sentence)} ---", file=sys.stderr, flush=True)
            return
        from rich.text import Text

        self._live.console.print(Text(f"--- {_one_line(sentence)} ---", style="bold yellow"))


def _one_line(text: str) -> str:
    # A terminal must not obey what a stranger's request holds.
    return "".join(character if character.isprintable() else " " for character in text).strip()
