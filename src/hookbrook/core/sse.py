"""Server-Sent Events as bytes: the encoder of our streams, and a parser for anybody's (WHATWG HTML section 9.2).

The shape of a frame follows from what thirteen clients were seen to do when a connection is cut in the middle of it:

- `id:` stands last. A client that commits the id of a half-received event skips that event on resume; with the id
  last there is nothing to commit before the event is whole.
- `retry:` is a line of a real event. Several clients dispatch an empty event for a block of only `retry:`. So where it
  stands at the beginning of a stream, the block goes on with the first event.
- The heartbeat is a comment and one line end, without a blank line, for the same reason.
- JSON data is one line, and a control event's data is never empty: some clients do not advance on an id without data.
"""

from binascii import b2a_base64
from collections.abc import Mapping

import msgspec

from hookbrook.core.event import Kind
from hookbrook.errors import HookbrookError

#: A comment and one line end. It needs no blank line, and with one some clients would dispatch an empty event.
HEARTBEAT = b": hb\n"

#: The namespace of our own events; nobody else can publish under it.
CONTROL_PREFIX = "hookbrook."

#: EventSource's own names: `message` is what an absent name means, and a listener for `open` or `error` would take a
#: published event for a change of the connection.
UNNAMED_TYPES = frozenset({"", "message", "open", "error"})

#: What would end a line, or make a client ignore the id (section 9.2.6).
_LINE_BREAKERS = {ord("\r"): None, ord("\n"): None, ord("\0"): None}


def encode(*, type: str, data: bytes, kind: Kind, id: str) -> bytes:
    """One whole frame, from `event:` to the blank line.

    `data` is valid JSON for kind `json`, valid UTF-8 for `text` (which a client gets back with every line end as LF)
    and anything for `binary`, which travels as base64. CR, LF and NUL cannot get into the name or the id.
    """
    if kind == "json":
        # In valid JSON these stand only between tokens, where a space means the same. (`replace` with nothing to
        # replace returns the object itself, in less time than asking with `in` takes.)
        data = data.replace(b"\n", b" ").replace(b"\r", b" ")
    elif kind == "text":
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\ndata: ")
    else:
        data = b2a_base64(data, newline=False)
    if type in UNNAMED_TYPES:
        return b"".join((b"data: ", data, b"\nid: ", _one_line(id), b"\n\n"))
    return b"".join((b"event: ", _one_line(type), b"\ndata: ", data, b"\nid: ", _one_line(id), b"\n\n"))


def with_retry(frame: bytes, retry_ms: int) -> bytes:
    """The same frame, telling the client in front to wait `retry_ms` milliseconds before it reconnects."""
    return b"retry: %d\n%b" % (retry_ms, frame)


def control(name: str, data: Mapping[str, object], *, id: str | None = None, retry_ms: int | None = None) -> bytes:
    """A control event such as `hookbrook.reset` (`name` in full), its data as one line of JSON.

    Without `id` the client's last event id stays what it was. Raises ValueError for a name that is not ours.
    """
    if not name.startswith(CONTROL_PREFIX):
        raise ValueError(f"a control event is named {CONTROL_PREFIX}*, not {name!r}")
    frame = b"event: %b\ndata: %b\n" % (_one_line(name), msgspec.json.encode(data))
    frame += b"\n" if id is None else b"id: %b\n\n" % _one_line(id)
    return frame if retry_ms is None else with_retry(frame, retry_ms)


def _one_line(value: str) -> bytes:
    # All that could break a line is unprintable, and so are lone surrogates, which have no UTF-8.
    if value.isprintable():
        return value.encode()
    return value.translate(_LINE_BREAKERS).encode(errors="replace")


#: A line of a stream, and the data of one event, may have this many bytes. An event of 1 MiB whose text is all
#: control characters has six times that as JSON; beyond it a server could fill our memory without ever ending a line.
MAX_LINE_BYTES = 16 * 1024 * 1024
MAX_EVENT_BYTES = 16 * 1024 * 1024

#: A server may ask for a pause of up to a day; more is a mistake, and thousands of digits would stop `int` itself.
MAX_RETRY_MS = 24 * 60 * 60 * 1000

_BOM = b"\xef\xbb\xbf"


class FrameTooLarge(HookbrookError):
    """A line or an event of a stream is over the parser's limit. The stream cannot be read further."""


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """One dispatched event (WHATWG HTML section 9.2.6)."""

    type: str
    data: str
    #: The id this event carried, or the last one before it; empty if there was none or it was reset.
    last_event_id: str
    #: Milliseconds, if a `retry:` came since the event before.
    retry_ms: int | None


