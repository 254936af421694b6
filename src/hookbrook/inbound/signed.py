"""The parts of a signature that rows describe: the signed string, where signatures stand, the time, the key."""

import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import ClassVar, Literal

import msgspec

from hookbrook.core.event import parse_time
from hookbrook.errors import Invalid
from hookbrook.inbound.place import Place, parse_place
from hookbrook.inbound.request import Request
from hookbrook.inbound.verdict import Reason, Refusal

#: Signatures of one request that are compared. Rotation needs two; a header with thousands must not cost thousands.
MAX_SIGNATURES = 16

#: Digits of the largest timestamp: milliseconds until the year 5138.
MAX_TIMESTAMP_DIGITS = 14

Encoding = Literal["hex", "base64", "base64url"]

VARIABLE = re.compile(r"\{([^{}]*)\}")

_URL_SAFE = bytes.maketrans(b"-_", b"+/")


class Message:
    """The string that is signed, such as `v0:{t}:{b}`.

    `{b}` is the raw body, `{t}` the timestamp and `{id}` the message's id as they stand in the request, `{u}` the
    public URL, `{m}` the method; `{form}` the fields of a form, sorted, each name followed by its value, and empty if
    the body is none; `{json:PATH}` and `{header:NAME}` what stands in that place, empty if nothing does.
    """

    #: What each variable protects.
    VARIABLES: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"b": "body", "form": "body", "t": "timestamp", "id": "id", "u": "url", "m": "method"}
    )

    __slots__ = ("_is_time_and_body", "_literals", "_pairs", "_places", "covers", "is_body", "text", "variables")

    def __init__(self, text: str) -> None:
        pieces = VARIABLE.split(text)
        self._literals = tuple(piece.encode() for piece in pieces[::2])
        #: Whether it is the body and nothing else.
        self.is_body = text == "{b}"
        #: The commonest of all, which needs no look at each variable.
        self._is_time_and_body = pieces[1::2] == ["t", "b"]
        self.text = text
        self.variables = frozenset(pieces[1::2])
        self._places = {name: parse_place(name) for name in self.variables if name.startswith(("json:", "header:"))}
        if unknown := self.variables - self.VARIABLES.keys() - self._places.keys():
            raise ValueError(
                f"{{{min(unknown)}}} is unknown; there are {{b}}, {{form}}, {{t}}, {{id}}, {{u}}, {{m}}, {{json:PATH}} "
                "and {header:NAME}"
            )
        if not self.variables:
            raise ValueError("a signed string without a variable would be the same for every request")
        self._pairs = tuple(zip(map(self._getter, pieces[1::2]), self._literals[1:], strict=True))
        #: What a signature over this protects. `fields`: only those members of the body that are named here.
        self.covers = self._covers()

    def __repr__(self) -> str:
        return f"Message({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Message) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    @property
    def places(self) -> Sequence[Place]:
        return tuple(self._places.values())

    def _covers(self) -> tuple[str, ...]:
        found = [word for name, word in self.VARIABLES.items() if name in self.variables]
        if "body" not in found and any(name.startswith("json:") for name in self.variables):
            found.append("fields")
        return tuple(dict.fromkeys(found))

    def render(self, request: Request, timestamp: bytes, id_: bytes) -> bytes:
        if self.is_body:
            return request.body  # spares a copy of what may be 25 MB
        if self._is_time_and_body:
            before, between, after = self._literals
            return b"".join((before, timestamp, between, request.body, after))
        joined = [self._literals[0]]
        for value, literal in self._pairs:
            joined += (value(request, timestamp, id_), literal)
        return b"".join(joined)

    def _getter(self, name: str) -> "_Getter":
        if name in _GETTERS:
            return _GETTERS[name]
        place = self._places[name]
        return lambda request, _timestamp, _id: next(iter(place.values(request)), b"")


#: Value of a variable, from the request, its timestamp and its id.
_Getter = Callable[[Request, bytes, bytes], bytes]


def _sorted_form(request: Request) -> bytes:
    # Twilio and Mandrill; Twilio's code sorts a repeated field's values too, and takes each value once.
    fields = sorted(request.form_fields.items())
    return "".join(name + value for name, values in fields for value in sorted(set(values))).encode("utf-8", "replace")


_GETTERS: Mapping[str, _Getter] = {
    "b": lambda request, _timestamp, _id: request.body,
    "t": lambda _request, timestamp, _id: timestamp,
    "id": lambda _request, _timestamp, id_: id_,
    "u": lambda request, _timestamp, _id: request.url.encode("utf-8", "replace"),
    "m": lambda request, _timestamp, _id: request.method.encode("utf-8", "replace"),
    "form": lambda request, _timestamp, _id: _sorted_form(request),
}


