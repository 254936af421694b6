"""Deliveries and attempts, and the one table of their states.

A delivery is one event owed to one endpoint. It is *pending* from the moment the event is in the log until it ends
as *succeeded*, *failed* or *cancelled*; while its endpoint is disabled it is *held*. Whether an attempt is under way is
not a state: a process that is killed in the middle of one leaves the delivery pending, and it is sent again.
"""

from enum import StrEnum
from typing import Final

import msgspec

from hookbrook.core.event import format_time
from hookbrook.errors import Conflict


class State(StrEnum):
    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    HELD = "held"


class Happening(StrEnum):
    """What can happen to a delivery."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    EXHAUSTED = "exhausted"
    RESENT = "resent"
    CANCELLED = "cancelled"
    HELD = "held"
    RELEASED = "released"


_S, _H = State, Happening

#: state -> what may happen in it -> the state after. What is not listed cannot happen.
TRANSITIONS: Final[dict[State, dict[Happening, State]]] = {
    _S.PENDING: {
        _H.ACCEPTED: _S.SUCCEEDED,
        _H.REFUSED: _S.PENDING,
        _H.EXHAUSTED: _S.FAILED,
        _H.RESENT: _S.PENDING,
        _H.CANCELLED: _S.CANCELLED,
        _H.HELD: _S.HELD,
    },
    # Its last attempt was under way when it was held.
    _S.HELD: {_H.ACCEPTED: _S.SUCCEEDED, _H.RELEASED: _S.PENDING, _H.CANCELLED: _S.CANCELLED},
    _S.SUCCEEDED: {_H.RESENT: _S.PENDING},
    _S.FAILED: {_H.RESENT: _S.PENDING},
    _S.CANCELLED: {_H.RESENT: _S.PENDING},
}


def after(state: State, happening: Happening) -> State:
    """The next state; raises `Conflict` if this cannot happen in this state."""
    following = TRANSITIONS[state].get(happening)
    if following is None:
        raise Conflict(f"A delivery that is {state} cannot be {happening}.")
    return following


def sources_of(happening: Happening) -> tuple[State, ...]:
    """The states in which it can happen, for stores that apply it to many rows at once."""
    return tuple(state for state, row in TRANSITIONS.items() if happening in row)


#: Owed, and not arrived: waiting, waiting for its endpoint, or given up.
UNDELIVERED: Final = (State.PENDING, State.HELD, State.FAILED)


# `gc=False`: these hold no cycles, and thousands of them live at once on the hottest path.
class NewDelivery(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One event's debt to one endpoint, decided when the event is appended."""

    id: str
    endpoint_id: str
    #: Held from the start, because the endpoint is disabled.
    held: bool = False
    #: See `Endpoint.line_of`.
    line: str | None = None
    #: Failed from the start, for this reason: it could not be said whether the endpoint's filter lets it pass.
    failed: str | None = None


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the deliveries."""

    id: str
    tenant: str
    seq: int
    event_id: str
    event_type: str
    #: The event's.
    channels: tuple[str, ...] = ()
    endpoint_id: str
    state: State
    #: Attempts made so far.
    attempts: int
    #: When the next attempt is due; None unless pending.
    next_at: int | None
    created: int
    updated: int
    #: HTTP status of the last attempt, or None if there was no answer.
    last_status: int | None = None
    last_error: str | None = None

    def as_json(self) -> dict[str, object]:
        return {
            "id": self.id,
            "tenant": self.tenant,
            "event_id": self.event_id,
            "event_type": self.event_type,
            "endpoint_id": self.endpoint_id,
            "status": str(self.state),
            "attempts": self.attempts,
            "next_attempt_at": None if self.next_at is None else format_time(self.next_at),
            "created_at": format_time(self.created),
            "updated_at": format_time(self.updated),
            "last_status": self.last_status,
            "last_error": self.last_error,
        }


class Attempt(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One HTTP try of a delivery. Durations are microseconds."""

    #: Sent along as `hookbrook-attempt`, so that the receiver's log and ours can be laid side by side.
    id: str
    delivery_id: str
    started: int
    duration: int
    #: Where the time went; None: it did not come to that, or the connection was a reused one.
    resolve: int | None = None
    connect: int | None = None
    tls: int | None = None
    #: From the connection until the answer's head was complete.
    wait: int | None = None
    #: `ip:port` that the connection was made to, or None if none was.
    address: str | None = None
    #: HTTP status, or None if there was no answer.
    status: int | None = None
    #: A stable word (`timeout`, `blocked_address`, …), or None if there was an answer.
    error: str | None = None
    #: One sentence for people.
    message: str | None = None
    response_headers: tuple[tuple[str, str], ...] = ()
    #: The first bytes of the answer, up to the capture limit.
    response_body: bytes = b""
    truncated: bool = False

    def as_json(self) -> dict[str, object]:
        return {
            "id": self.id,
            "started_at": format_time(self.started),
            "duration_ms": _milliseconds(self.duration),
            "timing": {
                "resolve_ms": _milliseconds(self.resolve),
                "connect_ms": _milliseconds(self.connect),
                "tls_ms": _milliseconds(self.tls),
                "wait_ms": _milliseconds(self.wait),
            },
            "address": self.address,
            "status": self.status,
            "error": self.error,
            "message": self.message,
            "response": {
                "headers": [list(pair) for pair in self.response_headers],
                "body": self.response_body.decode("utf-8", "replace"),
                "truncated": self.truncated,
            },
        }


def _milliseconds(duration: int | None) -> float | None:
    return None if duration is None else round(duration / 1000, 3)


class Outcome(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An attempt and what follows from it: ACCEPTED, REFUSED (next at `next_at`) or EXHAUSTED."""

    attempt: Attempt
    happening: Happening
    next_at: int | None = None
    #: Why the endpoint is to be disabled, if it is.
    disables: str | None = None
