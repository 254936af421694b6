"""The short way for single events: nobody can tell it from the ordinary one, except by its price."""

import asyncio
import hmac
import json
import re
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import httpx
import pytest
from tests.served import PATIENCE_S, Running, running

from hookbrook.app import App
from hookbrook.config import load
from hookbrook.core.event import Appended, NewEvent
from hookbrook.http.exchange import Exchange, Shortcut, Visitor
from hookbrook.http.express import Door, Express
from hookbrook.http.problems import Scope
from hookbrook.http.server import Server
from hookbrook.store.appender import Appender

HOST = b"Host: localhost\r\n"
#: Status line and header lines of an answer.
_HEAD = re.compile(rb"HTTP/1\.1 (\d+) [^\r]*\r\n(?:[^\r]+\r\n)*\r\n")
_LENGTH = re.compile(rb"content-length: (\d+)\r")
#: What differs between two servers, whichever way they answer.
_OWN = re.compile(rb'(?:evt|src)_[0-9a-z]{26}|[0-9a-z]+-[0-9]+|date: [^\r]*|"(?:url|created_at|updated_at)":"[^"]*"')


def post(path: str, body: bytes, *headers: bytes, host: bytes = HOST) -> bytes:
    lines = b"".join(header + b"\r\n" for header in (*headers, b"Content-Length: %d" % len(body)))
    return b"POST %b HTTP/1.1\r\n%b%b\r\n" % (path.encode(), host, lines) + body


def source(provider: str, **fields: object) -> bytes:
    document = {"name": "in", "provider": provider, "secrets": ["s3cret"], **fields}
    return post("/v1/sources", json.dumps(document).encode(), JSON)


def webhook(
    body: bytes, *headers: bytes, header: bytes = b"X-Hub-Signature-256: sha256=", path: str = "/in/in"
) -> bytes:
    return post(path, body, b"%b%b" % (header, hmac.digest(b"s3cret", body, "sha256").hex().encode()), *headers)


JSON = b"Content-Type: application/json"
GOCARDLESS = b"Webhook-Signature: "
ONE = b'{"channel": "a", "data": 1}'
CHOSEN = b'{"id": "e1", "channel": "a", "data": 1}'
#: Requests that are sent on one connection, one after another.
EXCHANGES: dict[str, list[bytes]] = {
    "an event": [post("/v1/events", ONE, JSON)],
    "a raw body": [post("/v1/channels/a", b"hello"), post("/v1/channels/a?type=b", b"\xff\x00")],
    "a channel that must be decoded": [post("/v1/channels/a%40b", b"hello")],
    "an id that is known": [post("/v1/events", CHOSEN, JSON)] * 2,
    "an idempotency key": [post("/v1/channels/a", b"x", b"Idempotency-Key: k")] * 2,
    "an id with other content": [post("/v1/events", CHOSEN, JSON), post("/v1/events", CHOSEN.replace(b"1}", b"2}"))],
    "an array": [post("/v1/events", b"[%b,%b]" % (ONE, ONE), JSON)],
    "lines": [post("/v1/events", ONE + b"\n" + ONE, b"Content-Type: application/x-ndjson")],
    "no JSON": [post("/v1/events", b"{", JSON)],
    "no channel": [post("/v1/events", b'{"data": 1}', JSON)],
    "an unknown field": [post("/v1/events", b'{"channel": "a", "data": 1, "x": 1}', JSON)],
    "a bad channel": [post("/v1/channels/a%00", b"x"), post("/v1/channels/hookbrook.ops", b"x")],
    "an unknown parameter": [post("/v1/channels/a?tpye=b", b"x")],
    "too much": [post("/v1/channels/a", b"x" * 3000)],
    "a type of media that is none of ours": [post("/v1/events", ONE, b"Content-Type: image/png")],
    "a foreign host": [post("/v1/events", ONE, JSON, host=b"Host: evil.example\r\n")],
    "no host": [post("/v1/events", ONE, JSON, host=b"")],
    "a foreign origin": [post("/v1/events", ONE, JSON, b"Origin: https://evil.example")],
    "a listed origin": [post("/v1/events", ONE, JSON, b"Origin: https://app.example")],
    "a bad key": [post("/v1/events", ONE, JSON, b"Authorization: Bearer hbk_x")],
    "two credentials": [post("/v1/events?token=x", ONE, JSON, b"Authorization: Bearer hbk_x")],
    "another method": [b"PUT /v1/events HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\n\r\n{}"],
    "another door": [post("/v1/tokens", b'{"subscribe": ["a*"], "x": 1}', JSON), post("/in/nobody", b"x")],
    "an announced body": [post("/v1/events", ONE, JSON, b"Expect: 100-continue")],
    "the end of a connection": [post("/v1/events", ONE, JSON, b"Connection: close")],
    "HTTP/1.0": [post("/v1/events", ONE, JSON).replace(b"HTTP/1.1", b"HTTP/1.0")],
    "chunks": [
        b"POST /v1/channels/a HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        post("/v1/channels/a", b"x"),
    ],
    "webhooks": [
        source("github"),
        *[webhook(b"{}", b"X-GitHub-Delivery: 1")] * 2,
        webhook(b"[1]", b"X-GitHub-Delivery: 2", b"Origin: https://evil.example"),
        webhook(b"[2]").replace(HOST, b"Host: hooks.example\r\n"),
        webhook(b"x" * 300_000),
    ],
    "webhooks that are refused": [
        source("github"),
        post("/in/in", b"{}"),
        webhook(b"{}").replace(b"\r\n\r\n{}", b"\r\n\r\n[]"),
        webhook(b"{}", path="/in/nobody"),
        webhook(b"{}", path="/in/"),
    ],
    "webhooks that are no single events": [
        source("gocardless"),
        webhook(b'{"events":[{"id":"1"},{"id":"2"}]}', header=b"Webhook-Signature: "),
        source("github", name="observed", enforce=False),
        post("/in/observed", b"{}"),
        source("meta", name="asked"),
        b"GET /in/asked?hub.mode=subscribe HTTP/1.1\r\n" + HOST + b"\r\n",
    ],
    "a broken body behind a good head": [
        b"POST /v1/channels/a HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"
    ],
}


