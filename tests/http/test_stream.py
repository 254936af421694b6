"""The stream doors over real sockets: where a stream begins, what it carries, and how it ends."""

import asyncio
import json
import logging
import random
import re
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
import pytest_asyncio
from tests.http.gateway_fixtures import House, gateway_in
from tests.served import PATIENCE_S, Running, running, without_extensions

from hookbrook.http import sinks
from hookbrook.http.auth import Principal
from hookbrook.http.problems import Problems
from hookbrook.http.publish import press_for
from hookbrook.http.server import Server
from hookbrook.http.sinks import SINK_BYTES, AsgiSink
from hookbrook.http.stream import Stream
from hookbrook.stream.hub import Hub
from hookbrook.stream.subscription import Subscription

pytestmark = pytest.mark.asyncio(loop_scope="module")
NUMBERS = count()


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=["taken over", "plain ASGI"])
async def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """Both ways in which bytes reach the socket."""
    plain = request.param == "plain ASGI"
    async with running(tmp_path_factory.mktemp("stream"), heartbeat_s=1, plain_asgi=plain) as here:
        yield here


@pytest.fixture(params=[False, True], ids=["taken over", "plain ASGI"])
def plain_asgi(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest_asyncio.fixture(loop_scope="module")
async def brook(house: Running) -> AsyncIterator[Running]:
    """A tenant of this test's own."""
    async with house.as_tenant(f"t{next(NUMBERS)}") as view:
        yield view


async def publish(brook: Running, *data: Any, **event: Any) -> list[str]:
    """Returns the cursors."""
    rows = [{"channel": "a", "data": value} | event for value in data]
    answer = await brook.http.post("/v1/events", json=rows)
    assert answer.status_code == 201, answer.text
    return [reply["cursor"] for reply in answer.json()]


# What a stream carries


async def test_the_head_is_that_of_an_event_stream_and_a_first_byte_follows_at_once(brook: Running) -> None:
    listener = await brook.listen("/v1/channels/a")
    assert listener.status == 200
    assert listener.headers["content-type"] == "text/event-stream"
    assert listener.headers["cache-control"] == "no-store"
    assert listener.headers["x-accel-buffering"] == "no"
    await listener.until(b": hb\n")


async def test_an_event_is_data_and_then_its_cursor(brook: Running) -> None:
    listener = await brook.listen("/v1/channels/a")
    first, second = await publish(brook, {"a": 1}, "text")
    await publish(brook, 3, type="order.paid")
    await listener.take(3)
    frames = listener.raw.replace(b": hb\n", b"").split(b"\n\n")
    retry, _, frames[0] = frames[0].partition(b"\n")
    assert retry.startswith(b"retry: ")
    assert 1000 <= int(retry.split()[1]) <= 3000
    assert frames[0] == b'data: {"a":1}\nid: ' + first.encode()
    assert frames[1] == b'data: "text"\nid: ' + second.encode()
    assert frames[2].startswith(b"event: order.paid\ndata: 3\nid: ")
    assert frames[3:] == [b""]


async def test_text_json_with_line_ends_and_binary_stay_one_event_each(brook: Running) -> None:
    listener = await brook.listen("/v1/channels/a")
    await brook.publish("a", b"two\r\nlines\n\nid: forged\n")
    await brook.publish("a", b'{\r\n"a": 1\n}')
    await brook.publish("a", b"\xff\x00", **{"content-type": "image/png"})
    text, document, binary = await listener.data(3)
    assert text == "two\nlines\n\nid: forged\n"
    assert document == '{  "a": 1 }'
    assert binary == "/wA="
    assert b"\nid: forged" not in listener.raw


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("/v1/channels/orders.1", [0, 4]),
        ("/v1/channels/orders.*", [0, 1, 4]),
        ("/v1/stream?channel=orders.1&channel=chat", [0, 2, 4]),
        ("/v1/stream?channel=*", [0, 1, 2, 3, 4]),
        ("/v1/stream?channel=*&type=pa*&type=said", [0, 1, 2]),
        ("/v1/channels/orders.*?type=message", [4]),
        ("/v1/stream?channel=orders.1&channel=orders.*&channel=*", [0, 1, 2, 3, 4]),
    ],
)
async def test_channels_and_types_are_names_or_patterns_live_and_from_the_past(
    brook: Running, query: str, expected: list[int]
) -> None:
    live = await brook.listen(query)
    for number, (channels, type_) in enumerate(
        [
            (["orders.1"], "paid"),
            (["orders.2"], "part"),
            (["chat"], "said"),
            (["x"], "y"),
            (["chat", "orders.1"], "message"),
        ]
    ):
        await publish(brook, number, channel=None, channels=channels, type=type_)
    past = await brook.listen(query + ("&" if "?" in query else "?") + "since=1h")
    for listener in (live, past):
        assert await listener.data(len(expected)) == [str(number) for number in expected]
        assert listener.frames == []


