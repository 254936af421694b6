"""Where a consumer of events has come to, kept between its runs."""

import os
from pathlib import Path
from typing import Protocol

from hookbrook.errors import HookbrookError


class Place(Protocol):
    """Keeps one cursor. Write your own to keep it where your results are, in the same transaction even."""

    def load(self) -> str | None:
        """The cursor that was saved last, or None."""

    def save(self, cursor: str) -> None:
        """Must not return before the cursor is safe."""


class CursorFile:
    """A `Place` that is a small file. It is replaced whole, so that a kill leaves the old cursor or the new one."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)

    def load(self) -> str | None:
        try:
            return self._path.read_text("ascii").strip() or None
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise HookbrookError(f"no cursor can be read from {self._path}: {error}") from error

    def save(self, cursor: str) -> None:
        """Raises HookbrookError if the disk does not take it: going on would forget the place."""
        fresh = self._path.with_name(f"{self._path.name}.new")
        try:
            with fresh.open("w", encoding="ascii") as file:
                file.write(f"{cursor}\n")
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self._path)
        except OSError as error:
            raise HookbrookError(f"the cursor cannot be kept in {self._path}: {error.strerror}") from error


def place_of(save: "Place | str | os.PathLike[str]") -> Place:
    return CursorFile(save) if isinstance(save, str | os.PathLike) else save
