"""The composition root: in a host program, and as a process that a signal ends in order."""

import asyncio
import json
import signal
import socket
import time
from collections.abc import AsyncIterator, MutableMapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.served import PATIENCE_S, Listener, Served, running

from hookbrook.app import App
from hookbrook.config import load
from hookbrook.errors import ConfigError
from hookbrook.http.server import Server


@pytest.fixture
async def receiver() -> AsyncIterator[tuple[str, list[bytes]]]:
    """Takes webhooks; its URL and the bodies that came."""
    bodies: list[bytes] = []

    async def take(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        bodies.append(message["body"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    server = Server(take, host="127.0.0.1", port=0)
    await server.start()
    yield f"http://127.0.0.1:{server.port}/hook", bodies
    await server.finish(1)


async def until(condition: Any) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - what is waited for belongs to other code and has no event
            await asyncio.sleep(0.01)


async def test_the_whole_path_runs_in_one_process(tmp_path: Path, receiver: tuple[str, list[bytes]]) -> None:
    url, bodies = receiver
    async with running(tmp_path, allow_networks="127.0.0.0/8") as brook:
        made = await brook.http.post("/v1/endpoints", json={"url": url, "channels": ["orders.*"]})
        assert made.status_code == 201, made.text
        listener = await brook.listen("/v1/channels/orders.*")
        raw = b'{"amount": 1E400,\r\n "a": 1, "a": 2}'
        await brook.publish("orders.1", raw, **{"content-type": "application/json"})
        [frame] = await listener.take(1)
        assert frame.data == raw.replace(b"\r\n", b"  ").decode()
        await until(lambda: bodies)
        assert bodies == [raw]
        numbers = (await brook.http.get("/metrics")).text
        assert "hookbrook_events_total 1.0" in numbers
        assert "hookbrook_streams_open 1.0" in numbers


async def test_what_is_owed_is_delivered_after_a_restart(tmp_path: Path, receiver: tuple[str, list[bytes]]) -> None:
    url, bodies = receiver
    async with running(tmp_path, allow_networks="127.0.0.0/8") as brook:
        made = (await brook.http.post("/v1/endpoints", json={"url": url, "enabled": False})).json()
        await brook.publish("a", b"kept")
        assert bodies == []
    async with running(tmp_path, allow_networks="127.0.0.0/8") as brook:
        assert (await brook.http.patch(f"/v1/endpoints/{made['id']}", json={"enabled": True})).status_code == 200
        await until(lambda: bodies)
        assert bodies == [b"kept"]


async def test_two_apps_live_in_one_process_and_share_nothing(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    async with running(tmp_path / "one") as one, running(tmp_path / "two") as two:
        await one.publish("a", b"1")
        assert len((await one.http.get("/v1/events")).json()["data"]) == 1
        assert (await two.http.get("/v1/events")).json()["data"] == []
        token = (await one.mint({"subscribe": ["*"]})).json()["token"]
        answer = await two.http.get("/v1/events", headers={"authorization": f"Bearer {token}"})
        assert answer.status_code == 401


async def test_an_app_can_be_started_again_after_it_was_stopped(tmp_path: Path) -> None:
    app = App(load({"dev": True}, {}, tmp_path))
    for _ in range(2):
        async with app.running():
            assert await status_of(app, "/readyz") == 200
        assert await status_of(app, "/readyz") == 503


async def test_a_start_that_fails_leaves_nothing_open(tmp_path: Path) -> None:
    settings = load({"dev": True}, {}, tmp_path)
    bad = load({"dev": True, "config": "bad.toml"}, {}, with_file(tmp_path, "bad.toml", _UNKNOWN_PROVIDER))
    with pytest.raises(ConfigError) as caught:
        await App(bad).start()
    assert "sources[0].provider" in str(caught.value)
    # The file is free again.
    async with App(settings).running():
        pass


_UNKNOWN_PROVIDER = '[[sources]]\nname = "x"\nprovider = "nobody"\n'


def with_file(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder


async def status_of(app: App, path: str) -> int:
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
    }
    scope |= {"headers": [(b"host", b"localhost")], "http_version": "1.1", "scheme": "http", "client": None}
    await app(scope, receive, send)
    status: int = sent[0]["status"]
    return status


async def test_the_lifespan_protocol_starts_and_stops_and_tells_a_failure(tmp_path: Path) -> None:
    async def live(app: App) -> list[str]:
        said: list[str] = []
        events = iter(["lifespan.startup", "lifespan.shutdown"])

        async def receive() -> MutableMapping[str, Any]:
            return {"type": next(events)}

        async def send(message: MutableMapping[str, Any]) -> None:
            said.append(message["type"] + ":" + str(message.get("message", "")))

        await app({"type": "lifespan"}, receive, send)
        return said

    settings = load({"dev": True}, {}, tmp_path)
    assert await live(App(settings)) == ["lifespan.startup.complete:", "lifespan.shutdown.complete:"]
    async with App(settings).running():
        [said] = await live(App(settings))
    assert said.startswith("lifespan.startup.failed:store: ")
    assert "in use by another Hookbrook" in said


async def test_readiness_ends_when_the_app_drains_and_health_does_not(tmp_path: Path) -> None:
    async with running(tmp_path) as brook:
        assert (await brook.http.get("/readyz")).status_code == 200
        await brook.app.drain(0)
        assert (await brook.http.get("/readyz")).status_code == 503
        assert (await brook.http.get("/healthz")).status_code == 200


# As a process


async def test_a_signal_ends_the_process_in_order(tmp_path: Path) -> None:
    with Served(tmp_path, "--dev") as served:
        idle = await asyncio.open_connection("127.0.0.1", served.port)
        listeners = [await Listener.open("127.0.0.1", served.port, "/v1/channels/a") for _ in range(5)]
        slow = await asyncio.open_connection("127.0.0.1", served.port)
        slow[1].write(b"POST /v1/channels/a HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 4\r\n\r\nla")
        async with httpx.AsyncClient(base_url=served.url) as client:
            assert (await client.post("/v1/channels/a", content=b"first")).status_code == 201
        assert served.process is not None
        served.process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        for listener in listeners:
            frames = await listener.rest()
            assert [frame.type for frame in frames] == ["message", "hookbrook.drain"]
            assert (frames[1].retry_ms or 0) >= 1000
        # What had begun is finished, and acknowledged only because it is kept.
        slow[1].write(b"te")
        answer = await asyncio.wait_for(slow[0].read(), PATIENCE_S)
        assert b" 201 " in answer
        assert b"connection: close" in answer
        assert await asyncio.to_thread(served.process.wait, PATIENCE_S) == 0
        # Far below the ten seconds of drain_s: nothing is waited for that nobody needs.
        assert time.monotonic() - started < 8
        for writer in (idle[1], slow[1], *(listener.writer for listener in listeners)):
            writer.close()
        served.start()
        listener = await Listener.open("127.0.0.1", served.port, "/v1/channels/a?last=2")
        assert [frame.data for frame in await listener.take(2)] == ["first", "late"]
        await listener.close()


@pytest.mark.parametrize(("drain_s", "signals", "code", "within_s"), [(1, 1, 0, 8), (60, 2, 143, 8)])
async def test_who_never_finishes_holds_up_the_end_for_drain_s_and_a_second_signal_not_at_all(
    tmp_path: Path, drain_s: int, signals: int, code: int, within_s: float
) -> None:
    with Served(tmp_path, "--dev", "--drain-s", str(drain_s)) as served:
        client = socket.create_connection(("127.0.0.1", served.port))
        client.sendall(b"POST /v1/channels/a HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 4\r\n\r\nla")
        async with httpx.AsyncClient(base_url=served.url) as http:
            # By the time that this is answered, the request before it has been taken up.
            assert (await http.post("/v1/channels/a", content=b"x")).status_code == 201
        assert served.process is not None
        started = time.monotonic()
        served.process.send_signal(signal.SIGTERM)
        await until(lambda: "stopping:" in served.log)
        if signals == 2:
            served.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(served.process.wait, PATIENCE_S) == code
        assert time.monotonic() - started < within_s
        client.close()


async def test_readers_that_stand_still_do_not_fill_the_memory(tmp_path: Path) -> None:
    """Twenty readers that read nothing while 50 MB are published."""
    with Served(tmp_path, "--dev") as served:
        stalled = []
        for _ in range(20):
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", served.port))
            client.sendall(b"GET /v1/stream?channel=big HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
            stalled.append(client)
        before = served.resident_bytes()
        async with httpx.AsyncClient(base_url=served.url, timeout=PATIENCE_S) as http:
            for number in range(100):
                body = json.dumps({"n": number, "x": "x" * 500_000})
                assert (await http.post("/v1/channels/big", content=body)).status_code == 201
            # Event and frame of the feed's tail, and the database's cache; not twenty times fifty.
            assert served.resident_bytes() - before < 300 * 2**20
            numbers = (await http.get("/metrics")).text
            assert "hookbrook_streams_open 20.0" in numbers
        # One of them begins to read, and has missed nothing.
        listener = Listener(*await asyncio.open_connection(sock=stalled.pop(0)))
        async with asyncio.timeout(PATIENCE_S):
            await listener.reader.readuntil(b"\r\n\r\n")
        assert [json.loads(text)["n"] for text in await listener.data(100)] == list(range(100))
        await listener.close()
        for client in stalled:
            client.close()
        assert served.end() == 0
