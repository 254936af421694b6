"""Receiving webhooks: GitHub's signature over 8 KB verified, each durable before it is answered, on one core.

Limit: a plain ASGI echo of the same requests on the same server, which verifies and keeps nothing.
"""

import hmac
import itertools
import json
from collections.abc import Iterator
from random import Random

from deliver import call
from harness import Outcome, folder, free_port, hookbrook, in_turn, post, process, requests_per_second

CONNECTIONS = 64
SECRET = "s3cret of the benchmark"


def _push() -> bytes:
    """A body like GitHub's `push` of some commits, in size and in how much of it is the same again and again: real ones
    of 8 KB have some 2 KB of their own, as lz4 counts (`@octokit/webhooks-examples`)."""
    rng = Random(1296269)

    def word() -> str:
        return "".join(rng.choices("abcdefghijklmnoprstuvw", k=rng.randint(3, 9)))

    def urls(of: str, count: int) -> dict[str, object]:
        return {
            f"{name}_url": f"https://api.github.example/{of}/{name}{{/sha}}" for name in (word() for _ in range(count))
        }

    def commit() -> dict[str, object]:
        id_ = f"{rng.getrandbits(160):040x}"
        who = {"name": f"{word().title()} {word().title()}", "email": f"{word()}@example.com", "username": word()}
        return {
            "id": id_,
            "tree_id": f"{rng.getrandbits(160):040x}",
            "distinct": True,
            "message": " ".join(word() for _ in range(8)),
            "timestamp": f"2026-11-{rng.randint(10, 27)}T{rng.randint(10, 23)}:{rng.randint(10, 59)}:07Z",
            "url": f"https://github.example/octocat/hello-world/commit/{id_}",
            "author": who,
            "committer": who,
            "added": [],
            "removed": [],
            "modified": [f"src/{word()}/{word()}.py" for _ in range(2)],
        }

    user = {"id": 583231, "login": "octocat", "type": "User", "site_admin": False, **urls("users/octocat", 9)}
    name = "octocat/hello-world"
    repository = {"id": 1296269, "full_name": name, "private": False, "owner": user, **urls(f"repos/{name}", 36)}
    commits = [commit() for _ in range(COMMITS)]
    push = {"ref": "refs/heads/main", "repository": repository, "sender": user, "commits": commits}
    return json.dumps(push, separators=(",", ":")).encode()


COMMITS = 6
BODY = _push()
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
