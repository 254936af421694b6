"""From accepting an event to its webhook's arrival at the receiver, at a steady 500 events a second.

Limit: the same posts sent directly to the receiver at the same pace.
"""

import asyncio
import json
import os
import statistics
import time

import aiohttp
import uvloop
from deliver import DATA, call
from harness import LOAD_CORE, SECONDS, Outcome, folder, free_port, hookbrook, in_turn, process

PER_SECOND = 500


async def paced(url: str, bodies: list[tuple[str, bytes]], *, direct: bool) -> dict[str, float]:
    """Post each body at its time; returns when each was sent, by id."""
    sent: dict[str, float] = {}
    begin = time.perf_counter()
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:

        async def one(event_id: str, body: bytes) -> None:
            headers = {"content-type": "application/json"} | ({"webhook-id": event_id} if direct else {})
            sent[event_id] = time.perf_counter()
            async with session.post(url, data=body, headers=headers) as response:
                await response.read()

        tasks = []
        for number, (event_id, body) in enumerate(bodies):
            await asyncio.sleep(max(0.0, begin + number / PER_SECOND - time.perf_counter()))
            tasks.append(asyncio.create_task(one(event_id, body)))
        await asyncio.gather(*tasks)
    return sent


def median_ms(url: str, receiver: int, *, direct: bool) -> float:
    """Median milliseconds from sending the event to the webhook's arrival; clocks are one machine's."""
    stamp = time.time_ns()
    events = [
        (f"evt_{stamp}_{n}", json.dumps({"id": f"evt_{stamp}_{n}", "channel": "orders.42", "data": DATA}).encode())
        for n in range(int(PER_SECOND * SECONDS))
    ]
    os.sched_setaffinity(0, {LOAD_CORE})
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sent = runner.run(paced(url, events, direct=direct))
    arrivals: dict[str, float] = {}
    deadline = time.monotonic() + 20
    while len(arrivals) < len(sent):
        found = call(receiver, "/")["arrivals"]
        assert isinstance(found, dict)
        arrivals |= {key: value for key, value in found.items() if key in sent}
        if time.monotonic() > deadline:
            raise SystemExit(f"only {len(arrivals)} of {len(sent)} webhooks arrived")
    waits = sorted((arrivals[key] - sent[key]) * 1000 for key in sent)
    P99.setdefault(direct, []).append(waits[len(waits) * 99 // 100])
    return statistics.median(waits)


#: By `direct`: the 99th percentile of each run, in milliseconds.
P99: dict[bool, list[float]] = {}


def measure() -> Outcome:
    P99.clear()
    with folder() as place:
        receiver = free_port()
        with (
            process("benchmarks/receiver.py", str(receiver), port=receiver, core=1),
            hookbrook("--allow-networks", "127.0.0.1/32", folder=place) as port,
        ):
            hook = f"http://127.0.0.1:{receiver}/hook"
            call(port, "/v1/endpoints", {"url": hook}, "POST")
            ours, limit = in_turn(
                lambda: median_ms(f"http://127.0.0.1:{port}/v1/events", receiver, direct=False),
                lambda: median_ms(hook, receiver, direct=True),
            )
    return Outcome(
        name=f"arrival: from sending an event to its webhook at the receiver, {PER_SECOND} events/s, median",
        unit="ms",
        ours=ours,
        limit=limit,
        limit_name="posted directly to the receiver",
        wanted=4.0,
        lower_is_better=True,
        notes=[f"p99     {statistics.median(P99[False]):.1f} ms, limit {statistics.median(P99[True]):.1f} ms"],
    )


if __name__ == "__main__":
    measure().report()