class Parser:
    """Turns the bytes of one connection into frames, however they are cut into chunks (WHATWG HTML section 9.2.6).

    Use a new parser for each connection, with the old one's `last_event_id`; what the old one held of an unfinished
    event is then discarded, as the specification wants.
    """

    #: Of the last finished event, also one without data, which moves it silently.
    last_event_id: str
    #: What the server last asked for, in milliseconds.
    retry_ms: int | None
    #: Bytes and comments (heartbeats) seen. A watchdog that finds them unchanged knows that nothing arrived.
    bytes_seen: int
    comments_seen: int

    def __init__(
        self,
        *,
        last_event_id: str = "",
        max_line_bytes: int = MAX_LINE_BYTES,
        max_event_bytes: int = MAX_EVENT_BYTES,
    ) -> None:
        self.last_event_id = last_event_id
        self.retry_ms = None
        self.bytes_seen = 0
        self.comments_seen = 0
        self._max_line_bytes = max_line_bytes
        self._max_event_bytes = max_event_bytes
        self._at_start = True
        #: The last line ended with CR; if LF follows, it belongs to the same line end.
        self._after_cr = False
        self._unfinished_line = bytearray()
        self._type = ""
        self._data: list[str] = []
        self._data_bytes = 0
        self._id = last_event_id
        self._retry_ms: int | None = None

    def feed(self, chunk: bytes) -> list[Frame]:
        """The frames that these bytes complete. Raises FrameTooLarge, after which the parser is of no more use."""
        self.bytes_seen += len(chunk)
        frames = []
        for line in self._lines(chunk):
            if line:
                self._field(line)
            elif (frame := self._dispatch()) is not None:
                frames.append(frame)
        return frames

    def _lines(self, chunk: bytes) -> list[bytes]:
        if self._at_start:
            chunk = self._without_bom(chunk)
        if not chunk:
            return []
        if self._after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
        self._after_cr = chunk.endswith(b"\r")
        lines = chunk.splitlines()
        rest = lines.pop() if lines and not chunk.endswith((b"\r", b"\n")) else b""
        if lines and self._unfinished_line:
            lines[0] = bytes(self._unfinished_line) + lines[0]
            self._unfinished_line.clear()
        self._unfinished_line += rest
        longest = max(map(len, lines), default=0)
        if max(longest, len(self._unfinished_line)) > self._max_line_bytes:
            raise FrameTooLarge(f"a line of the stream has more than {self._max_line_bytes:,} bytes")
        return lines

    def _without_bom(self, chunk: bytes) -> bytes:
        # Section 9.2.6: one leading byte order mark is stripped; it may arrive byte by byte.
        start = bytes(self._unfinished_line) + chunk
        self._unfinished_line.clear()
        if len(start) < len(_BOM) and _BOM.startswith(start):
            self._unfinished_line += start
            return b""
        self._at_start = False
        return start.removeprefix(_BOM)

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._add_data(value)
        elif name == b"id":
            # "If the field value does not contain U+0000 NULL, then set the last event ID buffer to the field value."
            if b"\0" not in value:
                self._id = value.decode(errors="replace")
        elif name == b"event":
            self._type = value.decode(errors="replace")
        elif name == b"retry":
            # "If the field value consists of only ASCII digits"; `isdigit` of bytes knows no others.
            if value.isdigit():
                self._retry_ms = self.retry_ms = _bounded_retry(value)
        elif not name:
            self.comments_seen += 1

    def _add_data(self, value: bytes) -> None:
        self._data_bytes += len(value) + 1
        if self._data_bytes > self._max_event_bytes:
            raise FrameTooLarge(f"an event of the stream has more than {self._max_event_bytes:,} bytes of data")
        self._data.append(value.decode(errors="replace"))

    def _dispatch(self) -> Frame | None:
        # The id counts even without data; nothing else does, and no event is dispatched.
        self.last_event_id = self._id
        frame = None
        if self._data:
            frame = Frame(
                type=self._type or "message",
                data="\n".join(self._data),
                last_event_id=self._id,
                retry_ms=self._retry_ms,
            )
            self._retry_ms = None
        self._type, self._data, self._data_bytes = "", [], 0
        return frame


def _bounded_retry(digits: bytes) -> int:
    significant = digits.lstrip(b"0")
    return MAX_RETRY_MS if len(significant) > len(str(MAX_RETRY_MS)) else min(int(significant or b"0"), MAX_RETRY_MS)
