"""What a provider's row says: how its webhooks are verified, told apart, named and answered.

A row is data, read from TOML (`providers.toml`, and `[providers.NAME]` in the operator's `hookbrook.toml`); the types
here are its grammar, and reading a row through them is its validation. Whoever adds a provider adds a table there and
no code, unless its scheme needs something fetched from the network.
"""

import binascii
import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, ClassVar, Literal

import msgspec

from hookbrook.core.channel import DEFAULT_TYPE
from hookbrook.errors import Invalid
from hookbrook.inbound.place import Place, parse_place
from hookbrook.inbound.request import Request
from hookbrook.inbound.template import Template

#: Signatures of one request that are compared. Rotation needs two; a header with thousands must not cost thousands.
MAX_SIGNATURES = 16

#: How long a provider's repeat is known for one, unless its row says longer: more than the last retry of Standard
#: Webhooks (75.6 h) and of Stripe (three days).
DEFAULT_DEDUPE_WINDOW_S = 4 * 86_400

#: What the reply to a challenge may speak of.
CHALLENGE_WORDS = frozenset(("value", "hmac:hex", "hmac:base64"))

_VARIABLE = re.compile(r"\{([^{}]*)\}")


class Message:
    """The string that is signed, such as `v0:{t}:{b}`.

    `{b}` is the raw body, `{t}` the timestamp and `{id}` the message's id as they stand in the request, `{u}` the
    public URL, `{m}` the method.
    """

    VARIABLES: ClassVar[frozenset[str]] = frozenset(("b", "t", "id", "u", "m"))

    __slots__ = ("_literals", "_names", "text", "variables")

    def __init__(self, text: str) -> None:
        pieces = _VARIABLE.split(text)
        self._literals = tuple(piece.encode() for piece in pieces[::2])
        self._names = tuple(pieces[1::2])
        self.text = text
        self.variables = frozenset(self._names)
        if unknown := self.variables - self.VARIABLES:
            raise ValueError(f"{{{min(unknown)}}} is unknown; there are {{b}}, {{t}}, {{id}}, {{u}} and {{m}}")
        if not self.variables:
            raise ValueError("a signed string without a variable would be the same for every request")

    def __repr__(self) -> str:
        return f"Message({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Message) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def render(self, request: Request, *, timestamp: bytes, id_: bytes) -> bytes:
        if self.text == "{b}":
            return request.body  # spares a copy of what may be 25 MB
        values = {"b": request.body, "t": timestamp, "id": id_, "u": request.url.encode("utf-8", "replace")}
        values["m"] = request.method.encode("utf-8", "replace")
        joined = [self._literals[0]]
        for name, literal in zip(self._names, self._literals[1:], strict=True):
            joined += (values[name], literal)
        return b"".join(joined)


class Signature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the signatures stand and how they are written.

    A bare value (`sha256=ab12…` has the prefix `sha256=`), or a list of items: Stripe's `t=1,v1=ab12…` has the
    separator `,`, the assignment sign `=` and the item name `v1`.
    """

    #: Looked at in this order; the first that is present counts.
    places: tuple[Place, ...]
    encoding: Literal["hex", "base64"]
    prefix: str = ""
    separator: str = ""
    assign: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        if not self.places:
            raise ValueError("at least one place is needed")
        if bool(self.assign) != bool(self.name):
            raise ValueError("`assign` and `name` belong together")

    def values(self, request: Request) -> Sequence[bytes]:
        """Everything in the first place that holds something."""
        return first_present(self.places, request)

    def items(self, values: Sequence[bytes], name: str) -> Sequence[bytes]:
        """The items of this name, undecoded and at most `MAX_SIGNATURES`."""
        pieces = [piece for value in values for piece in self._split(value)][: 2 * MAX_SIGNATURES]
        if self.assign:
            pairs = (piece.strip().partition(self.assign.encode()) for piece in pieces)
            pieces = [value for key, _, value in pairs if key == name.encode()]
        return pieces[:MAX_SIGNATURES]

    def decoded(self, values: Sequence[bytes]) -> Sequence[bytes]:
        """The signatures as bytes; what is not written as the row says is left out."""
        prefix = self.prefix.encode()
        written = [item[len(prefix) :] for item in self.items(values, self.name) if item.startswith(prefix)]
        return [signature for text in written if (signature := decode(text, self.encoding))]

    def _split(self, value: bytes) -> Sequence[bytes]:
        return value.split(self.separator.encode(), 2 * MAX_SIGNATURES) if self.separator else (value,)


class Timestamp(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When the webhook was sent, and how far that may lie from its arrival."""

    #: Where it stands, or else …
    places: tuple[Place, ...] = ()
    #: … which item of the signature's list it is.
    item: str = ""
    unit: Literal["s", "ms"] = "s"
    #: Seconds that it may be old.
    past_s: int
    #: Seconds that it may lie in the future, because clocks differ.
    future_s: int

    def __post_init__(self) -> None:
        if bool(self.places) == bool(self.item):
            raise ValueError("either `places` or `item` says where the timestamp stands")
        if self.past_s <= 0 or self.future_s <= 0:
            raise ValueError("`past_s` and `future_s` are at least 1: clocks differ")


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


