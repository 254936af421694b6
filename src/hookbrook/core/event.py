"""The event: what happened, immutable, appended once to the log.

`NewEvent` is what an append takes; `Event` is what the log holds. Data is kept as the bytes that arrived, because
parsing and writing JSON again turns `1E400` into `Infinity` and drops a repeated key. `kind` records once, at the
door, how those bytes can be shown: as JSON, as text, or not at all.

Times are whole microseconds since the Unix epoch, UTC.
"""

import base64
import hashlib
import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Literal

import msgspec

from hookbrook.core.channel import DEFAULT_TYPE
from hookbrook.errors import Invalid

#: `erased`: what it was is gone, and only that it happened is known.
Kind = Literal["json", "text", "binary", "erased"]
#: What an event does to its channels beside being on them. `close`: it is their last, nothing can be published to them
#: any more. `delete`: nothing up to and including it is shown on them any more, and they are open again.
Effect = Literal["", "close", "delete"]

DEFAULT_TENANT = "default"
JSON_TYPE = "application/json"
TEXT_TYPE = "text/plain; charset=utf-8"
BINARY_TYPE = "application/octet-stream"

#: The longest content type in use today has about 90 characters.
MAX_CONTENT_TYPE_LENGTH = 200
# RFC 3339 section 5.6. `datetime.fromisoformat` alone would also take week dates, commas and times without seconds.
_RFC_3339 = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9:]{8}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})\Z")
_UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NO_TIME = "must be an RFC 3339 time with an offset, such as 2026-11-23T16:20:00Z"


class NewEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An event that is not yet in the log. Whoever makes one has checked every field."""

    id: str
    channels: tuple[str, ...]
    type: str = DEFAULT_TYPE
    tenant: str = DEFAULT_TENANT
    #: The name of the source at which it arrived, or None if it was published.
    source: str | None = None
    time: int
    content_type: str
    kind: Kind
    data: bytes
    #: JSON of the provider's request (`method`, `query`, `headers`, `address`, `verified`, `covers`), or None.
    request: bytes | None = None
    #: Where `dedupe_id` must be unique within the tenant: "" for the publish door, else the source's id.
    scope: str = ""
    dedupe_id: str
    #: `dedupe_id` was made for this event just now, of so many random bits that the log cannot have it yet.
    fresh: bool = False
    #: How long ago the first may have been appended for this to be its repeat, in microseconds; None: as long as the
    #: log knows its id.
    window_us: int | None = None
    #: Fingerprint of the content; the same id with another digest is a conflict. Empty: repeats are never conflicts.
    digest: bytes = b""
    effect: Effect = ""
    #: Neighbours with the same key are pieces of one text, and may be shown as one; "" is none.
    merge: str = ""


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An event of the log."""

    seq: int
    epoch: str
    id: str
    channels: tuple[str, ...]
    type: str
    tenant: str
    source: str | None
    time: int
    #: When it was appended; never decreases along the log, whatever the clock does.
    appended: int
    content_type: str
    kind: Kind
    data: bytes
    request: bytes | None = None
    effect: Effect = ""
    merge: str = ""

    @property
    def cursor(self) -> str:
        return f"{self.epoch}-{self.seq}"


