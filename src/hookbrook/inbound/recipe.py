"""What a provider's row says: how its webhooks are verified, told apart, named and answered.

A row is data, read from TOML (`providers.toml`, and `[providers.NAME]` in the operator's `hookbrook.toml`); the types
here and in `signed` are its grammar, and reading a row through them is its validation. Whoever adds a provider adds a
table there and no code, unless its scheme needs something fetched from the network.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import date
from functools import cached_property
from typing import Any, ClassVar, Literal

import msgspec

from hookbrook.core.channel import DEFAULT_TYPE
from hookbrook.errors import Invalid
from hookbrook.inbound.place import Place, parse_place
from hookbrook.inbound.request import Request
from hookbrook.inbound.signed import VARIABLE, Encoding, Hash, Key, Message, Signature, Timestamp
from hookbrook.inbound.template import Template

#: How long a provider's repeat is known for one, unless its row says longer: more than the last retry of Standard
#: Webhooks (75.6 h) and of Stripe (three days).
DEFAULT_DEDUPE_WINDOW_S = 4 * 86_400

#: What the reply to a challenge may speak of.
CHALLENGE_WORDS = frozenset(("value", "hmac:hex", "hmac:base64"))

#: A source's secret that starts with this is no key: it is what a handshake has to show (Meta's `hub.verify_token`),
#: and travels in a URL, so that a signature by it proves nothing.
VERIFY_TOKEN = "verify_token:"  # noqa: S105 - the prefix of one

#: In which PayPal sends the signature, the transmission's id and time, the certificate's address and the algorithm.
PAYPAL_HEADERS = tuple(
    parse_place(f"header:PAYPAL-{name}")
    for name in ("TRANSMISSION-SIG", "TRANSMISSION-ID", "TRANSMISSION-TIME", "CERT-URL", "AUTH-ALGO")
)

# RFC 9110 section 5.6.2.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class Hmac(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="hmac", tag_field="recipe"):
    """R1: an HMAC over a string made from the request."""

    hash: Literal["sha1", "sha256", "sha512"] = "sha256"
    signature: Signature
    message: Message
    key: Key = Key()
    timestamp: Timestamp | None = None
    #: Where `{id}` stands.
    id: tuple[Place, ...] = ()
    #: What protects a body that is not a form, where the message signs forms only.
    body_hash: Hash | None = None

    def __post_init__(self) -> None:
        _check_message(self.message, self.signature, self.timestamp, self.id)

    @property
    def covers(self) -> tuple[str, ...]:
        return self.message.covers

    @property
    def places_read(self) -> Sequence[Place]:
        return _places(self.signature, self.timestamp, self.message, self.id)


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
        return self.message.covers

    @property
    def places_read(self) -> Sequence[Place]:
        return _places(self.signature, self.timestamp, self.message, self.id)


class Token(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="token", tag_field="recipe"):
    """R2: the request shows the secret itself, which proves the sender and protects no byte of the request."""

    places: tuple[Place, ...]
    #: An HTTP authentication scheme before the secret; compared without case (RFC 9110 section 11.1).
    scheme: str = ""
    #: `base64` for Basic authentication: the secret is then `name:password`.
    encoding: Literal["plain", "base64"] = "plain"
    #: The place may hold several values, each of which must be the secret: one for each event of a batch.
    every: bool = False
    covers: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if not self.places:
            raise ValueError("at least one place is needed")

    @property
    def places_read(self) -> Sequence[Place]:
        return self.places


class Jwt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="jwt", tag_field="recipe"):
    """R4: a JSON Web Token (RFC 7519) by a shared secret, with a claim that holds the body's SHA-256."""

    places: tuple[Place, ...]
    scheme: str = ""
    algorithms: tuple[Literal["HS256", "HS384", "HS512"], ...] = ("HS256",)
    key: Key = Key()
    issuer: str = ""
    #: The claim with the body's hash, and how that is written.
    body_claim: str
    encoding: Encoding = "hex"
    #: The claim with the public URL; with `url_hashed` its SHA-256 in hex.
    url_claim: str = ""
    url_hashed: bool = False
    #: The claim by which repeats are known.
    id_claim: str = ""
    #: Seconds since `iat` that are accepted; the time is also judged by `exp` and `nbf`. A token with neither `exp`
    #: nor this limit would hold for ever and is refused.
    past_s: int | None = None
    #: Seconds by which clocks may differ.
    leeway_s: int = 60

    def __post_init__(self) -> None:
        if not self.places or not self.algorithms:
            raise ValueError("at least one place and one algorithm are needed")

    @property
    def covers(self) -> tuple[str, ...]:
        return ("body", "timestamp", *(("id",) if self.id_claim else ()), *(("url",) if self.url_claim else ()))

    @property
    def places_read(self) -> Sequence[Place]:
        return self.places


