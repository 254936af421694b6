"""What an attempt amounts to: its record, and whether the delivery has arrived, is tried again, or is given up.

2xx                                accepted
410                                given up at once, and the endpoint is disabled: the receiver is gone for good
nothing can be sent at all          given up at once: the event goes round in a circle, does not fit the endpoint's
                                   transform, or is too large for it
anything else, redirects too       tried again by the endpoint's schedule, until that is spent
"""

from random import Random
from typing import Final

import msgspec

from hookbrook.core import endpoint as reasons
from hookbrook.core.delivery import Attempt, Happening, Outcome
from hookbrook.core.endpoint import Endpoint
from hookbrook.core.fetch import FetchError, Response
from hookbrook.core.retry import Schedule, next_attempt, parse_retry_after
from hookbrook.outbound.body import Unfit

#: The error of an attempt that our own fault ended; besides the codes of `core.fetch` and of `Unfit`.
INTERNAL: Final = "internal"

#: RFC 9110 section 15.5.11 and Standard Webhooks 1.0: "410 Gone" means that no further webhook is wanted.
GONE: Final = 410
#: The receiver, or a proxy before it, has too much to do (Standard Webhooks 1.0 names 429, 502 and 504). RFC 6585
#: section 4 and RFC 9110 section 15.6.4 give `Retry-After` a meaning for 429 and 503; proxies send it with the others.
SLOW_DOWN: Final = frozenset({429, 502, 503, 504})

#: What came of a try: an answer, no answer, or our own fault.
Result = Response | FetchError | Unfit | Exception


class Try(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One try of a delivery that is over. Times are microseconds."""

    id: str
    delivery_id: str
    #: Which attempt of the delivery this was; the first is 1.
    number: int
    started: int
    duration: int
    result: Result


def accepted(done: Try) -> Outcome | None:
    """The outcome to record if it has arrived."""
    answer = done.result
    if not isinstance(answer, Response) or not 200 <= answer.status < 300:
        return None
    return Outcome(attempt=_attempt(done, answer, answer), happening=Happening.ACCEPTED)


def conclude(done: Try, endpoint: Endpoint, *, now: int, rng: Random) -> Outcome:
    """The outcome to record if it has not; `now` is the time from which the next attempt is reckoned."""
    result = done.result
    answer = _answer(result)
    told = result if isinstance(result, Response | FetchError) else None
    # An answer that broke off is an error, and yet its head and first bytes may say why.
    attempt = _attempt(done, told, answer, *_said(result))
    if isinstance(result, Response) and result.status == GONE:
        return Outcome(attempt=attempt, happening=Happening.EXHAUSTED, disables=reasons.GONE)
    if isinstance(result, Unfit):
        return Outcome(attempt=attempt, happening=Happening.EXHAUSTED)
    schedule = Schedule() if endpoint.retry is None else Schedule(delays_s=endpoint.retry)
    next_at = next_attempt(schedule, done.number, now, rng, _retry_after_s(answer, done.started))
    if next_at is None:
        return Outcome(attempt=attempt, happening=Happening.EXHAUSTED)
    return Outcome(attempt=attempt, happening=Happening.REFUSED, next_at=next_at)


def slow_down(done: Try) -> tuple[bool, float | None]:
    """Whether the receiver asks for fewer requests, and for how many seconds, if it says so."""
    answer = _answer(done.result)
    asks = answer is not None and answer.status in SLOW_DOWN
    return asks, _retry_after_s(answer, done.started)


def _attempt(
    done: Try,
    told: Response | FetchError | None,
    answer: Response | None,
    error: str | None = None,
    message: str | None = None,
) -> Attempt:
    """`told`: what says where the time went."""
    timing = None if told is None else told.timing
    return Attempt(
        id=done.id,
        delivery_id=done.delivery_id,
        started=done.started,
        duration=done.duration,
        resolve=None if timing is None else timing.resolve,
        connect=None if timing is None else timing.connect,
        tls=None if timing is None else timing.tls,
        wait=None if timing is None else timing.wait,
        address=None if told is None else told.address,
        status=None if answer is None else answer.status,
        error=error,
        message=message,
        response_headers=() if answer is None else answer.headers,
        response_body=b"" if answer is None else answer.body,
        truncated=answer is not None and answer.truncated,
    )


def _answer(result: Result) -> Response | None:
    if isinstance(result, Response):
        return result
    return result.response if isinstance(result, FetchError) else None


def _said(result: Result) -> tuple[str | None, str]:
    """The error of an attempt, and a sentence for people."""
    if isinstance(result, Response):
        return None, f"The receiver answered {result.status}."
    if isinstance(result, FetchError | Unfit):
        return result.code, str(result)
    # The exception's own text may hold a secret; it is in the log, for the operator alone.
    return INTERNAL, "An error within Hookbrook ended this attempt; its log says more."


def _retry_after_s(answer: Response | None, now: int) -> float | None:
    if answer is None or answer.status not in SLOW_DOWN:
        return None
    value = answer.header("retry-after")
    return None if value is None else parse_retry_after(value, now)
