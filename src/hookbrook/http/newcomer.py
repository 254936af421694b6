"""A connection until its first request has come; one that opens a stream never needs more.

What HTTP/1.1 may bring on a connection takes a parser, a timer and three kilobytes of objects, and nearly all that open
a stream, thousands at once after a restart, bring one packet that holds one request. So a connection is little more
than its socket until something comes; a packet that holds one whole request without a body is read by a parser that all
newcomers share, and shown to the shortcut. Whatever else comes, and whatever the shortcut declines, goes on with a
`Protocol`, as if that had been there from the beginning: nothing has happened yet.

What follows is called by way of the newcomer, not set as the transport's protocol in its place: that would have the
kernel told twice that the socket is read.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast
from urllib.parse import unquote_to_bytes

import httptools

from hookbrook.errors import Problem
from hookbrook.http import accesslog
from hookbrook.http.exchange import CLOSE, STATUS_LINES, Shortcut, Taken, part_with
from hookbrook.http.head import address_of, read_scope
from hookbrook.http.limits import Limits
from hookbrook.http.problems import Headers, Scope
from hookbrook.http.protocol import CLIENT_CLOSED, Protocol
from hookbrook.http.state import State
from hookbrook.stream.sink import chunk

#: Of a connection that has sent nothing.
NO_SCOPE: Final[Scope] = {}
#: Packets of which is remembered what they say, and the longest of them: a few megabytes at most. Thousands of readers
#: who come back after a restart, or to the same page, bring the same bytes, down to the id of the last event.
MAX_KNOWN: Final = 512
MAX_KNOWN_BYTES: Final = 2048
#: Packets of which it is remembered that they came.
MAX_MET: Final = 4096
_PERSONAL: Final = frozenset({b"authorization", b"cookie"})


class Newcomer(asyncio.Protocol):
    """A connection; a `Visitor` from its first request until something else follows it."""

    __slots__ = ("_follower", "_lobby", "_packet", "keep_alive", "notes", "scope", "started_at", "transport")

    transport: asyncio.Transport

    def __init__(self, lobby: "Lobby") -> None:
        self._lobby = lobby
        self._follower: asyncio.Protocol | None = None
        #: The request that waits for its turn.
        self._packet = b""
        self.scope = NO_SCOPE
        self.notes: dict[str, Any] | None = None
        self.keep_alive = False
        self.started_at = 0.0

    @property
    def disconnected(self) -> bool:
        """Nobody waits for an answer here, or something else has followed."""
        return self._follower is not None or self.transport.is_closing()

    def start(self) -> None:
        """Have its request answered the ordinary way."""
        self._lobby.pass_on(self, self._packet, declined=True)

    def take_over(self, status: int, block: bytes, first: bytes) -> Taken | None:
        """As `Exchange.take_over`."""
        return None if self.disconnected else self._lobby.part_with(self, status, block, first)

    def follow(self, follower: asyncio.Protocol) -> None:
        """Let `follower` be the connection's protocol from now on."""
        self._follower = follower
        self._packet = b""
        self.scope = NO_SCOPE
        self.notes = None

    def shutdown(self) -> None:
        """Close, unless a request has come: that is answered first."""
        self.keep_alive = False
        if not self._packet:
            self.transport.close()

    # ---- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes.
        self.transport = cast("asyncio.Transport", transport)
        self._lobby.let_in(self)

    def data_received(self, data: bytes) -> None:
        if self._follower is not None:
            self._follower.data_received(data)
        elif self._packet:
            # More comes while the first request waits for its turn.
            self._lobby.pass_on(self, self._packet + data)
        else:
            self._packet = data
            self._lobby.hear(self, data)

    def eof_received(self) -> bool | None:
        if self._follower is None and self._packet:
            self._lobby.pass_on(self, self._packet)
        return None if self._follower is None else self._follower.eof_received()

    def pause_writing(self) -> None:
        if self._follower is not None:
            self._follower.pause_writing()

    def resume_writing(self) -> None:
        if self._follower is not None:
            self._follower.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._follower is None:
            self._lobby.lose(self)
        else:
            self._follower.connection_lost(exc)


