"""A server that does as it is told: it notes each request and answers by a script, over real sockets."""

import asyncio
import socket
import struct
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import msgspec
import pytest

from hookbrook import AsyncHookbrook, AsyncStream, Event, Hookbrook, Published, StreamReceipt

PATIENCE_S = 10.0


@dataclass(slots=True)
class Call:
    """One request as it arrived; `lines` grows while an NDJSON body comes in."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes = b""
    lines: list[dict[str, object]] = field(default_factory=list)

    def json(self) -> dict[str, object]:
        document: dict[str, object] = msgspec.json.decode(self.body)
        return document


class Connection:
    """The server's side of one request, for a script to read from and write to."""

    def __init__(self, call: Call, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.call = call
        self._reader = reader
        self.writer = writer

    async def read_body(self) -> bytes:
        length = self.call.headers.get("content-length")
        if length is not None:
            self.call.body = await self._reader.readexactly(int(length))
        elif "chunked" in self.call.headers.get("transfer-encoding", ""):
            async for chunk in self.chunks():
                self.call.body += chunk
        return self.call.body

    async def chunks(self) -> AsyncIterator[bytes]:
        while size := int(await self._reader.readline(), 16):
            yield await self._reader.readexactly(size)
            await self._reader.readexactly(2)
        await self._reader.readexactly(2)

    async def lines(self) -> AsyncIterator[dict[str, object]]:
        """The lines of an NDJSON body, as they come; one chunk is one line."""
        async for chunk in self.chunks():
            self.call.body += chunk
            line: dict[str, object] = msgspec.json.decode(chunk)
            self.call.lines.append(line)
            yield line

    async def answer(self, status: int, body: object = None, **headers: str) -> None:
        document = body if isinstance(body, bytes) else b"" if body is None else msgspec.json.encode(body)
        head = {"content-length": str(len(document)), "content-type": "application/json", "connection": "close"}
        head |= {name.replace("_", "-"): value for name, value in headers.items()}
        await self.head(status, head)
        await self.send(document)

    async def head(self, status: int, headers: dict[str, str]) -> None:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        await self.send(f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode())

    async def open_stream(self, *, chunked: bool = True) -> None:
        headers = {"content-type": "text/event-stream; charset=utf-8"}
        headers |= {"transfer-encoding": "chunked"} if chunked else {"connection": "close"}
        await self.head(200, headers)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def chunk(self, data: bytes) -> None:
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def end_chunks(self) -> None:
        await self.send(b"0\r\n\r\n")

    async def until_client_leaves(self) -> None:
        while await self._reader.read(1024):
            pass

    async def reset(self) -> None:
        """Cut the connection without a goodbye; returns when it is done."""
        reset_at_close = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset_at_close)
        self.writer.transport.abort()
        with suppress(ConnectionError):
            await self.writer.wait_closed()


Script = Callable[[Connection], Awaitable[None]]


