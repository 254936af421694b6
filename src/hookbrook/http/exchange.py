"""One request and its response: what the ASGI application receives and sends, and how that looks on the wire."""

import asyncio
import http
import logging
import re
import socket
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final
from typing import Protocol as Interface

from uvicorn.protocols.http.flow_control import FlowControl

from hookbrook.errors import Problem
from hookbrook.http.problems import App, ClientGone, Message, Scope, ShuttingDown, problem_response
from hookbrook.stream.sink import chunk

log = logging.getLogger("hookbrook.http")


def _status_line(status: int) -> bytes:
    known = {code.value: code.phrase for code in http.HTTPStatus}
    return f"HTTP/1.1 {status} {known.get(status, '')}\r\n".encode()


STATUS_LINES = {status: _status_line(status) for status in range(100, 600)}
#: Headers through which a response says where it ends; they are ours to decide (RFC 9112 section 6).
_FRAMING = frozenset({b"content-length", b"transfer-encoding", b"connection"})
#: Statuses that never have a body (RFC 9110 section 6.4.1).
_BODILESS = frozenset({204, 304})
#: `struct linger`: on, zero seconds.
_RESET: Final = struct.pack("ii", 1, 0)
#: The header line of a response with which the connection ends.
CLOSE: Final = b"connection: close\r\n"
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


