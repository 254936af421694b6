"""The connections of the guarded client: what a request knows of its connection, and which ones may be used again."""

import asyncio
from collections.abc import Sequence
from contextvars import ContextVar
from functools import partial
from time import monotonic
from typing import Any, Final, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

from hookbrook.core.fetch import Response, Timing

#: What is kept of an answer's headers.
MAX_HEADER_BYTES: Final = 16 * 1024


class Attempt:
    """What is known of one request while it runs. Moments are seconds of the monotonic clock."""

    __slots__ = (
        "answered",
        "blocked",
        "body",
        "connected",
        "connecting",
        "dialled",
        "fresh_only",
        "head",
        "reused",
        "started",
        "wire",
    )

    def __init__(self) -> None:
        self.started = monotonic()
        self.connecting: float | None = None
        #: When the first socket was made, which is when the name was resolved.
        self.dialled: float | None = None
        self.connected: float | None = None
        self.answered: float | None = None
        self.wire: Wire | None = None
        self.reused = False
        #: The connection that was tried died; another one from the pool is probably as dead.
        self.fresh_only = False
        #: Why an address was refused.
        self.blocked: str | None = None
        self.head: aiohttp.ClientResponse | None = None
        self.body: list[bytes] = []

    @property
    def died_unheard(self) -> bool:
        """Whether a reused connection ended before any byte of an answer, so that the receiver ignored the request."""
        return self.reused and self.wire is not None and not self.wire.heard

    @property
    def address(self) -> str | None:
        return None if self.wire is None else self.wire.address

    def timing(self, secure: bool) -> Timing:
        wire = self.wire
        fresh = wire is not None and not self.reused
        return Timing(
            total=_us(self.started, monotonic()) or 0,
            resolve=_us(self.connecting, self.dialled),
            connect=_us(self.dialled, wire.born) if wire is not None and fresh else None,
            tls=_us(wire.born, self.connected) if wire is not None and fresh and secure else None,
            wait=_us(self.connected, self.answered),
        )

    def response(self, secure: bool, *, truncated: bool) -> Response | None:
        """What has arrived of the answer; None before its head."""
        if self.head is None:
            return None
        return Response(
            status=self.head.status,
            headers=_captured(self.head.raw_headers),
            body=b"".join(self.body),
            truncated=truncated,
            address=self.address or "",
            timing=self.timing(secure),
        )


CURRENT: ContextVar[Attempt] = ContextVar("hookbrook_attempt")


class Wire(ResponseHandler):
    """aiohttp's protocol, which also knows its age, its address, and whether the peer has said anything.

    aiohttp makes it between the TCP connection and the TLS handshake.
    """

    def __init__(self, pool: "Connector", loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._pool = pool
        self.born = monotonic()
        self.address = ""
        self.used = False
        #: Goes back to the pool after its request, and is counted there.
        self.kept = False
        #: Since it was last handed out.
        self.heard = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        host, port = transport.get_extra_info("peername")[:2]
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def connection_lost(self, exc: BaseException | None) -> None:
        if self.kept:
            self._pool.kept -= 1
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self.heard = True
        super().data_received(data)


class Connector(aiohttp.TCPConnector):
    """A pool that hands out no connection that is too old, has unasked bytes, or is unwanted by the attempt."""

    def __init__(self, *, pool: int, max_age_s: float, **options: Any) -> None:
        super().__init__(**options)
        #: Connections that are in the pool or will go back to it.
        self.kept = 0
        self._pool_size = pool
        self._max_age_s = max_age_s
        # aiohttp has no public way to say which protocol its connections use. Were this to stop working, no connection
        # would be a `Wire`, and the first request would fail.
        self._factory = cast("partial[ResponseHandler]", partial(Wire, self, loop=self._loop))

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        attempt = CURRENT.get()
        attempt.connecting = monotonic()
        while True:
            connection = await super().connect(req, traces, timeout)
            wire = connection.protocol
            assert isinstance(wire, Wire)
            now = monotonic()
            if not wire.used:
                self._keep_or_not(wire)
                break
            if not attempt.fresh_only and now - wire.born <= self._max_age_s and not wire.should_close:
                break
            connection.close()
        attempt.reused, attempt.wire, attempt.connected = wire.used, wire, now
        wire.used, wire.heard = True, False
        return connection

    def _keep_or_not(self, wire: Wire) -> None:
        if self.kept >= self._pool_size:
            wire.force_close()
        elif wire.is_connected():
            self.kept += 1
            wire.kept = True


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
