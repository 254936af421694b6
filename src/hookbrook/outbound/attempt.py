"""What is known of one request while it runs."""

from collections.abc import Sequence
from time import monotonic
from typing import Final

from hookbrook.core.fetch import Response, Timing

#: What is kept of an answer's headers.
MAX_HEADER_BYTES: Final = 16 * 1024


class Attempt:
    """Written by whoever carries the request on: the client, the dialler, the wire. Moments are seconds of the
    monotonic clock."""

    __slots__ = (
        "address",
        "answered",
        "at_proxy",
        "blocked",
        "body",
        "connected",
        "connecting",
        "dialled",
        "heard",
        "limit",
        "method",
        "raw_headers",
        "ready",
        "reused",
        "room",
        "secure",
        "started",
        "status",
        "truncated",
    )

    def __init__(self, method: str, limit: int, *, secure: bool) -> None:
        self.method = method
        self.secure = secure
        #: Bytes of the answer's body to keep, and how many of them are still to come at most.
        self.limit = self.room = limit
        self.started = monotonic()
        self.connecting: float | None = None
        #: When the first socket was made, which is when the name was resolved.
        self.dialled: float | None = None
        #: When there was a TCP connection; None if the request went over one that was there.
        self.connected: float | None = None
        #: When the request could be sent.
        self.ready: float | None = None
        self.answered: float | None = None
        #: `ip:port` of the connection.
        self.address: str | None = None
        #: It is the proxy that is being connected to.
        self.at_proxy = False
        self.reused = False
        #: A byte of an answer has come over the connection.
        self.heard = False
        #: Why an address was refused.
        self.blocked: str | None = None
        #: None until the answer's head is complete.
        self.status: int | None = None
        self.raw_headers: list[tuple[bytes, bytes]] = []
        self.body: list[bytes] = []
        #: The body went on after the limit.
        self.truncated = False

    @property
    def died_unheard(self) -> bool:
        """Whether a reused connection ended before any byte of an answer, so that the receiver ignored the request."""
        return self.reused and not self.heard

    def timing(self) -> Timing:
        if self.connecting is None:
            return Timing(total=_us(self.started, monotonic()) or 0, wait=_us(self.ready, self.answered))
        return Timing(
            total=_us(self.started, monotonic()) or 0,
            resolve=_us(self.connecting, self.dialled),
            connect=_us(self.dialled, self.connected),
            tls=_us(self.connected, self.ready) if self.secure else None,
            wait=_us(self.ready, self.answered),
        )

    def response(self, *, truncated: bool) -> Response | None:
        """What has arrived of the answer; None before its head."""
        if self.status is None:
            return None
        return Response(
            status=self.status,
            headers=_captured(self.raw_headers) if self.raw_headers else (),
            body=b"".join(self.body),
            truncated=truncated,
            address=self.address or "",
            timing=self.timing(),
        )


def _captured(raw: Sequence[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
    headers = []
    room = MAX_HEADER_BYTES
    for name, value in raw:
        room -= len(name) + len(value)
        if room < 0:
            break
        headers.append((name.decode("utf-8", "replace"), value.decode("utf-8", "replace")))
    return tuple(headers)


def _us(start: float | None, end: float | None) -> int | None:
    return None if start is None or end is None or end < start else round((end - start) * 1_000_000)
