"""Streams that resume by themselves, by both clients, against a server that cuts, stalls, refuses and resets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import msgspec
import pytest

from hookbrook import ApiError, AsyncHookbrook, Event, HookbrookError, Reset
from hookbrook.core import sse

if TYPE_CHECKING:
    from tests.client.conftest import Call, Client, Connection, EventStream, Script, Server

PATIENCE_S = 10.0


def frame(n: int, data: bytes = b"", **members: Any) -> bytes:
    document = {
        "id": f"evt_{n}",
        "channels": ["chat.42"],
        "type": "message",
        "tenant": "default",
        "source": None,
        "time": "2026-11-23T16:20:00.5Z",
        "content_type": "application/json",
        "cursor": f"k3f9-{n}",
        **({} if "data_base64" in members else {"data": msgspec.Raw(data or str(n).encode())}),
        **members,
    }
    return sse.encode(type="message", data=msgspec.json.encode(document), kind="json", id=f"k3f9-{n}")


def send(*parts: bytes, then: str = "hang") -> Script:
    """Open the stream, send these chunks, and then hang, end properly or cut in the middle of the body."""

    async def script(connection: Connection) -> None:
        await connection.open_stream()
        for part in parts:
            await connection.chunk(part)
        if then == "end":
            await connection.end_chunks()
        elif then == "cut":
            connection.writer.close()
        else:
            await connection.until_client_leaves()

    return script


def refuse(status: int, body: object = None, **headers: str) -> Script:
    async def script(connection: Connection) -> None:
        await connection.answer(status, body, **headers)

    return script


async def finished(connection: Connection) -> None:
    await connection.head(204, {"connection": "close"})


def take(stream: EventStream, count: int) -> list[Any]:
    return [next(stream).data for _ in range(count)]


def query(call: Call) -> list[tuple[str, str]]:
    return sorted(parse_qsl(urlsplit(call.target).query))


def cursors_sent(server: Server) -> list[str | None]:
    return [call.headers.get("last-event-id") for call in server.calls]


# --- what is asked and what comes --------------------------------------------------------------------------------


def test_a_stream_asks_for_whole_events_of_its_channels_and_types(
    server: Server, connect: Callable[..., Client]
) -> None:
    server.script(send(frame(1)))
    stream = connect(server.url, "hbk_1").stream("chat.42", "orders.*", types=["token", "done"], after="k3f9-0")
    assert take(stream, 1) == [1]
    (call,) = server.calls
    assert (call.method, urlsplit(call.target).path) == ("GET", "/v1/stream")
    assert query(call) == [
        ("after", "k3f9-0"), ("channel", "chat.42"), ("channel", "orders.*"), ("control", "1"), ("format", "event"),
        ("type", "done"), ("type", "token"),
    ]  # fmt: skip
    assert call.headers["accept"] == "text/event-stream"
    assert call.headers["authorization"] == "Bearer hbk_1"
    assert "last-event-id" not in call.headers


@pytest.mark.parametrize(("start", "expected"), [({"since": "2h"}, ("since", "2h")), ({"last": 5}, ("last", "5"))])
def test_a_stream_may_start_in_the_past(
    start: dict[str, Any], expected: tuple[str, str], server: Server, client: Client
) -> None:
    server.script(send(frame(1), then="cut"), send(frame(2)))
    assert take(client.stream("a", **start), 2) == [1, 2]
    assert expected in query(server.calls[0])
    assert expected not in query(server.calls[1])


def test_one_type_may_be_given_as_a_string(server: Server, client: Client) -> None:
    server.script(send(frame(1)))
    take(client.stream("a", types="token"), 1)
    assert ("type", "token") in query(server.calls[0])


def test_a_stream_token_goes_before_the_key(server: Server, connect: Callable[..., Client]) -> None:
    server.script(send(frame(1)))
    take(connect(server.url, "hbk_1").stream("a", token="eyJ.jwt"), 1)
    assert server.calls[0].headers["authorization"] == "Bearer eyJ.jwt"
    assert "eyJ" not in server.calls[0].target


def test_an_event_comes_whole(server: Server, client: Client) -> None:
    server.script(send(frame(7, b'{"a": [1, 2.5]}', type="x", source="github", channels=["a", "b"])))
    assert next(client.stream("a")) == Event(
        id="evt_7",
        channels=("a", "b"),
        type="x",
        tenant="default",
        source="github",
        time=datetime(2026, 11, 23, 16, 20, 0, 500_000, tzinfo=UTC),
        content_type="application/json",
        data={"a": [1, 2.5]},
        cursor="k3f9-7",
    )


def test_text_and_bytes_come_as_they_were_published(server: Server, client: Client) -> None:
    server.script(send(frame(1, b'"a\\nb"'), frame(2, data_base64="/wA=")))
    assert take(client.stream("a"), 2) == ["a\nb", b"\xff\0"]


def test_a_number_beyond_every_float_does_not_stop_the_stream(server: Server, client: Client) -> None:
    server.script(send(frame(1, b"1E400"), frame(2)))
    assert take(client.stream("a"), 2) == [float("inf"), 2]


def test_events_of_our_own_channels_are_events_and_not_control(server: Server, client: Client) -> None:
    server.script(send(frame(1, type="hookbrook.delivery.failed")))
    assert next(client.stream("hookbrook.*")).type == "hookbrook.delivery.failed"


def test_events_arrive_as_they_come_also_without_chunks(server: Server, client: Client) -> None:
    async def unchunked(connection: Connection) -> None:
        await connection.open_stream(chunked=False)
        await connection.send(frame(1))
        await connection.until_client_leaves()

    server.script(unchunked)
    assert take(client.stream("a"), 1) == [1]


def test_a_frame_in_many_small_pieces_is_one_event(server: Server, client: Client) -> None:
    whole = frame(1, '"€"'.encode())
    server.script(send(*(whole[i : i + 1] for i in range(len(whole)))))
    assert take(client.stream("a"), 1) == ["€"]


# --- resuming ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("then", ["cut", "end"])
def test_a_stream_that_ends_is_resumed_behind_its_last_event(then: str, server: Server, client: Client) -> None:
    server.script(send(frame(1), frame(2), then=then), send(frame(3), then=then), send(frame(4)))
    assert take(client.stream("a"), 4) == [1, 2, 3, 4]
    assert cursors_sent(server) == [None, "k3f9-2", "k3f9-3"]


@pytest.mark.parametrize("kept", [1, 30, -2, -1])
def test_half_an_event_is_neither_delivered_nor_counted(kept: int, server: Server, client: Client) -> None:
    server.script(send(frame(1), frame(2)[:kept], then="end"), send(frame(2)))
    assert take(client.stream("a"), 2) == [1, 2]
    assert cursors_sent(server) == [None, "k3f9-1"]


def test_a_chunk_that_is_cut_in_the_middle_loses_nothing(server: Server, client: Client) -> None:
    async def cut_in_a_chunk(connection: Connection) -> None:
        await connection.open_stream()
        await connection.chunk(frame(1))
        await connection.send(b"ffff\r\n" + frame(2)[:20])
        connection.writer.close()

    server.script(cut_in_a_chunk, send(frame(2)))
    assert take(client.stream("a"), 2) == [1, 2]


def test_no_reset_of_the_connection_loses_or_doubles_an_event(server: Server, client: Client) -> None:
    """A reset may take events along that were already sent; the log still has them."""
    sizes = iter([1, 3, 2, 0, 5, 4, 1, 1, 20])

    async def read_the_log(connection: Connection) -> None:
        first = int(connection.call.headers.get("last-event-id", "k3f9-0").removeprefix("k3f9-")) + 1
        await connection.open_stream()
        for n in range(first, min(first + next(sizes), 21)):
            await connection.chunk(frame(n))
        await connection.reset()

    server.script(read_the_log)
    assert take(client.stream("a", after="k3f9-0"), 20) == list(range(1, 21))


def test_an_id_without_data_moves_the_cursor_too(server: Server, client: Client) -> None:
    server.script(send(frame(1), b"id: k3f9-9\n\n", then="cut"), send(frame(10)))
    assert take(client.stream("a"), 2) == [1, 10]
    assert cursors_sent(server) == [None, "k3f9-9"]


def test_a_silent_stream_is_dropped_and_resumed(server: Server, connect: Callable[..., Client]) -> None:
    server.script(send(frame(1)), send(frame(2)))
    assert take(connect(server.url, idle_s=0.1).stream("a"), 2) == [1, 2]
    assert cursors_sent(server) == [None, "k3f9-1"]


def test_heartbeats_keep_a_quiet_stream(server: Server, connect: Callable[..., Client]) -> None:
    async def beat(connection: Connection) -> None:
        await connection.open_stream()
        for _ in range(10):
            await connection.chunk(sse.HEARTBEAT)
            await asyncio.sleep(0.08)
        await connection.chunk(frame(1))
        await connection.until_client_leaves()

    server.script(beat)
    assert take(connect(server.url, idle_s=0.5).stream("a"), 1) == [1]
    assert len(server.calls) == 1


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_stream_outlives_a_server_in_trouble(status: int, server: Server, client: Client) -> None:
    trouble = refuse(status, b"<html>", retry_after="0")
    server.script(trouble, send(frame(1), then="cut"), trouble, trouble, send(frame(2)))
    assert take(client.stream("a"), 2) == [1, 2]
    assert cursors_sent(server) == [None, None, "k3f9-1", "k3f9-1", "k3f9-1"]


def test_a_stream_outlives_a_restart_of_the_server(server: Server, connect: Callable[..., Client]) -> None:
    server.script(send(frame(1), then="cut"), send(frame(2)))
    stream = connect(server.url, backoff_s=0.02).stream("a")
    assert take(stream, 1) == [1]
    server.refuse()
    server.listen_after(0.1)
    assert take(stream, 1) == [2]


def test_a_stream_may_be_opened_before_its_server_is_there_and_says_so(
    server: Server, connect: Callable[..., Client], caplog: pytest.LogCaptureFixture
) -> None:
    server.refuse()
    server.listen_after(0.1)
    server.script(send(frame(1)))
    assert take(connect(server.url, "hbk_secret", backoff_s=0.02).stream("a"), 1) == [1]
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert any(f"no answer from {server.url}" in text for text in warnings)
    assert not any("hbk_secret" in text for text in warnings)


def test_without_an_event_yet_a_stream_is_resumed_where_it_joined(server: Server, client: Client) -> None:
    """Resumed at "now", what happened between the connections would be missed."""
    live = sse.control("hookbrook.live", {}, id="k3f9-41")
    server.script(send(live, then="cut"), send(frame(42)))
    assert take(client.stream("a"), 1) == [42]
    assert cursors_sent(server) == [None, "k3f9-41"]


def test_a_checkpoint_moves_the_cursor_of_a_quiet_stream(server: Server, client: Client) -> None:
    checkpoint = sse.control("hookbrook.checkpoint", {}, id="k3f9-900")
    server.script(send(frame(1), checkpoint, then="cut"), send(frame(901)))
    assert take(client.stream("a"), 2) == [1, 901]
    assert cursors_sent(server) == [None, "k3f9-900"]


def test_a_stream_knows_where_it_stands(server: Server, client: Client) -> None:
    server.script(send(frame(1) + frame(2) + frame(3)))
    stream = client.stream("a", after="k3f9-0")
    assert stream.cursor == "k3f9-0"
    assert next(stream).cursor == stream.cursor == "k3f9-1"
    assert next(stream).cursor == stream.cursor == "k3f9-2"


def test_a_server_that_drains_is_left_and_asked_again(server: Server, client: Client) -> None:
    drain = sse.control("hookbrook.drain", {}, retry_ms=1)
    server.script(send(frame(1), drain), send(frame(2)))
    assert take(client.stream("a"), 2) == [1, 2]
    assert cursors_sent(server) == [None, "k3f9-1"]


# --- the end, refusals and gaps ----------------------------------------------------------------------------------


def test_204_ends_the_iteration(server: Server, client: Client) -> None:
    server.script(send(frame(1), then="end"), finished)
    assert [event.data for event in client.stream("a")] == [1]


def test_a_closed_channel_ends_the_iteration_at_once(server: Server, client: Client) -> None:
    server.script(send(frame(1), sse.control("hookbrook.closed", {})))
    stream = client.stream("a")
    assert [event.data for event in stream] == [1]
    assert list(stream) == []
    assert len(server.calls) == 1


def test_the_server_says_when_all_of_several_channels_are_closed(server: Server, client: Client) -> None:
    server.script(send(frame(1), sse.control("hookbrook.closed", {"channels": ["a", "b"]})))
    assert [event.data for event in client.stream("a", "b")] == [1]
    assert len(server.calls) == 1


def test_merging_is_asked_for_only_when_it_is_wanted(server: Server, client: Client) -> None:
    server.script(finished, finished)
    assert list(client.stream("a", merge=True)) == []
    assert list(client.stream("a")) == []
    assert ["merge=1" in call.target for call in server.calls] == [True, False]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 422])
def test_a_refusal_is_raised_and_ends_the_stream(status: int, server: Server, client: Client) -> None:
    server.script(send(frame(1), then="cut"), refuse(status, {"title": "Refused", "detail": "no"}))
    stream = client.stream("a")
    assert take(stream, 1) == [1]
    with pytest.raises(ApiError, match=f"{status} Refused: no"):
        next(stream)
    assert list(stream) == []
    assert len(server.calls) == 2


def test_an_answer_that_is_no_stream_is_raised(server: Server, client: Client) -> None:
    server.script(refuse(200, b"<html>Sign in</html>", content_type="text/html"))
    with pytest.raises(ApiError, match="200 Not an answer of Hookbrook: <html>"):
        next(client.stream("a"))


def test_a_redirect_is_not_followed(server: Server, client: Client) -> None:
    server.script(refuse(302, b"", location=f"{server.url}/elsewhere"))
    with pytest.raises(ApiError, match="302"):
        next(client.stream("a"))
    assert len(server.calls) == 1


def test_a_stream_of_something_else_is_an_error_and_not_an_endless_loop(server: Server, client: Client) -> None:
    left = asyncio.Event()

    async def greet(connection: Connection) -> None:
        await connection.open_stream()
        await connection.chunk(b"data: hello\n\n")
        await connection.until_client_leaves()
        left.set()

    server.script(greet)
    stream = client.stream("a")
    with pytest.raises(HookbrookError, match="no event of Hookbrook"):
        next(stream)
    server.wait_for(left.wait())
    assert list(stream) == []


def test_a_gap_is_raised_and_the_iteration_may_go_on_behind_it(server: Server, client: Client) -> None:
    gap = {"reason": "trimmed", "oldest": "k3f9-50", "newest": "k3f9-90"}
    server.script(send(sse.control("hookbrook.reset", gap, id="k3f9-49"), frame(50)))
    stream = client.stream("a", after="k3f9-3")
    with pytest.raises(Reset, match="trimmed") as caught:
        next(stream)
    assert (caught.value.reason, caught.value.oldest, caught.value.newest) == ("trimmed", "k3f9-50", "k3f9-90")
    assert take(stream, 1) == [50]
    assert len(server.calls) == 1


def test_a_gap_is_told_to_who_asked_for_it(server: Server, client: Client) -> None:
    told: list[str] = []
    server.script(send(sse.control("hookbrook.reset", {"reason": "foreign"}), frame(1)))
    assert take(client.stream("a", on_reset=lambda reset: told.append(reset.reason)), 1) == [1]
    assert told == ["foreign"]


def test_a_gap_whose_reason_cannot_be_read_is_told_all_the_same(server: Server, client: Client) -> None:
    server.script(send(b"event: hookbrook.reset\ndata: [\n\n"))
    with pytest.raises(Reset, match="unknown"):
        next(client.stream("a"))


def test_a_closed_stream_gives_nothing_more_and_hangs_up(server: Server, client: Client) -> None:
    left = asyncio.Event()

    async def watch(connection: Connection) -> None:
        await connection.open_stream()
        await connection.chunk(frame(1) + frame(2))
        await connection.until_client_leaves()
        left.set()

    server.script(watch)
    stream = client.stream("a")
    assert take(stream, 1) == [1]
    stream.close()
    assert list(stream) == []
    server.wait_for(left.wait())


def test_a_stream_that_is_let_go_hangs_up(server: Server, client: Client) -> None:
    left = asyncio.Event()

    async def watch(connection: Connection) -> None:
        await connection.open_stream()
        await connection.chunk(frame(1) + frame(2))
        await connection.until_client_leaves()
        left.set()

    server.script(watch, send(frame(3)))
    for event in client.stream("a"):
        assert event.data == 1
        break
    assert take(client.stream("b"), 1) == [3]
    server.wait_for(left.wait())


def test_a_closed_client_hangs_up_and_says_what_it_is(server: Server, client: Client) -> None:
    server.script(send(frame(1)))
    stream = client.stream("a")
    assert take(stream, 1) == [1]
    client.close()
    with pytest.raises(RuntimeError, match="the client is closed"):
        next(stream)
    with pytest.raises(RuntimeError, match="the client is closed"):
        client.publish("a", 1)


def test_a_stream_needs_a_channel_and_one_start(client: Client) -> None:
    with pytest.raises(ValueError, match="needs a channel"):
        client.stream()
    with pytest.raises(ValueError, match="not at two"):
        client.stream("a", after="k3f9-1", last=3)


# --- what only the asynchronous client can get wrong ------------------------------------------------------------


async def test_a_cancelled_step_loses_no_event(server: Server) -> None:
    go_on = asyncio.Event()

    async def wait_in_between(connection: Connection) -> None:
        await connection.open_stream()
        await connection.chunk(frame(1))
        await go_on.wait()
        await connection.chunk(frame(2))
        await connection.until_client_leaves()

    server.script(wait_in_between)
    async with AsyncHookbrook(server.url) as client, client.stream("a") as stream:
        assert (await anext(stream)).data == 1
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(stream), 0.01)
        server.call(go_on.set)
        assert (await asyncio.wait_for(anext(stream), PATIENCE_S)).data == 2
    assert len(server.calls) == 1


async def test_a_coroutine_may_be_told_of_a_gap(server: Server) -> None:
    told: list[str] = []

    async def tell(reset: Reset) -> None:
        await asyncio.sleep(0)
        told.append(reset.reason)

    server.script(send(sse.control("hookbrook.reset", {"reason": "foreign"}), frame(1)))
    async with AsyncHookbrook(server.url) as client, client.stream("a", on_reset=tell) as stream:
        assert (await anext(stream)).data == 1
    assert told == ["foreign"]
