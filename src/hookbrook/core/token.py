"""Stream tokens: short-lived JWTs that say which channels somebody may read or write.

They are signed with HS256 and a secret that only this installation has. The algorithm follows from the key, never from
the token's header (RFC 8725 section 3.1), and a token without an expiry is none.
"""

from typing import Any, Final

import jwt
import msgspec

from hookbrook.core.channel import check_patterns
from hookbrook.core.event import DEFAULT_TENANT
from hookbrook.core.registration import check_tenant
from hookbrook.errors import HookbrookError, Invalid

ALGORITHM: Final = "HS256"
#: RFC 7518 section 3.2: a key of at least the size of the hash's output.
SECRET_BYTES: Final = 32
#: Two clocks of one installation differ by less.
LEEWAY_S: Final = 5
#: A token travels in a header, a cookie (4 KB in browsers) or a URL.
MAX_TOKEN_LENGTH: Final = 4096
MAX_SUBJECT_LENGTH: Final = 200
#: The year 5138; also keeps infinity away from integers.
MAX_TIME_S: Final = 10**11


class TokenError(HookbrookError):
    """The text is no token of ours, or no longer. The sentence says what is wrong without repeating any of it."""


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """What a token says. Times are seconds since 1970."""

    exp: float
    iat: float | None = None
    nbf: float | None = None
    sub: str = ""
    tenant: str = DEFAULT_TENANT
    #: Channel patterns that may be read, and written.
    subscribe: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()


def encode(claims: Claims, secret: bytes) -> str:
    payload = {name: value for name, value in msgspec.to_builtins(claims).items() if value is not None}
    return jwt.encode(payload, secret, algorithm=ALGORITHM)


def decode(text: str, secret: bytes, *, now_s: float) -> Claims:
    """The claims of a token that holds; raises `TokenError`."""
    if len(text) > MAX_TOKEN_LENGTH:
        raise TokenError(f"The token has more than {MAX_TOKEN_LENGTH} characters.")
    claims = _checked_claims(_signed_payload(text, secret))
    if not abs(claims.exp) <= MAX_TIME_S:
        raise TokenError("The token's exp is no time in seconds.")
    if now_s >= claims.exp + LEEWAY_S:
        raise TokenError("The token has expired.")
    if claims.nbf is not None and now_s < claims.nbf - LEEWAY_S:
        raise TokenError("The token is not valid yet.")
    return claims


def _signed_payload(text: str, secret: bytes) -> Any:
    # The times are checked by our own clock, which tests can move.
    options: Any = {"verify_exp": False, "verify_nbf": False, "verify_iat": False, "require": ["exp"]}
    try:
        return jwt.decode(text, secret, algorithms=[ALGORITHM], options=options)
    except jwt.MissingRequiredClaimError as exc:
        raise TokenError("The token has no expiry (exp).") from exc
    except jwt.ExpiredSignatureError as exc:
        raise TokenError("The token has expired.") from exc
    # A header of a thousand brackets ends in a RecursionError of the JSON parser.
    except (jwt.PyJWTError, ValueError, RecursionError) as exc:
        raise TokenError("The token is not valid.") from exc


def _checked_claims(payload: Any) -> Claims:
    try:
        claims = msgspec.convert(payload, Claims)
        check_tenant("tenant", claims.tenant)
        check_patterns("subscribe", claims.subscribe)
        check_patterns("publish", claims.publish)
    except (msgspec.ValidationError, Invalid) as exc:
        raise TokenError(f"The token's claims are not valid: {exc}.") from exc
    return claims
