"""Publishing arrays of 100 events over HTTP, each array durable before it is answered, on one core.

Limit: Python's sqlite3 inserting the same rows into the same table with its indexes and as durably, one commit per 100,
and nothing else: no HTTP, no JSON, no checks.
"""

import json
import os
import sqlite3
import time

from harness import SECONDS, SERVER_CORE, Outcome, folder, hookbrook, in_turn, post, requests_per_second

from hookbrook.store.sqlite.connection import open_writer

CONNECTIONS = 8
BATCH = 100
DATA = {"order": 42, "total": "19.90", "currency": "EUR", "items": 3}
INSERT = """INSERT INTO event (tenant, channel, id, type, time, appended, content_type, kind, scope, dedupe, digest,
                               data)
            VALUES ('default', ?, ?, 'order.paid', ?, ?, 'application/json', 'json', '', ?, x'', ?)"""


def raw_inserts(connection: sqlite3.Connection) -> float:
    """Events per second of bare inserts."""
    os.sched_setaffinity(0, {SERVER_CORE})
    # As a bytearray, for which sqlite3 does not look for an adapter.
    data = bytearray(json.dumps(DATA).encode())
    count, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < SECONDS:
        now = time.time_ns() // 1000
        rows = [("orders.42", f"evt_{now:020}{n:06}", now, now, f"evt_{now:020}{n:06}", data) for n in range(BATCH)]
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(INSERT, rows)
        connection.execute("COMMIT")
        count += BATCH
    return count / (time.perf_counter() - begin)


def measure() -> Outcome:
    body = json.dumps([{"channel": "orders.42", "type": "order.paid", "data": DATA}] * BATCH).encode()
    request = post("/v1/events", body)
    with folder() as place, hookbrook(folder=place) as port:
        connection = open_writer(place / "raw.db")
        ours, limit = in_turn(
            lambda: requests_per_second(port, request, CONNECTIONS) * BATCH, lambda: raw_inserts(connection)
        )
        connection.close()
    return Outcome(
        name=f"publish: arrays of {BATCH} durable events over HTTP, {CONNECTIONS} connections, one core",
        unit="events/s",
        ours=ours,
        limit=limit,
        limit_name="sqlite3.executemany into the same table, a commit per 100",
        wanted=30_000,
        wanted_ratio=0.5,
    )


if __name__ == "__main__":
    measure().report()
