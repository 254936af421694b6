"""How much one party may have: streams open at once, streams opened and events published a second.

Programs that publish too fast are told 429 and when to come again. Streams are told in the stream: after any other
answer than 200 a browser's EventSource gives up for good, so it gets `hookbrook.busy`, a `retry:` and the end.
"""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from hookbrook.config import Settings
from hookbrook.core.rate import Buckets
from hookbrook.errors import TooMany
from hookbrook.http.auth import Principal
from hookbrook.http.busy import send_busy, send_expired
from hookbrook.http.problems import Send
from hookbrook.stream.connection import Connection, owner
from hookbrook.stream.connections import BROWSER_CONNECTIONS, Connections

log = logging.getLogger("hookbrook.stream")

#: A browser that has used all its connections up is told of in the log once in so many seconds.
TELL_AGAIN_S = 600.0
#: Browsers that are remembered as told of.
MAX_TOLD = 10_000


@dataclass(frozen=True, slots=True)
class Busy:
    """Why a stream cannot be opened now, and the seconds after which it may be possible, if they are known."""

    #: In a word: `connections`, `address`, `subject` or `rate`.
    reason: str
    least_s: float = 0.0


class Admission:
    """See the module. Everything belongs to one event loop.

    Args:
        now: seconds of a monotonic clock.
        rng: spreads the moments at which streams come back.
    """

    def __init__(self, settings: Settings, connections: Connections, *, now: Callable[[], float], rng: Random) -> None:
        self._settings = settings
        self._connections = connections
        self._now = now
        self._rng = rng
        self._publishing = _buckets(settings.publish_rate, settings.publish_burst)
        self._connecting = _buckets(settings.connect_rate, settings.connect_burst)
        self._telling = Buckets(1 / TELL_AGAIN_S, 1, max_parties=MAX_TOLD)

    @property
    def limits_publishing(self) -> bool:
        return self._publishing is not None

    def publish(self, principal: Principal, address: str, count: int) -> None:
        """Count so many events as published; raises `TooMany` if the party is over its rate."""
        wait = self.wait_to_publish(principal, address, count)
        if wait:
            rate = self._settings.publish_rate
            raise TooMany(
                f"More than {rate} events a second were published with this credential (publish_rate).",
                headers={"Retry-After": str(math.ceil(wait))},
                extra={"limit": rate},
            )

    def wait_to_publish(self, principal: Principal, address: str, count: int) -> float:
        """Count so many events as published and return 0, or count none and return the seconds to wait."""
        if self._publishing is None or count == 0:
            return 0.0
        party = owner(principal.kind, principal.tenant, principal.subject, address)
        return self._publishing.take(party, self._now(), count)

    def connect(self, address: str) -> Busy | None:
        """Count one more stream as asked for; returns why it comes too soon."""
        if self._connecting is None:
            return None
        wait = self._connecting.take(address, self._now())
        return Busy("rate", wait) if wait else None

    def open(self, connection: Connection) -> Busy | None:
        """Why one more stream may not be open at once; None if it may."""
        settings, connections = self._settings, self._connections
        if settings.max_connections is not None and len(connections) >= settings.max_connections:
            return Busy("connections")
        limit = settings.max_connections_per_address
        if limit is not None and connections.at_address(connection.address) >= limit:
            return Busy("address")
        limit = settings.max_connections_per_subject
        if limit is not None and connection.subject and connections.of_owner(connection.owner) >= limit:
            return Busy("subject")
        return None

    async def send_away(self, send: Send, busy: Busy) -> None:
        """The whole answer to a stream that cannot be opened now."""
        await send_busy(send, busy.reason, self._rng, least_s=busy.least_s)

    async def send_expired(self, send: Send) -> None:
        """Answer a stream whose token had expired before."""
        await send_expired(send, self._rng)

    def tell_of_tabs(self, connection: Connection) -> None:
        """Log that a browser has no connection left, if this stream took its last one.

        The next one never reaches us: it waits in the browser.
        """
        browser = connection.browser
        if browser is None or self._connections.of_browser(browser) < BROWSER_CONNECTIONS:
            return
        if not self._telling.take(str(browser), self._now()):
            log.warning(
                "%s at %s has %d streams open in one browser. Over HTTP/1.1 that is all that a browser opens to one"
                " origin, and the next tab will wait without an error: put a proxy with HTTP/2 in front, read several"
                " channels on one stream, or share one among the tabs with /hookbrook.js",
                connection.subject or "somebody",
                connection.address,
                self._connections.of_browser(browser),
            )


def _buckets(rate: int | None, burst: int) -> Buckets | None:
    return None if rate is None else Buckets(rate, burst)