async def test_the_formats_event_and_cloudevent_carry_the_whole_event_without_a_name(brook: Running) -> None:
    [cursor] = await publish(brook, {"n": 1}, type="order.paid", id="e1")
    whole = await brook.listen("/v1/channels/a?format=event&last=1")
    [frame] = await whole.take(1)
    document = json.loads(frame.data)
    assert (frame.type, frame.last_event_id) == ("message", cursor)
    assert (document["id"], document["type"], document["data"]) == ("e1", "order.paid", {"n": 1})
    assert document["cursor"] == cursor
    cloud = await brook.listen("/v1/channels/a?format=cloudevent&last=1")
    [frame] = await cloud.take(1)
    document = json.loads(frame.data)
    assert (document["specversion"], document["id"], document["type"]) == ("1.0", "e1", "order.paid")
    assert document["hookbrookcursor"] == cursor


async def test_control_events_come_to_whoever_asks_for_them(house: Running, brook: Running) -> None:
    [cursor] = await publish(brook, 1)
    listener = await brook.listen("/v1/channels/a?control=1&last=1")
    event, live = await listener.take(2)
    assert (event.data, live.type, live.last_event_id) == ("1", "hookbrook.live", cursor)
    [moved] = await publish(brook, 2, channel="b")
    [checkpoint] = await listener.take(1)
    assert (checkpoint.type, checkpoint.last_event_id) == ("hookbrook.checkpoint", moved)
    await publish(brook, 3)
    assert await listener.data(1) == ["3"]
    plain = await brook.listen("/v1/channels/a?last=2")
    assert await plain.data(2) == ["1", "3"]
    assert b"hookbrook" not in plain.raw


# Where a stream begins


async def test_without_a_start_a_stream_begins_with_what_comes_next(brook: Running) -> None:
    await publish(brook, "before")
    listener = await brook.listen("/v1/channels/a")
    await publish(brook, "after")
    assert await listener.data(1) == ['"after"']


async def test_last_event_id_wins_over_everything_in_the_query(brook: Running) -> None:
    cursors = await publish(brook, 0, 1, 2, 3)
    for query in ("", "?last=4", f"?after={cursors[0]}", "?since=1h", f"?lastEventId={cursors[0]}"):
        listener = await brook.listen(f"/v1/channels/a{query}", last_event_id=cursors[2])
        assert await listener.data(1) == ["3"]


@pytest.mark.parametrize("spelling", ["after", "lastEventId", "last-event-id", "last_event_id"])
async def test_a_cursor_in_the_query_continues_behind_it(brook: Running, spelling: str) -> None:
    cursors = await publish(brook, 0, 1, 2)
    listener = await brook.listen(f"/v1/channels/a?{spelling}={cursors[1]}")
    assert await listener.data(1) == ["2"]
    await publish(brook, 3)
    assert await listener.data(1) == ["3"]


async def test_an_empty_last_event_id_is_none(brook: Running) -> None:
    await publish(brook, 0, 1)
    listener = await brook.listen("/v1/channels/a?last=1", last_event_id="")
    assert await listener.data(1) == ["1"]


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/v1/channels/a?last=2", [8, 9]),
        ("/v1/stream?channel=*&last=3", [17, 18, 19]),
        ("/v1/stream?channel=*&type=even&last=2", [16, 18]),
        ("/v1/channels/a?last=10000", list(range(10))),
        ("/v1/channels/nothing?last=5", []),
        ("/v1/channels/a?last=0", []),
    ],
)
async def test_last_counts_what_matches(brook: Running, target: str, expected: list[int]) -> None:
    for number in range(20):
        channel, type_ = "a" if number < 10 else "b", "even" if number % 2 == 0 else "odd"
        await publish(brook, number, channel=channel, type=type_)
    listener = await brook.listen(target)
    await publish(brook, "end", channel=None, channels=["a", "nothing"], type="even")
    assert await listener.data(len(expected) + 1) == [*map(str, expected), '"end"']


