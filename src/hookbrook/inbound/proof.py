"""A recipe and the secrets of a source, worked out once into a function that judges requests.

What depends on the row and the secrets alone (decoded keys, the pieces of the signed string, the bytes before a
signature) is done when a source is first asked; a request then costs little beside its HMAC. The order in each function
is that of cost and of what may be told: is there a secret at all, is the proof there and readable, is the time within
the window, does the proof hold. Digests are compared decoded and in constant time, all of them.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from hmac import compare_digest
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from hookbrook.inbound.place import HeaderPlace, Place
from hookbrook.inbound.recipe import VERIFY_TOKEN, Hmac, Jwt, PublicKey, Row, Token, Unsigned
from hookbrook.inbound.request import Request
from hookbrook.inbound.signed import MAX_SIGNATURES, Hash, Timestamp, decode, decoder, first_present
from hookbrook.inbound.verdict import Proof, Reason, Refusal, mismatch, no_secret, only, sentence
from hookbrook.inbound.webtoken import prove_jwt

#: Judges a request that arrived at a time (seconds since 1970); raises `Refusal`.
Prove = Callable[[Request, float], Proof]
#: The signatures of a request, the string that they should sign, and the time in it.
_Signed = tuple[Sequence[bytes], bytes, int | None]
#: Each byte XOR the byte that RFC 2104 section 2 pads the key with.
_INNER = bytes(code ^ 0x36 for code in range(256))
_OUTER = bytes(code ^ 0x5C for code in range(256))
#: Whether a signature is one of a message.
_Holds = Callable[[bytes, bytes], bool]


def compile_proof(row: Row, secrets: Sequence[str]) -> Prove:
    """The judge of a row by any of these secrets, for every recipe but that of fetched certificates."""
    if row.has_verify_token:
        # Those that only a handshake may show are left out; the others keep their index.
        secrets = ["" if secret.startswith(VERIFY_TOKEN) else secret for secret in secrets]
    return _COMPILERS[type(row.verify)](row.verify, secrets)


def _hmac(recipe: Hmac, secrets: Sequence[str]) -> Prove:
    keys = [(index, _keyed(key, recipe.hash)) for index, key in _usable_keys(recipe, secrets)]
    read = _reader(recipe)
    body_hash = recipe.body_hash

    def prove(request: Request, now: float) -> Proof:
        signatures, message, timestamp = read(request, now)
        for index, mac in keys:
            digest = mac(message)
            matches = False
            for signature in signatures:
                matches |= compare_digest(digest, signature)
            if matches:
                if body_hash is not None:
                    _check_body_hash(body_hash, request)
                return Proof(secret=index, timestamp=timestamp)
        raise mismatch()

    return prove if keys else _refuse_without_secret


def _keyed(key: bytes, hash_: str) -> Callable[[bytes], bytes]:
    """The HMAC by this key (RFC 2104), its two beginnings hashed once: half of what is no hashing of the message."""
    block = hashlib.new(hash_).block_size
    padded = (key if len(key) <= block else hashlib.new(hash_, key).digest()).ljust(block, b"\0")
    inner = hashlib.new(hash_, padded.translate(_INNER))
    outer = hashlib.new(hash_, padded.translate(_OUTER))

    def mac(message: bytes) -> bytes:
        within = inner.copy()
        within.update(message)
        whole = outer.copy()
        whole.update(within.digest())
        return whole.digest()

    return mac


def _public_key(recipe: PublicKey, secrets: Sequence[str]) -> Prove:
    keys = [(index, _verifier(recipe.algorithm, key)) for index, key in _usable_keys(recipe, secrets)]
    read = _reader(recipe)

    def prove(request: Request, now: float) -> Proof:
        signatures, message, timestamp = read(request, now)
        for index, holds in keys:
            if any(holds(signature, message) for signature in signatures):
                return Proof(secret=index, timestamp=timestamp)
        raise mismatch()

    return prove if keys else _refuse_without_secret


def _token(recipe: Token, secrets: Sequence[str]) -> Prove:
    # Hashed first, so that not even the secret's length can be measured.
    expected = [
        (index, sha256(secret.encode("utf-8", "replace")).digest()) for index, secret in enumerate(secrets) if secret
    ]
    place = recipe.places[0]

    def prove(request: Request, _now: float) -> Proof:
        values = first_present(recipe.places, request)
        if not values:
            raise Refusal(Reason.MISSING_SIGNATURE, sentence(place, "is missing"))
        shown = [
            sha256(_shown_token(recipe, value)).digest()
            for value in (values if recipe.every else (only(values, place),))
        ]
        for index, digest in expected:
            matches = True
            for value in shown:
                matches &= compare_digest(digest, value)
            if matches:
                return Proof(secret=index)
        raise mismatch()

    return prove if expected else _refuse_without_secret


def _jwt(recipe: Jwt, secrets: Sequence[str]) -> Prove:
    keys = _usable_keys(recipe, secrets)
    return (lambda request, now: prove_jwt(recipe, keys, request, now)) if keys else _refuse_without_secret


def _unsigned(_recipe: Unsigned, _secrets: Sequence[str]) -> Prove:
    nothing = Proof()
    return lambda _request, _now: nothing


_COMPILERS: Mapping[type, Callable[[Any, Sequence[str]], Prove]] = {
    Hmac: _hmac,
    PublicKey: _public_key,
    Token: _token,
    Jwt: _jwt,
    Unsigned: _unsigned,
}


def _refuse_without_secret(_request: Request, _now: float) -> Proof:
    raise no_secret()


def _usable_keys(recipe: Hmac | PublicKey | Jwt, secrets: Sequence[str]) -> list[tuple[int, bytes]]:
    usable = []
    for index, secret in enumerate(secrets):
        try:
            usable.append((index, recipe.key.decode(secret)))
        except ValueError:
            continue  # `providers.check_secrets` tells whoever sets it; here it is simply no secret
    return usable


def _reader(recipe: Hmac | PublicKey) -> Callable[[Request, float], _Signed]:
    signature, rule = recipe.signature, recipe.timestamp
    place, start, length = signature.places[0], signature.start, len(signature.start)
    time_start = signature.start_of(rule.item) if rule is not None and rule.item else b""
    values_of, pieces_of, decode_text = signature.values, signature.pieces, decoder(signature.encoding)
    render, has_id = recipe.message.render, bool(recipe.id)

    def read(request: Request, now: float) -> _Signed:
        values = values_of(request)
        if not values:
            raise Refusal(Reason.MISSING_SIGNATURE, sentence(place, "is missing"))
        signatures: list[bytes] = []
        times: list[bytes] = []
        for piece in pieces_of(values):
            if piece.startswith(start):
                decoded = decode_text(piece[length:])
                if decoded:
                    signatures.append(decoded)
            elif time_start and piece.startswith(time_start):
                times.append(piece[len(time_start) :])
        if not signatures:
            raise Refusal(Reason.MALFORMED_SIGNATURE, sentence(place, "holds no signature of the expected form"))
        del signatures[MAX_SIGNATURES:]
        id_ = _read_id(recipe, request) if has_id else b""
        if rule is None:
            return signatures, render(request, b"", id_), None
        raw_time = _only_time(times, place, time_start) if time_start else _read_time(rule, request)
        timestamp = rule.check(raw_time, now)
        return signatures, render(request, raw_time, id_), timestamp

    if rule is None and not has_id and recipe.message.is_body and isinstance(place, HeaderPlace):
        return _short_reader(place.key, start, decode_text, read) if signature.is_bare else read
    return read


def _short_reader(
    key: bytes, start: bytes, decode_text: Callable[[bytes], bytes], read: Callable[[Request, float], _Signed]
) -> Callable[[Request, float], _Signed]:
    """As `read` for the commonest form, one header that signs the body; whatever else comes is left to that."""
    length = len(start)

    def read_shortly(request: Request, now: float) -> _Signed:
        value = request.distinct.get(key, b"").strip()
        signature = decode_text(value[length:]) if value.startswith(start) else b""
        return ((signature,), request.body, None) if signature else read(request, now)

    return read_shortly


def _read_id(recipe: Hmac | PublicKey, request: Request) -> bytes:
    values = first_present(recipe.id, request)
    if not values or not values[0]:
        raise Refusal(Reason.MISSING_ID, sentence(recipe.id[0], "is missing"))
    return only(values, recipe.id[0])


def _only_time(found: Sequence[bytes], place: Place, start: bytes) -> bytes:
    if not found:
        raise Refusal(Reason.MISSING_TIMESTAMP, sentence(place, f"holds no {start.decode()}"))
    return only(found, place)


def _read_time(rule: Timestamp, request: Request) -> bytes:
    found = first_present(rule.places, request)
    if not found:
        raise Refusal(Reason.MISSING_TIMESTAMP, sentence(rule.places[0], "is missing"))
    return only(found, rule.places[0])


def _check_body_hash(rule: Hash, request: Request) -> None:
    # The fields of a form are in the signed string itself.
    if request.is_form or not request.body:
        return
    values = rule.place.values(request)
    if not values:
        raise Refusal(Reason.MISSING_SIGNATURE, sentence(rule.place, "is missing"))
    if not compare_digest(decode(only(values, rule.place), rule.encoding), sha256(request.body).digest()):
        raise mismatch()


def _shown_token(recipe: Token, value: bytes) -> bytes:
    if recipe.scheme:
        scheme, _, value = value.partition(b" ")
        if scheme.lower() != recipe.scheme.lower().encode():
            raise Refusal(Reason.MALFORMED_SIGNATURE, sentence(recipe.places[0], f"is not {recipe.scheme}"))
    return decode(value.strip(), "base64") if recipe.encoding == "base64" else value.strip()


def _verifier(algorithm: str, key: bytes) -> _Holds:
    """A key that is none, or of another kind, holds for nothing."""
    try:
        verify = verifying(algorithm, key)
    except ValueError:
        return lambda _signature, _message: False

    def holds(signature: bytes, message: bytes) -> bool:
        try:
            verify(signature, message)
        except (InvalidSignature, UnsupportedAlgorithm, ValueError):
            return False
        return True

    return holds


def verifying(algorithm: str, key: bytes) -> Callable[[bytes, bytes], None]:
    """Takes signature and message, and raises if the one is not of the other; raises ValueError for a key that is
    none."""
    try:
        if algorithm == "ed25519":
            return ed25519.Ed25519PublicKey.from_public_bytes(key).verify
        public = load_der_public_key(key)
    except (UnsupportedAlgorithm, ValueError) as exc:
        raise ValueError(f"it is no public key of the kind {algorithm}") from exc
    if algorithm == "ecdsa_p256" and isinstance(public, ec.EllipticCurvePublicKey):
        return lambda signature, message: public.verify(signature, message, ec.ECDSA(SHA256()))
    if algorithm == "rsa_sha256" and isinstance(public, rsa.RSAPublicKey):
        return lambda signature, message: public.verify(signature, message, padding.PKCS1v15(), SHA256())
    raise ValueError(f"it is no public key of the kind {algorithm}")
