"""The limit of streaming: a bare uvloop program that writes what is posted to it to all who listen, and nothing else.

No log, no ids, no channels, no rights, no slow readers: whoever does more per delivery has to do it within the rest.
`GET` listens, `POST` is written to all as one frame, and answered.
"""

import asyncio
import re
import sys
from typing import ClassVar, cast

import uvloop

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n:\n"
ANSWER = b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n"
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


class Fanout(asyncio.Protocol):
    listeners: ClassVar[set[asyncio.Transport]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        self._rest += data
        end = self._rest.find(b"\r\n\r\n")
        if end < 0:
            return
        if self._rest.startswith(b"GET"):
            self._transport.write(HEAD)
            self.listeners.add(self._transport)
            self._rest = b""
            return
        length = _LENGTH.search(self._rest)
        size = end + 4 + (int(length[1]) if length else 0)
        if len(self._rest) < size:
            return
        frame = b"data: " + self._rest[end + 4 : size] + b"\n\n"
        self._rest = self._rest[size:]
        for transport in self.listeners:
            transport.write(frame)
        self._transport.write(ANSWER)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - how it ended changes nothing
        self.listeners.discard(self._transport)


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Fanout, "127.0.0.1", port, backlog=4096)
    async with server:
        await asyncio.sleep(3600)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(int(sys.argv[1])))