#: The ASGI extension with which a door takes the socket over: `scope["extensions"][HAND_OVER]()`, a `Taken` or None.
HAND_OVER = "hookbrook.hand_over"
#: The ASGI extension with which a door sends a whole response in one piece; see `Exchange.respond`.
RESPOND = "hookbrook.respond"


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A socket that a door has taken over, the head of its response already sent."""

    transport: asyncio.Transport
    #: Call with the protocol that the connection has from now on.
    follow: Callable[[asyncio.Protocol], None]
    #: Whether the body must be sent in chunks (RFC 9112 section 7.1); else it ends with the connection.
    chunked: bool
    #: Bytes of the body that were sent with the head.
    sent: int = 0
    #: Must be called by whatever follows, with the body's bytes, when it has ended; for the access log.
    ended: Callable[[int], None]


class _Parted(asyncio.Protocol):
    """Of a socket that was given away, until something follows, which may never be: whoever has it may fail."""

    def __init__(self, sent: int, ended: Callable[[int], None]) -> None:
        self._sent = sent
        self._ended = ended

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - how it ended changes nothing
        self._ended(self._sent)


def part_with(
    transport: asyncio.Transport,
    follow: Callable[[asyncio.Protocol], None],
    *,
    chunked: bool,
    sent: int,
    ended: Callable[[int], None],
) -> Taken:
    """Give the socket away; from now on nothing is told to whoever had it. See `Taken`."""
    follow(_Parted(sent, ended))
    return Taken(transport=transport, follow=follow, chunked=chunked, sent=sent, ended=ended)


class Visitor(Interface):
    """A request that has arrived whole, as far as it takes to open a stream."""

    @property
    def scope(self) -> Scope: ...

    @property
    def disconnected(self) -> bool:
        """Nobody waits for an answer any more."""

    @property
    def notes(self) -> dict[str, Any] | None:
        """Shared by all whose requests are the same bytes, for what follows from these and the settings alone."""

    def start(self) -> None:
        """Have the request answered the ordinary way."""

    def take_over(self, status: int, block: bytes, first: bytes) -> Taken | None:
        """As `Exchange.take_over`."""


#: Takes a request that has arrived whole, and returns whether it will answer it, by `respond` or `take_over`. If it
#: does not, nothing has happened, and `start` can still be called later. Whatever is no `Exchange` has no body.
Shortcut = Callable[["Exchange | Visitor"], bool]


class Connection(Interface):
    """What an exchange needs of the connection that it belongs to."""

    transport: asyncio.Transport

    @property
    def flow(self) -> FlowControl: ...

    @property
    def preamble(self) -> bytes:
        """The header lines that every response begins with (`date: …`)."""

    def start(self, exchange: "Exchange", app: App | None) -> None:
        """Run the application, or another, for the request in a task of its own."""

    def hand_over(self) -> Taken | None:
        """Give the socket away, after the head of the response was written; None if nobody is left."""

    def finished(self, exchange: "Exchange") -> None:
        """The last byte of the response was written. MUST close the connection unless `exchange.keep_alive`."""


class Exchange:
    """A request as it arrives and its response as it leaves.

    The connection fills `body`, `more_body` and `disconnected` and sets `changed`; the application runs in a task of
    its own. An error before the response begins is answered with a problem, a later one cuts the connection.
    """

    __slots__ = (
        "_bodiless",
        "_chunked",
        "_connection",
        "_left",
        "body",
        "changed",
        "disconnected",
        "expects_continue",
        "keep_alive",
        "more_body",
        "response_complete",
        "response_started",
        "running",
        "scope",
        "sent",
        "started_at",
        "status",
        "task",
    )

    #: Of a `Visitor`: it may be the only one of its kind.
    notes: None = None

    def __init__(
        self, connection: Connection, scope: Scope, *, keep_alive: bool, expects_continue: bool, started_at: float
    ) -> None:
        self._connection = connection
        self.scope = scope
        self.keep_alive = keep_alive
        self.expects_continue = expects_continue
        #: The loop's time when the head was complete.
        self.started_at = started_at
        self.task: asyncio.Task[None] | None = None
        #: Whether the application has seen the request at all.
        self.running = False
        self.disconnected = False
        self.changed = asyncio.Event()
        #: What has arrived and was not yet received; `bytes` as long as it is one piece, so that it is not copied.
        self.body: bytes | bytearray = b""
        self.more_body = True
        self.response_started = False
        self.response_complete = False
        self.status = 0
        #: Bytes of the response's body.
        self.sent = 0
        #: Bytes still to come of a body whose length was announced; None if it ends by chunk or by closing.
        self._left: int | None = None
        self._chunked = False
        self._bodiless = False

    def start(self, app: App | None = None) -> None:
        """Have the request answered the ordinary way: by the server's application, or by another."""
        self._connection.start(self, app)

    async def run(self, app: App) -> None:
        """The task of this request."""
        self.running = True
        try:
            await app(self.scope, self.receive, self.send)
        except asyncio.CancelledError:
            self._break_off(ShuttingDown("The server is shutting down; send the request again."))
            raise
        except ClientGone:
            # Who takes no byte would not take those either that an orderly close waits for.
            self._connection.transport.abort()
        except Exception:  # the boundary of a request's task: nobody above could do anything but lose it
            log.exception("%s %s failed", self.scope["method"], self.scope["path"])
            self._break_off(Problem())
        else:
            if not self.response_complete and not self.disconnected:
                log.error("%s %s: the application returned early", self.scope["method"], self.scope["path"])
                self._break_off(Problem())

    async def receive(self) -> Message:
        """ASGI `http.request`, or `http.disconnect` once there is nobody left or nothing left to say."""
        connection = self._connection
        if self.expects_continue:
            self.expects_continue = False
            if not connection.transport.is_closing():
                connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if not self.disconnected and not self.response_complete:
            connection.flow.resume_reading()
            if not self.changed.is_set():
                await self.changed.wait()
            self.changed.clear()
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        body, self.body = self.body, b""
        return {"type": "http.request", "body": bytes(body), "more_body": self.more_body}

    def lose(self) -> None:
        """Nobody is left to read the response; wake whoever waits for more."""
        self.disconnected = True
        self.changed.set()
        if self.task is not None and not self.running:
            # What turned out to be no request must not reach the application at all.
            self.task.cancel()

    async def send(self, message: Message) -> None:
        """ASGI `http.response.start` and `http.response.body`; silent once the client is gone (ASGI 2.3)."""
        flow = self._connection.flow
        if flow.write_paused and not self.disconnected:
            await flow.drain()
        if self._unreachable():
            return
        kind = message["type"]
        if kind == "http.response.start" and not self.response_started:
            self._write_head(message["status"], message.get("headers", ()))
        elif kind == "http.response.body" and self.response_started and not self.response_complete:
            self._write_body(message.get("body", b""), message.get("more_body", False))
        else:
            raise RuntimeError(f"{kind!r} cannot be sent now")

    def respond(self, status: int, block: bytes, body: bytes) -> bool:
        """Write a whole response at once, and silently nothing if the client is gone; False if it must be sent by
        messages: a response has begun, or the client does not read.

        Args:
            block: all header lines, `content-length` among them and nothing else about framing, each ended by CR LF.
        """
        if self.response_started or self._connection.flow.write_paused:
            return False
        if self._unreachable():
            return True
        framing = self._decide_framing(status, len(body))
        if self._bodiless:
            body = b""
        self.status = status
        self.sent = len(body)
        self.expects_continue = False
        self.response_started = self.response_complete = True
        self._connection.transport.write(
            b"".join((STATUS_LINES[status], self._connection.preamble, block, framing, b"\r\n", body))
        )
        self.changed.set()
        self._connection.finished(self)
        return True

    def _unreachable(self) -> bool:
        # uvloop's `write` raises on a closed transport, which happens before `connection_lost` is told.
        return self.disconnected or self._connection.transport.is_closing()

    def _write_head(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        length: int | None = None
        parts: list[bytes] = []
        for name, value in headers:
            name = name.lower()
            if name not in _FRAMING:
                parts += (name, b": ", value, b"\r\n")
            elif name == b"content-length":
                length = int(value)
                parts += (b"content-length: ", b"", value, b"\r\n")
            elif name == b"connection" and b"close" in value.lower():
                self.keep_alive = False
        block = b"".join(parts)
        if not _is_clean(block, lines=len(parts) // 4):
            raise RuntimeError("a response header contains a control character")
        self._begin(status, block, length)

    def _begin(self, status: int, block: bytes, length: int | None, first: bytes = b"") -> None:
        framing = self._decide_framing(status, length)
        self.status = status
        self.response_started = True
        self.expects_continue = False
        if first and self._chunked:
            first = chunk(first)
        self._connection.transport.write(
            b"".join((STATUS_LINES[status], self._connection.preamble, block, framing, b"\r\n", first))
        )

    def _decide_framing(self, status: int, length: int | None) -> bytes:
        """Settle how the body will end, and return the header lines that say so (RFC 9112 section 6.3)."""
        self._bodiless = self.scope["method"] == "HEAD" or status in _BODILESS
        self._left = length
        framing = b""
        if length is None and not self._bodiless:
            if self.scope["http_version"] == "1.0":
                # RFC 9112 section 6.1: no chunks to a client of HTTP/1.0; its body ends with the connection.
                self.keep_alive = False
            else:
                self._chunked = True
                framing = b"transfer-encoding: chunked\r\n"
        if self.more_body:
            # The rest of the request may be long, or may never come (RFC 9110 section 10.1.1: after a refusal the
            # client need not send it). Either way the next request could not be told from it.
            self.keep_alive = False
        return framing if self.keep_alive else framing + CLOSE

    def _write_body(self, body: bytes, more: bool) -> None:
        size = len(body)
        if not self._bodiless:
            if self._chunked:
                self._write_chunk(body, more)
            else:
                if self._left is not None:
                    self._left -= size
                    if self._left < 0 or (self._left and not more):
                        raise RuntimeError("the response's body does not have its announced length")
                if size:
                    self._connection.transport.write(body)
            self.sent += size
        if not more:
            self.response_complete = True
            self.changed.set()
            self._connection.finished(self)

    def _write_chunk(self, body: bytes, more: bool) -> None:
        pieces = [b"%x\r\n" % len(body), body, b"\r\n"] if body else []
        if not more:
            pieces.append(b"0\r\n\r\n")
        if pieces:
            self._connection.transport.write(b"".join(pieces))

    def take_over(self, status: int, block: bytes, first: bytes) -> Taken | None:
        """Write the head of a response whose body goes on elsewhere, and give the socket away; None if nobody is left.

        Args:
            block: as in `respond`, without `content-length`.
            first: bytes of the body that leave together with the head, in one packet.
        """
        if self._unreachable():
            return None
        self._begin(status, block, None, first)
        self.sent = len(first)
        return self._connection.hand_over()

    def leave(self) -> bool:
        """Count the response as complete though its body goes on elsewhere; returns whether it is chunked."""
        self.response_complete = True
        self.changed.set()
        return self._chunked

    def _break_off(self, problem: Problem) -> None:
        """Answer with `problem` if that is still possible, else cut the connection."""
        if self._unreachable() or self.response_complete:
            return
        if not self.response_started:
            status, headers, body = problem_response(problem)
            self.keep_alive = False
            self._write_head(status, headers)
            self._write_body(body, more=False)
        elif self._chunked or self._left is not None:
            self._connection.transport.close()
        else:
            # A body that ends by closing looks complete after an orderly close, so this close must be a reset.
            transport = self._connection.transport
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            transport.abort()


def encode_problem(problem: Problem, preamble: bytes) -> bytes:
    """The whole response with which a connection refuses what it could not read as a request."""
    status, headers, body = problem_response(problem)
    lines = b"".join(b"%s: %s\r\n" % header for header in headers)
    return b"".join((STATUS_LINES[status], preamble, lines, b"connection: close\r\n\r\n", body))


def _is_clean(block: bytes, *, lines: int) -> bool:
    """Whether so many header lines hold no control character but their own CR LF, against response splitting.

    A few scans of the whole block cost less than two patterns per header.
    """
    return block.count(b"\r\n") == block.count(b"\n") == block.count(b"\r") == lines and _CONTROL.search(block) is None
