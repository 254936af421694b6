"""The values that users of the SDK give and get, and their JSON."""

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from hookbrook.core.channel import DEFAULT_TYPE
from hookbrook.core.event import BINARY_TYPE, TEXT_TYPE
from hookbrook.errors import HookbrookError


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event to publish: `NewEvent("orders.42", {"paid": True}, type="order.paid")`.

    `data` is sent as it is if it is bytes, as text if it is a string, and as JSON otherwise (dataclasses, datetimes,
    UUIDs, Decimals and msgspec Structs included; NaN and the infinities, which JSON lacks, become null). A string
    with `content_type="application/json"` is a JSON string.
    """

    channel: str | None = None
    data: Any = None
    type: str = field(default=DEFAULT_TYPE, kw_only=True)
    #: The same id again is the same event, however often it is sent. Absent, one is made.
    id: str | None = field(default=None, kw_only=True)
    #: Further channels; or all of them, if `channel` is not given.
    channels: Sequence[str] | None = field(default=None, kw_only=True)
    #: When it happened: an aware datetime or RFC 3339. Absent, the server's clock.
    time: datetime | str | None = field(default=None, kw_only=True)
    content_type: str | None = field(default=None, kw_only=True)
    #: The last event of its channels: nothing can be published to them any more, and their streams end.
    close: bool = field(default=False, kw_only=True)
    #: Neighbours with the same key are pieces of one text; `stream(…, merge=True)` may show them as one.
    merge: str | None = field(default=None, kw_only=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An event as the log holds it."""

    id: str
    channels: tuple[str, ...]
    type: str
    tenant: str
    source: str | None
    time: datetime
    content_type: str
    #: Decoded JSON, or a str if it was published as text, or bytes; None if it was erased.
    data: Any
    #: Its position in the log. Keep it, and `stream(…, after=cursor)` goes on behind this event.
    cursor: str
    #: Whether it is the last of its channels.
    close: bool = False
    #: The key of the text that it is a piece of.
    merge: str | None = None
    #: What it said is gone: it was erased, or older than data is kept.
    erased: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """The server's word that an event is on disk."""

    id: str
    cursor: str
    #: The log already had it. Also true if a first try arrived but its answer was lost.
    duplicate: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamReceipt:
    """The server's word that a whole token stream is on disk."""

    accepted: int
    #: Of the last event; None if there was none.
    cursor: str | None


class _Wire(msgspec.Struct):
    id: str
    channels: tuple[str, ...]
    type: str
    tenant: str
    source: str | None
    time: datetime
    content_type: str
    cursor: str
    data: msgspec.Raw = msgspec.Raw(b"null")
    data_base64: str | None = None
    close: bool = False
    merge: str | None = None
    erased: bool = False


_wire_decoder = msgspec.json.Decoder(_Wire)


def decode_event(document: str) -> Event:
    """The event from its JSON. Raises HookbrookError if this is no event."""
    try:
        wire = _wire_decoder.decode(document)
        data = _decode_data(wire.data) if wire.data_base64 is None else b64decode(wire.data_base64)
    except ValueError as error:
        raise HookbrookError(f"the server sent what is no event of Hookbrook: {error}") from error
    return Event(
        id=wire.id,
        channels=wire.channels,
        type=wire.type,
        tenant=wire.tenant,
        source=wire.source,
        time=wire.time,
        content_type=wire.content_type,
        data=data,
        cursor=wire.cursor,
        close=wire.close,
        merge=wire.merge,
        erased=wire.erased,
    )


def _decode_data(raw: msgspec.Raw) -> Any:
    try:
        return msgspec.json.decode(raw)
    except msgspec.DecodeError:
        # Such as 1E400, which the log keeps as it came: msgspec refuses it, the standard library reads an infinity.
        return json.loads(bytes(raw))


def with_id(event: NewEvent | Mapping[str, Any], new_id: str) -> dict[str, Any]:
    """The event as the JSON object to publish, under its own id or else this one.

    Raises TypeError for an unknown key and ValueError for a missing channel or a time without an offset.
    """
    if not isinstance(event, NewEvent):
        event = NewEvent(**event)
    channels = [*([] if event.channel is None else [event.channel]), *(event.channels or ())]
    if not channels:
        raise ValueError("an event needs a channel")
    if isinstance(event.time, datetime) and event.time.tzinfo is None:
        raise ValueError("an event's time needs an offset; datetime.now(UTC) has one")
    said = {
        "time": event.time,
        "content_type": event.content_type,
        "close": event.close or None,
        "merge": event.merge,
    }
    return {
        "id": event.id or new_id,
        "channels": channels,
        "type": event.type,
        **data_members(event.data),
        **{name: value for name, value in said.items() if value is not None},
    }


def data_members(data: Any) -> dict[str, Any]:
    """The members of a published event that carry its data."""
    if isinstance(data, bytes | bytearray | memoryview):
        return {"content_type": BINARY_TYPE, "data_base64": b64encode(data).decode()}
    if isinstance(data, str):
        return {"content_type": TEXT_TYPE, "data": data}
    return {"data": data}