class Lobby:
    """What all newcomers of one server share.

    Args:
        ordinary: makes the protocol of a connection that needs one.
        max_known: packets of which is remembered what they say.
    """

    def __init__(
        self,
        state: State,
        *,
        limits: Limits,
        shortcut: Shortcut,
        ordinary: Callable[[], Protocol],
        loop: asyncio.AbstractEventLoop,
        max_known: int = MAX_KNOWN,
    ) -> None:
        self._state = state
        self._limits = limits
        self._shortcut = shortcut
        self._ordinary = ordinary
        self._loop = loop
        self._max_known = max_known
        self._reading = _Reading()
        self._known: dict[bytes, _Request] = {}
        #: Hashes of packets that have come.
        self._met: set[int] = set()
        #: Those who have said nothing yet, with the moment at which they came, in that order.
        self._silent: dict[Newcomer, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def let_in(self, newcomer: Newcomer) -> None:
        if self._state.stopping:
            newcomer.transport.close()
            return
        self._state.connections.add(newcomer)
        self._silent[newcomer] = now = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_at(now + self._limits.head_s, self._look)

    def hear(self, newcomer: Newcomer, packet: bytes) -> None:
        """The first packet has come."""
        self._silent.pop(newcomer, None)
        request = self._known.get(packet) or self._read(packet)
        if request is None:
            self.pass_on(newcomer, packet)
            return
        newcomer.scope = {**request.scope, "client": address_of(newcomer.transport.get_extra_info("peername"))}
        newcomer.notes = request.notes
        newcomer.keep_alive = request.keep_alive and not self._state.stopping
        newcomer.started_at = self._loop.time()
        if not self._shortcut(newcomer):
            newcomer.start()

    def _read(self, packet: bytes) -> "_Request | None":
        """None for whatever is no single request without a body, or cannot be served: the protocol sees to that."""
        # What is larger is for the protocol to cut into slices, and what has another method may have a body.
        if not packet.startswith(b"GET ") or len(packet) > self._limits.head_bytes or not self._reading.read(packet):
            return None
        reading = self._reading
        try:
            self._limits.check_head(reading.url, reading.headers, size=0)
            # Nobody listens by TLS here, and nobody on the short way asks which of our addresses was called.
            scope = read_scope(
                b"GET", reading.url, reading.version, reading.headers, server=None, client=None, scheme="http"
            )
        except (Problem, httptools.HttpParserError):
            return None
        request = _Request(scope=scope, keep_alive=reading.keep_alive)
        if len(packet) <= MAX_KNOWN_BYTES and not reading.is_personal and not _names_token(scope["query_string"]):
            self._remember(packet, request)
        return request

    def _remember(self, packet: bytes, request: "_Request") -> None:
        """From the second time on: of most requests in a mixed crowd there is no other."""
        mark = hash(packet)
        if mark not in self._met:
            if len(self._met) >= MAX_MET:
                self._met.clear()
            self._met.add(mark)
            return
        if len(self._known) >= self._max_known:
            del self._known[next(iter(self._known))]
        request.notes = {}
        self._known[packet] = request

    def pass_on(self, newcomer: Newcomer, packet: bytes, *, declined: bool = False) -> None:
        """Have the ordinary protocol follow; `declined`: the packet is one request that the shortcut does not take."""
        protocol = self._ordinary()
        newcomer.follow(protocol)
        protocol.succeed(newcomer.transport, packet, declined=declined)
        self._state.leave(newcomer)

    def part_with(self, newcomer: Newcomer, status: int, block: bytes, first: bytes) -> Taken:
        scope, transport = newcomer.scope, newcomer.transport
        # RFC 9112 section 6.1: no chunks to a client of HTTP/1.0; its body ends with the connection.
        chunked = scope["http_version"] != "1.0"
        framing = b"transfer-encoding: chunked\r\n" if chunked else b""
        if not newcomer.keep_alive:
            framing += CLOSE
        body = chunk(first) if chunked else first
        transport.write(b"".join((STATUS_LINES[status], self._state.preamble, block, framing, b"\r\n", body)))
        self._state.leave(newcomer)
        self._state.total_requests += 1
        ended = accesslog.recorder(scope, status, newcomer.started_at, self._loop.time)
        return part_with(transport, newcomer.follow, chunked=chunked, sent=len(first), ended=ended)

    def lose(self, newcomer: Newcomer) -> None:
        self._silent.pop(newcomer, None)
        self._state.leave(newcomer)
        if newcomer.scope is not NO_SCOPE:
            # Its request waited for its turn.
            accesslog.recorder(newcomer.scope, CLIENT_CLOSED, newcomer.started_at, self._loop.time)(0)

    def _look(self) -> None:
        """Close those who have said nothing for too long. Browsers open such connections in advance, and would take a
        408 for the answer to the request that they send next."""
        now = self._loop.time()
        self._timer = None
        while self._silent:
            newcomer, since = next(iter(self._silent.items()))
            if (due := since + self._limits.head_s) > now:
                self._timer = self._loop.call_at(due, self._look)
                return
            del self._silent[newcomer]
            newcomer.transport.close()


@dataclass(slots=True, kw_only=True)
class _Request:
    """What a packet says, whoever it comes from."""

    scope: Scope
    keep_alive: bool
    #: If it is remembered.
    notes: dict[str, Any] | None = None


def _names_token(query: bytes) -> bool:
    """Whether it may show a credential, which nobody else has and which is nothing to keep."""
    # `%74oken` is `token` to whoever reads the query.
    return b"token" in (unquote_to_bytes(query) if b"%" in query else query)


class _Reading:
    """Reads packets that hold one request without a body. Each is over in the step in which it began, so one of these
    serves all connections; a parser that met anything else is not used again."""

    def __init__(self) -> None:
        self._parser: httptools.HttpRequestParser | None = None

    def read(self, packet: bytes) -> bool:
        """Whether it held such a request; then `url`, `headers`, `version` and `keep_alive` are what it said, and
        `is_personal` whether it may show a credential."""
        if self._parser is None:
            self._parser = httptools.HttpRequestParser(self)
        parser = self._parser
        self.url = b""
        self.headers: Headers = []
        self.is_personal = False
        self._begun = self._completed = 0
        self._is_plain = True
        try:
            parser.feed_data(packet)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._is_plain = False
        is_whole = self._is_plain and self._begun == self._completed == 1
        if not is_whole or not self.keep_alive:
            self._parser = None
        return is_whole

    # ---- called by the parser

    def on_message_begin(self) -> None:
        self._begun += 1

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        self.headers.append((name, value))
        if name in _PERSONAL:
            self.is_personal = True

    def on_headers_complete(self) -> None:
        parser = cast("httptools.HttpRequestParser", self._parser)
        self.version = parser.get_http_version()
        self.keep_alive = self.version != "1.0" and parser.should_keep_alive()

    def on_body(self, _body: bytes) -> None:
        self._is_plain = False

    def on_chunk_header(self) -> None:
        self._is_plain = False

    def on_message_complete(self) -> None:
        self._completed += 1
