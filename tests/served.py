"""Hookbrook as its users meet it: an `App` under our server in this process, or a real `hookbrook serve` process."""

import asyncio
import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import httpx

from hookbrook.app import App
from hookbrook.config import load
from hookbrook.core.sse import Frame, Parser
from hookbrook.http.problems import App as AsgiApp
from hookbrook.http.problems import Receive, Scope, Send
from hookbrook.http.server import Server

#: No wait is longer, and none is this long unless the test fails; the machine may be busy.
PATIENCE_S = 30.0


@dataclass(slots=True, kw_only=True)
class Running:
    """An app under our server, in this process and loop."""

    app: App
    server: Server
    http: httpx.AsyncClient
    #: Named in every request, so that tests which share an app do not see each other's events.
    tenant: str = "default"
    listeners: list["Listener"] = field(default_factory=list)

    @property
    def port(self) -> int:
        return self.server.port

    async def publish(self, channel: str, data: bytes | str = b"1", **headers: str) -> Any:
        answer = await self.http.post(f"/v1/channels/{channel}", content=data, headers=headers)
        assert answer.status_code in (200, 201), answer.text
        return answer.json()

    async def listen(self, target: str, **headers: str) -> "Listener":
        """Open a stream; it is closed with the app."""
        if self.tenant != "default":
            target += f"{'&' if '?' in target else '?'}tenant={self.tenant}"
        listener = await Listener.open("127.0.0.1", self.port, target, **headers)
        self.listeners.append(listener)
        return listener

    @asynccontextmanager
    async def as_tenant(self, tenant: str) -> AsyncIterator["Running"]:
        """The same app, as another tenant sees it; its client and its streams end with the block."""

        async def name_it(request: httpx.Request) -> None:
            request.url = request.url.copy_merge_params({"tenant": tenant})

        hooks = {"request": [name_it]}
        client = httpx.AsyncClient(base_url=self.http.base_url, event_hooks=hooks, timeout=PATIENCE_S)
        view = Running(app=self.app, server=self.server, http=client, tenant=tenant)
        try:
            yield view
        finally:
            await view.close()

    async def close(self) -> None:
        for listener in self.listeners:
            await listener.close()
        await self.http.aclose()

    def mint(self, document: Mapping[str, Any]) -> Any:
        return self.http.post("/v1/tokens", json=document)


@asynccontextmanager
async def running(
    folder: Path, *, key: str | None = None, plain_asgi: bool = False, **flags: object
) -> AsyncIterator[Running]:
    """An app that keeps its log in `folder`; open (`--dev`) unless `dev=False` is among the flags.

    The client shows the first administrator's key, if this start made one, or `key`. With `plain_asgi` the server
    offers nothing that other servers do not.
    """
    settings = load({"dev": True, **flags}, {}, folder)
    app = App(settings)
    if plain_asgi:
        server = Server(without_extensions(app), host="127.0.0.1", port=0)
    else:
        server = Server(app, host="127.0.0.1", port=0, shortcut=app.shortcut)
    await server.bind()
    app.settings = replace(settings, port=server.port)
    await app.start()
    await server.start()
    key = key or app.admin_key
    headers = {"authorization": f"Bearer {key}"} if key else {}
    client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", headers=headers, timeout=PATIENCE_S)
    here = Running(app=app, server=server, http=client)
    try:
        yield here
    finally:
        await here.close()
        await app.drain(0)
        await server.finish(2.0)
        await app.stop()


def without_extensions(app: AsgiApp) -> AsgiApp:
    """The app as other ASGI servers call it: without the extensions of ours."""

    async def plain(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "extensions": {}}, receive, send)

    return plain


class Listener:
    """One event stream over a socket of its own, read as far as a test asks for."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.status = 0
        self.headers: dict[str, str] = {}
        #: All bytes of the body that were read.
        self.raw = bytearray()
        #: Frames that were parsed and not yet taken.
        self.frames: list[Frame] = []
        self.ended = False
        self._parser = Parser()

    @classmethod
    async def open(cls, host: str, port: int, target: str, **headers: str) -> Self:
        """Ask for the stream and read the head of the answer."""
        self = cls(*await asyncio.open_connection(host, port))
        lines = {"host": f"{host}:{port}", "accept": "text/event-stream"}
        lines |= {name.replace("_", "-"): value for name, value in headers.items()}
        head = f"GET {target} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.writer.write(head.encode("latin-1") + b"\r\n")
        async with asyncio.timeout(PATIENCE_S):
            answer = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        self.status = int(answer[0].split(" ")[1])
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in answer[1:] if line)}
        return self

    async def take(self, count: int) -> list[Frame]:
        """The next so many events; fails if the stream ends before."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.frames) < count:
                assert not self.ended, f"the stream ended after {len(self.frames)} of {count} events"
                await self.read()
        taken, self.frames = self.frames[:count], self.frames[count:]
        return taken

    async def data(self, count: int) -> list[str]:
        return [frame.data for frame in await self.take(count)]

    async def until(self, what: bytes) -> None:
        """Read until these bytes were among the raw ones."""
        async with asyncio.timeout(PATIENCE_S):
            while what not in self.raw:
                assert not self.ended, self.raw
                await self.read()

    async def rest(self) -> list[Frame]:
        """All events until the stream ends."""
        async with asyncio.timeout(PATIENCE_S):
            while not self.ended:
                await self.read()
        return self.frames

    async def read(self) -> None:
        """One chunk."""
        line = await self.reader.readline()
        size = int(line, 16) if line else 0
        chunk = await self.reader.readexactly(size) if size else b""
        if not size:
            self.ended = True
            return
        await self.reader.readexactly(2)
        self.raw += chunk
        self.frames += self._parser.feed(chunk)

    async def document(self) -> Any:
        """The body of an answer that is no stream."""
        async with asyncio.timeout(PATIENCE_S):
            body = await self.reader.readexactly(int(self.headers["content-length"]))
        return httpx.Response(self.status, content=body).json()

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()


class Served:
    """A real `hookbrook serve`, which may be killed and started again on the same port and log."""

    def __init__(self, folder: Path, *flags: str, **environment: str) -> None:
        self.folder = folder
        self.flags = flags
        self.port = 0
        self._log = folder / "serve.log"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("HOOKBROOK_")}
        self._environment = {**inherited, **environment}
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return self._log.read_text()

    def start(self) -> Self:
        """Start it and wait until it is ready; the port is chosen by the first start."""
        self.launch()
        end = time.monotonic() + PATIENCE_S
        while not self._is_ready():
            assert self.running, self.log
            assert time.monotonic() < end, self.log
            time.sleep(0.01)
        return self

    def command(self) -> list[str]:
        return [sys.executable, "-m", "hookbrook", "serve", "--port", str(self.port), *self.flags]

    def launch(self) -> None:
        """Start it and do not wait."""
        start = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(), cwd=self.folder, env=self._environment, stdout=log, stderr=log
            )
        end = time.monotonic() + PATIENCE_S
        while not self.port and self.running and time.monotonic() < end:
            lines = self.log[start:].splitlines()
            said = next((line for line in lines if "listening on http://" in line), None)
            self.port = int(said.rpartition("listening on ")[2].split(",")[0].rpartition(":")[2]) if said else 0
            time.sleep(0.01)

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        self.end(signal.SIGKILL)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send the signal and wait; returns the exit code."""
        assert self.process is not None
        if self.running:
            self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)

    def resident_bytes(self) -> int:
        assert self.process is not None
        pages = Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.running:
            self.kill()
