"""Responses in one piece: the same bytes as by messages, in half the writes."""

import asyncio
import re
from typing import TYPE_CHECKING

import pytest

from hookbrook.http.answer import answer
from hookbrook.http.exchange import RESPOND
from hookbrook.http.guard import Guard
from hookbrook.http.problems import Message, Problems, Receive, Scope, Send

if TYPE_CHECKING:
    from .conftest import Net

HOST = b"Host: localhost\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
LINES = b"content-type: text/plain\r\nlocation: /v1/events/evt_1\r\n"


async def greet(scope: Scope, _receive: Receive, send: Send) -> None:
    await answer(scope, send, 201, LINES, b"hello")


async def greet_by_messages(scope: Scope, receive: Receive, send: Send) -> None:
    await greet({**scope, "extensions": {}}, receive, send)


@pytest.mark.parametrize("method", [b"GET", b"POST", b"HEAD"])
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
async def test_the_bytes_are_those_of_a_response_by_messages(net: "Net", method: bytes, version: bytes) -> None:
    request = method + b" / HTTP/" + version + b"\r\n" + HOST + b"Connection: close\r\n\r\n"
    answers = []
    for app in (greet, greet_by_messages):
        client = await net.connect(await net.serve(app))
        await client.send(request)
        # They may be of two seconds.
        answers.append(re.sub(rb"date: [^\r]+", b"date: ~", await client.read_all()))
    assert answers[0] == answers[1]
    assert answers[0].startswith(b"HTTP/1.1 201 Created\r\n")
    assert answers[0].endswith(b"\r\n\r\n" if method == b"HEAD" else b"\r\n\r\nhello")


async def test_any_other_server_gets_the_two_messages() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await answer({"type": "http"}, send, 201, LINES, b"hello")
    headers = [(b"content-type", b"text/plain"), (b"location", b"/v1/events/evt_1"), (b"content-length", b"5")]
    assert sent == [
        {"type": "http.response.start", "status": 201, "headers": headers},
        {"type": "http.response.body", "body": b"hello"},
    ]


async def test_what_the_guard_adds_for_a_page_is_not_left_out(net: "Net") -> None:
    guard = Guard(Problems(greet), allowed_hosts=["localhost"], allowed_origins=["https://app.example"])
    request = b"GET / HTTP/1.1\r\n" + HOST + b"Origin: https://app.example\r\n\r\n"
    response = await net.ask(await net.serve(guard), request)
    assert response.header("access-control-allow-origin") == "https://app.example"
    assert (response.status, response.body) == (201, b"hello")


async def test_a_client_that_does_not_read_yet_gets_all_answers_in_the_end(net: "Net") -> None:
    big = b"x" * 300_000

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        await answer(scope, send, 200, b"", big)

    client = await net.connect(await net.serve(app))
    await client.send(GET * 20)
    for _ in range(20):
        assert (await client.response()).body == big


async def test_nothing_is_sent_to_whoever_has_left(net: "Net", caplog: pytest.LogCaptureFixture) -> None:
    gone, done = asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        while (await receive())["type"] != "http.disconnect":
            pass
        gone.set()
        await answer(scope, send, 200, b"", b"too late")
        done.set()

    client = await net.connect(await net.serve(app))
    await client.send(GET)
    await asyncio.sleep(0)
    client.reset()
    async with asyncio.timeout(10):
        await gone.wait()
        await done.wait()
    assert not caplog.records


async def test_a_second_answer_is_a_fault_of_the_application(net: "Net", caplog: pytest.LogCaptureFixture) -> None:
    refused: list[bool] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        respond = scope["extensions"][RESPOND]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        refused.append(not respond(200, b"content-length: 2\r\n", b"no"))
        await send({"type": "http.response.body", "body": b"ok"})

    response = await net.ask(await net.serve(app), GET)
    assert (response.body, refused) == (b"ok", [True])
    assert not caplog.records
