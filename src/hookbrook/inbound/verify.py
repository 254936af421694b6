"""Is this request really from the provider? One function, a verdict for any bytes, and never an exception.

The order is that of cost and of what may be told: is there a secret at all, is the proof there and readable, is the
time within the window, does the proof hold. Digests are compared decoded and in constant time. The sentence for the
caller names what is missing or out of time, which an honest sender needs and a forger knows anyway; that a signature
does not match is all it says of the rest.
"""

import hmac
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from hookbrook.inbound.certificate import prove_certificate
from hookbrook.inbound.recipe import VERIFY_TOKEN, Certificate, Hmac, Jwt, PublicKey, Row, Token, Unsigned
from hookbrook.inbound.request import Request
from hookbrook.inbound.signed import Hash, Timestamp, decode, first_present
from hookbrook.inbound.verdict import Proof, Reason, Refusal, Verdict, mismatch, no_secret, only, sentence
from hookbrook.inbound.webtoken import prove_jwt

#: A provider's id longer than this, or with characters that a log could not show, is replaced by its hash.
MAX_DEDUPE_ID_LENGTH = 200


def verify(
    row: Row, secrets: Sequence[str], request: Request, *, now: float, certificate: bytes | None = None
) -> Verdict:
    """Judges a request against a row and any of `secrets`; `now` is the time of arrival in seconds since 1970, and
    `certificate` what was fetched from `certificate.address`, if the row's recipe needs it."""
    try:
        if isinstance(row.verify, Certificate):
            proof = prove_certificate(row.verify, secrets, request, now, certificate)
        else:
            proof = _PROOFS[type(row.verify)](row.verify, _keys(row, secrets), request, now)
    except Refusal as refusal:
        return Verdict(ok=False, reason=refusal.reason, detail=refusal.detail)
    return Verdict(
        ok=True,
        reason=Reason.UNVERIFIED if isinstance(row.verify, Unsigned) else Reason.VERIFIED,
        dedupe_id=dedupe_id(row, request) if proof.id is None else _shown_id(proof.id.encode("utf-8", "replace")),
        event_type=row.type.render(request.document_of(row.type.reads)),
        timestamp=proof.timestamp,
        covers=row.covers,
        matched_secret=proof.secret,
    )


def dedupe_id(row: Row, request: Request) -> str:
    """The id that all deliveries of this event share: the provider's, or else `sha256:` and the hash of the body."""
    values = first_present(row.dedupe, request)
    if len(values) != 1 or not values[0]:
        return f"sha256:{sha256(request.body).hexdigest()}"
    return _shown_id(values[0])


def _shown_id(value: bytes) -> str:
    text = value.decode("latin-1")
    if len(text) > MAX_DEDUPE_ID_LENGTH or not (text.isascii() and text.isprintable()):
        return f"sha256:{sha256(value).hexdigest()}"
    return text


def _keys(row: Row, secrets: Sequence[str]) -> Sequence[str]:
    """The secrets without those that only a handshake may show; the others keep their index."""
    if not row.has_verify_token:
        return secrets
    return ["" if secret.startswith(VERIFY_TOKEN) else secret for secret in secrets]


def _prove_hmac(recipe: Hmac, secrets: Sequence[str], request: Request, now: float) -> Proof:
    keys = list(_usable_keys(recipe, secrets))
    signatures, message, timestamp = _read_signed(recipe, request, now)
    for index, key in keys:
        digest = hmac.digest(key, message, recipe.hash)
        if any([hmac.compare_digest(digest, signature) for signature in signatures]):  # noqa: C419 - all are compared
            _check_body_hash(recipe.body_hash, request)
            return Proof(secret=index, timestamp=timestamp)
    raise mismatch()


def _prove_public_key(recipe: PublicKey, secrets: Sequence[str], request: Request, now: float) -> Proof:
    keys = list(_usable_keys(recipe, secrets))
    signatures, message, timestamp = _read_signed(recipe, request, now)
    for index, key in keys:
        if any(_holds(recipe.algorithm, key, signature, message) for signature in signatures):
            return Proof(secret=index, timestamp=timestamp)
    raise mismatch()


