"""Each trap of the client is sprung once, by a receiver that speaks raw TCP on loopback."""

import asyncio
import gzip
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address

import msgspec
import pytest
from cryptography import x509

from hookbrook.core.addresses import parse_rules
from hookbrook.core.fetch import (
    BadResponse,
    Blocked,
    ConnectRefused,
    ConnectTimeout,
    DnsFailed,
    HeadersTooLarge,
    LocalFault,
    NoAnswer,
    NotSent,
    Reset,
    TimedOut,
    TlsFailed,
    Unsendable,
)
from hookbrook.outbound.attempt import MAX_HEADER_BYTES
from hookbrook.outbound.fetch import Fetch, FetchError, GuardedClient, Request, Resolver, Response
from hookbrook.outbound.resolver import SystemResolver

from .conftest import Arrived, Certificates, Names, Peer, Serve, until

LOOPBACK = parse_rules(["127.0.0.1/32"])


@asynccontextmanager
async def client_of(
    allow: Sequence[str] = ("127.0.0.1/32",),
    *,
    deny: Sequence[str] = (),
    resolver: Resolver | None = None,
    ssl_context: ssl.SSLContext | None = None,
    max_connection_age_s: float = 60,
    pool: int = 512,
) -> AsyncIterator[GuardedClient]:
    client = GuardedClient(
        allowed=parse_rules(allow),
        denied=parse_rules(deny, "deny"),
        resolver=resolver,
        ssl_context=ssl_context,
        max_connection_age_s=max_connection_age_s,
        pool=pool,
    )
    async with client:
        yield client


async def test_a_request_arrives_as_it_was_given_and_the_answer_comes_back(serve: Serve) -> None:
    receiver = await serve()
    async with client_of() as client:
        fetch: Fetch = client
        response = await fetch.send(
            Request(url=f"{receiver.url}?a=%2F~", headers={"webhook-id": "evt_1", "x-b": "c"}, body=b'{"a": 1}')
        )
    (arrived,) = receiver.requests
    assert arrived.line == "POST /hook?a=%2F~ HTTP/1.1"
    assert arrived.body == b'{"a": 1}'
    assert (arrived.header("webhook-id"), arrived.header("x-b")) == ("evt_1", "c")
    assert (arrived.header("user-agent"), arrived.header("accept-encoding")) == ("Hookbrook", "identity")
    assert arrived.header("host") == f"127.0.0.1:{receiver.port}"
    assert (response.status, response.body, response.truncated) == (200, b"ok", False)
    assert response.address == f"127.0.0.1:{receiver.port}"
    assert response.header("Content-Length") == "2"
    assert response.header("x-none") is None


async def test_the_time_is_split_for_a_fresh_connection_and_not_for_a_reused_one(serve: Serve) -> None:
    receiver = await serve()
    async with client_of(resolver=Names(receiver=[["127.0.0.1"]])) as client:
        url = f"http://receiver.test:{receiver.port}/"
        fresh = (await client.send(Request(url=url))).timing
        reused = (await client.send(Request(url=url))).timing
    assert receiver.connections == 1
    assert fresh.resolve is not None
    assert fresh.connect is not None
    assert fresh.wait is not None
    assert fresh.tls is None
    assert fresh.resolve + fresh.connect + fresh.wait <= fresh.total
    assert (reused.resolve, reused.connect, reused.tls) == (None, None, None)
    assert reused.wait is not None


async def test_a_body_of_several_megabytes_arrives_without_a_warning(serve: Serve) -> None:
    receiver = await serve()
    async with client_of() as client:
        await client.send(Request(url=receiver.url, body=b"x" * 3_000_000))
    assert len(receiver.requests[0].body) == 3_000_000


