"""Verifying one webhook of 8 KB in this process, provider by provider: finding, reading and comparing the signature.

Limit: the bare HMAC over the same bytes. Both are taken in turn, a few dozen at a time, and the fastest of each counts,
because whatever else the machine does can only add to either.
"""

import hmac
import time
from base64 import b64encode
from collections.abc import Callable, Sequence

from harness import PAIRS, Outcome
from receive import BODY, SECRET

from hookbrook.inbound.providers import load
from hookbrook.inbound.request import Request
from hookbrook.inbound.verify import Verifier

NOW = 1_795_000_000
#: Calls that are timed together, and how often that is done for one figure.
CALLS, ROUNDS = 30, 150
#: The other headers of a request, as a proxy hands them on.
COMMON = (
    (b"host", b"hooks.example.com"),
    (b"user-agent", b"a provider/1.0"),
    (b"accept", b"*/*"),
    (b"content-type", b"application/json"),
    (b"content-length", b"8000"),
    (b"x-forwarded-for", b"192.0.2.1"),
    (b"x-forwarded-proto", b"https"),
)


def mac(message: bytes) -> bytes:
    return hmac.digest(SECRET.encode(), message, "sha256")


def signed() -> dict[str, Sequence[tuple[bytes, bytes]]]:
    """By provider, what it adds to a request."""
    time_ = b"%d" % NOW
    v0 = b"v0=" + mac(b"v0:%b:%b" % (time_, BODY)).hex().encode()
    return {
        "github": [(b"x-hub-signature-256", b"sha256=" + mac(BODY).hex().encode())],
        "stripe": [(b"stripe-signature", b"t=%b,v1=%b" % (time_, mac(b"%b.%b" % (time_, BODY)).hex().encode()))],
        "slack": [(b"x-slack-signature", v0), (b"x-slack-request-timestamp", time_)],
        "shopify": [(b"x-shopify-hmac-sha256", b64encode(mac(BODY)))],
    }


def per_second(*calls: Callable[[], object]) -> list[float]:
    """Calls of each per second."""
    best = [float("inf")] * len(calls)
    for _ in range(ROUNDS):
        for index, run in enumerate(calls):
            begin = time.perf_counter()
            for _ in range(CALLS):
                run()
            best[index] = min(best[index], time.perf_counter() - begin)
    return [CALLS / each for each in best]


def outcome(provider: str, own: Sequence[tuple[bytes, bytes]]) -> Outcome:
    row = load()[provider]
    verifier = Verifier(row, (SECRET,))
    headers = [*COMMON, *own]

    def verify() -> None:
        request = Request(method="POST", headers=headers, lowered=True, body=BODY, members=row.members)
        verifier.prove(request, NOW)

    key = SECRET.encode()
    pairs = [per_second(verify, lambda: hmac.digest(key, BODY, "sha256")) for _ in range(PAIRS)]
    return Outcome(
        name=f"verify: {provider}'s signature over {len(BODY):,} bytes, in process",
        unit="webhooks/s",
        ours=[ours for ours, _ in pairs],
        limit=[limit for _, limit in pairs],
        limit_name="the bare HMAC",
        wanted_ratio=0.5,
    )


def measure() -> list[Outcome]:
    return [outcome(provider, own) for provider, own in signed().items()]


if __name__ == "__main__":
    for each in measure():
        each.report()