@pytest.mark.parametrize("cursor", ["zzzzzz-7", "garbage", "\xff\xfe", "1" * 2000, "%00", "-1", "a-1, b-2"])
async def test_a_foreign_or_unreadable_last_event_id_begins_with_a_reset(brook: Running, cursor: str) -> None:
    [newest] = await publish(brook, "missed")
    listener = await brook.listen("/v1/channels/a", last_event_id=cursor)
    [frame] = await listener.take(1)
    assert (listener.status, frame.type, frame.last_event_id) == (200, "hookbrook.reset", newest)
    assert listener.raw.startswith(b"event: hookbrook.reset\n")
    document = json.loads(frame.data)
    assert (document["reason"], document["newest"]) == ("foreign", newest)
    await publish(brook, "next")
    assert await listener.data(1) == ['"next"']
    # Whoever comes back with the id of the reset is not told again.
    again = await brook.listen("/v1/channels/a", last_event_id=frame.last_event_id)
    assert await again.data(1) == ['"next"']


async def test_a_foreign_cursor_in_the_query_begins_with_a_reset_and_what_is_none_is_refused(brook: Running) -> None:
    listener = await brook.listen("/v1/channels/a?after=zzzzzz-7")
    assert (await listener.take(1))[0].type == "hookbrook.reset"
    refused = await brook.listen("/v1/channels/a?after=garbage")
    assert refused.status == 422


async def test_a_trimmed_cursor_and_a_trimmed_time_begin_with_a_reset_and_then_all_that_is_kept(tmp_path: Path) -> None:
    async with running(tmp_path, retention_count=3) as brook:
        cursors = await publish(brook, *range(9))
    async with running(tmp_path, retention_count=3) as brook:
        # Retention looks once at the start.
        while (await brook.http.get(f"/v1/events?after={cursors[0]}")).status_code != 410:
            pass
        for target, headers in [
            ("/v1/channels/a", {"last_event_id": cursors[0]}),
            (f"/v1/channels/a?after={cursors[1]}", {}),
            ("/v1/channels/a?since=1h", {}),
        ]:
            listener = await brook.listen(target, **headers)
            frames = await listener.take(4)
            assert [frame.type for frame in frames] == ["hookbrook.reset", "message", "message", "message"]
            assert json.loads(frames[0].data)["reason"] == "trimmed"
            assert frames[0].last_event_id == cursors[5]
            assert [frame.data for frame in frames[1:]] == ["6", "7", "8"]
        whole = await brook.listen("/v1/channels/a?last=5")
        assert await whole.data(3) == ["6", "7", "8"]


@pytest.mark.parametrize(
    ("target", "field"),
    [
        ("/v1/stream", "channel"),
        ("/v1/stream?channel=a%00", "channel"),
        ("/v1/channels/a%0ab", "channel"),
        ("/v1/channels/a?format=xml", "format"),
        ("/v1/channels/a?control=2", "control"),
        ("/v1/channels/a?last=-1", "last"),
        ("/v1/channels/a?last=10001", "last"),
        ("/v1/channels/a?last=" + "9" * 4000, "last"),
        ("/v1/channels/a?since=soon", "since"),
        ("/v1/channels/a?last=1&since=1h", "last"),
        ("/v1/channels/a?after=abcd-1&last=1", "last"),
        ("/v1/channels/a?type=a%0d", "type"),
        ("/v1/channels/a?type=" + "x" * 201, "type"),
    ],
)
async def test_a_wrong_parameter_is_refused_before_a_stream_begins(brook: Running, target: str, field: str) -> None:
    listener = await brook.listen(target)
    assert listener.status == 422
    assert listener.headers["content-type"] == "application/problem+json"
    assert [error["field"] for error in (await listener.document())["errors"]] == [field]


async def test_the_stream_address_needs_no_accept_and_head_ends_at_once(brook: Running) -> None:
    listener = await brook.listen("/v1/stream?channel=a", accept="application/json")
    assert listener.headers["content-type"] == "text/event-stream"
    for target in ("/v1/stream?channel=a", "/v1/channels/a"):
        headed = await brook.http.head(target, headers={"accept": "text/event-stream"})
        assert (headed.status_code, headed.headers["content-type"]) == (200, "text/event-stream")
        assert headed.content == b""