# `dict`: the texts are kept as bytes beside the fields.
class Signature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """Where the signatures stand and how they are written.

    A bare value (`sha256=ab12…` has the prefix `sha256=`), or a list of items: Stripe's `t=1,v1=ab12…` has the
    separator `,`, the assignment sign `=` and the item name `v1`.
    """

    #: All of them are looked at: a provider that rotates its key may send one signature by each in two headers.
    places: tuple[Place, ...]
    encoding: Encoding
    prefix: str = ""
    separator: str = ""
    assign: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        if not self.places:
            raise ValueError("at least one place is needed")
        if bool(self.assign) != bool(self.name):
            raise ValueError("`assign` and `name` belong together")

    @property
    def is_bare(self) -> bool:
        """Whether it is a single value in a single place, not a list."""
        return len(self.places) == 1 and not self.separator

    def values(self, request: Request) -> Sequence[bytes]:
        """Everything that stands in the places."""
        if len(self.places) == 1:
            return self.places[0].values(request)
        return [value for place in self.places for value in place.values(request)]

    def pieces(self, values: Sequence[bytes]) -> Sequence[bytes]:
        """The values, or the items of the lists that they are; at most twice `MAX_SIGNATURES`."""
        separator, limit = self._separator, 2 * MAX_SIGNATURES
        if not separator:
            return values[:limit]
        if len(values) == 1:
            return [piece.strip() for piece in values[0].split(separator, limit)]
        return [piece.strip() for value in values for piece in value.split(separator, limit)][:limit]

    def start_of(self, name: str) -> bytes:
        """What a piece begins with that is the item of this name."""
        return name.encode() + self._assign

    @cached_property
    def start(self) -> bytes:
        """What stands before a signature in its piece."""
        return self.start_of(self.name) + self.prefix.encode()

    @cached_property
    def _separator(self) -> bytes:
        return self.separator.encode()

    @cached_property
    def _assign(self) -> bytes:
        return self.assign.encode()


def items(pieces: Sequence[bytes], start: bytes) -> Sequence[bytes]:
    """The rest of those pieces that begin so, at most `MAX_SIGNATURES`."""
    length = len(start)
    return [piece[length:] for piece in pieces if piece.startswith(start)][:MAX_SIGNATURES]


class Timestamp(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When the webhook was sent, and how far that may lie from its arrival."""

    #: Where it stands, or else …
    places: tuple[Place, ...] = ()
    #: … which item of the signature's list it is.
    item: str = ""
    #: `iso`: RFC 3339 with an offset.
    unit: Literal["s", "ms", "iso"] = "s"
    #: Seconds that it may be old.
    past_s: int
    #: Seconds that it may lie in the future, because clocks differ.
    future_s: int

    def __post_init__(self) -> None:
        if bool(self.places) == bool(self.item):
            raise ValueError("either `places` or `item` says where the timestamp stands")
        if self.past_s <= 0 or self.future_s <= 0:
            raise ValueError("`past_s` and `future_s` are at least 1: clocks differ")

    def check(self, text: bytes, now: float) -> int:
        """The time in seconds since 1970; raises `Refusal` if it is none, or outside the window at `now`."""
        sent_at = self.seconds(text)
        if now - sent_at > self.past_s:
            raise Refusal(Reason.TOO_OLD, f"The timestamp is older than {self.past_s} s.")
        if sent_at - now > self.future_s:
            raise Refusal(Reason.IN_THE_FUTURE, f"The timestamp is more than {self.future_s} s in the future.")
        return int(sent_at)

    def seconds(self, text: bytes) -> float:
        """The time in seconds since 1970; raises `Refusal` if it is none."""
        if self.unit == "iso":
            try:
                return parse_time(text.decode("latin-1"), "timestamp") / 1_000_000
            except Invalid:
                raise Refusal(Reason.MALFORMED_TIMESTAMP, "The timestamp is not an RFC 3339 time.") from None
        # `bytes.isdigit` is ASCII only; int() would also take signs, spaces and underscores.
        if not text.isdigit() or len(text) > MAX_TIMESTAMP_DIGITS:
            unit = "seconds" if self.unit == "s" else "milliseconds"
            raise Refusal(Reason.MALFORMED_TIMESTAMP, f"The timestamp is not a number of {unit} since 1970.")
        return int(text) if self.unit == "s" else int(text) / 1000


class Key(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a secret's text becomes the bytes of the key."""

    encoding: Literal["utf8", "base64", "hex"] = "utf8"
    #: Taken off first, if it is there.
    strip: str = ""

    def decode(self, secret: str) -> bytes:
        """Raises ValueError, without the secret in it, if the text holds no key."""
        text = secret.removeprefix(self.strip)
        if self.encoding == "utf8":
            key = text.encode()
        else:
            padding = "=" * (-len(text) % 4) if self.encoding == "base64" else ""
            key = decode((text + padding).encode("ascii", "replace"), self.encoding)
        if not key:
            raise ValueError("it is empty" if not text else f"it is not {self.encoding}")
        return key


class Hash(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A SHA-256 of the body that stands in a signed part of the request."""

    place: Place
    encoding: Encoding = "hex"


def first_present(places: Sequence[Place], request: Request) -> Sequence[bytes]:
    """The values of the first place that has any."""
    for place in places:
        if values := place.values(request):
            return values
    return ()


def decode(text: bytes, encoding: Encoding) -> bytes:
    """The bytes that `text` writes; empty if it is not strictly of that encoding. base64url may lack its padding."""
    return decoder(encoding)(text)


def decoder(encoding: Encoding) -> Callable[[bytes], bytes]:
    """`decode` for one encoding."""
    return _DECODERS[encoding]


def _decode_hex(text: bytes) -> bytes:
    try:
        return binascii.unhexlify(text)
    except binascii.Error:
        return b""


def _decode_base64(text: bytes) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error:
        return b""


def _decode_base64url(text: bytes) -> bytes:
    return _decode_base64(text.translate(_URL_SAFE) + b"=" * (-len(text) % 4))


_DECODERS: Mapping[Encoding, Callable[[bytes], bytes]] = {
    "hex": _decode_hex,
    "base64": _decode_base64,
    "base64url": _decode_base64url,
}
