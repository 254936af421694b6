"""An endpoint in trouble, as its owner meets it: through a real server, its management API and its streams."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.served import PATIENCE_S, Running, running


@pytest.fixture
async def brook(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path, allow_networks="127.0.0.0/8") as app:
        yield app


@asynccontextmanager
async def receiver(status: str) -> AsyncIterator[str]:
    """Answers everything with this status; the URL."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        server.close()


async def deliveries(brook: Running, query: str = "") -> list[Any]:
    found: list[Any] = (await brook.http.get(f"/v1/deliveries{query}")).json()["data"]
    return found


async def test_whoever_watches_operations_sees_an_endpoint_go_and_the_endpoint_says_why(brook: Running) -> None:
    watcher = await brook.listen("/v1/stream?channel=hookbrook.ops&type=hookbrook.*")
    bystander = await brook.listen("/v1/stream?channel=*")
    async with receiver("410 Gone") as url:
        made = (await brook.http.post("/v1/endpoints", json={"url": url})).json()
        await brook.publish("orders.1", b'{"paid":true}')
        frames = await watcher.take(2)
    assert [frame.type for frame in frames] == ["hookbrook.delivery.failed", "hookbrook.endpoint.disabled"]
    told = json.loads(frames[1].data)
    assert (told["endpoint_id"], told["reason"]) == (made["id"], "gone")
    seen = (await brook.http.get(f"/v1/endpoints/{made['id']}")).json()
    assert (seen["enabled"], seen["disabled_reason"]) == (False, "gone")
    assert seen["failing_since"] is not None
    await brook.publish("orders.1", b"2")
    assert await bystander.data(2) == ['{"paid":true}', "2"]
    held = await deliveries(brook, "?status=held")
    assert len(held) == 1
    async with asyncio.timeout(PATIENCE_S), receiver("204 No Content") as url:
        change = {"url": url, "enabled": True}
        enabled = (await brook.http.patch(f"/v1/endpoints/{made['id']}", json=change)).json()
        assert (enabled["disabled_reason"], enabled["failing_since"]) == (None, None)
        while {each["status"] for each in await deliveries(brook)} & {"held", "pending"}:  # noqa: ASYNC110 (a state of the server, seen over HTTP)
            await asyncio.sleep(0.01)
    states = [each["status"] for each in await deliveries(brook)]
    assert sorted(states) == ["failed", "succeeded"]
