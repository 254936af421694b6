"""Which door a request goes to, and what it is told that goes to none."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from starlette.applications import Starlette
from starlette.routing import Mount
from tests.served import Listener, Running, running

from hookbrook.app import App
from hookbrook.config import load
from hookbrook.http.server import Server

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def brook(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    async with running(tmp_path_factory.mktemp("doors")) as here:
        yield here


@pytest.mark.parametrize(
    ("method", "target", "accept", "status", "content_type"),
    [
        ("POST", "/v1/channels/a", "*/*", 201, "application/json"),
        ("GET", "/v1/channels/a", "*/*", 200, "application/json"),
        ("GET", "/v1/channels/a/b", "text/html, application/json", 200, "application/json"),
        ("HEAD", "/v1/channels/a", "Text/Event-Stream", 200, "text/event-stream"),
        ("HEAD", "/v1/stream?channel=a", "*/*", 200, "text/event-stream"),
        ("GET", "/v1/events", "application/x-ndjson", 200, "application/x-ndjson"),
        ("GET", "/v1/events/evt_none", "*/*", 404, "application/problem+json"),
        ("GET", "/v1/sources", "*/*", 200, "application/json"),
        ("POST", "/in/none", "*/*", 401, "application/problem+json"),
        ("GET", "/healthz", "*/*", 200, "application/json"),
        ("GET", "/openapi.json", "*/*", 200, "application/json"),
    ],
)
async def test_each_address_has_its_door(
    brook: Running, method: str, target: str, accept: str, status: int, content_type: str
) -> None:
    answer = await brook.http.request(method, target, headers={"accept": accept})
    assert (answer.status_code, answer.headers["content-type"]) == (status, content_type)


@pytest.mark.parametrize(
    ("method", "target", "allowed"),
    [
        ("PUT", "/v1/channels/a", "GET, HEAD, POST, DELETE"),
        ("PUT", "/v1/events", "GET, HEAD, POST"),
        ("POST", "/v1/stream", "GET, HEAD"),
        ("POST", "/v1/events/evt_1", "GET, HEAD"),
    ],
)
async def test_another_method_is_405_and_names_those_that_are_possible(
    brook: Running, method: str, target: str, allowed: str
) -> None:
    answer = await brook.http.request(method, target)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


@pytest.mark.parametrize(
    ("target", "allowed"),
    [
        ("/v1/stream?channel=a", "GET, HEAD, OPTIONS"),
        ("/v1/channels/a", "GET, HEAD, POST, DELETE, OPTIONS"),
        ("/v1/events", "GET, HEAD, POST, OPTIONS"),
    ],
)
async def test_options_says_what_is_possible(brook: Running, target: str, allowed: str) -> None:
    answer = await brook.http.options(target)
    assert (answer.status_code, answer.content, answer.headers["allow"]) == (204, b"", allowed)


async def test_a_page_of_a_listed_origin_may_read_a_stream_with_its_cookie_and_resume(tmp_path: Path) -> None:
    origin = "https://app.example.com"
    async with running(tmp_path, dev=False, allowed_origins=origin) as here:
        token = (await here.mint({"subscribe": ["a"]})).json()["token"]
        preflight = await here.http.options(
            "/v1/channels/a",
            headers={
                "origin": origin,
                "access-control-request-method": "GET",
                "access-control-request-headers": "last-event-id",
            },
        )
        assert preflight.status_code == 204
        assert preflight.headers["access-control-allow-origin"] == origin
        assert "last-event-id" in preflight.headers["access-control-allow-headers"]
        listener = await here.listen("/v1/channels/a", origin=origin, cookie=f"hookbrook_token={token}")
        assert listener.headers["access-control-allow-origin"] == origin
        assert listener.headers["access-control-allow-credentials"] == "true"
        # A cookie that a browser sends by itself publishes nothing for a foreign page.
        for site in ("https://evil.example.com", origin):
            headers = {"origin": site, "cookie": f"hookbrook_token={token}", "authorization": ""}
            assert (await here.http.post("/v1/channels/a", content=b"x", headers=headers)).status_code in (401, 403)


@pytest.mark.parametrize("target", ["/v1/channels/", "/v1/events/", "/v1/events/a/b/c", "/nothing", "//"])
async def test_an_address_of_nothing_is_404(brook: Running, target: str) -> None:
    answer = await brook.http.get(f"{brook.http.base_url}".rstrip("/") + target)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


async def test_the_app_runs_below_a_path_of_a_host_program(tmp_path: Path) -> None:
    """DESIGN: somebody's FastAPI may mount us; the path then begins with the host's."""
    app = App(load({"dev": True}, {}, tmp_path))
    server = Server(Starlette(routes=[Mount("/events", app=app)]), host="127.0.0.1", port=0)
    async with AsyncExitStack() as ends:
        await ends.enter_async_context(app.running())
        await server.start()
        ends.push_async_callback(server.finish, 2)
        client = await ends.enter_async_context(httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}"))
        answer = await client.post("/events/v1/channels/a", content=b"mounted")
        assert answer.status_code == 201, answer.text
        found = await client.get(answer.headers["location"])
        assert (found.status_code, found.json()["data"]) == (200, "mounted")
        assert (await client.get("/events/v1/sources")).status_code == 200
        listener = await Listener.open("127.0.0.1", server.port, "/events/v1/channels/a?last=1")
        ends.push_async_callback(listener.close)
        assert await listener.data(1) == ["mounted"]
