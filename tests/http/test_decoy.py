"""What stands in for a source that is not there does the work of one that is."""

import os
from base64 import b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from hookbrook.http.decoy import SIGNATURE, Decoys
from hookbrook.http.intake import Arrival, Intake, Judged
from hookbrook.inbound import providers
from hookbrook.inbound.recipe import PublicKey, Row, read_row
from hookbrook.inbound.request import Request
from hookbrook.inbound.sign import sign
from hookbrook.inbound.verdict import Reason

NOW = 1_800_000_000
RSA = {
    "title": "Ours",
    "verify": {
        "recipe": "public_key",
        "algorithm": "rsa_sha256",
        "key": {"encoding": "base64"},
        "signature": {"places": ["header:X-Rsa"], "encoding": "base64"},
        "message": "{b}",
    },
}
ROWS = {**providers.load(), "ours": read_row("ours", RSA)}
DECOYS = Decoys(ROWS.values(), os.urandom)


def private_key(recipe: PublicKey) -> str:
    key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    if recipe.algorithm == "ed25519":
        key = ed25519.Ed25519PrivateKey.generate()
    elif recipe.algorithm == "ecdsa_p256":
        key = ec.generate_private_key(ec.SECP256R1())
    else:
        key = rsa.generate_private_key(65537, 2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def judged(decoy: Intake, request: Request) -> Judged:
    arrival = Arrival(at=NOW * 1_000_000, path="/in/nobody", address=None)
    headers = [(name.lower(), value) for name, value in request.headers]
    asked = Request(method="POST", headers=[*headers, SIGNATURE], lowered=True, body=request.body)
    return decoy.judge(asked, arrival, None)


@pytest.mark.parametrize("row", [row for row in ROWS.values() if isinstance(row.verify, PublicKey)], ids=lambda r: r.id)
def test_a_signature_of_a_provider_with_public_keys_is_held_against_such_a_key(row: Row) -> None:
    assert isinstance(row.verify, PublicKey)
    signed = sign(row, private_key(row.verify), Request(method="POST", body=b"{}"), now=NOW, id_="1")
    decoy = DECOYS.for_([(name.lower(), value) for name, value in signed.headers])
    assert decoy.row is row
    # A key that could not be read would refuse at once, with the same words.
    assert row.verify.key.decode(decoy.source.secrets[0])
    providers.check_secrets(row, decoy.source.secrets)
    assert judged(decoy, signed).verdict.reason is Reason.MISMATCH


def test_every_other_request_is_put_through_an_hmac() -> None:
    request = Request(method="POST", headers=[(b"X-Hub-Signature-256", b"sha256=" + b64encode(b"x"))], body=b"{}")
    decoy = DECOYS.for_([(b"x-hub-signature-256", b"sha256=00")])
    assert decoy is DECOYS.ordinary
    assert judged(decoy, request).verdict.reason is Reason.MISMATCH
