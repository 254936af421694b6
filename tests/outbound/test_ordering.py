"""Order where an endpoint asks for it: each waits for the one before it, and other lines go on."""

from collections import defaultdict
from pathlib import Path
from random import Random

import pytest

from hookbrook.core.delivery import Happening, State
from hookbrook.core.endpoint import Endpoint
from hookbrook.store.base import DeliveryQuery

from .conftest import Peer, Serve, until
from .rig import Post, Rig, VirtualTime, answer, rig_on


class Picky:
    """Refuses some ids so many times, and knows in which order it accepted the others."""

    def __init__(self, refusals: dict[str, int]) -> None:
        self.refusals = refusals
        self.accepted: list[str] = []

    async def __call__(self, peer: Peer) -> None:
        while True:
            request = await peer.request()
            event_id = request.header("webhook-id") or ""
            if self.refusals.get(event_id, 0) > 0:
                self.refusals[event_id] -= 1
                await peer.write(answer("500 Not Now"))
            else:
                self.accepted.append(event_id)
                await peer.write(answer("204 No Content"))


async def publish(rig: Rig, *ids: str) -> None:
    """`a1` is on the channel `a`."""
    for event_id in ids:
        await rig.publish(event_id, channels=(event_id[0],))


async def test_a_retry_holds_up_its_channel_and_no_other(tmp_path: Path, serve: Serve) -> None:
    picky = Picky({"a1": 2})
    async with rig_on(tmp_path / "a.db") as rig:
        await rig.start()
        await rig.endpoint((await serve(picky)).url, ordering="channel", retry=(5.0, 5.0, 5.0))
        await publish(rig, "a1", "b1", "a2", "b2", "a3")
        await rig.settled()
        assert picky.accepted == ["b1", "b2"]
        waiting = await rig.row("a2")
        assert (waiting.state, waiting.attempts, waiting.next_at) == (State.PENDING, 0, None)
        await rig.advance(20)
    assert picky.accepted == ["b1", "b2", "a1", "a2", "a3"]


async def test_one_line_of_all_holds_up_everything(tmp_path: Path, serve: Serve) -> None:
    picky = Picky({"a1": 1})
    async with rig_on(tmp_path / "a.db") as rig:
        await rig.start()
        await rig.endpoint((await serve(picky)).url, ordering="all", retry=(5.0,))
        await publish(rig, "a1", "b1", "a2")
        await rig.settled()
        assert picky.accepted == []
        await rig.advance(10)
    assert picky.accepted == ["a1", "b1", "a2"]


async def test_a_restart_keeps_the_order(tmp_path: Path, serve: Serve) -> None:
    picky, time = Picky({"a1": 1}), VirtualTime()
    server = await serve(picky)
    async with rig_on(tmp_path / "a.db", time=time) as rig:
        await rig.start()
        await rig.endpoint(server.url, ordering="channel", retry=(60.0,))
        await publish(rig, "a1", "a2", "b1")
        await rig.settled()
    async with rig_on(tmp_path / "a.db", time=time) as rig:
        await rig.start()
        await publish(rig, "a3")
        await rig.settled()
        assert picky.accepted == ["b1"]
        await rig.advance(100)
    assert picky.accepted == ["b1", "a1", "a2", "a3"]


async def test_a_stuck_one_can_be_skipped(tmp_path: Path, serve: Serve) -> None:
    picky = Picky({"a1": 100})
    async with rig_on(tmp_path / "a.db") as rig:
        dispatcher = await rig.start()
        await rig.endpoint((await serve(picky)).url, ordering="channel")
        await publish(rig, "a1", "a2")
        await rig.settled()
        stuck = await rig.row("a1")
        await rig.store.change(stuck.id, Happening.CANCELLED, now=rig.time.clock())
        dispatcher.poke(stuck.endpoint_id)
        dispatcher.forget(stuck.endpoint_id, stuck.id)
        await rig.settled()
    assert picky.accepted == ["a2"]