class Hmac(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="hmac", tag_field="recipe"):
    """R1: an HMAC over a string made from the request."""

    hash: Literal["sha1", "sha256", "sha512"] = "sha256"
    signature: Signature
    message: Message
    key: Key = Key()
    timestamp: Timestamp | None = None
    #: Where `{id}` stands.
    id: tuple[Place, ...] = ()

    def __post_init__(self) -> None:
        _check_message(self.message, self.signature, self.timestamp, self.id)

    @property
    def covers(self) -> tuple[str, ...]:
        return _covers(self.message)


class PublicKey(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="public_key", tag_field="recipe"
):
    """R3: a signature by the provider's private key; the source's secret is the public one."""

    algorithm: Literal["ed25519", "ecdsa_p256", "rsa_sha256"]
    signature: Signature
    message: Message
    #: Ed25519: the 32 bytes. The others: the DER of a SubjectPublicKeyInfo (RFC 5280 section 4.1).
    key: Key
    timestamp: Timestamp | None = None
    id: tuple[Place, ...] = ()

    def __post_init__(self) -> None:
        _check_message(self.message, self.signature, self.timestamp, self.id)

    @property
    def covers(self) -> tuple[str, ...]:
        return _covers(self.message)


class Token(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="token", tag_field="recipe"):
    """R2: the request shows the secret itself, which proves the sender and protects no byte of the request."""

    places: tuple[Place, ...]
    #: An HTTP authentication scheme before the secret; compared without case (RFC 9110 section 11.1).
    scheme: str = ""
    #: `base64` for Basic authentication: the secret is then `name:password`.
    encoding: Literal["plain", "base64"] = "plain"
    covers: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if not self.places:
            raise ValueError("at least one place is needed")


class Unsigned(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="none", tag_field="recipe"):
    """No proof is asked for. Everything that arrives is accepted, and marked as unverified."""

    covers: ClassVar[tuple[str, ...]] = ()


class Condition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A place that holds exactly this text; without `equals`, one that holds anything."""

    place: Place
    equals: str | None = None

    def holds(self, request: Request) -> bool:
        values = self.place.values(request)
        if self.equals is None:
            return bool(values)
        return len(values) == 1 and values[0] == self.equals.encode()


class Challenge(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A question by which the provider makes sure that we are who we say; answered at once and not kept as an event.

    In the texts of the reply, `{value}` is the value asked about, `{hmac:hex}` and `{hmac:base64}` its HMAC-SHA256 by
    the source's secret.
    """

    when: tuple[Condition, ...]
    method: Literal["GET", "POST", "OPTIONS"] = "POST"
    #: Answered only if the request's own signature holds.
    signed: bool
    value: Place | None = None
    status: int = 200
    text: str | None = None
    json: Mapping[str, str | int] | None = None

    def __post_init__(self) -> None:
        if not self.when:
            raise ValueError("a challenge without a condition would swallow every webhook")
        if (self.text is None) == (self.json is None):
            raise ValueError("a reply is either `text` or `json`")
        words = {word for text in self.texts for word in _VARIABLE.findall(text)}
        if unknown := words - CHALLENGE_WORDS:
            raise ValueError(f"{{{min(unknown)}}} is unknown; there are {{value}}, {{hmac:hex}} and {{hmac:base64}}")
        if words and self.value is None:
            raise ValueError("the reply speaks of a value, and `value` does not say where it stands")

    @property
    def is_computed(self) -> bool:
        """Whether the reply needs the secret."""
        return any("{hmac:" in text for text in self.texts)

    @property
    def texts(self) -> Sequence[str]:
        """The texts in the reply that may hold variables."""
        if self.json is None:
            return (self.text or "",)
        return tuple(value for value in self.json.values() if isinstance(value, str))