# --- addresses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "[::]", "0.0.0.0", "[::ffff:7f00:1]"])
async def test_a_literal_loopback_address_is_refused_before_a_packet_is_sent(serve: Serve, host: str) -> None:
    receiver = await serve()
    async with client_of([]) as client:
        with pytest.raises(Blocked) as caught:
            await client.send(Request(url=f"http://{host}:{receiver.port}/"))
    assert caught.value.code == "blocked_address"
    assert receiver.connections == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_literal_address_that_the_operator_allows_is_contacted(serve: Serve, host: str) -> None:
    receiver = await serve(host=host)
    literal = f"[{host}]" if ":" in host else host
    async with client_of([f"{literal}:{receiver.port}"]) as client:
        response = await client.send(Request(url=f"http://{literal}:{receiver.port}/"))
        assert response.address == f"{literal}:{receiver.port}"
        with pytest.raises(Blocked):
            await client.send(Request(url=f"http://{literal}:{receiver.port + 1}/"))


async def test_localhost_is_refused_by_what_the_real_resolver_says(serve: Serve) -> None:
    receiver = await serve()
    async with client_of([]) as client:
        with pytest.raises(Blocked, match="loopback"):
            await client.send(Request(url=f"http://localhost:{receiver.port}/"))
    async with client_of(["127.0.0.0/8", "::1"]) as client:
        assert (await client.send(Request(url=f"http://localhost:{receiver.port}/"))).status == 200
    assert receiver.connections == 1


@pytest.mark.parametrize(
    "answers", [["127.0.0.1"], ["93.184.215.14", "127.0.0.1"], ["2606:4700::1", "::1"], ["169.254.169.254"]]
)
async def test_a_name_is_refused_if_any_of_its_addresses_is(serve: Serve, answers: list[str]) -> None:
    receiver = await serve()
    async with client_of([], resolver=Names(evil=[answers])) as client:
        with pytest.raises(Blocked) as caught:
            await client.send(Request(url=f"http://evil.test:{receiver.port}/", connect_timeout_s=1))
    assert receiver.connections == 0
    assert not any(answer in str(caught.value) for answer in answers)


@pytest.mark.parametrize("answer", ["fe80::1%lo", "", "127.1", "not an address"])
async def test_what_a_resolver_says_must_be_a_plain_address(answer: str) -> None:
    async with client_of(["0.0.0.0/0", "::/0"], resolver=Names(odd=[[answer]])) as client:
        with pytest.raises(Blocked):
            await client.send(Request(url="http://odd.test/"))


async def test_a_name_that_is_rebound_after_the_judgement_gains_nothing(serve: Serve) -> None:
    # 127.0.0.2 plays the public address: it is the only one that may be contacted.
    good, inner = await serve(host="127.0.0.2"), await serve(host="127.0.0.1")
    names = Names(rebinder=[["127.0.0.2"], ["127.0.0.1"]])
    async with client_of(["127.0.0.2/32"], resolver=names) as client:
        response = await client.send(Request(url=f"http://rebinder.test:{good.port}/"))
        assert response.address == f"127.0.0.2:{good.port}"
        assert names.asked == ["rebinder.test"]
        with pytest.raises(Blocked):
            await client.send(Request(url=f"http://rebinder.test:{inner.port}/"))
    assert names.asked == ["rebinder.test"] * 2
    assert (good.connections, inner.connections) == (1, 0)


async def test_a_deny_rule_closes_a_port_that_is_otherwise_open(serve: Serve) -> None:
    receiver = await serve()
    async with client_of(["127.0.0.0/8"], deny=[f"127.0.0.1/32:{receiver.port}"]) as client:
        with pytest.raises(Blocked):
            await client.send(Request(url=receiver.url))


async def test_a_name_without_addresses_is_a_dns_failure() -> None:
    async with client_of(resolver=Names(empty=[[]])) as client:
        for host in ("nowhere.test", "empty.test"):
            with pytest.raises(DnsFailed) as caught:
                await client.send(Request(url=f"http://{host}/?key=hunter2"))
            assert caught.value.code == "dns"
            assert isinstance(caught.value, NotSent)


