"""`TransportSink` on real transports of both loops: when its file descriptor is offered, and how long it is good."""

import asyncio
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.outbound.conftest import Certificates
from tests.outbound.conftest import certificates as certificates
from tests.served import Listener
from tests.stream.conftest import Rig, rig_on, until

from hookbrook.http.exchange import Taken
from hookbrook.http.sinks import SINK_BYTES, TransportSink
from hookbrook.stream.sink import Batch
from hookbrook.stream.subscription import Subscription


def inode_of(fd: int) -> int | None:
    try:
        return os.fstat(fd).st_ino
    except OSError:
        return None


class WatchedSink(TransportSink):
    """Notes what passes through it, and that its socket is still there when its end is told."""

    __slots__ = ("inode", "number", "outlived", "shared", "socket_transport", "total")

    def __init__(self, taken: Taken) -> None:
        super().__init__(taken)
        self.socket_transport = taken.transport
        self.number: int = taken.transport.get_extra_info("socket").fileno()
        self.inode = inode_of(self.number)
        self.shared = 0
        self.outlived: bool | None = None

    def share(self, batch: Batch) -> None:
        self.shared += 1
        super().share(batch)

    def connection_lost(self, exc: Exception | None) -> None:
        self.outlived = inode_of(self.number) == self.inode
        super().connection_lost(exc)


@dataclass(slots=True)
class House:
    """Whoever connects is a reader of `a` from then on."""

    rig: Rig
    chunked: bool = True
    sinks: list[WatchedSink] = field(default_factory=list)
    #: What each access log line would say that was sent.
    ended: list[int] = field(default_factory=list)
    port: int = 0

    def take(self, transport: asyncio.Transport) -> None:
        sink = WatchedSink(
            Taken(transport=transport, follow=transport.set_protocol, chunked=self.chunked, ended=self.ended.append)
        )
        self.sinks.append(sink)
        transport.set_protocol(sink)
        asked = Subscription(tenant="default", channels=("a",))
        sink.start(self.rig.hub.open(asked, sink, after=None, expires=None))

    async def join(self, tls: ssl.SSLContext | None = None) -> tuple[WatchedSink, Listener]:
        before = len(self.sinks)
        listener = Listener(*await asyncio.open_connection("127.0.0.1", self.port, ssl=tls))
        await until(lambda: len(self.sinks) > before)
        return self.sinks[-1], listener


class Host(asyncio.Protocol):
    def __init__(self, house: House) -> None:
        self._house = house

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._house.take(transport)  # type: ignore[arg-type]


@asynccontextmanager
async def house_in(folder: Path, tls: ssl.SSLContext | None = None, *, chunked: bool = True) -> AsyncIterator[House]:
    async with rig_on(folder) as rig:
        house = House(rig, chunked)
        server = await asyncio.get_running_loop().create_server(lambda: Host(house), "127.0.0.1", 0, ssl=tls)
        house.port = server.sockets[0].getsockname()[1]
        try:
            yield house
        finally:
            server.close()
            for sink in house.sinks:
                sink.socket_transport.abort()
            await until(lambda: all(sink.outlived is not None for sink in house.sinks))


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with house_in(tmp_path) as made:
        yield made


def reset(listener: Listener) -> None:
    """Leave without a word, as a machine does that lost its power."""
    sock = listener.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    listener.writer.transport.abort()


async def test_news_reaches_a_client_past_the_sink(house: House) -> None:
    sink, listener = await house.join()
    await house.rig.publish("a", count=2)
    await house.rig.publish("a")
    assert [frame.last_event_id[-1] for frame in await listener.take(3)] == ["1", "2", "3"]
    assert sink.shared == 0
    await listener.close()
    await until(lambda: bool(house.ended))
    assert house.ended == [len(listener.raw)]


