"""The rules of DESIGN 2.11: a web page elsewhere cannot drive us.

Two attacks are meant. With DNS rebinding, a page of `evil.example` lets that name point at 127.0.0.1 and then talks to
us as its own origin; the `Host` that the browser sends still says `evil.example`, so an unlisted host is refused
(421). With cross-site requests, a page posts to us without being able to read the answer; the browser names the page
in `Origin`, so anything but a GET from a foreign one is refused (403). Programs send neither a strange `Host` nor an
`Origin` and notice nothing. Under `/in/` both rules are off: providers come with whatever host name a tunnel has, and
prove themselves by signature.

Pages of listed origins are let in, and CORS tells the browser so (Fetch standard, "HTTP extensions").
"""

import ipaddress
from collections.abc import Awaitable, Iterable, Mapping
from copy import copy
from typing import Final
from urllib.parse import urlsplit

from hookbrook.errors import BadRequest, ConfigError, Forbidden, Misdirected, Problem
from hookbrook.http.exchange import RESPOND
from hookbrook.http.problems import App, Headers, Message, Receive, Scope, Send, send_problem

#: Names under which a browser on this machine reaches this machine; listed with any port.
LOOPBACK_NAMES: Final = ("localhost", "127.0.0.1", "[::1]")
#: Distinct spellings of good `Host` values that are remembered; a wildcard would otherwise let anybody fill memory.
MAX_KNOWN_HOSTS: Final = 1024
#: How long a browser may rely on a preflight; Firefox takes a day, Chromium two hours.
PREFLIGHT_S: Final = 600

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_DEFAULT_PORTS: Mapping[str, int] = {"http": 80, "https": 443}
_READ = frozenset({b"host", b"origin", b"sec-fetch-site"})
_VARY = (b"vary", b"origin")
_PREFLIGHT: Headers = [
    (b"access-control-allow-methods", b"GET, HEAD, POST, PUT, PATCH, DELETE"),
    (b"access-control-allow-headers", b"authorization, content-type, idempotency-key, last-event-id"),
    (b"access-control-max-age", str(PREFLIGHT_S).encode()),
]


def parse_host(value: str) -> tuple[str, int | None]:
    """Name (lower case, without a final dot, IPv6 in brackets) and port of a `Host` value, RFC 9110 section 7.2.

    Raises `ValueError` if it is none.
    """
    if not value.isascii():
        raise ValueError(value)
    if value.startswith("["):
        literal, bracket, rest = value[1:].partition("]")
        name = f"[{ipaddress.IPv6Address(literal)}]"
        port = rest.removeprefix(":")
        if not bracket or rest == port != "":
            raise ValueError(value)
    else:
        name, _, port = value.partition(":")
        name = name.lower().removesuffix(".")
    if not name or any(character in name for character in "/\\?#@*, \t"):
        raise ValueError(value)
    if not port:
        return name, None
    if not port.isdigit() or len(port) > 5 or int(port) > 65535:
        raise ValueError(value)
    return name, int(port)


def parse_origin(value: str) -> tuple[str, str, int]:
    """Scheme, name and port of an `Origin` (`https://app.example:8443`); raises `ValueError` if it is none."""
    scheme, separator, host = value.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in _DEFAULT_PORTS:
        raise ValueError(value)
    name, port = parse_host(host)
    return scheme, name, _DEFAULT_PORTS[scheme] if port is None else port


def hosts_for(bind_host: str, public_url: str | None, extra: Iterable[str]) -> tuple[str, ...]:
    """The hosts to list: what is bound, what `public_url` names, and what the setting `allowed_hosts` adds.

    The loopback names are listed if loopback is among what is bound. Raises `ConfigError`.
    """
    hosts: list[str] = []
    if _binds_loopback(bind_host):
        hosts += LOOPBACK_NAMES
    if bind_host not in ("", "0.0.0.0", "::"):  # noqa: S104 - it is compared, not bound
        hosts.append(f"[{bind_host}]" if ":" in bind_host else bind_host)
    if public_url:
        hosts.append(_origin_of(public_url)[1])
    hosts += extra
    Hosts(hosts)
    return tuple(dict.fromkeys(hosts))