async def test_a_client_of_http_1_0_gets_an_unchunked_stream(brook: Running) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", brook.port)
    await publish(brook, "first")
    target = f"/v1/channels/a?last=1&tenant={brook.tenant}"
    writer.write(f"GET {target} HTTP/1.0\r\nAccept: text/event-stream\r\n\r\n".encode())
    async with asyncio.timeout(PATIENCE_S):
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"transfer-encoding" not in head.lower()
        assert b"connection: close" in head.lower()
        assert (await reader.readuntil(b"\n\n")).endswith(b"\n\n")
        await publish(brook, "second")
        assert b'data: "second"\n' in await reader.readuntil(b"\n\n")
    writer.close()
    await writer.wait_closed()


async def test_a_client_that_asks_to_close_and_would_take_gzip_gets_a_plain_stream_all_the_same(
    brook: Running,
) -> None:
    listener = await brook.listen("/v1/channels/a", connection="close", accept_encoding="gzip, br")
    assert "content-encoding" not in listener.headers
    assert listener.headers["connection"] == "close"
    await publish(brook, "first")
    assert await listener.data(1) == ['"first"']


async def test_a_silent_stream_gets_heartbeats_and_no_more(brook: Running) -> None:
    listener = await brook.listen("/v1/channels/a")
    await listener.until(b": hb\n: hb\n: hb\n")
    assert re.fullmatch(rb": hb\nretry: \d+\n(: hb\n)+", listener.raw)


# Joining while events are published


async def test_readers_that_join_at_any_moment_miss_nothing_and_get_nothing_twice(brook: Running) -> None:
    """Two thousand events while forty readers join by every kind of start; each must see an unbroken run to the end."""
    total = 2000
    rng = random.Random(7)
    [start] = await publish(brook, "start", channel="other")
    published = asyncio.Event()
    cursors: list[str] = [start]

    async def write() -> None:
        for first in range(0, total, 10):
            cursors.extend(await publish(brook, *range(first, first + 10)))
            await asyncio.sleep(0)
        published.set()

    async def read(number: int) -> list[int]:
        await asyncio.sleep(rng.random() * 0.4)
        kind = number % 5
        known = rng.choice(cursors)
        target, headers = {
            0: ("/v1/channels/a", {"last_event_id": known}),
            1: (f"/v1/stream?channel=*&after={known}", {}),
            2: ("/v1/channels/a?last=50", {}),
            3: ("/v1/channels/a?since=1h", {}),
            4: ("/v1/channels/a", {}),
        }[kind]
        listener = await brook.listen(target, **headers)
        seen: list[int] = []
        # One that joins after the last event has nothing to wait for.
        while seen[-1:] != [total - 1] and not (kind == 4 and published.is_set() and not seen):
            frames = await listener.take(1) + await listener.take(len(listener.frames))
            seen += [int(frame.data) for frame in frames if frame.data != '"start"']
        if kind < 2 and known != start:
            assert seen[:1] in ([cursors.index(known)], [])
        elif kind < 2 or kind == 3:
            assert seen[0] == 0
        return seen

    async with asyncio.TaskGroup() as group:
        group.create_task(write())
        readers = [group.create_task(read(number)) for number in range(40)]
    for reader in readers:
        seen = reader.result()
        assert seen == list(range(seen[0], total)) if seen else True


# Who may listen


async def mint(brook: Running, *patterns: str, **more: Any) -> str:
    answer = await brook.mint({"subscribe": patterns, "tenant": brook.tenant, **more})
    assert answer.status_code == 200, answer.text
    token: str = answer.json()["token"]
    return token


async def test_a_token_is_taken_from_the_header_the_cookie_and_the_query(brook: Running) -> None:
    token = await mint(brook, "chat.*")
    ways: list[tuple[str, dict[str, str]]] = [
        ("", {"authorization": f"Bearer {token}"}),
        ("", {"cookie": f"x=1; hookbrook_token={token}"}),
        (f"token={token}", {}),
    ]
    for query, headers in ways:
        listener = await brook.listen(f"/v1/channels/chat.1?{query}", **headers)
        assert listener.status == 200
        assert (await brook.listen(f"/v1/channels/other?{query}", **headers)).status == 403
        assert (await brook.listen(f"/v1/stream?channel=chat.1&channel=*&{query}", **headers)).status == 403
        await publish(brook, "for you", channel=None, channels=["hidden", "chat.1"])
        assert await listener.data(1) == ['"for you"']
    bad = await brook.listen("/v1/channels/chat.1", authorization="Bearer nonsense")
    assert bad.status == 401


