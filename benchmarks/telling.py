"""Whether a source that does not exist can be told from one whose signature does not match, by how fast it refuses.

That is asked for an HMAC (GitHub's) and for a public key (Discord's), which costs ten times as much. The sources are
asked in random order over one connection. The difference of their medians is set against what chance makes of the same
measurements: the differences after their labels were dealt out anew, a few hundred times. It may lie within what 95 of
100 such deals give; or be smaller than `NEGLIGIBLE_US`, which no network between two machines shows.
"""

import random
import socket
import statistics
import time

from deliver import call
from harness import SECONDS, folder, hookbrook, post
from receive import BODY, SECRET

PER_SECOND = 1500
DEALS = 400
#: Microseconds. The jitter of a round trip within one data centre is a multiple of it.
NEGLIGIBLE_US = 20.0


#: The base point of Ed25519, which is as good a public key as any other.
PUBLIC_KEY = "58" + "66" * 31
NAMES = ("exists-already", "there-is-no-such", "is-switched-off")


def main() -> None:
    github = {"x-github-event": "push", "x-github-delivery": "1", "x-hub-signature-256": "sha256=" + "ab" * 32}
    report("github", SECRET, github)
    discord = {"x-signature-ed25519": "ab" * 32 + "01" + "00" * 31, "x-signature-timestamp": str(int(time.time()))}
    report("discord", PUBLIC_KEY, discord)


def report(provider: str, secret: str, headers: dict[str, str]) -> None:
    kinds = {name: post(f"/in/{name}", BODY, headers=headers) for name in NAMES}
    with folder() as place, hookbrook(folder=place) as port:
        for name in ("exists-already", "is-switched-off"):
            source = {"name": name, "provider": provider, "secrets": [secret], "enabled": name != "is-switched-off"}
            call(port, "/v1/sources", source, "POST")
        times = measured(port, kinds)
    print(f"\ntelling: {provider}, refusals of {len(BODY):,} bytes, median of {min(map(len, times.values())):,} each")
    for name, values in times.items():
        print(f"  {name:18} {statistics.median(values):7.1f} µs")
    known = times["exists-already"]
    for name in ("there-is-no-such", "is-switched-off"):
        difference = statistics.median(times[name]) - statistics.median(known)
        chance = by_chance(known, times[name])
        verdict = "told apart" if abs(difference) > max(chance, NEGLIGIBLE_US) else "not told apart"
        print(f"  {name}: {difference:+.1f} µs, by chance up to {chance:.1f} µs: {verdict}")


def measured(port: int, kinds: dict[str, bytes]) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in kinds}
    order = [name for name in kinds for _ in range(int(PER_SECOND * SECONDS))]
    random.shuffle(order)
    answers = set()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for name in order:
            begin = time.perf_counter()
            connection.sendall(kinds[name])
            answer = connection.recv(65536)
            while not answer.endswith(b"}"):
                answer += connection.recv(65536)
            times[name].append((time.perf_counter() - begin) * 1e6)
            answers.add(b"".join(line for line in answer.splitlines(True) if not line.lower().startswith(b"date:")))
    if len(answers) != 1:
        raise SystemExit(f"told apart by what they say, in {len(answers)} ways")
    return times


def by_chance(one: list[float], other: list[float]) -> float:
    """The difference of medians that 95 of 100 random deals of the same times stay within."""
    both = one + other
    differences = []
    for _ in range(DEALS):
        random.shuffle(both)
        differences.append(abs(statistics.median(both[: len(one)]) - statistics.median(both[len(one) :])))
    return sorted(differences)[DEALS * 95 // 100]


if __name__ == "__main__":
    main()
