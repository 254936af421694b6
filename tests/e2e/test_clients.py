"""Third-party readers of our streams, through a proxy that cuts the connection in every way.

Each event arrives once and in order, with the cursor that history has for it.
"""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import aiohttp
import httpx
import pytest
import requests
from aiohttp_sse_client2 import client as aiohttp_sse
from httpx_sse import EventSource
from sseclient import SSEClient
from tests.served import PATIENCE_S, Running, running

NODE = Path(__file__).parents[1] / "node"
#: In the order in which connections suffer them; what comes after is left alone.
CUTS = ("mid-event", "reset", "clean", "mid-id", "busy", "refuse", "fin", "mid-retry", "reset", "busy", "stall")
#: Events that a connection passes before it is cut.
PASSED = 4
TOTAL = 60
#: What a server says that has no room (`stream.control.busy`), with a pause that a test can wait for.
BUSY = b'event: hookbrook.busy\nretry: 0020\ndata: {"reason":"connections","retry_ms":20}\n\n'
UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nretry-after: 0\r\n\r\n"
#: Readers that never come back after a 503, as browsers do not. A stream of ours is therefore never answered with one.
GIVE_UP = frozenset({"eventsource", "undici"})
#: Without a pause of seconds after each cut; as long as what it replaces, so that nothing else need be changed.
SOON = b"retry: 0020"


def text_of(number: int) -> str:
    """What is published: JSON, text of several lines, and text that looks like the protocol."""
    kinds = [
        f'{{"n":{number},"s":"ü€😀"}}',
        f"{number}\n\ntwo lines",
        f"{number}\nid: forged\ndata: forged",
        f"{number}",
    ]
    return kinds[number % len(kinds)]


