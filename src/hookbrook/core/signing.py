"""Standard Webhooks 1.0 signatures: made for the webhooks that we send, checked for those that claim to be ours.

The signed string is `{id}.{timestamp}.{body}`, the three headers are `webhook-id`, `webhook-timestamp` (seconds since
1970) and `webhook-signature`, a list of `v1,BASE64` separated by spaces, one for each secret that is valid at the time
of a rotation. Source: the Standard Webhooks specification 1.0, sections "Signature scheme" and "Webhook headers".

Each kind of key knows the version that it signs and how to judge a signature of that version; `parse_secret` chooses
the kind by the secret's prefix. A further scheme (`v1a`, Ed25519) is a further kind of key and nothing else.
"""

import binascii
import hmac
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from hookbrook.errors import Invalid, Unauthorized

SECRET_PREFIX = "whsec_"  # noqa: S105 - says what a secret looks like, and is none

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

#: A mapping, as an HTTP client or framework has them, or pairs, as ASGI has them.
Headers = Mapping[str, str] | Iterable[tuple[bytes | str, bytes | str]]


class SignatureError(Unauthorized):
    """A webhook whose sender is not proven. The text names what is missing or out of time and nothing else."""

    slug = "bad-signature"
    title = "The webhook's signature does not hold"


@dataclass(frozen=True, slots=True, kw_only=True)
class HmacKey:
    """A shared secret: `v1`, HMAC-SHA256."""

    version: ClassVar[str] = "v1"

    key: bytes = field(repr=False)

    def sign(self, message: bytes) -> bytes:
        return hmac.digest(self.key, message, "sha256")

    def accepts(self, message: bytes, signature: bytes) -> bool:
        """Whether `signature`, decoded, is this key's for `message`; takes the same time wherever they differ."""
        return hmac.compare_digest(self.sign(message), signature)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What a signature that holds proves: this id, at this time (seconds since 1970)."""

    id: str
    timestamp: int


def new_secret(rng_bytes: Callable[[int], bytes]) -> str:
    """A fresh `whsec_…` from a source of random bytes, such as `secrets.token_bytes`."""
    return SECRET_PREFIX + b64encode(rng_bytes(NEW_SECRET_BYTES)).decode()


def parse_secret(secret: str) -> HmacKey:
    """The key in `whsec_BASE64`: 24 to 64 bytes, padded or not. Raises `Invalid`, which never shows the secret."""
    if not secret.startswith(SECRET_PREFIX):
        raise Invalid.of("secret", f"a secret starts with {SECRET_PREFIX}")
    encoded = secret.removeprefix(SECRET_PREFIX)
    try:
        key = binascii.a2b_base64(encoded + "=" * (-len(encoded) % 4), strict_mode=True)
    except ValueError as exc:  # binascii.Error, and a character outside ASCII
        raise Invalid.of("secret", f"what follows {SECRET_PREFIX} is not base64") from exc
    if not MIN_SECRET_BYTES <= len(key) <= MAX_SECRET_BYTES:
        limits = f"{MIN_SECRET_BYTES} to {MAX_SECRET_BYTES}"
        raise Invalid.of("secret", f"a secret holds {limits} bytes, this one {len(key)}")
    return HmacKey(key=key)


def sign(secret: str, *, id: str, timestamp: int, body: bytes) -> str:
    """One signature, `v1,BASE64`. Raises `Invalid` for a secret that is none."""
    key = parse_secret(secret)
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
    """Checks a webhook against any of `secrets` and returns its id and time.

    `headers` is a mapping of names in any case, or pairs as ASGI has them; `body` is the raw body as received, since a
    parsed and printed one differs; `now` is the time of arrival in seconds since 1970. Raises `SignatureError` if the
    webhook is not proven, `Invalid` if a secret is none.
    """
    keys = [parse_secret(secret) for secret in ([secrets] if isinstance(secrets, str) else secrets)]
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
    pairs = headers.items() if isinstance(headers, Mapping) else headers
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
