"""Connections before and at their first request. What a protocol does is tested with newcomers in front of it too, see
`net`; here is what only they do."""

import asyncio
import logging
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self

import pytest
from tests.http.conftest import Client, Net, StandingLoop
from tests.served import PATIENCE_S, Listener, Running, running

from hookbrook.http.auth import Principal
from hookbrook.http.exchange import Exchange, Visitor
from hookbrook.http.limits import DEFAULT_LIMITS, Limits
from hookbrook.http.newcomer import MAX_KNOWN, MAX_KNOWN_BYTES, Lobby, Newcomer
from hookbrook.http.problems import Receive, Scope, Send
from hookbrook.http.protocol import Protocol
from hookbrook.http.state import State
from hookbrook.http.stream import Judged
from hookbrook.http.turnstile import Turnstile

REQUEST = b"GET /v1/stream?channel=a HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
async def brook(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path) as brook:
        yield brook


class House:
    """A lobby in front of a real socket; whoever has asked for something has a stream of `hello` from then on."""

    def __init__(self, *, limits: Limits = DEFAULT_LIMITS, max_known: int = MAX_KNOWN) -> None:
        self.time = StandingLoop()
        self.state = State()
        #: Of each request that came.
        self.notes: list[dict[str, Any] | None] = []
        self.lobby = Lobby(
            self.state,
            limits=limits,
            shortcut=self._open,
            ordinary=self._ordinary,
            loop=self.time.as_loop,
            max_known=max_known,
        )
        self._clients: list[Client] = []

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Newcomer(self.lobby), "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for client in self._clients:
            await client.close()

    def _open(self, visitor: Exchange | Visitor) -> bool:
        self.notes.append(visitor.notes)
        taken = visitor.take_over(200, b"", b"hello")
        assert taken is not None
        return True

    def _ordinary(self) -> Protocol:
        raise AssertionError("nobody has asked for anything that a newcomer cannot answer")

    async def connect(self) -> Client:
        before = len(self.state.connections)
        port = self._server.sockets[0].getsockname()[1]
        client = Client(*await asyncio.open_connection("127.0.0.1", port))
        self._clients.append(client)
        async with asyncio.timeout(PATIENCE_S):
            while len(self.state.connections) == before:  # noqa: ASYNC110 - the kernel delivers when it likes
                await asyncio.sleep(0.001)
        return client

    async def ask(self, packet: bytes) -> dict[str, Any] | None:
        """Send it on a connection of its own, and return the notes about it."""
        client = await self.connect()
        await client.send(packet)
        assert (await client.response(to_head=True)).status == 200
        return self.notes[-1]


def asking(query: str = "", *lines: str) -> bytes:
    head = "".join(f"{line}\r\n" for line in ("Host: localhost", *lines))
    return f"GET /v1/stream{query} HTTP/1.1\r\n{head}\r\n".encode()


async def connect(brook: Running) -> Listener:
    return Listener(*await asyncio.open_connection("127.0.0.1", brook.port))


async def head(listener: Listener) -> bytes:
    async with asyncio.timeout(PATIENCE_S):
        return await listener.reader.readuntil(b"\r\n\r\n")


def turnstile(brook: Running) -> Turnstile:
    express = brook.app._express
    assert express is not None
    return express._streams.turnstile


async def waiting(brook: Running) -> Listener:
    """A listener whose request has come and waits for its turn, which comes with `Turnstile._turn`."""
    gate = turnstile(brook)
    gate._is_turning, gate._left = True, 0
    listener = await connect(brook)
    listener.writer.write(REQUEST)
    async with asyncio.timeout(PATIENCE_S):
        while not gate._waiting:  # noqa: ASYNC110 - the kernel delivers when it likes
            await asyncio.sleep(0.001)
    return listener