class Appended(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What became of one event of an append."""

    id: str
    seq: int
    epoch: str
    #: True: the log already had it, and this names the first.
    duplicate: bool = False

    @property
    def cursor(self) -> str:
        return f"{self.epoch}-{self.seq}"


def as_event(new: NewEvent, appended: Appended, time: int) -> Event:
    """The event as the log holds it; `time` stands for when it was appended, which only the log knows exactly."""
    return Event(
        seq=appended.seq,
        epoch=appended.epoch,
        id=appended.id,
        channels=new.channels,
        type=new.type,
        tenant=new.tenant,
        source=new.source,
        time=new.time,
        appended=time,
        content_type=new.content_type,
        kind=new.kind,
        data=new.data,
        request=new.request,
        effect=new.effect,
        merge=new.merge,
    )


def digest(
    channels: tuple[str, ...], type: str, content_type: str, data: bytes, effect: Effect = "", merge: str = ""
) -> bytes:
    """16 bytes that differ if any of what a publisher says about the event differs; the time is left out on
    purpose, since a client that retries may stamp the event again."""
    fingerprint = _digest_of_head(channels, type, content_type, effect, merge).copy()
    fingerprint.update(data)
    return fingerprint.digest()


@lru_cache(maxsize=1024)
def _digest_of_head(
    channels: tuple[str, ...], type: str, content_type: str, effect: Effect, merge: str
) -> "hashlib.blake2b":
    """Most events differ in their data only, and a copy costs a quarter of this. Not to be updated."""
    # A kind of its own, so that no data can look like an effect; without either the digest is what it always was.
    marks = (effect, merge, "") if effect or merge else ()
    head = "\0".join((*marks, *channels, "", type, content_type, ""))
    return hashlib.blake2b(head.encode(), digest_size=16, person=b"marked" if marks else b"")


def is_json_type(content_type: str) -> bool:
    """`application/json` and every `+json` suffix (RFC 6839 section 3.1)."""
    essence = content_type.partition(";")[0].strip().lower()
    return essence in ("application/json", "text/json") or essence.endswith("+json")


def kind_of(content_type: str, data: bytes) -> Kind:
    """How bytes of this label can be shown, by looking at them: a wrong label falls back to text, then to binary."""
    if is_json_type(content_type) and is_json(data):
        return "json"
    return "text" if is_utf8(data) else "binary"


def is_json(data: bytes) -> bool:
    """Whether the bytes are one JSON value. Nothing is built: the decoder only walks over them."""
    try:
        _raw_json.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return False
    # msgspec.Raw checks the structure but not that strings hold valid UTF-8.
    return is_utf8(data)


def is_utf8(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


_raw_json = msgspec.json.Decoder(msgspec.Raw)


def format_time(time_us: int) -> str:
    """RFC 3339 in UTC, with as many fraction digits as needed: 0, 3 or 6."""
    moment = _UNIX_EPOCH + timedelta(microseconds=time_us)
    digits = 0 if time_us % 1_000_000 == 0 else 6 if time_us % 1000 else 3
    precision = {0: "seconds", 3: "milliseconds", 6: "microseconds"}[digits]
    return moment.isoformat(timespec=precision).replace("+00:00", "Z")


def parse_time(text: str, field: str = "time") -> int:
    """Microseconds since the Unix epoch from RFC 3339; a time without an offset is refused. Raises `Invalid`."""
    if not _RFC_3339.match(text):
        raise Invalid.of(field, _NO_TIME)
    try:
        # In UTC, because an offset can move a time out of the years 1 to 9999 in which it could be written again.
        moment = datetime.fromisoformat(text.upper()).astimezone(UTC)
    except ValueError:
        raise Invalid.of(field, _NO_TIME) from None
    except OverflowError:
        raise Invalid.of(field, "is out of range") from None
    return (moment - _UNIX_EPOCH) // _MICROSECOND


class _Wire(msgspec.Struct, omit_defaults=True):
    """The JSON form (DESIGN section 5), in the order in which people read it."""

    id: str
    channels: tuple[str, ...]
    type: str
    tenant: str
    source: str | None
    time: str
    content_type: str
    data: msgspec.Raw | str | msgspec.UnsetType = msgspec.UNSET
    data_base64: str | msgspec.UnsetType = msgspec.UNSET
    cursor: str = ""
    close: bool = False
    merge: str = ""
    erased: bool = False
    request: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_encoder = msgspec.json.Encoder()


def to_json(event: Event, *, channels: tuple[str, ...] | None = None, request: bool = False) -> bytes:
    """The event as one JSON object.

    JSON data is embedded byte for byte, text as a string, anything else as `data_base64`.

    Args:
        channels: name only these, for a reader who may not know of the others.
        request: also show the provider's request as it arrived.
    """
    wire = _Wire(
        id=event.id,
        channels=event.channels if channels is None else channels,
        type=event.type,
        tenant=event.tenant,
        source=event.source,
        time=format_time(event.time),
        content_type=event.content_type,
        cursor=event.cursor,
        close=event.effect == "close",
        merge=event.merge,
        erased=event.kind == "erased",
    )
    if event.kind == "json":
        wire.data = msgspec.Raw(event.data)
    elif event.kind == "text":
        wire.data = event.data.decode()
    elif event.kind == "binary":
        wire.data_base64 = base64.b64encode(event.data).decode()
    if request and event.request is not None:
        wire.request = msgspec.Raw(event.request)
    return _encoder.encode(wire)
