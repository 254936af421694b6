"""Is this request really from the provider? A verdict for any bytes, and never an exception.

The sentence for the caller names what is missing or out of time, which an honest sender needs and a forger knows
anyway; that a signature does not match is all it says of the rest.
"""

from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256

from hookbrook.inbound.certificate import prove_certificate
from hookbrook.inbound.place import HeaderPlace
from hookbrook.inbound.proof import compile_proof
from hookbrook.inbound.recipe import Certificate, Row, Unsigned
from hookbrook.inbound.request import Request
from hookbrook.inbound.signed import first_present
from hookbrook.inbound.verdict import Proof, Reason, Refusal, Verdict

#: A provider's id longer than this, or with characters that a log could not show, is replaced by its hash.
MAX_DEDUPE_ID_LENGTH = 200


class Verifier:
    """The judge of one source: a row and its secrets, worked out once and asked for every request."""

    __slots__ = ("_covers", "_id_of", "_prove", "_row", "_secrets", "_type_of", "reason")

    def __init__(self, row: Row, secrets: Sequence[str]) -> None:
        self._row = row
        self._secrets = secrets
        #: Of each verdict that is good.
        self.reason = Reason.UNVERIFIED if isinstance(row.verify, Unsigned) else Reason.VERIFIED
        self._prove = None if isinstance(row.verify, Certificate) else compile_proof(row, secrets)
        self._id_of = _id_finder(row)
        self._type_of = row.type.name_for
        self._covers = row.covers

    def prove(self, request: Request, now: float, certificate: bytes | None = None) -> Proof:
        """The proof alone, without a look at what the event is called; raises `Refusal`."""
        if self._prove is not None:
            return self._prove(request, now)
        assert isinstance(self._row.verify, Certificate)
        return prove_certificate(self._row.verify, self._secrets, request, now, certificate)

    def verify(self, request: Request, *, now: float, certificate: bytes | None = None) -> Verdict:
        """As `verify` below."""
        try:
            proof = self.prove(request, now, certificate) if self._prove is None else self._prove(request, now)
        except Refusal as refusal:
            return Verdict(ok=False, reason=refusal.reason, detail=refusal.detail)
        return Verdict(
            ok=True,
            reason=self.reason,
            dedupe_id=self._id_of(request) if proof.id is None else shown_id(proof.id.encode("utf-8", "replace")),
            event_type=self._type_of(request),
            timestamp=proof.timestamp,
            covers=self._covers,
            matched_secret=proof.secret,
        )


def verify(
    row: Row, secrets: Sequence[str], request: Request, *, now: float, certificate: bytes | None = None
) -> Verdict:
    """Judges a request against a row and any of `secrets`; `now` is the time of arrival in seconds since 1970, and
    `certificate` what was fetched from `certificate.address`, if the row's recipe needs it."""
    return Verifier(row, secrets).verify(request, now=now, certificate=certificate)


def dedupe_id(row: Row, request: Request) -> str:
    """The id that all deliveries of this event share: the provider's, or else `sha256:` and the hash of the body."""
    values = first_present(row.dedupe, request)
    if len(values) != 1 or not values[0]:
        return f"sha256:{sha256(request.body).hexdigest()}"
    return shown_id(values[0])


def _id_finder(row: Row) -> Callable[[Request], str]:
    """`dedupe_id` of a row, with a short way to a header."""
    place = row.dedupe[0] if row.dedupe else None
    if not isinstance(place, HeaderPlace):
        return partial(dedupe_id, row)
    key = place.key

    def find(request: Request) -> str:
        value = request.distinct.get(key, b"").strip()
        return shown_id(value) if value else dedupe_id(row, request)

    return find


def shown_id(value: bytes) -> str:
    """The id as text, or its hash if it could not be shown."""
    text = value.decode("latin-1")
    if len(text) > MAX_DEDUPE_ID_LENGTH or not (text.isascii() and text.isprintable()):
        return f"sha256:{sha256(value).hexdigest()}"
    return text
