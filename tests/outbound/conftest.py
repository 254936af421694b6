"""Receivers on loopback: raw asyncio servers, each connection handled by a function that the test gives."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LOOPS: Mapping[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The client meets both loops, which connect and speak TLS in ways of their own; the rest runs on asyncio's."""
    return (
        LOOPS
        if item.path.name in ("test_fetch.py", "test_outbox.py", "test_tunnel.py", "test_wire.py")
        else {"asyncio": LOOPS["asyncio"]}
    )


@dataclass(slots=True)
class Arrived:
    """One request as it came over the wire."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


class Peer:
    """The receiver's side of one connection."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        #: Connections are counted from 1.
        self.number = number
        self.reader = reader
        self.writer = writer

    async def request(self) -> Arrived:
        """The next request; raises `asyncio.IncompleteReadError` if the client has gone."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = [(name, value) for name, _, value in (line.partition(": ") for line in head[1:] if line)]
        arrived = Arrived(head[0], headers, b"")
        arrived.body = await self.reader.readexactly(int(arrived.header("content-length") or 0))
        return arrived

    async def answer(self, body: bytes = b"ok", /, *, status: str = "200 OK", **headers: str) -> None:
        fields = {
            "content-length": str(len(body)),
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        await self.write(f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body)

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """End the connection with RST."""
        self.writer.transport.abort()


Handler = Callable[[Peer], Awaitable[None]]


@dataclass(slots=True)
class Receiver:
    port: int
    host: str = "127.0.0.1"
    requests: list[Arrived] = field(default_factory=list)
    connections: int = 0
    #: Connections whose handler has ended.
    ended: int = 0

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}/hook"


Serve = Callable[..., Awaitable[Receiver]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """`await serve(handler)` starts a receiver; without a handler it answers `200 ok` to everything."""
    servers: list[asyncio.Server] = []
    tasks: set[asyncio.Task[None]] = set()

    async def start(
        handler: Handler | None = None, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
    ) -> Receiver:
        receiver = Receiver(0, host)

        async def polite(peer: Peer) -> None:
            while True:
                receiver.requests.append(await peer.request())
                await peer.answer()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            receiver.connections += 1
            peer = Peer(receiver.connections, reader, writer)
            try:
                # The client may go at any moment; that is what many tests are about.
                with suppress(asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
                    await (handler or polite)(peer)
            finally:
                receiver.ended += 1
                writer.close()
                tasks.discard(task)

        server = await asyncio.start_server(connected, host, 0, ssl=tls)
        servers.append(server)
        receiver.port = server.sockets[0].getsockname()[1]
        return receiver

    yield start
    for server in servers:
        server.close()
    for task in list(tasks):
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def unused() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Names:
    """A resolver with a fixed table. A name's entry is its answers, one for each time it is asked; the last stays."""

    def __init__(self, **table: Sequence[Sequence[str]]) -> None:
        self.table = {name: list(answers) for name, answers in table.items()}
        self.asked: list[str] = []

    async def resolve(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        answers = self.table.get(host.partition(".")[0])
        if answers is None:
            raise OSError("no such name")
        return answers.pop(0) if len(answers) > 1 else answers[0]


async def until(condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    """Wait for a condition, bounded."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 (a condition of sockets, which set no event)
            await asyncio.sleep(0.005)


@dataclass(frozen=True, slots=True)
class Certificates:
    """A server for `receiver.test` and 127.0.0.1, and a client that trusts it."""

    server: ssl.SSLContext
    client: ssl.SSLContext


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder: Path = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "receiver.test")])
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.DNSName("receiver.test"), x509.IPAddress(ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    client = ssl.create_default_context(cafile=str(folder / "certificate.pem"))
    return Certificates(server, client)
