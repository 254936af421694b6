"""Is this request really from the provider? One function, a verdict for any bytes, and never an exception.

The order is that of cost and of what may be told: is there a secret at all, is the proof there and readable, is the
time within the window, does the proof hold. Digests are compared decoded and in constant time. The sentence for the
caller names what is missing or out of time, which an honest sender needs and a forger knows anyway; that a signature
does not match is all it says of the rest.
"""

import hmac
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from hookbrook.core.signing import SignatureError
from hookbrook.inbound.place import Place
from hookbrook.inbound.recipe import Hmac, PublicKey, Row, Timestamp, Token, Unsigned, decode, first_present
from hookbrook.inbound.request import Request

#: Digits of the largest timestamp: milliseconds until the year 5138.
MAX_TIMESTAMP_DIGITS = 14

#: A provider's id longer than this, or with characters that a log could not show, is replaced by its hash.
MAX_DEDUPE_ID_LENGTH = 200


class Reason(StrEnum):
    """Why a verdict is what it is; the words are part of the API."""

    VERIFIED = "verified"
    UNVERIFIED = "unverified"
    NO_SECRET = "no_secret"  # noqa: S105 - the word for there being none
    MISSING_SIGNATURE = "missing_signature"
    MALFORMED_SIGNATURE = "malformed_signature"
    MISSING_ID = "missing_id"
    MISSING_TIMESTAMP = "missing_timestamp"
    MALFORMED_TIMESTAMP = "malformed_timestamp"
    AMBIGUOUS = "ambiguous"
    TOO_OLD = "too_old"
    IN_THE_FUTURE = "in_the_future"
    MISMATCH = "mismatch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What verification found. The facts below `reason` are there only if `ok`."""

    ok: bool
    reason: Reason
    #: One sentence for the caller; empty if `ok`.
    detail: str = ""
    #: The same for every delivery of one event; always there if `ok`.
    dedupe_id: str | None = None
    #: A valid event type; `message` if the request names none.
    event_type: str | None = None
    #: When the provider sent it, in seconds since 1970, if it says so under its signature.
    timestamp: int | None = None
    #: What the proof protects, of `body`, `timestamp`, `id`, `url`, `method`; the rest is the caller's word.
    covers: tuple[str, ...] = ()
    #: Index of the secret that matched.
    matched_secret: int | None = None

    def problem(self) -> SignatureError:
        """The 401 for the caller."""
        # RFC 9110 section 15.5.2: a 401 names the authentication that would do.
        return SignatureError(self.detail, headers={"WWW-Authenticate": "Webhook"}, extra={"reason": str(self.reason)})


def verify(row: Row, secrets: Sequence[str], request: Request, *, now: float) -> Verdict:
    """Judges a request against a row and any of `secrets`; `now` is the time of arrival in seconds since 1970."""
    try:
        proof = _PROOFS[type(row.verify)](row.verify, secrets, request, now)
    except _Refusal as refusal:
        return Verdict(ok=False, reason=refusal.reason, detail=refusal.detail)
    return Verdict(
        ok=True,
        reason=Reason.UNVERIFIED if isinstance(row.verify, Unsigned) else Reason.VERIFIED,
        dedupe_id=dedupe_id(row, request),
        event_type=row.type.render(request.document),
        timestamp=proof.timestamp,
        covers=row.covers,
        matched_secret=proof.secret,
    )


def dedupe_id(row: Row, request: Request) -> str:
    """The id that all deliveries of this event share: the provider's, or else `sha256:` and the hash of the body."""
    values = first_present(row.dedupe, request)
    if len(values) != 1 or not values[0]:
        return f"sha256:{sha256(request.body).hexdigest()}"
    text = values[0].decode("latin-1")
    if len(text) > MAX_DEDUPE_ID_LENGTH or not (text.isascii() and text.isprintable()):
        return f"sha256:{sha256(values[0]).hexdigest()}"
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class _Proof:
    secret: int | None = None
    timestamp: int | None = None


