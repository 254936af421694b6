"""R5: a signature by a certificate that the request names. The one kind of recipe that a row cannot say by itself.

Amazon SNS signs with a key that it changes, and each message says where the certificate with the public half can be
fetched. So two things decide: that address must be one of Amazon's own (or else anybody's certificate would do), and
the message must be of a topic that the operator named (or else anybody's topic would do, since Amazon signs for all
its customers). The source's secrets are these topics' names.

Nothing is fetched here: `address` says what is needed, `Certificates` gets it through the `Fetch` port, and
`prove_certificate` is handed the bytes.
"""

import asyncio
import re
from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from hmac import compare_digest
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256

from hookbrook.core.fetch import Fetch, FetchError
from hookbrook.core.fetch import Request as Outbound
from hookbrook.errors import Problem
from hookbrook.inbound.recipe import Certificate
from hookbrook.inbound.request import Request
from hookbrook.inbound.verdict import Proof, Reason, Refusal, mismatch, no_secret

#: Certificates that are kept. Amazon has one for each region, and changes it about once a year.
MAX_KEPT = 64
#: How long one is kept, so that one that was taken back is not trusted for ever.
KEPT_S = 86_400
#: How long a failure is remembered, so that a flood of forged messages is no flood of requests from us.
FAILED_S = 60
#: Fetches at once, likewise.
MAX_FETCHES = 4
#: Bytes of a certificate; Amazon's has 2,000.
MAX_BYTES = 16_384
#: Characters of an address.
MAX_URL = 2_048

# What SNS signs: of these the ones that are there, each as a line with its name and a line with its value.
_NOTIFICATION = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
_CONFIRMATION = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
_SIGNED: Mapping[str, Sequence[str]] = {
    "Notification": _NOTIFICATION,
    "SubscriptionConfirmation": _CONFIRMATION,
    "UnsubscribeConfirmation": _CONFIRMATION,
}
_HASHES = {"1": SHA1, "2": SHA256}


def address(recipe: Certificate, secrets: Sequence[str], request: Request) -> str | None:
    """Where the request's certificate is to be fetched; None if it names none that would be believed.

    A message of a topic that nobody asked for is not worth a fetch.
    """
    url = _text(request, "SigningCertURL")
    if not _is_of(secrets, _text(request, "TopicArn")) or not is_at(url, recipe.hosts):
        return None
    parts = urlsplit(url)
    return url if parts.path.endswith(".pem") and not parts.query and not parts.fragment else None


def is_at(url: str, hosts: Sequence[str]) -> bool:
    """Whether this is an https address at one of the hosts, in whose names `*` is one label."""
    if len(url) > MAX_URL or not url.isascii() or not url.isprintable() or any(mark in url for mark in "\\ @"):
        return False
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    patterns = (re.escape(host).replace(r"\*", "[a-z0-9-]{1,63}") for host in hosts)
    is_ours = any(re.fullmatch(pattern, parts.hostname or "") for pattern in patterns)
    return parts.scheme == "https" and port in (None, 443) and is_ours


def topic_of(request: Request) -> str:
    """The topic that a message says it is of; empty if it says none."""
    return _text(request, "TopicArn")


def prove_certificate(
    recipe: Certificate, secrets: Sequence[str], request: Request, now: float, certificate: bytes | None
) -> Proof:
    """Raises `Refusal`."""
    index = _topic(secrets, _text(request, "TopicArn"))
    signed = _signed_string(request)
    signature = _signature(request)
    if certificate is None:
        raise Refusal(Reason.MALFORMED_SIGNATURE, "The body's SigningCertURL is not an address of this provider.")
    sent_at = recipe.timestamp.check(_text(request, "Timestamp").encode(), now)
    if not _holds(certificate, signature, signed, _text(request, "SignatureVersion"), now):
        raise mismatch()
    return Proof(secret=index, timestamp=sent_at)


class Certificates:
    """Fetches certificates and keeps them for a while."""

    def __init__(self, fetch: Fetch | None, clock: Callable[[], int]) -> None:
        self._fetch = fetch
        self._clock = clock
        self._slots = asyncio.Semaphore(MAX_FETCHES)
        #: By address: until when it is known, and the certificate, or None after a failure.
        self._known: dict[str, tuple[int, bytes | None]] = {}

    async def get(self, url: str) -> bytes:
        """Raises `Problem` if it cannot be had now: the provider then tries again, as it would not after a 401."""
        async with self._slots:
            known = self._known.get(url)
            if known is None or known[0] <= self._clock():
                known = self._remember(url, await self._load(url))
        if known[1] is None:
            raise Problem("The provider's certificate cannot be fetched at the moment.")
        return known[1]

    async def visit(self, url: str) -> None:
        """Asks for an address that a handshake wants asked for; raises `Problem` if that fails."""
        if await self._load(url) is None:
            raise Problem("The address of the provider's handshake cannot be reached at the moment.")

    async def _load(self, url: str) -> bytes | None:
        if self._fetch is None:
            return None
        try:
            response = await self._fetch.send(Outbound(method="GET", url=url, response_limit=MAX_BYTES))
        except FetchError:
            return None
        return response.body if response.status == 200 and not response.truncated else None

    def _remember(self, url: str, found: bytes | None) -> tuple[int, bytes | None]:
        if len(self._known) >= MAX_KEPT:
            del self._known[next(iter(self._known))]
        entry = (self._clock() + (FAILED_S if found is None else KEPT_S) * 1_000_000, found)
        self._known.pop(url, None)
        self._known[url] = entry
        return entry


def _text(request: Request, name: str) -> str:
    body = request.json
    value = body.get(name) if isinstance(body, dict) else None
    return value if isinstance(value, str) else ""


def _signed_string(request: Request) -> bytes:
    names = _SIGNED.get(_text(request, "Type"))
    if names is None:
        raise Refusal(Reason.MALFORMED_SIGNATURE, "The body is no message of this provider.")
    lines = (f"{name}\n{_text(request, name)}\n" for name in names if isinstance(request.json.get(name), str))
    return "".join(lines).encode("utf-8", "replace")


def _signature(request: Request) -> bytes:
    text = _text(request, "Signature")
    if not text:
        raise Refusal(Reason.MISSING_SIGNATURE, "The body's Signature is missing.")
    try:
        return b64decode(text, validate=True)
    except (NotBase64, ValueError):
        raise Refusal(Reason.MALFORMED_SIGNATURE, "The body's Signature is not base64.") from None


def _is_of(secrets: Sequence[str], topic: str) -> bool:
    return bool(topic) and topic in secrets


def _topic(secrets: Sequence[str], topic: str) -> int:
    named = [secret.encode("utf-8", "replace") for secret in secrets]
    if not any(named):
        raise no_secret()
    shown = topic.encode("utf-8", "replace")
    for index, secret in enumerate(named):
        if secret and compare_digest(secret, shown):
            return index
    raise Refusal(Reason.MISMATCH, "The message is of another topic.")


def _holds(certificate: bytes, signature: bytes, signed: bytes, version: str, now: float) -> bool:
    if version not in _HASHES:
        return False
    try:
        parsed = x509.load_pem_x509_certificate(certificate)
        public = parsed.public_key()
        moment = datetime.fromtimestamp(now, UTC)
        if not parsed.not_valid_before_utc <= moment <= parsed.not_valid_after_utc:
            return False
        if not isinstance(public, rsa.RSAPublicKey):
            return False
        public.verify(signature, signed, padding.PKCS1v15(), _HASHES[version]())
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, OverflowError, OSError):
        return False
    return True
