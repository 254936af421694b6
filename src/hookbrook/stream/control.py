"""The control events: what a stream says on its own account, since a native EventSource can read no header.

The exceptional ones come to everybody: `hookbrook.reset`, `.closed`, `.expiring`, `.expired`, `.drain`, `.busy` and
`.erased`. The routine ones, `.live`, `.checkpoint` and `.ping`, come to those who asked for them with `control=1`. An
EventSource without a listener for a name takes no notice of it.

Whatever ends a stream on purpose also says with `retry:` when to come back. An id is given only where the reader's
place moves.
"""

from collections.abc import Sequence
from random import Random

from hookbrook.core.event import format_time
from hookbrook.core.sse import control, with_retry

#: What clients are told to wait before they reconnect, spread so that they do not all come back at once.
RETRY_MS = (1000, 3000)
#: The same when the server is going away and will take a moment to come back.
DRAIN_RETRY_MS = (1000, 5000)
#: The same when the server, or the client's share of it, is full: it will take others to leave.
BUSY_RETRY_MS = (5000, 15_000)


def reset(reason: str, *, oldest: str, newest: str, at: str | None = None) -> bytes:
    """Events may be missing before this point, because the cursor was `foreign` or `trimmed`.

    `oldest` and `newest` are the cursors between which the log can be read. The id makes a client that reconnects
    come back to where this stream goes on, instead of being told the same again.
    """
    return control("hookbrook.reset", {"reason": reason, "oldest": oldest, "newest": newest}, id=at or oldest)


def retry(rng: Random) -> bytes:
    """When to come back if the connection is cut: a line at the beginning, of whatever event will be the first."""
    return with_retry(b"", rng.randint(*RETRY_MS))


def drain(rng: Random) -> bytes:
    """The server is about to stop, and the stream ends."""
    retry = rng.randint(*DRAIN_RETRY_MS)
    return control("hookbrook.drain", {"retry_ms": retry}, retry_ms=retry)


def busy(reason: str, rng: Random, *, least_ms: int = 0) -> bytes:
    """There is no room for this stream, and it ends. `reason` names the limit that was reached.

    Args:
        least_ms: when there may be room again, if that is known.
    """
    retry = least_ms + rng.randint(*BUSY_RETRY_MS)
    return control("hookbrook.busy", {"reason": reason, "retry_ms": retry}, retry_ms=retry)


def expiring(expires: int) -> bytes:
    """The right to listen will end then (microseconds since the epoch): time to open another stream."""
    return control("hookbrook.expiring", {"expires": format_time(expires)})


def expired(reason: str = "expired") -> bytes:
    """The right to listen has `expired`, or was `revoked`, and so the stream ends."""
    return control("hookbrook.expired", {"reason": reason})


def too_late(rng: Random) -> bytes:
    """The right to listen had expired before this stream was asked for, and so it holds nothing."""
    retry = rng.randint(*BUSY_RETRY_MS)
    return control("hookbrook.expired", {"reason": "expired"}, retry_ms=retry)


def closed(channels: Sequence[str], cursor: str) -> bytes:
    """All channels of this stream are finished, everything of them was sent, and the stream ends for good."""
    return control("hookbrook.closed", {"channels": channels, "cursor": cursor}, id=cursor)


def erased(event_id: str, type: str, cursor: str) -> bytes:
    """An event stood here, and what it said was erased. Only instead of plain data, which has no other place for it."""
    return control("hookbrook.erased", {"id": event_id, "type": type, "cursor": cursor}, id=cursor)


def live(cursor: str) -> bytes:
    """Everything up to now was sent."""
    return control("hookbrook.live", {"cursor": cursor}, id=cursor)


def checkpoint(cursor: str) -> bytes:
    """The log has moved on without anything for this reader, whose place is now here.

    With data, because some clients do not advance on an id without any.
    """
    return control("hookbrook.checkpoint", {"cursor": cursor}, id=cursor)


def ping() -> bytes:
    """A sign of life that JavaScript can see, which a comment is not."""
    return control("hookbrook.ping", {})
