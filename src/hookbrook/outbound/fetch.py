"""The guarded client: the one way out of Hookbrook.

aiohttp sends many times as many requests per core as its alternatives, but its defaults are those of a client that
talks to one friendly site. What is closed here, and where:

- *Addresses.* A name is resolved by `JudgedResolver`, which refuses it if any of its addresses is refused: a name with
  a public and a private address is a mistake or an attack, and to refuse it always is better than sometimes. Its answer
  is what is connected to; nothing resolves a second time, so a name cannot be rebound in between. aiohttp does not ask
  its resolver about IP literals, so every address is judged again where its socket is made (`GuardedClient._socket`).
- *State between receivers.* No cookie jar, no redirects, no proxies or credentials from the environment.
- *Bodies.* Not decompressed, and read up to the limit; then the connection is closed.
- *Old connections.* A pool that is kept busy would keep its first address for ever, so no request starts on a
  connection that is older than a minute (`Connector.connect`).
- *Dead connections.* A receiver may close an idle connection just as a request is sent on it. aiohttp repeats such a
  request for GET only, and for GET on fresh connections too. Here it is repeated for every method, once, and only while
  no byte of an answer has arrived; `Wire` listens for that byte.
- *Unasked answers.* Bytes that arrive on an idle connection would be taken for the answer to the next request. Such a
  connection is dropped.
- *Too many connections.* aiohttp bounds those in use, not those that idle; a thousand receivers would leave a thousand
  of them. Beyond `pool` connections, new ones are closed after their one request. How many are in use is the
  dispatcher's to say.

What is known of a request while it runs stands in an `Attempt`, found by a context variable: tasks and callbacks that
aiohttp starts inherit it, and it costs a fraction of aiohttp's tracing.
"""

import errno
import http
import socket
import ssl
from collections.abc import Sequence
from functools import lru_cache
from io import BytesIO
from time import monotonic
from types import TracebackType
from typing import Final, Self

import aiohttp
from aiohttp.connector import AddrInfoType
from yarl import URL

from hookbrook.core.addresses import Rule, judge, parse_url
from hookbrook.core.fetch import Fetch, FetchError, Request, Reset, Response, Timing, Unsendable
from hookbrook.core.headers import check_headers
from hookbrook.errors import Invalid
from hookbrook.outbound.faults import MAX_HEADER_COUNT, MAX_HEADER_LENGTH, Dropped, fault
from hookbrook.outbound.resolver import JudgedResolver, Resolver, SystemResolver, with_zone
from hookbrook.outbound.wire import CURRENT, Attempt, Connector

__all__ = [
    "Fetch",
    "FetchError",
    "GuardedClient",
    "Request",
    "Resolver",
    "Response",
    "SystemResolver",
    "Timing",
    "check_headers",
]

#: No request starts on an older connection, so that a receiver that moved is followed within a minute.
MAX_CONNECTION_AGE_S: Final = 60.0
#: Most servers close idle connections after 5 to 75 seconds; waiting longer finds mostly dead ones.
IDLE_S: Final = 15
#: Connections that may be open before further ones are closed after use; half of the usual limit of 1,024 files.
DEFAULT_POOL: Final = 512
#: A name's addresses are used this long before they are asked for again.
DNS_CACHE_S: Final = 10
#: Received but unread bytes of a body, after which the receiver is made to wait. aiohttp allows twice this.
_READ_BUFFER: Final = 16 * 1024
#: aiohttp warns about longer bytes, since it would write them in one go.
_LARGE_BODY: Final = 1024 * 1024
#: Distinct pairs of time-outs whose aiohttp form is kept; making one takes as long as judging an address.
_TIMEOUTS: Final = 64
#: Distinct URLs whose parsed form is kept.
_URLS: Final = 4096


