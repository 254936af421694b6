"""Kill -9 at random moments loses nothing that was acknowledged, and leaves no hole and nothing half-applied."""

import asyncio
import os
import random
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hookbrook.core.delivery import State
from hookbrook.core.event import Event
from hookbrook.store.base import DeliveryQuery, Query
from hookbrook.store.sqlite import SqliteStore

WRITER = Path(__file__).parent / "writer.py"
ROUNDS = 20
#: A process that has not opened the store by then never will.
PATIENCE_S = 30.0
#: How long a process may live after it has opened the store. Some are killed before their first commit.
MAX_LIFE_S = 0.25

pytestmark = pytest.mark.crash


def run_and_kill(path: Path, round_: int, life_s: float) -> list[list[str]]:
    """The batches that were acknowledged, in order."""
    command = [sys.executable, str(WRITER), str(path), str(round_)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        output = process.stdout.fileno()
        ready, _, _ = select.select([output], [], [], PATIENCE_S)
        assert ready, "the writer did not start"
        told = os.read(output, 1)
        assert told == b"\n", "the writer failed to start"
        deadline = time.monotonic() + life_s
        chunks = []
        while (left := deadline - time.monotonic()) > 0:
            if select.select([output], [], [], left)[0]:
                chunks.append(os.read(output, 1 << 16))
        process.kill()
        while chunk := os.read(output, 1 << 16):
            chunks.append(chunk)
        # The line that was being written may be cut.
        return [line.split() for line in b"".join(chunks).decode().split("\n")[:-1]]


async def read_all(store: SqliteStore, after: int) -> list[Event]:
    events: list[Event] = []
    while True:
        page = await store.read(Query(tenant=None), after=after, limit=5000)
        events += page.events
        if page.scanned_to >= page.tail:
            return events
        after = page.scanned_to


def check_log(events: list[Event], after: int, acknowledged: list[list[str]], round_: int) -> None:
    """The events that one round has added."""
    assert [event.seq for event in events] == list(range(after + 1, after + 1 + len(events)))
    place = {event.id: number for number, event in enumerate(events)}
    assert len(place) == len(events)
    for batch in acknowledged:
        first = place[batch[0]]
        assert [event.id for event in events[first : first + len(batch)]] == batch
    # One task's events stand in the order in which it published them, and whole batches were kept or none.
    of_task: dict[str, list[int]] = {}
    for event in events:
        in_round, task, number = event.id.split(".")
        assert in_round == str(round_)
        assert event.data == event.id.encode() * 20
        of_task.setdefault(task, []).append(int(number))
    assert all(numbers == list(range(len(numbers))) for numbers in of_task.values())
    assert all(
        len(of_task.get(task, ())) % size == 0 for task, size in (("3", 2), ("4", 3), ("5", 5), ("6", 20), ("7", 100))
    )


async def check_deliveries(store: SqliteStore, events: list[Event]) -> None:
    """Each event on a channel that an endpoint asked for is owed to it, once, and nothing else is owed."""
    owed: dict[int, list[tuple[str, State]]] = {}
    if not events:
        return
    before: str | None = None
    oldest = events[0].seq
    while page := await store.deliveries(DeliveryQuery(limit=5000, before_id=before)):
        for delivery in page:
            if delivery.seq >= oldest:
                owed.setdefault(delivery.seq, []).append((delivery.endpoint_id, delivery.state))
        if page[-1].seq < oldest:  # newest first, so these are of the rounds before
            break
        before = page[-1].id
    expected = {"a.1": [("ep_0", State.PENDING)], "b": [("ep_1", State.PENDING)], "c": []}
    for event in events:
        assert owed.pop(event.seq, []) == expected[event.channels[0]]
    assert owed == {}


async def check_idempotency(store: SqliteStore, acknowledged: list[list[str]], events: list[Event]) -> None:
    """A publisher that repeats what was acknowledged is answered with the first."""
    by_id = {event.id: event for event in events}
    found = await asyncio.gather(*[store.event("default", batch[-1]) for batch in acknowledged[-20:]])
    assert [event and event.cursor for event in found] == [by_id[batch[-1]].cursor for batch in acknowledged[-20:]]


@pytest.mark.timeout(180)
def test_every_acknowledged_event_is_there_once_in_order_with_what_it_owes(tmp_path: Path) -> None:
    path = tmp_path / "hookbrook.db"
    chance = random.Random()
    tail, total = 0, 0

    async def check(acknowledged: list[list[str]], round_: int) -> int:
        store = SqliteStore(path)
        await store.open()
        try:
            events = await read_all(store, tail)
            check_log(events, tail, acknowledged, round_)
            await check_deliveries(store, events)
            await check_idempotency(store, acknowledged, events)
            return tail + len(events)
        finally:
            await store.close()

    for round_ in range(ROUNDS):
        acknowledged = run_and_kill(path, round_, chance.uniform(0, MAX_LIFE_S))
        tail = asyncio.run(check(acknowledged, round_))
        total += sum(map(len, acknowledged))
    assert total > ROUNDS * 10, "the writers were killed before they had done anything"