async def test_many_requests_that_wait_for_one_name_each_get_an_error_of_their_own() -> None:
    async with client_of([], resolver=Names(evil=[["127.0.0.1"]])) as client:
        requests = [client.send(Request(url="http://evil.test/")) for _ in range(5)]
        errors = await asyncio.gather(*requests, return_exceptions=True)
    assert all(isinstance(error, Blocked) and error.timing is not None for error in errors)
    assert len({id(error) for error in errors}) == 5


async def test_a_silent_resolver_costs_the_connect_timeout_and_does_not_stop_others(serve: Serve) -> None:
    class Silent:
        async def resolve(self, host: str) -> Sequence[str]:
            await asyncio.Event().wait()
            return []

    receiver = await serve()
    async with client_of(resolver=Silent()) as client:
        with pytest.raises(ConnectTimeout):
            await client.send(Request(url="http://silent.test/", connect_timeout_s=0.05))
        assert (await client.send(Request(url=receiver.url))).status == 200


async def test_the_system_resolver_reports_a_name_that_cannot_exist() -> None:
    resolver = SystemResolver()
    with pytest.raises(OSError):
        await resolver.resolve("a" * 300)
    assert ip_address("127.0.0.1") in [ip_address(address) for address in await resolver.resolve("localhost")]


# --- state between receivers -----------------------------------------------------------------------------------------


async def test_cookies_are_neither_kept_nor_shared(serve: Serve) -> None:
    seen: list[Arrived] = []

    async def handler(peer: Peer) -> None:
        while True:
            seen.append(await peer.request())
            await peer.answer(set_cookie="session=1; Path=/; Domain=receiver.test")

    receiver = await serve(handler)
    async with client_of(resolver=Names(a=[["127.0.0.1"]], receiver=[["127.0.0.1"]])) as client:
        for host in ("receiver.test", "receiver.test", "a.receiver.test"):
            await client.send(Request(url=f"http://{host}:{receiver.port}/"))
    assert len(seen) == 3
    assert [arrived.header("cookie") for arrived in seen] == [None, None, None]


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_a_redirect_is_an_answer_and_is_not_followed(serve: Serve, status: str, method: str) -> None:
    inner = await serve()

    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.answer(status=status, location=inner.url)

    receiver = await serve(handler)
    async with client_of() as client:
        response = await client.send(Request(method=method, url=receiver.url))
    assert response.status == int(status[:3])
    assert response.header("location") == inner.url
    assert inner.connections == 0


async def test_a_redirect_to_the_metadata_service_is_an_answer_too(serve: Serve) -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.answer(status="302 Found", location="http://169.254.169.254/latest/meta-data/")

    receiver = await serve(handler)
    async with client_of() as client:
        response = await client.send(Request(url=receiver.url, total_timeout_s=2))
    assert (response.status, response.header("location")) == (302, "http://169.254.169.254/latest/meta-data/")


