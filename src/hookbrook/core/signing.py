"""Standard Webhooks 1.0 signatures: made for the webhooks that we send, checked for those that claim to be ours.

The signed string is `{id}.{timestamp}.{body}`, the three headers are `webhook-id`, `webhook-timestamp` (seconds since
1970) and `webhook-signature`, a list of `VERSION,BASE64` separated by spaces, one for each key that is valid at the
time of a rotation. Source: the Standard Webhooks specification 1.0, sections "Signature scheme" and "Webhook headers".

    v1   HMAC-SHA256   whsec_…  both sides hold it
    v1a  Ed25519       whsk_…   only we hold it; whpk_… is what a receiver verifies with, and no secret

Each kind of key knows the version that it signs and how to judge a signature of that version; the prefix of its text
says which kind it is.
"""

import binascii
import hashlib
import hmac
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, runtime_checkable

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from hookbrook.errors import Invalid, Unauthorized

SECRET_PREFIX = "whsec_"  # noqa: S105 - says what a secret looks like, and is none
SIGNING_KEY_PREFIX = "whsk_"
PUBLIC_KEY_PREFIX = "whpk_"

#: RFC 8032 section 5.1.5: both halves of an Ed25519 key are 32 bytes. Some libraries write the private one followed by
#: the public one.
ED25519_BYTES = 32

#: The specification asks for "at least 24 bytes (192 bits, 512 maximum)"; ours are 32, the block that SHA-256 yields.
MIN_SECRET_BYTES = 24
MAX_SECRET_BYTES = 64
NEW_SECRET_BYTES = 32

#: How far the sender's clock may be from ours, each way; the value that the reference libraries use.
DEFAULT_TOLERANCE_S = 300

#: More signatures than any rotation has; the rest is not looked at, so that a long header costs nothing.
MAX_SIGNATURES = 16

#: Digits of the largest timestamp taken: the year 33658. Longer ones are not a time in seconds.
MAX_TIMESTAMP_DIGITS = 12

#: Header names by the prefix they carry: the specification's, and the older one that Svix and its customers send.
HEADER_PREFIXES = ("webhook", "svix")


@runtime_checkable
class Items(Protocol):
    """A mapping, or what is nearly one, as the headers of `http.server` are."""

    def items(self) -> Iterable[tuple[str, str]]: ...


#: Named, as an HTTP client or framework has them, or pairs, as ASGI has them.
Headers = Items | Iterable[tuple[bytes | str, bytes | str]]


class SignatureError(Unauthorized):
    """A webhook whose sender is not proven. The text names what is missing or out of time and nothing else."""

    slug = "bad-signature"
    title = "The webhook's signature does not hold"


class Verifier(Protocol):
    """What a receiver holds."""

    version: ClassVar[str]

    def accepts(self, message: bytes, signature: bytes) -> bool:
        """Whether `signature`, decoded, is this key's for `message`."""
        ...


class Signer(Verifier, Protocol):
    """What a sender holds."""

    def sign(self, message: bytes) -> bytes: ...


#: RFC 2104 section 2, for SHA-256.
_BLOCK = 64
_IPAD = bytes(byte ^ 0x36 for byte in range(256))
_OPAD = bytes(byte ^ 0x5C for byte in range(256))


