"""Erasing through a whole server: what readers, the history and administrators see afterwards."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.served import PATIENCE_S, Running, running

from hookbrook.client.events import decode_event


@pytest.fixture
async def brook(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path) as app:
        yield app


async def test_an_erased_event_is_shown_as_such_wherever_it_stood(brook: Running) -> None:
    live = await brook.listen("/v1/stream?channel=chat.1")
    before = await brook.publish("chat.1", b'"secret 4242"')
    await brook.publish("chat.1", b'"kept"')
    assert await live.data(2) == ['"secret 4242"', '"kept"']
    assert (await brook.http.delete(f"/v1/events/{before['id']}/data")).status_code == 204
    late = await brook.listen("/v1/stream?channel=chat.1&last=2")
    first, second = await late.take(2)
    assert (first.type, json.loads(first.data)["id"], first.last_event_id) == (
        "hookbrook.erased",
        before["id"],
        before["cursor"],
    )
    assert second.data == '"kept"'
    whole = await brook.listen("/v1/stream?channel=chat.1&last=2&format=event")
    read = decode_event((await whole.take(1))[0].data)
    assert (read.erased, read.data, read.id) == (True, None, before["id"])
    clouds = await brook.listen("/v1/stream?channel=chat.1&last=2&format=cloudevent")
    assert json.loads((await clouds.take(1))[0].data)["hookbrookerased"] is True
    shown = (await brook.http.get(f"/v1/events/{before['id']}")).json()
    assert shown["erased"] is True
    assert "data" not in shown
    history = (await brook.http.get("/v1/channels/chat.1")).text
    assert "4242" not in history
    # What the id was used for is not forgotten.
    again = await brook.http.post("/v1/events", json={"id": before["id"], "channel": "chat.1", "data": 1})
    assert (again.status_code, again.json()["duplicate"]) == (200, True)
    assert (await brook.http.delete("/v1/events/evt_none/data")).status_code == 404


async def test_what_waited_in_line_behind_an_erased_event_goes_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hookbrook.outbound.pager.RECHECK_US", 1000)
    arrived: asyncio.Queue[bytes] = asyncio.Queue()

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(1)
        status = b"503 Unavailable" if body == b"1" else b"204 No Content"
        writer.write(b"HTTP/1.1 %b\r\nconnection: close\r\n\r\n" % status)
        writer.close()
        arrived.put_nowait(body)

    receiver = await asyncio.start_server(receive, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{receiver.sockets[0].getsockname()[1]}/"
    async with receiver, running(tmp_path, allow_networks="127.0.0.0/8") as brook:
        endpoint = {"url": url, "ordering": "all", "retry": [3600]}
        assert (await brook.http.post("/v1/endpoints", json=endpoint)).status_code == 201
        first = await brook.publish("a", b"1")
        await brook.publish("a", b"2")
        async with asyncio.timeout(PATIENCE_S):
            assert await arrived.get() == b"1"
            failed = f"/v1/deliveries?event_id={first['id']}"
            while not (await brook.http.get(failed)).json()["data"][0]["attempts"]:  # noqa: ASYNC110 - another's doing
                await asyncio.sleep(0.01)
            # Until nothing looks any more before the sweep.
            await asyncio.sleep(1.5)
            assert (await brook.http.delete(f"/v1/events/{first['id']}/data")).status_code == 204
            assert await arrived.get() == b"2"


async def test_a_tenant_goes_with_all_that_is_its_and_its_streams_end(brook: Running) -> None:
    async with brook.as_tenant("acme") as acme:
        reader = await acme.listen("/v1/stream?channel=chat.1")
        bystander = await brook.listen("/v1/stream?channel=chat.1")
        await acme.publish("chat.1", b"1")
        await acme.http.post("/v1/endpoints", json={"url": "https://example.com", "enabled": False})
        await acme.http.post("/v1/keys", json={"scopes": ["publish"]})
        strict = {"name": "paid", "tenant": "acme", "schema": {"type": "object"}, "validate": True}
        assert (await acme.http.post("/v1/types", json=strict)).status_code == 201
        await reader.data(1)
        answer = await brook.http.delete("/v1/tenants/acme")
        assert answer.status_code == 202
        ended = (await reader.take(1))[0]
        assert (ended.type, json.loads(ended.data)["reason"]) == ("hookbrook.expired", "erased")
        job = answer.json()
        async with asyncio.timeout(PATIENCE_S):
            while job["status"] == "running":
                await asyncio.sleep(0.01)
                job = (await brook.http.get(f"/v1/jobs/{job['id']}")).json()
        assert (job["kind"], job["status"], job["sent"]) == ("erase", "done", 1)
        for noun in ("events", "endpoints", "keys", "sources", "deliveries", "types"):
            assert (await acme.http.get(f"/v1/{noun}")).json()["data"] == [], noun
        late = await acme.listen("/v1/stream?channel=chat.1")
        await acme.publish("chat.1?type=paid", b"2")
        assert await late.data(1) == ["2"]
        await brook.publish("chat.1", b"3")
        assert await bystander.data(1) == ["3"]


async def test_what_would_come_back_or_lock_out_is_not_erased(tmp_path: Path) -> None:
    file = tmp_path / "hookbrook.toml"
    file.write_text('[[endpoints]]\nname = "crm"\nurl = "https://example.com"\ntenant = "acme"\n', encoding="utf-8")
    async with running(tmp_path) as brook:
        refused = await brook.http.delete("/v1/tenants/acme")
        assert refused.status_code == 409
        assert "hookbrook.toml" in refused.json()["detail"]
        assert (await brook.http.delete("/v1/tenants/a b")).status_code == 422