def origins_for(public_url: str | None, extra: Iterable[str]) -> tuple[str, ...]:
    """The origins to allow: that of `public_url`, and what the setting `allowed_origins` adds.

    Our own pages, behind a proxy that ends TLS, have an origin that we would not know for our own. Raises
    `ConfigError`.
    """
    origins = list(extra)
    if public_url:
        scheme, host = _origin_of(public_url)
        origins.insert(0, f"{scheme}://{host}")
    return tuple(dict.fromkeys(_canonical_origin(origin) for origin in origins))


def _binds_loopback(bind_host: str) -> bool:
    if bind_host in ("", "localhost"):
        return True
    try:
        address = ipaddress.ip_address(bind_host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _origin_of(public_url: str) -> tuple[str, str]:
    parts = urlsplit(public_url)
    try:
        parse_origin(f"{parts.scheme}://{parts.netloc}")
    except ValueError as exc:
        raise ConfigError("public_url", "must look like https://hooks.example.com.") from exc
    return parts.scheme, parts.netloc


def _canonical_origin(origin: str) -> str:
    """`origin` as a browser writes it: lower case, and no port where it is the scheme's own."""
    try:
        scheme, name, port = parse_origin(origin)
    except ValueError as exc:
        raise ConfigError(
            "allowed_origins", f"{origin!r} is no origin; write https://app.example.com, without a path or a wildcard."
        ) from exc
    return f"{scheme}://{name}" if port == _DEFAULT_PORTS[scheme] else f"{scheme}://{name}:{port}"


class Hosts:
    """The listed hosts. An entry is `name` (any port), `name:port`, `*.example.com` (any depth below) or `*`.

    Raises `ConfigError` for an entry that is none of these.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        self._any = False
        self._exact: set[tuple[str, int | None]] = set()
        self._below: set[tuple[str, int | None]] = set()
        self._known: set[bytes] = set()
        for entry in entries:
            self._add(entry)

    def _add(self, entry: str) -> None:
        if entry == "*":
            self._any = True
            return
        try:
            name, port = parse_host(entry.removeprefix("*."))
        except ValueError as exc:
            raise ConfigError(
                "allowed_hosts", f"{entry!r} is no host; write hooks.example.com or *.example.com."
            ) from exc
        (self._below if entry.startswith("*.") else self._exact).add((name, port))

    def allow(self, host: bytes) -> bool:
        """Whether a `Host` header's value is listed; one look-up for those seen before."""
        if host in self._known:
            return True
        if not self._listed(host):
            return False
        if len(self._known) < MAX_KNOWN_HOSTS:
            self._known.add(host)
        return True

    def _listed(self, host: bytes) -> bool:
        try:
            name, port = parse_host(host.decode("ascii"))
        except ValueError:
            return False
        if self._any or not self._exact.isdisjoint({(name, None), (name, port)}):
            return True
        labels = name.split(".")
        parents = (".".join(labels[index:]) for index in range(1, len(labels)))
        return any(not self._below.isdisjoint({(parent, None), (parent, port)}) for parent in parents)


def is_same_origin(origin: bytes, scheme: str, host: bytes) -> bool:
    """Whether a page of `origin` belongs to the server that was called as `host` (RFC 6454 section 5)."""
    if origin == b"%s://%s" % (scheme.encode(), host):
        return True
    try:
        name, port = parse_host(host.decode("ascii"))
        return parse_origin(origin.decode("ascii")) == (scheme, name, _DEFAULT_PORTS[scheme] if port is None else port)
    except ValueError:
        return False


class Guard:
    """ASGI wrapper that holds the rules of this module. It stands outside of `Problems`, so that a listed page can
    read what the doors refuse, too.

    Args:
        allowed_hosts: see `Hosts` and `hosts_for`.
        allowed_origins: exact origins (`https://app.example.com`), see `origins_for`.
        exempt_prefix: paths below are let through without a look at host and origin.

    Raises `ConfigError`.
    """

    def __init__(
        self,
        app: App,
        *,
        allowed_hosts: Iterable[str],
        allowed_origins: Iterable[str] = (),
        exempt_prefix: str = "/in/",
    ) -> None:
        self._app = app
        self._hosts = Hosts(allowed_hosts)
        self._exempt_prefix = exempt_prefix
        self._cors: dict[bytes, Headers] = {}
        for origin in allowed_origins:
            value = _canonical_origin(origin).encode("ascii")
            self._cors[value] = [
                (b"access-control-allow-origin", value),
                (b"access-control-allow-credentials", b"true"),
                (b"access-control-expose-headers", b"location, retry-after"),
            ]

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http":
            return self._app(scope, receive, send)
        try:
            origin = self.judge(scope)
        except Problem as problem:
            return send_problem(send, problem, head=scope["method"] == "HEAD")
        if origin is None:
            if self._cors:
                send = _adding(scope, send, [_VARY])
            return self._app(scope, receive, send)
        if scope["method"] == "OPTIONS" and _is_preflight(scope):
            return self._answer_preflight(origin, send)
        return self._app(scope, receive, _adding(scope, send, [_VARY, *self._cors.get(origin, ())]))

    def around(self, app: App) -> "Guard":
        """The same rules around another application."""
        guard = copy(self)
        guard._app = app
        return guard

    def lines_for(self, origin: bytes | None) -> bytes:
        """The header lines that an answer to a page of that origin begins with, each ended by CR LF."""
        if origin is None and not self._cors:
            return b""
        headers = self._cors.get(origin, []) if origin is not None else []
        return b"".join(b"%b: %b\r\n" % header for header in (_VARY, *headers))

    def judge(self, scope: Scope) -> bytes | None:
        """The page's origin, if one is named and the rules apply; raises a `Problem` if they are broken."""
        host = origin = site = None
        hosts = 0
        for name, value in scope["headers"]:
            if name in _READ:
                if name == b"host":
                    host = value
                    hosts += 1
                elif name == b"origin":
                    # Two of them are no origin at all, and so a foreign one.
                    origin = value if origin is None else b"null"
                else:
                    site = value
        if hosts != 1:
            _check_host_count(hosts, scope)
        path: str = scope["path"]
        if path.removeprefix(scope.get("root_path", "")).startswith(self._exempt_prefix):
            return None
        if host is not None and not self._hosts.allow(host):
            raise Misdirected(
                "This host name is not listed here. If it should be, add it to the setting allowed_hosts.",
            )
        if scope["method"] not in _SAFE and self._is_foreign(scope, host or b"", origin, site):
            raise Forbidden(
                "A page of another origin may not do this. If it should, add it to the setting allowed_origins."
            )
        return origin

    def _is_foreign(self, scope: Scope, host: bytes, origin: bytes | None, site: bytes | None) -> bool:
        if origin is None:
            # Only browsers send Sec-Fetch-Site; `same-site` is another port or a sibling name, so another origin.
            return site in (b"cross-site", b"same-site")
        return origin not in self._cors and not is_same_origin(origin, scope["scheme"], host)

    async def _answer_preflight(self, origin: bytes, send: Send) -> None:
        headers = [_VARY]
        if origin in self._cors:
            headers += [*self._cors[origin][:2], *_PREFLIGHT]
        await send({"type": "http.response.start", "status": 204, "headers": headers})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _check_host_count(count: int, scope: Scope) -> None:
    """RFC 9112 section 3.2. HTTP/1.0 knows no `Host`, and browsers no longer know HTTP/1.0."""
    if count > 1:
        raise BadRequest("The request has several Host headers.")
    if scope["http_version"] != "1.0":
        raise BadRequest("The request has no Host header.")


def _is_preflight(scope: Scope) -> bool:
    return any(name == b"access-control-request-method" for name, _ in scope["headers"])


def _adding(scope: Scope, send: Send, headers: Headers) -> Send:
    # A response in one piece would leave without them.
    (scope.get("extensions") or {}).pop(RESPOND, None)

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *headers]}
        await send(message)

    return send_with_headers
