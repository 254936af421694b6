"""A stream that resumes by itself, without any I/O.

    connect ──► read ──► events ──► lost, silent or told to leave ──► wait ──► connect, from the last cursor
       │                                                                         │
       ├─ 204: the channel is closed; the end                                    └─ the server may say: reset
       └─ 4xx: raise

`Subscription` hands out one step at a time and takes its answer, so that a client that is cancelled in the middle of
a step can do the same step again.

It asks for `control=1`: with the routine control events the cursor is known before the first event and moves on quiet
channels. Without them, a connection that is lost before its first event would be resumed at "now", and what
happened between would be missed.
"""

import logging
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import quote

import msgspec

from hookbrook.client.errors import ConnectionFailed, Reset
from hookbrook.client.events import Event, decode_event
from hookbrook.client.exchange import Request, Response, Wait, api_error, base_headers, retry_after_s, target
from hookbrook.client.settings import Jitter, Settings, pause_s
from hookbrook.core.received import Webhook, from_wire
from hookbrook.core.sse import CONTROL_PREFIX, Frame, Parser

logger = logging.getLogger("hookbrook.client")

#: A stream waits this long at most when it is told to by `Retry-After`; it has nothing better to do, but a
#: mistyped header must not end it.
MAX_STREAM_RETRY_AFTER_S = 300.0

#: Answers to a connection attempt that a stream survives, with every 5xx.
_PASSING_STATUSES = frozenset({408, 425, 429})


