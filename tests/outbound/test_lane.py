"""First attempts before retries: neither a flood of the one nor of the other keeps the other kind from its turn."""

import asyncio
from pathlib import Path

from .conftest import Arrived, Peer, Serve, until
from .rig import Rig, VirtualTime, answer, rig_on

MANY = 300


class Stuck:
    """Refuses the first attempt at every event whose id begins with `old`, and hangs at its retry, and at `slow`."""

    def __init__(self) -> None:
        self.requests: list[Arrived] = []
        self.gate = asyncio.Event()
        self.hanging = 0

    @property
    def ids(self) -> list[str]:
        return [request.header("webhook-id") or "" for request in self.requests]

    async def __call__(self, peer: Peer) -> None:
        while True:
            request = await peer.request()
            event_id = request.header("webhook-id") or ""
            again = event_id in self.ids
            self.requests.append(request)
            if event_id.startswith("old") and not again:
                await peer.write(answer("500 Oh No"))
            elif not event_id.startswith(("old", "slow")):
                await peer.write(answer("204 No Content"))
            else:
                self.hanging += 1
                await self.gate.wait()
                self.hanging -= 1
                await peer.write(answer("204 No Content"))


async def publish_old(rig: Rig, count: int) -> None:
    """Events that are refused, each with one that is not, so that the receiver never seems to be down."""
    await rig.publish(*(f"{kind}_{number:03}" for number in range(count) for kind in ("old", "well")))
    await rig.settled()


async def test_a_flood_of_retries_that_hang_delays_no_fresh_event(tmp_path: Path, serve: Serve) -> None:
    stuck = Stuck()
    async with rig_on(tmp_path / "a.db") as rig:
        await rig.start()
        await rig.endpoint((await serve(stuck)).url, concurrency=4, retry=(60.0,))
        await publish_old(rig, MANY)
        rig.time.move(80)
        await until(lambda: stuck.hanging == 2)
        for number in range(10):
            await rig.publish(f"fresh_{number}")
            await until(lambda number=number: stuck.ids[-1] == f"fresh_{number}")  # type: ignore[misc]
        assert stuck.hanging == 2, "retries leave half of the slots alone"
        stuck.gate.set()
        await rig.settled()
        await rig.advance(5)
    assert len(stuck.requests) == 3 * MANY + 10


async def test_after_a_restart_fresh_events_go_first_however_many_retries_are_due(tmp_path: Path, serve: Serve) -> None:
    stuck = Stuck()
    receiver = await serve(stuck)
    time = VirtualTime()
    async with rig_on(tmp_path / "a.db", time=time) as rig:
        await rig.start()
        await rig.endpoint(receiver.url, concurrency=4, retry=(60.0,))
        await publish_old(rig, MANY)
        assert rig.dispatcher is not None
        await rig.dispatcher.stop(1)
        time.move(3600)
        await rig.publish("fresh_1", "fresh_2", "fresh_3")
    before = len(stuck.requests)
    async with rig_on(tmp_path / "a.db", time=time) as rig:
        await rig.start()
        time.move(0.1)
        await until(lambda: {"fresh_1", "fresh_2", "fresh_3"} <= set(stuck.ids[before:]))
        assert stuck.hanging <= 2
        stuck.gate.set()
        await rig.settled()
        await rig.advance(5)
    assert len(stuck.requests) == 3 * MANY + 3


async def test_a_flood_of_fresh_events_does_not_starve_a_retry(tmp_path: Path, serve: Serve) -> None:
    stuck = Stuck()
    async with rig_on(tmp_path / "a.db") as rig:
        dispatcher = await rig.start()
        await rig.endpoint((await serve(stuck)).url, concurrency=1, retry=(60.0,))
        await rig.publish("old_1", "old_2")
        await rig.settled()
        await rig.publish("slow")
        await until(lambda: stuck.hanging == 1)
        await rig.publish(*(f"fresh_{number:03}" for number in range(200)))
        rig.time.move(80)
        await until(lambda: dispatcher.stats().queued == 202)
        stuck.gate.set()
        await rig.settled()
    assert len(stuck.requests) == 205
    # After `slow`, three first attempts, a retry, and so on.
    assert [event_id[:3] for event_id in stuck.ids[2:12]] == ["slo", *["fre"] * 3, "old", *["fre"] * 3, "old", "fre"]