@asynccontextmanager
async def serving(folder: Path, shortcut: Callable[[App], Shortcut | None]) -> AsyncIterator[Server]:
    folder.mkdir(exist_ok=True)  # noqa: ASYNC240 - nothing else runs yet
    settings = load({"dev": True, "max_event_bytes": 2000, "allowed_origins": "https://app.example"}, {}, folder)
    app = App(settings)
    server = Server(app, host="127.0.0.1", port=0, shortcut=shortcut(app))
    await server.bind()
    app.settings = replace(settings, port=server.port)
    await app.start()
    await server.start()
    try:
        yield server
    finally:
        await server.finish(2.0)
        await app.stop()


async def answers(server: Server, requests: list[bytes], *, packets: Callable[[bytes], list[bytes]]) -> list[bytes]:
    """What each request is answered, until the server ends the connection; what is a server's own is blanked."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    found = []
    async with asyncio.timeout(PATIENCE_S):
        for request in requests:
            for packet in packets(request):
                writer.write(packet)
                await writer.drain()
                await asyncio.sleep(0)
            if not (answer := await _answer(reader)):
                break
            # Whether the body is seen before or after an answer that needs none of it is a matter of chance.
            found.append(answer if len(packets(request)) == 1 else answer.replace(b"connection: close\r\n", b""))
        writer.write_eof()
        assert await reader.read() == b""
    writer.close()
    return [_blanked(answer) for answer in found]


def _blanked(answer: bytes) -> bytes:
    """Without what is a server's own. A time is as long as its fraction, and the body's length with it."""
    text = _OWN.sub(b"~", answer)
    return _LENGTH.sub(b"content-length: ~", text) if b'_at":"' in answer else text


async def _answer(reader: asyncio.StreamReader) -> bytes:
    """The next answer; empty if the connection has ended."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionResetError):
        return b""
    status = _HEAD.fullmatch(head)
    assert status is not None, head
    if status[1] == b"100":
        # RFC 9110 section 10.1.1: the invitation may be left out when the body has come already.
        return await _answer(reader)
    length = _LENGTH.search(head)
    return head + (await reader.readexactly(int(length[1])) if length else b"")


