"""What verification finds: a verdict, and the reasons there are."""

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from hookbrook.core.signing import SignatureError
from hookbrook.inbound.place import Place


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
    #: It is signed right, and comes from an address outside the source's networks; the caller is told a mismatch.
    NETWORK = "network"


# A Struct, as `Proof` is: one is made for every request, and a frozen dataclass costs five times as much.
class Verdict(msgspec.Struct, frozen=True, kw_only=True, gc=False):
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
    #: What the proof protects, of `body`, `timestamp`, `id`, `url`, `method` and `fields`; the rest is the caller's
    #: word.
    covers: tuple[str, ...] = ()
    #: Index of the secret that matched.
    matched_secret: int | None = None

    def problem(self) -> SignatureError:
        """The 401 for the caller."""
        # RFC 9110 section 15.5.2: a 401 names the authentication that would do.
        reason = Reason.MISMATCH if self.reason is Reason.NETWORK else self.reason
        return SignatureError(self.detail, headers={"WWW-Authenticate": "Webhook"}, extra={"reason": str(reason)})


class Proof(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a recipe has proven."""

    #: Index of the secret that matched.
    secret: int | None = None
    #: Seconds since 1970.
    timestamp: int | None = None
    #: The id under the signature, where the recipe has one.
    id: str | None = None


class Refusal(Exception):
    """Ends a verification at the first thing that is wrong; `verify` turns it into a verdict."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def sentence(place: Place, what: str) -> str:
    text = str(place)
    return f"{text[0].upper()}{text[1:]} {what}."


def only(values: Sequence[bytes], place: Place) -> bytes:
    # Two timestamps: the one that is signed and the one that is checked could then be different ones.
    if len(values) > 1:
        raise Refusal(Reason.AMBIGUOUS, sentence(place, "is there more than once"))
    return values[0]


def no_secret() -> Refusal:
    return Refusal(Reason.NO_SECRET, "This source has no secret to verify with.")


def mismatch() -> Refusal:
    return Refusal(Reason.MISMATCH, "No signature matches.")
