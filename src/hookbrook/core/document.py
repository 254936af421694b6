"""An event as the document that an endpoint's expressions look at.

    {"id", "type", "channels", "tenant", "source", "time", "content_type", "data"}

`data` is the event's data as JSON has it: decoded if it is JSON, a text if it is one, and null if it is neither.
"""

import json
from typing import Any, Final

import msgspec

from hookbrook.core.event import Event, NewEvent, format_time
from hookbrook.errors import Invalid

#: Data beyond this is not decoded. Four of the largest events that may be published by default, about 40 ms.
MAX_DATA: Final = 4 * 2**20


def document_of(event: Event | NewEvent, field: str = "expression") -> dict[str, Any]:
    """Raises `Invalid`, naming `field`, for data that is too large or nests too deep."""
    return {
        "id": event.id,
        "type": event.type,
        "channels": list(event.channels),
        "tenant": event.tenant,
        "source": event.source,
        "time": format_time(event.time),
        "content_type": event.content_type,
        "data": _data_of(event, field),
    }


def _data_of(event: Event | NewEvent, field: str) -> Any:
    if event.kind == "binary":
        return None
    if len(event.data) > MAX_DATA:
        raise Invalid.of(field, f"looks at events of at most {MAX_DATA} bytes, and this one has {len(event.data)}")
    if event.kind == "text":
        return event.data.decode("utf-8", "replace")
    try:
        return msgspec.json.decode(event.data)
    except RecursionError as exc:
        raise Invalid.of(field, "cannot look at this event, whose data nests too deep") from exc
    except msgspec.DecodeError:
        # `1E400` is JSON, and no number that msgspec makes; half a surrogate pair is JSON, too.
        return _lenient(event.data, field)


def _lenient(data: bytes, field: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise Invalid.of(field, "cannot look at this event, whose data cannot be decoded") from exc
