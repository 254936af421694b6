"""The protocol on real sockets, in raw bytes: what it lets through, what it refuses, and that it forgets nothing."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookbrook.http.accesslog import redacted
from hookbrook.http.limits import Limits
from hookbrook.http.problems import App, Receive, Scope, Send

if TYPE_CHECKING:
    from tests.http.conftest import Net, StandingLoop

Eventually = Callable[[Callable[[], bool]], Awaitable[None]]

HOST = b"Host: localhost\r\n"
POST = b"POST /x HTTP/1.1\r\n" + HOST
GET = b"GET /x HTTP/1.1\r\n" + HOST + b"\r\n"
CLOSED = b""


def with_length(body: bytes, *headers: bytes) -> bytes:
    lines = b"".join(header + b"\r\n" for header in headers)
    return POST + lines + b"Content-Length: %d\r\n\r\n" % len(body) + body


async def answer(send: Send, body: bytes, status: int = 200) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [length]})
    await send({"type": "http.response.body", "body": body})


# ---- what a request may look like


async def test_a_post_reaches_the_application_and_is_answered_with_date_and_without_server(
    net: "Net", echo: App
) -> None:
    response = await net.ask(await net.serve(echo), with_length(b"hello"))
    assert response.status == 200
    assert response.json()["body"] == "hello"
    assert response.header("date")
    assert response.header("server") is None


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/a%20b?c=d?e", "/a b", "c=d?e"),
        (b"//a/b", "//a/b", ""),
        (b"/a?b#c", "/a", "b"),
        (b"http://somewhere/a?b", "/a", "b"),
        (b"http://somewhere", "/", ""),
        (b"/%ff%fe", "/\ufffd\ufffd", ""),
    ],
)
async def test_a_target_is_split_into_path_and_query(
    net: "Net", echo: App, target: bytes, path: str, query: str
) -> None:
    response = await net.ask(await net.serve(echo), b"GET " + target + b" HTTP/1.1\r\n" + HOST + b"\r\n")
    assert (response.json()["path"], response.json()["query"]) == (path, query)


async def test_bytes_beyond_ascii_in_a_header_reach_the_application_as_they_are(net: "Net", echo: App) -> None:
    response = await net.ask(await net.serve(echo), with_length(b"", b"X-Name: J\xfcrgen \xc3\xa9 \xff"))
    assert ["x-name", "J\xfcrgen \xc3\xa9 \xff"] in response.json()["headers"]


async def test_a_request_that_comes_byte_by_byte_is_whole(net: "Net", echo: App) -> None:
    client = await net.connect(await net.serve(echo))
    request = POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    client.writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for index in range(len(request)):
        await client.send(request[index : index + 1])
        await asyncio.sleep(0)
    assert (await client.response()).json()["body"] == "abcde"


async def test_a_large_body_arrives_whole_and_in_order(net: "Net", echo: App) -> None:
    body = bytes(65 + index % 26 for index in range(3_000_000))
    response = await net.ask(await net.serve(echo), with_length(body))
    assert response.json()["body"] == body.decode()


async def test_trailers_do_not_reach_the_application_as_headers(net: "Net", echo: App) -> None:
    client = await net.connect(await net.serve(echo))
    await client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nAuthorization: forged\r\n\r\n" + GET)
    first = (await client.response()).json()
    assert first["body"] == "a"
    assert "authorization" not in dict(first["headers"])
    assert "authorization" not in dict((await client.response()).json()["headers"])


async def test_pipelined_requests_are_answered_in_order(net: "Net", echo: App) -> None:
    client = await net.connect(await net.serve(echo))
    await client.send(b"".join(with_length(b"%d" % number) for number in range(40)))
    assert [(await client.response()).json()["body"] for _ in range(40)] == [str(number) for number in range(40)]


async def test_endless_pipelining_is_refused_after_what_came_first(net: "Net", echo: App) -> None:
    client = await net.connect(await net.serve(echo, limits=Limits(pipelined=3)))
    await client.send(GET * 50)
    statuses = [(await client.response()).status for _ in range(5)]
    assert statuses == [200, 200, 200, 200, 429]
    assert await client.until_closed() == CLOSED


async def test_expect_100_continue_is_answered_when_the_body_is_wanted(net: "Net", echo: App) -> None:
    client = await net.connect(await net.serve(echo))
    await client.send(POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert (await client.response()).status == 100
    await client.send(b"hi")
    assert (await client.response()).json()["body"] == "hi"


async def test_a_refusal_before_100_continue_closes_the_connection(net: "Net") -> None:
    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, b"no", 401)

    client = await net.connect(await net.serve(refuse))
    await client.send(POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    response = await client.response()
    assert (response.status, response.header("connection")) == (401, "close")
    assert await client.until_closed() == CLOSED


async def test_an_answer_before_the_end_of_the_body_reaches_a_client_that_goes_on_sending(net: "Net") -> None:
    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, b"too large", 413)

    client = await net.connect(await net.serve(refuse))
    await client.send(POST + b"Content-Length: 8000000\r\n\r\n")
    await client.send(b"x" * 8_000_000)
    response = await client.response()
    assert (response.status, response.body, response.header("connection")) == (413, b"too large", "close")
    assert await client.until_closed() == CLOSED


# ---- upgrades

UPGRADES = [
    (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__"),
    (b"Connection: upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
]


@pytest.mark.parametrize("upgrade", UPGRADES)
async def test_an_upgrade_with_a_body_is_ignored_and_the_body_kept(
    net: "Net", echo: App, upgrade: tuple[bytes, ...]
) -> None:
    client = await net.connect(await net.serve(echo))
    await client.send(with_length(b"hello", *upgrade) + with_length(b"next"))
    first = await client.response()
    assert (first.status, first.json()["body"]) == (200, "hello")
    assert ["upgrade", upgrade[1].split(b": ")[1].decode()] in first.json()["headers"]
    assert (await client.response()).json()["body"] == "next"


@pytest.mark.parametrize("upgrade", UPGRADES)
async def test_an_upgrade_keeps_a_chunked_body_that_comes_in_later_packets(
    net: "Net", echo: App, upgrade: tuple[bytes, ...]
) -> None:
    client = await net.connect(await net.serve(echo))
    request = (
        POST + b"\r\n".join([*upgrade, b"Transfer-Encoding: chunked"]) + b"\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    )
    for start in range(0, len(request), 7):
        await client.send(request[start : start + 7])
        await asyncio.sleep(0.001)
    await client.send(GET)
    assert (await client.response()).json()["body"] == "abcde"
    assert (await client.response()).json()["method"] == "GET"


async def test_a_websocket_handshake_is_an_ordinary_get(net: "Net", echo: App) -> None:
    request = b"GET /ws HTTP/1.1\r\n" + HOST + b"\r\n".join(UPGRADES[1]) + b"\r\n\r\n"
    response = await net.ask(await net.serve(echo), request)
    assert (response.status, response.json()["path"]) == (200, "/ws")


async def test_hundreds_of_upgrades_in_one_packet_are_all_answered(net: "Net", echo: App) -> None:
    client = await net.connect(await net.serve(echo, limits=Limits(pipelined=1000)))
    await client.send(with_length(b"a", *UPGRADES[0]) * 400)
    for _ in range(400):
        assert (await client.response()).json()["body"] == "a"


async def test_connect_is_refused(net: "Net", echo: App) -> None:
    response = await net.ask(await net.serve(echo), b"CONNECT a.example:443 HTTP/1.1\r\n" + HOST + b"\r\n")
    assert response.status == 405


# ---- what is no request

CHUNKED = b"Transfer-Encoding: chunked"
MALFORMED = {
    "nonsense": b"nonsense\r\n\r\n",
    "TLS on the plain port": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "NUL in a value": with_length(b"", b"X: a\x00b"),
    "CR in a value": with_length(b"", b"X: a\rb"),
    "folded line": with_length(b"", b"X: a\r\n b"),
    "bare LF": b"GET / HTTP/1.1\nHost: a\n\n",
    "space before the colon": with_length(b"", b"X : a"),
    "no name": with_length(b"", b": a"),
    "bytes beyond ASCII in the target": b"GET /\xff HTTP/1.1\r\n\r\n",
    "target that is no URL": b"GET http://[a HTTP/1.1\r\n\r\n",
    "two lengths": with_length(b"ab", b"Content-Length: 2"),
    "two different lengths": with_length(b"ab", b"Content-Length: 3"),
    "list of lengths": POST + b"Content-Length: 2, 2\r\n\r\nab",
    "signed length": POST + b"Content-Length: +2\r\n\r\nab",
    "empty length": POST + b"Content-Length:\r\n\r\n",
    "overflowing length": POST + b"Content-Length: 99999999999999999999999\r\n\r\n",
    "length and chunks": with_length(b"0\r\n\r\n", CHUNKED),
    "chunks and length": POST + CHUNKED + b"\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "unknown coding last": with_length(b"", b"Transfer-Encoding: xchunked"),
    "coding with a control character": with_length(b"", b"Transfer-Encoding: \x0bchunked"),
    "two chunkeds": POST + CHUNKED + b"\r\n" + CHUNKED + b"\r\n\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": b"POST / HTTP/1.0\r\n" + CHUNKED + b"\r\n\r\n0\r\n\r\n",
    "size that is no number": POST + CHUNKED + b"\r\n\r\nzz\r\n",
    "chunk longer than its size": POST + CHUNKED + b"\r\n\r\n1\r\nab\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("request_bytes", MALFORMED.values(), ids=MALFORMED.keys())
async def test_a_malformed_request_is_a_problem_and_never_reaches_the_application(
    net: "Net", request_bytes: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    reached = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        reached.append(scope["path"])

    client = await net.connect(await net.serve(app))
    await client.send(request_bytes)
    response = await client.response()
    assert response.status == 400
    assert response.header("content-type") == "application/problem+json"
    assert response.header("connection") == "close"
    assert response.json()["type"] == "urn:hookbrook:problem:bad-request"
    assert await client.until_closed() == CLOSED
    assert reached == []
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/2.0\r\n\r\n", 505),
        (b"GET /\r\n\r\n", 505),
        (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    ],
)
async def test_what_is_valid_but_not_understood_says_so(
    net: "Net", echo: App, request_bytes: bytes, status: int
) -> None:
    response = await net.ask(await net.serve(echo), request_bytes)
    assert (response.status, response.json()["status"]) == (status, status)


async def test_a_malformed_request_waits_for_the_answer_before_it(net: "Net") -> None:
    go_on = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await go_on.wait()
        await answer(send, b"first")

    client = await net.connect(await net.serve(slow))
    await client.send(GET + b"nonsense\r\n\r\n")
    await asyncio.sleep(0.05)
    go_on.set()
    assert (await client.response()).body == b"first"
    assert (await client.response()).status == 400
    assert await client.until_closed() == CLOSED


async def test_a_body_that_turns_out_malformed_is_refused_and_the_application_told(
    net: "Net", eventually: Eventually
) -> None:
    received: list[str] = []

    async def read(scope: Scope, receive: Receive, send: Send) -> None:
        while not received or received[-1] == "http.request":
            received.append((await receive())["type"])
        await answer(send, b"never seen")

    client = await net.connect(await net.serve(read))
    await client.send(POST + CHUNKED + b"\r\n\r\n1\r\na\r\n")
    await eventually(lambda: bool(received))
    await client.send(b"zz\r\n")
    assert (await client.response()).status == 400
    assert await client.until_closed() == CLOSED
    assert received == ["http.request", "http.disconnect"]


async def test_others_are_served_while_one_sends_nonsense(net: "Net", echo: App) -> None:
    server = await net.serve(echo)
    bad, good = await net.connect(server), await net.connect(server)
    await bad.send(b"\x00" * 100)
    await good.send(GET)
    assert (await good.response()).status == 200
    assert (await bad.response()).status == 400


# ---- sizes


@pytest.mark.parametrize("pieces", [1, 5])
async def test_a_head_up_to_its_limit_passes_and_above_is_431(net: "Net", echo: App, pieces: int) -> None:
    server = await net.serve(echo)
    for padding, status in ((31_000, 200), (33_000, 431)):
        lines = b"".join(b"X-%d: " % index + b"a" * (padding // 10) + b"\r\n" for index in range(10))
        request = POST + lines + b"Content-Length: 0\r\n\r\n"
        client = await net.connect(server)
        step = len(request) // pieces + 1
        for start in range(0, len(request), step):
            await client.send(request[start : start + step])
            await asyncio.sleep(0.005)
        response = await client.response()
        assert response.status == status


async def test_the_tail_of_a_large_body_does_not_count_to_the_next_head(net: "Net", echo: App) -> None:
    client = await net.connect(await net.serve(echo))
    next_head = POST + b"X: " + b"a" * 20_000 + b"\r\nContent-Length: 0\r\n\r\n"
    await client.send(with_length(b"b" * 200_000) + next_head[:15_000])
    assert len((await client.response()).json()["body"]) == 200_000
    await client.send(next_head[15_000:])
    assert (await client.response()).status == 200


async def test_each_head_is_measured_on_its_own(net: "Net", echo: App) -> None:
    client = await net.connect(await net.serve(echo))
    request = POST + b"X: " + b"a" * 30_000 + b"\r\nContent-Length: 0\r\n\r\n"
    for packet in (request[:10_000], request[10_000:] + request[:12_000], request[12_000:24_000], request[24_000:]):
        await client.send(packet)
        await asyncio.sleep(0.02)
    assert [(await client.response()).status for _ in range(2)] == [200, 200]


async def test_ten_thousand_headers_are_refused(net: "Net", echo: App) -> None:
    response = await net.ask(await net.serve(echo), POST + b"a:b\r\n" * 10_000 + b"\r\n")
    assert response.status == 431
    assert response.json()["limit"] == 128


async def test_a_url_above_its_limit_is_414(net: "Net", echo: App) -> None:
    server = await net.serve(echo)
    for length, status in ((8_000, 200), (9_000, 414), (100_000, 414)):
        request = b"GET /" + b"a" * length + b" HTTP/1.1\r\n" + HOST + b"\r\n"
        assert (await net.ask(server, request)).status == status


ENDLESS = {
    "many headers": (POST, b"X-Header: some value\r\n" * 3000),
    "one header": (POST + b"X: ", b"a" * 65536),
    "one name": (POST, b"a" * 65536),
    "one URL": (b"GET /", b"a" * 65536),
    "trailers": (POST + CHUNKED + b"\r\n\r\n0\r\n", b"X-Trailer: some value\r\n" * 3000),
    "one trailer": (POST + CHUNKED + b"\r\n\r\n0\r\nX: ", b"a" * 65536),
    "one chunk extension": (POST + CHUNKED + b"\r\n\r\n1;", b"a" * 65536),
}


@pytest.mark.parametrize(("start", "more"), ENDLESS.values(), ids=ENDLESS.keys())
async def test_a_hundred_megabytes_of_head_are_refused_early_and_never_kept(
    net: "Net", echo: App, start: bytes, more: bytes, resident_bytes: Callable[[], int]
) -> None:
    client = await net.connect(await net.serve(echo))
    # Reads while we send: once a send has failed, asyncio's reader gives away no more of what it holds.
    answered = asyncio.create_task(client.response())
    before = peak = resident_bytes()
    await client.send(start)
    sent = 0
    try:
        while sent < 100_000_000:
            await client.send(more)
            sent += len(more)
            peak = max(peak, resident_bytes())
    except ConnectionError:
        pass  # the server has waited long enough
    assert peak - before < 8_000_000
    assert (await answered).status in (414, 431)


@pytest.mark.parametrize("more", [b"", b"Connection: close\r\n"], ids=["kept alive", "closing"])
@pytest.mark.parametrize("in_pieces", [False, True], ids=["at once", "in pieces"])
async def test_a_client_that_takes_nothing_of_its_answer_is_cut_off(
    net: "Net", eventually: Eventually, more: bytes, in_pieces: bool
) -> None:
    ended = asyncio.Event()

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(100 if in_pieces else 1):
            await send(
                {"type": "http.response.body", "body": bytes(80_000 if in_pieces else 8_000_000), "more_body": True}
            )
        await send({"type": "http.response.body", "body": b""})
        ended.set()

    server = await net.serve(app, limits=Limits(stalled_s=0.2))
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", server.port))
        client.sendall(b"GET /x HTTP/1.1\r\n" + HOST + more + b"\r\n")
        await eventually(lambda: server.connections == 1)
        await eventually(lambda: server.connections == 0)
        await eventually(ended.is_set)


async def test_a_client_that_takes_its_answer_slowly_gets_all_of_it(
    net: "Net", standing: "StandingLoop", eventually: Eventually
) -> None:
    size = 8_000_000

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await answer(send, bytes(size))

    server = await net.serve_standing(app, standing, limits=Limits(stalled_s=1.0))
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        client.setblocking(False)
        await loop.sock_connect(client, ("127.0.0.1", server.port))
        await loop.sock_sendall(client, b"GET /x HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
        await eventually(lambda: server.unsent > 0)
        read = looks = 0
        while unsent := server.unsent:
            while server.unsent == unsent:
                read += len(await loop.sock_recv(client, 64 * 1024))
                await asyncio.sleep(0)
            # It has taken something since the last look, each of which comes a second after the one before.
            standing.advance(1.0)
            looks += 1
        while piece := await loop.sock_recv(client, 64 * 1024):
            read += len(piece)
    assert read > size
    assert looks > 3


# ---- time

HURRY = Limits(head_s=0.2, keep_alive_s=0.2, body_grace_s=0.2, body_idle_s=0.4, body_rate=1000.0, linger_s=0.2)


async def test_a_connection_that_never_says_a_word_is_closed_without_one(net: "Net", echo: App) -> None:
    client = await net.connect(await net.serve(echo, limits=HURRY))
    assert await client.until_closed() == CLOSED


async def test_an_idle_connection_is_closed_after_its_time(net: "Net", echo: App, standing: "StandingLoop") -> None:
    server = await net.serve_standing(echo, standing, limits=Limits(head_s=1.0, keep_alive_s=30.0))
    client = await net.connect(server)
    await client.send(GET)
    assert (await client.response()).header("connection") is None
    standing.advance(29.0)
    await client.send(GET)
    assert (await client.response()).header("connection") is None
    standing.advance(30.0)
    assert await client.until_closed() == CLOSED


async def test_a_kept_alive_connection_is_not_closed_before_its_time(
    net: "Net", echo: App, standing: "StandingLoop"
) -> None:
    server = await net.serve_standing(echo, standing, limits=Limits(head_s=1.0, keep_alive_s=30.0))
    client = await net.connect(server)
    for _ in range(4):
        await client.send(GET)
        assert (await client.response()).status == 200
        standing.advance(29.0)


async def test_a_slow_head_is_408_however_lively_it_trickles(net: "Net", echo: App) -> None:
    client = await net.connect(await net.serve(echo, limits=HURRY))
    await client.send(POST)
    for _ in range(100):
        await client.send(b"a")
        await asyncio.sleep(0.01)
        if client.has_answer():
            break
    else:
        pytest.fail("it was not refused while it trickled")
    assert (await client.response()).status == 408
    assert await client.until_closed() == CLOSED


async def test_a_slow_head_on_a_kept_alive_connection_is_408_too(
    net: "Net", echo: App, standing: "StandingLoop"
) -> None:
    server = await net.serve_standing(echo, standing, limits=Limits(head_s=1.0, keep_alive_s=30.0))
    client = await net.connect(server)
    await client.send(GET)
    assert (await client.response()).status == 200
    await client.send(b"GET /")
    await standing.advance_until(client.has_answer, most=20.0)
    assert (await client.response()).status == 408


async def test_empty_lines_do_not_keep_an_idle_connection_open(net: "Net", echo: App) -> None:
    client = await net.connect(await net.serve(echo, limits=HURRY))
    for _ in range(100):
        if not client.writer.is_closing():
            client.writer.write(b"\r\n")
        await asyncio.sleep(0.01)
    assert await client.until_closed() == CLOSED
    assert client.writer.is_closing()


async def test_a_body_that_trickles_below_the_rate_is_408(net: "Net", echo: App) -> None:
    client = await net.connect(await net.serve(echo, limits=HURRY))
    await client.send(POST + b"Content-Length: 10000\r\n\r\n")
    for _ in range(100):
        await client.send(b"a")
        await asyncio.sleep(0.01)
        if client.has_answer():
            break
    else:
        pytest.fail("it was not refused while it trickled")
    response = await client.response()
    assert response.status == 408
    assert await client.until_closed() == CLOSED


class Reading:
    """Reads the body as it comes, and answers with its size."""

    def __init__(self) -> None:
        self.size = 0

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        more = True
        while more:
            message = await receive()
            self.size += len(message["body"])
            more = message["more_body"]
        await answer(send, b"%d" % self.size)


async def test_a_body_above_the_rate_may_take_its_time(
    net: "Net", standing: "StandingLoop", eventually: Eventually
) -> None:
    app = Reading()
    client = await net.connect(await net.serve_standing(app, standing, limits=HURRY))
    await client.send(POST + b"Content-Length: 4000\r\n\r\n")
    for count in range(1, 41):
        await client.send(b"a" * 100)
        await eventually(lambda sent=100 * count: app.size == sent)  # type: ignore[misc]
        standing.advance(0.095)
    assert (await client.response()).body == b"4000"


async def test_a_body_that_stalls_after_a_burst_is_408(net: "Net", echo: App) -> None:
    client = await net.connect(await net.serve(echo, limits=HURRY))
    await client.send(POST + b"Content-Length: 1000000\r\n\r\n" + b"a" * 500_000)
    assert (await client.response()).status == 408


async def test_an_ndjson_body_may_trickle_as_long_as_it_goes_on(
    net: "Net", standing: "StandingLoop", eventually: Eventually
) -> None:
    app = Reading()
    client = await net.connect(await net.serve_standing(app, standing, limits=HURRY))
    await client.send(POST + b"Content-Type: application/x-NDJSON; charset=utf-8\r\n" + CHUNKED + b"\r\n\r\n")
    for count in range(1, 11):
        await client.send(b"1\r\n1\r\n")
        await eventually(lambda sent=count: app.size == sent)  # type: ignore[misc]
        standing.advance(0.39)
    await client.send(b"0\r\n\r\n")
    assert (await client.response()).body == b"10"


async def test_an_ndjson_body_that_falls_silent_is_408(net: "Net", echo: App) -> None:
    client = await net.connect(await net.serve(echo, limits=HURRY))
    await client.send(POST + b"Content-Type: application/x-ndjson\r\n" + CHUNKED + b"\r\n\r\n1\r\n1\r\n")
    assert (await client.response()).status == 408


class Sleepy:
    """Sleeps until it is woken, once a first piece of body has come if it is to wait for one, and then reads."""

    def __init__(self, *, first: bool = False) -> None:
        self._first = first
        self.sleeps = asyncio.Event()
        self.wake = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        size = len((await receive())["body"]) if self._first else 0
        self.sleeps.set()
        await self.wake.wait()
        reading = Reading()
        reading.size = size
        await reading(scope, receive, send)


async def test_a_client_is_not_blamed_while_we_do_not_read(
    net: "Net", standing: "StandingLoop", eventually: Eventually
) -> None:
    app = Sleepy(first=True)
    server = await net.serve_standing(app, standing, limits=HURRY)
    client = await net.connect(server)
    client.writer.write(with_length(b"a" * 6_000_000))
    await app.sleeps.wait()
    await eventually(lambda: server.is_paused)
    standing.advance(5.0)
    app.wake.set()
    assert (await client.response()).body == b"6000000"


async def test_a_client_is_not_blamed_while_it_waits_for_100_continue(net: "Net", standing: "StandingLoop") -> None:
    app = Sleepy()
    client = await net.connect(await net.serve_standing(app, standing, limits=HURRY))
    await client.send(POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    await app.sleeps.wait()
    standing.advance(5.0)
    app.wake.set()
    assert (await client.response()).status == 100
    await client.send(b"hi")
    assert (await client.response()).body == b"2"


async def test_a_slow_application_is_not_timed_out(net: "Net", standing: "StandingLoop") -> None:
    app = Sleepy()
    client = await net.connect(await net.serve_standing(app, standing, limits=HURRY))
    await client.send(GET)
    await app.sleeps.wait()
    standing.advance(60.0)
    app.wake.set()
    assert (await client.response()).body == b"0"


# ---- responses


async def stream(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    for piece in (b"one ", b"two ", b"", b"three"):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def test_a_stream_is_chunked_and_the_connection_goes_on(net: "Net") -> None:
    client = await net.connect(await net.serve(stream))
    for _ in range(2):
        await client.send(GET)
        response = await client.response()
        assert response.header("transfer-encoding") == "chunked"
        assert response.body == b"one two three"


@pytest.mark.parametrize("keep_alive", [b"", b"Connection: keep-alive\r\n"])
async def test_a_stream_to_a_client_of_http_1_0_is_not_chunked_and_ends_with_the_connection(
    net: "Net", keep_alive: bytes
) -> None:
    client = await net.connect(await net.serve(stream))
    await client.send(b"GET / HTTP/1.0\r\n" + keep_alive + b"\r\n")
    head, _, body = (await client.until_closed()).partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert b"connection: close" in head
    assert body == b"one two three"


async def test_an_error_within_a_stream_to_http_1_0_does_not_look_like_its_end(net: "Net") -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        await asyncio.sleep(0.02)
        raise RuntimeError("secret")

    client = await net.connect(await net.serve(broken))
    await client.send(b"GET / HTTP/1.0\r\n\r\n")
    with pytest.raises(ConnectionResetError):
        await client.read_all()


async def test_an_error_within_a_stream_leaves_it_without_its_last_chunk(net: "Net") -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError("secret")

    client = await net.connect(await net.serve(broken))
    await client.send(GET)
    assert (await client.until_closed()).endswith(b"4\r\nhalf\r\n")


async def test_an_error_before_the_response_is_a_bare_500(net: "Net") -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("secret")

    response = await net.ask(await net.serve(broken), GET)
    assert response.status == 500
    assert response.header("content-type") == "application/problem+json"
    assert b"secret" not in response.body


async def test_an_application_that_says_nothing_is_a_500(net: "Net") -> None:
    async def mute(scope: Scope, receive: Receive, send: Send) -> None:
        return

    assert (await net.ask(await net.serve(mute), GET)).status == 500


@pytest.mark.parametrize("value", [b"a\r\nset-cookie: b", b"a\nb", b"a\rb", b"a\x00b"])
async def test_a_response_header_cannot_be_split(net: "Net", value: bytes) -> None:
    async def splits(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x", value)]})
        await send({"type": "http.response.body"})

    response = await net.ask(await net.serve(splits), GET)
    assert response.status == 500
    assert response.header("set-cookie") is None


@pytest.mark.parametrize("body", [b"abc", b"abcde"])
async def test_a_body_of_another_length_than_announced_is_cut(net: "Net", body: bytes) -> None:
    async def lies(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": body})

    client = await net.connect(await net.serve(lies))
    await client.send(GET)
    assert (await client.until_closed()).endswith(b"\r\n\r\n")


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
async def test_a_response_without_a_body_has_none_on_the_wire(net: "Net", method: str, status: int) -> None:
    async def talks(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"unwanted"})

    client = await net.connect(await net.serve(talks))
    request = method.encode() + b" / HTTP/1.1\r\n" + HOST + b"\r\n"
    for _ in range(2):
        await client.send(request)
        response = await client.response(to_head=True)
        assert (response.status, response.header("transfer-encoding")) == (status, None)


async def test_a_client_that_stops_sending_still_gets_its_answers(net: "Net") -> None:
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0.1)
        await answer(send, scope["path"].encode())

    server = await net.serve(slow)
    one, several = await net.connect(server), await net.connect(server)
    await one.send(b"GET /a HTTP/1.1\r\n" + HOST + b"\r\n")
    one.writer.write_eof()
    response = await one.response()
    assert (response.body, response.header("connection")) == (b"/a", "close")
    assert await one.until_closed() == CLOSED
    await several.send(b"GET /a HTTP/1.1\r\n" + HOST + b"\r\nGET /b HTTP/1.1\r\n" + HOST + b"\r\n")
    several.writer.write_eof()
    assert [(await several.response()).body for _ in range(2)] == [b"/a", b"/b"]
    assert await several.until_closed() == CLOSED


@pytest.mark.parametrize("how", ["fin", "reset"])
async def test_a_reader_that_leaves_its_stream_is_noticed(net: "Net", eventually: Eventually, how: str) -> None:
    left = asyncio.Event()

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"hello", "more_body": True})
        assert (await receive())["type"] == "http.disconnect"
        await send({"type": "http.response.body", "body": b"into the void", "more_body": True})
        left.set()

    server = await net.serve(endless)
    client = await net.connect(server)
    await client.send(GET)
    await client.reader.readuntil(b"hello")
    if how == "reset":
        client.reset()
    else:
        await client.close()
    async with asyncio.timeout(5):
        await left.wait()
    await eventually(lambda: server.connections == 0)


async def test_a_request_that_waits_behind_a_stream_is_forgotten_with_its_connection(
    net: "Net", eventually: Eventually
) -> None:
    paths = []

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        paths.append(scope["path"])
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass

    server = await net.serve(endless)
    client = await net.connect(server)
    await client.send(GET + b"GET /second HTTP/1.1\r\n" + HOST + b"\r\n")
    await client.reader.readuntil(b"x\r\n")
    await client.close()
    await eventually(lambda: server.connections == 0)
    assert paths == ["/x"]


# ---- the access log


async def test_one_line_is_logged_a_request_and_no_token_in_it(
    net: "Net", echo: App, caplog: pytest.LogCaptureFixture, eventually: Eventually
) -> None:
    caplog.set_level(logging.INFO, "hookbrook.access")
    client = await net.connect(await net.serve(echo))
    await client.send(b"GET /v1/stream?channel=a.b&token=eyJsecret&%74oken=eyJsecret HTTP/1.1\r\n" + HOST + b"\r\n")
    response = await client.response()
    await client.send(b"GET /?token=eyJsecret&" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n")
    assert (await client.response()).status == 414
    first, second = [record for record in caplog.records if record.name == "hookbrook.access"]
    assert "eyJsecret" not in caplog.text
    assert "/v1/stream?channel=a.b&token=***&%74oken=***" in first.getMessage()
    fields = vars(first)
    assert (fields["method"], fields["status"], fields["bytes"]) == ("GET", 200, len(response.body))
    assert fields["client"].startswith("127.0.0.1:")
    assert fields["duration_ms"] >= 0
    assert vars(second)["status"] == 414


async def test_a_stream_that_its_reader_leaves_is_logged_too(
    net: "Net", caplog: pytest.LogCaptureFixture, eventually: Eventually
) -> None:
    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass

    caplog.set_level(logging.INFO, "hookbrook.access")
    client = await net.connect(await net.serve(endless))
    await client.send(GET)
    await client.reader.readuntil(b"x\r\n")
    await client.close()
    await eventually(lambda: len(caplog.records) == 1)
    assert vars(caplog.records[0])["status"] == 200


async def test_nothing_is_logged_unless_it_is_asked_for(
    net: "Net", echo: App, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "hookbrook.access")
    assert (await net.ask(await net.serve(echo), GET)).status == 200
    assert caplog.records == []


@given(st.from_regex(r"[A-Za-z_%+]{0,9}", fullmatch=True), st.from_regex(r"[A-Za-z0-9._=?-]{12,40}", fullmatch=True))
def test_only_values_of_known_parameters_are_shown(name: str, secret: str) -> None:
    line = redacted(f"channel=a&{name}={secret}&last=3".encode())
    known = name in {"type", "page", "last", "limit", "after", "since", "event", "format", "status", "tenant"}
    known |= name in {"channel", "close", "control", "endpoint", "source"}
    assert known or secret.encode() not in line
    assert line.startswith(b"channel=a&")
    assert line.endswith(b"&last=3")


def test_a_value_in_the_place_of_a_name_is_hidden() -> None:
    assert redacted(b"eyJhbGciOiJIUzI1NiJ9.e30.x") == b"***"
    assert redacted(b"eyJhbGciOiJIUzI1NiJ9.e30.x=") == b"***=***"
    assert redacted(b"after=1?token=secret") == b"after=***"
