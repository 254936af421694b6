"""One request at `/in/{source}`, as bytes, with the views of it that recipes and templates ask for."""

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Generic, TypeVar, overload
from urllib.parse import parse_qsl

import msgspec

from hookbrook.inbound.reads import EVERYTHING, Reads

#: Names in a query or form that are looked at; a body of a million empty pairs would cost seconds otherwise.
MAX_FORM_FIELDS = 1_000

#: Headers that hold the caller's credentials; a template must not turn one into a channel's name.
PRIVATE_HEADERS = frozenset((b"authorization", b"cookie", b"proxy-authorization"))

FORM_TYPE = b"application/x-www-form-urlencoded"

#: Bytes to which a compressed body is inflated before its names are read; 8 ms of one core. A thousand times as many
#: fit into one that arrives within its limit.
MAX_INFLATED = 2 * 1024 * 1024

_CODINGS = (b"gzip", b"x-gzip", b"deflate")

#: Arrays and objects, and an eighth of the commas, in what is decoded as a whole: 30 ms of one core. Two bytes make an
#: object of a hundred, a few kilobytes make megabytes of them once they are inflated, and a stranger's body is looked
#: into before it is verified.
MAX_VALUES = 100_000
#: What is shorter cannot have so many.
_MAX_UNCOUNTED = MAX_VALUES

#: Decoders for some members of an object that are kept; each source has one at the most.
MAX_DECODERS = 1_024


T = TypeVar("T")


class _once(Generic[T]):  # noqa: N801 - it is written like `cached_property`
    """A view that is worked out when it is first asked for. `functools.cached_property` does the same behind a lock,
    which costs more than most of these views."""

    __slots__ = ("_make", "_name")

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make
        self._name = make.__name__

    @overload
    def __get__(self, request: None, kind: type) -> "_once[T]": ...
    @overload
    def __get__(self, request: object, kind: type) -> T: ...
    def __get__(self, request: object | None, kind: type) -> "T | _once[T]":
        if request is None:
            return self
        value = request.__dict__[self._name] = self._make(request)
        return value


