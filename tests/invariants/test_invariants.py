"""What must hold whatever happens, tried over the whole path: real processes, real sockets.

Most of DESIGN's invariants are attacked where they are made: durability in `crash/`, order and gaps in
`stream/test_reader.py` and `conformance/test_log.py`, deliveries in `outbound/test_dispatcher.py`, addresses in
`core/test_addresses.py` and `outbound/test_fetch.py`, hosts and origins in `http/test_guard.py`. Here is what only
shows when everything runs together.
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.served import PATIENCE_S, Listener, Served, running

from hookbrook.http.server import Server

URL_SECRET, HEADER_SECRET, BEARER = "in-the-url-9134", "in-a-header-5577", "what-a-provider-shows-2718"
SIGNING = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
async def receiver() -> AsyncIterator[tuple[str, dict[str, set[str]]]]:
    """Takes webhooks; its URL without the path, and the bodies by path."""
    bodies: dict[str, set[str]] = defaultdict(set)

    async def take(scope: Any, receive: Any, send: Any) -> None:
        bodies[scope["path"]].add((await receive())["body"].decode())
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    server = Server(take, host="127.0.0.1", port=0)
    await server.start()
    yield f"http://127.0.0.1:{server.port}", bodies
    await server.finish(1)


async def test_no_event_misses_an_endpoint_that_was_acknowledged_before(
    tmp_path: Path, receiver: tuple[str, dict[str, set[str]]]
) -> None:
    """Invariant 2, with publishers at full speed on the routes that change meanwhile."""
    url, bodies = receiver
    async with running(tmp_path, allow_networks="127.0.0.0/8") as brook:
        busy = True

        async def publish_on() -> None:
            while busy:
                await brook.publish("noise")

        noise = [asyncio.create_task(publish_on()) for _ in range(4)]
        for number in range(30):
            made = await brook.http.post("/v1/endpoints", json={"url": f"{url}/{number}", "channels": ["told"]})
            assert made.status_code == 201, made.text
            await brook.publish("told", str(number))
        busy = False
        await asyncio.gather(*noise)
        wanted = {f"/{number}": {str(later) for later in range(number, 30)} for number in range(30)}
        async with asyncio.timeout(PATIENCE_S):
            while any(bodies[path] != told for path, told in wanted.items()):  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0.02)


async def test_what_one_tenant_has_no_other_one_reaches(tmp_path: Path) -> None:
    async with running(tmp_path, dev=False) as brook:
        keys = {}
        for tenant in ("acme", "beta"):
            for scope in ("publish", "subscribe"):
                made = await brook.http.post("/v1/keys", json={"scopes": [scope], "tenant": tenant})
                keys[tenant, scope] = {"authorization": f"Bearer {made.json()['key']}"}

        async def ask(tenant: str, scope: str, method: str, target: str, **more: Any) -> httpx.Response:
            return await brook.http.request(method, target, headers=keys[tenant, scope], **more)

        mine = (await ask("acme", "publish", "POST", "/v1/channels/a", content="acme's")).json()
        # The same id and the same channel are another event of another tenant.
        theirs = await ask("beta", "publish", "POST", "/v1/events", json={"channel": "a", "data": 2, "id": mine["id"]})
        assert theirs.status_code == 201
        assert (await ask("beta", "subscribe", "GET", f"/v1/events/{mine['id']}")).json()["data"] == 2
        for target in ("/v1/events", "/v1/channels/a", f"/v1/events?after={mine['cursor']}", "/v1/events?channel=*"):
            found = (await ask("beta", "subscribe", "GET", target)).json()["data"]
            assert [event["data"] for event in found] == [2], target
        for target in (
            "/v1/events?tenant=acme",
            f"/v1/events/{mine['id']}?t%65nant=acme",
            "/v1/stream?channel=a&tenant=acme",
        ):
            assert (await ask("beta", "subscribe", "GET", target)).status_code == 403, target
        assert (await ask("beta", "publish", "POST", "/v1/channels/a?tenant=acme", content="x")).status_code == 403
        wish = {"subscribe": ["a"], "tenant": "acme"}
        assert (await ask("beta", "subscribe", "POST", "/v1/tokens", json=wish)).status_code == 403
        for target in ("/v1/deliveries", "/v1/sources", "/v1/endpoints", "/v1/keys"):
            assert (await ask("beta", "subscribe", "GET", target)).status_code == 403, target
        listener = await Listener.open(
            "127.0.0.1", brook.port, "/v1/stream?channel=a&last=10&control=1", **keys["beta", "subscribe"]
        )
        told = await listener.take(2)
        assert [frame.data for frame in told if frame.type == "message"] == ["2"]
        await ask("acme", "publish", "POST", "/v1/channels/a", content="still acme's")
        await ask("beta", "publish", "POST", "/v1/channels/a", content="beta's")
        assert await listener.data(1) == ["beta's"]
        await listener.close()


@pytest.mark.parametrize("template", ["{body.a}", "hookbrook{body.b}", "{body.c}{body.b}", "h{body.d}"])
async def test_no_body_of_a_provider_makes_a_name_of_ours(tmp_path: Path, template: str) -> None:
    async with running(tmp_path) as brook:
        source = {"name": "s", "provider": "bearer", "secrets": [BEARER], "channel": template, "type": template}
        assert (await brook.http.post("/v1/sources", json=source)).status_code == 201
        body = {"a": "hookbrook.ops", "b": ".ops", "c": "hookbrook", "d": "ookbrook.ops"}
        taken = await brook.http.post("/in/s", json=body, headers={"authorization": f"Bearer {BEARER}"})
        assert taken.status_code == 200, taken.text
        [event] = (await brook.http.get("/v1/events")).json()["data"]
        assert not event["channels"][0].startswith("hookbrook.")
        assert not event["type"].startswith("hookbrook.")
        assert (await brook.http.get("/v1/events?channel=hookbrook.*")).json()["data"] == []


def test_no_secret_reaches_the_log_an_error_or_the_metrics(tmp_path: Path) -> None:
    """Invariant 10, with every kind of secret used once rightly and once wrongly."""
    with Served(tmp_path, "--log-level", "debug", "--allow-networks", "127.0.0.0/8") as served:
        admin = (tmp_path / "hookbrook-admin.key").read_text().strip()
        answers = []
        with httpx.Client(base_url=served.url, headers={"authorization": f"Bearer {admin}"}) as known:
            made = known.post("/v1/keys", json={"scopes": ["publish"]}).json()["key"]
            token = known.post("/v1/tokens", json={"subscribe": ["a"]}).json()["token"]
            source = {"name": "s", "provider": "bearer", "secrets": [BEARER]}
            endpoint = {
                "url": f"http://127.0.0.1:9/hook?key={URL_SECRET}",
                "headers": {"authorization": HEADER_SECRET},
                "secret": SIGNING,
            }
            assert known.post("/v1/sources", json=source).status_code == 201
            assert known.post("/v1/endpoints", json=endpoint).status_code == 201
            answers += [known.get("/v1/sources"), known.post("/v1/sources", json=source)]
            answers += [known.post("/v1/endpoints", json={**endpoint, "headers": {"host": HEADER_SECRET}})]
            answers += [known.post("/v1/endpoints", json={**endpoint, "url": 7}), known.get("/v1/deliveries")]
        with httpx.Client(base_url=served.url) as stranger:
            bearer = {"authorization": f"Bearer {BEARER}"}
            answers += [stranger.post("/in/s", json={}, headers=bearer), stranger.post("/in/none", headers=bearer)]
            answers += [stranger.get(f"/v1/channels/a?token={token}"), stranger.get(f"/v1/channels/b?t%6fken={token}")]
            answers += [stranger.get(f"/v1/events?{token}"), stranger.get(f"/v1/events?token={made}")]
            answers += [stranger.get("/v1/events", headers={"authorization": f"Bearer {made}x"})]
            answers += [stranger.get("/v1/events", headers={"cookie": f"hookbrook_token={made}"})]
            answers += [stranger.get(f"/v1/events?after={token}", headers={"authorization": f"Bearer {made}"})]
            answers += [stranger.get("/metrics"), stranger.get("/readyz")]
        served.end()
        log = served.log
    assert "POST /in/s" in log
    told = log + json.dumps([answer.text for answer in answers])
    for secret in (
        admin,
        made,
        token,
        token.split(".")[2],
        BEARER,
        HEADER_SECRET,
        SIGNING,
        SIGNING.removeprefix("whsec_"),
    ):
        assert secret not in told, secret
    assert URL_SECRET not in log


async def test_a_page_elsewhere_gets_in_by_no_method_and_no_path_but_where_webhooks_arrive(tmp_path: Path) -> None:
    """Invariant 11, on every route that the document names."""
    async with running(tmp_path) as brook:
        paths = (await brook.http.get("/openapi.json")).json()["paths"]
        assert len(paths) > 10
        for path, operations in paths.items():
            target = path.replace("{", "").replace("}", "")
            for method in {"get", "post", "patch", "delete"} & operations.keys():
                if path.startswith("/in/"):
                    continue
                answer = await brook.http.request(method, target, headers={"host": "evil.example"})
                assert answer.status_code == 421, (method, path)
                if method != "get":
                    for foreign in (
                        {"origin": "http://evil.example"},
                        {"origin": "null"},
                        {"origin": f"http://127.0.0.1:{brook.port + 1}"},
                        {"sec-fetch-site": "cross-site"},
                    ):
                        answer = await brook.http.request(method, target, headers=foreign, content=b"{}")
                        assert answer.status_code == 403, (method, path, foreign)
        assert (await brook.http.get("/v1/events")).json()["data"] == []
