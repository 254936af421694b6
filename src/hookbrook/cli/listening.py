"""The work of `hookbrook listen` and `hookbrook replay`, once their flags are read."""

import os
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from hookbrook import Hookbrook, Reset, Webhook
from hookbrook.cli import bookmark as bookmarks
from hookbrook.cli import letter
from hookbrook.cli.board import Board
from hookbrook.cli.bookmark import Bookmark, Place
from hookbrook.cli.connection import fail, path
from hookbrook.cli.forward import Outgoing, Target
from hookbrook.cli.forwarder import Forwarder, Signer
from hookbrook.client.settings import DEFAULT_URL
from hookbrook.core.expression import Expression
from hookbrook.core.received import from_wire
from hookbrook.errors import ConfigError
from hookbrook.inbound.providers import load
from hookbrook.inbound.recipe import Row

CONFIG_FILE = "hookbrook.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What both verbs are told."""

    source: str
    forward_to: str | None
    types: Sequence[str]
    match: str | None
    unverified: bool
    since: str | None
    last: int | None
    resign: bool
    secret: str | None
    provider: str | None
    sign_url: str | None
    timeout_s: float
    skip_verify: bool
    name: str
    state: Path | None
    #: Of the server, as it was said.
    server: str | None

    @property
    def folder(self) -> Path:
        return self.state or bookmarks.default_folder(os.environ)

    @property
    def server_url(self) -> str:
        """What tells one server's places in the log from another's."""
        return (self.server or DEFAULT_URL).rstrip("/")

    def target(self, place: Place) -> Target:
        chosen = self.forward_to or place.forward_to
        if chosen is None:
            fail("say where to: --forward-to http://localhost:3000/hook")
        return Target(chosen, timeout_s=self.timeout_s, verify=not self.skip_verify)

    def signer(self, rows: Mapping[str, Row]) -> Signer | None:
        if not self.resign:
            return None
        if not self.secret:
            fail("--resign needs --secret, or HOOKBROOK_SOURCE_SECRET")
        if self.provider is not None and self.provider not in rows:
            fail(f"--provider: {self.provider!r} is not known; `hookbrook sources providers` lists them")
        return Signer(rows=rows, secret=self.secret, provider=self.provider, url=self.sign_url)

    def forwarder(
        self,
        brook: Hookbrook,
        target: Target,
        board: Board,
        edit: Callable[..., Outgoing | None] | None = None,
    ) -> Forwarder:
        rows = known_rows()
        return Forwarder(
            brook,
            self.source,
            target,
            board,
            rows=rows,
            signer=self.signer(rows),
            wanted=None if self.match is None else Expression.compile(self.match, field="--match"),
            edit=edit,
        )


def known_rows() -> Mapping[str, Row]:
    """The table of providers, with those that hookbrook.toml in this folder declares."""
    try:
        declared = tomllib.loads(Path(CONFIG_FILE).read_text("utf-8")).get("providers", {})
    except FileNotFoundError:
        declared = {}
    except (OSError, ValueError) as error:
        raise ConfigError(CONFIG_FILE, f"cannot be read: {error}") from error
    return load(declared)


def listen(brook: Hookbrook, wishes: Wishes, after: str | None) -> None:
    """Until somebody ends it. Raises ApiError if the server refuses."""
    with bookmarks.keeping(wishes.folder, wishes.server_url, wishes.source, wishes.name) as bookmark:
        target = wishes.target(bookmark.place)
        bookmark.place.forward_to = target.url
        if after is None and wishes.since is None and wishes.last is None:
            after = bookmark.place.cursor
        board = Board()
        forwarder = wishes.forwarder(brook, target, board)
        forwarder.batch = bookmark.place.batch
        with board.shown():
            _follow(brook, wishes, bookmark, board, forwarder, after)


def _follow(
    brook: Hookbrook, wishes: Wishes, bookmark: Bookmark, board: Board, forwarder: Forwarder, after: str | None
) -> None:
    def told(reset: Reset) -> None:
        board.tell(f"webhooks may be missing here: {reset}")

    def at(cursor: str, live: bool) -> None:
        if live:
            board.state(f"forwarding {wishes.source} to {bookmark.place.forward_to}")
        bookmark.move(cursor)

    board.state(f"connecting to {wishes.server_url}")
    stream = brook.webhooks(
        wishes.source,
        types=wishes.types,
        after=after,
        since=wishes.since,
        last=wishes.last,
        unverified=wishes.unverified,
        on_reset=told,
        on_place=at,
    )
    with stream:
        for webhook in stream:
            forwarder.take(webhook)
            bookmark.move(webhook.cursor, batch=forwarder.batch)


def replay(brook: Hookbrook, wishes: Wishes, ids: Sequence[str], *, edit: bool) -> bool:
    """Whether there was something to send, and all of it was answered with a 2xx."""
    kept = bookmarks.path_of(wishes.folder, wishes.server_url, wishes.source, wishes.name)
    place = bookmarks.read(kept, wishes.server_url, wishes.source).place
    board = Board()
    forwarder = wishes.forwarder(brook, wishes.target(place), board, letter.edited if edit else None)
    for webhook in _by_id(brook, wishes.source, ids) if ids else _past(brook, wishes):
        forwarder.take(webhook)
    if not board.answered + board.failed:
        board.tell("there was nothing to send")
    return board.answered > 0 and not board.failed


def _by_id(brook: Hookbrook, source: str, ids: Sequence[str]) -> Iterator[Webhook]:
    for event_id in ids:
        yield from_wire(brook.download(path("sources", source, "requests", event_id)))


def _past(brook: Hookbrook, wishes: Wishes) -> Iterator[Webhook]:
    """From there to the end of the log as it is when it is reached."""

    def at(_cursor: str, live: bool) -> None:
        if live:
            stream.close()

    stream = brook.webhooks(
        wishes.source,
        types=wishes.types,
        since=wishes.since,
        last=wishes.last if wishes.since or wishes.last else 1,
        unverified=wishes.unverified,
        on_place=at,
    )
    with closing(stream):
        yield from stream
