"""Sending a stream's client away: there is no room for it, or its token has expired.

An EventSource gives up for good on anything but 200 (WHATWG HTML section 9.2.2), a 503, 429 or 401 included. So it gets
a stream that holds nothing but `hookbrook.busy` or `hookbrook.expired` and a `retry:`, and ends.
"""

from random import Random

from hookbrook.http.problems import Send
from hookbrook.stream.control import busy, too_late

STREAM_HEADERS = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    # nginx would otherwise hold tokens back until its buffer is full.
    (b"x-accel-buffering", b"no"),
    (b"vary", b"accept"),
)


async def send_busy(send: Send, reason: str, rng: Random, *, least_s: float = 0.0) -> None:
    """The whole answer to a stream that cannot be opened now.

    Args:
        reason: the limit that was reached, in a word: `connections`, `address`, `subject`, `rate`.
        least_s: when there may be room again, if that is known.
    """
    await _send_all(send, busy(reason, rng, least_ms=round(least_s * 1000)))


async def send_expired(send: Send, rng: Random) -> None:
    """The whole answer to a stream that was asked for with a token that has expired."""
    await _send_all(send, too_late(rng))


async def _send_all(send: Send, body: bytes) -> None:
    headers = [*STREAM_HEADERS, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
