"""The two ways in which a stream's bytes reach the socket.

`TransportSink` has taken the socket over from the HTTP protocol: no task, no queue and no copy for each reader, only
the transport's own buffer. `AsgiSink` works under any ASGI server, at the price of two tasks.

Both notice a client that does not keep up by bytes that wait for it, and give one up that takes none for a while.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Self

from hookbrook.http.exchange import Taken
from hookbrook.http.problems import ClientGone, Receive, Send
from hookbrook.stream.reader import Reader
from hookbrook.stream.sink import Batch, chunk

#: Bytes that may wait for one client before its reader stops and goes on from the log later.
SINK_BYTES = 64 * 1024
#: A client that does not take `PIECE_BYTES` in so long is gone, or as good as.
STALLED_S = 60.0
#: What is sent at once over ASGI. A frame may have many megabytes, and whoever takes them slowly is not stalled.
PIECE_BYTES = 64 * 1024
#: What a client gets to take the last words before the connection is cut.
LINGER_S = 5.0
#: A reader of a stream has nothing more to say; who goes on sending is cut off.
MAX_INPUT_BYTES = 64 * 1024


class TransportSink(asyncio.Protocol):
    """`Sink` on a socket that was taken over; the protocol of its transport from then on."""

    __slots__ = ("_chunked", "_ended", "_input", "_reader", "_stalled_s", "_timer", "_transport", "full", "sent")

    def __init__(self, taken: Taken, *, stalled_s: float = STALLED_S) -> None:
        self._transport = taken.transport
        self._chunked = taken.chunked
        self._ended = taken.ended
        self._stalled_s = stalled_s
        self._reader: Reader | None = None
        #: An attribute, because it is looked at in every delivery.
        self.full = False
        self.sent = taken.sent
        self._input = 0
        #: Cuts a client off that takes nothing, or does not leave.
        self._timer: asyncio.TimerHandle | None = None

    def start(self, reader: Reader) -> None:
        """Let the reader write from now on."""
        self._reader = reader
        transport = self._transport
        transport.set_write_buffer_limits(high=SINK_BYTES)
        transport.resume_reading()
        reader.resume()

    # The reader's side

    @property
    def direct(self) -> Self | None:
        """The socket of a connection under TLS is not ours."""
        is_plain = self._transport.get_extra_info("sslcontext") is None
        return self if is_plain and self._chunked else None

    @property
    def fd(self) -> int | None:
        """Both uvloop and asyncio close it only after `connection_lost`."""
        transport = self._transport
        if transport.is_closing() or transport.get_write_buffer_size():
            return None
        fd: int = transport.get_extra_info("socket").fileno()
        return fd if fd >= 0 else None

    def write(self, data: bytes) -> None:
        # uvloop's `write` raises on a transport that is closed but has not said so yet.
        if self._transport.is_closing():
            return
        self.sent += len(data)
        self._transport.write(chunk(data) if self._chunked else data)

    def share(self, batch: Batch) -> None:
        transport = self._transport
        if transport.is_closing():
            return
        self.sent += batch.size
        transport.write(batch.chunked if self._chunked else batch.plain)

    def finish(self, batch: Batch, taken: int) -> None:
        transport = self._transport
        if transport.is_closing():
            return
        try:
            transport.write(memoryview(batch.chunked)[taken:])
        except Exception:
            # The chunk that was begun cannot be ended, and the last one must not come within it.
            transport.abort()
            raise

    def close(self) -> None:
        if self._transport.is_closing():
            return
        if self._chunked:
            self._transport.write(b"0\r\n\r\n")
        self._transport.close()
        self._set_timer(LINGER_S)

    # The transport's side

    def pause_writing(self) -> None:
        self.full = True
        self._watch_progress()

    def resume_writing(self) -> None:
        self.full = False
        if self._transport.is_closing():
            # The last words have their time, whatever part of them was taken.
            return
        self._set_timer(None)
        if self._reader is not None:
            self._reader.resume()

    def eof_received(self) -> None:
        """The client has left. The transport closes once it has sent what waits, which a client that only stopped
        sending, and reads nothing, would put off for ever.
        """
        self._set_timer(LINGER_S)

    def data_received(self, data: bytes) -> None:
        self._input += len(data)
        if self._input > MAX_INPUT_BYTES:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - how it ended changes nothing
        self._set_timer(None)
        if self._reader is not None:
            self._reader.gone()
            self._reader = None
        self._ended(self.sent)

    def _watch_progress(self, waiting: int | None = None) -> None:
        """Look again and again whether less waits than before, and cut the client off if not."""
        size = self._transport.get_write_buffer_size()
        if waiting is not None and size >= waiting:
            self._transport.abort()
        else:
            self._set_timer(self._stalled_s, partial(self._watch_progress, size))

    def _set_timer(self, seconds: float | None, then: Callable[[], None] | None = None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(seconds, then or self._transport.abort)


class AsgiSink:
    """`Sink` over ASGI's `send`. `run` is the stream's life."""

    def __init__(self, receive: Receive, send: Send, *, stalled_s: float = STALLED_S) -> None:
        self._receive = receive
        self._send = send
        self._stalled_s = stalled_s
        self._waiting: list[bytes] = []
        self._size = 0
        self.sent = 0
        self._wake = asyncio.Event()
        self._ending = False
        self._left = False

    @property
    def full(self) -> bool:
        return self._size >= SINK_BYTES

    @property
    def direct(self) -> None:
        return None

    def write(self, data: bytes) -> None:
        self._waiting.append(data)
        self._size += len(data)
        self.sent += len(data)
        self._wake.set()

    def share(self, batch: Batch) -> None:
        self.write(batch.plain)

    def close(self) -> None:
        self._ending = True
        self._wake.set()

    async def run(self, reader: Reader) -> None:
        """Send what is written until the client leaves or the stream is closed; raises `ClientGone` if it stalls."""
        watcher = asyncio.create_task(self._watch())
        try:
            reader.resume()
            while not self._left:
                await self._wake.wait()
                self._wake.clear()
                await self._flush(reader)
                if self._ending and not self._waiting:
                    await self._send_in_time(b"", more=False)
                    return
        finally:
            reader.gone()
            watcher.cancel()

    async def _flush(self, reader: Reader) -> None:
        while self._waiting and not self._left:
            data = b"".join(self._waiting)
            self._waiting.clear()
            for start in range(0, len(data), PIECE_BYTES):
                await self._send_in_time(data[start : start + PIECE_BYTES], more=True)
            self._size -= len(data)
            if not self.full:
                # It may have been full only while this was sent; a reader that did not stop takes no notice.
                reader.resume()

    async def _send_in_time(self, piece: bytes, *, more: bool) -> None:
        try:
            async with asyncio.timeout(self._stalled_s):
                await self._send({"type": "http.response.body", "body": piece, "more_body": more})
        except TimeoutError:
            raise ClientGone(f"the client took no byte for {self._stalled_s:g} s") from None

    async def _watch(self) -> None:
        """Notice the client leaving even while there is nothing to send."""
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._left = True
                self._wake.set()
                return
