"""From which address a request really comes, and by which address it was called, when a proxy stands before us.

A proxy adds the address that it was called from to the end of `X-Forwarded-For`. What stands before that was said by
the caller and may be a lie. So the list is read from its end, and only as far as the addresses are those of proxies
that the operator named; without any, the header is not looked at. `Forwarded` (RFC 7239) says the same in another form.
A proxy that writes the one hands the other on as the caller wrote it, so only one of them is read, and the operator
says which.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import ip_address

from hookbrook.core.addresses import Rule
from hookbrook.http.problems import Scope

#: Addresses whose judgement is remembered.
MAX_KNOWN = 4096
#: Proxies in a row that are believed; a longer list is somebody's joke.
MAX_HOPS = 16


#: A host with or without a port (RFC 9110 section 7.2).
_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
# RFC 7239 section 4: pairs of a token and a token or quoted string.
_PAIR = re.compile(r"""([A-Za-z]+)=(?:"([^"\\]*)"|([^\s;,"]+))""")


class Proxies:
    """Knows the operator's proxies (the setting `trusted_proxies`)."""

    def __init__(self, trusted: Sequence[Rule], *, standard: bool = False) -> None:
        """`standard`: they write `Forwarded` rather than `X-Forwarded-*` (the setting `proxy_headers`)."""
        self._hops = _forwarded_hops if standard else _forwarded_for
        self._called = _forwarded_base if standard else _x_forwarded_base
        self._networks = tuple(rule.network for rule in trusted)
        self._is_trusted = lru_cache(maxsize=MAX_KNOWN)(self._judge)

    def client_of(self, scope: Scope) -> str:
        """The client's address; "" if it has none (a Unix socket), or the proxy sent no address."""
        client = scope.get("client")
        peer: str = client[0] if client else ""
        if not self._networks or not self._is_trusted(peer):
            return peer
        for hop in self._hops(scope["headers"]):
            if not self._is_trusted(hop):
                return hop
            peer = hop
        return peer

    def base_of(self, scope: Scope) -> str | None:
        """`https://hooks.example.com`, if a trusted proxy says that it was called so; else None."""
        client = scope.get("client")
        if not self._networks or client is None or not self._is_trusted(client[0]):
            return None
        scheme, host = self._called(scope["headers"])
        if scheme not in ("http", "https") or not _HOST.fullmatch(host):
            return None
        return f"{scheme}://{host}"

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


def _x_forwarded_base(headers: Iterable[tuple[bytes, bytes]]) -> tuple[str, str]:
    """Scheme and host as the nearest proxy was called; empty where it does not say."""
    said = {
        name: value.decode("latin-1").rpartition(",")[2].strip()
        for name, value in headers
        if name in (b"x-forwarded-proto", b"x-forwarded-host")
    }
    return said.get(b"x-forwarded-proto", "").lower(), said.get(b"x-forwarded-host", "")


def _forwarded_elements(headers: Iterable[tuple[bytes, bytes]]) -> list[dict[str, str]]:
    """What each proxy says, the nearest first."""
    values = ",".join(value.decode("latin-1") for name, value in headers if name == b"forwarded")
    elements = [
        {name.lower(): quoted or token for name, quoted, token in _PAIR.findall(element)}
        for element in values.split(",")[-MAX_HOPS:]
    ]
    return elements[::-1]


def _forwarded_hops(headers: Iterable[tuple[bytes, bytes]]) -> list[str]:
    hops = []
    for element in _forwarded_elements(headers):
        try:
            hops.append(str(ip_address(_without_port(element.get("for", "")))))
        except ValueError:
            break  # `unknown` or an obfuscated name (sections 6.2 and 6.3), and nothing beyond it can be believed
    return hops


def _forwarded_base(headers: Iterable[tuple[bytes, bytes]]) -> tuple[str, str]:
    nearest = _forwarded_elements(headers)[0]
    return nearest.get("proto", "").lower(), nearest.get("host", "")
