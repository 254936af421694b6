"""One connection to a receiver: sends a request, reads its answer (RFC 9112), and knows whether it may be used again.

The reading is llhttp's, through httptools; what it leaves open is decided here:

- *Size.* llhttp bounds nothing. One header and their number are bounded as they come, and all bytes that are not the
  body's are counted, since httptools collects a header until it is whole. What goes beyond ends the connection.
- *The body* is taken up to the limit of the request. Then the answer is complete as far as anybody cares, and the
  connection is closed, because the rest would have to be read before another answer could come.
- *Interim answers* (100 to 199) are passed over; 101 is an answer, and what follows it is no body.
- *The end.* A body with neither length nor chunks ends with the connection, anything else that ends so is cut off.
- *Leniency.* As curl and browsers do, an answer is forgiven what many servers get wrong and what cannot confuse anybody
  behind us, since there is nobody: a bare LF, odd characters in a header, spaces after a chunk's size. Two lengths that
  differ, or a length with chunks, are refused.
- *Order.* A request is answered by the bytes that come after it. What comes while nothing is asked, or before a request
  has left (`outbox`), or beyond the end of an answer, would be taken for the next one's; such a connection is closed.
- *Time.* Each connection has one timer, which is not moved when the deadline moves later, as it does with each request:
  it goes off at the old time, sees that, and waits for the rest. So a request sets and cancels none.
"""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Final, cast

import httptools

from hookbrook.outbound.attempt import Attempt
from hookbrook.outbound.clock import Timer
from hookbrook.outbound.outbox import Outbox

#: Bytes of one header's name or value. Most servers send up to 8 KB and no more.
MAX_HEADER_LENGTH: Final = 8190
MAX_HEADER_COUNT: Final = 100
#: Bytes of an answer that are not its body: the heads of interim answers and its own, framing, trailers.
MAX_HEAD_BYTES: Final = 256 * 1024
#: Framing may take so many bytes for each of the body's: a chunk of one byte needs five.
MAX_FRAMING: Final = 8
#: Larger bodies are handed to the transport by themselves instead of being copied behind their head.
JOINED_BODY: Final = 64 * 1024
#: What is added to a timer.
TIMER_SLACK_S: Final = 0.001

_NEVER: Final = float("inf")
_SWITCHING = 101
_FINAL = 200


class Dropped(Exception):
    """The connection ended before the answer was complete."""


class HeadTooLarge(Exception):
    """The answer has more headers than a named limit, or longer ones."""


class NotHttp(Exception):
    """The answer is not HTTP."""


