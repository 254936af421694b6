"""Keys that verify tokens: from a JSON Web Key Set (RFC 7517), a PEM file or a shared secret.

Each key brings its algorithm, so that a token cannot choose one (RFC 8725 section 3.1): an RSA key verifies RS256, one
on the curve P-256 ES256, one on Ed25519 EdDSA, and a secret HS256. What a set holds beside those is passed over, as RFC
7517 section 5 asks: identity providers publish keys for encryption in the same document.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate

from hookbrook.errors import HookbrookError

ALGORITHMS: Final = ("HS256", "RS256", "ES256", "EdDSA")
#: RFC 7518 section 3.2: a key of at least the size of the hash's output.
SECRET_BYTES: Final = 32
#: RFC 7518 section 3.3.
MIN_RSA_BITS: Final = 2048
#: Verifying with a longer modulus takes long enough to be an attack.
MAX_RSA_BITS: Final = 8192
#: The large identity providers publish up to ten. A token that names no key is tried with each.
MAX_KEYS: Final = 32
#: Ten keys with their certificates have 30 KB.
MAX_DOCUMENT_BYTES: Final = 256 * 1024

_BEGIN: Final = b"-----BEGIN "


class KeySetError(HookbrookError):
    """The document holds no usable key. The sentence repeats nothing of it."""


#: What a JWK of another kind, or a damaged one, ends in; PyJWT says of `alg: none` that it is not implemented.
_UNUSABLE: Final = (
    *(jwt.PyJWTError, KeySetError, UnsupportedAlgorithm),
    *(ValueError, TypeError, KeyError, NotImplementedError),
)


class VerifyKey(msgspec.Struct, frozen=True, kw_only=True):
    """One key and the one algorithm that it is for."""

    kid: str | None
    algorithm: str
    key: Any


def from_secret(secret: str) -> VerifyKey:
    data = secret.encode()
    if len(data) < SECRET_BYTES:
        raise KeySetError(f"has less than {SECRET_BYTES} bytes, which HS256 needs")
    return VerifyKey(kid=None, algorithm="HS256", key=data)


def from_document(data: bytes, *, secrets: bool) -> tuple[VerifyKey, ...]:
    """The usable keys of a JSON Web Key Set, of one JWK, or of PEM blocks. Raises `KeySetError` if there is none.

    Args:
        secrets: whether `oct` keys count; in a document that everybody can read they are none.
    """
    if len(data) > MAX_DOCUMENT_BYTES:
        raise KeySetError(f"has more than {MAX_DOCUMENT_BYTES} bytes")
    keys = _from_pem(data) if data.lstrip().startswith(_BEGIN) else _from_json(data, secrets=secrets)
    if not keys:
        raise KeySetError(f"has no key for {', '.join(ALGORITHMS if secrets else ALGORITHMS[1:])}")
    if len(keys) > MAX_KEYS:
        raise KeySetError(f"has more than {MAX_KEYS} keys")
    return keys


def _from_pem(data: bytes) -> tuple[VerifyKey, ...]:
    blocks = [_BEGIN + block for block in data.split(_BEGIN)[1:]]
    return tuple(_judged(None, _load_pem(block)) for block in blocks)


def _load_pem(block: bytes) -> Any:
    if b"PRIVATE KEY" in block:
        raise KeySetError("holds a private key; give the public one")
    try:
        if block.startswith(_BEGIN + b"CERTIFICATE"):
            return load_pem_x509_certificate(block).public_key()
        return load_pem_public_key(block)
    except ValueError as exc:
        raise KeySetError("is not a public key in PEM") from exc


def _judged(kid: str | None, key: Any) -> VerifyKey:
    """With its algorithm; raises `KeySetError` for a key of another kind."""
    if isinstance(key, RSAPublicKey):
        if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
            raise KeySetError(f"has an RSA key that is not of {MIN_RSA_BITS} to {MAX_RSA_BITS} bits")
        return VerifyKey(kid=kid, algorithm="RS256", key=key)
    if isinstance(key, EllipticCurvePublicKey) and key.curve.name == "secp256r1":
        return VerifyKey(kid=kid, algorithm="ES256", key=key)
    if isinstance(key, Ed25519PublicKey):
        return VerifyKey(kid=kid, algorithm="EdDSA", key=key)
    if isinstance(key, bytes) and len(key) >= SECRET_BYTES:
        return VerifyKey(kid=kid, algorithm="HS256", key=key)
    raise KeySetError(f"has a key that is not for {', '.join(ALGORITHMS)}")


def _from_json(data: bytes, *, secrets: bool) -> tuple[VerifyKey, ...]:
    try:
        document = msgspec.json.decode(data)
    except (ValueError, RecursionError) as exc:
        raise KeySetError("is neither a JSON Web Key Set nor PEM") from exc
    if not isinstance(document, Mapping):
        raise KeySetError("is no JSON Web Key Set")
    entries = document.get("keys", [document])
    if not isinstance(entries, list):
        raise KeySetError("is no JSON Web Key Set: its keys are no list")
    return tuple(_usable(entries[: 4 * MAX_KEYS], secrets=secrets))


def _usable(entries: Iterable[object], *, secrets: bool) -> Iterable[VerifyKey]:
    for entry in entries:
        if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
            continue
        if entry.get("kty") == "oct" and not secrets:
            continue
        kid = entry.get("kid")
        try:
            key = _judged(kid if isinstance(kid, str) else None, jwt.PyJWK(_public(entry)).key)
        except _UNUSABLE:
            # Another kind of key, or a damaged one; the others are still good.
            continue
        if entry.get("alg", key.algorithm) == key.algorithm:
            yield key


def _public(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The JWK without its private part, should somebody have published that."""
    private = {"d", "p", "q", "dp", "dq", "qi", "oth"}
    return {name: value for name, value in entry.items() if name not in private}
