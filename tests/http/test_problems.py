"""Errors at the boundary of the doors, over a real server."""

import asyncio
import logging
from typing import TYPE_CHECKING

import pytest
from starlette.requests import ClientDisconnect

from hookbrook.errors import BadRequest, Invalid, Problem, StoreFull, TooMany
from hookbrook.http.problems import App, ClientGone, Problems, Receive, Scope, Send, problem_response

if TYPE_CHECKING:
    from tests.http.conftest import Net

GET = b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n"


def raising(error: Exception) -> App:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise error

    return Problems(app)


def test_a_problem_is_a_document_of_rfc_9457_that_no_cache_keeps() -> None:
    status, headers, body = problem_response(TooMany("Slow down.", headers={"Retry-After": "3"}, extra={"limit": 5}))
    assert status == 429
    assert headers == [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"retry-after", b"3"),
    ]
    assert body == (
        b'{"type":"urn:hookbrook:problem:too-many","title":"Too many","status":429,"detail":"Slow down.","limit":5}'
    )


async def test_what_a_door_raises_is_its_answer(net: "Net") -> None:
    response = await net.ask(await net.serve(raising(Invalid.of("channel", "is empty"))), GET)
    assert response.status == 422
    assert response.json()["errors"] == [{"field": "channel", "message": "is empty"}]


async def test_a_head_request_gets_the_head_of_the_problem_only(net: "Net") -> None:
    client = await net.connect(await net.serve(raising(BadRequest("no"))))
    for _ in range(2):
        await client.send(b"HEAD /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
        response = await client.response(to_head=True)
        assert response.status == 400
        assert int(response.header("content-length") or 0) > 0


async def test_an_unexpected_error_says_nothing_of_itself_but_is_logged(
    net: "Net", caplog: pytest.LogCaptureFixture
) -> None:
    response = await net.ask(await net.serve(raising(ValueError("password=hunter2"))), GET)
    assert response.json() == {"type": "urn:hookbrook:problem:internal", "title": "Internal error", "status": 500}
    (record,) = caplog.records
    assert record.name == "hookbrook.http"
    assert record.exc_info is not None


async def test_trouble_of_our_own_is_logged_in_one_line(net: "Net", caplog: pytest.LogCaptureFixture) -> None:
    assert (await net.ask(await net.serve(raising(StoreFull("No room."))), GET)).status == 507
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.WARNING, "GET /x: StoreFull: No room.")


async def test_a_refusal_is_not_logged_as_trouble(net: "Net", caplog: pytest.LogCaptureFixture) -> None:
    await net.ask(await net.serve(raising(BadRequest("no"))), GET)
    assert caplog.records == []


@pytest.mark.parametrize("error", [Problem("half way"), RuntimeError("half way")])
async def test_an_error_within_a_response_cuts_it_and_is_logged_once(
    net: "Net", error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise error

    client = await net.connect(await net.serve(Problems(app)))
    await client.send(GET)
    assert (await client.until_closed()).endswith(b"4\r\nhalf\r\n")
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[1] is error


async def test_a_reader_that_takes_nothing_is_cut_in_silence(net: "Net", caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        await asyncio.sleep(0.01)
        raise ClientGone("took no byte")

    client = await net.connect(await net.serve(Problems(app)))
    await client.send(GET)
    assert (await client.until_closed()).endswith(b"\r\n\r\n")
    assert caplog.records == []


@pytest.mark.parametrize("gone", [ClientGone, ClientDisconnect])
async def test_a_client_that_left_is_no_news(
    net: "Net", caplog: pytest.LogCaptureFixture, gone: type[Exception]
) -> None:
    noticed = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        noticed.set()
        raise gone

    client = await net.connect(await net.serve(Problems(app)))
    await client.send(b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nab")
    await client.close()
    async with asyncio.timeout(5):
        await noticed.wait()
    await asyncio.sleep(0)
    assert caplog.records == []


async def test_what_is_no_request_passes() -> None:
    seen = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    async def receive() -> Scope:
        raise AssertionError

    async def send(message: Scope) -> None:
        raise AssertionError

    await Problems(app)({"type": "lifespan"}, receive, send)
    assert seen == ["lifespan"]