class _Refusal(Exception):
    """Ends a verification at the first thing that is wrong; never leaves this module."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def _prove_hmac(recipe: Hmac, secrets: Sequence[str], request: Request, now: float) -> _Proof:
    keys = list(_usable_keys(recipe, secrets))
    signatures, message, timestamp = _read_signed(recipe, request, now)
    for index, key in keys:
        digest = hmac.digest(key, message, recipe.hash)
        if any([hmac.compare_digest(digest, signature) for signature in signatures]):  # noqa: C419 - all are compared
            return _Proof(secret=index, timestamp=timestamp)
    raise _Refusal(Reason.MISMATCH, "No signature matches.")


def _prove_public_key(recipe: PublicKey, secrets: Sequence[str], request: Request, now: float) -> _Proof:
    keys = list(_usable_keys(recipe, secrets))
    signatures, message, timestamp = _read_signed(recipe, request, now)
    for index, key in keys:
        if any(_holds(recipe.algorithm, key, signature, message) for signature in signatures):
            return _Proof(secret=index, timestamp=timestamp)
    raise _Refusal(Reason.MISMATCH, "No signature matches.")


def _prove_token(recipe: Token, secrets: Sequence[str], request: Request, _now: float) -> _Proof:
    expected = [(index, secret.encode("utf-8", "replace")) for index, secret in enumerate(secrets) if secret]
    if not expected:
        raise _no_secret()
    values = first_present(recipe.places, request)
    if not values:
        raise _Refusal(Reason.MISSING_SIGNATURE, _sentence(recipe.places[0], "is missing"))
    shown = _shown_token(recipe, _only(values, recipe.places[0]))
    for index, secret in expected:
        # Hashed first, so that not even the secret's length can be measured.
        if hmac.compare_digest(sha256(secret).digest(), sha256(shown).digest()):
            return _Proof(secret=index)
    raise _Refusal(Reason.MISMATCH, "The secret does not match.")


def _prove_nothing(_recipe: Unsigned, _secrets: Sequence[str], _request: Request, _now: float) -> _Proof:
    return _Proof()


_PROOFS: Mapping[type, Callable[[Any, Sequence[str], Request, float], _Proof]] = {
    Hmac: _prove_hmac,
    PublicKey: _prove_public_key,
    Token: _prove_token,
    Unsigned: _prove_nothing,
}


def _usable_keys(recipe: Hmac | PublicKey, secrets: Sequence[str]) -> Iterator[tuple[int, bytes]]:
    usable = False
    for index, secret in enumerate(secrets):
        try:
            key = recipe.key.decode(secret)
        except ValueError:
            continue  # `providers.check_secrets` tells whoever sets it; here it is simply no secret
        usable = True
        yield index, key
    if not usable:
        raise _no_secret()


def _read_signed(recipe: Hmac | PublicKey, request: Request, now: float) -> tuple[Sequence[bytes], bytes, int | None]:
    """The signatures, the string that they should sign, and the time in it."""
    values = recipe.signature.values(request)
    place = recipe.signature.places[0]
    if not values:
        raise _Refusal(Reason.MISSING_SIGNATURE, _sentence(place, "is missing"))
    signatures = recipe.signature.decoded(values)
    if not signatures:
        raise _Refusal(Reason.MALFORMED_SIGNATURE, _sentence(place, "holds no signature of the expected form"))
    id_ = _read_id(recipe, request)
    raw_time, timestamp = b"", None
    if recipe.timestamp is not None:
        raw_time = _read_time(recipe, recipe.timestamp, values, request)
        timestamp = _check_window(recipe.timestamp, raw_time, now)
    return signatures, recipe.message.render(request, timestamp=raw_time, id_=id_), timestamp


def _read_id(recipe: Hmac | PublicKey, request: Request) -> bytes:
    if not recipe.id:
        return b""
    values = first_present(recipe.id, request)
    if not values or not values[0]:
        raise _Refusal(Reason.MISSING_ID, _sentence(recipe.id[0], "is missing"))
    return _only(values, recipe.id[0])


def _read_time(recipe: Hmac | PublicKey, rule: Timestamp, values: Sequence[bytes], request: Request) -> bytes:
    if rule.item:
        place = recipe.signature.places[0]
        found = recipe.signature.items(values, rule.item)
        missing = _sentence(place, f"holds no {rule.item}{recipe.signature.assign}")
    else:
        place = rule.places[0]
        found = first_present(rule.places, request)
        missing = _sentence(place, "is missing")
    if not found:
        raise _Refusal(Reason.MISSING_TIMESTAMP, missing)
    return _only(found, place)


def _check_window(rule: Timestamp, text: bytes, now: float) -> int:
    # `bytes.isdigit` is ASCII only; int() would also take signs, spaces and underscores.
    if not text.isdigit() or len(text) > MAX_TIMESTAMP_DIGITS:
        unit = "seconds" if rule.unit == "s" else "milliseconds"
        raise _Refusal(Reason.MALFORMED_TIMESTAMP, f"The timestamp is not a number of {unit} since 1970.")
    sent_at = int(text) if rule.unit == "s" else int(text) / 1000
    if now - sent_at > rule.past_s:
        raise _Refusal(Reason.TOO_OLD, f"The timestamp is older than {rule.past_s} s.")
    if sent_at - now > rule.future_s:
        raise _Refusal(Reason.IN_THE_FUTURE, f"The timestamp is more than {rule.future_s} s in the future.")
    return int(sent_at)


def _shown_token(recipe: Token, value: bytes) -> bytes:
    if recipe.scheme:
        scheme, _, value = value.partition(b" ")
        if scheme.lower() != recipe.scheme.lower().encode():
            raise _Refusal(Reason.MALFORMED_SIGNATURE, _sentence(recipe.places[0], f"is not {recipe.scheme}"))
    return decode(value.strip(), "base64") if recipe.encoding == "base64" else value.strip()


def _holds(algorithm: str, key: bytes, signature: bytes, message: bytes) -> bool:
    try:
        if algorithm == "ed25519":
            ed25519.Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
            return True
        public = load_der_public_key(key)
        if algorithm == "ecdsa_p256" and isinstance(public, ec.EllipticCurvePublicKey):
            public.verify(signature, message, ec.ECDSA(SHA256()))
            return True
        if algorithm == "rsa_sha256" and isinstance(public, rsa.RSAPublicKey):
            public.verify(signature, message, padding.PKCS1v15(), SHA256())
            return True
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):  # a key that is none is a ValueError
        return False
    return False


def _only(values: Sequence[bytes], place: Place) -> bytes:
    # Two timestamps: the one that is signed and the one that is checked could then be different ones.
    if len(values) > 1:
        raise _Refusal(Reason.AMBIGUOUS, _sentence(place, "is there more than once"))
    return values[0]


def _no_secret() -> _Refusal:
    return _Refusal(Reason.NO_SECRET, "This source has no secret to verify with.")


def _sentence(place: Place, what: str) -> str:
    text = str(place)
    return f"{text[0].upper()}{text[1:]} {what}."
