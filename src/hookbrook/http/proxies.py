"""From which address a request really comes, when a proxy stands before us.

A proxy adds the address that it was called from to the end of `X-Forwarded-For`. What stands before that was said by
the caller and may be a lie. So the list is read from its end, and only as far as the addresses are those of proxies
that the operator named; without any, the header is not looked at.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import ip_address

from hookbrook.core.addresses import Rule
from hookbrook.http.problems import Scope

#: Addresses whose judgement is remembered.
MAX_KNOWN = 4096
#: Proxies in a row that are believed; a longer list is somebody's joke.
MAX_HOPS = 16


class Proxies:
    """Knows the operator's proxies (the setting `trusted_proxies`)."""

    def __init__(self, trusted: Sequence[Rule]) -> None:
        self._networks = tuple(rule.network for rule in trusted)
        self._is_trusted = lru_cache(maxsize=MAX_KNOWN)(self._judge)

    def client_of(self, scope: Scope) -> str:
        """The client's address; "" if it has none (a Unix socket), or the proxy sent no address."""
        client = scope.get("client")
        peer: str = client[0] if client else ""
        if not self._networks or not self._is_trusted(peer):
            return peer
        for hop in _forwarded_for(scope["headers"]):
            if not self._is_trusted(hop):
                return hop
            peer = hop
        return peer

    def _judge(self, text: str) -> bool:
        try:
            address = ip_address(text)
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None) or address
        return any(mapped in network for network in self._networks)


def _forwarded_for(headers: Iterable[tuple[bytes, bytes]]) -> list[str]:
    """The named addresses, the nearest first, up to the first that is none."""
    values = [value.decode("latin-1") for name, value in headers if name == b"x-forwarded-for"]
    hops = []
    for entry in reversed(",".join(values).split(",")[-MAX_HOPS:]):
        try:
            hops.append(str(ip_address(_without_port(entry.strip()))))
        except ValueError:
            break
    return hops


def _without_port(entry: str) -> str:
    """Some proxies write `192.0.2.7:50000` or `[2001:db8::1]:443`."""
    if entry.startswith("["):
        return entry[1:].partition("]")[0]
    return entry.partition(":")[0] if entry.count(":") == 1 else entry
