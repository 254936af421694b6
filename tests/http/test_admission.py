"""What one party may have: streams, and events a second."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.served import PATIENCE_S, Listener, Running, running

BROWSER = {"sec_fetch_mode": "cors", "user_agent": "Firefox"}


async def reason_of(listener: Listener) -> str:
    """Why a stream was sent away. An EventSource gives up for good on anything but 200."""
    assert listener.status == 200
    assert listener.headers["content-type"] == "text/event-stream"
    body = await asyncio.wait_for(listener.reader.readexactly(int(listener.headers["content-length"])), PATIENCE_S)
    lines = dict(line.split(": ", 1) for line in body.decode().splitlines() if line)
    data = json.loads(lines["data"])
    assert lines["event"] == "hookbrook.busy"
    assert lines["retry"] == str(data["retry_ms"])
    return str(data["reason"])


async def token(brook: Running, subject: str) -> str:
    answer = await brook.mint({"sub": subject, "subscribe": ["*"], "publish": ["*"]})
    return str(answer.json()["token"])


async def settled(brook: Running, count: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while len(brook.app._hub or ()) != count:  # noqa: ASYNC110 - the server has no event for it
            await asyncio.sleep(0.005)


async def test_so_many_streams_are_open_at_once_and_one_that_leaves_makes_room(tmp_path: Path) -> None:
    async with running(tmp_path, max_connections=2) as brook:
        first, _ = await brook.listen("/v1/channels/a"), await brook.listen("/v1/channels/a")
        assert await reason_of(await brook.listen("/v1/channels/a")) == "connections"
        await first.close()
        await settled(brook, 1)
        third = await brook.listen("/v1/channels/a")
        await brook.publish("a", b"hello")
        assert await third.data(1) == ["hello"]


async def test_a_head_request_takes_no_room_and_needs_none(tmp_path: Path) -> None:
    async with running(tmp_path, max_connections=1, connect_rate=1, connect_burst=1) as brook:
        await brook.listen("/v1/channels/a")
        for _ in range(3):
            answer = await brook.http.head("/v1/stream?channel=a")
            assert answer.headers["content-type"] == "text/event-stream"
            assert answer.content == b""


async def test_an_address_has_its_share_and_a_proxy_is_not_taken_for_it(tmp_path: Path) -> None:
    async with running(tmp_path, max_connections_per_address=1, trusted_proxies="127.0.0.1/32") as brook:
        for address in ("192.0.2.1", "192.0.2.2"):
            assert "content-length" not in (await brook.listen("/v1/channels/a", x_forwarded_for=address)).headers
        assert await reason_of(await brook.listen("/v1/channels/a", x_forwarded_for="192.0.2.1")) == "address"


async def test_a_subject_has_its_share_wherever_it_comes_from(tmp_path: Path) -> None:
    async with running(tmp_path, dev=False, max_connections_per_subject=1) as brook:
        ann, bob = await token(brook, "ann"), await token(brook, "bob")
        for good in (ann, bob):
            assert "content-length" not in (await brook.listen(f"/v1/channels/a?token={good}")).headers
        assert await reason_of(await brook.listen(f"/v1/channels/a?token={await token(brook, 'ann')}")) == "subject"


async def test_streams_are_opened_no_faster_than_allowed(tmp_path: Path) -> None:
    async with running(tmp_path, connect_rate=1, connect_burst=3) as brook:
        for _ in range(3):
            assert "content-length" not in (await brook.listen("/v1/channels/a")).headers
        assert await reason_of(await brook.listen("/v1/channels/a")) == "rate"


async def test_a_stream_names_no_more_channels_than_allowed(tmp_path: Path) -> None:
    async with running(tmp_path, max_stream_channels=2) as brook:
        assert (await brook.listen("/v1/stream?channel=a&channel=b")).status == 200
        refused = await brook.listen("/v1/stream?channel=a&channel=b&channel=c")
        assert refused.status == 422
        assert (await refused.document())["errors"][0]["field"] == "channel"


@pytest.fixture
def two_events() -> list[dict[str, Any]]:
    return [{"channel": "a", "data": 1}, {"channel": "a", "data": 2}]


async def test_who_publishes_too_fast_is_told_when_to_come_again(
    tmp_path: Path, two_events: list[dict[str, Any]]
) -> None:
    async with running(tmp_path, dev=False, publish_rate=1, publish_burst=3) as brook:
        await brook.publish("a", b"0")
        assert (await brook.http.post("/v1/events", json=two_events)).status_code == 201
        ways: list[dict[str, Any]] = [
            {"url": "/v1/channels/a", "content": b"x"},
            {"url": "/v1/events", "json": two_events[0]},
            {"url": "/v1/events", "json": two_events},
        ]
        for way in ways:
            refused = await brook.http.post(**way)
            assert refused.status_code == 429
            assert refused.headers["retry-after"] == "1"
            assert refused.json()["type"] == "urn:hookbrook:problem:too-many"
            assert refused.json()["limit"] == 1
        # Another party is not concerned.
        headers = {"authorization": f"Bearer {await token(brook, 'ann')}"}
        assert (await brook.http.post("/v1/channels/a", content=b"x", headers=headers)).status_code == 201
        history = await brook.http.get("/v1/channels/a")
        assert len(history.json()["data"]) == 4


async def test_an_upload_over_its_rate_is_taken_more_slowly_and_loses_nothing(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    async with running(tmp_path, publish_rate=50, publish_burst=5) as brook:

        async def kept() -> int:
            return len((await brook.http.get("/v1/channels/a")).json()["data"])

        async def lines() -> AsyncIterator[bytes]:
            for number in range(3):
                # What comes in one piece is taken as one, and owed.
                yield b'{"channel": "a", "data": 1}\n' * 10
                async with asyncio.timeout(PATIENCE_S):
                    while await kept() <= 10 * number:  # noqa: ASYNC110 - what is waited for is behind HTTP
                        await asyncio.sleep(0.005)

        started = loop.time()
        answer = await brook.http.post("/v1/events", content=lines(), headers={"content-type": "application/x-ndjson"})
        assert answer.json()["accepted"] == 30
        assert loop.time() - started > 0.3


async def test_a_browser_without_a_connection_left_is_told_of_in_the_log_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "hookbrook.stream")
    async with running(tmp_path) as brook:
        for _ in range(5):
            await brook.listen("/v1/channels/a", **BROWSER)
            await brook.listen("/v1/channels/a", **{**BROWSER, "user_agent": "Chromium"})
            await brook.listen("/v1/channels/a", user_agent="curl")
            await brook.listen("/v1/channels/a", user_agent="curl")
        assert caplog.records == []
        for _ in range(2):
            await brook.listen("/v1/channels/a", **BROWSER)
    (record,) = caplog.records
    assert "6 streams open in one browser" in record.getMessage()
    assert "HTTP/2" in record.getMessage()


async def test_an_answer_of_429_is_readable_by_a_client_that_obeys_it(tmp_path: Path) -> None:
    """The whole of an anonymous or open installation counts by address."""
    async with running(tmp_path, publish_rate=1, publish_burst=1) as brook:
        codes = [(await brook.http.post("/v1/channels/a", content=b"x")).status_code for _ in range(2)]
        assert codes == [201, httpx.codes.TOO_MANY_REQUESTS]


async def test_an_event_that_a_filter_must_be_asked_for_counts_once(tmp_path: Path) -> None:
    async with running(tmp_path, dev=False, publish_rate=1, publish_burst=4) as brook:
        endpoint = {"url": "https://example.com/", "enabled": False, "filter": "data.a == `1`"}
        assert (await brook.http.post("/v1/endpoints", json=endpoint)).status_code == 201
        statuses = [(await brook.http.post("/v1/channels/a", content=b"x")).status_code for _ in range(4)]
        assert statuses == [201] * 4
        assert (await brook.http.post("/v1/channels/a", content=b"x")).status_code == 429