class GuardedClient:
    """The `Fetch` that everything uses. Start it inside the running loop, or use it as an async context manager.

    Args:
        allowed: addresses that may be contacted although the table of `core.addresses` refuses them.
        denied: addresses that may not be contacted whatever else is said.
        resolver: finds the addresses of names; the system's if None.
        ssl_context: verifies receivers; the system's default if None.
        user_agent: sent unless a request has its own.
        pool: connections that may be open before further ones are closed after use.
        max_connection_age_s: no request starts on an older connection.
    """

    def __init__(
        self,
        *,
        allowed: Sequence[Rule] = (),
        denied: Sequence[Rule] = (),
        resolver: Resolver | None = None,
        ssl_context: ssl.SSLContext | None = None,
        user_agent: str = "Hookbrook",
        pool: int = DEFAULT_POOL,
        max_connection_age_s: float = MAX_CONNECTION_AGE_S,
    ) -> None:
        self._allowed = tuple(allowed)
        self._denied = tuple(denied)
        self._resolver = resolver
        self._ssl_context = ssl_context
        self._user_agent = user_agent
        self._pool = pool
        self._max_age_s = max_connection_age_s
        self._session: aiohttp.ClientSession | None = None
        self._url = lru_cache(maxsize=_URLS)(_sendable_url)

    async def start(self) -> None:
        """Open the pool; no connection is made yet."""
        connector = Connector(
            pool=self._pool,
            max_age_s=self._max_age_s,
            # The dispatcher's slots govern; a second queue in here would hold one receiver's requests behind another's.
            limit=0,
            limit_per_host=0,
            keepalive_timeout=IDLE_S,
            ttl_dns_cache=DNS_CACHE_S,
            resolver=JudgedResolver(self._resolver or SystemResolver(), self._allowed, self._denied),
            socket_factory=self._socket,
            ssl=self._ssl_context or True,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            # What is not decompressed had better not be compressed, so that people can read it.
            headers={"User-Agent": self._user_agent, "Accept-Encoding": "identity"},
            read_bufsize=_READ_BUFFER,
            max_line_size=MAX_HEADER_LENGTH,
            max_field_size=MAX_HEADER_LENGTH,
            max_headers=MAX_HEADER_COUNT,
        )

    async def close(self) -> None:
        """Close every connection, also those in use. A second call does nothing."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def send(self, request: Request) -> Response:
        """As `Fetch.send`. Raises `RuntimeError` if the client is not started."""
        session = self._session
        if session is None:
            raise RuntimeError("the client is not started, or is closed")
        attempt = Attempt()
        token = CURRENT.set(attempt)
        try:
            return await self._exchange(session, request, attempt)
        except Reset:
            if not attempt.died_unheard:
                raise
            attempt.fresh_only = True
            return await self._exchange(session, request, attempt)
        finally:
            CURRENT.reset(token)

    async def _exchange(self, session: aiohttp.ClientSession, request: Request, attempt: Attempt) -> Response:
        url = self._url(request.url)
        left = request.total_timeout_s
        if attempt.fresh_only:
            left = max(0.001, attempt.started + left - monotonic())
        body = request.body
        answer: aiohttp.ClientResponse | None = None
        finished = False
        try:
            answer = await session.request(
                request.method,
                url,
                headers=request.headers,
                data=(body if len(body) <= _LARGE_BODY else BytesIO(body)) if body else None,
                allow_redirects=False,
                timeout=_timeout(left, request.connect_timeout_s),
                # aiohttp never repeats a POST by itself, and a middleware costs each request a little.
                middlewares=() if request.method == "POST" else (_without_hidden_repeats,),
            )
            attempt.answered = monotonic()
            attempt.head = answer
            finished = await _read(answer, request.response_limit, attempt.body)
        except (aiohttp.ClientError, OSError, ValueError, FetchError, Dropped) as exc:
            # `from None`: aiohttp's exceptions carry the whole URL and the request's headers, which may be secret.
            raise fault(exc, attempt, url) from None
        finally:
            if answer is not None and not finished:
                answer.close()
        response = attempt.response(url.scheme == "https", truncated=not finished)
        assert response is not None
        return response

    def _socket(self, info: AddrInfoType) -> socket.socket:
        """The last gate: whatever led here, an address that is refused gets no socket."""
        family, kind, protocol, _, address = info
        attempt = CURRENT.get()
        verdict = judge(with_zone(address), self._allowed, self._denied, port=address[1])
        if not verdict.ok:
            attempt.blocked = verdict.reason
            raise OSError(errno.EACCES, "refused by the address guard")
        if attempt.dialled is None:
            attempt.dialled = monotonic()
        return socket.socket(family, kind, protocol)


@lru_cache(maxsize=_TIMEOUTS)
def _timeout(total_s: float, connect_s: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=total_s, connect=connect_s, sock_connect=connect_s)


async def _without_hidden_repeats(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    # aiohttp repeats GET and other idempotent requests when it sees one of these two, also on a fresh connection.
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
        raise Dropped from None


async def _read(answer: aiohttp.ClientResponse, limit: int, chunks: list[bytes]) -> bool:
    """Collect at most `limit` bytes; True if that was the whole body."""
    if answer.status == http.HTTPStatus.SWITCHING_PROTOCOLS:
        answer.close()  # what follows is no body, and goes on for ever
        return True
    left = limit
    content = answer.content
    while not content.at_eof():
        chunk = await content.read(left + 1)
        if len(chunk) > left:
            chunks.append(chunk[:left])
            return False
        chunks.append(chunk)
        left -= len(chunk)
    return True


def _sendable_url(text: str) -> URL:
    try:
        target = parse_url(text)
    except Invalid as exc:
        raise Unsendable(f"The request cannot be sent: {exc.detail}.") from exc
    return URL(target.url, encoded=True)
