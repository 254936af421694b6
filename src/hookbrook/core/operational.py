"""Operational events: what Hookbrook itself has to tell, on the reserved channel `hookbrook.ops`.

    hookbrook.delivery.failed     a delivery has ended without arriving
    hookbrook.endpoint.failing    nothing has arrived for half of the time after which an endpoint is disabled
    hookbrook.endpoint.recovered  something has arrived after that warning
    hookbrook.endpoint.disabled   that time is over, or the receiver answered 410

They are events like all others: in the log, streamed to those who ask for them by name, and delivered to endpoints that
do. They hold ids and reasons, and neither URLs nor data, since either may be secret. What goes wrong with delivering
one raises no other, or two endpoints that fail would tell each other so for ever.

Their ids follow from what they tell, so that telling twice, as after a crash, is one event.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from hookbrook.core.channel import OPERATIONS
from hookbrook.core.declared import stable_id
from hookbrook.core.delivery import NewDelivery, Outcome
from hookbrook.core.endpoint import Endpoint
from hookbrook.core.event import JSON_TYPE, Event, NewEvent, format_time

DELIVERY_FAILED: Final = "hookbrook.delivery.failed"
ENDPOINT_FAILING: Final = "hookbrook.endpoint.failing"
ENDPOINT_RECOVERED: Final = "hookbrook.endpoint.recovered"
ENDPOINT_DISABLED: Final = "hookbrook.endpoint.disabled"

#: The error of a delivery whose endpoint's filter failed.
FILTER: Final = "filter"


def is_operational(event: Event | NewEvent) -> bool:
    return event.channels[0] == OPERATIONS


def delivery_failed(endpoint: Endpoint, event: Event | NewEvent, outcome: Outcome, *, now: int) -> NewEvent:
    """`outcome` is that of the last attempt."""
    attempt = outcome.attempt
    more = {"last_status": attempt.status, "last_error": attempt.error, "message": attempt.message}
    return _event(DELIVERY_FAILED, endpoint, now, (attempt.id,), _delivery(attempt.delivery_id, event) | more)


def delivery_unfiltered(endpoint: Endpoint, event: Event, delivery: NewDelivery, *, now: int) -> NewEvent:
    """It has failed from the start, without an attempt."""
    more = {"last_status": None, "last_error": FILTER, "message": delivery.failed}
    return _event(DELIVERY_FAILED, endpoint, now, (delivery.id,), _delivery(delivery.id, event) | more)


def _delivery(delivery_id: str, event: Event | NewEvent) -> dict[str, object]:
    return {
        "delivery_id": delivery_id,
        "event_id": event.id,
        "event_type": event.type,
        "channel": event.channels[0],
    }


def endpoint_failing(endpoint: Endpoint, since: int, *, disabled_at: int, now: int) -> NewEvent:
    """A warning: unless something arrives, the endpoint will be disabled then. Times in microseconds since 1970."""
    more = {"failing_since": format_time(since), "disabled_at": format_time(disabled_at)}
    return _event(ENDPOINT_FAILING, endpoint, now, (str(since),), more)


def endpoint_recovered(endpoint: Endpoint, since: int, *, now: int) -> NewEvent:
    """The end of what `endpoint_failing` warned of."""
    return _event(ENDPOINT_RECOVERED, endpoint, now, (str(since),), {"failing_since": format_time(since)})


def endpoint_disabled(endpoint: Endpoint, reason: str, since: int | None, *, now: int) -> NewEvent:
    """`endpoint` as it is now, disabled; `since` is when it began to fail."""
    more = {"reason": reason, "failing_since": None if since is None else format_time(since)}
    return _event(ENDPOINT_DISABLED, endpoint, now, (str(endpoint.revision),), more)


def _event(type: str, endpoint: Endpoint, now: int, about: tuple[str, ...], more: Mapping[str, object]) -> NewEvent:
    event_id = stable_id("evt", type, endpoint.id, *about)
    data = {"endpoint_id": endpoint.id, "description": endpoint.description, **more}
    return NewEvent(
        id=event_id,
        channels=(OPERATIONS,),
        type=type,
        tenant=endpoint.tenant,
        time=now,
        content_type=JSON_TYPE,
        kind="json",
        data=msgspec.json.encode(data),
        dedupe_id=event_id,
    )
