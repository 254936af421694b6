"""Standard Webhooks 1.0 signatures: HMAC-SHA256 over `id.timestamp.body` (https://www.standardwebhooks.com).

The engine keeps its own few lines, since it shares nothing with Hookbrook but this public contract.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping

#: Seconds that a signature is good for in either direction, against replays; the spec's libraries use the same.
TOLERANCE = 300


class BadSignature(Exception):
    """The request was not signed with our secret, or not just now."""


def sign(secret: str, webhook_id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`, for a secret written `whsec_` and base64."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{webhook_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def verify(secret: str, headers: Mapping[str, str], body: bytes, now: float) -> str:
    """The webhook's id, if the signature holds; several signatures stand side by side while a secret is changed."""
    webhook_id, sent_at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not webhook_id or not sent_at.isascii() or not sent_at.isdigit() or abs(now - int(sent_at)) > TOLERANCE:
        raise BadSignature("webhook-id or webhook-timestamp is missing, or the timestamp is not of these minutes")
    expected = sign(secret, webhook_id, int(sent_at), body).encode()
    offered = headers.get("webhook-signature", "").encode("utf-8", "surrogateescape").split(b" ")
    if not any(hmac.compare_digest(each, expected) for each in offered):
        raise BadSignature("webhook-signature does not fit this body and our secret")
    return webhook_id
