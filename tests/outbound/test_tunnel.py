"""A forward proxy carries bytes, decides nothing, and its faults are its own."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hookbrook.core.addresses import parse_rules
from hookbrook.core.delivery import State
from hookbrook.core.fetch import Blocked, ConnectTimeout, FetchError, ProxyFailed, Request, Unreachable
from hookbrook.core.proxy import Proxy
from hookbrook.outbound.fetch import GuardedClient

from .conftest import Arrived, Certificates, Names, Peer, Receiver, Serve
from .rig import Post, rig_on

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\nvia: 1.1 proxy\r\n\r\n"


class Relay:
    """A proxy that knows CONNECT, and answers otherwise if told to."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.asked: list[Arrived] = []
        #: An address that cannot be reached from here.
        self.unreachable = ""

    async def __call__(self, peer: Peer) -> None:
        self.asked.append(await peer.request())
        answer = self.answers.pop(0) if len(self.answers) > 1 else (self.answers or [ESTABLISHED])[0]
        if answer != ESTABLISHED:
            await peer.write(answer)
            return
        host, _, port = self.asked[-1].line.split()[1].rpartition(":")
        if host == self.unreachable:
            await peer.write(b"HTTP/1.1 503 No\r\n\r\n")
            return
        reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
        await peer.write(answer)
        try:
            await asyncio.gather(_carry(peer.reader, writer), _carry(reader, peer.writer))
        finally:
            writer.close()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while some := await reader.read(65536):
        writer.write(some)
        await writer.drain()
    writer.close()


@asynccontextmanager
async def client_of(
    proxy: Receiver,
    *,
    names: Names | None = None,
    tls: ssl.SSLContext | None = None,
    direct: Sequence[str] = (),
    authorization: str | None = None,
    allow: Sequence[str] = ("127.0.0.1/32",),
    pool: int = 512,
) -> AsyncIterator[GuardedClient]:
    async with GuardedClient(
        allowed=parse_rules(allow),
        proxy=Proxy(host="127.0.0.1", port=proxy.port, authorization=authorization),
        direct=parse_rules(direct),
        resolver=names,
        ssl_context=tls,
        pool=pool,
    ) as client:
        yield client


def to(receiver: Receiver, host: str = "127.0.0.1", scheme: str = "http") -> Request:
    return Request(url=f"{scheme}://{host}:{receiver.port}/hook", body=b"{}", headers={"x-own": "1"})


async def test_the_proxy_is_asked_for_the_judged_address_and_tls_is_spoken_under_the_name(
    serve: Serve, certificates: Certificates
) -> None:
    relay = Relay()
    proxy, receiver = await serve(relay), await serve(tls=certificates.server)
    names = Names(receiver=[["127.0.0.1"], ["127.0.0.2"]])
    async with client_of(proxy, names=names, tls=certificates.client, authorization="Basic abc") as client:
        for _ in range(2):
            response = await client.send(to(receiver, "receiver.test", "https"))
            assert (response.status, response.address) == (200, f"127.0.0.1:{receiver.port}")
    # The second request went over the same tunnel.
    [asked] = relay.asked
    assert asked.line == f"CONNECT 127.0.0.1:{receiver.port} HTTP/1.1"
    assert asked.header("host") == f"127.0.0.1:{receiver.port}"
    assert asked.header("proxy-authorization") == "Basic abc"
    assert names.asked == ["receiver.test"]
    for request in receiver.requests:
        assert request.header("host") == f"receiver.test:{receiver.port}"
        assert request.header("proxy-authorization") is None


async def test_a_receiver_without_tls_is_reached_through_a_tunnel_as_well(serve: Serve) -> None:
    relay = Relay()
    proxy, receiver = await serve(relay), await serve()
    async with client_of(proxy, names=Names(receiver=[["127.0.0.1"]])) as client:
        assert (await client.send(to(receiver, "receiver.test"))).status == 200
    assert [asked.line.split()[0] for asked in relay.asked] == ["CONNECT"]
    assert receiver.requests[0].line == "POST /hook HTTP/1.1"


@pytest.mark.parametrize("host", ["10.0.0.1", "internal.test", "mixed.test", "[::ffff:10.0.0.1]"])
async def test_what_may_not_be_contacted_is_not_asked_of_the_proxy_either(serve: Serve, host: str) -> None:
    relay = Relay()
    proxy = await serve(relay)
    names = Names(internal=[["10.0.0.1"]], mixed=[["127.0.0.1", "169.254.169.254"]])
    async with client_of(proxy, names=names) as client:
        with pytest.raises(Blocked):
            await client.send(Request(url=f"https://{host}/"))
    assert relay.asked == []


