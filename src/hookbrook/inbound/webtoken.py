"""R4: a JSON Web Token by a shared secret whose claims hold the hash of the body.

The token is read here and not by a library because the time is that of arrival, which is handed in, and because the
only algorithms are HMACs: RFC 7515 section 5.2 comes down to one comparison. `none` and the algorithms of public keys
are not in any row's list, and a row's list is all that is accepted (RFC 8725 section 3.1).
"""

import hmac
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any

import msgspec

from hookbrook.inbound.recipe import Jwt
from hookbrook.inbound.request import Request
from hookbrook.inbound.signed import decode, first_present
from hookbrook.inbound.verdict import Proof, Reason, Refusal, mismatch, only, sentence

#: Characters of a token; the longest known has about 700.
MAX_TOKEN = 8_192

#: RFC 7518 section 3.2.
_HASHES = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}


def prove_jwt(recipe: Jwt, keys: Iterable[tuple[int, bytes]], request: Request, now: float) -> Proof:
    """Raises `Refusal`."""
    keys = list(keys)
    token = _token(recipe, request)
    signed, _, signature = token.rpartition(b".")
    head, _, payload = signed.partition(b".")
    algorithm = _object(recipe, head).get("alg")
    if algorithm not in recipe.algorithms:
        raise Refusal(Reason.MALFORMED_SIGNATURE, "The token's algorithm is not one that this provider uses.")
    claims = _object(recipe, payload)
    shown = decode(signature, "base64url")
    secret = _matching(keys, shown, signed, _HASHES[algorithm])
    sent_at = _check_time(recipe, claims, now)
    _check_claims(recipe, claims, request)
    id_ = claims.get(recipe.id_claim) if recipe.id_claim else None
    return Proof(secret=secret, timestamp=sent_at, id=id_ if isinstance(id_, str) else None)


def claimed_time(recipe: Jwt, request: Request) -> float | None:
    """The time that the token says it was made at, or else the last at which it holds; None if it says neither."""
    try:
        claims = _object(recipe, _token(recipe, request).split(b".")[1])
    except Refusal:
        return None
    return next((time for name in ("iat", "nbf", "exp") if (time := _number(claims.get(name))) is not None), None)


def _token(recipe: Jwt, request: Request) -> bytes:
    place = recipe.places[0]
    values = first_present(recipe.places, request)
    if not values:
        raise Refusal(Reason.MISSING_SIGNATURE, sentence(place, "is missing"))
    value = only(values, place)
    if recipe.scheme:
        scheme, _, value = value.partition(b" ")
        if scheme.lower() != recipe.scheme.lower().encode():
            raise Refusal(Reason.MALFORMED_SIGNATURE, sentence(place, f"is not {recipe.scheme}"))
    if len(value) > MAX_TOKEN or value.count(b".") != 2:
        raise _malformed(recipe)
    return value


def _object(recipe: Jwt, part: bytes) -> Mapping[str, Any]:
    try:
        found: dict[str, Any] = msgspec.json.decode(decode(part, "base64url"), type=dict[str, Any])
    except (ValueError, RecursionError):
        raise _malformed(recipe) from None
    return found


def _matching(keys: Sequence[tuple[int, bytes]], shown: bytes, signed: bytes, hash_: str) -> int:
    for index, key in keys:
        if hmac.compare_digest(hmac.digest(key, signed, hash_), shown):
            return index
    raise mismatch()


def _check_time(recipe: Jwt, claims: Mapping[str, Any], now: float) -> int | None:
    times = {name: _number(claims.get(name)) for name in ("exp", "nbf", "iat")}
    expires, not_before, issued = times["exp"], times["nbf"], times["iat"]
    if recipe.past_s is not None and issued is not None:
        limit = issued + recipe.past_s
        expires = limit if expires is None else min(expires, limit)
    if expires is None:
        raise Refusal(Reason.MISSING_TIMESTAMP, "The token does not say until when it holds.")
    if now > expires + recipe.leeway_s:
        raise Refusal(Reason.TOO_OLD, "The token has expired.")
    for start in (not_before, issued):
        if start is not None and now < start - recipe.leeway_s:
            raise Refusal(Reason.IN_THE_FUTURE, "The token does not hold yet.")
    return next((int(time) for time in (issued, not_before) if time is not None), None)


def _check_claims(recipe: Jwt, claims: Mapping[str, Any], request: Request) -> None:
    if recipe.issuer and claims.get("iss") != recipe.issuer:
        raise Refusal(Reason.MISMATCH, "The token is from another issuer.")
    # A request without a body may come without the claim; an empty claim with a body proves nothing of it.
    claimed = claims.get(recipe.body_claim)
    if request.body or claimed:
        _compare(claimed, sha256(request.body).digest(), recipe.encoding, "body")
    if recipe.url_claim:
        url = request.url.encode("utf-8", "replace")
        claimed = claims.get(recipe.url_claim)
        if recipe.url_hashed:
            _compare(claimed, sha256(url).digest(), recipe.encoding, "URL")
        elif not isinstance(claimed, str) or claimed.encode("utf-8", "replace") != url:
            raise Refusal(Reason.MISMATCH, "The token is for another URL.")


def _compare(claimed: object, expected: bytes, encoding: Any, what: str) -> None:
    shown = decode(claimed.encode("utf-8", "replace"), encoding) if isinstance(claimed, str) else b""
    if not hmac.compare_digest(shown, expected):
        raise Refusal(Reason.MISMATCH, f"The token is for another {what}.")


def _number(value: object) -> float | None:
    # RFC 7519 section 2: a NumericDate may have a fraction.
    return value if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12 else None


def _malformed(recipe: Jwt) -> Refusal:
    return Refusal(Reason.MALFORMED_SIGNATURE, sentence(recipe.places[0], "holds no token"))
