"""Receiving webhooks: GitHub's signature over 8 KB verified, each durable before it is answered, on one core.

Limit: a plain ASGI echo of the same requests on the same server, which verifies and keeps nothing.
"""

import hmac
import itertools
import json
from collections.abc import Iterator

from deliver import call
from harness import Outcome, folder, free_port, hookbrook, in_turn, post, process, requests_per_second

CONNECTIONS = 64
SECRET = "s3cret of the benchmark"
#: About the size of GitHub's `push` of a few commits.
BODY = json.dumps(
    {
        "ref": "refs/heads/main",
        "repository": {"id": 1296269, "full_name": "octocat/hello-world", "private": False},
        "commits": [
            {"id": f"{number:040x}", "message": "Fix the thing", "modified": ["src/thing.py"], "url": "x" * 180}
            for number in range(26)
        ],
    }
).encode()
#: Where the id of each request goes, so that none is a repeat.
PLACE = b"the-delivery-id-"


def request(path: str = "/in/bench") -> Iterator[bytes]:
    """Requests without end, the same but for the delivery's id."""
    headers = {
        "x-github-event": "push",
        "x-github-delivery": PLACE.decode(),
        "x-hub-signature-256": f"sha256={hmac.digest(SECRET.encode(), BODY, 'sha256').hex()}",
        "user-agent": "GitHub-Hookshot/044aadd",
        "accept": "*/*",
    }
    before, after = post(path, BODY, headers=headers).split(PLACE)
    return (b"%b%016d%b" % (before, number, after) for number in NUMBERS)


#: One sequence for all runs: what was sent in one must not come again in the next.
NUMBERS = itertools.count(1)


def add_source(port: int) -> None:
    call(port, "/v1/sources", {"name": "bench", "provider": "github", "secrets": [SECRET]}, "POST")


def measure() -> Outcome:
    with folder() as place:
        echo_port = free_port()
        with (
            hookbrook(folder=place) as port,
            process("benchmarks/echo.py", str(echo_port), port=echo_port),
        ):
            add_source(port)
            ours, limit = in_turn(
                lambda: requests_per_second(port, request(), CONNECTIONS),
                lambda: requests_per_second(echo_port, request(), CONNECTIONS),
            )
    return Outcome(
        name=f"receive: verified, durable webhooks of {len(BODY):,} bytes, {CONNECTIONS} connections, one core",
        unit="webhooks/s",
        ours=ours,
        limit=limit,
        limit_name="plain ASGI echo of the same requests",
        wanted_ratio=0.3,
    )


if __name__ == "__main__":
    measure().report()