class Certificate(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="certificate", tag_field="recipe"
):
    """R5: a signature by a certificate that is fetched.

    What is signed, and how, only code can say (`claim`). The source's secrets say what it may be about: the topics of
    Amazon SNS, or the ids of PayPal's webhooks.
    """

    scheme: Literal["sns", "paypal"]
    #: Where certificates may lie; `*` is one label of the name.
    hosts: tuple[str, ...]
    #: None: PayPal's, whose retries come for days.
    timestamp: Timestamp | None = None

    def __post_init__(self) -> None:
        if self.scheme == "sns" and self.timestamp is None:
            raise ValueError("the scheme sns needs a `timestamp`, or a message could be played again for ever")

    @property
    def covers(self) -> tuple[str, ...]:
        # PayPal signs a checksum of the body. See docs/webhooks-in.md for what that is worth.
        return ("body",) if self.scheme == "paypal" else ("timestamp", "id", "fields")

    @property
    def headers(self) -> Sequence[Place]:
        """Where what the proof needs stands, the signature first; none if it is in the body."""
        return PAYPAL_HEADERS if self.scheme == "paypal" else ()

    @property
    def places_read(self) -> Sequence[Place]:
        return (*self.headers, *(self.timestamp.places if self.timestamp else ()))


class Unsigned(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="none", tag_field="recipe"):
    """No proof is asked for. Everything that arrives is accepted, and marked as unverified."""

    covers: ClassVar[tuple[str, ...]] = ()
    places_read: ClassVar[Sequence[Place]] = ()


class Condition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A place that holds exactly this text; without `equals`, one that holds anything; or one that holds nothing."""

    place: Place
    equals: str | None = None
    absent: bool = False

    def holds(self, request: Request) -> bool:
        values = self.place.values(request)
        if self.absent:
            return not values
        if self.equals is None:
            return bool(values)
        return len(values) == 1 and values[0] == self.equals.encode()


class Challenge(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A question by which the provider makes sure that we are who we say; answered at once and not kept as an event.

    In the texts of the reply, `{value}` is the value asked about, `{hmac:hex}` and `{hmac:base64}` its HMAC-SHA256 by
    the source's secret.
    """

    when: tuple[Condition, ...]
    method: Literal["GET", "HEAD", "POST", "OPTIONS"] = "POST"
    #: Answered only if the request's own signature holds.
    signed: bool
    #: Answered only if this is one of the source's secrets that start with `verify_token:`, without that.
    token: Place | None = None
    value: Place | None = None
    #: Holds an address that has to be asked for, at one of `hosts`, before the reply.
    visit: Place | None = None
    hosts: tuple[str, ...] = ()
    status: int = 200
    headers: Mapping[str, str] = {}
    text: str | None = None
    json: Mapping[str, str | int] | None = None

    def __post_init__(self) -> None:
        if not self.when and self.method == "POST":
            raise ValueError("a challenge without a condition would swallow every webhook")
        if self.signed and self.method != "POST":
            raise ValueError("only a POST is signed")
        if self.visit is not None and not (self.signed and self.hosts):
            raise ValueError("`visit` needs `signed` and `hosts`: nobody else may send us anywhere")
        if (self.text is None) == (self.json is None):
            raise ValueError("a reply is either `text` or `json`")
        if not all(_TOKEN.fullmatch(name) and text.isprintable() for name, text in self.headers.items()):
            raise ValueError("`headers` are names and printable texts")
        words = {word for text in self.texts for word in VARIABLE.findall(text)}
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
        body = (self.text or "",) if self.json is None else self.json.values()
        return tuple(text for text in (*body, *self.headers.values()) if isinstance(text, str))


