"""Key sets: which keys are usable, and for which algorithm."""

import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from hookbrook.core.keyset import MAX_KEYS, KeySetError, from_document, from_secret

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()


def jwk(private: Any, **more: Any) -> dict[str, Any]:
    """The public key as a JWK, written by PyJWT."""
    algorithms: dict[type, Any] = {
        rsa.RSAPrivateKey: jwt.algorithms.RSAAlgorithm,
        ec.EllipticCurvePrivateKey: jwt.algorithms.ECAlgorithm,
        ed25519.Ed25519PrivateKey: jwt.algorithms.OKPAlgorithm,
    }
    algorithm = next(found for kind, found in algorithms.items() if isinstance(private, kind))
    return {**json.loads(algorithm.to_jwk(private.public_key())), **more}


def pem(private: Any) -> bytes:
    found: bytes = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return found


def key_set(*keys: object) -> bytes:
    return json.dumps({"keys": keys}).encode()


@pytest.mark.parametrize(("private", "algorithm"), [(RSA, "RS256"), (EC, "ES256"), (ED, "EdDSA")])
def test_a_key_brings_its_algorithm_from_a_set_alone_and_in_pem(private: Any, algorithm: str) -> None:
    for document in (key_set(jwk(private, kid="a")), json.dumps(jwk(private)).encode(), pem(private)):
        (key,) = from_document(document, secrets=False)
        assert key.algorithm == algorithm
    assert from_document(key_set(jwk(private, kid="a")), secrets=False)[0].kid == "a"


def test_several_keys_in_one_pem_file_are_all_taken() -> None:
    assert [key.algorithm for key in from_document(pem(EC) + pem(RSA), secrets=False)] == ["ES256", "RS256"]


def test_a_secret_counts_only_where_not_everybody_can_read_it() -> None:
    document = key_set({"kty": "oct", "k": "A" * 43})
    assert from_document(document, secrets=True)[0].algorithm == "HS256"
    with pytest.raises(KeySetError):
        from_document(document, secrets=False)


def test_what_is_not_for_signing_or_of_another_kind_is_passed_over() -> None:
    others = [
        jwk(RSA, use="enc"),
        jwk(RSA, alg="PS256"),
        jwk(ec.generate_private_key(ec.SECP384R1())),
        jwk(rsa.generate_private_key(public_exponent=65537, key_size=1024)),
        {"kty": "new"},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        {},
        7,
    ]
    (key,) = from_document(key_set(*others, jwk(EC, kid="good")), secrets=True)
    assert key.kid == "good"
    with pytest.raises(KeySetError, match="has no key for"):
        from_document(key_set(*others), secrets=True)


def test_a_private_key_in_a_set_is_used_as_the_public_one() -> None:
    whole = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(ED))
    (key,) = from_document(key_set(whole), secrets=False)
    assert isinstance(key.key, ed25519.Ed25519PublicKey)


@pytest.mark.parametrize(
    "document",
    [
        b"", b"nonsense", b"[1]", b'{"keys": 1}', b'{"keys": []}', b"[" * 100_000, b"\xff", b" " * 300_000,
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        key_set(*(jwk(EC) for _ in range(MAX_KEYS + 1))),
    ],
)  # fmt: skip
def test_a_document_without_a_usable_key_is_refused(document: bytes) -> None:
    with pytest.raises(KeySetError):
        from_document(document, secrets=False)


def test_a_private_key_in_pem_is_refused_and_not_repeated() -> None:
    secret = ED.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(KeySetError, match="private") as refused:
        from_document(secret, secrets=False)
    assert secret.splitlines()[1].decode() not in str(refused.value)


def test_a_secret_that_is_too_short_is_refused() -> None:
    with pytest.raises(KeySetError, match="32 bytes"):
        from_secret("short")
    assert from_secret("x" * 32).algorithm == "HS256"


def test_a_key_that_says_it_needs_no_algorithm_is_passed_over() -> None:
    # PyJWT's word for these is a NotImplementedError.
    [key] = from_document(key_set(jwk(RSA, alg="none"), jwk(EC)), secrets=False)
    assert key.algorithm == "ES256"
