"""One connection: uvicorn's httptools protocol, with the limits that it lacks.

The head of a request is bounded in bytes, lines and time, its body in pace, the queue of pipelined requests in
length; what breaks a limit or RFC 9112 is refused with a problem and the connection closed, after the answers that
came first. What a body may weigh is for the doors to say: they read it.

Counting costs nothing on the common path. Packets reach the parser in slices no longer than a head may be, so that a
head that begins and ends within one slice is short enough by construction. Only a request that is still incomplete
after its slice (`_unfinished`) is measured.
"""

import asyncio
import logging
from collections import deque
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT

from hookbrook.errors import BadRequest, MethodNotAllowed, Problem, TooMany
from hookbrook.http import accesslog
from hookbrook.http.bare import new_parser
from hookbrook.http.deadline import Deadline
from hookbrook.http.ending import Ending, problem_of
from hookbrook.http.exchange import HAND_OVER, RESPOND, Exchange, Shortcut, Taken, encode_problem, part_with
from hookbrook.http.head import read_scope
from hookbrook.http.limits import DEFAULT_LIMITS, Limits
from hookbrook.http.pace import Pace
from hookbrook.http.problems import App, NotImplementedHere, RequestTimeout
from hookbrook.http.state import State
from hookbrook.http.upgrade import without_upgrade

#: Where a connection stands within the request that is arriving.
BETWEEN, HEAD, BODY = range(3)
#: nginx's word in its log for a client that closed before it was answered; never sent.
CLIENT_CLOSED = 499
#: Of a refused request that may be all URL.
MAX_LOGGED_URL = 200


