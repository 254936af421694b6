"""Where `hookbrook listen` has come to, kept on the developer's disk: what came while the laptop slept arrives later.

One small file for each server, source and name of a listener. It is written after a webhook was answered by the local
program and before the next one is taken, as a whole and by renaming, so that a kill at any moment leaves either the old
place or the new one, and nothing is forwarded twice but the one webhook whose answer was under way.
"""

import fcntl
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import msgspec

from hookbrook.errors import HookbrookError


class Place(msgspec.Struct, kw_only=True):
    """What the file holds."""

    server: str
    source: str
    #: Everything up to here has been forwarded, or was not wanted; None before the first connection.
    cursor: str | None = None
    #: The first event of the request with several events that was forwarded last.
    batch: str | None = None
    #: Where webhooks go, for `hookbrook replay`.
    forward_to: str | None = None


class Bookmark:
    """Use `keeping`, so that no other listener moves the same place."""

    def __init__(self, path: Path, place: Place) -> None:
        self.path = path
        self.place = place

    def move(self, cursor: str, *, batch: str | None = None) -> None:
        """Everything up to the cursor is done."""
        if cursor != self.place.cursor or batch not in (None, self.place.batch):
            self.place.cursor = cursor
            self.place.batch = batch or self.place.batch
            self.save()

    def save(self) -> None:
        """Raises HookbrookError if the disk does not take it: going on would forget the place."""
        fresh = self.path.with_suffix(".new")
        try:
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(self.place)) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self.path)
        except OSError as error:
            raise HookbrookError(f"the place in the log cannot be kept in {self.path}: {error.strerror}") from error


def path_of(folder: Path, server: str, source: str, name: str) -> Path:
    """The file of a listener. People see which is which, and a hash keeps apart what only looks alike."""
    shown = re.sub(r"[^A-Za-z0-9]+", "-", server.partition("://")[2]).strip("-")
    digest = sha256(f"{server}\0{source}\0{name}".encode()).hexdigest()[:8]
    return folder / f"{source}-{name + '-' if name else ''}{shown[:40]}-{digest}.json"


def default_folder(environment: Mapping[str, str]) -> Path:
    """XDG Base Directory Specification: state that should persist between restarts."""
    base = environment.get("XDG_STATE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".local" / "state") / "hookbrook"


def read(path: Path, server: str, source: str) -> Bookmark:
    """What was kept, or a fresh one. Raises HookbrookError for a file that is none of ours."""
    try:
        place = msgspec.json.decode(path.read_bytes(), type=Place)
    except FileNotFoundError:
        place = Place(server=server, source=source)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise HookbrookError(f"{path} cannot be read; delete it to begin anew ({error})") from error
    return Bookmark(path, place)


@contextmanager
def keeping(folder: Path, server: str, source: str, name: str) -> Iterator[Bookmark]:
    """The bookmark, for this process alone. Raises HookbrookError while another one has it."""
    path = path_of(folder, server, source, name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = path.with_suffix(".lock").open("a")
    except OSError as error:
        raise HookbrookError(f"the place in the log cannot be kept in {folder}: {error.strerror}") from error
    with lock:
        try:
            # The system gives it back whatever becomes of us, kill -9 included.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            sentence = f"another `hookbrook listen {source}` is running; a second one needs a --name of its own"
            raise HookbrookError(sentence) from None
        yield read(path, server, source)
