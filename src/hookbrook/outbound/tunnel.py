"""Tunnels through a forward proxy (RFC 9110 section 9.3.6, CONNECT).

The proxy is trusted with the way, not with the choice: the name of a receiver is resolved and judged here as ever, and
the proxy is asked for an address that was judged. TLS is spoken with the receiver, under its name, through the tunnel.
`http://` receivers are reached through a tunnel as well: asked in the usual way, a proxy would resolve the name itself
(RFC 9112 section 3.2.2).

Who is to blame for what: that the proxy is not there, does not want us, or refuses, is no fault of the receiver's, and
the delivery waits (`ProxyFailed`). 502, 503 and 504 are how proxies say that the receiver could not be reached.
"""

import asyncio
import re
import socket
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic
from typing import Final

from aiohappyeyeballs import AddrInfoType, start_connection

from hookbrook.core.addresses import Rule, parse_rules
from hookbrook.core.fetch import FetchError, ProxyFailed, Unreachable
from hookbrook.core.proxy import Proxy
from hookbrook.outbound.attempt import Attempt
from hookbrook.outbound.resolver import Lookups, Resolver, address_info

#: A proxy stands in one's own network; beyond this it is down. Far below the usual limit of a whole connection, so that
#: its silence is not taken for the receiver's.
PROXY_CONNECT_S: Final = 3.0
#: Bytes of a proxy's answer: some send a page that explains the refusal.
MAX_ANSWER_BYTES: Final = 16 * 1024
_RECEIVER_UNREACHABLE: Final = frozenset({502, 503, 504})
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: |\r\n)")
#: The operator has named the proxy, so its address is not judged.
_ANYWHERE: Final = parse_rules(["0.0.0.0/0", "::/0"])


class Tunnels:
    """`direct`: networks that are contacted without the proxy."""

    def __init__(self, proxy: Proxy, direct: Sequence[Rule], resolver: Resolver) -> None:
        self._proxy = proxy
        self._direct = tuple(direct)
        self._lookups = Lookups(resolver, _ANYWHERE, ())

    def close(self) -> None:
        self._lookups.close()

    def leads_to(self, addresses: Sequence[AddrInfoType]) -> bool:
        """Whether these are to be reached through the proxy: unless all of them are excepted."""
        return not all(any(rule.covers(info[4][0], info[4][1]) for rule in self._direct) for info in addresses)

    async def open(self, addresses: Sequence[AddrInfoType], attempt: Attempt) -> tuple[socket.socket, str]:
        """A socket whose other end is the first of the addresses that answers, and `ip:port` of that.

        Raises `FetchError`.
        """
        unreachable: FetchError | None = None
        for info in addresses:
            host, port = info[4][0], info[4][1]
            peer = f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
            sock = await self._connect(attempt)
            try:
                await self._ask(sock, peer)
            except Unreachable as exc:
                sock.close()
                unreachable = exc
                continue
            except BaseException:
                sock.close()
                raise
            return sock, peer
        assert unreachable is not None
        raise unreachable

    async def _connect(self, attempt: Attempt) -> socket.socket:
        where = f"{self._proxy.host}:{self._proxy.port}"
        attempt.at_proxy = True
        try:
            async with asyncio.timeout(PROXY_CONNECT_S):
                infos = await self._find()
                attempt.dialled = attempt.dialled or monotonic()
                sock = await start_connection(infos)
        except TimeoutError:
            raise ProxyFailed(f"No connection to the proxy {where} within {PROXY_CONNECT_S:g} s.") from None
        except (OSError, RuntimeError, FetchError) as exc:
            raise ProxyFailed(f"The proxy {where} cannot be reached.") from exc
        attempt.at_proxy = False
        return sock

    async def _find(self) -> Sequence[AddrInfoType]:
        with suppress(ValueError):
            return [address_info(self._proxy.host, self._proxy.port)]
        return await self._lookups.find(self._proxy.host, self._proxy.port)

    async def _ask(self, sock: socket.socket, peer: str) -> None:
        loop = asyncio.get_running_loop()
        lines = [f"CONNECT {peer} HTTP/1.1", f"Host: {peer}"]
        if self._proxy.authorization is not None:
            lines.append(f"Proxy-Authorization: {self._proxy.authorization}")
        try:
            await loop.sock_sendall(sock, "".join(f"{line}\r\n" for line in (*lines, "")).encode())
            answer = b""
            while b"\r\n\r\n" not in answer and len(answer) < MAX_ANSWER_BYTES:
                some = await loop.sock_recv(sock, MAX_ANSWER_BYTES - len(answer))
                if not some:
                    break
                answer += some
        except OSError as exc:
            raise ProxyFailed("The proxy closed the connection.") from exc
        raise_for(answer, peer)


def raise_for(answer: bytes, peer: str) -> None:
    """Raises what a proxy's answer means unless it is that there is a tunnel now."""
    head, end, rest = answer.partition(b"\r\n\r\n")
    found = _STATUS.match(head + b"\r\n")
    if found is None or not end:
        raise ProxyFailed("The proxy sent no answer that could be understood.")
    status = int(found[1])
    if status in _RECEIVER_UNREACHABLE:
        raise Unreachable(f"The proxy answered {status}: it cannot reach {peer}.")
    if not 200 <= status < 300:
        raise ProxyFailed(f"The proxy answered {status}.")
    # RFC 9110 section 9.3.6: nothing but the tunnel follows, and there the receiver does not speak first.
    if rest:
        raise ProxyFailed("The proxy sent bytes that nobody asked for.")
