"""Names that change their meaning: a name server on loopback, and a resolver of third parties (c-ares) that asks it."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, ip_address
from typing import cast

import aiodns
import pytest

from hookbrook.core.addresses import parse_rules
from hookbrook.core.fetch import Blocked, ConnectRefused, DnsFailed, Request
from hookbrook.outbound.fetch import GuardedClient

from .conftest import Receiver, Serve

A, CNAME, AAAA = 1, 5, 28
#: What the answers may be kept for: nothing at all, as whoever rebinds a name asks for.
TTL = 0
NXDOMAIN = 3


class NameServer(asyncio.DatagramProtocol):
    """Answers by a table: for each name a list of answers, one for each time that its A record is asked for, of which
    the last stays. An answer is addresses, or the name that this one stands for."""

    def __init__(self, table: Mapping[str, Sequence[Sequence[str] | str]]) -> None:
        self._table = {name: list(answers) for name, answers in table.items()}
        self.asked: list[tuple[str, int]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        labels, at = [], 12
        while data[at]:
            labels.append(data[at + 1 : at + 1 + data[at]].decode())
            at += 1 + data[at]
        name, kind = ".".join(labels).lower(), struct.unpack("!H", data[at + 1 : at + 3])[0]
        self.asked.append((name, kind))
        records = self._records(name, kind)
        flags = 0x8180 | (0 if name in self._table else NXDOMAIN)
        # RFC 1035 section 4.1: the question comes back, and what follows it are the answers.
        head = data[:2] + struct.pack("!HHHHH", flags, 1, len(records), 0, 0)
        self._transport.sendto(head + data[12 : at + 5] + b"".join(records), addr)

    def _records(self, name: str, kind: int, owner: bytes = b"\xc0\x0c") -> list[bytes]:
        answers = self._table.get(name, [[]])
        answer = answers.pop(0) if kind == A and len(answers) > 1 else answers[0]
        if isinstance(answer, str):
            target = b"".join(bytes([len(label)]) + label.encode() for label in answer.split(".")) + b"\0"
            return [_record(owner, CNAME, target), *self._records(answer, kind, target)]
        addresses = [ip_address(each) for each in answer]
        return [_record(owner, kind, each.packed) for each in addresses if _kind(each) == kind]


def _kind(address: object) -> int:
    return A if isinstance(address, IPv4Address) else AAAA


def _record(owner: bytes, kind: int, data: bytes) -> bytes:
    return owner + struct.pack("!HHIH", kind, 1, TTL, len(data)) + data


class Cares:
    """A `Resolver` that asks the one name server on that port."""

    def __init__(self, port: int) -> None:
        self._resolver = aiodns.DNSResolver(
            nameservers=["127.0.0.1"], udp_port=port, tcp_port=port, timeout=1.0, tries=1, lookups="b"
        )

    async def resolve(self, host: str) -> Sequence[str]:
        try:
            found = await self._resolver.getaddrinfo(host, family=socket.AF_UNSPEC)
        except aiodns.error.DNSError as exc:
            raise OSError(*exc.args) from exc
        return [node.addr[0].decode() for node in found.nodes]

    async def close(self) -> None:
        await self._resolver.close()


@asynccontextmanager
async def world(
    allow: Sequence[str], **table: Sequence[Sequence[str] | str]
) -> AsyncIterator[tuple[GuardedClient, NameServer]]:
    """A client in a world with these names, each below `.test`."""
    loop = asyncio.get_running_loop()
    names = {f"{name}.test": answers for name, answers in table.items()}
    transport, server = await loop.create_datagram_endpoint(lambda: NameServer(names), local_addr=("127.0.0.1", 0))
    resolver = Cares(transport.get_extra_info("sockname")[1])
    try:
        async with GuardedClient(allowed=parse_rules(allow), resolver=resolver) as client:
            yield client, server
    finally:
        await resolver.close()
        transport.close()


def to(receiver: Receiver, name: str) -> Request:
    return Request(url=f"http://{name}.test:{receiver.port}/hook")


async def test_a_name_is_asked_once_and_what_was_judged_is_what_is_connected_to(serve: Serve) -> None:
    receiver, inner = await serve(), await serve(host="127.0.0.2")
    async with world(["127.0.0.1/32"], rebind=[["127.0.0.1"], ["127.0.0.2"]]) as (client, server):
        response = await client.send(to(receiver, "rebind"))
        assert response.address == f"127.0.0.1:{receiver.port}"
        assert sorted(server.asked) == [("rebind.test", A), ("rebind.test", AAAA)]
        # Another connection is another look-up, and the name has turned meanwhile.
        with pytest.raises(Blocked, match="loopback"):
            await client.send(to(inner, "rebind"))
    assert inner.connections == 0


@pytest.mark.parametrize(
    "answer",
    [
        ["127.0.0.1", "10.0.0.1"],
        ["169.254.169.254", "127.0.0.1"],
        ["127.0.0.1", "::ffff:10.0.0.1"],
        ["127.0.0.1", "64:ff9b::a9fe:a9fe"],
        ["127.0.0.1", "2002:7f00:1::"],
        ["127.0.0.1", "fe80::1"],
        ["127.0.0.1", "::"],
        ["0.0.0.0"],
        ["100.64.0.1"],
        ["224.0.0.1"],
        ["255.255.255.255"],
    ],
)
async def test_a_name_with_one_address_that_is_refused_is_refused(serve: Serve, answer: Sequence[str]) -> None:
    receiver = await serve()
    async with world(["127.0.0.1/32"], mixed=[answer]) as (client, _):
        with pytest.raises(Blocked):
            await client.send(to(receiver, "mixed"))
    assert receiver.connections == 0


async def test_a_name_that_stands_for_another_is_judged_by_where_it_leads(serve: Serve) -> None:
    receiver, inner = await serve(), await serve(host="127.0.0.2")
    names: dict[str, Sequence[Sequence[str] | str]] = {
        "public": ["cdn.test"],
        "cdn": [["127.0.0.1"]],
        "sly": ["hidden.test"],
        "hidden": [["127.0.0.2"]],
    }
    async with world(["127.0.0.1/32"], **names) as (client, _):
        assert (await client.send(to(receiver, "public"))).status == 200
        with pytest.raises(Blocked):
            await client.send(to(inner, "sly"))
    assert inner.connections == 0


async def test_a_name_that_does_not_exist_or_has_no_address_is_a_dns_failure(serve: Serve) -> None:
    receiver = await serve()
    async with world(["127.0.0.1/32"], empty=[[]]) as (client, _):
        for name in ("nowhere", "empty"):
            with pytest.raises(DnsFailed):
                await client.send(to(receiver, name))


async def test_a_name_that_moves_is_followed_and_judged_anew(serve: Serve, unused: int) -> None:
    """To an address that may be contacted, where nobody listens: the old one is not contacted in its stead."""
    receiver = await serve()
    async with world(["127.0.0.1/32", "127.0.0.3/32"], moves=[["127.0.0.1"], ["127.0.0.3"]]) as (client, _):
        await client.send(to(receiver, "moves"))
        with pytest.raises(ConnectRefused):
            await client.send(Request(url=f"http://moves.test:{unused}/"))
