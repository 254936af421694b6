"""Hookbrook below a path of somebody's FastAPI application, started by that program's own lifespan, under uvicorn."""

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from standardwebhooks import Webhook
from tests.served import PATIENCE_S, Listener

from hookbrook.app import App
from hookbrook.config import load

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@dataclass(slots=True, kw_only=True)
class Host:
    """The program that we are mounted in."""

    brook: App
    server: uvicorn.Server
    http: httpx.AsyncClient

    @property
    def port(self) -> int:
        port: int = self.server.servers[0].sockets[0].getsockname()[1]
        return port

    async def listen(self, target: str, **headers: str) -> Listener:
        return await Listener.open("127.0.0.1", self.port, target, **headers)


@asynccontextmanager
async def mounted(folder: Path, at: str = "/brook", **flags: object) -> AsyncIterator[Host]:
    brook = App(load({"dev": True, "drain_s": 0, **flags}, {}, folder))

    @asynccontextmanager
    async def lifespan(_host: FastAPI) -> AsyncIterator[None]:
        async with brook.running():
            yield

    host = FastAPI(lifespan=lifespan)

    @host.get("/own")
    async def own() -> str:
        return "the host's"

    host.mount(at, brook)
    config = uvicorn.Config(host, host="127.0.0.1", port=0, log_config=None, timeout_graceful_shutdown=1, ws="none")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    async with asyncio.timeout(PATIENCE_S):
        while not server.started:
            assert not serving.done()
            await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S) as client:
        try:
            yield Host(brook=brook, server=server, http=client)
        finally:
            server.should_exit = True
            async with asyncio.timeout(PATIENCE_S):
                await serving


async def test_what_is_published_through_the_mount_is_seen_in_its_stream(tmp_path: Path) -> None:
    async with mounted(tmp_path) as host:
        assert (await host.http.get("/own")).json() == "the host's"
        listener = await host.listen("/brook/v1/channels/chat.1")
        assert listener.status == 200
        answer = await host.http.post("/brook/v1/channels/chat.1", content="hello")
        assert answer.status_code == 201
        [frame] = await listener.take(1)
        assert (frame.data, frame.last_event_id) == ("hello", answer.json()["cursor"])
        await listener.close()
        # The channel's name is what follows below the mount, and nothing of the mount's own path.
        assert [event["channels"] for event in (await host.http.get("/brook/v1/events")).json()["data"]] == [["chat.1"]]


async def test_every_location_leads_back_through_the_mount(tmp_path: Path) -> None:
    async with mounted(tmp_path) as host:
        made = [
            await host.http.post("/brook/v1/channels/a", content="1"),
            await host.http.post("/brook/v1/endpoints", json={"url": "https://example.com/hook"}),
            await host.http.post("/brook/v1/sources", json={"name": "s", "provider": "standard-webhooks"}),
            await host.http.post("/brook/v1/keys", json={"scopes": ["publish"]}),
        ]
        for answer in made:
            assert answer.status_code == 201, answer.text
            found = await host.http.get(answer.headers["location"])
            assert found.status_code == 200, f"{answer.request.url}: {answer.headers['location']}"
            assert found.json()["id"] == answer.json()["id"]


async def test_a_webhook_arrives_at_the_address_that_its_source_shows(tmp_path: Path) -> None:
    async with mounted(tmp_path) as host:
        made = await host.http.post(
            "/brook/v1/sources", json={"name": "calls", "provider": "standard-webhooks", "secrets": [SECRET]}
        )
        url = made.json()["url"]
        assert url == f"http://127.0.0.1:{host.port}/brook/in/calls"
        sent = signed("msg_1", b'{"type":"call.ended"}')
        # A provider comes by whatever name a tunnel has, below the mount too.
        answer = await host.http.post(url, content=b'{"type":"call.ended"}', headers={**sent, "host": "tunnel.example"})
        assert answer.status_code < 300, answer.text
        [event] = (await host.http.get("/brook/v1/events")).json()["data"]
        assert (event["source"], event["type"]) == ("calls", "call.ended")
        # And nowhere else.
        refused = await host.http.get("/brook/v1/events", headers={"host": "tunnel.example"})
        assert refused.status_code == 421


async def test_a_source_shows_its_address_below_the_mount_of_a_public_url_too(tmp_path: Path) -> None:
    async with mounted(tmp_path, dev=False, public_url="https://app.example") as host:
        host.http.headers["authorization"] = f"Bearer {host.brook.admin_key}"
        made = await host.http.post("/brook/v1/sources", json={"name": "calls", "provider": "standard-webhooks"})
        assert made.json()["url"] == "https://app.example/brook/in/calls"


async def test_what_is_refused_is_a_problem_and_not_the_hosts_error(tmp_path: Path) -> None:
    async with mounted(tmp_path) as host:
        for method, path, status in (
            ("POST", "/brook/v1/channels/hookbrook.ops", 422),
            ("GET", "/brook/v1/nothing", 404),
            ("DELETE", "/brook/v1/stream", 405),
            ("POST", "/brook/in/nobody", 401),
        ):
            answer = await host.http.request(method, path)
            assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), path


async def test_an_app_that_is_not_running_says_so(tmp_path: Path) -> None:
    host = FastAPI()
    host.mount("/brook", App(load({"dev": True}, {}, tmp_path)))
    transport = httpx.ASGITransport(app=host)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        answer = await client.get("/brook/v1/events")
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert "has not been started" in answer.json()["detail"]


async def test_the_hosts_end_tells_open_streams_and_closes_the_log(tmp_path: Path) -> None:
    async with mounted(tmp_path) as host:
        listener = await host.listen("/brook/v1/channels/a")
        await host.http.post("/brook/v1/channels/a", content="1")
        await listener.take(1)
    await listener.close()
    # The file is free again, and what was accepted is in it.
    async with mounted(tmp_path) as host:
        assert [event["data"] for event in (await host.http.get("/brook/v1/events")).json()["data"]] == [1]


async def test_nothing_is_missed_that_is_published_once_the_head_was_sent(tmp_path: Path) -> None:
    """Whoever was told that the stream is open may publish; a server may tell so before our `send` returns."""
    brook = App(load({"dev": True}, {}, tmp_path))
    transport = httpx.ASGITransport(app=brook)
    body = bytearray()
    seen = asyncio.Event()

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                assert (await client.post("/v1/channels/a", content="at once")).status_code == 201
        body.extend(message.get("body", b""))
        if b"at once" in body:
            seen.set()

    async def receive() -> MutableMapping[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    async with brook.running():
        opened = asyncio.create_task(brook(scope_of("/v1/channels/a"), receive, send))
        try:
            async with asyncio.timeout(5):
                await seen.wait()
        finally:
            opened.cancel()
            await asyncio.gather(opened, return_exceptions=True)


def scope_of(path: str) -> MutableMapping[str, Any]:
    headers = [(b"host", b"127.0.0.1"), (b"accept", b"text/event-stream")]
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }


def signed(message_id: str, body: bytes) -> dict[str, str]:
    from datetime import UTC, datetime

    now = datetime.now(UTC)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(SECRET).sign(message_id, now, body.decode()),
        "content-type": "application/json",
    }
