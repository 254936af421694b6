"""For the receiver of Hookbrook's webhooks: is this one really from there?"""

import time
from collections.abc import Sequence

from hookbrook.core import signing
from hookbrook.core.signing import DEFAULT_TOLERANCE_S, Headers, SignatureError, Verified

__all__ = ["SignatureError", "Verified", "verify"]


def verify(
    secrets: str | Sequence[str],
    headers: Headers,
    body: bytes,
    *,
    tolerance_s: float = DEFAULT_TOLERANCE_S,
    now: float | None = None,
) -> Verified:
    """Check a webhook before believing it; any sender that follows Standard Webhooks 1.0 will do.

    Returns its `id` (the same in every retry, so remember it to do things once) and its `timestamp`.

    Args:
        secrets: the endpoint's `whsec_…`, or its public key `whpk_…` where it signs with Ed25519 (`v1a`); or several of
            which any may hold, as during a rotation.
        headers: of the request, as your framework has them.
        body: the raw bytes of the request. JSON that was parsed and printed again does not verify.
        tolerance_s: how old, or how far in the future, the webhook may be.
        now: seconds since 1970; the clock, if absent.

    Raises SignatureError if the webhook is not proven, `hookbrook.errors.Invalid` if a secret is none.
    """
    moment = time.time() if now is None else now
    return signing.verify(secrets, headers, body, now=moment, tolerance_s=tolerance_s)
