"""What stands in a webhook: the event's data, the event itself, or what an endpoint's expression makes of it.

Made at each attempt, from the event as it is in the log; only the data itself is never parsed and written anew.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Final, NamedTuple

import msgspec

from hookbrook.core import cloudevent
from hookbrook.core.document import document_of
from hookbrook.core.endpoint import Endpoint
from hookbrook.core.event import JSON_TYPE, Event, to_json
from hookbrook.core.filter import compiled
from hookbrook.errors import HookbrookError, Invalid

NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


class Unfit(HookbrookError):
    """Nothing can be sent, and nothing could be if it were tried again; not the receiver's fault."""

    #: A stable word for programs.
    code: ClassVar[str]


class NotReshaped(Unfit):
    code = "transform"


class TooLarge(Unfit):
    code = "too_large_body"


class Body(NamedTuple):
    content: bytes
    content_type: str
    headers: Mapping[str, str] = NO_HEADERS


def body_of(event: Event, endpoint: Endpoint) -> Body:
    """Raises `Unfit`."""
    body = _reshaped(event, endpoint.transform) if endpoint.transform is not None else _formatted(event, endpoint)
    limit = endpoint.max_body_bytes
    if limit is not None and len(body.content) > limit:
        raise TooLarge(
            f"The body has {len(body.content)} bytes, and the endpoint takes at most {limit} (max_body_bytes)."
        )
    return body


def _formatted(event: Event, endpoint: Endpoint) -> Body:
    if endpoint.format == "data":
        return Body(event.data, event.content_type)
    if endpoint.format == "event":
        return Body(to_json(event), JSON_TYPE)
    if endpoint.format == "cloudevent":
        return Body(cloudevent.to_structured(event, channels=event.channels), cloudevent.CONTENT_TYPE)
    return Body(event.data, event.content_type, cloudevent.to_headers(event, channels=event.channels))


def _reshaped(event: Event, expression: str) -> Body:
    try:
        document = document_of(event, "transform")
        result: Any = compiled(expression, "transform").evaluate(document, field="transform")
    except Invalid as exc:
        raise NotReshaped(f"The transform of the endpoint failed: {exc.errors[0].message}.") from exc
    if result is None:
        raise NotReshaped("The transform of the endpoint found nothing in this event.")
    try:
        return Body(msgspec.json.encode(result), JSON_TYPE)
    except (UnicodeEncodeError, RecursionError) as exc:
        raise NotReshaped("The transform of the endpoint made something that cannot be written as JSON.") from exc
