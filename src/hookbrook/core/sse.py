"""Server-Sent Events as bytes: the encoder of our streams, and a parser for anybody's (WHATWG HTML section 9.2).

The shape of a frame follows from what thirteen clients were seen to do when a connection is cut in the middle of it:

- `id:` stands last. A client that commits the id of a half-received event skips that event on resume; with the id
  last there is nothing to commit before the event is whole.
- `retry:` rides in front of a real event. Several clients dispatch an empty event for a block of only `retry:`.
- The heartbeat is a comment and one line end, without a blank line, for the same reason.
- JSON data is one line, and a control event's data is never empty: some clients do not advance on an id without data.
"""

from binascii import b2a_base64
from collections.abc import Mapping
from typing import Literal

import msgspec

#: How an event's stored bytes become `data:` lines.
Kind = Literal["json", "text", "binary"]

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
        # replace returns the object itself and takes a quarter of the time of asking with `in`.)
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
