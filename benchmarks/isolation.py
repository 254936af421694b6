"""100 endpoints, four of which are nasty: one hangs, one resets, one answers a byte a second, one without end.

What the other 96 wait for their webhooks must not change; nor may the memory grow. Limit: the same 96 alone.
"""

import os
import statistics
import time
from contextlib import ExitStack
from pathlib import Path

from deliver import DATA, call
from harness import SECONDS, Outcome, folder, free_port, hookbrook_process, in_turn, process

GOOD = 96
NASTY = ("hang", "reset", "drip", "endless")
PER_SECOND = 10
WANTED = 1.5
RESIDENT: list[int] = []


def resident(pid: int) -> int:
    pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def p99_ms(port: int, receiver: int, pid: int, channel: str) -> float:
    """The 99th percentile, over all deliveries to the good endpoints, of the time from publishing to arrival."""
    sent: dict[str, float] = {}
    stamp = time.time_ns()
    begin = time.perf_counter()
    for number in range(int(SECONDS * PER_SECOND)):
        time.sleep(max(0.0, begin + number / PER_SECOND - time.perf_counter()))
        event_id = f"evt_{stamp}_{number}"
        sent[event_id] = time.perf_counter()
        call(port, "/v1/events", {"id": event_id, "channel": channel, "data": DATA}, "POST")
    waits: list[float] = []
    deadline = time.monotonic() + 30
    while len(waits) < GOOD * len(sent):
        if time.monotonic() > deadline:
            raise SystemExit(f"only {len(waits)} of {GOOD * len(sent)} webhooks arrived")
        found = call(receiver, "/each")["each"]
        assert isinstance(found, list)
        waits += [(at - sent[event_id]) * 1000 for event_id, at in found if event_id in sent]
        time.sleep(0.05)
    RESIDENT.append(resident(pid))
    return statistics.quantiles(waits, n=100)[98]


def measure() -> Outcome:
    RESIDENT.clear()
    with folder() as place, ExitStack() as stack:
        receiver, nasty = free_port(), free_port()
        stack.enter_context(process("benchmarks/receiver.py", str(receiver), port=receiver, core=1))
        stack.enter_context(process("benchmarks/nasty.py", str(nasty), port=nasty, core=1))
        port, pid = stack.enter_context(hookbrook_process("--allow-networks", "127.0.0.1/32", folder=place))
        for number in range(GOOD):
            url = f"http://127.0.0.1:{receiver}/{number}"
            call(port, "/v1/endpoints", {"url": url, "channels": ["with", "alone"]}, "POST")
        for kind in NASTY:
            call(port, "/v1/endpoints", {"url": f"http://127.0.0.1:{nasty}/{kind}", "channels": ["with"]}, "POST")
        ours, limit = in_turn(lambda: p99_ms(port, receiver, pid, "with"), lambda: p99_ms(port, receiver, pid, "alone"))
    pairs = sorted(one / other for one, other in zip(ours, limit, strict=True))
    reached = "reached" if statistics.median(pairs) <= WANTED else "NOT REACHED"
    return Outcome(
        name=f"isolation: p99 of {GOOD} endpoints beside four nasty ones, {PER_SECOND} events/s to each",
        unit="ms",
        ours=ours,
        limit=limit,
        limit_name="without the four",
        lower_is_better=True,
        notes=[
            f"wanted  at most {WANTED:g} times as long: {reached}",
            f"memory  {RESIDENT[0] >> 20} MiB after the first run, {RESIDENT[-1] >> 20} MiB after the last",
        ],
    )


if __name__ == "__main__":
    measure().report()
