"""Revocations: stream tokens that no longer hold although they have not expired.

Tokens are kept nowhere, so what is kept is which of them to refuse: one by its `jti`, or all that a subject got up to a
moment. A revocation is kept until every token that it could concern has expired.
"""

import msgspec

from hookbrook.core.event import DEFAULT_TENANT
from hookbrook.core.token import LEEWAY_S, Claims


class Revocation(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    tenant: str = DEFAULT_TENANT
    #: The `jti` of one token, or "".
    token: str = ""
    #: The `sub` of all that are meant, or "".
    subject: str = ""
    #: When it may be forgotten, in microseconds like all times here.
    expires: int
    created: int
    #: Tokens of the subject that were issued up to now are refused.
    updated: int
    revision: int = 1

    def concerns(self, claims: Claims) -> bool:
        """Whether the token with these claims, of this tenant, is refused.

        A token of the subject that does not say when it was issued is refused as well.
        """
        if self.token:
            return claims.jti == self.token
        # `iat` is in whole seconds: a token made in the very second of the revocation is refused, which is the safe
        # side; and the clock of another issuer may run ahead a little.
        return claims.sub == self.subject and (claims.iat is None or claims.iat * 1_000_000 <= self.updated)


def kept_until(now: int, longest_s: float) -> int:
    """When a revocation of now may be forgotten, if no token holds for longer than that."""
    return now + round((longest_s + 2 * LEEWAY_S) * 1_000_000)