def whole(request: bytes) -> list[bytes]:
    return [request]


def head_first(request: bytes) -> list[bytes]:
    head, separator, body = request.partition(b"\r\n\r\n")
    return [head + separator, body]


@pytest.mark.parametrize("packets", [whole, head_first])
@pytest.mark.parametrize("requests", EXCHANGES.values(), ids=EXCHANGES.keys())
async def test_both_ways_answer_alike(
    tmp_path: Path, requests: list[bytes], packets: Callable[[bytes], list[bytes]]
) -> None:
    async with (
        serving(tmp_path / "short", lambda app: app.shortcut) as short,
        serving(tmp_path / "ordinary", lambda _: None) as ordinary,
    ):
        expected = await answers(ordinary, requests, packets=packets)
        assert await answers(short, requests, packets=packets) == expected
        assert len(expected) == len(requests)


async def test_a_single_event_that_came_whole_takes_the_short_way(tmp_path: Path) -> None:
    asked: list[Exchange] = []

    def short() -> list[bool]:
        return [exchange.task is None for exchange in asked]

    async with serving(tmp_path, lambda app: _noting(app, asked)) as server:
        for name, is_short in [("an event", True), ("a raw body", True), ("an array", False), ("no JSON", False)]:
            asked.clear()
            await answers(server, EXCHANGES[name][:1], packets=whole)
            assert short() == [is_short], name
        asked.clear()
        await answers(server, EXCHANGES["webhooks"][:3], packets=whole)
        assert short() == [False, True, True]


def _noting(app: App, asked: list[Exchange]) -> Shortcut:
    def shortcut(exchange: Exchange | Visitor) -> bool:
        assert isinstance(exchange, Exchange)
        asked.append(exchange)
        return app.shortcut(exchange)

    return shortcut


async def test_who_leaves_before_his_turn_is_not_asked_about_by_the_ordinary_way(tmp_path: Path) -> None:
    asked: list[Exchange] = []

    def leaving(app: App) -> Shortcut:
        noting = _noting(app, asked)

        def shortcut(exchange: Exchange | Visitor) -> bool:
            assert isinstance(exchange, Exchange)
            taken = noting(exchange)
            exchange._connection.transport.abort()
            exchange.lose()
            return taken

        return shortcut

    async with serving(tmp_path, leaving) as server:
        assert await answers(server, EXCHANGES["no JSON"], packets=whole) == []
    assert [exchange.task for exchange in asked] == [None]


class _Forgetful:
    """A door that takes events and then cannot say what became of them."""

    def __init__(self, door: Door) -> None:
        self.single = door.single

    def receipt(self, scope: Scope, result: Appended) -> tuple[int, bytes, bytes]:
        raise LookupError(result.id)


async def test_an_event_whose_receipt_fails_is_answered_by_a_500_as_on_the_ordinary_way(tmp_path: Path) -> None:
    def forgetful(app: App) -> Shortcut:
        def shortcut(exchange: Exchange | Visitor) -> bool:
            express = app._express
            assert express is not None
            if exchange.scope["path"] == "/v1/channels/a":
                return express(exchange)
            door = _Forgetful(express._publish)
            return Express(express._guard, door, door, express._streams, express._appender)(exchange)

        return shortcut

    requests = [
        post("/v1/channels/forgotten", b"1", b"Origin: https://app.example"),
        post("/v1/channels/a", b"2"),
    ]
    async with serving(tmp_path, forgetful) as server:
        failed, fine = await answers(server, requests, packets=whole)
    head, _, body = failed.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 500 ")
    assert b"access-control-allow-origin: https://app.example" in head
    assert json.loads(body)["status"] == 500
    assert fine.startswith(b"HTTP/1.1 201 ")


class _Unsure:
    """Appends, and does not learn whether it has."""

    def __init__(self, appender: Appender) -> None:
        self._appender = appender

    def begin(self, events: Sequence[NewEvent]) -> "asyncio.Future[list[Appended]] | None":
        begun = self._appender.begin(events)
        assert begun is not None
        begun.cancel()
        return begun