async def test_an_excepted_network_is_contacted_directly(serve: Serve) -> None:
    relay = Relay()
    proxy, receiver, other = await serve(relay), await serve(), await serve()
    async with client_of(proxy, direct=[f"127.0.0.1/32:{receiver.port}"]) as client:
        await client.send(to(receiver))
        assert relay.asked == []
        await client.send(to(other))
    assert len(relay.asked) == 1


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n", ProxyFailed, "407"),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n<h1>no</h1>", ProxyFailed, "403"),
        (b"HTTP/1.1 500 Oh\r\n\r\n", ProxyFailed, "500"),
        (b"HTTP/1.1 302 Found\r\nlocation: http://10.0.0.1/\r\n\r\n", ProxyFailed, "302"),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", ProxyFailed, "understood"),
        (b"HTTP/1.1 200 OK\r\nx: y\r\n", ProxyFailed, "understood"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 20_000, ProxyFailed, "understood"),
        (b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", ProxyFailed, "nobody asked for"),
        (b"", ProxyFailed, "understood"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", Unreachable, "502"),
        (b"HTTP/1.0 504 Gateway Timeout\r\n\r\n", Unreachable, "504"),
    ],
)
async def test_what_the_proxy_answers_says_whose_fault_it_is(
    serve: Serve, answer: bytes, error: type[FetchError], words: str
) -> None:
    proxy, receiver = await serve(Relay(answer)), await serve()
    async with client_of(proxy, authorization="Basic c2VjcmV0") as client:
        with pytest.raises(error, match=words) as caught:
            await client.send(to(receiver))
    assert type(caught.value) is error
    assert "c2VjcmV0" not in str(caught.value)
    assert receiver.requests == []


async def test_a_proxy_that_is_not_there_is_at_fault_itself(unused: int) -> None:
    async with client_of(Receiver(unused)) as client:
        with pytest.raises(ProxyFailed):
            await client.send(Request(url="http://127.0.0.1:1/"))


async def test_a_receiver_that_hangs_behind_the_proxy_is_at_fault_itself(serve: Serve) -> None:
    async def hang(peer: Peer) -> None:
        await peer.request()
        await asyncio.sleep(60)

    proxy, receiver = await serve(hang), await serve()
    async with client_of(proxy) as client:
        with pytest.raises(ConnectTimeout):
            await client.send(Request(url=receiver.url, connect_timeout_s=0.2))


async def test_the_next_address_is_tried_when_the_proxy_cannot_reach_the_first(serve: Serve) -> None:
    relay = Relay()
    relay.unreachable = "127.0.0.2"
    proxy, receiver = await serve(relay), await serve()
    names = Names(two=[["127.0.0.2", "127.0.0.1"]])
    async with client_of(proxy, names=names, allow=["127.0.0.0/8"], pool=0) as client:
        for _ in range(2):
            # The addresses take turns; each second connection begins with the one that cannot be reached.
            response = await client.send(to(receiver, "two.test"))
            assert response.address == f"127.0.0.1:{receiver.port}"
    assert f"CONNECT 127.0.0.2:{receiver.port} HTTP/1.1" in [asked.line for asked in relay.asked]


async def test_while_the_proxy_is_down_deliveries_wait_and_nothing_is_charged(
    tmp_path: Path, serve: Serve, unused: int
) -> None:
    post = Post()
    receiver = await serve(post)
    relay = Relay(b"HTTP/1.1 407 No\r\n\r\n")
    proxy = await serve(relay)
    async with client_of(proxy) as client, rig_on(tmp_path / "a.db", fetch=client) as rig:
        dispatcher = await rig.start()
        await rig.endpoint(receiver.url, concurrency=1)
        await rig.publish("evt_1")
        await rig.settled()
        await rig.advance(200)
        row = await rig.row("evt_1")
        assert (row.state, row.attempts) == (State.PENDING, 0)
        assert await rig.store.failing() == {}
        # At 0, 1, 3, 7, 15, 31 and then each 30 seconds.
        assert len(relay.asked) == 11
        assert dispatcher.stats().prevented == 11
        relay.answers = [ESTABLISHED]
        await rig.advance(40)
        assert (await rig.row("evt_1")).state is State.SUCCEEDED
    assert post.ids == ["evt_1"]