async def test_what_has_failed_for_good_lets_the_next_go(tmp_path: Path, serve: Serve) -> None:
    picky = Picky({"a1": 100})
    async with rig_on(tmp_path / "a.db") as rig:
        await rig.start()
        await rig.endpoint((await serve(picky)).url, ordering="channel", retry=())
        await publish(rig, "a1", "a2")
        await rig.settled()
        assert await rig.states() == {"a1": State.FAILED, "a2": State.SUCCEEDED}
    assert picky.accepted == ["a2"]


async def test_what_is_resent_while_a_later_one_is_under_way_waits_for_it(tmp_path: Path, serve: Serve) -> None:
    post = Post()
    async with rig_on(tmp_path / "a.db") as rig:
        dispatcher = await rig.start()
        await rig.endpoint((await serve(post)).url, ordering="channel")
        await publish(rig, "a1")
        await rig.settled()
        post.gate.clear()
        await publish(rig, "a2", "a3")
        await until(lambda: post.now == 1)
        first = await rig.row("a1")
        await rig.store.change(first.id, Happening.RESENT, now=rig.time.clock())
        dispatcher.poke(first.endpoint_id)
        # Once this arrives, the table was read.
        await publish(rig, "b1")
        await until(lambda: post.open["b1"] == 1)
        assert post.open["a1"] == 0
        post.gate.set()
        await rig.settled()
        await rig.advance(5)
    assert [event_id for event_id in post.ids if event_id != "b1"] == ["a1", "a2", "a1", "a3"]


async def test_asking_for_order_applies_to_what_waits_already(tmp_path: Path, serve: Serve) -> None:
    post = Post("500 Not Now")
    async with rig_on(tmp_path / "a.db") as rig:
        dispatcher = await rig.start()
        endpoint = await rig.endpoint((await serve(post)).url, retry=(60.0, 60.0))
        await publish(rig, "a1", "a2", "a3")
        await rig.settled()
        await rig.change(endpoint, ordering="all")
        dispatcher.poke(endpoint.id)
        post.answer = "204 No Content"
        post.requests.clear()
        await rig.advance(100)
    assert post.ids == ["a1", "a2", "a3"]


@pytest.mark.parametrize("seed", range(3))
async def test_through_failures_restarts_and_pauses_each_channel_arrives_in_order(
    tmp_path: Path, serve: Serve, seed: int
) -> None:
    rng, time = Random(seed), VirtualTime()
    ids = [f"{channel}{number}" for number in range(15) for channel in "abcd"]
    picky = Picky({event_id: rng.choice([0, 0, 0, 1, 2]) for event_id in ids})
    server = await serve(picky)
    left = list(ids)
    endpoint: Endpoint | None = None
    for _ in range(4):
        async with rig_on(tmp_path / "a.db", time=time) as rig:
            await rig.start()
            if endpoint is None:
                endpoint = await rig.endpoint(server.url, ordering="channel", retry=(3.0,) * 5, concurrency=3)
            for _ in range(3):
                some, left = left[:5], left[5:]
                await publish(rig, *some)
                if rng.random() < 0.5:
                    endpoint = await rig.change(endpoint, enabled=not endpoint.enabled)
                await rig.advance(rng.choice([0.0, 1.0, 4.0]))
    async with rig_on(tmp_path / "a.db", time=time) as rig:
        await rig.start()
        assert endpoint is not None
        if not endpoint.enabled:
            await rig.change(endpoint, enabled=True)
        await rig.advance(300)
        done = await rig.store.deliveries(DeliveryQuery(states=(State.SUCCEEDED,), limit=1000))
    arrived: dict[str, list[str]] = defaultdict(list)
    for event_id in dict.fromkeys(picky.accepted):
        arrived[event_id[0]].append(event_id)
    assert len(done) == len(ids)
    assert dict(arrived) == {channel: [each for each in ids if each[0] == channel] for channel in "abcd"}
