"""Several events in one request: a row's `split` says where they stand, and each becomes an event of its own.

An element is looked at as if it were the body of a request by itself, so that the row's `dedupe` and `type` say the
same for one event and for many. Its bytes are those that arrived, and are not written anew.
"""

from collections.abc import Sequence
from hashlib import sha256
from urllib.parse import urlencode

import msgspec
from msgspec.structs import replace

from hookbrook.inbound.recipe import Row
from hookbrook.inbound.request import FORM_TYPE, Request
from hookbrook.inbound.signed import first_present
from hookbrook.inbound.verify import dedupe_id

#: Events of one request; more are kept as the one body that they are, since one commit has to hold them all. SendGrid
#: sends up to a thousand.
MAX_EVENTS = 2_000

_elements = msgspec.json.Decoder(list[msgspec.Raw])
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])


def split(row: Row, request: Request) -> Sequence[Request] | None:
    """The events in a request, each as a request; None if it is one event, or not of the form that the row says."""
    kind, _, path = row.split.partition(":")
    if not kind:
        return None
    try:
        body = _form_field(request, path) if kind == "form" else _member(request.inflated, path)
        elements = _elements.decode(body)
    except (ValueError, RecursionError):
        return None
    if len(elements) > MAX_EVENTS:
        return None
    headers = [(name, value) for name, value in request.headers if not _is_of_whole(name, value)]
    return [replace(request, headers=headers, body=bytes(element)) for element in elements]


def dedupe_ids(row: Row, whole: Request, events: Sequence[Request]) -> Sequence[str]:
    """The ids of the events of one request.

    One without an id of its own is known by the whole body and its place in it: by its own bytes alone, two that look
    alike and happened on different days would count as one.
    """
    digest = sha256(whole.body).hexdigest()
    return [
        dedupe_id(row, event) if first_present(row.dedupe, event) else f"sha256:{digest}.{index}"
        for index, event in enumerate(events)
    ]


def join(row: Row, element: bytes) -> bytes:
    """The body that brings this event alone: the inverse of `split`, for what a row says of it."""
    kind, _, path = row.split.partition(":")
    if not kind:
        return element
    body = b"[%b]" % element
    if kind == "form":
        return urlencode({path: body.decode()}).encode()
    for name in reversed(path.split(".") if path else ()):
        body = b"{%b:%b}" % (msgspec.json.encode(name), body)
    return body


def _member(body: bytes, path: str) -> bytes | msgspec.Raw:
    found: bytes | msgspec.Raw = body
    for name in path.split(".") if path else ():
        members = _members.decode(found)
        if name not in members:
            raise ValueError(name)
        found = members[name]
    return found


def _form_field(request: Request, name: str) -> bytes:
    values = request.form_fields.get(name, ())
    if len(values) != 1:
        raise ValueError(name)
    return values[0].encode("utf-8", "replace")


def _is_of_whole(name: bytes, value: bytes) -> bool:
    """Whether a header says something of the whole body that is not true of one element."""
    name = name.lower()
    return name == b"content-encoding" or (name == b"content-type" and value.strip().lower().startswith(FORM_TYPE))
