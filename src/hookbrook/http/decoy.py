"""What stands in for a source that is not there, so that its name cannot be found out by how fast it is refused.

What tells a source that exists is the work of its recipe, and most recipes cost about as much as an HMAC over the same
bytes: that is what a request without a source is put through. A public key costs ten times as much. So a request with
a signature where a provider with public keys puts its own is put before such a key, of which nobody has the other half.
"""

from base64 import b64encode
from collections.abc import Callable, Iterable
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from msgspec.structs import replace

from hookbrook.core.source import Source
from hookbrook.http.intake import Intake
from hookbrook.http.problems import Headers
from hookbrook.inbound.place import HeaderPlace
from hookbrook.inbound.recipe import PublicKey, Row, read_row

#: Of the ordinary decoy's signature; no network lets a header of this name through.
DECOY_HEADER: Final = b"hookbrook decoy"
SIGNATURE: Final = (DECOY_HEADER, b"00" * 32)
_SOURCE: Final = Source(id="", name="", provider="", secrets=("nobody has this",), created=0, updated=0)
_ROW: Final = {
    "title": "Nobody",
    "verify": {
        "recipe": "hmac",
        "signature": {"places": [f"header:{DECOY_HEADER.decode()}"], "encoding": "hex"},
        "message": "{b}",
    },
}
#: Any odd number of so many bits costs what the product of two primes does.
_MODULUS: Final = (1 << 2048) - 1


class Decoys:
    """Immutable. `random` gives so many random bytes."""

    def __init__(self, rows: Iterable[Row], random: Callable[[int], bytes]) -> None:
        self.ordinary = Intake(_SOURCE, read_row("decoy", _ROW), random)
        self._by_header = {
            place.key: Intake(replace(_SOURCE, secrets=(_public_key(row.verify),)), row, random)
            for row in rows
            if isinstance(row.verify, PublicKey)
            for place in row.verify.signature.places
            if isinstance(place, HeaderPlace)
        }

    def for_(self, headers: Headers) -> Intake:
        """The one for a request with these headers (names in lower case), to which `SIGNATURE` is added."""
        return next((self._by_header[name] for name, _ in headers if name in self._by_header), self.ordinary)


def _public_key(recipe: PublicKey) -> str:
    """A key of the recipe's kind, as its row writes keys."""
    if recipe.algorithm == "ed25519":
        key = ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    elif recipe.algorithm == "ecdsa_p256":
        key = _der(ec.generate_private_key(ec.SECP256R1()).public_key())
    else:
        key = _der(rsa.RSAPublicNumbers(65537, _MODULUS).public_key())
    return key.hex() if recipe.key.encoding == "hex" else b64encode(key).decode()


def _der(key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
