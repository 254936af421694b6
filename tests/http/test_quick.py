"""Streams on the short way: opened without a task, and nobody can tell the difference."""

import asyncio
import gc
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from tests.served import PATIENCE_S, Listener, Running, running

from hookbrook.http.exchange import Exchange
from hookbrook.http.protocol import Protocol

#: What differs between two answers, whichever way they come.
_OWN = re.compile(r"date: [^\r]*|retry: [0-9]+|[0-9a-z]+-[0-9]+")
HOST = "Host: localhost\r\n"


@pytest.fixture
async def brook(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path, allowed_origins="https://app.example") as brook:
        yield brook


@pytest.fixture
def ordinary(brook: Running, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The targets that took the ordinary way."""
    taken: list[str] = []
    start = Protocol.start

    def noting(protocol: Protocol, exchange: Exchange, *arguments: object) -> None:
        if exchange.scope["method"] == "GET":
            taken.append(exchange.scope["path"])
        start(protocol, exchange, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Protocol, "start", noting)
    return taken


async def test_a_stream_that_nothing_must_be_asked_for_takes_the_short_way(brook: Running, ordinary: list[str]) -> None:
    first = (await brook.publish("a", "0"))["cursor"]
    listeners = [
        await brook.listen("/v1/channels/a"),
        await brook.listen("/v1/stream?channel=a&channel=b.*&type=message&control=1&merge=1"),
        await brook.listen("/v1/stream?channel=a&format=event"),
        await brook.listen("/v1/stream?channel=a", origin="https://app.example"),
        await brook.listen(f"/v1/channels/a?after={first}"),
        await brook.listen(f"/v1/channels/a?lastEventId={first}"),
        await brook.listen("/v1/channels/a", last_event_id=first),
    ]
    await brook.publish("a", "1")
    for listener in listeners:
        assert listener.status == 200
        frames = await listener.take(2 if "hookbrook.live" in str(listener.raw) else 1)
        assert "1" in frames[-1].data
    assert ordinary == []


async def test_a_stream_for_which_the_store_must_be_asked_takes_the_ordinary_way(
    brook: Running, ordinary: list[str]
) -> None:
    await brook.publish("a", "0")
    for target, headers in [
        ("/v1/channels/a?last=1", {}),
        ("/v1/channels/a?since=1h", {}),
        ("/v1/channels/a?after=zzzzzz-1", {}),
        ("/v1/channels/a", {"last_event_id": "yesterday"}),
    ]:
        ordinary.clear()
        listener = await brook.listen(target, **headers)
        assert len(await listener.take(1)) == 1
        assert ordinary == ["/v1/channels/a"], target


async def test_once_a_channel_was_closed_the_store_is_asked_about_names_but_not_about_patterns(
    brook: Running, ordinary: list[str]
) -> None:
    await brook.http.post("/v1/channels/reply?close=1", content=b"the end")
    assert (await brook.listen("/v1/channels/reply")).status == 204
    await brook.listen("/v1/stream?channel=reply*")
    assert ordinary == ["/v1/channels/reply"]


@pytest.mark.parametrize(
    "request_text",
    [
        "GET /v1/stream?channel=a HTTP/1.1\r\n" + HOST,
        "GET /v1/stream?channel=a HTTP/1.0\r\n",
        "GET /v1/stream?channel=a HTTP/1.1\r\nConnection: close\r\n" + HOST,
        "GET /v1/stream?channel=a HTTP/1.1\r\nOrigin: https://app.example\r\n" + HOST,
        "GET /v1/stream?channel=a HTTP/1.1\r\nOrigin: https://other.example\r\n" + HOST,
        "GET /v1/channels/a HTTP/1.1\r\nAccept: application/json, text/event-stream\r\n" + HOST,
        "GET /v1/channels/a%62 HTTP/1.1\r\nAccept: text/event-stream\r\n" + HOST,
        "GET /v1/stream HTTP/1.1\r\n" + HOST,
        "GET /v1/stream?channel= HTTP/1.1\r\n" + HOST,
        "GET /v1/stream?channel=a&format=x HTTP/1.1\r\n" + HOST,
        "GET /v1/stream?channel=a&after=x HTTP/1.1\r\n" + HOST,
        "GET /v1/stream?channel=a&last=1&since=1h HTTP/1.1\r\n" + HOST,
        "GET /v1/stream?channel=a HTTP/1.1\r\nHost: evil.example\r\n",
        "GET /v1/stream?channel=a HTTP/1.1\r\nAuthorization: Bearer hbk_x\r\n" + HOST,
        "GET /v1/stream?channel=a&token=x HTTP/1.1\r\n" + HOST,
        "GET /v1/stream?channel=a&tenant=no/name HTTP/1.1\r\n" + HOST,
    ],
)
async def test_both_ways_answer_alike(tmp_path: Path, request_text: str) -> None:
    answers = []
    for name, plain in (("short", False), ("ordinary", True)):
        (tmp_path / name).mkdir()
        async with running(tmp_path / name, plain_asgi=plain, allowed_origins="https://app.example") as brook:
            reader, writer = await asyncio.open_connection("127.0.0.1", brook.port)
            writer.write(f"{request_text}\r\n".encode())
            async with asyncio.timeout(PATIENCE_S):
                answer = (await reader.readuntil(b"\r\n\r\n")).decode()
                answer += (await reader.readexactly(5)).decode()
            writer.close()
            answers.append(_OWN.sub("~", answer).replace("connection: close\r\n", ""))
    assert answers[0] == answers[1]


async def whole(answer: Listener) -> bytes:
    """The body of an answer that has a length."""
    async with asyncio.timeout(PATIENCE_S):
        return await answer.reader.readexactly(int(answer.headers["content-length"]))


async def test_a_limit_of_streams_holds_on_the_short_way_too(tmp_path: Path) -> None:
    async with running(tmp_path, max_connections=2, connect_rate=1000) as brook:
        for _ in range(2):
            await (await brook.listen("/v1/channels/a")).until(b": hb")
        turned_away = await brook.listen("/v1/channels/a")
        assert b"event: hookbrook.busy" in await whole(turned_away)


async def test_a_rate_of_streams_counts_each_once(tmp_path: Path) -> None:
    async with running(tmp_path, connect_rate=1, connect_burst=3) as brook:
        streams = [await brook.listen("/v1/channels/a") for _ in range(4)]
        for stream in streams[:3]:
            await stream.until(b": hb")
        assert b"event: hookbrook.busy" in await whole(streams[3])


@pytest.mark.parametrize(
    "after",
    [
        f"\r\nGET /v1/health HTTP/1.1\r\n{HOST}\r\n",
        f"\r\nPOST /v1/channels/a HTTP/1.1\r\n{HOST}Content-Length: 5\r\n\r\nfalse",
        f"\r\nGET /v1/stream?channel=a HTTP/1.1\r\n{HOST}",
        "\r\nno HTTP at all\r\n\r\n",
        # As `curl --http2` asks.
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
        f"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\nGET /v1/health HTTP/1.1\r\n{HOST}\r\n",
    ],
)
async def test_what_the_packet_of_a_request_holds_beside_it_does_not_harm_the_stream(
    brook: Running, ordinary: list[str], caplog: pytest.LogCaptureFixture, after: str
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", brook.port)
    listener = Listener(reader, writer)
    writer.write(f"GET /v1/stream?channel=a HTTP/1.1\r\n{HOST}{after}".encode())
    async with asyncio.timeout(PATIENCE_S):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    await listener.until(b": hb")
    await brook.publish("a", "hello")
    assert await listener.data(1) == ["hello"]
    assert b"HTTP/1.1" not in listener.raw
    assert (ordinary, [record.message for record in caplog.records if record.levelname == "ERROR"]) == ([], [])
    writer.close()


def protocols() -> int:
    """Those of other tests too, which may be held by a fixture of theirs."""
    return sum(isinstance(each, Protocol) for each in gc.get_objects())


async def test_what_read_the_request_is_gone_once_the_stream_is_open(brook: Running) -> None:
    """Without waiting for the collector: kilobytes for each stream of a herd."""
    gc.collect()
    gc.disable()
    before = protocols()
    try:
        streams = [await brook.listen("/v1/channels/a") for _ in range(5)]
        for stream in streams:
            await stream.until(b": hb")
        assert protocols() == before
    finally:
        gc.enable()


async def test_a_herd_is_let_in_and_whoever_left_meanwhile_costs_nothing(brook: Running, ordinary: list[str]) -> None:
    """More than one turn of the loop takes in; every third hangs up at once."""
    request = f"GET /v1/stream?channel=a HTTP/1.1\r\n{HOST}\r\n".encode()
    async with AsyncExitStack() as stack:
        pairs = await asyncio.gather(*(asyncio.open_connection("127.0.0.1", brook.port) for _ in range(150)))
        for number, (_, writer) in enumerate(pairs):
            stack.callback(writer.close)
            writer.write(request)
            if number % 3 == 0:
                writer.transport.abort()
        stayed = [Listener(*pair) for number, pair in enumerate(pairs) if number % 3]
        async with asyncio.timeout(PATIENCE_S):
            for listener in stayed:
                assert (await listener.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        await brook.publish("a", "hello")
        for listener in stayed:
            assert await listener.data(1) == ["hello"]
        hub = brook.app._hub
        assert hub is not None
        async with asyncio.timeout(PATIENCE_S):
            while len(hub) > len(stayed):  # noqa: ASYNC110 - the kernel tells of those that left when it likes
                await asyncio.sleep(0.01)
        assert (len(hub), len(hub.connections), ordinary) == (len(stayed), len(stayed), [])


async def test_a_stream_that_cannot_be_begun_is_cut_and_the_next_one_opens(
    brook: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hub = brook.app._hub
    assert hub is not None
    open_reader: Callable[..., object] = hub.open

    def fail(*_: object, **__: object) -> object:
        monkeypatch.setattr(hub, "open", open_reader)
        raise RuntimeError("the first one")

    monkeypatch.setattr(hub, "open", fail)
    first = await brook.listen("/v1/channels/a")
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await first.reader.readexactly(1000)
    assert "a stream could not be begun" in caplog.text
    await (await brook.listen("/v1/channels/a")).until(b": hb")