class Protocol(Ending):
    """The connection's protocol; `functools.partial(Protocol, limits=…)` is what uvicorn's `Config(http=…)` takes."""

    cycle: Exchange  # type: ignore[assignment]  # ours in place of uvicorn's, unset before the first request

    def __init__(
        self,
        config: Config,
        server_state: State,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        limits: Limits = DEFAULT_LIMITS,
        shortcut: Shortcut | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop, limits=limits)
        self._shortcut = shortcut
        #: The active request, until it is known whether its body came with its head.
        self._unstarted: Exchange | None = None
        #: The request that is being answered, and those that wait behind it. `cycle` is the one that came last.
        self.active: Exchange | None = None
        self.waiting: deque[Exchange] = deque()
        self._slice = limits.head_bytes
        self._phase = BETWEEN
        self._refusal: Problem | None = None
        self._upgrading = False
        # of the head that is arriving
        self._fresh = True
        self._head_bytes = 0
        # of the body that is arriving
        self._coding_known = False
        self._pace: Pace | None = None
        self._quiet_bytes = 0
        self._deadline = Deadline(self.loop, self._too_late)

    @property
    def preamble(self) -> bytes:
        return self.server_state.preamble

    # ---- the transport's side

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.server_state.stopping:
            transport.close()
            return
        self._deadline.set(self.loop.time() + self.limits.head_s)

    def succeed(self, transport: asyncio.Transport, packet: bytes, *, declined: bool) -> None:
        """Go on with a connection on which the first packet has come.

        Args:
            declined: it is one request, and the shortcut has been asked.
        """
        super().connection_made(transport)
        self._deadline.set(self.loop.time() + self.limits.head_s)
        shortcut = self._shortcut
        if declined:
            self._shortcut = None
        self.data_received(packet)
        self._shortcut = shortcut

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - how it ended changes nothing
        self.server_state.leave(self)
        self._deadline.end()
        self._unwatch()
        if self.active is not None:
            self._record(self.active, CLIENT_CLOSED)
            self.active.lose()
        self.waiting.clear()
        self.flow.resume_writing()
        self.parser = None  # type: ignore[assignment]

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """A client that only stops sending still gets the answers to what it sent.

        That holds until a response has begun. From then on the end of its input is taken for its departure, which is
        how nearly all readers of streams leave; nothing else would tell before the next heartbeat.
        """
        if self._deaf or self._phase != BETWEEN or self.active is None or self.active.response_started:
            self._watch_rest()
            return False
        self.cycle.keep_alive = False
        return True

    def data_received(self, data: bytes) -> None:
        if len(data) <= self._slice:
            self._feed(data)
            return
        view = memoryview(data)
        for start in range(0, len(data), self._slice):
            self._feed(view[start : start + self._slice])

    def shutdown(self) -> None:
        """Let what has arrived be answered and close then; an idle connection closes now."""
        if self.active is not None:
            self.cycle.keep_alive = False
        elif self._phase == BETWEEN and not self._deaf:
            self._close()

    # ---- the parser's side

    def _feed(self, data: bytes | memoryview) -> None:
        if self._deaf:
            return
        try:
            self._parse(data)
        except httptools.HttpParserError as error:
            if not self._deaf:
                self._refuse(problem_of(error))
            return
        self._start_active()
        if self._phase != BETWEEN:
            self._unfinished(len(data))

    def _parse(self, data: bytes | memoryview) -> None:
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
            else:
                return
            self._read_head_without_upgrade()

    def _read_head_without_upgrade(self) -> None:
        headers, version = self.headers, self.parser.get_http_version()
        head = without_upgrade(self.parser.get_method(), self.url, version, headers)
        self._upgrading = False
        self.parser = new_parser(self)
        self.parser.feed_data(head)
        self.cycle.scope["headers"][:] = headers

    def on_message_begin(self) -> None:
        if self._deaf:
            raise BadRequest("Nothing follows a request whose response took the socket over.")
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._phase = HEAD
        self._fresh = True

    def on_headers_complete(self) -> None:
        """Check the head and make a request of it. A `Problem` raised here comes out of `_parse` as its cause."""
        if self._judge_head():
            self._upgrading = True
            return
        version = self.parser.get_http_version()
        scope = self._scope(version)
        exchange = self.cycle = Exchange(
            self,
            scope,
            keep_alive=version != "1.0" and self.parser.should_keep_alive() and not self.server_state.stopping,
            expects_continue=self.expect_100_continue and version != "1.0",
            started_at=self.loop.time(),
        )
        self.headers = []  # trailers go here, away from what the application holds (RFC 9110 section 6.5.1)
        self._phase = BODY
        self._coding_known = False
        self._pace = None
        if self.active is None:
            self.active = self._unstarted = exchange
        else:
            self.waiting.append(exchange)
            self.flow.pause_reading()

    def _judge_head(self) -> bool:
        """Whether the head asks for another protocol; raises a `Problem` if it cannot be served."""
        limits = self.limits
        # A head that began and ended within one slice is short enough, since no slice is longer.
        limits.check_head(self.url, self.headers, size=0 if self._fresh else self._head_size())
        if self.active is not None and len(self.waiting) >= limits.pipelined:
            raise TooMany(f"More than {limits.pipelined} requests wait for an answer on this connection.")
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise MethodNotAllowed("This server is no proxy.")
            return True
        return False

    def _scope(self, version: str) -> dict[str, Any]:
        scope = read_scope(
            self.parser.get_method(),
            self.url,
            version,
            self.headers,
            server=self.server,
            client=self.client,
            scheme=self.scheme,
        )
        scope["state"] = self.app_state.copy()
        scope["extensions"] = {HAND_OVER: self.hand_over, RESPOND: self._respond}
        return scope

    def on_chunk_header(self) -> None:
        if self._coding_known:
            return
        self._coding_known = True
        scope = self.cycle.scope
        if scope["http_version"] == "1.0":
            # RFC 9112 section 6.1: a sign of a proxy that forwards what it does not understand.
            raise BadRequest("A request of HTTP/1.0 cannot have a Transfer-Encoding.")
        codings = [value.strip().lower() for name, value in scope["headers"] if name == b"transfer-encoding"]
        if codings != [b"chunked"]:
            raise NotImplementedHere("The only Transfer-Encoding that is understood is chunked.")

    def on_body(self, body: bytes) -> None:
        exchange = self.cycle
        self._quiet_bytes = 0
        if not exchange.body:
            exchange.body = body
        elif isinstance(exchange.body, bytearray):
            exchange.body += body
        else:
            exchange.body = bytearray(exchange.body) + body
        if len(exchange.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        exchange.changed.set()

    def on_message_complete(self) -> None:
        if self._upgrading:
            return
        self._phase = BETWEEN
        self._deadline.clear()
        self.cycle.more_body = False
        self.cycle.changed.set()
        self._start_active()

    # ---- requests and their answers

    def _start_active(self) -> None:
        """Have the active request answered, if nobody does yet: by the shortcut if it has arrived whole."""
        exchange, self._unstarted = self._unstarted, None
        if exchange is None:
            return
        if self._shortcut is None or exchange.more_body or not self._shortcut(exchange):
            self.start(exchange)

    def start(self, exchange: Exchange, app: App | None = None) -> None:
        task = exchange.task = self.loop.create_task(exchange.run(app or self.app))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def finished(self, exchange: Exchange) -> None:
        """The response is written: close, or go on with the next request, or wait for it."""
        self.server_state.total_requests += 1
        self.active = None
        self._record(exchange, exchange.status)
        if self.transport.is_closing():
            return
        if not exchange.keep_alive:
            if exchange.more_body:
                self._linger()
            else:
                self._close()
        elif self.waiting:
            self.active = self._unstarted = self.waiting.popleft()
            self._start_active()
            if not self.waiting and self._refusal is None:
                self.flow.resume_reading()
        elif self._refusal is not None:
            self._answer(self._refusal)
        else:
            if self._phase == BETWEEN:
                self._deadline.set(self.loop.time() + self.limits.keep_alive_s)
            self.flow.resume_reading()

    def _respond(self, status: int, block: bytes, body: bytes) -> bool:
        # By way of the connection, since a request that held its own method would be garbage in a circle.
        return self.active is None or self.active.respond(status, block, body)

    def hand_over(self) -> Taken | None:
        """Give the socket away, after the head of the response was sent: the caller sets a protocol of its own and
        writes the body. This connection is then no longer counted, timed or closed by the server.

        None if the client has left, or is not done with its request.
        """
        exchange = self.active
        if exchange is None or exchange.more_body or not exchange.response_started or self.transport.is_closing():
            return None
        self._deaf = True
        self.active = None
        self.waiting.clear()
        self.server_state.leave(self)
        self._deadline.end()
        self._unwatch()
        self.server_state.total_requests += 1
        # Not now, since it may be the parser that led here.
        self.loop.call_soon(self.let_go)
        ended = accesslog.recorder(exchange.scope, exchange.status, exchange.started_at, self.loop.time)
        transport = self.transport
        return part_with(transport, transport.set_protocol, chunked=exchange.leave(), sent=exchange.sent, ended=ended)

    def _refuse(self, problem: Problem) -> None:
        """Answer what cannot be read, or comes too slowly, once all that came before it is answered; then close."""
        self._deaf = True
        self._deadline.clear()
        self._unstarted = None
        if self._phase == BODY:
            exchange = self.cycle
            exchange.lose()
            if exchange is not self.active:
                self.waiting.remove(exchange)
            elif exchange.response_started:
                self.transport.close()
                return
            else:
                self.active = None
        if self.active is None:
            self._answer(problem)
        else:
            self._refusal = problem

    def _answer(self, problem: Problem) -> None:
        self.transport.write(encode_problem(problem, self.preamble))
        if accesslog.access.isEnabledFor(logging.INFO):
            method = self.cycle.scope["method"] if self._phase == BODY else "-"
            path, _, query = self.url[:MAX_LOGGED_URL].partition(b"?") if self._phase != BETWEEN else (b"-", b"", b"")
            accesslog.record(
                client=self.client, method=method, path=path, query=query, status=problem.status, size=0, seconds=0
            )
        self._linger()

    def _record(self, exchange: Exchange, status: int) -> None:
        if accesslog.access.isEnabledFor(logging.INFO):
            scope = exchange.scope
            accesslog.record(
                client=self.client,
                method=scope["method"],
                path=scope["raw_path"],
                query=scope["query_string"],
                status=exchange.status or status,
                size=exchange.sent,
                seconds=self.loop.time() - exchange.started_at,
            )

    # ---- limits in bytes

    def _unfinished(self, size: int) -> None:
        """A slice of `size` bytes has left a request incomplete."""
        now = self.loop.time()
        try:
            if self._phase == HEAD:
                self._measure_head(size, now)
            else:
                self._measure_body(size, now)
        except Problem as problem:
            self._refuse(problem)

    def _measure_head(self, size: int, now: float) -> None:
        if self._fresh:
            # Where in its slice the head began is unknown, so that slice does not count until the head is complete.
            self._fresh = False
            self._head_bytes = 0
            self._deadline.set(now + self.limits.head_s)
        else:
            self._head_bytes += size
        self.limits.check_head(self.url, self.headers, size=self._head_bytes)

    def _measure_body(self, size: int, now: float) -> None:
        if self._pace is None:
            self._quiet_bytes = 0
            self._pace = Pace(self.limits, self.flow, self.cycle.scope["headers"], now)
            self._deadline.set(self._pace.due())
        else:
            self._quiet_bytes += size
            self._pace.arrived(size, now)
        # Without a byte of body for so long, it is trailers that come, or extensions of chunks.
        trailers = self.headers
        self.limits.check_trailers(trailers, size=max(self._quiet_bytes, self._head_size() if trailers else 0))

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    # ---- limits in time

    def _too_late(self, now: float) -> None:
        if self.transport.is_closing():
            return
        if self._lingering:
            self.transport.abort()
        elif self._phase == BODY and self._pace is not None:
            self._judge_pace(self._pace, now)
        elif self._phase == HEAD:
            self._judge_head_time(now)
        else:
            # Also of a connection that never said a word: browsers open such in advance, and would take a 408 on it
            # for the answer to the request that they send next.
            self._close()

    def _judge_head_time(self, now: float) -> None:
        if self.flow.read_paused:
            self._deadline.set(now + self.limits.head_s)
        else:
            self._refuse(RequestTimeout(f"The head of the request was not complete within {self.limits.head_s:g} s."))

    def _judge_pace(self, pace: Pace, now: float) -> None:
        look_again = pace.look(now, uninvited=self.cycle.expects_continue)
        if look_again > now:
            self._deadline.set(look_again)
        else:
            self._refuse(RequestTimeout("The body of the request arrives too slowly."))
