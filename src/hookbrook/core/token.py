"""Stream tokens: short-lived JWTs that say which channels somebody may read or write.

They are signed with HS256 and a secret that only this installation has. The algorithm follows from the key, never from
the token's header (RFC 8725 section 3.1), and a token without an expiry is none.
"""

from base64 import urlsafe_b64decode
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


class TokenExpired(TokenError):
    """The token held once."""


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """What a token says. Times are seconds since 1970."""

    exp: float
    iat: float | None = None
    nbf: float | None = None
    sub: str = ""
    #: The token's own id, by which it can be revoked.
    jti: str | None = None
    #: The id of the key that minted it, and with which it ends.
    key: str | None = None
    tenant: str = DEFAULT_TENANT
    #: Channel patterns that may be read, and written.
    subscribe: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()


def encode(claims: Claims, secret: bytes) -> str:
    payload = {name: value for name, value in msgspec.to_builtins(claims).items() if value is not None}
    return jwt.encode(payload, secret, algorithm=ALGORITHM)


def decode(text: str, secret: bytes, *, now_s: float) -> Claims:
    """The claims of a token of ours that holds; raises `TokenError`."""
    payload = signed_payload(text, secret, ALGORITHM)
    if isinstance(payload, dict) and "aud" in payload:
        # RFC 7519 section 4.1.3: whoever is not the audience must refuse it; ours have none.
        raise TokenError("The token is for another audience.")
    claims = _checked_claims(payload)
    check_times(claims, now_s=now_s)
    return claims


def check_times(claims: Claims, *, now_s: float) -> None:
    """Raises `TokenError` for a token that has expired or is not valid yet."""
    if not abs(claims.exp) <= MAX_TIME_S:
        raise TokenError("The token's exp is no time in seconds.")
    if now_s >= claims.exp + LEEWAY_S:
        raise TokenExpired("The token has expired.")
    if claims.nbf is not None and now_s < claims.nbf - LEEWAY_S:
        raise TokenError("The token is not valid yet.")


class Unverified(msgspec.Struct, frozen=True):
    """What a token says of itself before anything of it is known to be true: enough to find its key, no more."""

    iss: str | None = None
    kid: str | None = None


def peek(text: str) -> Unverified:
    """Whose token this claims to be; raises `TokenError` if it is none."""
    if len(text) > MAX_TOKEN_LENGTH:
        raise TokenError(f"The token has more than {MAX_TOKEN_LENGTH} characters.")
    header, _, rest = text.partition(".")
    try:
        issuer = msgspec.json.decode(_unpadded(rest.partition(".")[0]), type=Unverified).iss
        return Unverified(iss=issuer, kid=msgspec.json.decode(_unpadded(header), type=Unverified).kid)
    except (ValueError, RecursionError) as exc:
        raise TokenError("The token is not valid.") from exc


def _unpadded(part: str) -> bytes:
    return urlsafe_b64decode(part + "=" * (-len(part) % 4))


def signed_payload(text: str, key: Any, algorithm: str) -> Any:
    """The payload of a token whose signature holds with this key and algorithm; raises `TokenError`.

    Its times and its audience are for the caller to check.
    """
    if len(text) > MAX_TOKEN_LENGTH:
        raise TokenError(f"The token has more than {MAX_TOKEN_LENGTH} characters.")
    # The times are checked by our own clock, which tests can move.
    options: Any = {"verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_aud": False}
    options |= {"verify_sub": False, "verify_jti": False, "require": ["exp"]}
    try:
        return jwt.decode(text, key, algorithms=[algorithm], options=options)
    except jwt.MissingRequiredClaimError as exc:
        raise TokenError("The token has no expiry (exp).") from exc
    # A header of a thousand brackets ends in a RecursionError of the JSON parser.
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as exc:
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
