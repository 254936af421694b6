"""A client that cannot be served now is told so inside a stream."""

from random import Random
from typing import Any

import pytest

from hookbrook.core.sse import Parser
from hookbrook.http.busy import send_busy
from hookbrook.http.problems import Receive, Scope, Send

from .conftest import Net

RNG = Random(1)


async def full(scope: Scope, receive: Receive, send: Send) -> None:
    await send_busy(send, "connections", RNG, least_s=2.0)


@pytest.fixture
async def answer(net: Net) -> Any:
    server = await net.serve(full)
    return await net.ask(server, b"GET /v1/channels/a HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")


async def test_it_is_a_stream_that_ends_because_an_event_source_gives_up_on_anything_else(answer: Any) -> None:
    assert (answer.status, answer.header("content-type")) == (200, "text/event-stream")
    [frame] = Parser().feed(answer.body)
    assert frame.type == "hookbrook.busy"
    assert frame.data.startswith('{"reason":"connections"')


async def test_it_says_when_to_come_back(answer: Any) -> None:
    [frame] = Parser().feed(answer.body)
    assert frame.retry_ms in range(7000, 17_001)


async def test_no_cache_or_proxy_keeps_it(answer: Any) -> None:
    assert (answer.header("cache-control"), answer.header("x-accel-buffering")) == ("no-store", "no")