async def test_what_a_client_does_not_take_waits_in_its_transport_and_nothing_overtakes_it(house: House) -> None:
    sink, listener = await house.join()
    large = b"1" * 8_000_000
    await house.rig.publish("a", data=large)
    assert sink.fd is None
    assert sink.full
    await house.rig.publish("a", data=b"2")
    first, second = await listener.take(2)
    assert (len(first.data), second.data) == (len(large), "2")
    await until(lambda: sink.fd is not None)
    before = sink.shared
    await house.rig.publish("a", count=2)
    await house.rig.publish("a", count=2)
    await listener.take(4)
    # Once through the sink, which shows that nothing waits there, and then directly.
    assert sink.shared - before <= 1
    await listener.close()
    await until(lambda: bool(house.ended))
    assert house.ended == [len(listener.raw)]


class Tight:
    """A transport without memory for what waits."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def __getattr__(self, name: str) -> object:
        return getattr(self._transport, name)

    def write(self, data: bytes | memoryview) -> None:
        if len(data) > SINK_BYTES:
            raise MemoryError
        self._transport.write(data)


async def test_a_chunk_that_cannot_be_ended_is_cut_off_and_no_end_stands_within_it(house: House) -> None:
    sink, listener = await house.join()
    _, stays = await house.join()
    sink._transport = Tight(sink.socket_transport)  # type: ignore[assignment]
    await house.rig.publish("a", data=b"1" * 8_000_000)
    taken = bytearray()
    with suppress(ConnectionResetError):
        while data := await listener.reader.read(65536):
            taken += data
    assert taken.startswith(b"7a12")
    assert not taken.endswith(b"0\r\n\r\n")
    assert len(taken) < 8_000_000
    assert len((await stays.take(1))[0].data) == 8_000_000
    assert len(house.rig.hub) == 1
    for each in (listener, stays):
        await each.close()


@pytest.mark.parametrize("how", ["abort", "close", "reset", "leave", "write"])
async def test_a_socket_is_closed_only_after_its_reader_is_gone(house: House, how: str) -> None:
    sink, listener = await house.join()
    other, stays = await house.join()
    await house.rig.publish("a")
    await listener.take(1)
    # Committed, but announced only when this test says so.
    house.rig.lag.is_held = True
    await house.rig.publish("a")
    if how == "abort":
        sink.socket_transport.abort()
    elif how == "close":
        sink.socket_transport.close()
    elif how == "leave":
        await listener.close()
    else:
        reset(listener)
        if how == "write":
            # The news meets the broken socket before the loop does.
            await asyncio.sleep(0)
    # In this very turn the socket may be closing, and its reader is still there.
    house.rig.lag.release()
    await until(lambda: sink.outlived is not None)
    assert sink.outlived
    assert (len(house.rig.hub), other.outlived) == (1, None)
    assert inode_of(sink.number) is None
    # Whoever gets the number next gets nothing but its own.
    late, heir = await house.join()
    assert sink.number in (late.number, heir.writer.get_extra_info("socket").fileno())
    await house.rig.publish("a")
    assert [frame.last_event_id[-1] for frame in await heir.take(1)] == ["3"]
    assert [frame.last_event_id[-1] for frame in await stays.take(3)] == ["1", "2", "3"]
    for each in (listener, stays, heir):
        await each.close()


async def test_the_socket_below_tls_is_never_written_to(tmp_path: Path, certificates: Certificates) -> None:
    async with house_in(tmp_path, certificates.server) as house:
        sink, listener = await house.join(certificates.client)
        assert sink.direct is None
        await house.rig.publish("a", count=2)
        assert len(await listener.take(2)) == 2
        assert sink.shared == 1
        await listener.close()
        await until(lambda: sink.outlived is not None)
        # It would not even be known for how long it is there.
        assert not sink.outlived


async def test_a_body_without_chunks_is_not_written_as_chunks(tmp_path: Path) -> None:
    async with house_in(tmp_path, chunked=False) as house:
        sink, listener = await house.join()
        assert sink.direct is None
        await house.rig.publish("a")
        assert (await listener.reader.readuntil(b"\n\n")).startswith(b"data: 1\nid: ")
        await listener.close()