async def test_proxies_and_credentials_of_the_environment_are_not_used(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    proxy, receiver = await serve(), await serve()
    netrc = tmp_path_factory.mktemp("home") / "netrc"
    netrc.write_text("machine 127.0.0.1 login user password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with client_of() as client:
        await client.send(Request(url=receiver.url))
    assert (proxy.connections, receiver.connections) == (0, 1)
    assert receiver.requests[0].header("authorization") is None


# --- answers ---------------------------------------------------------------------------------------------------------


async def test_a_gzip_bomb_is_kept_as_it_came(serve: Serve) -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)

    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.answer(bomb, content_encoding="gzip")

    receiver = await serve(handler)
    async with client_of() as client:
        response = await client.send(Request(url=receiver.url, response_limit=100_000))
    assert response.body == bomb
    assert response.header("content-encoding") == "gzip"


@pytest.mark.parametrize("length", [0, 1, 1023, 1024])
async def test_a_body_up_to_the_limit_is_whole_and_its_connection_is_used_again(serve: Serve, length: int) -> None:
    async def handler(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.answer(b"x" * length)

    receiver = await serve(handler)
    async with client_of() as client:
        for _ in range(2):
            response = await client.send(Request(url=receiver.url, response_limit=1024))
            assert (len(response.body), response.truncated) == (length, False)
    assert receiver.connections == 1


async def test_an_endless_body_is_cut_at_the_limit_and_its_connection_is_closed(serve: Serve) -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await peer.write(b"x" * 65536)

    receiver = await serve(handler)
    async with client_of() as client:
        response = await client.send(Request(url=receiver.url, total_timeout_s=5))
        await until(lambda: receiver.ended == 1)
    assert (response.status, len(response.body), response.truncated) == (200, 16384, True)


async def test_a_body_of_one_byte_at_a_time_ends_with_the_total_timeout(serve: Serve) -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
        while True:
            await peer.write(b"x")
            await asyncio.sleep(0.02)

    receiver = await serve(handler)
    async with client_of() as client:
        with pytest.raises(TimedOut) as caught:
            await client.send(Request(url=receiver.url, total_timeout_s=0.3))
        await until(lambda: receiver.ended == 1)
    error = caught.value
    assert error.code == "timeout"
    assert error.response is not None
    assert (error.response.status, error.response.truncated) == (200, True)
    assert set(error.response.body) == set(b"x")
    assert error.timing is not None
    assert 250_000 < error.timing.total < 3_000_000


async def test_a_receiver_that_never_answers_ends_with_the_total_timeout(serve: Serve) -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.reader.read()

    receiver = await serve(handler)
    async with client_of() as client:
        with pytest.raises(TimedOut) as caught:
            await client.send(Request(url=receiver.url, total_timeout_s=0.1))
    assert caught.value.response is None
    assert caught.value.address == f"127.0.0.1:{receiver.port}"
    assert receiver.connections == 1


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nx: " + b"a" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a" * 100_000 + b": x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 1000 + b"\r\n",
        b"HTTP/1.1 200 " + b"a" * 100_000 + b"\r\n\r\n",
    ],
    ids=["long value", "long name", "many", "long reason"],
)
async def test_an_answer_with_huge_headers_is_refused(serve: Serve, head: bytes) -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.write(head)
        await peer.reader.read()

    receiver = await serve(handler)
    async with client_of() as client:
        with pytest.raises(HeadersTooLarge) as caught:
            await client.send(Request(url=receiver.url, total_timeout_s=5))
    assert caught.value.code == "too_large_headers"
    assert receiver.connections == 1


async def test_headers_without_end_are_refused_long_before_the_timeout(serve: Serve) -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            await peer.write(b"a: b\r\n" * 1000)

    receiver = await serve(handler)
    async with client_of() as client:
        with pytest.raises(HeadersTooLarge):
            await client.send(Request(url=receiver.url, total_timeout_s=30))


async def test_what_is_kept_of_the_headers_is_bounded(serve: Serve) -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        many = {f"h{number}": "a" * 8000 for number in range(20)}
        await peer.answer(**many)

    receiver = await serve(handler)
    async with client_of() as client:
        response = await client.send(Request(url=receiver.url))
    assert sum(len(name) + len(value) for name, value in response.headers) <= MAX_HEADER_BYTES
    assert [name for name, _ in response.headers] == ["content-length", "h0", "h1"]


async def test_header_bytes_that_are_no_utf8_become_replacement_characters(serve: Serve) -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.write(b"HTTP/1.1 200 OK\r\nx: \xff\r\ncontent-length: 0\r\n\r\n")

    receiver = await serve(handler)
    async with client_of() as client:
        response = await client.send(Request(url=receiver.url))
    assert response.header("x") == "\ufffd"
    assert msgspec.json.encode(response.headers)


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
    ],
)
async def test_what_is_not_http_is_a_bad_response(serve: Serve, answer: bytes) -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.write(answer)
        await peer.reader.read()

    receiver = await serve(handler)
    async with client_of() as client:
        with pytest.raises(BadResponse) as caught:
            await client.send(Request(url=receiver.url, total_timeout_s=5))
    assert caught.value.code == "bad_response"
    assert isinstance(caught.value, NoAnswer)


