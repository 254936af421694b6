"""Why an event went to an endpoint, or did not: what routing asks, question by question, and the first no.

The endpoint is judged as it is now. If it was changed since the event came, `changed_since` says so, because it may
have asked for other things then.
"""

from enum import StrEnum

import msgspec

from hookbrook.core.channel import RESERVED, matches_any
from hookbrook.core.delivery import Delivery, State
from hookbrook.core.endpoint import Endpoint
from hookbrook.core.event import Event, format_time
from hookbrook.core.routing import patterns_of


class Reason(StrEnum):
    OWED = "owed"
    CREATED_AFTER = "created_after"
    TYPE = "type"
    CHANNEL = "channel"
    #: A name of ours, which must be asked for by name.
    RESERVED = "reserved"
    FILTER = "filter"
    #: It asks for such events now, and did not then.
    CHANGED = "changed"


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    endpoint_id: str
    #: None: it was deleted.
    endpoint: Endpoint | None
    reason: Reason
    #: A sentence for people.
    why: str
    changed_since: bool = False
    delivery: Delivery | None = None


def explain(event: Event, endpoint: Endpoint, *, passes: bool = True) -> Explanation:
    """Why the endpoint, of the event's tenant, was not owed the event. `passes` is what its filter says of it."""
    reason, why = _refusal(event, endpoint, passes)
    return Explanation(
        endpoint_id=endpoint.id,
        endpoint=endpoint,
        reason=reason,
        why=why,
        changed_since=endpoint.created <= event.appended < endpoint.updated,
    )


def explain_owed(delivery: Delivery, endpoint: Endpoint | None) -> Explanation:
    """What became of a delivery; the endpoint is None if it was deleted."""
    return Explanation(
        endpoint_id=delivery.endpoint_id,
        endpoint=endpoint,
        reason=Reason.OWED,
        why=_fate(delivery, endpoint),
        delivery=delivery,
    )


def _refusal(event: Event, endpoint: Endpoint, passes: bool) -> tuple[Reason, str]:
    if endpoint.created > event.appended:
        return Reason.CREATED_AFTER, (
            f"The endpoint was created at {format_time(endpoint.created)}, after the event was accepted at"
            f" {format_time(event.appended)}. A replay can send it."
        )
    if not matches_any(endpoint.types, event.type):
        if event.type.startswith(RESERVED) and not endpoint.types:
            return Reason.RESERVED, f"The type {event.type} is reserved, and must be asked for by name."
        return Reason.TYPE, f"No type pattern of the endpoint matches {event.type}: {_listed(endpoint.types)}."
    if not any(matches_any(patterns_of(endpoint), channel) for channel in event.channels):
        if all(channel.startswith(RESERVED) for channel in event.channels) and not endpoint.channels:
            return Reason.RESERVED, f"The channel {event.channels[0]} is reserved, and must be asked for by name."
        return Reason.CHANNEL, (
            f"No channel pattern of the endpoint matches {_listed(event.channels)}: {_listed(endpoint.channels)}."
        )
    if not passes:
        return Reason.FILTER, "The endpoint's filter says no to the event, or cannot be applied to it."
    return Reason.CHANGED, (
        "The endpoint asks for such events now, and did not when this one was accepted. A replay can send it."
    )


def _listed(patterns: tuple[str, ...]) -> str:
    return ", ".join(patterns) or "none"


def _fate(delivery: Delivery, endpoint: Endpoint | None) -> str:
    attempts = f"{delivery.attempts} attempt{'' if delivery.attempts == 1 else 's'}"
    match delivery.state:
        case State.SUCCEEDED:
            return f"It arrived, with {attempts}."
        case State.PENDING:
            due = "" if delivery.next_at is None else f"; the next is due at {format_time(delivery.next_at)}"
            return f"It waits, after {attempts}{due}. {delivery.last_error or ''}".rstrip()
        case State.HELD:
            return "It is held while the endpoint is disabled."
        case State.FAILED:
            return f"It was given up after {attempts}. {delivery.last_error or ''}".rstrip()
    if endpoint is None:
        return "It was cancelled, because the endpoint was deleted."
    return f"It was cancelled. {delivery.last_error or ''}".rstrip()