async def test_a_reader_learns_only_of_channels_that_it_may_read(brook: Running) -> None:
    token = await mint(brook, "chat.*")
    for form, name in (("event", "channels"), ("cloudevent", "hookbrookchannels")):
        mine = await brook.listen(f"/v1/channels/chat.1?format={form}&token={token}")
        all_of_it = await brook.listen(f"/v1/channels/chat.1?format={form}")
        await publish(brook, 1, channel=None, channels=["hidden", "chat.1"])
        [restricted] = await mine.data(1)
        [whole] = await all_of_it.data(1)
        assert "hidden" not in restricted
        assert json.loads(restricted)[name] in (["chat.1"], "chat.1")
        assert json.loads(whole)[name] in (["hidden", "chat.1"], "hidden,chat.1")


async def test_a_stream_ends_when_its_token_expires(brook: Running) -> None:
    token = await mint(brook, "a", lifetime_s=1)
    listener = await brook.listen(f"/v1/channels/a?token={token}")
    frames = await listener.rest()
    assert [frame.type for frame in frames] == ["hookbrook.expiring", "hookbrook.expired"]


async def test_public_channels_need_no_credential(tmp_path: Path) -> None:
    async with running(tmp_path, dev=False, public_channels="news.*") as brook:
        listener = await brook.listen("/v1/channels/news.1")
        assert listener.status == 200
        assert (await brook.listen("/v1/stream?channel=*")).status == 401
        assert (await brook.listen("/v1/channels/news.1", authorization="Bearer hbk_wrong")).status == 401
        await brook.publish("news.1", b"hello")
        assert await listener.data(1) == ["hello"]


# Slow readers


async def test_a_reader_that_stops_for_a_while_catches_up_without_a_gap(brook: Running) -> None:
    listener = await brook.listen("/v1/channels/a")
    # Far more than the sink and the kernel hold, while nobody reads.
    for first in range(0, 400, 20):
        await publish(brook, *(f"{number}:" + "x" * 50_000 for number in range(first, first + 20)))
    await publish(brook, "last")
    data = await listener.data(401)
    assert [text[1:].partition(":")[0] for text in data[:-1]] == [str(number) for number in range(400)]


@asynccontextmanager
async def stream_door(
    folder: Path, *, stalled_s: float = 60.0, plain_asgi: bool = True
) -> AsyncIterator[tuple[House, Hub, Server]]:
    """The stream door alone, with a time-out that a test can wait for."""
    async with gateway_in(folder, dev=True, max_event_bytes="16MiB") as house:
        hub = Hub(house.gateway.store, clock=house.clock, rng=random.Random(1), heartbeat_s=1)
        hub.start()
        door = Problems(Stream(house.gateway, hub, stalled_s=stalled_s))
        server = Server(without_extensions(door) if plain_asgi else door, host="127.0.0.1", port=0)
        await server.start()
        try:
            yield house, hub, server
        finally:
            await hub.drain(0)
            await server.finish(2)
            await hub.stop()


async def append(house: House, data: bytes) -> None:
    press = press_for(house.gateway, Principal(kind="dev", tenant="default", view=None))
    await house.gateway.appender.append([press.raw(data, "", "a", "message", None)])


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - what is waited for belongs to other code and has no event
            await asyncio.sleep(0.01)


def connect_and_never_read(port: int, target: str, *, window: int = 4096) -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    client.connect(("127.0.0.1", port))
    client.sendall(f"GET {target} HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: text/event-stream\r\n\r\n".encode())
    return client


async def test_a_client_that_never_reads_is_cut_off_without_an_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, plain_asgi: bool
) -> None:
    async with stream_door(tmp_path, stalled_s=0.3, plain_asgi=plain_asgi) as (house, hub, server):
        client = connect_and_never_read(server.port, "/v1/stream?channel=a")
        await until(lambda: len(hub) == 1)
        for _ in range(12):
            await append(house, b"x" * 1_000_000)
        await until(lambda: len(hub) == 0 and server.connections == 0)
        client.close()
    assert [record.message for record in caplog.records if record.levelname in ("ERROR", "WARNING")] == []


