"""`last=`: the events are counted, and only as long as somebody waits for them."""

import asyncio
import socket
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from tests.served import PATIENCE_S, running

from hookbrook.store.base import Page, Query
from hookbrook.store.sqlite import SqliteStore


@pytest.mark.parametrize("plain_asgi", [False, True], ids=["taken over", "plain ASGI"])
async def test_nothing_is_looked_for_any_more_once_the_client_has_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain_asgi: bool
) -> None:
    reads, begun = 0, asyncio.Event()
    read_back = SqliteStore.read_back

    async def step_by_step(store: SqliteStore, query: Query, *, before: int, limit: int, bare: bool = False) -> Page:
        """As if a page never reached further than one event."""
        nonlocal reads
        reads += 1
        begun.set()
        return replace(await read_back(store, query, before=before, limit=limit, bare=bare), scanned_to=before - 1)

    async with running(tmp_path, plain_asgi=plain_asgi) as brook:
        body = b"\n".join(b'{"channel":"a","data":%d}' % n for n in range(2000))
        await brook.http.post("/v1/events", content=body, headers={"content-type": "application/x-ndjson"})
        monkeypatch.setattr(SqliteStore, "read_back", step_by_step)
        _, writer = await asyncio.open_connection("127.0.0.1", brook.port)
        writer.write(b"GET /v1/stream?channel=b.*&last=5 HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        async with asyncio.timeout(PATIENCE_S):
            await begun.wait()
            # By a reset: one that only stops sending may still read.
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            seen = 0
            while reads > seen:
                seen = reads
                await asyncio.sleep(0.2)
        assert reads < 2000


async def test_who_stays_gets_the_last_events_and_what_comes(tmp_path: Path) -> None:
    async with running(tmp_path) as brook:
        for number in range(5):
            await brook.publish("a", str(number))
        listener = await brook.listen("/v1/channels/a?last=2")
        assert await listener.data(2) == ["3", "4"]
        await brook.publish("a", "5")
        assert await listener.data(1) == ["5"]
