"""A real server on loopback and a client that speaks in raw bytes."""

import asyncio
import contextlib
import heapq
import itertools
import json
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import uvloop

from hookbrook.http.exchange import Shortcut
from hookbrook.http.limits import DEFAULT_LIMITS, Limits
from hookbrook.http.problems import App, Receive, Scope, Send
from hookbrook.http.server import Server
from hookbrook.http.state import State

#: No wait in these tests is longer; a test that needs it has failed.
PATIENCE_S = 10.0
#: What runs on both loops: the server uses uvloop, a host program may not.
ON_BOTH_LOOPS = frozenset({"test_protocol.py", "test_server.py", "test_sinks.py"})


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"uvloop": uvloop.new_event_loop}
    if item.path.name in ON_BOTH_LOOPS:
        loops["asyncio"] = asyncio.new_event_loop
    return loops


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    status: int
    headers: list[tuple[str, str]]
    body: bytes
    version: str

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)

    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """One connection, on which bytes are written and responses read."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        async with asyncio.timeout(PATIENCE_S):
            await self.writer.drain()

    async def response(self, *, to_head: bool = False) -> Response:
        async with asyncio.timeout(PATIENCE_S):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            status_line, *lines = head.split("\r\n")[:-2]
            headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
            version, status, _ = status_line.split(" ", 2)
            response = Response(status=int(status), headers=headers, body=b"", version=version)
            if to_head or response.status in (100, 204, 304):
                return response
            return replace(response, body=await self._body(response))

    async def _body(self, response: Response) -> bytes:
        if response.header("transfer-encoding") == "chunked":
            body = b""
            while size := int(await self.reader.readline(), 16):
                body += await self.reader.readexactly(size)
                assert await self.reader.readexactly(2) == b"\r\n"
            assert await self.reader.readexactly(2) == b"\r\n"
            return body
        length = response.header("content-length")
        return await self.reader.read() if length is None else await self.reader.readexactly(int(length))

    def has_answer(self) -> bool:
        """Whether there is something to read already."""
        return bool(self.reader._buffer)  # type: ignore[attr-defined]  # asyncio has no public word for it

    def reset(self) -> None:
        """Leave without a word, as a machine does that lost its power."""
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()

    async def read_all(self) -> bytes:
        """All that the server still sends; raises `ConnectionResetError` unless it ends in order."""
        data = b""
        async with asyncio.timeout(PATIENCE_S):
            while piece := await self.reader.read(65536):
                data += piece
        return data

    async def until_closed(self) -> bytes:
        """All that the server still sends until it closes; a reset counts as closing."""
        data = b""
        async with asyncio.timeout(PATIENCE_S):
            with contextlib.suppress(ConnectionError):
                while piece := await self.reader.read(65536):
                    data += piece
        return data

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


class _Timer:
    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        self.callback = None


class StandingLoop:
    """The running loop, but that its time stands still until a test moves it: however busy the machine is, nothing is
    too late but what the test says."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._now = self._loop.time()
        self._order = itertools.count()
        self._timers: list[tuple[float, int, _Timer]] = []

    @property
    def as_loop(self) -> asyncio.AbstractEventLoop:
        return cast("asyncio.AbstractEventLoop", self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def time(self) -> float:
        return self._now

    def call_at(self, when: float, callback: Callable[..., object], *arguments: object) -> _Timer:
        timer = _Timer(partial(callback, *arguments))
        heapq.heappush(self._timers, (when, next(self._order), timer))
        return timer

    def call_later(self, seconds: float, callback: Callable[..., object], *arguments: object) -> _Timer:
        return self.call_at(self._now + seconds, callback, *arguments)

    def advance(self, seconds: float) -> None:
        end = self._now + seconds
        while self._timers and self._timers[0][0] <= end:
            when, _, timer = heapq.heappop(self._timers)
            self._now = max(self._now, when)
            if timer.callback is not None:
                timer.callback()
        self._now = end

    async def advance_until(self, condition: Callable[[], bool], *, most: float) -> None:
        """Let time pass in small steps until something has happened, which fails after `most` seconds of it."""
        end = self._now + most
        while not condition():
            assert self._now < end, f"it has not happened within {most} s"
            self.advance(0.01)
            # The other end learns of it by the kernel.
            await asyncio.sleep(0.002)


class StandingServer(Server):
    """Whose connections live in a loop of standing time."""

    def __init__(self, app: App, standing: StandingLoop, *, limits: Limits, shortcut: Shortcut | None) -> None:
        super().__init__(app, host="127.0.0.1", port=0, limits=limits, shortcut=shortcut)
        self._standing = standing

    def _factory(self, state: State, _loop: asyncio.AbstractEventLoop) -> Callable[[], asyncio.Protocol]:
        return super()._factory(state, self._standing.as_loop)

    @property
    def unsent(self) -> int:
        """Bytes that wait in us for clients to take them."""
        assert self._state is not None
        return sum(connection.transport.get_write_buffer_size() for connection in self._state.connections)

    @property
    def is_paused(self) -> bool:
        """Whether nothing is read from some client."""
        assert self._state is not None
        return any(connection.flow.read_paused for connection in self._state.connections)


@dataclass(slots=True)
class Net:
    """Starts servers and connects to them; ends both with the test."""

    #: Of all servers.
    shortcut: Shortcut | None = None
    servers: list[Server] = field(default_factory=list)
    clients: list[Client] = field(default_factory=list)

    async def serve(self, app: App, *, limits: Limits = DEFAULT_LIMITS) -> Server:
        server = Server(app, host="127.0.0.1", port=0, limits=limits, shortcut=self.shortcut)
        await server.start()
        self.servers.append(server)
        return server

    async def serve_standing(self, app: App, standing: StandingLoop, *, limits: Limits) -> StandingServer:
        server = StandingServer(app, standing, limits=limits, shortcut=self.shortcut)
        await server.start()
        self.servers.append(server)
        return server

    async def connect(self, server: Server) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", server.port))
        self.clients.append(client)
        return client

    async def ask(self, server: Server, request: bytes) -> Response:
        client = await self.connect(server)
        await client.send(request)
        return await client.response(to_head=request.startswith(b"HEAD "))

    async def close(self) -> None:
        for client in self.clients:
            await client.close()
        for server in self.servers:
            await server.finish(1.0)


@pytest.fixture
async def standing() -> StandingLoop:
    return StandingLoop()


def decline(_request: object) -> bool:
    """A shortcut that takes nothing: what a connection brings is read by a newcomer first, and then as ever."""
    return False


@pytest.fixture(params=[None, decline], ids=["protocol", "newcomer"])
async def net(request: pytest.FixtureRequest) -> AsyncIterator[Net]:
    net = Net(shortcut=request.param)
    yield net
    await net.close()


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with what it was asked, as JSON."""
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return
        body += message["body"]
        if not message["more_body"]:
            break
    seen = {
        "method": scope["method"],
        "path": scope["path"],
        "query": scope["query_string"].decode("latin-1"),
        "version": scope["http_version"],
        "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]],
        "body": body.decode("latin-1"),
    }
    text = json.dumps(seen).encode()
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(text)).encode())],
        }
    )
    await send({"type": "http.response.body", "body": text})


@pytest.fixture(name="echo")
def echo_app() -> App:
    return echo


@pytest.fixture
def resident_bytes() -> Callable[[], int]:
    """Reads how much memory this process occupies now."""
    page = os.sysconf("SC_PAGE_SIZE")

    def read() -> int:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * page

    return read


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], Any]:
    """Waits, within bounds, until a condition holds."""

    async def wait(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():  # noqa: ASYNC110 - what is waited for belongs to other code and has no event
                await asyncio.sleep(0.005)

    return wait