class Acknowledgement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the provider reads when its webhook was kept."""

    status: int = 200
    content_type: str = "text/plain"
    body: str = ""


class Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A provider: everything there is to know about its webhooks."""

    id: str
    title: str
    #: Where the facts come from, and when somebody last looked.
    source_url: str = ""
    checked_on: date | None = None
    #: Third-party code that signs or verifies for this provider and is run against this row by the tests.
    judge: str = ""
    verify: Hmac | Token | PublicKey | Unsigned
    #: Where the id stands that all deliveries of one event share; without one, the hash of the body is the id.
    dedupe: tuple[Place, ...] = ()
    dedupe_window_s: int = DEFAULT_DEDUPE_WINDOW_S
    #: The event's type.
    type: Template = Template.compile("{body.type}", missing=DEFAULT_TYPE)
    challenges: tuple[Challenge, ...] = ()
    acknowledge: Acknowledgement = Acknowledgement()
    #: How long the provider waits for a reply, and what it does without one; for people to read.
    deadline_s: float | None = None
    retries: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.verify, Hmac) and any(challenge.is_computed for challenge in self.challenges):
            raise ValueError("a challenge speaks of an HMAC, and `verify.recipe` is not hmac")

    @property
    def covers(self) -> tuple[str, ...]:
        """The parts of the request that the proof protects, of `body`, `timestamp`, `id`, `url` and `method`."""
        return self.verify.covers


def read_row(name: str, table: Mapping[str, Any]) -> Row:
    """The row that a TOML table says; raises `msgspec.ValidationError`, which names the key after `$`."""
    return msgspec.convert({**table, "id": name}, Row, dec_hook=_read_text)


def first_present(places: Sequence[Place], request: Request) -> Sequence[bytes]:
    """The values of the first place that has any."""
    for place in places:
        if values := place.values(request):
            return values
    return ()


def decode(text: bytes, encoding: Literal["hex", "base64"]) -> bytes:
    """The bytes that `text` writes; empty if it is not strictly of that encoding."""
    try:
        return binascii.unhexlify(text) if encoding == "hex" else binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error:
        return b""


def _read_text(kind: type, value: object) -> object:
    """Reads the types that stand as text in a row; msgspec turns the ValueErrors into errors that name the key."""
    if not isinstance(value, str):
        raise ValueError("expected a text")  # noqa: TRY004 - msgspec reports a ValueError with the key's path
    if kind is Place:
        return parse_place(value)
    if kind is Message:
        return Message(value)
    if kind is Template:
        return _read_type(value)
    raise NotImplementedError(kind)


def _read_type(text: str) -> Template:
    try:
        return Template.compile(text, missing=DEFAULT_TYPE, field="type")
    except Invalid as exc:
        raise ValueError(exc.errors[0].message) from exc


def _covers(message: Message) -> tuple[str, ...]:
    words = {"b": "body", "t": "timestamp", "id": "id", "u": "url", "m": "method"}
    return tuple(word for name, word in words.items() if name in message.variables)


def _check_message(message: Message, signature: Signature, timestamp: Timestamp | None, id_: tuple[Place, ...]) -> None:
    if "t" in message.variables and timestamp is None:
        raise ValueError("`message` signs {t}, and `timestamp` does not say where it stands")
    if "id" in message.variables and not id_:
        raise ValueError("`message` signs {id}, and `id` does not say where it stands")
    if timestamp is not None and timestamp.item and not signature.assign:
        raise ValueError("`timestamp.item` is an item of a list, and `signature` has no `assign`")
