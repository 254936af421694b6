"""Finished and deleted channels, and pieces of text, over HTTP and in both ways of reaching the socket."""

import asyncio
import json
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.served import Running, running

pytestmark = pytest.mark.asyncio(loop_scope="module")
NUMBERS = count()


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=["taken over", "plain ASGI"])
async def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    plain = request.param == "plain ASGI"
    async with running(tmp_path_factory.mktemp("closing"), heartbeat_s=1, plain_asgi=plain) as here:
        yield here


@pytest_asyncio.fixture(loop_scope="module")
async def brook(house: Running) -> AsyncIterator[Running]:
    async with house.as_tenant(f"t{next(NUMBERS)}") as view:
        yield view


async def post(brook: Running, document: Any, **headers: str) -> Any:
    return await brook.http.post("/v1/events", json=document, headers=headers)


async def close(brook: Running, channel: str = "a", **event: Any) -> Any:
    answer = await post(brook, {"channel": channel, "data": "end", "close": True, **event})
    assert answer.status_code == 201, answer.text
    return answer.json()


# Publishing


async def test_after_the_last_event_publishing_is_a_conflict_that_names_the_channel(brook: Running) -> None:
    await close(brook)
    for answer in (
        await brook.http.post("/v1/channels/a", content=b"late"),
        await post(brook, {"channel": "a", "data": 1}),
        await brook.http.post("/v1/channels/a?close=1", content=b"late"),
    ):
        assert answer.status_code == 409
        problem = answer.json()
        assert problem["type"] == "urn:hookbrook:problem:channel-closed"
        assert problem["channel"] == "a"
    assert (await brook.http.get("/v1/channels/a")).json()["data"][-1]["data"] == "end"


async def test_an_array_with_one_late_event_is_refused_whole_and_names_its_place(brook: Running) -> None:
    await close(brook)
    answer = await post(brook, [{"channel": "b", "data": 1}, {"channel": "a", "data": 2}])
    assert answer.status_code == 409
    assert (answer.json()["index"], answer.json()["errors"][0]["field"]) == (1, "[1].channel")
    assert (await brook.http.get("/v1/channels/b")).json()["data"] == []
    within = await post(brook, [{"channel": "c", "data": 1, "close": True}, {"channel": "c", "data": 2}])
    assert within.status_code == 409
    assert (await brook.http.post("/v1/channels/c", content=b"open")).status_code == 201


async def test_of_lines_those_up_to_the_closing_one_stand_and_the_next_is_named(brook: Running) -> None:
    lines = [{"channel": "a", "data": 1}, {"channel": "a", "data": 2, "close": True}, {"channel": "a", "data": 3}]
    body = "\n".join(map(json.dumps, lines))
    answer = await brook.http.post("/v1/events", content=body, headers={"content-type": "application/x-ndjson"})
    assert answer.status_code == 409
    assert (answer.json()["line"], answer.json()["accepted"]) == (3, 2)
    assert [event["data"] for event in (await brook.http.get("/v1/channels/a")).json()["data"]] == [1, 2]


async def test_the_closing_request_may_be_repeated_and_says_what_it_did(brook: Running) -> None:
    first = await close(brook, id="end")
    again = await post(brook, {"channel": "a", "data": "end", "close": True, "id": "end"})
    assert (again.status_code, again.json()) == (200, {**first, "duplicate": True})
    # Without `close` it would be another event.
    assert (await post(brook, {"channel": "a", "data": "end", "id": "end"})).status_code == 409
    [event] = (await brook.http.get("/v1/channels/a")).json()["data"]
    assert event["close"] is True