# `dict`: each view is worked out at most once, and kept beside the fields.
class Request(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """A request as it came from the network; nothing here raises, whatever its bytes are."""

    method: str
    #: The address that the provider was told, with its query: a setting of the operator's, never read from headers.
    url: str = ""
    #: In the order received; names in any case.
    headers: Sequence[tuple[bytes, bytes]] = ()
    #: Whether all names are in lower case, as ASGI has them.
    lowered: bool = False
    #: What follows the question mark, without it.
    query: bytes = b""
    #: The raw body, after transfer coding and before content coding.
    body: bytes = b""
    #: Members of the body that will be asked for; None: not known, or all of it.
    members: frozenset[str] | None = None

    #: Whether the body was read from end to end and found to be a JSON object; False says nothing.
    is_walked: ClassVar[bool] = False

    def header(self, name: bytes) -> Sequence[bytes]:
        """The values of every header of this name (in lower case), in order, without white space around them."""
        if distinct := self.distinct:
            value = distinct.get(name)
            return () if value is None else (value.strip(),)
        return self._headers.get(name, ())

    @_once
    def distinct(self) -> Mapping[bytes, bytes]:
        """The headers as they came, if all names are in lower case and none is there twice; else nothing.

        A short way to them: what is not here may still be there for `header`.
        """
        if not self.lowered:
            return {}
        found = dict(self.headers)
        return found if len(found) == len(self.headers) else {}

    @_once
    def _headers(self) -> Mapping[bytes, Sequence[bytes]]:
        found: dict[bytes, Sequence[bytes]] = {name.lower(): (value.strip(),) for name, value in self.headers}
        if len(found) == len(self.headers):
            return found
        repeated: dict[bytes, list[bytes]] = {}
        for name, value in self.headers:
            repeated.setdefault(name.lower(), []).append(value.strip())
        return repeated

    @property
    def inflated(self) -> bytes:
        """The body without its content coding, for whoever reads it; what is kept and signed is the body as it is.

        The body itself if it has no coding that we know, or inflates to more than `MAX_INFLATED`.
        """
        return self._inflated if self.header(b"content-encoding") else self.body

    @_once
    def _inflated(self) -> bytes:
        codings = self.header(b"content-encoding")
        return _inflate(self.body) if codings and codings[0].lower() in _CODINGS else self.body

    @_once
    def json(self) -> Any:
        """The body decoded, or None if it is no JSON, or one of more than `MAX_VALUES`."""
        body = self.inflated
        if _is_crowded(body):
            return None
        try:
            return msgspec.json.decode(body)
        except (ValueError, RecursionError):
            return _lenient_json(body)

    def json_with(self, name: str) -> Any:
        """The body decoded as far as its member `name` needs; without that member, if the body is an object."""
        if self.members is None or name not in self.members or "json" in self.__dict__:
            return self.json
        return self._excerpt

    @_once
    def _excerpt(self) -> Any:
        """The body with only those members that will be asked for; all of it, if it is no object."""
        if not self.members:
            return {}
        body = self.inflated
        read = _members_apart if _is_crowded(body) else _members_of
        try:
            found = read(self.members)(body)
        except (ValueError, RecursionError):
            return self.json
        if body is self.body:
            self.__dict__["is_walked"] = True
        return found

    @_once
    def query_fields(self) -> Mapping[str, list[str]]:
        return _fields(self.query)

    @_once
    def form_fields(self) -> Mapping[str, list[str]]:
        """The fields of a form, by name; empty if the request is not labelled as one."""
        return _fields(self.inflated) if self.is_form else {}

    @property
    def is_form(self) -> bool:
        """Whether the request says so."""
        content_type = next(iter(self.header(b"content-type")), b"")
        return content_type.partition(b";")[0].strip().lower() == FORM_TYPE

    @_once
    def document(self) -> Mapping[str, Any]:
        """`{headers, query, body}` for templates and expressions.

        Header names are in lower case, repeated ones joined by `, ` (RFC 9110 section 5.3), credentials left out.
        A repeated name of a query or form gives its first value. `body` is the decoded JSON, else the form, else None.
        """
        return self.document_of(EVERYTHING)

    def document_of(self, reads: Reads) -> Mapping[str, Any]:
        """The same with only what `reads` names."""
        return {
            "headers": self._header_texts(reads.headers),
            "query": self.query_texts if reads.query else {},
            "body": self.body_with(reads.body),
        }

    def header_text(self, name: bytes) -> str:
        """As `document` has it: repeated ones joined; empty if there is none, or it holds credentials."""
        values = () if name in PRIVATE_HEADERS else self.header(name)
        if not values:
            return ""
        return (values[0] if len(values) == 1 else b", ".join(values)).decode("latin-1")

    def _header_texts(self, names: frozenset[str] | None) -> Mapping[str, str]:
        """The headers of these names, or all; credentials are left out."""
        if names is None:
            found = self._headers
        else:
            keys = [name.encode("utf-8", "replace") for name in names]
            found = {key: values for key in keys if (values := self.header(key))}
        return {
            key.decode("latin-1"): (values[0] if len(values) == 1 else b", ".join(values)).decode("latin-1")
            for key, values in found.items()
            if key not in PRIVATE_HEADERS
        }

    @_once
    def query_texts(self) -> Mapping[str, str]:
        return {name: values[0] for name, values in self.query_fields.items()}

    def body_with(self, names: frozenset[str] | None) -> Any:
        """The body as `document` has it, with at least these members; None: all of it."""
        if names is not None and not names:
            return None
        in_part = names is not None and self.members is not None and names <= self.members
        body = self._excerpt if in_part and "json" not in self.__dict__ else self.json
        if body is None and self.form_fields:
            return {name: values[0] for name, values in self.form_fields.items()}
        return body


@lru_cache(MAX_DECODERS)
def _members_of(names: frozenset[str]) -> Callable[[bytes], Mapping[str, Any]]:
    """Reads these members of an object and walks over the others; raises `msgspec.DecodeError` if it is none."""
    attributes = {f"member{index}": name for index, name in enumerate(sorted(names))}
    fields = [(attribute, Any, msgspec.UNSET) for attribute in attributes]
    decode = msgspec.json.Decoder(msgspec.defstruct("Members", fields, rename=attributes)).decode
    pairs = tuple(attributes.items())

    def read(body: bytes) -> Mapping[str, Any]:
        found = decode(body)
        members = {}
        for attribute, name in pairs:
            value = getattr(found, attribute)
            if value is not msgspec.UNSET:
                members[name] = value
        return members

    return read


@lru_cache(MAX_DECODERS)
def _members_apart(names: frozenset[str]) -> Callable[[bytes], Mapping[str, Any]]:
    """As `_members_of`, for a body of more than `MAX_VALUES`: without those members that have so many themselves."""
    attributes = {f"member{index}": name for index, name in enumerate(sorted(names))}
    fields = [(attribute, msgspec.Raw, msgspec.UNSET) for attribute in attributes]
    decoder = msgspec.json.Decoder(msgspec.defstruct("Members", fields, rename=attributes))

    def read(body: bytes) -> Mapping[str, Any]:
        found = decoder.decode(body)
        values = ((name, getattr(found, attribute)) for attribute, name in attributes.items())
        raws = {name: bytes(value) for name, value in values if value is not msgspec.UNSET}
        return {name: msgspec.json.decode(raw) for name, raw in raws.items() if not _is_crowded(raw)}

    return read


def _is_crowded(body: bytes) -> bool:
    """Whether it may have more than `MAX_VALUES`; counts what stands in texts, too."""
    if len(body) <= _MAX_UNCOUNTED:
        return False
    return body.count(b"[") + body.count(b"{") + body.count(b",") // 8 > MAX_VALUES


def _fields(encoded: bytes) -> Mapping[str, list[str]]:
    if not encoded:
        return {}
    try:
        pairs = parse_qsl(encoded.decode("latin-1"), keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS)
    except ValueError:
        return {}
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found


def _inflate(body: bytes) -> bytes:
    # 47: zlib's or gzip's wrapper, whichever it finds. At the limit it stops, and the rest is never inflated.
    inflater = zlib.decompressobj(wbits=47)
    try:
        inflated = inflater.decompress(body, MAX_INFLATED)
    except zlib.error:
        return body
    return inflated if inflater.eof else body


def _lenient_json(body: bytes) -> Any:
    # msgspec refuses numbers beyond a float and half of a surrogate pair; both are JSON, and chat programs that cut a
    # text in the middle of an emoji send the latter. The body itself is passed on untouched either way.
    try:
        return json.loads(body.decode())
    except (ValueError, RecursionError):
        return None