class Server:
    """Serves each request by the next script; the last one serves all that follow."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.port = 0
        self._scripts: list[Script] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)
        self._listening = threading.Event()
        self._server: asyncio.Server | None = None
        self._handlers: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def script(self, *scripts: Script) -> None:
        self._scripts[:] = scripts

    def start(self) -> None:
        self._thread.start()
        assert self._listening.wait(PATIENCE_S)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)

    def refuse(self) -> None:
        """Stop listening; connections are refused until `listen`."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(PATIENCE_S)

    def listen_after(self, seconds: float) -> None:
        """Listen again at the same port, a little later."""

        def listen() -> None:
            task = self._loop.create_task(self._listen())
            self._handlers.add(task)

        self._loop.call_soon_threadsafe(self._loop.call_later, seconds, listen)

    def call(self, callback: Callable[[], None]) -> None:
        """Call this in the server's thread."""
        self._loop.call_soon_threadsafe(callback)

    def wait_for(self, condition: Coroutine[Any, Any, object]) -> None:
        """Wait here for something that happens in the server's loop."""
        asyncio.run_coroutine_threadsafe(condition, self._loop).result(PATIENCE_S)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._listen())
        self._listening.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self._close())
        for task in self._handlers:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*self._handlers, return_exceptions=True))
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        try:
            await self._one_request(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            # The client left, or the test is over.
            pass
        finally:
            self._handlers.discard(task)
            writer.close()

    async def _one_request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ")
        pairs = (line.partition(":") for line in head[1:] if line)
        call = Call(method, target, {name.lower(): value.strip() for name, _, value in pairs})
        self.calls.append(call)
        script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
        await script(Connection(call, reader, writer))


class EventStream(Protocol):
    """What both streams look like to a test."""

    @property
    def cursor(self) -> str | None: ...
    def __iter__(self) -> Iterator[Event]: ...
    def __next__(self) -> Event: ...
    def close(self) -> None: ...


class Client(Protocol):
    """What both clients look like to a test."""

    def publish(self, channel: str, data: Any, **options: Any) -> Published: ...
    def publish_many(self, events: Iterable[Any]) -> list[Published]: ...
    def publish_stream(self, channel: str, items: Iterable[Any], **options: Any) -> StreamReceipt: ...
    def stream(self, *channels: str, **options: Any) -> EventStream: ...
    def request(self, method: str, path: str, **options: Any) -> Any: ...
    def pages(self, path: str, params: dict[str, Any] | None = None) -> Iterator[Any]: ...
    def close(self) -> None: ...


class Driven:
    """The asynchronous client, driven step by step on a loop of its own."""

    def __init__(self, runner: asyncio.Runner, client: AsyncHookbrook) -> None:
        self._runner = runner
        self._client = client

    def publish(self, channel: str, data: Any, **options: Any) -> Published:
        return self._runner.run(self._client.publish(channel, data, **options))

    def publish_many(self, events: Iterable[Any]) -> list[Published]:
        return self._runner.run(self._client.publish_many(events))

    def publish_stream(self, channel: str, items: Iterable[Any], **options: Any) -> StreamReceipt:
        return self._runner.run(self._client.publish_stream(channel, _in_a_thread(items), **options))

    def stream(self, *channels: str, **options: Any) -> "DrivenStream":
        return DrivenStream(self._runner, self._client.stream(*channels, **options))

    def request(self, method: str, path: str, **options: Any) -> Any:
        return self._runner.run(self._client.request(method, path, **options))

    def pages(self, path: str, params: dict[str, Any] | None = None) -> Iterator[Any]:
        async def collect() -> list[Any]:
            return [member async for member in self._client.pages(path, params)]

        return iter(self._runner.run(collect()))

    def close(self) -> None:
        self._runner.run(self._client.close())


class DrivenStream:
    def __init__(self, runner: asyncio.Runner, stream: AsyncStream[Event]) -> None:
        self._runner = runner
        self._stream = stream

    @property
    def cursor(self) -> str | None:
        return self._stream.cursor

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        async def step() -> Event | None:
            return await anext(self._stream, None)

        event = self._runner.run(step())
        if event is None:
            raise StopIteration
        return event

    def close(self) -> None:
        self._runner.run(self._stream.close())


async def _in_a_thread(items: Iterable[Any]) -> AsyncIterator[Any]:
    """The items asynchronously: one that blocks does not block the loop."""
    source = iter(items)
    end = object()
    while (item := await asyncio.to_thread(next, source, end)) is not end:
        yield item


@pytest.fixture(params=["blocking", "asynchronous"])
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[..., Client]]:
    """Makes clients that try again after milliseconds."""
    clients: list[Client] = []
    with asyncio.Runner() as runner:

        def connect(url: str, key: str | None = None, **options: Any) -> Client:
            options = {"backoff_s": 0.001, "timeout_s": PATIENCE_S, "idle_s": PATIENCE_S, **options}
            if request.param == "blocking":
                client: Client = cast("Client", Hookbrook(url, key, **options))
            else:
                client = Driven(runner, AsyncHookbrook(url, key, **options))
            clients.append(client)
            return client

        yield connect
        for client in clients:
            client.close()


@pytest.fixture
def client(server: "Server", connect: Callable[..., Client]) -> Client:
    return connect(server.url)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    server.start()
    yield server
    server.stop()
