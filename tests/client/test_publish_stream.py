"""A token stream as one request, by both clients, with the connection cut, refused and answered too early."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from hookbrook import ApiError, AsyncHookbrook, ConnectionFailed, StreamReceipt

if TYPE_CHECKING:
    from tests.client.conftest import Client, Connection, Script, Server

PATIENCE_S = 10.0


async def accept(connection: Connection) -> None:
    count = 0
    async for _ in connection.lines():
        count += 1
    await connection.answer(200, {"accepted": count, "cursor": f"k3f9-{count}", "duplicates": 0})


def cut_after(lines: int) -> Script:
    async def script(connection: Connection) -> None:
        count = 0
        async for _ in connection.lines():
            count += 1
            if count == lines:
                await connection.reset()
                return

    return script


def tokens(count: int) -> list[str]:
    return [f"token {n}" for n in range(1, count + 1)]


def data_of(server: Server) -> list[object]:
    """What a log that knows events by their ids would hold."""
    log: dict[object, object] = {}
    for call in server.calls:
        for line in call.lines:
            assert log.setdefault(line["id"], line["data"]) == line["data"]
    return list(log.values())


def test_a_token_stream_is_one_request_with_numbered_ids(server: Server, client: Client) -> None:
    server.script(accept)
    receipt = client.publish_stream("chat.42", ["a", {"b": 1}, b"c"], type="token", id_prefix="reply")
    (call,) = server.calls
    assert receipt == StreamReceipt(accepted=3, cursor="k3f9-3")
    assert (call.method, call.target) == ("POST", "/v1/events")
    assert call.headers["content-type"] == "application/x-ndjson"
    text = {"content_type": "text/plain; charset=utf-8", "data": "a"}
    binary = {"content_type": "application/octet-stream", "data_base64": "Yw=="}
    assert call.lines == [
        {"id": "reply-1", "channels": ["chat.42"], "type": "token", **text},
        {"id": "reply-2", "channels": ["chat.42"], "type": "token", "data": {"b": 1}},
        {"id": "reply-3", "channels": ["chat.42"], "type": "token", **binary},
    ]
    assert call.body.count(b"\n") == 3


def test_an_id_prefix_is_made_when_there_is_none(server: Server, client: Client) -> None:
    server.script(accept)
    client.publish_stream("a", [1])
    client.publish_stream("a", [1])
    ids = {str(line["id"]) for call in server.calls for line in call.lines}
    assert len(ids) == 2
    assert all(made.startswith("evt_") and made.endswith("-1") for made in ids)


def test_each_item_is_sent_before_the_next_is_asked_for(server: Server, client: Client) -> None:
    arrived = [threading.Event() for _ in range(5)]

    async def watch(connection: Connection) -> None:
        async for _ in connection.lines():
            arrived[len(connection.call.lines) - 1].set()
        await connection.answer(200, {"accepted": 5, "cursor": "k3f9-5"})

    def source() -> Iterator[int]:
        for n in range(5):
            assert n == 0 or arrived[n - 1].wait(PATIENCE_S), f"item {n} was not sent on its own"
            yield n

    server.script(watch)
    assert client.publish_stream("a", source()).accepted == 5


def test_an_upload_may_take_longer_than_the_timeout(server: Server, connect: Callable[..., Client]) -> None:
    pause = threading.Event()

    def source() -> Iterator[int]:
        for n in range(3):
            pause.wait(0.2)
            yield n

    server.script(accept)
    assert connect(server.url, timeout_s=0.1, retries=0).publish_stream("a", source()).accepted == 3
    assert len(server.calls) == 1


@pytest.mark.parametrize("lines", [1, 2, 5, 9])
def test_after_a_cut_the_unconfirmed_lines_are_sent_again(lines: int, server: Server, client: Client) -> None:
    asked: list[str] = []

    def source() -> Iterator[str]:
        for token in tokens(10):
            asked.append(token)
            yield token

    server.script(cut_after(lines), cut_after(lines), accept)
    receipt = client.publish_stream("a", source(), id_prefix="r")
    assert receipt.accepted == 10
    assert asked == tokens(10)
    assert data_of(server) == tokens(10)
    assert [line["id"] for line in server.calls[-1].lines] == [f"r-{n}" for n in range(1, 11)]


def test_a_lost_confirmation_is_asked_for_again(server: Server, client: Client) -> None:
    async def cut_before_the_answer(connection: Connection) -> None:
        async for _ in connection.lines():
            pass
        await connection.reset()

    server.script(cut_before_the_answer, accept)
    assert client.publish_stream("a", tokens(3)).accepted == 3
    assert [len(call.lines) for call in server.calls] == [3, 3]


def test_an_upload_outlives_more_cuts_than_there_are_retries(server: Server, connect: Callable[..., Client]) -> None:
    """Each cut comes after the next line only, so every request makes progress."""
    seen = [threading.Event() for _ in range(8)]

    def cut_at(n: int) -> Script:
        async def script(connection: Connection) -> None:
            async for line in connection.lines():
                if line["data"] == n:
                    await connection.reset()
                    seen[n].set()
                    return

        return script

    def source() -> Iterator[int]:
        for n in range(9):
            yield n
            if n < 8:
                assert seen[n].wait(PATIENCE_S)

    server.script(*(cut_at(n) for n in range(8)), accept)
    assert connect(server.url, retries=2).publish_stream("a", source()).accepted == 9
    assert data_of(server) == list(range(9))


def test_a_server_that_stays_away_ends_the_upload(server: Server, connect: Callable[..., Client]) -> None:
    server.refuse()
    with pytest.raises(ConnectionFailed):
        connect(server.url, retries=2).publish_stream("a", [1])


def test_a_server_that_is_full_for_a_moment_is_waited_for(server: Server, client: Client) -> None:
    async def full(connection: Connection) -> None:
        await connection.read_body()
        await connection.answer(507, {"title": "The disk is full"}, retry_after="0")

    server.script(full, accept)
    assert client.publish_stream("a", tokens(3)).accepted == 3


def test_a_bad_line_is_raised_with_what_was_accepted(server: Server, client: Client) -> None:
    async def refuse(connection: Connection) -> None:
        await connection.read_body()
        problem = {"title": "Invalid", "status": 422, "detail": "no", "accepted": 1, "cursor": "k3f9-1", "line": 2}
        await connection.answer(422, problem)

    server.script(refuse)
    with pytest.raises(ApiError, match="422 Invalid: no") as caught:
        client.publish_stream("a", tokens(3))
    assert (caught.value.problem["accepted"], caught.value.problem["line"]) == (1, 2)
    assert len(server.calls) == 1


def test_a_refusal_before_the_end_stops_the_upload(server: Server, client: Client) -> None:
    refused = threading.Event()
    asked: list[int] = []

    async def refuse_the_first(connection: Connection) -> None:
        async for _ in connection.lines():
            await connection.answer(422, {"title": "Invalid", "line": 1})
            connection.writer.close()
            refused.set()
            return

    def source() -> Iterator[int]:
        for n in range(1000):
            asked.append(n)
            yield n
            assert refused.wait(PATIENCE_S)

    server.script(refuse_the_first)
    with pytest.raises((ApiError, ConnectionFailed)) as caught:
        client.publish_stream("a", source())
    assert isinstance(caught.value, ApiError)
    assert len(asked) < 1000


def test_an_empty_source_needs_no_request(server: Server, client: Client) -> None:
    assert client.publish_stream("a", []) == StreamReceipt(accepted=0, cursor=None)
    assert server.calls == []


@pytest.mark.parametrize("error", [OSError("disk"), TimeoutError("model"), ConnectionFailed("other"), KeyError("x")])
@pytest.mark.parametrize("items", [0, 2])
def test_what_the_source_raises_reaches_the_caller_and_ends_the_upload(
    error: Exception, items: int, server: Server, client: Client
) -> None:
    """An HTTP client would take some of these for its own, try again and confirm a stream that is cut short."""

    def source() -> Iterator[int]:
        yield from range(items)
        raise error

    server.script(accept)
    with pytest.raises(type(error)) as caught:
        client.publish_stream("a", source())
    assert str(caught.value) == str(error)
    assert len(server.calls) <= 1


def test_an_item_without_json_ends_the_upload(server: Server, client: Client) -> None:
    server.script(accept)
    with pytest.raises(TypeError):
        client.publish_stream("a", [1, object()])


def test_the_unconfirmed_lines_are_bounded_by_ending_the_request_in_between(server: Server, client: Client) -> None:
    big = "x" * (3 * 1024 * 1024)
    server.script(accept)
    receipt = client.publish_stream("a", [big] * 4, id_prefix="r")
    assert [[line["id"] for line in call.lines] for call in server.calls] == [["r-1", "r-2", "r-3"], ["r-4"]]
    assert receipt == StreamReceipt(accepted=4, cursor="k3f9-1")


def test_a_request_that_ends_exactly_at_the_bound_is_not_followed_by_an_empty_one(
    server: Server, client: Client
) -> None:
    big = "x" * (3 * 1024 * 1024)
    server.script(accept)
    assert client.publish_stream("a", [big] * 3).accepted == 3
    assert len(server.calls) == 1


# --- what only the asynchronous client can get wrong ------------------------------------------------------------


def asynchronous(server: Server, **options: Any) -> AsyncHookbrook:
    return AsyncHookbrook(server.url, backoff_s=0.001, **options)


async def test_a_cut_while_the_source_thinks_does_not_break_the_source(server: Server) -> None:
    """A cancelled asynchronous generator is finished, and the rest of its items would be missing without a word."""
    thinking = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def reconnected(connection: Connection) -> None:
        loop.call_soon_threadsafe(thinking.set)
        await accept(connection)

    async def source() -> AsyncIterator[int]:
        yield 1
        yield 2
        await asyncio.wait_for(thinking.wait(), PATIENCE_S)
        yield 3

    server.script(cut_after(2), reconnected)
    async with asynchronous(server) as client:
        receipt = await client.publish_stream("a", source())
    assert receipt.accepted == 3
    assert data_of(server) == [1, 2, 3]


async def test_a_refusal_is_noticed_while_the_source_thinks(server: Server) -> None:
    cleaned_up = asyncio.Event()

    async def refuse(connection: Connection) -> None:
        async for _ in connection.lines():
            await connection.answer(422, {"title": "Invalid", "line": 1})
            await connection.until_client_leaves()
            return

    async def source() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            cleaned_up.set()

    server.script(refuse)
    async with asynchronous(server) as client:
        with pytest.raises(ApiError, match="422"):
            await asyncio.wait_for(client.publish_stream("a", source()), PATIENCE_S)
    assert cleaned_up.is_set()


async def test_a_cancelled_upload_cancels_its_source(server: Server) -> None:
    waiting = asyncio.Event()
    cleaned_up = asyncio.Event()

    async def source() -> AsyncIterator[int]:
        try:
            yield 1
            waiting.set()
            await asyncio.Event().wait()
        finally:
            cleaned_up.set()

    server.script(accept)
    async with asynchronous(server) as client:
        upload = asyncio.create_task(client.publish_stream("a", source()))
        await asyncio.wait_for(waiting.wait(), PATIENCE_S)
        upload.cancel()
        with pytest.raises(asyncio.CancelledError):
            await upload
    assert cleaned_up.is_set()


async def test_an_ordinary_list_is_a_source_too(server: Server) -> None:
    server.script(accept)
    async with asynchronous(server) as client:
        assert (await client.publish_stream("a", tokens(3))).accepted == 3
