"""The guarded client: the one way out of Hookbrook.

A sender of its own, over asyncio's transports and llhttp's parser, because a general client costs several times as much
for each request as the request itself, and because what a general client does for its user is what must not be done
here. What could be a trap, and where it is closed:

- *Addresses.* See `dialler`: judged when a name is resolved, and again where the socket is made.
- *State between receivers.* There is none: no cookies, no redirects, no proxies or credentials from the environment.
- *A proxy*, where the operator names one, carries bytes and decides nothing (`tunnel`).
- *Answers.* See `wire`: bounded in every dimension, not decompressed, never taken for another request's.
- *Old connections.* A pool that is kept busy would keep its first address for ever, so no request starts on a
  connection that is older than a minute (`connections`).
- *Dead connections.* A receiver may close an idle connection just as a request is sent on it. The request is then sent
  again, once, on a fresh one, and only while no byte of an answer has arrived.
- *Too many connections.* A thousand receivers would leave a thousand of them idle; beyond `pool` the one that waited
  longest is closed. How many are in use is the dispatcher's to say.
- *Time.* `connect_timeout_s` covers address, connection and TLS; `total_timeout_s` all of a request, a repeat included.
"""

import asyncio
import ssl
from collections.abc import Sequence
from functools import lru_cache
from time import monotonic
from types import TracebackType
from typing import Final, NamedTuple, Self

from hookbrook.core.addresses import Rule, Target, parse_url
from hookbrook.core.fetch import Fetch, FetchError, Request, Response, Timing, Unsendable
from hookbrook.core.headers import check_headers
from hookbrook.core.proxy import Proxy
from hookbrook.errors import Invalid
from hookbrook.outbound.attempt import Attempt
from hookbrook.outbound.connections import Connections
from hookbrook.outbound.dialler import Dialler
from hookbrook.outbound.faults import late, misanswer, told
from hookbrook.outbound.head import head, request_line
from hookbrook.outbound.resolver import Resolver, SystemResolver
from hookbrook.outbound.tunnel import Tunnels
from hookbrook.outbound.wire import Dropped, HeadTooLarge, NotHttp, Wire

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
#: Idle connections that are kept; half of the usual limit of 1,024 files.
DEFAULT_POOL: Final = 512
#: Distinct URLs whose parsed form is kept.
_URLS: Final = 4096


class _Destination(NamedTuple):
    """What follows from a URL."""

    target: Target
    #: Connections are shared by requests of the same origin.
    origin: tuple[str, str, int]
    peer: str
    #: See `head.request_line`.
    line: str


class _Parts(NamedTuple):
    """What there is while the client is started."""

    connections: Connections
    dialler: Dialler


class GuardedClient:
    """The `Fetch` that everything uses. Start it inside the running loop, or use it as an async context manager.

    Args:
        allowed: addresses that may be contacted although the table of `core.addresses` refuses them.
        denied: addresses that may not be contacted whatever else is said.
        proxy: what all connections go through, or None.
        direct: networks that are contacted without the proxy.
        resolver: finds the addresses of names; the system's if None.
        ssl_context: verifies receivers; the system's default if None.
        user_agent: sent unless a request has its own.
        pool: idle connections that are kept.
        max_connection_age_s: no request starts on an older connection.
    """

    def __init__(
        self,
        *,
        allowed: Sequence[Rule] = (),
        denied: Sequence[Rule] = (),
        proxy: Proxy | None = None,
        direct: Sequence[Rule] = (),
        resolver: Resolver | None = None,
        ssl_context: ssl.SSLContext | None = None,
        user_agent: str = "Hookbrook",
        pool: int = DEFAULT_POOL,
        max_connection_age_s: float = MAX_CONNECTION_AGE_S,
    ) -> None:
        self._allowed = tuple(allowed)
        self._denied = tuple(denied)
        self._proxy = proxy
        self._direct = tuple(direct)
        self._resolver = resolver
        self._ssl_context = ssl_context
        self._user_agent = user_agent
        self._pool = pool
        self._max_age_s = max_connection_age_s
        self._parts: _Parts | None = None
        self._destination = lru_cache(maxsize=_URLS)(self._destination_of)

    async def start(self) -> None:
        """Open the pool; no connection is made yet."""
        resolver = self._resolver or SystemResolver()
        self._parts = _Parts(
            connections=Connections(size=self._pool, idle_s=IDLE_S, max_age_s=self._max_age_s),
            dialler=Dialler(
                resolver,
                self._allowed,
                self._denied,
                self._ssl_context or ssl.create_default_context(),
                None if self._proxy is None else Tunnels(self._proxy, self._direct, resolver),
            ),
        )

    async def close(self) -> None:
        """Close every connection, also those in use. A second call does nothing."""
        parts, self._parts = self._parts, None
        if parts is not None:
            parts.dialler.close()
            parts.connections.close()
            # A connection is gone once its transport was told so, which the loop does in its next turn.
            await asyncio.sleep(0)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def send(self, request: Request) -> Response:
        """As `Fetch.send`. Raises `RuntimeError` if the client is not started."""
        parts = self._parts
        if parts is None:
            raise RuntimeError("the client is not started, or is closed")
        to = self._destination(request.url)
        first = head(request.method, to.line, self._user_agent, request.headers, len(request.body))
        attempt = Attempt(request.method, request.response_limit, secure=to.target.scheme == "https")
        deadline = attempt.started + request.total_timeout_s
        wire = parts.connections.take(to.origin)
        try:
            try:
                if wire is None:
                    wire = await self._dial(parts, to, attempt, request)
                else:
                    attempt.ready = monotonic()
                    attempt.reused = True
                await wire.send(first, request.body, attempt, deadline)
            except Dropped:
                if not attempt.died_unheard:
                    raise
                # Another one from the pool is probably as dead.
                attempt.reused = False
                wire = await self._dial(parts, to, attempt, request)
                await wire.send(first, request.body, attempt, deadline)
        except asyncio.CancelledError:
            if wire is not None:
                wire.abort()
            raise
        except (Dropped, HeadTooLarge, NotHttp) as exc:
            raise told(misanswer(exc, to.peer), attempt) from None
        except TimeoutError:
            raise told(late(to.peer, attempt), attempt) from None
        except FetchError as exc:
            raise told(exc, attempt) from None
        response = attempt.response(truncated=attempt.truncated)
        assert response is not None
        return response

    async def _dial(self, parts: _Parts, to: _Destination, attempt: Attempt, request: Request) -> Wire:
        attempt.ready = None
        allowed_s = min(request.connect_timeout_s, _left(request, attempt))
        async with asyncio.timeout(allowed_s):
            return await parts.dialler.dial(to.target, attempt, lambda: parts.connections.wire(to.origin))

    def _destination_of(self, url: str) -> _Destination:
        try:
            target = parse_url(url)
        except Invalid as exc:
            raise Unsendable(f"The request cannot be sent: {exc.detail}.") from exc
        return _Destination(
            target=target,
            origin=(target.scheme, target.host, target.port),
            peer=f"{target.host}:{target.port}",
            line=request_line(target),
        )


def _left(request: Request, attempt: Attempt) -> float:
    """Seconds until the request must have ended."""
    return max(0.001, attempt.started + request.total_timeout_s - monotonic())
