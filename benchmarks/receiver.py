"""A receiver of webhooks that costs next to nothing: reads requests, answers 204, counts, and notes when each arrived.

`GET /` answers with what it has seen since it was last asked: the arrival times by `webhook-id`, as JSON; `GET /each`
with all of them where one event goes to many; `GET /count` with how many there were altogether.
"""

import asyncio
import json
import re
import sys
import time
from typing import ClassVar, cast

import uvloop

_ID = re.compile(rb"webhook-id: ([^\r]+)", re.IGNORECASE)
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)

ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"


#: Ends by itself should nobody end it; the longest benchmark takes a third of this.
LIFETIME_S = 3600
#: Not every benchmark asks for them.
MAX_NOTED = 100_000


class Receiver(asyncio.Protocol):
    arrivals: ClassVar[dict[str, float]] = {}
    #: Every arrival since this was last asked for, where one event goes to many.
    each: ClassVar[list[tuple[str, float]]] = []
    count = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end]
            length = _LENGTH.search(head)
            size = end + 4 + (int(length[1]) if length else 0)
            if len(self._buffer) < size:
                return
            self._buffer = self._buffer[size:]
            self._take(head)

    def _take(self, head: bytes) -> None:
        if head.startswith(b"GET"):
            body = json.dumps(self._seen(head.split(b" ", 2)[1])).encode()
            self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
            return
        Receiver.count += 1
        if found := _ID.search(head):
            event_id, now = found[1].decode(), time.perf_counter()
            if len(Receiver.arrivals) < MAX_NOTED:
                Receiver.arrivals[event_id] = now
            if len(Receiver.each) < MAX_NOTED:
                Receiver.each.append((event_id, now))
        self._transport.write(ANSWER)

    def _seen(self, path: bytes) -> dict[str, object]:
        if path == b"/count":
            return {"count": Receiver.count}
        if path == b"/each":
            each, Receiver.each = Receiver.each, []
            return {"each": each}
        arrivals, Receiver.arrivals = Receiver.arrivals, {}
        return {"arrivals": arrivals}


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Receiver, "127.0.0.1", port)
    async with server:
        await asyncio.sleep(LIFETIME_S)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(int(sys.argv[1])))