class Acknowledgement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the provider reads when its webhook was kept."""

    status: int = 200
    content_type: str = "text/plain"
    body: str = ""

    def __post_init__(self) -> None:
        if not (self.content_type.isascii() and self.content_type.isprintable()):
            raise ValueError("`content_type` is printable ASCII")


# `dict`: what is worked out of a row is kept beside its fields.
class Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """A provider: everything there is to know about its webhooks."""

    id: str
    title: str
    #: Where the address is entered over there, and which secret is the source's; for people to read, and from general
    #: knowledge: the provider's own pages are right where they say otherwise.
    setup: str = ""
    #: Where the facts come from, and when somebody last looked.
    source_url: str = ""
    checked_on: date | None = None
    #: Third-party code that signs or verifies for this provider and is run against this row by the tests.
    judge: str = ""
    verify: Hmac | Token | PublicKey | Jwt | Certificate | Unsigned
    #: Where the id stands that all deliveries of one event share; without one, the hash of the body is the id.
    dedupe: tuple[Place, ...] = ()
    dedupe_window_s: int = DEFAULT_DEDUPE_WINDOW_S
    #: The event's type.
    type: Template = Template.compile("{body.type}", missing=DEFAULT_TYPE)
    #: Where the body holds an array of events, each of which becomes one of ours; `dedupe` and `type` then look at
    #: that element as the body. `json` is the body itself; `json:PATH` and `form:NAME` are a part of it.
    split: str = ""
    challenges: tuple[Challenge, ...] = ()
    #: None: our own reply, which names the event.
    acknowledge: Acknowledgement | None = None
    #: How long the provider waits for a reply, and what it does without one; for people to read.
    deadline_s: float | None = None
    retries: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.verify, Hmac) and any(challenge.is_computed for challenge in self.challenges):
            raise ValueError("a challenge speaks of an HMAC, and `verify.recipe` is not hmac")
        kind, _, name = self.split.partition(":")
        if self.split and self.split != "json" and (kind not in ("json", "form") or not name):
            raise ValueError("`split` is json, json:PATH or form:NAME")

    @property
    def covers(self) -> tuple[str, ...]:
        """What the proof protects, of `body`, `timestamp`, `id`, `url`, `method` and `fields` (of the body)."""
        return self.verify.covers

    @cached_property
    def has_verify_token(self) -> bool:
        return any(challenge.token is not None for challenge in self.challenges)

    @cached_property
    def members(self) -> frozenset[str] | None:
        """Names of the body's members that this row looks at; None: all of it."""
        places = [*self.dedupe, *self.verify.places_read]
        for challenge in self.challenges:
            places += [condition.place for condition in challenge.when]
            places += [place for place in (challenge.value, challenge.token, challenge.visit) if place is not None]
        names = self.type.reads.body
        return None if names is None else names.union(*(place.members for place in places))


def read_row(name: str, table: Mapping[str, Any]) -> Row:
    """The row that a TOML table says; raises `msgspec.ValidationError`, which names the key after `$`."""
    return msgspec.convert({**table, "id": name}, Row, dec_hook=_read_text)


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


def _places(
    signature: Signature, timestamp: Timestamp | None, message: Message, id_: tuple[Place, ...]
) -> Sequence[Place]:
    return (*signature.places, *(timestamp.places if timestamp else ()), *message.places, *id_)


def _check_message(message: Message, signature: Signature, timestamp: Timestamp | None, id_: tuple[Place, ...]) -> None:
    if "t" in message.variables and timestamp is None:
        raise ValueError("`message` signs {t}, and `timestamp` does not say where it stands")
    if "id" in message.variables and not id_:
        raise ValueError("`message` signs {id}, and `id` does not say where it stands")
    if timestamp is not None and timestamp.item and not signature.assign:
        raise ValueError("`timestamp.item` is an item of a list, and `signature` has no `assign`")
