"""Answers to a provider's handshakes, and the reply that tells it that its webhook was kept.

An echo sends back what a stranger chose. It is therefore short, never of a type that a browser would show, and says
so: `nosniff`, and a policy that lets nothing run.
"""

import hmac
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from hookbrook.inbound.certificate import is_at
from hookbrook.inbound.place import Place
from hookbrook.inbound.recipe import CHALLENGE_WORDS, VERIFY_TOKEN, Challenge, Hmac, Row
from hookbrook.inbound.request import Request
from hookbrook.inbound.verdict import Verdict

#: Characters of a challenge that are sent back; the longest known (Microsoft Graph's) has a few hundred.
MAX_ECHO = 2_048

#: On every reply that holds a value from the request.
ECHO_HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cache-Control": "no-store",
}

_WORD = re.compile("|".join(re.escape(f"{{{word}}}") for word in sorted(CHALLENGE_WORDS)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What to send back; `headers` are those beside `Content-Type` and `Content-Length`."""

    status: int
    content_type: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    #: An address that has to be asked for first.
    visit: str | None = None


def answer(row: Row, secrets: Sequence[str], request: Request, verdict: Verdict | None = None) -> Reply | None:
    """The reply if the request is one of the row's handshakes, else None; never raises.

    A signed handshake is answered only with a verdict that is `ok`. One that its provider sends unsigned, before a
    secret exists, may be asked about without a verdict. A handshake is not an event: what is answered is not kept.
    """
    for challenge in row.challenges:
        # A stranger's body is not read for a question that only the provider may ask.
        if challenge.method != request.method or (challenge.signed and not (verdict is not None and verdict.ok)):
            continue
        if not all(condition.holds(request) for condition in challenge.when):
            continue
        if challenge.token is not None and not _shows_token(challenge.token, secrets, request):
            continue
        value = _value(challenge, request)
        reply = None if value is None else _reply(row, challenge, value, _secret(secrets, verdict))
        if reply is not None and challenge.visit is not None:
            return _visiting(challenge, challenge.visit, request, reply)
        if value is not None:
            return reply
    return None


def acknowledge(row: Row) -> Reply | None:
    """The reply to a webhook that was kept, or kept before; None if the provider takes any."""
    reply = row.acknowledge
    if reply is None:
        return None
    return Reply(status=reply.status, content_type=reply.content_type, body=reply.body.encode())


def _visiting(challenge: Challenge, place: Place, request: Request, reply: Reply) -> Reply | None:
    values = place.values(request)
    url = values[0].decode("latin-1") if len(values) == 1 else ""
    return replace(reply, visit=url) if is_at(url, challenge.hosts) else None


def _shows_token(place: Place, secrets: Sequence[str], request: Request) -> bool:
    values = place.values(request)
    tokens = [secret.removeprefix(VERIFY_TOKEN) for secret in secrets if secret.startswith(VERIFY_TOKEN)]
    return len(values) == 1 and any(
        hmac.compare_digest(values[0], token.encode("utf-8", "replace")) for token in tokens if token
    )


def _value(challenge: Challenge, request: Request) -> bytes | None:
    """What is asked about; empty if the reply is fixed, None if it should be there and is not, or is too long."""
    if challenge.value is None:
        return b""
    values = challenge.value.values(request)
    return values[0] if len(values) == 1 and 0 < len(values[0]) <= MAX_ECHO else None


def _secret(secrets: Sequence[str], verdict: Verdict | None) -> str:
    """The secret that the provider is known to hold, or else the first."""
    if verdict is not None and verdict.matched_secret is not None:
        return secrets[verdict.matched_secret]
    return next((secret for secret in secrets if not secret.startswith(VERIFY_TOKEN)), "")


def _reply(row: Row, challenge: Challenge, value: bytes, secret: str) -> Reply | None:
    digest = _digest(row, secret, value) if challenge.is_computed else b""
    if challenge.is_computed and not digest:
        return None
    words = {
        "{value}": value.decode("utf-8", "replace"),
        "{hmac:hex}": digest.hex(),
        "{hmac:base64}": b64encode(digest).decode(),
    }
    headers = {name: str(_fill(text, words)) for name, text in challenge.headers.items()}
    if not all(text.isascii() and text.isprintable() for text in headers.values()):
        return None
    if challenge.json is not None:
        filled = {name: _fill(text, words) for name, text in challenge.json.items()}
        content_type, body = "application/json", msgspec.json.encode(filled)
    else:
        content_type, body = "text/plain; charset=utf-8", str(_fill(challenge.text or "", words)).encode()
    return Reply(status=challenge.status, content_type=content_type, body=body, headers={**headers, **ECHO_HEADERS})


def _digest(row: Row, secret: str, value: bytes) -> bytes:
    """The value's HMAC by the key that verifies this row's webhooks; empty without one (fail closed)."""
    if not isinstance(row.verify, Hmac):
        return b""
    try:
        key = row.verify.key.decode(secret)
    except ValueError:
        return b""
    return hmac.digest(key, value, "sha256")


def _fill(text: str | int, words: Mapping[str, str]) -> str | int:
    """`text` with its variables replaced in one pass, so that a value that looks like a variable stays as it is."""
    if isinstance(text, int):
        return text
    return _WORD.sub(lambda found: words[found.group()], text)
