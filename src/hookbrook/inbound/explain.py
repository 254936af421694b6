"""Why a verification failed, for the operator's log: the usual mistakes, tried one by one.

Never for the caller: each of these sentences says something about the secret or about what would have passed. Trying
costs a few verifications, so call this for a log line and not for every request of a flood.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from hookbrook.inbound.place import HeaderPlace
from hookbrook.inbound.recipe import Hmac, PublicKey, Row
from hookbrook.inbound.request import Request
from hookbrook.inbound.signed import MAX_TIMESTAMP_DIGITS
from hookbrook.inbound.verdict import Reason, Verdict
from hookbrook.inbound.verify import verify

#: A larger body is not tried: each try hashes it once more.
MAX_BODY = 1_000_000


def operator_hint(
    row: Row, secrets: Sequence[str], request: Request, verdict: Verdict, rows: Mapping[str, Row], *, now: float
) -> str:
    """A sentence with the likely mistake, or an empty one; `rows` are all providers."""
    if verdict.ok or len(request.body) > MAX_BODY:
        return ""
    return next(_hints(row, secrets, request, verdict, rows, now), "")


def _hints(
    row: Row, secrets: Sequence[str], request: Request, verdict: Verdict, rows: Mapping[str, Row], now: float
) -> Iterator[str]:
    if verdict.reason is Reason.NO_SECRET:
        yield "The source has no secret, or none that this provider's scheme can use."
    if verdict.reason in (Reason.TOO_OLD, Reason.IN_THE_FUTURE) and _holds_at_its_time(row, secrets, request):
        yield "The signature itself holds: a clock is off, a proxy held the request back, or it was sent once more."
    if verdict.reason is Reason.MISSING_SIGNATURE:
        yield from (f"It looks like a webhook of {other}." for other in _signed_by_others(request, rows))
    if verdict.reason is Reason.MISMATCH:
        yield from _mismatches(row, secrets, request, now)


def _mismatches(row: Row, secrets: Sequence[str], request: Request, now: float) -> Iterator[str]:
    stripped = request.body.rstrip(b"\r\n")
    for body, what in ((stripped, "has a line end too many"), (stripped + b"\n", "lost the line end that it had")):
        if body != request.body and verify(row, secrets, replace(request, body=body), now=now).ok:
            yield f"The body {what}: something before Hookbrook changed it."
    trimmed = [secret.strip() for secret in secrets]
    if trimmed != list(secrets) and verify(row, trimmed, request, now=now).ok:
        yield "The secret has white space before or after it."


def _holds_at_its_time(row: Row, secrets: Sequence[str], request: Request) -> bool:
    if not isinstance(row.verify, Hmac | PublicKey) or row.verify.timestamp is None:
        return False
    rule = row.verify.timestamp
    if rule.item:
        found = row.verify.signature.items(row.verify.signature.values(request), rule.item)
    else:
        found = [value for place in rule.places for value in place.values(request)]
    return any(
        verify(row, secrets, request, now=int(text) / (1 if rule.unit == "s" else 1000)).ok
        for text in found[:1]
        if text.isdigit() and len(text) <= MAX_TIMESTAMP_DIGITS
    )


def _signed_by_others(request: Request, rows: Mapping[str, Row]) -> Iterator[str]:
    for other in rows.values():
        if isinstance(other.verify, Hmac | PublicKey):
            places = other.verify.signature.places
            if any(isinstance(place, HeaderPlace) and place.values(request) for place in places):
                yield other.title
