"""Delivering webhooks: a backlog of signed deliveries to one endpoint, durable results, on one core.

Limit: a bare aiohttp loop that posts the same body with as many requests in flight, and neither signs nor records.
"""

import asyncio
import json
import os
import time
import urllib.request

import aiohttp
import uvloop
from harness import SECONDS, SERVER_CORE, Outcome, folder, free_port, hookbrook, in_turn, process

IN_FLIGHT = 100
BATCH = 1000
DATA = {"order": 42, "total": "19.90", "currency": "EUR", "items": 3}


def call(port: int, path: str, body: object = None, method: str = "GET") -> dict[str, object]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("content-type", "application/json")
    with urllib.request.urlopen(request, timeout=60) as response:
        answer = json.load(response)
    return answer if isinstance(answer, dict) else {"data": answer}


def received(port: int) -> int:
    count = call(port, "/")["count"]
    assert isinstance(count, int)
    return count


def dispatch(port: int, receiver: int) -> float:
    """Deliveries per second while a backlog that was held is worked off."""
    before = received(receiver)
    endpoint = call(port, "/v1/endpoints")["data"][0]["id"]  # type: ignore[index]
    call(port, f"/v1/endpoints/{endpoint}", {"enabled": False}, "PATCH")
    # More than can be sent in the time; what is left is sent before the next run begins.
    backlog = int(SECONDS * 6000) // BATCH * BATCH + BATCH
    for _ in range(backlog // BATCH):
        call(port, "/v1/events", [{"channel": "orders.42", "type": "order.paid", "data": DATA}] * BATCH, "POST")
    begin = time.perf_counter()
    call(port, f"/v1/endpoints/{endpoint}", {"enabled": True}, "PATCH")
    while (count := received(receiver) - before) < backlog:
        if time.perf_counter() - begin > 120:
            raise SystemExit(f"only {count} of {backlog} deliveries arrived")
        time.sleep(0.05)
    return backlog / (time.perf_counter() - begin)


def bare(receiver: int) -> float:
    """Posts per second of a bare aiohttp loop."""

    async def run() -> float:
        body = json.dumps(DATA).encode()
        count = 0
        end = time.perf_counter() + SECONDS
        connector = aiohttp.TCPConnector(limit=IN_FLIGHT)

        async def one(session: aiohttp.ClientSession) -> None:
            nonlocal count
            while time.perf_counter() < end:
                async with session.post(f"http://127.0.0.1:{receiver}/hook", data=body) as response:
                    await response.read()
                count += 1

        begin = time.perf_counter()
        async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
            await asyncio.gather(*(one(session) for _ in range(IN_FLIGHT)))
        return count / (time.perf_counter() - begin)

    os.sched_setaffinity(0, {SERVER_CORE})
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


def measure() -> Outcome:
    with folder() as place:
        receiver = free_port()
        with (
            process("benchmarks/receiver.py", str(receiver), port=receiver, core=1),
            hookbrook("--allow-networks", "127.0.0.1/32", folder=place) as port,
        ):
            url = f"http://127.0.0.1:{receiver}/hook"
            call(port, "/v1/endpoints", {"url": url, "concurrency": IN_FLIGHT}, "POST")
            ours, limit = in_turn(lambda: dispatch(port, receiver), lambda: bare(receiver))
    return Outcome(
        name=f"deliver: signed, recorded webhooks to one endpoint, {IN_FLIGHT} in flight, one core",
        unit="deliveries/s",
        ours=ours,
        limit=limit,
        limit_name="bare aiohttp loop: no signature, no record",
        wanted_ratio=0.4,
    )


if __name__ == "__main__":
    measure().report()