async def test_a_raw_body_and_a_cloud_event_close_and_merge_as_well(brook: Running) -> None:
    raw = await brook.http.post("/v1/channels/a?close=1&merge=reply", content=b"bye")
    assert raw.status_code == 201
    cloud = {"specversion": "1.0", "id": "1", "source": "/x", "type": "t", "subject": "b", "data": 1}
    answer = await brook.http.post(
        "/v1/events",
        content=json.dumps({**cloud, "hookbrookclose": True, "hookbrookmerge": "reply"}),
        headers={"content-type": "application/cloudevents+json"},
    )
    assert answer.status_code == 201, answer.text
    for channel in ("a", "b"):
        [event] = (await brook.http.get(f"/v1/channels/{channel}")).json()["data"]
        assert (event["close"], event["merge"]) == (True, "reply")
        listener = await brook.listen(f"/v1/channels/{channel}?last=1&format=cloudevent")
        [frame] = await listener.take(1)
        assert json.loads(frame.data)["hookbrookclose"] is True
    await brook.publish("c")
    [plain] = (await brook.http.get("/v1/channels/c")).json()["data"]
    assert {"close", "merge"}.isdisjoint(plain)


@pytest.mark.parametrize(
    ("target", "document", "field"),
    [
        ("/v1/channels/a?close=yes", None, "close"),
        ("/v1/channels/a?merge=", None, "merge"),
        ("/v1/channels/a?merge=" + "k" * 201, None, "merge"),
        ("/v1/channels/a?merge=a%0ab", None, "merge"),
        ("/v1/events", {"channel": "a", "data": 1, "close": "yes"}, "close"),
        ("/v1/events", {"channel": "a", "data": 1, "close": 1}, "close"),
        ("/v1/events", {"channel": "a", "data": 1, "merge": ""}, "merge"),
        ("/v1/events", [{"channel": "a", "data": 1, "merge": "\u0000"}], "[0].merge"),
    ],
)
async def test_a_wrong_mark_is_named(brook: Running, target: str, document: Any, field: str) -> None:
    answer = await (brook.http.post(target, content=b"x") if document is None else post(brook, document))
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"] == field


async def test_many_publishers_race_with_one_that_closes_and_nothing_comes_after_it(brook: Running) -> None:
    async def publish(number: int) -> tuple[int, str]:
        answer = await post(brook, {"channel": "a", "data": number, "close": number == 25})
        return answer.status_code, answer.json().get("cursor", "")

    outcomes = await asyncio.gather(*[publish(number) for number in range(50)])
    assert {status for status, _ in outcomes} <= {201, 409}
    events = (await brook.http.get("/v1/channels/a?limit=100")).json()["data"]
    assert events[-1]["data"] == 25
    assert len(events) == sum(status == 201 for status, _ in outcomes)


# Streaming


async def test_an_open_stream_ends_and_from_then_on_the_answer_is_204(brook: Running) -> None:
    listener = await brook.listen("/v1/channels/a")
    await brook.publish("a", b"one")
    await close(brook)
    one, end, closed = await listener.rest()
    assert [one.data, end.data, closed.type] == ["one", '"end"', "hookbrook.closed"]
    assert json.loads(closed.data)["channels"] == ["a"]
    for headers in ({"last_event_id": closed.last_event_id}, {"last_event_id": end.last_event_id}, {}):
        again = await brook.listen("/v1/channels/a", **headers)
        assert again.status == 204
        assert "content-type" not in again.headers
    late = await brook.listen("/v1/channels/a", last_event_id=one.last_event_id)
    assert [frame.type for frame in await late.rest()] == ["message", "hookbrook.closed"]
    head = await brook.http.head("/v1/channels/a", headers={"accept": "text/event-stream"})
    assert head.status_code == 204


async def test_several_channels_end_together_and_a_pattern_does_not(brook: Running) -> None:
    await close(brook, "a")
    both = await brook.listen("/v1/stream?channel=a&channel=b")
    assert both.status == 200
    await close(brook, "b")
    assert [frame.type for frame in await both.rest()] == ["message", "hookbrook.closed"]
    assert (await brook.listen("/v1/stream?channel=a&channel=b")).status == 204
    assert (await brook.listen("/v1/stream?channel=a*")).status == 200
    assert (await brook.listen("/v1/stream?channel=a&channel=c")).status == 200


async def test_a_gap_is_told_before_it_is_said_that_nothing_more_comes(brook: Running) -> None:
    await close(brook)
    listener = await brook.listen("/v1/channels/a", last_event_id="zzzzzz-7")
    assert listener.status == 200
    assert [frame.type for frame in await listener.rest()] == ["hookbrook.reset", "hookbrook.closed"]


