"""Making a connection: the name is resolved, all its addresses are judged, one of them is connected to, TLS is spoken.

A name is refused if any of its addresses is refused: a name with a public and a private address is a mistake or an
attack, and to refuse it always is better than sometimes. What was judged is what is connected to; nothing resolves a
second time, so a name cannot be rebound in between. The last gate stands where the socket is made (`_socket`), and sees
whatever led there: names, literals, and what was kept of earlier look-ups.
"""

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic
from typing import Final

from aiohappyeyeballs import AddrInfoType, start_connection

from hookbrook.core.addresses import Rule, Target, judge
from hookbrook.outbound.attempt import Attempt
from hookbrook.outbound.faults import refusal, tls_failure
from hookbrook.outbound.resolver import Lookups, Resolver, address_info, with_zone
from hookbrook.outbound.tunnel import Tunnels
from hookbrook.outbound.wire import Wire

#: RFC 8305 section 5: how long one address is given before the next is tried beside it.
HAPPY_EYEBALLS_S: Final = 0.25
#: How long the other side may take to say goodbye; asyncio would wait half a minute.
TLS_GOODBYE_S: Final = 1.0


class Dialler:
    def __init__(
        self,
        resolver: Resolver,
        allowed: Sequence[Rule],
        denied: Sequence[Rule],
        ssl_context: ssl.SSLContext,
        tunnels: Tunnels | None = None,
    ) -> None:
        self._allowed = allowed
        self._denied = denied
        self._ssl_context = ssl_context
        self._tunnels = tunnels
        self._lookups = Lookups(resolver, allowed, denied)

    def close(self) -> None:
        self._lookups.close()
        if self._tunnels is not None:
            self._tunnels.close()

    async def dial(self, target: Target, attempt: Attempt, make: Callable[[], Wire]) -> Wire:
        """A connection to the target, ready for a request. Raises `FetchError`; does not end by itself."""
        attempt.connecting = monotonic()
        if target.address is not None:
            addresses = [address_info(str(target.address), target.port)]
        else:
            addresses = await self._lookups.find(target.host, target.port)
        peer = f"{target.host}:{target.port}"
        through = None
        try:
            if self._tunnels is not None and self._tunnels.leads_to(addresses):
                for info in addresses:
                    self._judge(attempt, info)
                sock, through = await self._tunnels.open(addresses, attempt)
            else:
                sock = await start_connection(
                    addresses, happy_eyeballs_delay=HAPPY_EYEBALLS_S, socket_factory=partial(self._socket, attempt)
                )
        except (OSError, RuntimeError) as exc:  # uvloop raises the latter
            raise refusal(exc, attempt, peer) from None
        attempt.connected = monotonic()
        try:
            wire = await self._speak(sock, target, make)
        except OSError as exc:
            sock.close()
            raise tls_failure(exc, peer) from None
        except BaseException:
            sock.close()
            raise
        if through is not None:
            # Who was asked for, and not the proxy that the socket is connected to.
            wire.address = through
        attempt.ready = monotonic()
        return wire

    async def _speak(self, sock: socket.socket, target: Target, make: Callable[[], Wire]) -> Wire:
        loop = asyncio.get_running_loop()
        if target.scheme == "http":
            _, wire = await loop.create_connection(make, sock=sock)
            return wire
        _, wire = await loop.create_connection(
            make,
            sock=sock,
            ssl=self._ssl_context,
            # The name, whatever address was connected to. A trailing dot belongs to DNS, not to certificates.
            server_hostname=target.host.rstrip("."),
            ssl_shutdown_timeout=TLS_GOODBYE_S,
        )
        return wire

    def _socket(self, attempt: Attempt, info: AddrInfoType) -> socket.socket:
        """The last gate: whatever led here, an address that is refused gets no socket."""
        family, kind, protocol, _, _ = info
        self._judge(attempt, info)
        if attempt.dialled is None:
            attempt.dialled = monotonic()
        return socket.socket(family, kind, protocol)

    def _judge(self, attempt: Attempt, info: AddrInfoType) -> None:
        address = info[4]
        verdict = judge(with_zone(address), self._allowed, self._denied, port=address[1])
        if not verdict.ok:
            attempt.blocked = verdict.reason
            raise OSError(errno.EACCES, "refused by the address guard")
