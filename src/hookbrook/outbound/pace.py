"""How fast one endpoint is sent to: by the rate that it asked for, and by what it answers.

- **Rate.** `rate_limit` requests a second are begun, evenly: the generic cell rate algorithm (ITU-T I.371), which is a
  token bucket written as one moment, with room for a tenth of a second's worth at once.
- **Slowing down.** 429, 502, 503 and 504 say that the receiver has too much to do. Then nothing is begun for as long
  as its `Retry-After` says, or a second, and half as many requests may be in flight as before. Each that arrives makes
  room for one more.
- **The breaker.** After many failures in a row the endpoint is taken to be down: one request at a time probes it, after
  a pause that doubles. Deliveries that are due wait meanwhile and lose no attempt. The first probe that arrives begins
  the way up, so that a receiver which has just come back is not met by everything at once.

All of it is the endpoint's, not one delivery's: what is due then waits with it, first attempts too. Moments are seconds
of the monotonic clock.
"""

from typing import Final

from hookbrook.core.endpoint import Endpoint

#: Failures in a row that open the breaker: a receiver that refuses only some events does not make so many.
BREAK_AFTER: Final = 10
#: Before the first probe, and at most.
FIRST_PAUSE_S: Final = 1.0
MAX_PAUSE_S: Final = 60.0
#: Without a `Retry-After`.
SLOW_PAUSE_S: Final = 1.0
#: A `Retry-After` of a day concerns the delivery; one answer must not silence the whole endpoint for so long.
MAX_SLOW_PAUSE_S: Final = 3600.0
#: Requests of this time may be begun at once, so that timers need not be finer than they are.
BURST_S: Final = 0.1


class Pace:
    """See the module."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._limit = endpoint.concurrency
        self._interval = _interval(endpoint)
        #: When the next request would be begun if all were even.
        self._next = 0.0
        #: How many may be in flight.
        self._room = endpoint.concurrency
        #: Nothing is begun before.
        self._until = 0.0
        #: Requests that were begun before this moment do not slow it down any more.
        self._slowed = 0.0
        self._failures = 0
        self._pause = FIRST_PAUSE_S

    def change(self, endpoint: Endpoint) -> None:
        """The endpoint was saved: its own limits apply, and it gets a new chance."""
        self._limit = self._room = endpoint.concurrency
        self._interval = _interval(endpoint)
        self._until = 0.0
        self._failures = 0
        self._pause = FIRST_PAUSE_S

    @property
    def room(self) -> int:
        """How many requests may be in flight."""
        return 1 if self._failures >= BREAK_AFTER else self._room

    def wait(self, now: float) -> float:
        """Seconds until a request may be begun; 0 or less: now."""
        if not self._interval:
            return self._until - now
        return max(self._until, self._next - BURST_S) - now

    def begin(self, now: float) -> None:
        """A request is begun."""
        if self._interval:
            self._next = max(self._next, now) + self._interval

    def arrived(self) -> None:
        """A request was accepted."""
        if self._failures >= BREAK_AFTER:
            self._room = 1
        self._failures = 0
        self._pause = FIRST_PAUSE_S
        self._room = min(self._limit, self._room + 1)

    def failed(self, now: float) -> None:
        """One was not."""
        self._failures += 1
        # Others that were in flight when the breaker opened are no probes, and do not lengthen the pause.
        if self._failures >= BREAK_AFTER and now >= self._until:
            self._until = now + self._pause
            self._pause = min(2 * self._pause, MAX_PAUSE_S)

    def slow_down(self, begun: float, now: float, retry_after_s: float | None) -> None:
        """A request that was begun then asks for less."""
        asked = SLOW_PAUSE_S if retry_after_s is None else min(retry_after_s, MAX_SLOW_PAUSE_S)
        if begun >= self._slowed:
            self._slowed = now
            self._room = max(1, self._room // 2)
            self._until = max(self._until, now + asked)
        elif retry_after_s is not None:
            self._until = max(self._until, now + asked)

    def at_rest(self, now: float) -> bool:
        """Whether nothing is remembered that a new one would not know."""
        return self._failures == 0 and self._room == self._limit and max(self._until, self._next) <= now


def _interval(endpoint: Endpoint) -> float:
    """Seconds between two requests; 0: no limit."""
    return 1 / endpoint.rate_limit if endpoint.rate_limit else 0.0
