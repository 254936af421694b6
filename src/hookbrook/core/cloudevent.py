"""CloudEvents 1.0 in structured JSON: read when published, written when a reader or an endpoint asks for them; for
endpoints also in the binary mode of HTTP.

Our own facts that CloudEvents has no attribute for travel as extension attributes, whose names are lower-case letters
and digits only (CloudEvents 1.0 section 3, naming conventions): `hookbrookchannels`, `hookbrookcursor`, and both ways
`hookbrookclose` and `hookbrookmerge`.
"""

import base64
import binascii
from urllib.parse import quote

import msgspec

from hookbrook.core.event import JSON_TYPE, Event, Kind, format_time, is_json_type, kind_of, parse_time
from hookbrook.errors import Invalid

CONTENT_TYPE = "application/cloudevents+json"
BATCH_CONTENT_TYPE = "application/cloudevents-batch+json"


class CloudEvent(msgspec.Struct, kw_only=True):
    """A structured CloudEvent as it arrives; extension attributes that are not ours are ignored."""

    specversion: str
    id: str
    source: str
    type: str
    subject: str | None = None
    time: str | None = None
    datacontenttype: str | None = None
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    data_base64: str | None = None
    hookbrookclose: bool = False
    hookbrookmerge: str | None = None


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """What the event holds, ready for the log."""

    content_type: str
    kind: Kind
    data: bytes
    time: int | None


def content_of(event: CloudEvent, field: str = "") -> Content:
    """Checks what the decoder could not; raises `Invalid` naming the attribute (prefixed with `field`)."""
    if event.specversion != "1.0":
        raise Invalid.of(f"{field}specversion", "must be 1.0")
    if not event.source:
        raise Invalid.of(f"{field}source", "must not be empty")
    time = None if event.time is None else parse_time(event.time, f"{field}time")
    content_type = event.datacontenttype or JSON_TYPE
    if event.data_base64 is not None:
        # CloudEvents JSON format section 3.1.1: `data` and `data_base64` are mutually exclusive.
        if event.data is not msgspec.UNSET:
            raise Invalid.of(f"{field}data_base64", "cannot stand beside data")
        try:
            data = base64.b64decode(event.data_base64, validate=True)
        except (binascii.Error, ValueError):
            raise Invalid.of(f"{field}data_base64", "is not base64") from None
    elif event.data is msgspec.UNSET:
        data = b"null" if is_json_type(content_type) else b""
    else:
        data = _data_of(bytes(event.data), content_type, field)
    return Content(content_type=content_type, kind=kind_of(content_type, data), data=data, time=time)


def _data_of(raw: bytes, content_type: str, field: str) -> bytes:
    # CloudEvents JSON format section 3.1: data of another type than JSON is carried as a JSON string.
    if is_json_type(content_type):
        return raw
    try:
        return msgspec.json.decode(raw, type=str).encode()
    except msgspec.ValidationError:
        raise Invalid.of(f"{field}data", f"must be a string, since datacontenttype is {content_type}") from None


class _Wire(msgspec.Struct, omit_defaults=True):
    specversion: str
    id: str
    source: str
    type: str
    time: str
    datacontenttype: str
    hookbrookchannels: str
    hookbrookcursor: str
    hookbrookerased: bool = False
    data: msgspec.Raw | str | msgspec.UnsetType = msgspec.UNSET
    data_base64: str | msgspec.UnsetType = msgspec.UNSET
    hookbrookclose: bool = False
    hookbrookmerge: str = ""


def to_structured(event: Event, *, channels: tuple[str, ...]) -> bytes:
    """The event as one JSON object; `channels` are those to be named, separated by commas."""
    wire = _Wire(
        **_attributes(event, channels),
        datacontenttype=event.content_type,
        hookbrookclose=event.effect == "close",
        hookbrookmerge=event.merge,
        hookbrookerased=event.kind == "erased",
    )
    if event.kind == "erased":
        return msgspec.json.encode(wire)
    # Under a JSON label a string would mean a JSON string, so text that is wrongly labelled travels as base64.
    if event.kind == "json":
        wire.data = msgspec.Raw(event.data)
    elif event.kind == "text" and not is_json_type(event.content_type):
        wire.data = event.data.decode()
    else:
        wire.data_base64 = base64.b64encode(event.data).decode()
    return msgspec.json.encode(wire)


#: CloudEvents HTTP protocol binding section 3.1.3.2: everything but printable ASCII is percent-encoded, and so are the
#: space, the double quote and the percent sign.
_PLAIN = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')


def to_headers(event: Event, *, channels: tuple[str, ...]) -> dict[str, str]:
    """The event's attributes as HTTP headers, beside which its data is the body (binary content mode)."""
    return {f"ce-{name}": quote(value, safe=_PLAIN) for name, value in _attributes(event, channels).items()}


def _attributes(event: Event, channels: tuple[str, ...]) -> dict[str, str]:
    """All but `datacontenttype`, which is the content type in binary mode."""
    return {
        "specversion": "1.0",
        "id": event.id,
        "source": f"/in/{event.source}" if event.source else f"/channels/{channels[0]}",
        "type": event.type,
        "time": format_time(event.time),
        "hookbrookchannels": ",".join(channels),
        "hookbrookcursor": event.cursor,
    }
