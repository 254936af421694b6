"""What a publisher may send, read into events: one event, an array, a line of NDJSON, a CloudEvent or a raw body.

Pure: bytes and facts go in, a `NewEvent` or an `Invalid` naming the field comes out. Nothing here knows HTTP.
"""

import base64
import binascii
import re
from collections.abc import Callable
from typing import TypeVar

import msgspec

from hookbrook.core.channel import DEFAULT_TYPE, check_channels, check_name
from hookbrook.core.cloudevent import CloudEvent, content_of
from hookbrook.core.event import (
    BINARY_TYPE,
    DEFAULT_TENANT,
    JSON_TYPE,
    MAX_CONTENT_TYPE_LENGTH,
    TEXT_TYPE,
    Effect,
    Kind,
    NewEvent,
    digest,
    is_json,
    is_json_type,
    is_utf8,
    kind_of,
    parse_time,
)
from hookbrook.core.ids import check_id
from hookbrook.core.merge import check_merge
from hookbrook.errors import BadRequest, FieldError, Invalid, TooLarge, UnsupportedMedia

T = TypeVar("T")

_CONTENT_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,100}/[A-Za-z0-9!#$&^_.+-]{1,100}( *;[\x20-\x7e]*)?\Z")
#: msgspec says where it stumbled: "… - at `$[3].channel`".
_PLACE = re.compile(r"(.*?)(?: - at `\$(.*)`)?\Z", re.DOTALL)
_NAMED = re.compile(r".*(?:missing required|unknown) field `([^`]*)`", re.DOTALL)


#: Called with tenant, type, kind, data, and what to put before the names of fields.
Judge = Callable[[str, str, Kind, bytes, str], None]


class Publication(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One event in JSON, as `POST /v1/events` takes it."""

    channel: str | None = None
    channels: list[str] | None = None
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    data_base64: str | None = None
    type: str = DEFAULT_TYPE
    id: str | None = None
    time: str | None = None
    content_type: str | None = None
    #: It is the last event of its channels.
    close: bool = False
    #: Neighbours with the same key are pieces of one text.
    merge: str | None = None


class Press:
    """Reads publications for one publisher.

    Args:
        tenant: whose events they become.
        now: microseconds since the epoch, the time of an event that states none.
        fresh_id: makes an id for an event that has none.
        max_event_bytes: largest data of one event.
        judge: raises `Invalid` if an event of that type may not have that data; None: anything goes.
    """

    def __init__(
        self,
        *,
        tenant: str = DEFAULT_TENANT,
        now: int,
        fresh_id: Callable[[], str],
        max_event_bytes: int,
        judge: Judge | None = None,
    ) -> None:
        self._tenant = tenant
        self._now = now
        self._fresh_id = fresh_id
        self._max = max_event_bytes
        self._judge = judge

    def raw(
        self,
        body: bytes,
        content_type: str,
        channel: str,
        type: str,
        id: str | None,
        *,
        close: bool = False,
        merge: str | None = None,
    ) -> NewEvent:
        """A raw body, labelled with its `Content-Type` ("" if it has none).

        `curl -d` labels everything as a form, and no label says nothing: both become JSON if the bytes are JSON, else
        text. A label that claims JSON or UTF-8 text must be true.
        """
        check_name("channel", channel)
        label = content_type.partition(";")[0].strip().lower()
        if label in ("", "application/x-www-form-urlencoded"):
            content_type = JSON_TYPE if is_json(body) else TEXT_TYPE if is_utf8(body) else BINARY_TYPE
        elif label.startswith("multipart/"):
            raise UnsupportedMedia("A multipart form is not an event; send the data itself as the body.")
        else:
            check_content_type("Content-Type", content_type)
        kind = _true_kind(content_type, body)
        return self._event((channel,), type, id, None, content_type, kind, body, "", close, merge)

    def publication(self, item: Publication, field: str = "", id: str | None = None) -> NewEvent:
        """One event in JSON; `field` is put before the names in errors (`[3].`), `id` is used if it has none itself."""
        if (item.channel is None) == (item.channels is None):
            raise Invalid.of(f"{field}channel", "say either channel or channels")
        if item.channel is not None:
            channels: tuple[str, ...] = (check_name(f"{field}channel", item.channel),)
        else:
            channels = check_channels(f"{field}channels", item.channels or [])
        content_type, kind, data = _content(item, field)
        time = None if item.time is None else parse_time(item.time, f"{field}time")
        chosen = id if item.id is None else item.id
        return self._event(channels, item.type, chosen, time, content_type, kind, data, field, item.close, item.merge)

    def cloud_event(self, item: CloudEvent, channel: str | None, field: str = "") -> NewEvent:
        """A structured CloudEvent; the channel is said beside it, or is its `subject`."""
        name = channel or item.subject
        if name is None:
            raise Invalid.of("channel", "say ?channel=, or give the CloudEvent a subject that is a channel")
        if item.datacontenttype is not None:
            check_content_type(f"{field}datacontenttype", item.datacontenttype)
        content = content_of(item, field)
        channels = (check_name("channel" if channel else f"{field}subject", name),)
        return self._event(
            channels,
            item.type,
            item.id,
            content.time,
            content.content_type,
            content.kind,
            content.data,
            field,
            item.hookbrookclose,
            item.hookbrookmerge,
        )

    def _event(
        self,
        channels: tuple[str, ...],
        type: str,
        id: str | None,
        time: int | None,
        content_type: str,
        kind: Kind,
        data: bytes,
        field: str,
        close: bool,
        merge: str | None,
    ) -> NewEvent:
        if type != DEFAULT_TYPE:
            check_name(f"{field}type", type)
        if len(data) > self._max:
            raise TooLarge(
                f"{field}data has {len(data)} bytes, more than {self._max} (max_event_bytes).",
                (FieldError(f"{field}data", f"at most {self._max} bytes"),),
                extra={"limit": self._max},
            )
        if self._judge is not None:
            self._judge(self._tenant, type, kind, data, field)
        chosen = self._fresh_id() if id is None else check_id(f"{field}id", id)
        effect: Effect = "close" if close else ""
        key = "" if merge is None else check_merge(f"{field}merge", merge)
        return NewEvent(
            id=chosen,
            channels=channels,
            type=type,
            tenant=self._tenant,
            time=self._now if time is None else time,
            content_type=content_type,
            kind=kind,
            data=data,
            dedupe_id=chosen,
            fresh=id is None,
            digest=digest(channels, type, content_type, data, effect, key),
            effect=effect,
            merge=key,
        )


def _content(item: Publication, field: str) -> tuple[str, Kind, bytes]:
    if (item.data is msgspec.UNSET) == (item.data_base64 is None):
        raise Invalid.of(f"{field}data", "say either data or data_base64")
    content_type = item.content_type
    if content_type is not None:
        check_content_type(f"{field}content_type", content_type)
    if item.data_base64 is not None:
        try:
            data = base64.b64decode(item.data_base64, validate=True)
        except (binascii.Error, ValueError):
            raise Invalid.of(f"{field}data_base64", "is not base64 (RFC 4648 section 4)") from None
        content_type = content_type or BINARY_TYPE
        return content_type, kind_of(content_type, data), data
    assert isinstance(item.data, msgspec.Raw)
    raw = bytes(item.data)
    if content_type is None or is_json_type(content_type):
        return content_type or JSON_TYPE, "json", raw
    if not raw.startswith(b'"'):
        raise Invalid.of(f"{field}data", f"must be a string, since content_type is {content_type}; or use data_base64")
    return content_type, "text", msgspec.json.decode(raw, type=str).encode()


def _true_kind(content_type: str, body: bytes) -> Kind:
    kind = kind_of(content_type, body)
    if is_json_type(content_type) and kind != "json":
        raise BadRequest("The body is labelled JSON, but is not JSON.")
    if kind == "binary" and content_type.lower().startswith("text/") and _claims_utf8(content_type):
        raise BadRequest("The body is labelled text, but is not UTF-8; say its charset.")
    return kind


def _claims_utf8(content_type: str) -> bool:
    charset = content_type.lower().partition("charset=")[2]
    return not charset or charset.strip('" ').startswith(("utf-8", "utf8"))


def check_content_type(field: str, value: str) -> str:
    """A media type of at most 200 visible characters (RFC 9110 section 8.3.1), or `Invalid`."""
    if len(value) > MAX_CONTENT_TYPE_LENGTH or not _CONTENT_TYPE.match(value):
        raise Invalid.of(
            field, f"must be a media type such as text/plain, of at most {MAX_CONTENT_TYPE_LENGTH} characters"
        )
    return value


_one = msgspec.json.Decoder(Publication)
_array = msgspec.json.Decoder(list[Publication])
_cloud = msgspec.json.Decoder(CloudEvent)
_cloud_array = msgspec.json.Decoder(list[CloudEvent])


def parse_one(body: bytes) -> Publication:
    return _parse(_one, body)


def parse_array(body: bytes) -> list[Publication]:
    return _parse(_array, body)


def parse_cloud_event(body: bytes) -> CloudEvent:
    return _parse(_cloud, body)


def parse_cloud_events(body: bytes) -> list[CloudEvent]:
    return _parse(_cloud_array, body)


def _parse(decoder: "msgspec.json.Decoder[T]", body: bytes) -> T:
    """Raises `BadRequest` for what is not JSON, `Invalid` naming the field for JSON of another shape."""
    # Strings that are passed on undecoded are not looked into by msgspec, so their bytes are judged here, all at once.
    if not is_utf8(body):
        raise BadRequest("The body is not UTF-8.")
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as exc:
        raise _invalid(str(exc)) from None
    except msgspec.DecodeError as exc:
        raise BadRequest(f"The body is not JSON: {exc}.") from None
    except RecursionError:
        raise BadRequest("The body is nested too deeply.") from None


def _invalid(text: str) -> Invalid:
    found = _PLACE.match(text)
    message, place = (found[1], found[2]) if found else (text, None)
    named = _NAMED.match(message)
    path = (place or "").lstrip(".")
    if named:
        path = f"{path}.{named[1]}".lstrip(".")
    return Invalid.of(path or "body", message[:1].lower() + message[1:])
