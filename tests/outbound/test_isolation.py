"""A few nasty receivers among many good ones; benchmarks/isolation.py measures the same at its full size."""

import asyncio
import resource
from pathlib import Path

from hookbrook.core.delivery import State

from .conftest import Peer, Serve, until
from .rig import Post, rig_on

GOOD = 24
EVENTS = 40
CONCURRENCY = 5
#: What one endless answer of a second would take on loopback, many times over, if it were kept.
GROWTH_BYTES = 64 << 20


async def hang(peer: Peer) -> None:
    await peer.request()
    await peer.reader.read()


async def reset(peer: Peer) -> None:
    await peer.request()
    peer.reset()


async def drip(peer: Peer) -> None:
    await peer.request()
    await peer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
    while True:
        await peer.write(b"x")
        await asyncio.sleep(0.5)


async def endless(peer: Peer) -> None:
    await peer.request()
    await peer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        await peer.write(bytes(65536))


async def test_receivers_that_hang_reset_drip_or_never_end_harm_nobody_else(tmp_path: Path, serve: Serve) -> None:
    posts = [Post() for _ in range(GOOD)]
    async with rig_on(tmp_path / "a.db") as rig:
        dispatcher = await rig.start()
        for post in posts:
            await rig.endpoint((await serve(post)).url, concurrency=CONCURRENCY)
        nasty = [
            await rig.endpoint((await serve(handler)).url, concurrency=CONCURRENCY)
            for handler in (hang, reset, drip, endless)
        ]
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        ids = [f"evt_{number:03}" for number in range(EVENTS)]
        for event_id in ids:
            await rig.publish(event_id)
        # No time passes: whatever waits for a time-out of the nasty ones would wait for ever.
        await until(lambda: all(len(post.ids) >= EVENTS for post in posts), 20)
        assert all(sorted(post.ids) == ids for post in posts)
        await until(lambda: dispatcher.stats().in_flight == 2 * CONCURRENCY, 20)
        held, _, dripping, _ = [await rig.rows(endpoint_id=endpoint.id) for endpoint in nasty]
        assert {row.state for row in (*held, *dripping)} == {State.PENDING}
        assert {row.attempts for row in (*held, *dripping)} == {0}
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        assert grown < GROWTH_BYTES