#: Control events that say where the stream stands; readers of a source are told, who keep that on their disk.
_PLACES = frozenset({"hookbrook.live", "hookbrook.checkpoint"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """Send this request; answer with the response, whose body stays open (and unread) if it is an event stream."""

    request: Request


@dataclass(frozen=True, slots=True)
class Read:
    """Answer with the next bytes as soon as there are any, or with none at the end."""


@dataclass(frozen=True, slots=True)
class At:
    """The stream has come to this cursor without an event; `live`: it has caught up, for the first time."""

    cursor: str
    live: bool


@dataclass(frozen=True, slots=True)
class Close:
    """Close the stream's connection."""


@dataclass(frozen=True, slots=True)
class End:
    """There will be nothing more."""


Step: TypeAlias = Open | Read | Close | Wait | Event | Webhook | At | Reset | End


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What to read and where to start: at most one of `after` (a cursor), `since` (such as `2h`) and `last`."""

    channels: tuple[str, ...]
    types: tuple[str, ...] = ()
    after: str | None = None
    since: str | None = None
    last: int | None = None
    token: str | None = None
    #: While catching up, neighbouring pieces of one text as one event.
    merge: bool = False
    #: Instead of channels: what arrives at the source of this name, as it arrived.
    source: str | None = None
    #: Of a source: also what failed verification.
    unverified: bool = False
    #: Also say where the stream stands when no event says so.
    places: bool = False

    def __post_init__(self) -> None:
        if not self.channels and not self.source:
            raise ValueError("a stream needs a channel, or a source")
        if sum(start is not None for start in (self.after, self.since, self.last)) > 1:
            raise ValueError("a stream starts after a cursor, since a time or at the last N events, not at two of them")


def select(
    channels: Iterable[str],
    types: Iterable[str] | str,
    after: str | None,
    since: str | None,
    last: int | None,
    token: str | None,
    merge: bool = False,
    *,
    places: bool = False,
) -> Selection:
    """A Selection; `types` may be one pattern."""
    types = (types,) if isinstance(types, str) else tuple(types)
    return Selection(
        channels=tuple(channels),
        types=types,
        after=after,
        since=since,
        last=last,
        token=token,
        merge=merge,
        places=places,
    )


class Subscription:
    """The steps of one stream. Do `step()`, then report by `answer`, `fail` or (for an Event or Reset) `taken`."""

    def __init__(self, settings: Settings, selection: Selection, jitter: Jitter) -> None:
        self._settings = settings
        self._selection = selection
        self._jitter = jitter
        self._failures = 0
        self._least_s = 0.0
        self._retry_s = settings.backoff_s
        self._closed = False
        self._decode: Callable[[str], Event | Webhook] = decode_event if selection.source is None else from_wire
        self._steps = self._run()
        self._pending: Step | None = None
        #: Of the last event that was handed out, or a later one if the events between were not for this stream.
        self.cursor: str | None = selection.after

    def step(self) -> Step:
        if self._pending is None:
            self._pending = next(self._steps, End())
        return self._pending

    def taken(self) -> None:
        self._pending = None

    def answer(self, answer: Any) -> None:
        self._pending = None
        try:
            self._pending = self._steps.send(answer)
        except StopIteration:
            self._pending = End()

    def fail(self, error: ConnectionFailed) -> None:
        self._pending = None
        self._pending = self._steps.throw(error)

    def _run(self) -> Generator[Step, Any, None]:
        while True:
            why = yield from self._connect()
            if why is None:
                why = yield from self._read()
                yield Close()
            if self._closed:
                return
            pause = self._pause_s()
            level = logging.WARNING if self._failures > 1 else logging.INFO
            logger.log(level, "stream lost (%s); connecting again in %.1f s", why, pause)
            yield Wait(seconds=pause)

    def _connect(self) -> Generator[Step, Any, str | None]:
        """None if the stream is open, else why it is not. Raises ApiError if it never will be."""
        self._failures += 1
        self._least_s = 0.0
        try:
            response: Response = yield Open(request=self._request())
        except ConnectionFailed as error:
            return str(error)
        if is_event_stream(response):
            return None
        if response.status == 204:
            self._closed = True
            return "closed"
        if response.status < 500 and response.status not in _PASSING_STATUSES:
            raise api_error(response)
        self._least_s = min(retry_after_s(response), MAX_STREAM_RETRY_AFTER_S)
        return str(api_error(response))

    def _request(self) -> Request:
        chosen = self._selection
        headers = {**base_headers(self._settings, chosen.token), "Accept": "text/event-stream"}
        path, params = self._place()
        if self.cursor is not None and self.cursor != chosen.after:
            headers["Last-Event-ID"] = self.cursor
        else:
            params |= {"after": chosen.after, "since": chosen.since, "last": chosen.last}
        return Request(method="GET", target=target(path, params), headers=headers)

    def _place(self) -> tuple[str, dict[str, Any]]:
        chosen = self._selection
        params: dict[str, Any] = {"type": chosen.types, "control": 1}
        if chosen.source is None:
            merge = {"merge": 1} if chosen.merge else {}
            return "/v1/stream", {"channel": chosen.channels, "format": "event"} | params | merge
        unverified = {"unverified": 1} if chosen.unverified else {}
        return f"/v1/sources/{quote(chosen.source, safe='')}/requests", params | unverified

    def _read(self) -> Generator[Step, Any, str]:
        """Hands out what the connection brings; returns why it ended."""
        parser = Parser(last_event_id=self.cursor or "")
        while True:
            try:
                chunk: bytes = yield Read()
            except ConnectionFailed as error:
                return str(error)
            if not chunk:
                return "ended by the server"
            # Only bytes show that a connection is good: a server in trouble may accept and hang up.
            self._failures = 0
            frames = parser.feed(chunk)
            if parser.retry_ms is not None:
                self._retry_s = parser.retry_ms / 1000
            for frame in frames:
                self.cursor = frame.last_event_id or self.cursor
                if not frame.type.startswith(CONTROL_PREFIX):
                    yield self._decode(frame.data)
                elif frame.type == "hookbrook.reset":
                    yield _reset(frame)
                elif self._selection.places and frame.type in _PLACES:
                    yield At(frame.last_event_id, frame.type == "hookbrook.live")
                elif self._leaves(frame):
                    return frame.type
            self.cursor = parser.last_event_id or self.cursor

    def _pause_s(self) -> float:
        # A server may ask to be called again at once, but not to be hammered while it is down.
        base_s = self._retry_s if self._failures == 0 else max(self._retry_s, self._settings.backoff_s)
        return max(self._least_s, pause_s(base_s, self._failures, self._jitter))

    def _leaves(self, frame: Frame) -> bool:
        """Whether this control event ends the connection."""
        if frame.type == "hookbrook.closed":
            self._closed = True
            return True
        return frame.type in ("hookbrook.drain", "hookbrook.busy")


def is_event_stream(response: Response) -> bool:
    """Whether the answer to `Open` is a stream to be read, rather than a document."""
    essence = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    return response.status == 200 and essence == "text/event-stream"


class _ResetData(msgspec.Struct):
    reason: str = "unknown"
    oldest: str | None = None
    newest: str | None = None


def _reset(frame: Frame) -> Reset:
    try:
        data = msgspec.json.decode(frame.data, type=_ResetData)
    except msgspec.DecodeError:
        # A gap is told even if its reason cannot be read.
        data = _ResetData()
    return Reset(data.reason, data.oldest, data.newest)