async def test_an_event_of_which_nobody_knows_whether_it_was_kept_is_answered_by_a_503_and_not_kept_twice(
    tmp_path: Path,
) -> None:
    def unsure(app: App) -> Shortcut:
        def shortcut(exchange: Exchange | Visitor) -> bool:
            express = app._express
            assert express is not None
            unsure = cast("Appender", _Unsure(express._appender))
            return Express(express._guard, express._publish, express._ingest, express._streams, unsure)(exchange)

        return shortcut

    async with serving(tmp_path, unsure) as server:
        (answer,) = await answers(server, [post("/v1/channels/a", b"1")], packets=whole)
        assert answer.startswith(b"HTTP/1.1 503 ")
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as http:
            history = (await http.get("/v1/channels/a")).json()
    assert [event["data"] for event in history["data"]] == [1]


@pytest.fixture
async def brook(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path) as brook:
        yield brook


async def test_pipelined_events_are_answered_in_their_order(brook: Running) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", brook.server.port)
    writer.write(b"".join(post("/v1/events", b'{"id": "e%d", "channel": "a", "data": 1}' % n) for n in range(50)))
    writer.write_eof()
    async with asyncio.timeout(PATIENCE_S):
        answered = await reader.read()
    writer.close()
    assert re.findall(rb'"id":"e(\d+)"', answered) == [b"%d" % n for n in range(50)]


async def test_who_does_not_read_gets_every_answer_in_the_end_and_no_event_twice(tmp_path: Path) -> None:
    waited: list[bool] = []

    def cramped(app: App) -> Shortcut:
        def shortcut(exchange: Exchange | Visitor) -> bool:
            assert isinstance(exchange, Exchange)
            connection = exchange._connection
            connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            waited.append(connection.flow.write_paused)
            return app.shortcut(exchange)

        return shortcut

    count = 800
    async with serving(tmp_path / "store", cramped) as server:
        narrow = socket.socket()
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        narrow.setblocking(False)
        await asyncio.get_running_loop().sock_connect(narrow, ("127.0.0.1", server.port))
        reader, writer = await asyncio.open_connection(sock=narrow, limit=4096)
        # So large that no packet holds more than may wait for their turn.
        requests = [post("/v1/channels/a", b"%d" % n, b"X: " + b"y" * 8000) for n in range(count)]
        writing = asyncio.create_task(_send(writer, requests))
        async with asyncio.timeout(PATIENCE_S):
            while True not in waited:  # noqa: ASYNC110 - the connection tells nobody that it has paused
                await asyncio.sleep(0.001)
        async with asyncio.timeout(PATIENCE_S):
            answered = await reader.read()
            await writing
        writer.close()
        seqs = [int(seq) for seq in re.findall(rb'"cursor":"[^-]*-(\d+)"', answered)]
        assert seqs == list(range(1, count + 1))


async def _send(writer: asyncio.StreamWriter, requests: list[bytes]) -> None:
    for request in requests:
        writer.write(request)
        await writer.drain()
    writer.write_eof()


async def test_an_event_whose_publisher_left_is_kept_all_the_same(brook: Running) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", brook.server.port)
    writer.write(post("/v1/channels/a", b"1"))
    await writer.drain()
    writer.transport.abort()
    async with asyncio.timeout(PATIENCE_S):
        while "hookbrook_events_total 1.0" not in (await brook.http.get("/metrics")).text:
            pass


async def test_routes_that_change_under_way_are_matched_again(tmp_path: Path) -> None:
    async with running(tmp_path, allow_networks="127.0.0.0/8") as brook:
        made = await asyncio.gather(
            *(brook.http.post("/v1/channels/a", content=str(n)) for n in range(20)),
            brook.http.post("/v1/endpoints", json={"url": "http://127.0.0.1:9/", "enabled": False}),
            *(brook.http.post("/v1/channels/a", content=str(n)) for n in range(20)),
        )
        assert {answer.status_code for answer in made} == {201}
        last = await brook.http.post("/v1/channels/a", content="last")
        owed = (await brook.http.get("/v1/deliveries", params={"event_id": last.json()["id"]})).json()
        assert [delivery["status"] for delivery in owed["data"]] == ["held"], json.dumps(owed)
