"""R5: a signature by a certificate that the request names. The one kind of recipe that a row cannot say by itself.

Amazon SNS and PayPal sign with a key that they change, and each message says where the certificate with the public half
can be fetched. So two things decide: that address must be one of the provider's own (or else anybody's certificate
would do), and the message must be for the operator (or else any customer's would do, since the provider signs for
all of them): of a topic, or by the id of a webhook, that is one of the source's secrets.

Nothing is fetched here: `address` says what is needed, `Certificates` gets it through the `Fetch` port, and
`prove_certificate` is handed the bytes. What is signed, and where it stands, is in `claim`.
"""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from hookbrook.core.fetch import Fetch, FetchError
from hookbrook.core.fetch import Request as Outbound
from hookbrook.errors import Problem
from hookbrook.inbound.claim import READERS, Claim
from hookbrook.inbound.recipe import Certificate
from hookbrook.inbound.request import Request
from hookbrook.inbound.verdict import Proof, Reason, Refusal, mismatch

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

#: Where on its hosts a provider has its certificates.
_PATHS: Mapping[str, re.Pattern[str]] = {
    "sns": re.compile(r".*\.pem"),
    "paypal": re.compile(r"/v1/notifications/certs/[A-Za-z0-9-]+"),
}


def address(recipe: Certificate, secrets: Sequence[str], request: Request) -> str | None:
    """Where the request's certificate is to be fetched; None if it names none that would be believed.

    A message that is refused whatever the certificate says, as one of a topic that nobody asked for, is not worth a
    fetch.
    """
    try:
        claim = READERS[recipe.scheme](secrets, request)
    except Refusal:
        return None
    if claim.hash is None or not is_at(claim.url, recipe.hosts):
        return None
    parts = urlsplit(claim.url)
    is_certificate = _PATHS[recipe.scheme].fullmatch(parts.path) and not parts.query and not parts.fragment
    return claim.url if is_certificate else None


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


def prove_certificate(
    recipe: Certificate, secrets: Sequence[str], request: Request, now: float, certificate: bytes | None
) -> Proof:
    """Raises `Refusal`."""
    claim = READERS[recipe.scheme](secrets, request)
    if claim.hash is None:
        raise mismatch()
    if certificate is None:
        raise Refusal(Reason.MALFORMED_SIGNATURE, "The certificate's address is not one of this provider.")
    sent_at = None if recipe.timestamp is None else recipe.timestamp.check(claim.time, now)
    index = _signer(certificate, claim, now)
    if index is None:
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
        known = self._fresh(url)
        if known is None:
            # What is known does not wait here behind forged messages, each of which names another address.
            async with self._slots:
                known = self._fresh(url) or self._remember(url, await self._load(url))
        if known[1] is None:
            raise Problem("The provider's certificate cannot be fetched at the moment.")
        return known[1]

    def _fresh(self, url: str) -> tuple[int, bytes | None] | None:
        known = self._known.get(url)
        return known if known is not None and known[0] > self._clock() else None

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
            failed = (each for each, (_, certificate) in self._known.items() if certificate is None)
            del self._known[next(failed, next(iter(self._known)))]
        entry = (self._clock() + (FAILED_S if found is None else KEPT_S) * 1_000_000, found)
        self._known.pop(url, None)
        self._known[url] = entry
        return entry


def _signer(certificate: bytes, claim: Claim, now: float) -> int | None:
    """The index of the secret by which the signature holds."""
    try:
        parsed = x509.load_pem_x509_certificate(certificate)
        public = parsed.public_key()
        moment = datetime.fromtimestamp(now, UTC)
    except (UnsupportedAlgorithm, ValueError, OverflowError, OSError):
        return None
    if not parsed.not_valid_before_utc <= moment <= parsed.not_valid_after_utc:
        return None
    if not isinstance(public, rsa.RSAPublicKey):
        return None
    return next((index for index, signed in claim.signed.items() if _holds(public, claim, signed)), None)


def _holds(public: rsa.RSAPublicKey, claim: Claim, signed: bytes) -> bool:
    assert claim.hash is not None
    try:
        public.verify(claim.signature, signed, padding.PKCS1v15(), claim.hash())
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        return False
    return True