async def test_a_client_that_never_reads_is_cut_off_when_its_stream_has_ended_too(tmp_path: Path) -> None:
    async with stream_door(tmp_path, stalled_s=0.3) as (house, hub, server):
        client = connect_and_never_read(server.port, "/v1/stream?channel=a")
        await until(lambda: len(hub) == 1)
        for _ in range(12):
            await append(house, b"x" * 1_000_000)
        await hub.drain(0)
        await until(lambda: server.connections == 0)
        client.close()


async def test_a_client_that_only_stops_sending_and_reads_nothing_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits for it is less than would make its sink full, and never leaves."""
    monkeypatch.setattr(sinks, "LINGER_S", 0.3)
    async with stream_door(tmp_path, plain_asgi=False) as (house, hub, server):
        client = connect_and_never_read(server.port, "/v1/stream?channel=a")
        await until(lambda: len(hub) == 1)
        [reader] = hub.readers()
        transport = reader._sink._transport  # type: ignore[attr-defined]
        while not transport.get_write_buffer_size():
            await append(house, b"x" * 10_000)
        assert not reader._sink.full
        client.shutdown(socket.SHUT_WR)
        await until(lambda: len(hub) == 0)
        client.close()


async def test_a_client_that_takes_only_a_part_of_what_was_left_for_it_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks, "LINGER_S", 0.3)
    async with stream_door(tmp_path, plain_asgi=False) as (house, hub, server):
        client = connect_and_never_read(server.port, "/v1/stream?channel=a")
        client.setblocking(False)
        await until(lambda: len(hub) == 1)
        [reader] = hub.readers()
        sink = reader._sink
        transport = sink._transport  # type: ignore[attr-defined]
        while not sink.full:
            await append(house, b"x" * 10_000)
        reader.end()
        # Until the transport says that it could be written to again, and no further.
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE_S):
            while sink.full:
                await loop.sock_recv(client, 1024)
        waiting = transport.get_write_buffer_size()
        await until(lambda: sink._reader is None)
        assert waiting > 0
        client.close()


async def test_a_client_that_reads_slowly_is_not_cut_off_in_a_large_event(tmp_path: Path, plain_asgi: bool) -> None:
    """An event of megabytes may take longer than the time-out; only standing still ends a stream."""
    async with stream_door(tmp_path, stalled_s=0.5, plain_asgi=plain_asgi) as (house, hub, server):
        client = connect_and_never_read(server.port, "/v1/stream?channel=a", window=64 * 1024)
        client.setblocking(False)
        await until(lambda: len(hub) == 1)
        size = 8_000_000
        await append(house, b"x" * size)
        loop = asyncio.get_running_loop()
        started, read = loop.time(), 0
        async with asyncio.timeout(PATIENCE_S):
            while read < size:
                piece = await loop.sock_recv(client, 256 * 1024)
                assert piece, f"cut off after {read} bytes"
                read += len(piece)
                await asyncio.sleep(0.02)
        assert loop.time() - started > 1
        assert len(hub) == 1
        client.close()


async def test_a_sink_that_was_full_only_while_it_was_sending_lets_its_reader_go_on(tmp_path: Path) -> None:
    """The reader stops when the sink is full, and only the sink can wake it again."""
    gate = asyncio.Event()
    sent = bytearray()

    async def send(message: Any) -> None:
        await gate.wait()
        sent.extend(message.get("body", b""))

    async def receive() -> Any:
        await asyncio.Event().wait()

    async with stream_door(tmp_path) as (house, hub, _):
        sink = AsgiSink(receive, send)
        reader = hub.open(Subscription(tenant="default", channels=("a",)), sink, after=None, expires=None)
        life = asyncio.create_task(sink.run(reader))
        await append(house, b"x" * (SINK_BYTES - 8000))
        assert not sink.full
        # While the first is being sent: the second fills the sink, the third finds it full.
        await append(house, b"y" * 10_000)
        assert sink.full
        await append(house, b"z")
        gate.set()
        await until(lambda: sent.count(b"\n\n") == 3)
        life.cancel()
        await asyncio.gather(life, return_exceptions=True)


# Ends


@pytest.mark.parametrize("query", ["", "?last=1"], ids=["short way", "ordinary way"])
async def test_a_stream_that_fails_at_its_beginning_is_cut_off_and_logged_as_what_was_sent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    caplog.set_level(logging.INFO, "hookbrook.access")
    async with running(tmp_path) as brook:
        monkeypatch.setattr(brook.app._hub, "open", fail)
        listener = await brook.listen(f"/v1/channels/a{query}")
        async with asyncio.timeout(PATIENCE_S):
            with suppress(ConnectionResetError):
                while await listener.reader.read(65536):
                    pass
        await until(lambda: any(record.name == "hookbrook.access" for record in caplog.records))
        assert (await brook.listen("/healthz")).status == 200
    lines = [record.getMessage() for record in caplog.records if record.name == "hookbrook.access"]
    assert f"GET /v1/channels/a{query} 200 " in lines[0]
    assert "/healthz" in lines[1]
    assert [record.exc_info is not None for record in caplog.records if record.name == "hookbrook.http"] == [True]


async def test_streams_are_told_to_come_back_when_the_app_drains(tmp_path: Path) -> None:
    async with running(tmp_path) as brook:
        listeners = [await brook.listen(f"/v1/channels/{name}") for name in "abc"]
        await brook.publish("a", b"last words")
        await brook.app.drain(0)
        late = await brook.listen("/v1/channels/a")
        for listener in [*listeners, late]:
            frames = await listener.rest()
            assert frames[-1].type == "hookbrook.drain"
            assert frames[-1].retry_ms == json.loads(frames[-1].data)["retry_ms"]
            assert 1000 <= (frames[-1].retry_ms or 0) <= 5000
        assert [frame.data for frame in listeners[0].frames[:-1]] == ["last words"]


async def test_a_reader_that_leaves_is_forgotten(brook: Running) -> None:
    def streams() -> int:
        hub = brook.app._hub
        assert hub is not None
        return len(hub)

    before = streams()
    listener = await brook.listen("/v1/channels/a")
    await until(lambda: streams() == before + 1)
    await listener.close()
    await until(lambda: streams() == before)


async def test_a_cursor_outlives_a_restart_and_is_foreign_to_another_log(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    async with running(tmp_path / "one") as brook:
        cursors = await publish(brook, 0, 1)
    async with running(tmp_path / "one") as brook:
        await publish(brook, 2)
        listener = await brook.listen("/v1/channels/a", last_event_id=cursors[0])
        assert await listener.data(2) == ["1", "2"]
    async with running(tmp_path / "two") as brook:
        await publish(brook, 7, 8)
        listener = await brook.listen("/v1/channels/a", last_event_id=cursors[0])
        assert [frame.type for frame in await listener.take(1)] == ["hookbrook.reset"]


async def test_an_eventsource_whose_token_has_expired_is_told_so_inside_a_stream(
    tmp_path: Path, plain_asgi: bool
) -> None:
    secret = "of the backend, 32 bytes at least"
    (tmp_path / "hookbrook.toml").write_text(f'[[issuers]]\nissuer = "backend"\nsecret = "{secret}"\n', "utf-8")
    claims = {"iss": "backend", "exp": int(time.time()) - 3600, "subscribe": ["a"]}
    token = jwt.encode(claims, secret, algorithm="HS256")
    async with (
        running(tmp_path, dev=False, plain_asgi=plain_asgi) as brook,
        httpx.AsyncClient(base_url=brook.http.base_url) as nobody,
    ):
        stream = {"accept": "text/event-stream"}
        late = await nobody.get("/v1/channels/a", params={"token": token}, headers=stream)
        assert (late.status_code, late.headers["content-type"]) == (200, "text/event-stream")
        assert 'event: hookbrook.expired\ndata: {"reason":"expired"}' in late.text
        assert re.search(r"^retry: [0-9]{4,5}$", late.text, re.MULTILINE)
        # Whoever can send a header can read a status; and what is wrong otherwise gets no second chance.
        shown = {**stream, "authorization": f"Bearer {token}"}
        assert (await nobody.get("/v1/channels/a", headers=shown)).status_code == 401
        assert (await nobody.get("/v1/channels/a", params={"token": "x"}, headers=stream)).status_code == 401
        assert (await nobody.get("/v1/channels/a", params={"token": token})).status_code == 401
