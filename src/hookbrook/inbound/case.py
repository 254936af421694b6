"""A failure as it is investigated: the case, what may be found, and trials that undo one thing at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from hookbrook.inbound.place import HeaderPlace, Place
from hookbrook.inbound.recipe import Certificate, Hmac, Jwt, PublicKey, Row, Token
from hookbrook.inbound.request import Request
from hookbrook.inbound.verdict import Refusal, Verdict
from hookbrook.inbound.verify import Verifier

#: A larger body is only looked at: each trial hashes it once more.
MAX_BODY: Final = 1_000_000
#: Bytes that all trials together may hash: a tenth of a second of one core at the most.
MAX_HASHED: Final = 48_000_000
#: What one trial costs beside its body, in bytes hashed: an RSA or Ed25519 verification, reading the headers.
TRIAL_BYTES: Final = 60_000


class Cause(StrEnum):
    """What is wrong; the words are part of the API."""

    NO_SECRET = "no_secret"  # noqa: S105 - the word for there being none
    WRONG_SECRET = "wrong_secret"  # noqa: S105 - likewise
    OTHER_SOURCE = "other_source"
    SECRET_TEXT = "secret_text"  # noqa: S105 - likewise
    KEY_ENCODING = "key_encoding"
    LINE_END = "line_end"
    RESERIALISED = "reserialised"
    COMPRESSED = "compressed"
    EMPTY_BODY = "empty_body"
    PUBLIC_URL = "public_url"
    CLOCK = "clock"
    NETWORK = "network"
    WRONG_PROVIDER = "wrong_provider"
    HEADER_STRIPPED = "header_stripped"
    HEADER_RENAMED = "header_renamed"
    HEADER_DOUBLED = "header_doubled"
    NOT_THE_PROVIDER = "not_the_provider"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    cause: Cause
    #: For the operator; holds no secret.
    sentence: str
    proven: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Other:
    """Another source of the same tenant, whose secret or provider may have been meant."""

    name: str
    row: Row
    secrets: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A webhook that failed, and what is known around it."""

    row: Row
    secrets: Sequence[str]
    request: Request
    verdict: Verdict
    #: When it arrived, in seconds since 1970.
    now: float
    #: All providers.
    rows: Mapping[str, Row]
    others: Sequence[Other] = ()
    certificate: bytes | None = None
    #: The client's address.
    address: str | None = None


class Spent(Exception):
    """The trials have cost as much as they may."""


class Trial:
    """Verifies the case with something changed, and adds up what that costs."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._left = MAX_HASHED
        #: The time by which trials judge: the request's own, so that a clock that is off hides nothing else.
        self.now = case.now
        self.count = 0

    def holds(
        self, *, row: Row | None = None, secrets: Sequence[str] | None = None, request: Request | None = None
    ) -> bool:
        case = self._case
        row, request = row or case.row, request or case.request
        secrets = case.secrets if secrets is None else secrets
        self._left -= (len(request.body) + TRIAL_BYTES) * max(len(secrets), 1)
        if self._left < 0:
            raise Spent
        self.count += 1
        try:
            Verifier(row, secrets).prove(request, self.now, case.certificate)
        except Refusal:
            return False
        return True


def is_signed_as(row: Row, request: Request) -> bool:
    """Whether the request has a header that only this row's signatures stand in."""
    places = signature_places(row)
    return any(
        isinstance(place, HeaderPlace) and place.key != b"authorization" and place.values(request) for place in places
    )


def signature_places(row: Row) -> Sequence[Place]:
    recipe = row.verify
    if isinstance(recipe, Hmac | PublicKey):
        return recipe.signature.places
    if isinstance(recipe, Certificate):
        return recipe.headers[:1]
    return recipe.places if isinstance(recipe, Token | Jwt) else ()
