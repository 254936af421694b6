"""Connections before and at their first request. What a protocol does is tested with newcomers in front of it too, see
`net`; here is what only they do."""

import asyncio
import logging
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.http.conftest import Net, decline
from tests.served import PATIENCE_S, Listener, Running, running

from hookbrook.http import newcomer
from hookbrook.http.auth import Principal
from hookbrook.http.exchange import Exchange, Visitor
from hookbrook.http.limits import Limits
from hookbrook.http.newcomer import Lobby, Newcomer
from hookbrook.http.problems import Receive, Scope, Send
from hookbrook.http.stream import Judged
from hookbrook.http.turnstile import Turnstile

REQUEST = b"GET /v1/stream?channel=a HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
async def brook(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path) as brook:
        yield brook


@pytest.fixture
def lobbies(monkeypatch: pytest.MonkeyPatch) -> list[Lobby]:
    """Of the servers that are started from now on."""
    made: list[Lobby] = []
    begin = Lobby.__init__

    def noting(lobby: Lobby, *arguments: object, **named: object) -> None:
        made.append(lobby)
        begin(lobby, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Lobby, "__init__", noting)
    return made


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
    net = Net(shortcut=decline)
    server = await net.serve(hello, limits=Limits(head_s=0.3))
    loop = asyncio.get_running_loop()
    began = loop.time()
    first = await net.connect(server)
    talker = await net.connect(server)
    await talker.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await talker.response()).body == b"hello"
    await asyncio.sleep(0.15)
    second = await net.connect(server)
    assert await first.until_closed() == b""
    assert loop.time() - began >= 0.3
    assert await second.until_closed() == b""
    assert loop.time() - began >= 0.45
    await talker.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await talker.response()).body == b"hello"
    await net.close()


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


async def test_a_request_that_is_known_is_not_read_again_and_what_has_changed_since_counts(
    lobbies: list[Lobby], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as brook:
        cursor = (await brook.publish("a", "0"))["cursor"]
        for known in (0, 1, 1):
            await (await brook.listen("/v1/channels/a", last_event_id=cursor)).until(b": hb")
            assert len(lobbies[0]._known) == known
            if known:
                monkeypatch.setattr(newcomer, "read_scope", None)
        monkeypatch.undo()
        (request,) = lobbies[0]._known.values()
        assert request.notes
        # Deleted: whoever knew an event of it is told.
        await brook.http.delete("/v1/channels/a")
        await (await brook.listen("/v1/channels/a", last_event_id=cursor)).until(b"hookbrook.reset")
        for _ in range(3):
            assert (await brook.listen("/v1/channels/b")).status == 200
        await brook.http.post("/v1/channels/b?close=1", content=b"the end")
        assert (await brook.listen("/v1/channels/b")).status == 204


async def test_what_is_personal_is_not_remembered_nor_more_than_so_many(
    lobbies: list[Lobby], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(newcomer, "MAX_KNOWN", 2)
    async with running(tmp_path) as brook:
        token = (await brook.mint({"subscribe": ["a"]})).json()["token"]
        for headers in (
            {"authorization": f"Bearer {token}"},
            {"cookie": f"hookbrook_token={token}"},
            {"cookie": "a=b"},
        ):
            assert (await brook.listen("/v1/channels/a", **headers)).status == 200
            assert (await brook.listen("/v1/channels/a", **headers)).status == 200
        shown = (f"?token={token}", f"?%74oken={token}", "?type=" + "t" * 2000)
        for query in 2 * shown:
            assert (await brook.listen(f"/v1/channels/a{query}")).status in (200, 422)
        assert (lobbies[0]._known, lobbies[0]._met) == ({}, set())
        for channel in "aabbcc":
            await brook.listen(f"/v1/channels/{channel}")
        paths = [request.scope["path"] for request in lobbies[0]._known.values()]
        assert paths == ["/v1/channels/b", "/v1/channels/c"]


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
