"""Which addresses and URLs may be contacted at all.

Hookbrook connects to URLs that its users type, from inside somebody's network. Whoever may create an endpoint could
otherwise reach that network: a database on a private address, an administration page on loopback, the metadata service
of the cloud, which hands out credentials. So every address is judged before a connection is made to it.

The judgement is a table of our own. `ipaddress.is_global` of Python 3.11 says yes to multicast, 6to4 and NAT64, and
what it says changes between patch releases. Here an IPv6 address passes only if it lies in the unicast space that IANA
allocates from and in no row below, so a range that is given a purpose tomorrow is refused today.

Several IPv6 forms carry an IPv4 address that a translator or a tunnel would contact instead. Such an address has
several *faces*, and each must pass: `64:ff9b::7f00:1` is NAT64 for 127.0.0.1 and falls by its second face.

An operator's *allow* rules open ranges that the table refuses; *deny* rules close ranges and win over everything. The
metadata addresses open only to a rule that names exactly that one address: whoever opens 169.254.0.0/16 rarely means
to give the machine's credentials away.

Sources: the IANA registries "IPv4 Special-Purpose Address Space" and "IPv6 Special-Purpose Address Space" (RFC 6890,
RFC 8190) and "Internet Protocol Version 6 Address Space", the RFC beside each row; for metadata the clouds' manuals.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import quote

from hookbrook.errors import Invalid

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

#: Longer URLs are refused: many servers and proxies refuse request lines of 8 KB, and no receiver's address needs more.
MAX_URL_LENGTH = 2048
#: RFC 1035 section 2.3.4: 255 octets on the wire, which is 253 characters of text.
MAX_HOST_LENGTH = 253
#: An allow or deny list is walked for every connection that is made.
MAX_RULES = 1000

#: (network, what it is, source), the narrower row before the wider one that contains it.
_SPECIAL_V4: Final[tuple[tuple[IPv4Network, str, str], ...]] = tuple(
    (IPv4Network(network), what, source)
    for network, what, source in (
        ("0.0.0.0/8", "an address of this network", "RFC 791 section 3.2"),
        ("10.0.0.0/8", "a private address", "RFC 1918"),
        ("100.64.0.0/10", "an address shared behind carrier-grade NAT", "RFC 6598"),
        ("127.0.0.0/8", "a loopback address", "RFC 1122 section 3.2.1.3"),
        ("169.254.0.0/16", "a link-local address", "RFC 3927"),
        ("172.16.0.0/12", "a private address", "RFC 1918"),
        ("192.0.0.0/24", "an address for protocol assignments", "RFC 6890 section 2.1"),
        ("192.0.2.0/24", "an address for documentation", "RFC 5737"),
        ("192.88.99.0/24", "the retired anycast address of 6to4 relays", "RFC 7526"),
        ("192.168.0.0/16", "a private address", "RFC 1918"),
        ("198.18.0.0/15", "an address for benchmarks", "RFC 2544"),
        ("198.51.100.0/24", "an address for documentation", "RFC 5737"),
        ("203.0.113.0/24", "an address for documentation", "RFC 5737"),
        ("224.0.0.0/4", "a multicast address", "RFC 5771"),
        ("255.255.255.255/32", "the broadcast address", "RFC 919 section 7"),
        ("240.0.0.0/4", "a reserved address", "RFC 1112 section 4"),
    )
)

_SPECIAL_V6: Final[tuple[tuple[IPv6Network, str, str], ...]] = tuple(
    (IPv6Network(network), what, source)
    for network, what, source in (
        ("::/128", "the unspecified address", "RFC 4291 section 2.5.2"),
        ("::1/128", "the loopback address", "RFC 4291 section 2.5.3"),
        ("::ffff:0:0/96", "an IPv4-mapped address", "RFC 4291 section 2.5.5.2"),
        ("::ffff:0:0:0/96", "an IPv4-translated address", "RFC 2765 section 2.1"),
        ("::/96", "an IPv4-compatible address", "RFC 4291 section 2.5.5.1"),
        ("64:ff9b:1::/48", "an address of a local translator", "RFC 8215"),
        ("100::/64", "an address whose packets are discarded", "RFC 6666"),
        ("100:0:0:1::/64", "the dummy prefix", "RFC 9780"),
        ("2001::/32", "a Teredo address", "RFC 4380"),
        ("2001:2::/48", "an address for benchmarks", "RFC 5180"),
        ("2001:10::/28", "a hash, not an address (ORCHID)", "RFC 4843"),
        ("2001:20::/28", "a hash, not an address (ORCHIDv2)", "RFC 7343"),
        ("2001::/23", "an address for protocol assignments", "RFC 2928"),
        ("2001:db8::/32", "an address for documentation", "RFC 3849"),
        ("2002::/16", "a 6to4 address", "RFC 7526"),
        ("3fff::/20", "an address for documentation", "RFC 9637"),
        ("5f00::/16", "a segment routing identifier", "RFC 9602"),
        ("fc00::/7", "a unique local address", "RFC 4193"),
        ("fe80::/10", "a link-local address", "RFC 4291 section 2.5.6"),
        ("fec0::/10", "a site-local address", "RFC 3879"),
        ("ff00::/8", "a multicast address", "RFC 4291 section 2.7"),
    )
)

#: The only IPv6 space that may pass: what IANA allocates unicast addresses from (RFC 4291 section 2.4), and the
#: well-known NAT64 prefix (RFC 6052), through which IPv6-only networks reach every IPv4 host.
_UNICAST_V6: Final = (IPv6Network("2000::/3"), IPv6Network("64:ff9b::/96"))

#: Services that give credentials or user data to whoever asks from inside.
_METADATA: Final[frozenset[Address]] = frozenset(
    ip_address(address)
    for address in (
        "169.254.169.254",  # AWS, Azure, Google Cloud, Oracle, DigitalOcean, Hetzner, OpenStack
        "fd00:ec2::254",  # AWS over IPv6
        "169.254.170.2",  # AWS, credentials of ECS tasks
        "169.254.170.23",  # AWS, EKS Pod Identity
        "fd00:ec2::23",  # AWS, EKS Pod Identity over IPv6
        "fd20:ce::254",  # Google Cloud over IPv6
        "168.63.129.16",  # Azure's platform service: a public address that only its guests reach
        "100.100.100.200",  # Alibaba Cloud
        "192.0.0.192",  # Oracle Cloud, classic
        "169.254.42.42",  # Scaleway
        "fd00:42::42",  # Scaleway over IPv6
        "169.254.0.23",  # Tencent Cloud
    )
)

#: IPv6 networks whose lowest 32 bits are an IPv4 address.
_V4_AT_THE_END: Final = tuple(
    IPv6Network(network)
    for network in (
        "::ffff:0:0/96",
        "::ffff:0:0:0/96",
        "64:ff9b::/96",
        # RFC 8215 leaves the length to the operator. /96 is the common one; who allows this prefix and uses a shorter
        # one answers for what stands elsewhere in the address.
        "64:ff9b:1::/48",
        "::/96",
    )
)
_TEREDO: Final = IPv6Network("2001::/32")
_SIX_TO_FOUR: Final = IPv6Network("2002::/16")
#: RFC 5214 section 6.1: the upper half of an ISATAP interface identifier, for private and for global IPv4.
_ISATAP: Final = (0x00005EFE, 0x02005EFE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One entry of an allow or deny list: a network, and the one port it speaks of (None: every port)."""

    network: Network
    port: int | None = None

    def covers(self, address: str, port: int) -> bool:
        """Whether it speaks of this address and port."""
        return ip_address(address) in self.network and self.port in (None, port)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an address may be contacted; `reason` completes "it is …" and is empty if it may."""

    ok: bool
    reason: str = ""


_PASSED: Final = Verdict(True)


def judge(
    address: str | Address, allowed: Sequence[Rule] = (), denied: Sequence[Rule] = (), *, port: int | None = None
) -> Verdict:
    """Whether a connection to this address may be made.

    Args:
        address: an IP address, or its text. Text that is no IP address, or has a zone (`fe80::1%eth0`), is refused.
        allowed: rules that open what the table refuses.
        denied: rules that win over `allowed` and over the table.
        port: the port of the connection. Without one, an allow rule that names a port does not open anything,
            and a deny rule that names one closes all.
    """
    if isinstance(address, str):
        try:
            address = ip_address(address)
        except ValueError:
            return Verdict(False, "no IP address")
    # RFC 4007 section 11: a zone means an interface of this very machine.
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return Verdict(False, "an address with a zone (RFC 4007)")
    for face in _faces(address):
        if any(_closes(rule, face, port) for rule in denied):
            return Verdict(False, "an address on the operator's deny list")
        reason = _objection(face)
        if reason and not any(_opens(rule, face, port) for rule in allowed):
            return Verdict(False, reason)
    return _PASSED


def _faces(address: Address) -> Iterator[Address]:
    """The address itself, and every IPv4 address that it carries."""
    yield address
    # RFC 4291 section 2.5.5.1: `::` and `::1` are not IPv4-compatible addresses.
    if isinstance(address, IPv4Address) or int(address) <= 1:
        return
    number = int(address)
    low = number & 0xFFFFFFFF
    if any(address in network for network in _V4_AT_THE_END) or (number >> 32 & 0xFFFFFFFF) in _ISATAP:
        yield IPv4Address(low)
    elif address in _SIX_TO_FOUR:
        yield IPv4Address(number >> 80 & 0xFFFFFFFF)
    elif address in _TEREDO:
        # RFC 4380 section 4: the server's address, and the client's with every bit inverted.
        yield IPv4Address(number >> 64 & 0xFFFFFFFF)
        yield IPv4Address(low ^ 0xFFFFFFFF)


def _objection(face: Address) -> str:
    if face in _METADATA:
        return "the address of a cloud's metadata service"
    if isinstance(face, IPv4Address):
        return next((f"{what} ({source})" for network, what, source in _SPECIAL_V4 if face in network), "")
    for network, what, source in _SPECIAL_V6:
        if face in network:
            return f"{what} ({source})"
    if any(face in unicast for unicast in _UNICAST_V6):
        return ""
    return "outside the unicast address space (RFC 4291 section 2.4)"


def _closes(rule: Rule, face: Address, port: int | None) -> bool:
    return face in rule.network and (rule.port is None or port is None or rule.port == port)


def _opens(rule: Rule, face: Address, port: int | None) -> bool:
    if face not in rule.network or (rule.port is not None and rule.port != port):
        return False
    return face not in _METADATA or rule.network.prefixlen == rule.network.max_prefixlen


# `10.0.0.0/8`, `10.1.2.3:8080`, `10.0.0.0/8:443`, `fd00::/8:443`, `[::1]:8080`, `[fd00::/8]:443`. After an IPv6 address
# without a length, `:443` would be a part of the address, so a port needs the brackets there.
_RULE = re.compile(
    r"(?: \[ (?P<bracketed> [0-9a-f:.]+ (?:/\d{1,3})? ) \]"
    r"  | (?P<network> [0-9a-f:.]+ /\d{1,3} )"
    r"  | (?P<v4> [0-9.]+ )"
    r") (?: : (?P<port> \d{1,5} ) )?"
    r"| (?P<v6> [0-9a-f:.]+ )",
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)


def parse_rules(entries: Iterable[str], field: str = "allow") -> tuple[Rule, ...]:
    """An operator's list: a network or an address each, optionally with a port (`10.0.0.0/8`, `127.0.0.1/32:8080`,
    `[::1]:8080`). Raises `Invalid`, which names the entry as `field[n]` and repeats it.
    """
    rules = []
    for index, entry in enumerate(entries):
        name = f"{field}[{index}]"
        if index >= MAX_RULES:
            raise Invalid.of(field, f"may have at most {MAX_RULES} entries")
        match = _RULE.fullmatch(entry.strip())
        if match is None:
            raise Invalid.of(name, f"{entry!r} is no network such as 10.0.0.0/8, 127.0.0.1/32:8080 or [::1]:8080")
        text = match["bracketed"] or match["network"] or match["v4"] or match["v6"]
        try:
            network = ip_network(text)
        except ValueError as exc:
            raise Invalid.of(name, f"{entry!r} is no network: {exc}") from exc
        port = None if match["port"] is None else int(match["port"])
        if port is not None and not 1 <= port <= 65535:
            raise Invalid.of(name, f"{entry!r} names a port that is not between 1 and 65535")
        rules.append(Rule(network=network, port=port))
    return tuple(rules)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An endpoint's URL, taken apart. What is not written here cannot be meant: no user, no fragment, no zone."""

    #: `http` or `https`.
    scheme: str
    #: In lower case and ASCII (IDNA); an IPv6 address without its brackets.
    host: str
    port: int
    #: Begins with `/`; with the query (`?…`) if there is one. Percent-encoded as it came.
    path: str
    #: The host as an address if it is one; a name is judged when it is resolved.
    address: Address | None

    @property
    def url(self) -> str:
        """The one way to write this target; the default port is left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.path}"


_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
# RFC 3986 appendix B, with the scheme and the authority required.
_URL = re.compile(r"([a-z][a-z0-9+.-]*)://([^/?#]*)([^?#]*)(\?[^#]*)?(#.*)?", re.IGNORECASE | re.ASCII | re.DOTALL)
_AUTHORITY = re.compile(r"(?:\[(?P<v6>[^\[\]]*)\]|(?P<host>[^:\[\]]*))(?::(?P<port>[0-9]{0,5}))?", re.DOTALL)
# RFC 1123 section 2.1, and the underscore, which container networks use in host names.
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
# WHATWG URL, "ends in a number": resolvers read such hosts as IPv4 (`2130706433`, `0x7f.1`, `127.1`).
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f\\]")
#: IDNA 2003 and 2008 disagree on these (RFC 5894 section 7.2), so a browser and we would mean different hosts.
_DISPUTED = frozenset("ßς\u200c\u200d")
#: Everything RFC 3986 allows in a path or query, and `%`: what is already encoded is not encoded twice.
_SAFE = "/?:@!$&'()*+,;=%-._~[]"


def parse_url(url: str, field: str = "url") -> Target:
    """The URL of a receiver: absolute, http or https, with a host, without user and fragment.

    Raises `Invalid` naming `field`. Its text repeats at most the host, since a path or query may be a secret.
    """
    if len(url) > MAX_URL_LENGTH:
        raise Invalid.of(field, f"may have at most {MAX_URL_LENGTH} characters")
    if _FORBIDDEN.search(url):
        raise Invalid.of(field, "may not contain spaces, control characters or backslashes")
    match = _URL.fullmatch(url)
    if match is None:
        raise Invalid.of(field, "must be an absolute URL such as https://example.com/webhooks")
    scheme, authority, path, query, fragment = match.groups()
    scheme = scheme.lower()
    if scheme not in _DEFAULT_PORTS:
        raise Invalid.of(field, "must begin with https:// or http://")
    if "@" in authority:
        raise Invalid.of(field, "may not contain a user name or password; use a header instead")
    if fragment is not None:
        raise Invalid.of(field, "may not have a fragment (#), which is never sent")
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        raise Invalid.of(field, "has no valid host and port")
    port = int(parts["port"]) if parts["port"] else _DEFAULT_PORTS[scheme]
    if not 1 <= port <= 65535:
        raise Invalid.of(field, "must have a port between 1 and 65535")
    host, address = _v6_host(parts["v6"], field) if parts["v6"] is not None else _host(parts["host"], field)
    try:
        rest = quote(path or "/", safe=_SAFE) + quote(query or "", safe=_SAFE)
    except UnicodeEncodeError as exc:
        raise Invalid.of(field, "contains a lone surrogate, which is no character") from exc
    return Target(scheme=scheme, host=host, port=port, path=rest, address=address)


def check_target(target: Target, allowed: Sequence[Rule] = (), denied: Sequence[Rule] = (), field: str = "url") -> None:
    """Tell a caller at once that an address in a URL will never be contacted; raises `Invalid` naming `field`.

    A name passes: where it leads is known only when it is resolved, and may change.
    """
    if target.address is not None:
        verdict = judge(target.address, allowed, denied, port=target.port)
        if not verdict.ok:
            way_out = "" if denied and not judge(target.address, (), denied).ok else "; allow_networks can open it"
            raise Invalid.of(field, f"{target.host} is {verdict.reason} and may not be contacted{way_out}")


def _v6_host(text: str, field: str) -> tuple[str, Address]:
    if "%" in text:
        raise Invalid.of(field, "may not have a zone in its IPv6 address")
    try:
        address = IPv6Address(text)
    except ValueError as exc:
        raise Invalid.of(field, f"[{text}] is no IPv6 address") from exc
    return str(address), address


def _host(text: str, field: str) -> tuple[str, Address | None]:
    if not text:
        raise Invalid.of(field, "has no host")
    if len(text) > MAX_HOST_LENGTH:
        raise Invalid.of(field, f"may have a host of at most {MAX_HOST_LENGTH} characters")
    host = _in_ascii(text, field)
    if host.endswith("."):
        raise Invalid.of(field, f"write the host {text!r} without the dot at its end")
    labels = host.split(".")
    if len(host) > MAX_HOST_LENGTH or not all(_LABEL.fullmatch(label) for label in labels):
        raise Invalid.of(field, f"{text!r} is no host name")
    if not _NUMBER.fullmatch(labels[-1]):
        return host, None
    try:
        return host, IPv4Address(host)
    except ValueError as exc:
        raise Invalid.of(
            field, f"{text!r}: write an IPv4 address as four decimal numbers without leading zeros"
        ) from exc


def _in_ascii(host: str, field: str) -> str:
    if host.isascii():
        return host.lower()
    if _DISPUTED & set(host):
        raise Invalid.of(field, f"{host!r} means different hosts under IDNA 2003 and 2008; write its xn-- form")
    try:
        return host.encode("idna").decode("ascii").lower()
    except UnicodeError as exc:
        raise Invalid.of(field, f"{host!r} is no internationalised host name; try its xn-- form") from exc