async def test_a_switch_of_protocols_is_an_answer_without_a_body(serve: Serve) -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.write(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nxxxx")
        await peer.reader.read()

    receiver = await serve(handler)
    async with client_of() as client:
        response = await client.send(Request(url=receiver.url, total_timeout_s=2))
        assert (response.status, response.body) == (101, b"")
        await until(lambda: receiver.ended == 1)


# --- connections -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "GET", "PUT"])
@pytest.mark.parametrize("hard", [False, True], ids=["closed", "reset"])
async def test_a_reused_connection_that_died_is_tried_once_more_on_a_fresh_one(
    serve: Serve, method: str, hard: bool
) -> None:
    arrived: list[int] = []

    async def handler(peer: Peer) -> None:
        await peer.request()
        arrived.append(peer.number)
        await peer.answer()
        await peer.request()
        arrived.append(peer.number)
        if hard:
            peer.reset()

    receiver = await serve(handler)
    async with client_of() as client:
        request = Request(method=method, url=receiver.url, body=b"" if method == "GET" else b"hello")
        assert (await client.send(request)).status == 200
        assert (await client.send(request)).status == 200
    # The second request died on connection 1 and was answered on connection 2.
    assert arrived == [1, 1, 2]


async def test_other_pooled_connections_are_not_tried_before_a_fresh_one(serve: Serve) -> None:
    ready = asyncio.Event()
    arrived: list[int] = []

    async def handler(peer: Peer) -> None:
        await peer.request()
        await ready.wait()
        await peer.answer()
        if peer.number > 3:
            return
        await peer.request()
        arrived.append(peer.number)

    receiver = await serve(handler)
    async with client_of() as client:
        request = Request(url=receiver.url, body=b"x")
        sends = [asyncio.create_task(client.send(request)) for _ in range(3)]
        await until(lambda: receiver.connections == 3)
        ready.set()
        await asyncio.gather(*sends)
        assert (await client.send(request)).status == 200
    assert len(arrived) == 1
    assert receiver.connections == 4


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_a_fresh_connection_that_dies_is_not_tried_again(serve: Serve, method: str) -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()

    receiver = await serve(handler)
    async with client_of() as client:
        with pytest.raises(Reset) as caught:
            await client.send(Request(method=method, url=receiver.url))
    assert caught.value.code == "reset"
    assert receiver.connections == 1


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_a_second_death_is_the_end(serve: Serve, method: str) -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        if peer.number == 1:
            await peer.answer()
            await peer.request()

    receiver = await serve(handler)
    async with client_of() as client:
        request = Request(method=method, url=receiver.url)
        await client.send(request)
        with pytest.raises(Reset):
            await client.send(request)
    assert receiver.connections == 2


@pytest.mark.parametrize(
    "begun", [b"H", b"HTTP/1.1 200 OK\r\nx: y\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc"]
)
async def test_nothing_is_tried_again_once_a_byte_of_the_answer_has_come(serve: Serve, begun: bytes) -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.answer()
        await peer.request()
        await peer.write(begun)

    receiver = await serve(handler)
    async with client_of() as client:
        request = Request(url=receiver.url)
        await client.send(request)
        with pytest.raises(Reset) as caught:
            await client.send(request)
    assert receiver.connections == 1
    if begun.endswith(b"abc"):
        assert caught.value.response is not None
        assert caught.value.response.body == b"abc"


async def test_a_connection_is_not_used_beyond_its_age_however_busy_it_is(serve: Serve) -> None:
    receiver = await serve()
    async with client_of(max_connection_age_s=0.2) as client:
        async with asyncio.timeout(5):
            while receiver.connections < 3:
                await client.send(Request(url=receiver.url))
    assert len(receiver.requests) > 6


async def test_an_answer_that_nobody_asked_for_is_not_taken_for_the_next(serve: Serve) -> None:
    async def handler(peer: Peer) -> None:
        if peer.number == 1:
            await peer.request()
            await peer.answer(b"first")
            await pushed.wait()
            await peer.answer(b"unasked")
            sent.set()
            await peer.reader.read()
        await peer.request()
        await peer.answer(b"second")

    pushed, sent = asyncio.Event(), asyncio.Event()
    receiver = await serve(handler)
    async with client_of() as client:
        assert (await client.send(Request(url=receiver.url))).body == b"first"
        pushed.set()
        await sent.wait()
        for _ in range(5):
            await asyncio.sleep(0)
        assert (await client.send(Request(url=receiver.url))).body == b"second"


async def test_connections_beyond_the_pool_are_closed_after_their_request(serve: Serve) -> None:
    ready = asyncio.Event()

    async def handler(peer: Peer) -> None:
        await peer.request()
        await ready.wait()
        await peer.answer()
        await peer.reader.read()

    receiver = await serve(handler)
    async with client_of(pool=2) as client:
        sends = [asyncio.create_task(client.send(Request(url=receiver.url))) for _ in range(6)]
        await until(lambda: receiver.connections == 6)
        ready.set()
        await asyncio.gather(*sends)
        await until(lambda: receiver.ended == 4)
        assert receiver.connections - receiver.ended == 2


async def test_a_connection_that_ends_makes_room_in_the_pool(serve: Serve) -> None:
    async def once(peer: Peer) -> None:
        await peer.request()
        await peer.answer()

    brief, receiver = await serve(once), await serve()
    async with client_of(pool=1) as client:
        for _ in range(3):
            await client.send(Request(url=brief.url))
        await until(lambda: brief.ended == 3)
        # The last close may still be on its way to the client; until then a connection is not kept.
        async with asyncio.timeout(5):
            while receiver.connections == len(receiver.requests):
                await client.send(Request(url=receiver.url))


async def test_a_refused_connection_is_told_as_such(unused: int) -> None:
    async with client_of() as client:
        with pytest.raises(ConnectRefused) as caught:
            await client.send(Request(url=f"http://127.0.0.1:{unused}/secret?key=hunter2"))
    assert caught.value.code == "connect_refused"
    assert "secret" not in str(caught.value)
    assert caught.value.timing is not None
    assert caught.value.address is None


async def test_a_connection_that_is_not_accepted_ends_with_the_connect_timeout() -> None:
    # A full backlog makes Linux drop further SYNs.
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen(0)
        port = busy.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        async with client_of() as client:
            with pytest.raises(FetchError) as caught:
                await client.send(Request(url=f"http://127.0.0.1:{port}/", connect_timeout_s=0.2, total_timeout_s=1))
        for filler in fillers:
            filler.close()
    # Where the kernel accepts more than it was told to, nobody answers instead.
    assert caught.value.code in ("connect_timeout", "timeout")


async def test_a_machine_without_sockets_is_our_fault_and_not_the_receivers(serve: Serve) -> None:
    receiver = await serve()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held: list[socket.socket] = []
    async with client_of() as client:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
        try:
            while True:
                try:
                    held.append(socket.socket())
                except OSError:
                    break
            with pytest.raises(LocalFault) as caught:
                await client.send(Request(url=receiver.url))
        finally:
            for each in held:
                each.close()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert caught.value.code == "local"


# --- TLS -------------------------------------------------------------------------------------------------------------


async def test_tls_is_verified_against_the_name_while_the_address_is_pinned(
    serve: Serve, certificates: Certificates
) -> None:
    receiver = await serve(tls=certificates.server)
    names = Names(receiver=[["127.0.0.1"]], other=[["127.0.0.1"]])
    async with client_of(resolver=names, ssl_context=certificates.client) as client:
        response = await client.send(Request(url=f"https://receiver.test:{receiver.port}/"))
        assert response.status == 200
        assert response.address == f"127.0.0.1:{receiver.port}"
        assert response.timing.tls is not None
        assert response.timing.connect is not None
        with pytest.raises(TlsFailed, match="not accepted"):
            await client.send(Request(url=f"https://other.test:{receiver.port}/"))


async def test_a_certificate_of_an_unknown_issuer_is_not_accepted(serve: Serve, certificates: Certificates) -> None:
    receiver = await serve(tls=certificates.server)
    async with client_of() as client:
        with pytest.raises(TlsFailed) as caught:
            await client.send(Request(url=f"https://127.0.0.1:{receiver.port}/"))
    assert caught.value.code == "tls"
    assert receiver.requests == []


async def test_a_receiver_that_does_not_speak_tls_is_a_tls_failure(serve: Serve) -> None:
    async def plain(peer: Peer) -> None:
        await peer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async def mute(peer: Peer) -> None:
        await peer.reader.read(1)

    for handler in (plain, mute):
        receiver = await serve(handler)
        async with client_of() as client:
            with pytest.raises(TlsFailed):
                await client.send(Request(url=f"https://127.0.0.1:{receiver.port}/"))


def test_the_test_certificate_names_the_test_host(certificates: Certificates) -> None:
    (authority,) = certificates.client.get_ca_certs(binary_form=True)
    certificate = x509.load_der_x509_certificate(authority)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["receiver.test"]


# --- the client itself -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    ["ftp://example.com/", "http://user:hunter2@example.com/", "ws://127.0.0.1/", "http://127.1/?key=hunter2", ""],
)
async def test_a_url_that_cannot_be_sent_to_is_refused(url: str) -> None:
    async with client_of() as client:
        with pytest.raises(Unsendable) as caught:
            await client.send(Request(url=url))
    assert caught.value.code == "bad_request"
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("value", ["a\r\nx-evil: 1", "a\nb", "a\x00b"])
async def test_a_header_that_would_begin_another_is_not_sent(serve: Serve, value: str) -> None:
    receiver = await serve()
    async with client_of() as client:
        with pytest.raises(Unsendable):
            await client.send(Request(url=receiver.url, headers={"x": value}))
    assert receiver.requests == []