class Proxy:
    """Passes requests on, and cuts the answers: one way of `cuts` for each connection."""

    def __init__(self, upstream: int, cuts: Sequence[str] = CUTS) -> None:
        self._upstream = upstream
        self._server: asyncio.Server | None = None
        self._cuts = list(cuts)
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.connections = 0

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop_listening()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def all_cuts_made(self) -> bool:
        return not self._cuts

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        to_server: asyncio.StreamWriter | None = None
        try:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._upstream)
            to_server.write(await reader.readuntil(b"\r\n\r\n"))
            head = await from_server.readuntil(b"\r\n\r\n")
            cut = self._cuts.pop(0) if self._cuts else None
            if cut == "busy":
                writer.write(head + chunk(BUSY) + b"0\r\n\r\n")
            elif cut == "503":
                writer.write(UNAVAILABLE)
            else:
                writer.write(head)
                await self._pass_on(events_of(from_server), writer, cut)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            # One of the two has left, or the test is over.
            pass
        finally:
            self._tasks.discard(task)
            if to_server is not None:
                to_server.close()
            writer.close()

    async def _pass_on(self, events: AsyncIterator[bytes], writer: asyncio.StreamWriter, cut: str | None) -> None:
        passed = 0
        async for event in events:
            if cut is not None and passed == PASSED:
                await self._cut(cut, event, writer)
                if cut != "stall":
                    return
                cut = None
            writer.write(chunk(event))
            await writer.drain()
            passed += 1

    async def _cut(self, how: str, event: bytes, writer: asyncio.StreamWriter) -> None:
        place = {"mid-event": len(event) // 2, "mid-id": event.rindex(b"id: ") + 7, "mid-retry": 3}.get(how)
        if how == "stall":
            await asyncio.sleep(0.2)
        elif how == "clean":
            writer.write(b"0\r\n\r\n")
        elif how == "reset":
            connection: socket.socket = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        elif how == "refuse":
            await self._stop_listening()
            asyncio.get_running_loop().call_later(0.2, self._listen_again)
        elif place is not None:
            # The chunk is whole, the event is not.
            writer.write(chunk(event[:place]))
            await writer.drain()

    def _listen_again(self) -> None:
        task = asyncio.ensure_future(self._listen())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def soon(event: bytes) -> bytes:
    start = event.find(b"retry: ")
    return event if start < 0 else event[:start] + SOON + event[start + len(SOON) :]


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def events_of(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """The events of a chunked body, each whole, with the heartbeats before it."""
    rest = b""
    while size := int(await reader.readline(), 16):
        rest += (await reader.readexactly(size + 2))[:-2]
        *events, rest = rest.split(b"\n\n")
        for event in events:
            yield soon(event) + b"\n\n"


Seen = list[tuple[str, str]]


def is_ours(name: str) -> bool:
    """Whether the gateway says it on its own account; a library without names of its own passes it on as well."""
    return name.startswith("hookbrook.")


def read_by_httpx_sse(url: str) -> Seen:
    seen: Seen = []
    with httpx.Client(timeout=PATIENCE_S) as client:
        while len(seen) < TOTAL:
            headers = {"last-event-id": seen[-1][1]} if seen else {}
            with suppress(httpx.TransportError), client.stream("GET", url, headers=headers) as response:
                for event in EventSource(response).iter_sse():
                    if is_ours(event.event):
                        continue
                    seen.append((event.data, event.id))
                    if len(seen) == TOTAL:
                        break
    return seen


def read_by_sseclient_py(url: str) -> Seen:
    seen: Seen = []
    with requests.Session() as session:
        while len(seen) < TOTAL:
            headers = {"accept": "text/event-stream"} | ({"last-event-id": seen[-1][1]} if seen else {})
            with suppress(requests.RequestException), session.get(url, headers=headers, stream=True) as response:
                for event in SSEClient(response.iter_content(64)).events():
                    if is_ours(event.event):
                        continue
                    seen.append((event.data, event.id or ""))
                    if len(seen) == TOTAL:
                        break
    return seen


async def read_by_aiohttp_sse_client2(url: str) -> Seen:
    seen: Seen = []
    async with aiohttp.ClientSession() as session:
        while len(seen) < TOTAL:
            headers = {"Last-Event-Id": seen[-1][1]} if seen else {}
            with suppress(aiohttp.ClientError, ConnectionError):
                async with aiohttp_sse.EventSource(url, session=session, headers=headers) as source:
                    async for event in source:
                        if is_ours(event.type or ""):
                            continue
                        seen.append((event.data, event.last_event_id))
                        if len(seen) == TOTAL:
                            break
    return seen


class GaveUp(Exception):
    """The reader will not come back by itself."""


async def read_by_node(library: str, url: str) -> Seen:
    if not (NODE / "node_modules").is_dir():
        pytest.fail("the readers are not installed: run `npm ci` in tests/node")
    process = await asyncio.create_subprocess_exec(
        "node",
        "readers.mjs",
        library,
        url,
        str(TOTAL),
        cwd=NODE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if b"gave up" in errors:
        raise GaveUp(library)
    assert process.returncode == 0, errors.decode()
    return [(row["data"], row["id"]) for row in map(json.loads, output.splitlines())]


READERS: Sequence[Any] = (
    "httpx-sse",
    "sseclient-py",
    "aiohttp-sse-client2",
    *(
        pytest.param(name, marks=pytest.mark.node)
        for name in ("eventsource", "eventsource-client", "fetch-event-source", "undici")
    ),
)


async def read(library: str, url: str) -> Seen:
    threaded: dict[str, Callable[[str], Seen]] = {"httpx-sse": read_by_httpx_sse, "sseclient-py": read_by_sseclient_py}
    if library in threaded:
        return await asyncio.to_thread(threaded[library], url)
    if library == "aiohttp-sse-client2":
        return await read_by_aiohttp_sse_client2(url)
    return await read_by_node(library, url)


async def publish(brook: Running, proxy: Proxy) -> None:
    """A part before anybody reads, the rest while somebody does."""
    for number in range(TOTAL):
        if number == TOTAL // 3:
            while not proxy.connections:  # noqa: ASYNC110 - the reader is another program
                await asyncio.sleep(0.005)
        await brook.publish("a", text_of(number).encode())
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("library", READERS)
async def test_a_reader_that_is_cut_off_in_every_way_gets_each_event_once_and_in_order(
    library: str, tmp_path: Path
) -> None:
    async with running(tmp_path) as brook, Proxy(brook.port) as proxy:
        url = f"http://127.0.0.1:{proxy.port}/v1/stream?channel=a&since=1h"
        async with asyncio.timeout(PATIENCE_S):
            seen, _ = await asyncio.gather(read(library, url), publish(brook, proxy))
        history = (await brook.http.get("/v1/channels/a")).json()["data"]
        assert proxy.all_cuts_made
    assert [data for data, _ in seen] == [text_of(number) for number in range(TOTAL)]
    assert [cursor for _, cursor in seen] == [event["cursor"] for event in history]


@pytest.mark.parametrize("library", READERS)
async def test_a_503_ends_some_readers_for_good_and_the_others_come_back(library: str, tmp_path: Path) -> None:
    """Why a stream that cannot be served is told so in a 200 (`busy` above), and connections are refused at the end."""
    async with running(tmp_path) as brook, Proxy(brook.port, ("clean", "503")) as proxy:
        url = f"http://127.0.0.1:{proxy.port}/v1/stream?channel=a&since=1h"
        publishing = asyncio.create_task(publish(brook, proxy))
        try:
            async with asyncio.timeout(PATIENCE_S):
                if library in GIVE_UP:
                    with pytest.raises(GaveUp):
                        await read(library, url)
                else:
                    seen = await read(library, url)
                    assert [data for data, _ in seen] == [text_of(number) for number in range(TOTAL)]
        finally:
            publishing.cancel()
            await asyncio.gather(publishing, return_exceptions=True)