async def hello(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


async def test_those_who_say_nothing_are_closed_each_in_its_time_and_the_others_stay() -> None:
    async with House(limits=Limits(head_s=10.0)) as house:
        first = await house.connect()
        talker = await house.connect()
        await talker.send(REQUEST)
        assert (await talker.response(to_head=True)).status == 200
        house.time.advance(6.0)
        second = await house.connect()
        house.time.advance(3.0)
        assert len(house.state.connections) == 2
        house.time.advance(1.0)
        assert await first.until_closed() == b""
        assert len(house.state.connections) == 1
        house.time.advance(6.0)
        assert await second.until_closed() == b""
        await talker.reader.readexactly(len(b"5\r\nhello\r\n"))
        assert not talker.reader.at_eof()


async def test_an_open_stream_is_no_connection_of_the_servers_and_holds_nothing_of_its_request(brook: Running) -> None:
    idle = await connect(brook)
    listener = await connect(brook)
    async with asyncio.timeout(PATIENCE_S):
        while brook.server.connections < 2:  # noqa: ASYNC110 - the kernel delivers when it likes
            await asyncio.sleep(0.001)
    state = brook.server._state
    assert state is not None
    newcomers = [each for each in state.connections if isinstance(each, Newcomer)]
    listener.writer.write(REQUEST)
    assert (await head(listener)).startswith(b"HTTP/1.1 200")
    assert brook.server.connections == 1
    (left,) = (each for each in newcomers if each not in state.connections)
    assert (left.scope, left.notes, left._packet) == ({}, None, b"")
    for each in (idle, listener):
        each.writer.close()


async def test_a_request_is_read_once_more_and_then_known() -> None:
    async with House() as house:
        first, second, third = [await house.ask(asking("?channel=a")) for _ in range(3)]
        assert first is None
        assert second == {}
        assert third is second
        assert await house.ask(asking("?channel=b")) is None


@pytest.mark.parametrize(
    "packet",
    [
        asking("", "Authorization: Bearer hbk_x"),
        asking("", "Cookie: hookbrook_token=x"),
        asking("", "Cookie: a=b"),
        asking("?token=x"),
        asking("?%74oken=x"),
        asking("?type=" + "t" * MAX_KNOWN_BYTES),
    ],
    ids=["key", "token in a cookie", "cookie", "token", "encoded token", "long"],
)
async def test_what_is_personal_or_long_is_not_remembered(packet: bytes) -> None:
    async with House() as house:
        assert [await house.ask(packet) for _ in range(3)] == [None] * 3
        assert (house.lobby._known, house.lobby._met) == ({}, set())


async def test_of_many_requests_the_newest_are_known() -> None:
    async with House(max_known=2) as house:
        known = {}
        for name in "aabbcc":
            known[name] = await house.ask(asking(f"?channel={name}"))
        for name in "bc":
            assert await house.ask(asking(f"?channel={name}")) is known[name]
        assert await house.ask(asking("?channel=a")) is not known["a"]


async def test_what_has_changed_since_a_request_was_known_counts(brook: Running) -> None:
    cursor = (await brook.publish("a", "0"))["cursor"]
    for _ in range(3):
        await (await brook.listen("/v1/channels/a", last_event_id=cursor)).until(b": hb")
    # Deleted: whoever knew an event of it is told.
    await brook.http.delete("/v1/channels/a")
    await (await brook.listen("/v1/channels/a", last_event_id=cursor)).until(b"hookbrook.reset")
    for _ in range(3):
        assert (await brook.listen("/v1/channels/b")).status == 200
    await brook.http.post("/v1/channels/b?close=1", content=b"the end")
    assert (await brook.listen("/v1/channels/b")).status == 204


def test_a_judgement_is_shared_only_where_no_credential_was_shown_and_no_address_counts(brook: Running) -> None:
    stream = brook.app._express
    assert stream is not None
    scope = {"type": "http", "method": "GET", "headers": [], "query_string": b"channel=a", "client": ("127.0.0.1", 1)}
    developer = stream._streams.judge(scope, None)

    def judged(kind: str) -> Judged:
        principal = Principal(kind=kind, tenant="default", view="default")  # type: ignore[arg-type]
        return Judged(principal=principal, asked=developer.asked, seen=None, of="127.0.0.1")

    assert developer.holds_for(("127.0.0.1", 2))
    assert not developer.holds_for(("192.0.2.1", 2))
    assert not developer.holds_for(None)
    assert judged("anonymous").holds_for(("192.0.2.1", 2))
    assert not judged("token").holds_for(("127.0.0.1", 2))
    assert not judged("key").holds_for(("127.0.0.1", 2))


async def test_a_stream_opens_once_more_has_come_behind_the_request_that_waits(brook: Running) -> None:
    listener = await waiting(brook)
    gate = turnstile(brook)
    listener.writer.write(REQUEST)
    async with asyncio.timeout(PATIENCE_S):
        while len(gate._waiting) < 2:  # noqa: ASYNC110 - the kernel delivers when it likes
            await asyncio.sleep(0.001)
    gate._turn()
    assert (await head(listener)).startswith(b"HTTP/1.1 200")
    await listener.until(b": hb")
    await brook.publish("a", "hello")
    assert await listener.data(1) == ["hello"]
    listener.writer.close()


async def test_who_only_stops_sending_while_the_request_waits_is_answered(brook: Running) -> None:
    listener = await waiting(brook)
    gate = turnstile(brook)
    listener.writer.write_eof()
    async with asyncio.timeout(PATIENCE_S):
        while len(gate._waiting) < 2:  # noqa: ASYNC110 - the kernel delivers when it likes
            await asyncio.sleep(0.001)
    gate._turn()
    assert (await head(listener)).startswith(b"HTTP/1.1 200")
    listener.writer.close()


async def test_who_leaves_while_the_request_waits_is_logged_and_forgotten(
    brook: Running, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "hookbrook.access")
    listener = await waiting(brook)
    # With a reset: the end of what it sends is no sign that it does not read.
    listener.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    listener.writer.transport.abort()
    async with asyncio.timeout(PATIENCE_S):
        while brook.server.connections:  # noqa: ASYNC110 - the kernel delivers when it likes
            await asyncio.sleep(0.001)
    turnstile(brook)._turn()
    assert len(brook.app._hub or ()) == 0
    [line] = [record for record in caplog.records if record.name == "hookbrook.access"]
    assert "GET /v1/stream?channel=a 499 0B" in line.getMessage()


@pytest.mark.parametrize("packets", [[REQUEST], [REQUEST[:5], REQUEST[5:]]], ids=["newcomer", "protocol"])
async def test_what_is_given_away_and_cut_before_anything_follows_is_logged_as_what_was_sent(
    caplog: pytest.LogCaptureFixture, packets: list[bytes]
) -> None:
    def take(visitor: Exchange | Visitor) -> bool:
        taken = visitor.take_over(200, b"", b"hello")
        assert taken is not None
        taken.transport.abort()
        return True

    caplog.set_level(logging.INFO, "hookbrook.access")
    net = Net(shortcut=take)
    server = await net.serve(hello)
    client = await net.connect(server)
    for packet in packets:
        await client.send(packet)
        await asyncio.sleep(0.01)
    await client.until_closed()
    await net.close()
    [line] = [record.getMessage() for record in caplog.records]
    assert "GET /v1/stream?channel=a 200 5B" in line


async def test_the_end_closes_who_said_nothing_and_answers_who_waits_for_a_turn(brook: Running) -> None:
    silent = await connect(brook)
    listener = await waiting(brook)
    brook.server.stop_accepting()
    async with asyncio.timeout(PATIENCE_S):
        assert await silent.reader.read() == b""
    turnstile(brook)._turn()
    answer = await head(listener)
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in answer
    for each in (silent, listener):
        each.writer.close()