class Wire(asyncio.Protocol):
    """See the module. Its user calls `send`, one request at a time, and awaits what that returns."""

    def __init__(self, outbox: Outbox, *, released: Callable[["Wire"], None], lost: Callable[["Wire"], None]) -> None:
        """`released`: it is free for the next request. `lost`: it is gone."""
        self._outbox = outbox
        self._released = released
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._loop = asyncio.get_running_loop()
        self.born = monotonic()
        self.address = ""
        #: Since when it waits for a request.
        self.idle_since = 0.0
        self._attempt: Attempt | None = None
        #: Head and body of the request while they wait in the outbox.
        self._unsent: tuple[bytes, bytes] | None = None
        self._answer: asyncio.Future[None] | None = None
        #: When the request's time is over, and when the timer looks whether it is; seconds of the monotonic clock.
        self._deadline = self._looks_at = _NEVER
        self._timer: Timer | None = None
        #: The answer that is being read has come to its end, or as far as it will be read.
        self._complete = False
        self._reusable = False
        #: Bytes received for this answer that were not its body, and fields that came after it.
        self._overhead = 0
        self._trailers = 0

    # What its user does.

    @property
    def is_closing(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def send(self, head: bytes, body: bytes, attempt: Attempt, deadline: float) -> asyncio.Future[None]:
        """Send a request. The future ends when the attempt has the whole answer, or all of it that it wants.

        It raises `Dropped`, `HeadTooLarge`, `NotHttp`, or, at the deadline, `TimeoutError`.
        """
        assert self._transport is not None
        assert self._attempt is None
        self._attempt = attempt
        self._answer = answer = self._loop.create_future()
        self._complete = self._reusable = False
        self._overhead = self._trailers = 0
        attempt.address = self.address
        if self._transport.is_closing():
            self._end(Dropped())
        else:
            self._unsent = head, body
            self._outbox.put(self._write)
        self._deadline = deadline
        if deadline < self._looks_at:
            self._look_at(deadline)
        return answer

    def _write(self) -> None:
        """The request's turn has come, unless it is over already."""
        request, self._unsent = self._unsent, None
        if request is None or self.is_closing:
            return
        try:
            self._transmit(*request)
        except Exception as exc:  # noqa: BLE001 - it is told to whoever sent this one; others wait behind it
            self._end(exc)

    def _transmit(self, head: bytes, body: bytes) -> None:
        assert self._transport is not None
        if len(body) <= JOINED_BODY:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)

    def abort(self) -> None:
        """End the connection at once, and the request with it."""
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """End a connection that nobody uses."""
        if self._transport is not None:
            self._transport.close()

    # The deadline.

    def _look_at(self, moment: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._looks_at = moment
        # Timers round; one that went off a moment early would have to be set again.
        self._timer = self._loop.call_later(max(moment - monotonic(), 0.0) + TIMER_SLACK_S, self._look)

    def _look(self) -> None:
        self._timer, self._looks_at = None, _NEVER
        if self._attempt is None:
            return
        if monotonic() < self._deadline:
            self._look_at(self._deadline)
        else:
            self._end(TimeoutError())

    # What the transport does.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes.
        self._transport = cast("asyncio.Transport", transport)
        host, port = transport.get_extra_info("peername")[:2]
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._parser = httptools.HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )

    def data_received(self, data: bytes) -> None:
        attempt, parser = self._attempt, self._parser
        if attempt is None or parser is None:
            self.close()
            return
        if self._unsent is not None:
            self._end(Dropped() if attempt.reused else NotHttp())
            return
        attempt.heard = True
        self._overhead += len(data)
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # 101, at which reading has ended
        except httptools.HttpParserError as exc:
            self._reusable = False
            if not self._complete:
                self._end(exc.__context__ if isinstance(exc.__context__, HeadTooLarge) else NotHttp())
                return
        if self._complete:
            self._end(None)
        elif self._overhead > MAX_HEAD_BYTES + MAX_FRAMING * (attempt.limit - attempt.room):
            self._end(HeadTooLarge())

    def connection_lost(self, exc: BaseException | None) -> None:  # noqa: ARG002 - how it ended makes no difference
        self._transport = self._parser = None
        if self._timer is not None:
            self._timer.cancel()
        attempt = self._attempt
        if attempt is not None:
            self._reusable = False
            self._end(None if attempt.status is not None and _ends_with_connection(attempt) else Dropped())
        self._lost(self)

    def _end(self, error: BaseException | None) -> None:
        """The request is over."""
        answer, self._answer, self._attempt, self._unsent = self._answer, None, None, None
        if answer is not None and not answer.done():
            if error is None:
                answer.set_result(None)
            else:
                answer.set_exception(error)
        transport = self._transport
        if transport is None:
            return
        if error is None and self._reusable and not transport.get_write_buffer_size() and not transport.is_closing():
            self.idle_since = monotonic()
            self._released(self)
        else:
            # Not `close`, which would first send what is still to be sent, to somebody who may not read.
            transport.abort()

    # What the parser finds.

    def on_message_begin(self) -> None:
        if self._complete:
            self._reusable = False

    def on_status(self, reason: bytes) -> None:
        if len(reason) > MAX_HEADER_LENGTH:
            raise HeadTooLarge

    def on_header(self, name: bytes, value: bytes) -> None:
        attempt = self._attempt
        assert attempt is not None
        headers = attempt.raw_headers
        if attempt.status is None:
            headers.append((name, value))
        else:
            self._trailers += 1
        count = len(headers) + self._trailers
        if count > MAX_HEADER_COUNT or len(name) > MAX_HEADER_LENGTH or len(value) > MAX_HEADER_LENGTH:
            raise HeadTooLarge

    def on_headers_complete(self) -> None:
        attempt, parser = self._attempt, self._parser
        assert attempt is not None
        assert parser is not None
        if self._complete:
            return
        status = parser.get_status_code()
        if status < _FINAL and status != _SWITCHING:
            return
        attempt.answered = monotonic()
        attempt.status = status
        if status == _SWITCHING or attempt.method == "HEAD":
            # llhttp does not know what was asked, and would wait for a body.
            self._complete = True

    def on_body(self, data: bytes) -> None:
        attempt = self._attempt
        assert attempt is not None
        if self._complete:
            return
        self._overhead -= len(data)
        if len(data) > attempt.room:
            data = data[: attempt.room]
            attempt.truncated = self._complete = True
        attempt.body.append(data)
        attempt.room -= len(data)

    def on_message_complete(self) -> None:
        attempt, parser = self._attempt, self._parser
        assert attempt is not None
        assert parser is not None
        if attempt.status is None:
            attempt.raw_headers.clear()  # they were an interim answer's
        elif not self._complete:
            self._complete = True
            self._reusable = parser.should_keep_alive()


def _ends_with_connection(attempt: Attempt) -> bool:
    """RFC 9112 section 6.3, rules 4 and 8: whether the body's end is the connection's."""
    for name, value in attempt.raw_headers:
        match name.lower():
            case b"content-length":
                return False
            case b"transfer-encoding":
                return value.rpartition(b",")[2].strip().lower() != b"chunked"
    return True
