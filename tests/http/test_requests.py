"""The stream of a source: what arrived there, as it arrived."""

import asyncio
import json
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from tests.inbound.documented import b64mac
from tests.served import PATIENCE_S, Running, running

from hookbrook.core.received import MAX_INLINE_BODY, Webhook, from_wire

pytestmark = pytest.mark.asyncio(loop_scope="module")
NUMBERS = count()
#: What parsing and writing anew would change.
BODY = b'{\r\n "type": "paid",\n "n": 1E400, "n": 2}\r\n'


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    async with running(tmp_path_factory.mktemp("requests")) as here:
        yield here


async def made(house: Running, **fields: Any) -> str:
    name = f"source{next(NUMBERS)}"
    answer = await house.http.post("/v1/sources", json={"name": name, "provider": "none", **fields})
    assert answer.status_code == 201, answer.text
    return name


async def arrives(house: Running, name: str, body: bytes = BODY, **more: Any) -> Any:
    answer = await house.http.post(f"/in/{name}", content=body, **more)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def webhooks(house: Running, name: str, count: int, query: str = "last=100") -> list[Webhook]:
    listener = await house.listen(f"/v1/sources/{name}/requests?{query}")
    assert listener.status == 200
    return [from_wire(data) for data in await listener.data(count)]


async def test_a_request_comes_live_and_later_with_its_bytes_and_headers_as_they_were(house: Running) -> None:
    name = await made(house, channel="orders.{body.type}")
    listener = await house.listen(f"/v1/sources/{name}/requests")
    headers = [("x-signature", "one"), ("content-type", "application/json"), ("x-signature", "two")]
    await arrives(house, f"{name}?a=1&b=%20", headers=headers)
    live = from_wire((await listener.data(1))[0])
    [later] = await webhooks(house, name, 1)
    assert live == later
    assert (live.raw, live.type, live.channels, live.source) == (BODY, "paid", ("orders.paid",), name)
    assert [pair for pair in live.request.headers if pair in headers] == headers
    assert (live.request.query, live.request.provider) == ("a=1&b=%20", "none")


async def test_only_what_arrived_at_the_source_is_in_its_stream(house: Running) -> None:
    one, other = await made(house, channel="same"), await made(house, channel="same")
    for name in (one, other, one):
        await arrives(house, name, b'{"of": "%b", "n": %d}' % (name.encode(), next(NUMBERS)))
    await house.publish("same", b"published")
    ours = await webhooks(house, one, 2)
    assert [json.loads(each.raw or b"")["of"] for each in ours] == [one, one]
    [third] = await webhooks(house, other, 1, "since=1h")
    assert third.source == other


async def test_types_choose_and_a_cursor_continues(house: Running) -> None:
    name = await made(house)
    for kind in ("invoice.paid", "invoice.sent", "charge.made"):
        await arrives(house, name, b'{"type": "%b"}' % kind.encode())
    first, second = await webhooks(house, name, 2, "last=9&type=invoice.*")
    assert (first.type, second.type) == ("invoice.paid", "invoice.sent")
    [after] = await webhooks(house, name, 1, f"after={second.cursor}")
    assert after.type == "charge.made"


async def test_a_foreign_cursor_is_told_as_a_gap(house: Running) -> None:
    name = await made(house)
    listener = await house.listen(f"/v1/sources/{name}/requests?after=zzzz-5")
    [frame] = await listener.take(1)
    assert frame.type == "hookbrook.reset"


async def test_what_failed_verification_comes_only_when_asked_for(house: Running) -> None:
    name = await made(house, provider="github", secrets=["s"], enforce=False)
    await arrives(house, name)
    [webhook] = await webhooks(house, name, 1, "last=9&unverified=1")
    assert (webhook.request.verified, webhook.request.reason) == (False, "missing_signature")
    listener = await house.listen(f"/v1/sources/{name}/requests?last=9&control=1")
    assert [frame.type for frame in await listener.take(1)] == ["hookbrook.live"]