async def test_a_client_that_is_not_started_or_is_closed_says_so() -> None:
    client = GuardedClient(allowed=LOOPBACK)
    with pytest.raises(RuntimeError, match="not started"):
        await client.send(Request(url="http://127.0.0.1/"))
    await client.start()
    await client.close()
    await client.close()
    with pytest.raises(RuntimeError, match="closed"):
        await client.send(Request(url="http://127.0.0.1/"))


async def test_a_cancelled_request_leaves_no_connection_behind(serve: Serve) -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.reader.read()

    receiver = await serve(handler)
    async with client_of() as client:
        send = asyncio.create_task(client.send(Request(url=receiver.url)))
        await until(lambda: receiver.connections == 1)
        send.cancel()
        with pytest.raises(asyncio.CancelledError):
            await send
        await until(lambda: receiver.ended == 1)


async def test_a_hanging_receiver_does_not_slow_the_others(serve: Serve) -> None:
    async def hang(peer: Peer) -> None:
        await peer.reader.read()

    hanging, receiver = await serve(hang), await serve()
    async with client_of() as client:
        stuck = [asyncio.create_task(client.send(Request(url=hanging.url))) for _ in range(150)]
        await until(lambda: hanging.connections == 150)
        responses: list[Response] = await asyncio.gather(*[client.send(Request(url=receiver.url)) for _ in range(50)])
        assert all(response.status == 200 for response in responses)
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)
