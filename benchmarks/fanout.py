"""One event to 1,000 endpoints: from sending it until all have it.

Limit: the same 1,000 posts by a bare aiohttp loop on the same core.
"""

import asyncio
import json
import time

import aiohttp
import uvloop
from deliver import DATA, call, received
from harness import LOAD_CORE, SERVER_CORE, Outcome, folder, free_port, hookbrook, in_turn, pinned, process

ENDPOINTS = 1000
EVENTS = 5


def fan_out(port: int, receiver: int) -> float:
    """Deliveries a second, event after event."""
    begin = time.perf_counter()
    for _ in range(EVENTS):
        wanted = received(receiver) + ENDPOINTS
        call(port, "/v1/events", {"channel": "orders.42", "type": "order.paid", "data": DATA}, "POST")
        while received(receiver) < wanted:
            if time.perf_counter() - begin > 60:
                raise SystemExit("not all endpoints got the event")
            time.sleep(0.005)
    return EVENTS * ENDPOINTS / (time.perf_counter() - begin)


def bare(receiver: int) -> float:
    async def run() -> float:
        body = json.dumps(DATA).encode()
        connector = aiohttp.TCPConnector(limit=ENDPOINTS)
        async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:

            async def one(number: int) -> None:
                async with session.post(f"http://127.0.0.1:{receiver}/{number}", data=body) as response:
                    await response.read()

            begin = time.perf_counter()
            for _ in range(EVENTS):
                await asyncio.gather(*map(one, range(ENDPOINTS)))
            return EVENTS * ENDPOINTS / (time.perf_counter() - begin)

    with pinned(SERVER_CORE), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


def measure() -> Outcome:
    with folder() as place:
        receiver = free_port()
        with (
            process("benchmarks/receiver.py", str(receiver), port=receiver, core=1),
            hookbrook("--allow-networks", "127.0.0.1/32", folder=place) as port,
        ):
            for number in range(ENDPOINTS):
                call(port, "/v1/endpoints", {"url": f"http://127.0.0.1:{receiver}/{number}"}, "POST")
            with pinned(LOAD_CORE):
                ours, limit = in_turn(lambda: fan_out(port, receiver), lambda: bare(receiver))
    return Outcome(
        name=f"fanout: one event to {ENDPOINTS:,} endpoints, signed and recorded, {EVENTS} one after the other",
        unit="deliveries/s",
        ours=ours,
        limit=limit,
        limit_name="bare aiohttp loop: no signature, no record",
        wanted_ratio=0.5,
    )


if __name__ == "__main__":
    measure().report()
