"""The port through which every outbound request goes, and what can come of one.

The port stands in core so that whoever needs a request made (deliveries, key sets, certificates) can be handed a
`Fetch` without importing the client that implements it.

    FetchError
    ├── NotSent                            the receiver saw no request
    │   ├── Unsendable     bad_request       the URL or a header cannot be sent at all
    │   ├── Blocked        blocked_address   the host is, or resolves to, an address that may not be contacted
    │   ├── DnsFailed      dns               the name does not resolve, or not in time
    │   ├── ConnectRefused connect_refused
    │   ├── Unreachable    unreachable       no route, or the network answered with an error
    │   ├── ConnectTimeout connect_timeout
    │   ├── TlsFailed      tls               the certificate is not accepted, or the handshake broke
    │   ├── LocalFault     local             our own machine has no socket or port left; not the receiver's fault
    │   └── ProxyFailed    proxy             the operator's forward proxy is down or refuses; not the receiver's fault
    └── NoAnswer                           the receiver may have seen it, so it may come twice
        ├── TimedOut       timeout
        ├── Reset          reset             the connection ended before the answer did
        ├── BadResponse    bad_response      the answer is not HTTP
        └── HeadersTooLarge too_large_headers
"""

from typing import ClassVar, Protocol

import msgspec

from hookbrook.errors import HookbrookError

#: What is kept of an answer. Enough for an error page's first lines; an attempt is stored for each try.
DEFAULT_RESPONSE_LIMIT = 16 * 1024
DEFAULT_CONNECT_TIMEOUT_S = 10.0
#: Standard Webhooks 1.0 advises 15 to 30 seconds.
DEFAULT_TOTAL_TIMEOUT_S = 20.0


# `gc=False`: these hold no cycles, and thousands of them live at once on the hottest path.
class Request(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    method: str = "POST"
    url: str
    headers: dict[str, str] = {}
    body: bytes = b""
    #: For the address, the connection and TLS together.
    connect_timeout_s: float = DEFAULT_CONNECT_TIMEOUT_S
    #: For everything, the answer's body included.
    total_timeout_s: float = DEFAULT_TOTAL_TIMEOUT_S
    #: Bytes of the answer's body that are kept; the rest is not read.
    response_limit: int = DEFAULT_RESPONSE_LIMIT


class Timing(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where the time went, in microseconds. None: it did not come to that, or the connection was a reused one."""

    total: int
    resolve: int | None = None
    connect: int | None = None
    tls: int | None = None
    #: From the connection until the answer's head was complete.
    wait: int | None = None


class Response(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the receiver answered, whatever its status; a redirect is an answer like any other."""

    status: int
    #: As received, in order, up to a limit of bytes.
    headers: tuple[tuple[str, str], ...]
    #: As received (not decompressed), up to the request's limit.
    body: bytes
    #: The body went on after the limit.
    truncated: bool = False
    #: `ip:port` of the connection.
    address: str
    timing: Timing

    def header(self, name: str) -> str | None:
        """The first value of a header, or None."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key.lower() == wanted), None)


class FetchError(HookbrookError):
    """No complete answer. `str()` is one sentence for people, without path, query or headers, which may be secret."""

    #: A stable word for programs.
    code: ClassVar[str] = "failed"

    def __init__(
        self,
        detail: str,
        *,
        timing: Timing | None = None,
        address: str | None = None,
        response: Response | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.timing = timing
        #: `ip:port` of the connection if there was one.
        self.address = address
        #: What had arrived of the answer when it broke off, if its head had.
        self.response = response


class NotSent(FetchError):
    """The receiver saw no request."""


class Unsendable(NotSent):
    code = "bad_request"


class Blocked(NotSent):
    code = "blocked_address"


class DnsFailed(NotSent):
    code = "dns"


class ConnectRefused(NotSent):
    code = "connect_refused"


class Unreachable(NotSent):
    code = "unreachable"


class ConnectTimeout(NotSent):
    code = "connect_timeout"


class TlsFailed(NotSent):
    code = "tls"


class LocalFault(NotSent):
    code = "local"


class ProxyFailed(NotSent):
    code = "proxy"


class NoAnswer(FetchError):
    """The receiver may have seen the request."""


class TimedOut(NoAnswer):
    code = "timeout"


class Reset(NoAnswer):
    code = "reset"


class BadResponse(NoAnswer):
    code = "bad_response"


class HeadersTooLarge(NoAnswer):
    code = "too_large_headers"


class Fetch(Protocol):
    """Makes outbound requests. An implementation MUST

    - judge every address before it connects (`core.addresses.judge`), a name's as well as a literal one, refuse a name
      when any of its addresses is refused, and connect to a judged address without resolving again;
    - return every status as it is, and follow no redirect;
    - send what it is given: no cookies, no credentials and no proxy from the environment;
    - end within `total_timeout_s`, whatever the receiver does, and keep at most `response_limit` bytes of the body;
    - send a request a second time only if its reused connection ended before any byte of an answer, and only once;
    - raise nothing but `FetchError` for what goes wrong outside this process.
    """

    async def send(self, request: Request) -> Response:
        """Raises `FetchError`."""
        ...