async def test_a_large_body_is_asked_for_by_itself(house: Running) -> None:
    name = await made(house)
    body = b"\xff" * (MAX_INLINE_BODY + 1)
    event = await arrives(house, name, body)
    [webhook] = await webhooks(house, name, 1)
    assert (webhook.raw, webhook.size) == (None, len(body))
    answer = await house.http.get(f"/v1/sources/{name}/requests/{event['id']}/body")
    assert answer.content == body
    assert answer.headers["content-type"] == "application/octet-stream"


async def test_of_a_request_with_several_events_the_first_has_the_whole_body(house: Running) -> None:
    name = await made(house, provider="line", secrets=["s"], enforce=False)
    # Signed after LINE's documentation; tests/inbound judges that.
    body = b'{"destination": "U1", "events": [ {"type": "a", "webhookEventId": "1"},\n{"type": "b"} ]}'
    events = await arrives(house, name, body, headers={"x-line-signature": b64mac("s", body.decode())})
    first, second = await webhooks(house, name, 2)
    assert (first.raw, second.raw) == (body, b'{"type": "b"}')
    assert [each["id"] for each in events] == [first.id, second.id]
    for event in events:
        one = await house.http.get(f"/v1/sources/{name}/requests/{event['id']}")
        assert from_wire(one.content) in (first, second)


async def test_one_request_is_found_by_its_id_and_only_at_its_source(house: Running) -> None:
    name, other = await made(house), await made(house)
    event = await arrives(house, name)
    one = await house.http.get(f"/v1/sources/{name}/requests/{event['id']}")
    assert from_wire(one.content).raw == BODY
    for path in (f"{other}/requests/{event['id']}", f"{name}/requests/evt_none", f"{name}/requests/evt_none/body"):
        assert (await house.http.get(f"/v1/sources/{path}")).status_code == 404
    for path in ("nowhere/requests", f"{name}/requests/{event['id']}/other"):
        assert (await house.http.get(f"/v1/sources/{path}")).status_code == 404
    assert (await house.http.post(f"/v1/sources/{name}/requests")).status_code == 405


async def test_the_scope_ingest_is_needed_and_enough_and_ends_at_the_tenant(tmp_path: Path) -> None:
    async with running(tmp_path, dev=False) as here:
        for name, tenant in (("ours", "default"), ("theirs", "two")):
            source = {"name": name, "provider": "none", "tenant": tenant}
            assert (await here.http.post("/v1/sources", json=source)).status_code == 201
        event = await arrives(here, "ours")
        token = (await here.mint({"subscribe": ["*"]})).json()["token"]
        statuses = {}
        for scope in ("publish", "subscribe", "ingest"):
            made_key = await here.http.post("/v1/keys", json={"scopes": [scope]})
            statuses[scope] = await status(here, made_key.json()["key"], f"ours/requests/{event['id']}")
            statuses[scope + " of another"] = await status(here, made_key.json()["key"], "theirs/requests")
        assert statuses == {
            "publish": 403, "publish of another": 403, "subscribe": 403, "subscribe of another": 403,
            "ingest": 200, "ingest of another": 404,
        }  # fmt: skip
        assert await status(here, token, "ours/requests") == 403
        assert await status(here, "", "ours/requests") == 401
        listener = await here.listen("/v1/sources/theirs/requests", authorization=here.http.headers["authorization"])
        await arrives(here, "theirs")
        assert from_wire((await listener.data(1))[0]).source == "theirs"


async def status(here: Running, credential: str, path: str) -> int:
    headers = {"authorization": f"Bearer {credential}"} if credential else {}
    async with (
        asyncio.timeout(PATIENCE_S),
        httpx.AsyncClient(base_url=here.http.base_url, headers=headers) as client,
        client.stream("GET", f"/v1/sources/{path}") as answer,
    ):
        return answer.status_code
