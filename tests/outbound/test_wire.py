"""What receivers may answer and what is made of it; each answer also comes byte by byte, and the next is waited for."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from hookbrook.core.addresses import parse_rules
from hookbrook.core.fetch import BadResponse, ConnectTimeout, HeadersTooLarge, Reset, Unsendable
from hookbrook.outbound import fetch
from hookbrook.outbound.fetch import GuardedClient, Request, Response

from .conftest import Certificates, Names, Peer, Receiver, Serve, until

OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture
async def client() -> AsyncIterator[GuardedClient]:
    async with GuardedClient(allowed=parse_rules(["127.0.0.1/32"])) as client:
        yield client


async def answering(serve: Serve, *answers: bytes, split: bool = False, end: bool = False) -> Receiver:
    """A receiver that gives these answers on each connection, and then ends it or waits."""

    async def handler(peer: Peer) -> None:
        for answer in answers:
            await peer.request()
            for piece in [bytes([byte]) for byte in answer] if split else [answer]:
                await peer.write(piece)
                if split:
                    await asyncio.sleep(0)
        if not end:
            await peer.reader.read()

    return await serve(handler)


async def send(client: GuardedClient, receiver: Receiver, **fields: object) -> Response:
    return await client.send(Request(url=receiver.url, body=b"x", total_timeout_s=5, **fields))  # type: ignore[arg-type]


WHOLE = {
    "length": (OK + b"content-length: 5\r\n\r\nhello", b"hello"),
    "chunks": (OK + b"transfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", b"hello"),
    "chunk extension": (OK + b"transfer-encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n", b"hello"),
    "trailers": (OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-late: 1\r\n\r\n", b"hello"),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    "not modified with a length": (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", b""),
    "continue first": (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"content-length: 2\r\n\r\nok", b"ok"),
    "early hints first": (
        b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * 3 + OK + b"content-length: 2\r\n\r\nok",
        b"ok",
    ),
    "bare line feeds": (b"HTTP/1.1 200 OK\ncontent-length: 2\n\nok", b"ok"),
    "no reason": (b"HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nok", b"ok"),
    "odd characters in a header": (OK + b"x: a\x01\0\xff\r\ncontent-length: 2\r\n\r\nok", b"ok"),
    "folded header": (OK + b"x: a\r\n b\r\ncontent-length: 2\r\n\r\nok", b"ok"),
    "HTTP/1.0 that stays": (b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok", b"ok"),
}


@pytest.mark.parametrize("split", [False, True], ids=["at once", "byte by byte"])
@pytest.mark.parametrize("name", WHOLE)
async def test_an_answer_that_ends_by_itself_is_whole_and_leaves_its_connection_for_the_next(
    serve: Serve, client: GuardedClient, name: str, split: bool
) -> None:
    answer, body = WHOLE[name]
    receiver = await answering(serve, answer, answer, split=split)
    for _ in range(2):
        response = await send(client, receiver)
        assert (response.body, response.truncated) == (body, False)
        assert 200 <= response.status < 400
        assert response.header("link") is None
        assert response.header("x-late") is None
    assert receiver.connections == 1


CLOSING = {
    "body until the end": (OK + b"\r\nhello", b"hello"),
    "another coding than chunks": (OK + b"transfer-encoding: chunked, gzip\r\n\r\nhello", b"hello"),
    "asked to close": (OK + b"connection: close\r\ncontent-length: 5\r\n\r\nhello", b"hello"),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello", b"hello"),
    "HTTP/1.0 until the end": (b"HTTP/1.0 200 OK\r\n\r\nhello", b"hello"),
    "more than asked for": (OK + b"content-length: 5\r\n\r\nhello" + OK + b"content-length: 5\r\n\r\nfalse", b"hello"),
    "rubbish behind": (OK + b"content-length: 5\r\n\r\nhelloSSH-2.0-OpenSSH\r\n", b"hello"),
}


@pytest.mark.parametrize("name", CLOSING)
async def test_an_answer_after_which_nothing_may_follow_is_whole_and_its_connection_is_not_used_again(
    serve: Serve, client: GuardedClient, name: str
) -> None:
    answer, body = CLOSING[name]
    receiver = await answering(serve, answer, end="end" in name or "coding" in name)
    for _ in range(2):
        response = await send(client, receiver)
        assert (response.status, response.body, response.truncated) == (200, body, False)
    assert receiver.connections == 2


CUT = {
    "in the head": OK + b"content-le",
    "in a body with a length": OK + b"content-length: 9\r\n\r\nabc",
    "in a chunk": OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhe",
    "before the last chunk": OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "after an interim answer": b"HTTP/1.1 100 Continue\r\n\r\n",
}


@pytest.mark.parametrize("name", CUT)
async def test_an_answer_that_is_cut_off_is_a_reset_and_not_an_answer(
    serve: Serve, client: GuardedClient, name: str
) -> None:
    receiver = await answering(serve, CUT[name], end=True)
    with pytest.raises(Reset):
        await send(client, receiver)
    assert receiver.connections == 1


BAD = {
    "two lengths": OK + b"content-length: 2\r\ncontent-length: 3\r\n\r\nabc",
    "length and chunks": OK + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "negative length": OK + b"content-length: -1\r\n\r\n",
    "length beyond all bounds": OK + b"content-length: 99999999999999999999999\r\n\r\n",
    "chunk size beyond all bounds": OK + b"transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
    "another version": b"HTTP/3.0 200 OK\r\n\r\n",
    "no status": b"HTTP/1.1  \r\n\r\n",
    "a request": b"POST / HTTP/1.1\r\n\r\n",
    "TLS": b"\x15\x03\x01\x00\x02\x02\x16",
}


@pytest.mark.parametrize("name", BAD)
async def test_what_could_be_read_in_two_ways_or_in_none_is_a_bad_response(
    serve: Serve, client: GuardedClient, name: str
) -> None:
    receiver = await answering(serve, BAD[name])
    with pytest.raises(BadResponse):
        await send(client, receiver)
    assert receiver.connections == 1


ENDLESS = {
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "one header": (OK + b"x: ", b"a" * 1000),
    "one reason": (b"HTTP/1.1 200 ", b"a" * 1000),
    "empty lines": (b"", b"\r\n" * 500),
    "trailers": (OK + b"transfer-encoding: chunked\r\n\r\n0\r\n", b"x: y\r\n"),
    "one trailer": (OK + b"transfer-encoding: chunked\r\n\r\n0\r\nx: ", b"a" * 1000),
    "one chunk extension": (OK + b"transfer-encoding: chunked\r\n\r\n5;", b"a" * 1000),
}


@pytest.mark.parametrize("name", ENDLESS)
async def test_what_never_comes_to_the_body_is_refused_long_before_the_time_is_over(
    serve: Serve, client: GuardedClient, name: str
) -> None:
    begin, again = ENDLESS[name]

    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.write(begin)
        while True:
            await peer.write(again * 100)

    receiver = await serve(handler)
    with pytest.raises(HeadersTooLarge):
        await client.send(Request(url=receiver.url, total_timeout_s=60))


async def test_a_body_in_chunks_of_one_byte_is_no_head_that_is_too_large(serve: Serve, client: GuardedClient) -> None:
    size = 16 * 1024
    receiver = await answering(serve, OK + b"transfer-encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * size + b"0\r\n\r\n")
    response = await send(client, receiver)
    assert (len(response.body), response.truncated) == (size, False)


async def test_a_head_has_no_body_whatever_length_it_tells(serve: Serve, client: GuardedClient) -> None:
    receiver = await answering(serve, OK + b"content-length: 1000\r\n\r\n")
    response = await client.send(Request(method="HEAD", url=receiver.url, total_timeout_s=5))
    assert (response.status, response.body, response.truncated) == (200, b"", False)


async def test_an_answer_to_half_a_request_is_taken_and_its_connection_closed(
    serve: Serve, client: GuardedClient
) -> None:
    async def handler(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.write(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n")
        await refused.wait()

    refused = asyncio.Event()
    receiver = await serve(handler)
    for _ in range(2):
        response = await client.send(Request(url=receiver.url, body=bytes(50_000_000), total_timeout_s=10))
        assert response.status == 413
    refused.set()
    assert receiver.connections == 2


async def test_connections_that_nobody_needs_end_after_a_while(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "IDLE_S", 0.1)
    receiver = await serve()
    async with GuardedClient(allowed=parse_rules(["127.0.0.1/32"])) as client:
        await asyncio.gather(*[client.send(Request(url=receiver.url)) for _ in range(3)])
        await until(lambda: receiver.ended == receiver.connections)


async def test_the_connection_that_has_waited_longest_makes_room_for_another(serve: Serve) -> None:
    first, second = await serve(), await serve()
    async with GuardedClient(allowed=parse_rules(["127.0.0.1/32"]), pool=1) as client:
        for receiver in (first, second, second, first):
            await client.send(Request(url=receiver.url))
        assert (first.connections, second.connections) == (2, 1)


async def test_a_handshake_that_does_not_end_is_a_connection_that_is_not_made(
    serve: Serve, client: GuardedClient
) -> None:
    async def mute(peer: Peer) -> None:
        await peer.reader.read()

    receiver = await serve(mute)
    with pytest.raises(ConnectTimeout):
        await client.send(Request(url=f"https://127.0.0.1:{receiver.port}/", connect_timeout_s=0.1))
    await until(lambda: receiver.ended == 1)


async def test_a_tls_connection_is_used_again(serve: Serve, certificates: Certificates) -> None:
    receiver = await serve(tls=certificates.server)
    names = Names(receiver=[["127.0.0.1"]])
    async with GuardedClient(
        allowed=parse_rules(["127.0.0.1/32"]), resolver=names, ssl_context=certificates.client
    ) as client:
        request = Request(url=f"https://receiver.test:{receiver.port}/", body=bytes(200_000))
        responses = [await client.send(request) for _ in range(3)]
    assert receiver.connections == 1
    assert [len(arrived.body) for arrived in receiver.requests] == [200_000] * 3
    assert [response.timing.tls is None for response in responses] == [False, True, True]


async def test_a_name_is_asked_for_once_and_its_addresses_serve_for_a_while(serve: Serve) -> None:
    receiver = await serve()
    names = Names(receiver=[["127.0.0.1"]])
    async with GuardedClient(allowed=parse_rules(["127.0.0.1/32"]), resolver=names, pool=0) as client:
        request = Request(url=f"http://receiver.test:{receiver.port}/")
        await asyncio.gather(*[client.send(request) for _ in range(20)])
        await client.send(request)
    assert names.asked == ["receiver.test"]
    assert receiver.connections == 21


@pytest.mark.parametrize("name", ["Host", "content-length", "Transfer-Encoding", "connection", "a b", "", "a:b", "ä"])
async def test_a_header_that_frames_the_message_or_has_no_name_is_not_sent(
    serve: Serve, client: GuardedClient, name: str
) -> None:
    receiver = await serve()
    with pytest.raises(Unsendable) as caught:
        await client.send(Request(url=receiver.url, headers={name: "1"}))
    assert caught.value.code == "bad_request"
    assert receiver.connections == 0


@pytest.mark.parametrize("method", ["PO ST", "GET / HTTP/1.1\r\nx: y\r\n\r\nGET", ""])
async def test_a_method_that_would_be_more_is_not_sent(serve: Serve, client: GuardedClient, method: str) -> None:
    receiver = await serve()
    with pytest.raises(Unsendable):
        await client.send(Request(method=method, url=receiver.url))
    assert receiver.connections == 0


async def test_a_header_of_the_request_is_sent_once_whatever_its_case(serve: Serve, client: GuardedClient) -> None:
    receiver = await serve()
    await client.send(Request(url=receiver.url, headers={"User-Agent": "mine", "accept": "text/plain"}))
    (arrived,) = receiver.requests
    names = [name.lower() for name, _ in arrived.headers]
    assert sorted(names) == ["accept", "accept-encoding", "content-length", "host", "user-agent"]
    assert arrived.header("user-agent") == "mine"
    assert arrived.header("content-length") == "0"


async def test_a_closed_client_ends_what_is_under_way(serve: Serve) -> None:
    async def mute(peer: Peer) -> None:
        await peer.request()
        await peer.reader.read()

    receiver = await serve(mute)
    client = GuardedClient(allowed=parse_rules(["127.0.0.1/32"]))
    await client.start()
    sent = asyncio.create_task(client.send(Request(url=receiver.url)))
    await until(lambda: receiver.connections == 1)
    await client.close()
    with pytest.raises(Reset):
        await sent
