"""Publishing single events over HTTP, each durable before it is answered, at 64 connections, on one core.

Limit: a plain ASGI echo on the same server. Peer: a FastAPI route that commits each event to SQLite.
"""

from statistics import median

from harness import Outcome, folder, free_port, hookbrook, in_turn, post, process, requests_per_second

CONNECTIONS = 64
BODY = b'{"channel":"orders.42","type":"order.paid","data":{"order":42,"total":"19.90","currency":"EUR","items":3}}'


def measure() -> Outcome:
    request = post("/v1/events", BODY)
    with folder() as place:
        echo_port, peer_port = free_port(), free_port()
        with (
            hookbrook(folder=place) as port,
            process("benchmarks/echo.py", str(echo_port), port=echo_port),
            process("benchmarks/naive.py", str(peer_port), str(place / "peer.db"), port=peer_port),
        ):
            ours, limit, peer = in_turn(
                lambda: requests_per_second(port, request, CONNECTIONS),
                lambda: requests_per_second(echo_port, request, CONNECTIONS),
                lambda: requests_per_second(peer_port, request, CONNECTIONS),
            )
    ratio = median(a / b for a, b in zip(ours, peer, strict=True))
    return Outcome(
        name=f"publish: single durable events over HTTP, {CONNECTIONS} connections, one core",
        unit="events/s",
        ours=ours,
        limit=limit,
        limit_name="plain ASGI echo on the same server",
        wanted_ratio=0.40,
        notes=[f"peer    {median(peer):,.0f} events/s (FastAPI, one SQLite commit each): ours is {ratio:.1f} x"],
    )


if __name__ == "__main__":
    measure().report()