def _prove_token(recipe: Token, secrets: Sequence[str], request: Request, _now: float) -> Proof:
    expected = [(index, secret.encode("utf-8", "replace")) for index, secret in enumerate(secrets) if secret]
    if not expected:
        raise no_secret()
    values = first_present(recipe.places, request)
    if not values:
        raise Refusal(Reason.MISSING_SIGNATURE, sentence(recipe.places[0], "is missing"))
    place = recipe.places[0]
    shown = [_shown_token(recipe, value) for value in (values if recipe.every else (only(values, place),))]
    for index, secret in expected:
        # Hashed first, so that not even the secret's length can be measured.
        digest = sha256(secret).digest()
        if all([hmac.compare_digest(digest, sha256(value).digest()) for value in shown]):  # noqa: C419 - all are compared
            return Proof(secret=index)
    raise Refusal(Reason.MISMATCH, "The secret does not match.")


def _prove_token_of_claims(recipe: Jwt, secrets: Sequence[str], request: Request, now: float) -> Proof:
    return prove_jwt(recipe, _usable_keys(recipe, secrets), request, now)


def _prove_nothing(_recipe: Unsigned, _secrets: Sequence[str], _request: Request, _now: float) -> Proof:
    return Proof()


_PROOFS: Mapping[type, Callable[[Any, Sequence[str], Request, float], Proof]] = {
    Hmac: _prove_hmac,
    PublicKey: _prove_public_key,
    Token: _prove_token,
    Jwt: _prove_token_of_claims,
    Unsigned: _prove_nothing,
}


def _usable_keys(recipe: Hmac | PublicKey | Jwt, secrets: Sequence[str]) -> Iterator[tuple[int, bytes]]:
    usable = False
    for index, secret in enumerate(secrets):
        try:
            key = recipe.key.decode(secret)
        except ValueError:
            continue  # `providers.check_secrets` tells whoever sets it; here it is simply no secret
        usable = True
        yield index, key
    if not usable:
        raise no_secret()


def _read_signed(recipe: Hmac | PublicKey, request: Request, now: float) -> tuple[Sequence[bytes], bytes, int | None]:
    """The signatures, the string that they should sign, and the time in it."""
    values = recipe.signature.values(request)
    place = recipe.signature.places[0]
    if not values:
        raise Refusal(Reason.MISSING_SIGNATURE, sentence(place, "is missing"))
    signatures = recipe.signature.decoded(values)
    if not signatures:
        raise Refusal(Reason.MALFORMED_SIGNATURE, sentence(place, "holds no signature of the expected form"))
    id_ = _read_id(recipe, request)
    raw_time, timestamp = b"", None
    if recipe.timestamp is not None:
        raw_time = _read_time(recipe, recipe.timestamp, values, request)
        timestamp = recipe.timestamp.check(raw_time, now)
    return signatures, recipe.message.render(request, timestamp=raw_time, id_=id_), timestamp


def _read_id(recipe: Hmac | PublicKey, request: Request) -> bytes:
    if not recipe.id:
        return b""
    values = first_present(recipe.id, request)
    if not values or not values[0]:
        raise Refusal(Reason.MISSING_ID, sentence(recipe.id[0], "is missing"))
    return only(values, recipe.id[0])


def _read_time(recipe: Hmac | PublicKey, rule: Timestamp, values: Sequence[bytes], request: Request) -> bytes:
    if rule.item:
        place = recipe.signature.places[0]
        found = recipe.signature.items(values, rule.item)
        missing = sentence(place, f"holds no {rule.item}{recipe.signature.assign}")
    else:
        place = rule.places[0]
        found = first_present(rule.places, request)
        missing = sentence(place, "is missing")
    if not found:
        raise Refusal(Reason.MISSING_TIMESTAMP, missing)
    return only(found, place)


def _check_body_hash(rule: Hash | None, request: Request) -> None:
    # The fields of a form are in the signed string itself.
    if rule is None or request.is_form or not request.body:
        return
    values = rule.place.values(request)
    if not values:
        raise Refusal(Reason.MISSING_SIGNATURE, sentence(rule.place, "is missing"))
    if not hmac.compare_digest(decode(only(values, rule.place), rule.encoding), sha256(request.body).digest()):
        raise mismatch()


def _shown_token(recipe: Token, value: bytes) -> bytes:
    if recipe.scheme:
        scheme, _, value = value.partition(b" ")
        if scheme.lower() != recipe.scheme.lower().encode():
            raise Refusal(Reason.MALFORMED_SIGNATURE, sentence(recipe.places[0], f"is not {recipe.scheme}"))
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
