"""A webhook as it arrived: the request that the log keeps beside an event's data, and how a stream carries both.

Whoever gets a webhook from us must be able to send it on so that the provider's own library accepts it, so nothing of
it may be written anew. The body travels as a JSON string, which holds every character of it exactly, or as base64 if
it is no text; never as JSON within JSON, whose line ends an SSE frame would change. Header values are latin-1, so that
each byte is one character, and stand in the order of arrival, repeated ones as often as they came.

Of a request with several events, each event keeps its part of the body. The first one also keeps the whole, and all of
them say which one that is.
"""

import binascii
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from functools import lru_cache
from typing import Final

import msgspec

from hookbrook.core.event import Event, format_time
from hookbrook.errors import HookbrookError

#: In place of a value that is a credential: the log is kept for ever, and many may read it.
HIDDEN = "***"

#: Beginnings of records that are remembered; each source has one of its own.
MAX_KNOWN: Final = 256

#: The characters that a string in JSON writes as they are.
_PLAIN: Final = bytes(code for code in range(0x20, 0x7F) if code not in b'"\\')

#: A frame carries a body of up to this many bytes; a larger one is asked for by itself, because a client has a limit
#: for one event of a stream, and a webhook may have 25 MiB.
MAX_INLINE_BODY = 1024 * 1024


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """The place of an event among those that came in one request."""

    #: Id of the first one, which holds the whole body. (Not in the log if that event was a repeat.)
    first: str
    index: int
    count: int


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a provider's request; the body is the event's data."""

    method: str = "POST"
    path: str = ""
    #: What follows the question mark, without it.
    query: str = ""
    #: Names in lower case. A value that is a credential is `HIDDEN`.
    headers: tuple[tuple[str, str], ...] = ()
    address: str | None = None
    #: RFC 3339.
    received_at: str = ""
    verified: bool = False
    reason: str = ""
    covers: tuple[str, ...] = ()
    #: The provider of the source at that time.
    provider: str = ""
    batch: Batch | msgspec.UnsetType = msgspec.UNSET
    #: The whole body, if this is the first of several events.
    body_base64: str | msgspec.UnsetType = msgspec.UNSET


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """One frame of a source's stream."""

    id: str
    cursor: str
    source: str
    type: str
    channels: tuple[str, ...]
    #: RFC 3339.
    time: str
    content_type: str
    request: Request
    #: Bytes of the body.
    size: int
    #: The body, in one of two forms; neither if it is larger than `MAX_INLINE_BODY`.
    body: str | msgspec.UnsetType = msgspec.UNSET
    body_base64: str | msgspec.UnsetType = msgspec.UNSET

    @property
    def raw(self) -> bytes | None:
        """The body's bytes, or None if it has to be asked for."""
        if isinstance(self.body, str):
            return self.body.encode()
        if isinstance(self.body_base64, str):
            return b64decode(self.body_base64)
        return None


def request_of(event: Event) -> Request:
    """The request that brought the event; an empty one if it was published."""
    return _requests.decode(event.request) if event.request else Request()


def body_of(event: Event, request: Request | None = None) -> bytes:
    """The body of the request that brought the event: its data, or the whole of which that is the first part."""
    request = request_of(event) if request is None else request
    return b64decode(request.body_base64) if isinstance(request.body_base64, str) else event.data


def record(
    line: tuple[str, str, str], headers: bytes, *, address: str | None, received_at: str, judged: bytes
) -> bytes:
    """The JSON of a `Request`, put together of pieces most of which are the same for the requests of a source.

    Args:
        line: method, path and query.
        headers: from `headers_json`.
        judged: from `judgement`.
    """
    address_json, moment = _encode(address), received_at.encode()
    return b"".join(
        (_beginning(line), headers, b',"address":', address_json, b',"received_at":"', moment, b'",', judged)
    )


@lru_cache(MAX_KNOWN)
def _beginning(line: tuple[str, str, str]) -> bytes:
    return _encode(dict(zip(("method", "path", "query"), line, strict=True)))[:-1] + b',"headers":'


def judgement(*, verified: bool, reason: str, covers: Sequence[str], provider: str) -> bytes:
    """What a `record` ends with."""
    return _encode({"verified": verified, "reason": reason, "covers": covers, "provider": provider})[1:]


def headers_json(
    headers: Sequence[tuple[bytes, bytes]], private: AbstractSet[bytes], names: Iterable[bytes] = ()
) -> bytes:
    """Names and values as `Request.headers` has them, in JSON; the values of `private` names (in lower case) hidden.

    Args:
        names: of the headers, if somebody has them already.
    """
    # Whatever the server has made of the names: a credential must not be kept because one is in upper case.
    if not b"".join(names).islower():
        names = [name.lower() for name, _ in headers]
    if private.isdisjoint(names):
        # Nearly always each byte is its own JSON, and all of them together cost less than two strings of each header.
        text = b'"],["'.join(map(b'","'.join, headers))
        if len(text.translate(None, _PLAIN)) == 4 * len(headers) - 2:
            return b'[["%b"]]' % text
    shown = [
        (name.decode("latin-1"), HIDDEN if name.lower() in private else value.decode("latin-1"))
        for name, value in headers
    ]
    return _encode(shown)


def in_batch(record: bytes, ids: Sequence[str], body: bytes) -> Sequence[bytes]:
    """The record of a request for each of its events, with the event's place; for the first with the whole body."""
    made = []
    for index in range(len(ids)):
        more: dict[str, object] = {"batch": Batch(first=ids[0], index=index, count=len(ids))}
        if index == 0:
            more["body_base64"] = b64encode(body).decode()
        # A record is an object that is not empty, so its last brace makes room for more members.
        made.append(record[:-1] + b"," + msgspec.json.encode(more)[1:])
    return made


def to_wire(event: Event, *, channels: tuple[str, ...] | None = None) -> bytes:
    """The event as one frame's JSON; `channels` as `core.event.to_json` takes them."""
    request = request_of(event)
    body = body_of(event, request)
    shown = Webhook(
        id=event.id,
        cursor=event.cursor,
        source=event.source or "",
        type=event.type,
        channels=event.channels if channels is None else channels,
        time=format_time(event.time),
        content_type=event.content_type,
        request=msgspec.structs.replace(request, body_base64=msgspec.UNSET),
        size=len(body),
    )
    if len(body) <= MAX_INLINE_BODY:
        shown = _with_body(shown, body)
    return msgspec.json.encode(shown)


def _with_body(webhook: Webhook, body: bytes) -> Webhook:
    try:
        return msgspec.structs.replace(webhook, body=body.decode())
    except UnicodeDecodeError:
        return msgspec.structs.replace(webhook, body_base64=b64encode(body).decode())


def from_wire(document: str | bytes) -> Webhook:
    """Raises HookbrookError if this is no frame of a source's stream."""
    try:
        webhook = _webhooks.decode(document)
        _ = webhook.raw
    except (ValueError, binascii.Error) as error:
        raise HookbrookError(f"the server sent what is no webhook of Hookbrook: {error}") from error
    return webhook


_encode = msgspec.json.Encoder().encode
_requests = msgspec.json.Decoder(Request)
_webhooks = msgspec.json.Decoder(Webhook)