async def test_pieces_of_a_text_come_as_one_event_to_whoever_asks_and_catches_up(brook: Running) -> None:
    rows = [{"channel": "a", "data": f"word{number} ", "merge": "reply"} for number in range(100)]
    await post(brook, rows)
    await post(brook, {"channel": "a", "data": {"done": True}})
    apart = await brook.listen("/v1/channels/a?last=101")
    assert len(await apart.take(101)) == 101
    merged = await brook.listen("/v1/channels/a?last=101&merge=1")
    text, done = await merged.take(2)
    assert json.loads(text.data) == "".join(row["data"] for row in rows)
    assert json.loads(done.data) == {"done": True}
    refused = await brook.listen("/v1/channels/a?merge=2")
    assert refused.status == 422


# Deleting


async def test_a_deleted_channel_is_empty_and_open_and_its_readers_are_told(brook: Running) -> None:
    listener = await brook.listen("/v1/channels/a")
    before = await brook.publish("a", b"one")
    await listener.take(1)
    assert (await brook.http.delete("/v1/channels/a")).status_code == 204
    [reset] = await listener.take(1)
    assert (reset.type, json.loads(reset.data)["reason"]) == ("hookbrook.reset", "deleted")
    assert (await brook.http.get("/v1/channels/a")).json()["data"] == []
    assert (await brook.http.get(f"/v1/events/{before['id']}")).status_code == 404
    gone = await brook.http.get(f"/v1/channels/a?after={before['cursor']}")
    assert (gone.status_code, gone.json()["reason"]) == (410, "deleted")
    await brook.publish("a", b"two")
    assert await listener.data(1) == ["two"]
    late = await brook.listen("/v1/channels/a", last_event_id=before["cursor"])
    assert [frame.type for frame in await late.take(2)] == ["hookbrook.reset", "message"]


async def test_deleting_opens_a_closed_channel_and_what_is_not_there_cannot_be_deleted(brook: Running) -> None:
    await close(brook)
    assert (await brook.http.delete("/v1/channels/a")).status_code == 204
    await brook.publish("a")
    assert (await brook.listen("/v1/channels/a")).status == 200
    assert (await brook.http.delete("/v1/channels/nothing")).status_code == 404
    assert (await brook.http.delete("/v1/channels/hookbrook.ops")).status_code == 422


async def test_only_an_administrator_deletes(tmp_path: Path) -> None:
    async with running(tmp_path, dev=False) as brook:
        made = await brook.http.post("/v1/keys", json={"scopes": ["publish", "subscribe"]})
        mine = {"authorization": f"Bearer {made.json()['key']}"}
        await brook.publish("a")
        assert (await brook.http.delete("/v1/channels/a", headers=mine)).status_code == 403
        assert (await brook.http.delete("/v1/channels/a")).status_code == 204


async def test_what_is_closed_and_deleted_is_so_after_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path) as brook:
        await brook.publish("b")
        await close(brook, "a")
        assert (await brook.http.delete("/v1/channels/b")).status_code == 204
    async with running(tmp_path) as brook:
        assert (await brook.listen("/v1/channels/a")).status == 204
        assert (await brook.http.post("/v1/channels/a", content=b"x")).status_code == 409
        assert (await brook.http.get("/v1/channels/b")).json()["data"] == []


async def test_a_webhook_is_kept_on_a_channel_that_somebody_has_closed(brook: Running) -> None:
    made = await brook.http.post("/v1/sources", json={"name": "in", "provider": "none", "channel": "a"})
    assert made.status_code == 201
    await close(brook)
    answer = await brook.http.post("/in/in", content=b"{}")
    assert answer.status_code == 200, answer.text
    history = (await brook.http.get("/v1/channels/a")).json()["data"]
    assert [each["source"] for each in history] == [None, "in"]
    # Publishers are still refused.
    assert (await brook.http.post("/v1/channels/a", content=b"late")).status_code == 409
