"""What stands behind Pushpin: tells it to hold each request open as a stream of one channel."""

import asyncio
import sys
from typing import cast

import uvloop

ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ngrip-hold: stream\r\ngrip-channel: bench\r\n"
    b"content-length: 2\r\n\r\n:\n"
)


class Backend(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(ANSWER * data.count(b"\r\n\r\n"))


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Backend, "127.0.0.1", port, backlog=4096)
    async with server:
        await asyncio.sleep(3600)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(int(sys.argv[1])))