@dataclass(frozen=True, slots=True, kw_only=True)
class HmacKey:
    """A shared secret: `v1`, HMAC-SHA256."""

    version: ClassVar[str] = "v1"

    key: bytes = field(repr=False)
    #: RFC 2104 section 4: both hashes with their half of the key taken in, since that does not change with the message.
    #: OpenSSL's one-shot HMAC looks its algorithm up each time, and takes more than twice as long.
    _inner: "hashlib._Hash" = field(init=False, repr=False, compare=False)
    _outer: "hashlib._Hash" = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        block = (self.key if len(self.key) <= _BLOCK else hashlib.sha256(self.key).digest()).ljust(_BLOCK, b"\0")
        object.__setattr__(self, "_inner", hashlib.sha256(block.translate(_IPAD)))
        object.__setattr__(self, "_outer", hashlib.sha256(block.translate(_OPAD)))

    def sign(self, message: bytes) -> bytes:
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(message)
        outer.update(inner.digest())
        return outer.digest()

    def accepts(self, message: bytes, signature: bytes) -> bool:
        """Whether `signature`, decoded, is this key's for `message`; takes the same time wherever they differ."""
        return hmac.compare_digest(self.sign(message), signature)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """The public half of an Ed25519 key: verifies `v1a`."""

    version: ClassVar[str] = "v1a"

    key: bytes

    def accepts(self, message: bytes, signature: bytes) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(self.key).verify(signature, message)
        except InvalidSignature:
            return False
        return True

    def __str__(self) -> str:
        """`whpk_BASE64`."""
        return PUBLIC_KEY_PREFIX + b64encode(self.key).decode()

    @property
    def id(self) -> str:
        """The thumbprint of RFC 7638, which follows from the key alone."""
        members = f'{{"crv":"Ed25519","kty":"OKP","x":"{_base64url(self.key)}"}}'
        return _base64url(hashlib.sha256(members.encode()).digest())

    def as_jwk(self) -> dict[str, str]:
        """The key as RFC 8037 section 2 writes it."""
        return {
            "kty": "OKP",
            "crv": "Ed25519",
            "x": _base64url(self.key),
            "kid": self.id,
            "use": "sig",
            "alg": "EdDSA",
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateKey:
    """An Ed25519 key: signs `v1a`."""

    version: ClassVar[str] = "v1a"

    key: Ed25519PrivateKey = field(repr=False)

    @property
    def public(self) -> PublicKey:
        return PublicKey(key=self.key.public_key().public_bytes_raw())

    def sign(self, message: bytes) -> bytes:
        return self.key.sign(message)

    def accepts(self, message: bytes, signature: bytes) -> bool:
        return self.public.accepts(message, signature)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What a signature that holds proves: this id, at this time (seconds since 1970)."""

    id: str
    timestamp: int


def new_secret(rng_bytes: Callable[[int], bytes]) -> str:
    """A fresh `whsec_…` from a source of random bytes, such as `secrets.token_bytes`."""
    return SECRET_PREFIX + b64encode(rng_bytes(NEW_SECRET_BYTES)).decode()


def new_signing_key(rng_bytes: Callable[[int], bytes]) -> str:
    """A fresh `whsk_…`, likewise."""
    return SIGNING_KEY_PREFIX + b64encode(rng_bytes(ED25519_BYTES)).decode()


def parse_secret(secret: str) -> HmacKey:
    """The key in `whsec_BASE64`: 24 to 64 bytes, padded or not. Raises `Invalid`, which never shows the secret."""
    if not secret.startswith(SECRET_PREFIX):
        raise Invalid.of("secret", f"a secret starts with {SECRET_PREFIX}")
    key = _decode_key(secret, SECRET_PREFIX)
    if not MIN_SECRET_BYTES <= len(key) <= MAX_SECRET_BYTES:
        limits = f"{MIN_SECRET_BYTES} to {MAX_SECRET_BYTES}"
        raise Invalid.of("secret", f"a secret holds {limits} bytes, this one {len(key)}")
    return HmacKey(key=key)


def parse_signing_key(text: str) -> PrivateKey:
    """The key in `whsk_BASE64`, alone or followed by its public half. Raises `Invalid`, which never shows it."""
    if not text.startswith(SIGNING_KEY_PREFIX):
        raise Invalid.of("secret", f"a signing key starts with {SIGNING_KEY_PREFIX}")
    raw = _decode_key(text, SIGNING_KEY_PREFIX)
    if len(raw) not in (ED25519_BYTES, 2 * ED25519_BYTES):
        raise Invalid.of("secret", f"a signing key holds {ED25519_BYTES} bytes, this one {len(raw)}")
    key = PrivateKey(key=Ed25519PrivateKey.from_private_bytes(raw[:ED25519_BYTES]))
    if raw[ED25519_BYTES:] not in (b"", key.public.key):
        raise Invalid.of("secret", "the public half that follows the signing key is another key's")
    return key


def parse_public_key(text: str) -> PublicKey:
    """The key in `whpk_BASE64`. Raises `Invalid`."""
    if not text.startswith(PUBLIC_KEY_PREFIX):
        raise Invalid.of("secret", f"a public key starts with {PUBLIC_KEY_PREFIX}")
    key = _decode_key(text, PUBLIC_KEY_PREFIX)
    if len(key) != ED25519_BYTES:
        raise Invalid.of("secret", f"a public key holds {ED25519_BYTES} bytes, this one {len(key)}")
    return PublicKey(key=key)


def parse_signer(text: str) -> Signer:
    """What signs with `whsec_…` or `whsk_…`. Raises `Invalid`."""
    return parse_signing_key(text) if text.startswith(SIGNING_KEY_PREFIX) else parse_secret(text)


def parse_verifier(text: str) -> Verifier:
    """What verifies with `whsec_…` or `whpk_…`. Raises `Invalid`."""
    return parse_public_key(text) if text.startswith(PUBLIC_KEY_PREFIX) else parse_secret(text)


def _decode_key(text: str, prefix: str) -> bytes:
    encoded = text.removeprefix(prefix)
    try:
        return binascii.a2b_base64(encoded + "=" * (-len(encoded) % 4), strict_mode=True)
    except ValueError as exc:  # binascii.Error, and a character outside ASCII
        raise Invalid.of("secret", f"what follows {prefix} is not base64") from exc


def _base64url(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def sign(secret: str, *, id: str, timestamp: int, body: bytes) -> str:
    """One signature, such as `v1,BASE64`, by a `whsec_…` or `whsk_…`. Raises `Invalid` for what is neither."""
    key = parse_signer(secret)
    signature = key.sign(_message(id.encode(), str(timestamp).encode(), body))
    return f"{key.version},{b64encode(signature).decode()}"


def signature_header(secrets: Sequence[str], *, id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`: a signature by each secret, so that a receiver may hold any one of them."""
    return " ".join(sign(secret, id=id, timestamp=timestamp, body=body) for secret in secrets)


def verify(
    secrets: str | Sequence[str],
    headers: Headers,
    body: bytes,
    *,
    now: float,
    tolerance_s: float = DEFAULT_TOLERANCE_S,
) -> Verified:
    """Checks a webhook against any of `secrets` (`whsec_…`, or public keys `whpk_…`); returns its id and time.

    `headers` is a mapping of names in any case, or pairs as ASGI has them; `body` is the raw body as received, since a
    parsed and printed one differs; `now` is the time of arrival in seconds since 1970. Raises `SignatureError` if the
    webhook is not proven, `Invalid` if a secret is none.
    """
    keys = [parse_verifier(secret) for secret in ([secrets] if isinstance(secrets, str) else secrets)]
    id_, timestamp, signatures = _three_headers(headers)
    sent_at = _read_timestamp(timestamp)
    if now - sent_at > tolerance_s:
        raise SignatureError(f"The timestamp is older than {tolerance_s:g} s.")
    if sent_at - now > tolerance_s:
        raise SignatureError(f"The timestamp is more than {tolerance_s:g} s in the future.")
    message = _message(id_, timestamp, body)
    if not any(key.accepts(message, signature) for key in keys for signature in _decode(signatures, key.version)):
        raise SignatureError("No signature matches.")
    return Verified(id=id_.decode("latin-1"), timestamp=sent_at)


def _message(id_: bytes, timestamp: bytes, body: bytes) -> bytes:
    return b".".join((id_, timestamp, body))


def _three_headers(headers: Headers) -> tuple[bytes, bytes, bytes]:
    pairs = headers.items() if isinstance(headers, Items) else headers
    found = {_latin(name).lower(): _latin(value).strip() for name, value in pairs}
    prefix = next((prefix for prefix in HEADER_PREFIXES if f"{prefix}-signature".encode() in found), HEADER_PREFIXES[0])
    id_, timestamp, signature = (_present(found, f"{prefix}-{part}") for part in ("id", "timestamp", "signature"))
    return id_, timestamp, signature


def _latin(text: bytes | str) -> bytes:
    # HTTP libraries hand a header's bytes out as latin-1 text, and the sender signed the bytes.
    return text if isinstance(text, bytes) else text.encode("latin-1", "replace")


def _present(headers: Mapping[bytes, bytes], name: str) -> bytes:
    value = headers.get(name.encode(), b"")
    if not value:
        raise SignatureError(f"The {name} header is missing.")
    return value


def _read_timestamp(text: bytes) -> int:
    # `bytes.isdigit` is ASCII only; int() would also take signs, spaces and underscores.
    if not text.isdigit() or len(text) > MAX_TIMESTAMP_DIGITS:
        raise SignatureError("The timestamp is not a number of seconds.")
    return int(text)


def _decode(signatures: bytes, version: str) -> list[bytes]:
    """The signatures of this version, decoded; those that are not base64 are left out."""
    decoded = []
    for item in signatures.split(b" ", MAX_SIGNATURES)[:MAX_SIGNATURES]:
        name, _, encoded = item.partition(b",")
        if name != version.encode():
            continue
        try:
            decoded.append(binascii.a2b_base64(encoded, strict_mode=True))
        except binascii.Error:
            continue
    return decoded
