"""The publish doors, over real HTTP: what is taken, what is refused, and that nothing of what is refused is kept."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from tests.served import PATIENCE_S, Running, running

from hookbrook.core.event import Event
from hookbrook.http.publish import Lines

NUMBERS = count()
NDJSON = {"content-type": "application/x-ndjson"}
#: Data that any program which parses and writes it again would change.
FRAGILE = b'{ "b": 1E400,\t"a":0.10, "b" : 12345678901234567890.0 , "\\u0061":"\\/" }'


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    async with running(tmp_path_factory.mktemp("publish"), max_event_bytes=2048) as here:
        yield here


@pytest_asyncio.fixture(loop_scope="module")
async def brook(house: Running) -> AsyncIterator[Running]:
    """A tenant of this test's own."""
    async with house.as_tenant(f"t{next(NUMBERS)}") as view:
        yield view


async def kept(brook: Running, **params: Any) -> list[Any]:
    answer = await brook.http.get("/v1/events", params={"limit": 1000, **params})
    assert answer.status_code == 200
    events: list[Any] = answer.json()["data"]
    return events


async def post(brook: Running, body: Any, **headers: str) -> httpx.Response:
    return await brook.http.post("/v1/events", json=body, headers=headers)


async def lines(brook: Running, *rows: Any, end: str = "\n", **headers: str) -> httpx.Response:
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + end for row in rows)
    return await brook.http.post("/v1/events", content=text.encode(), headers={**NDJSON, **headers})


def wrong_fields(answer: httpx.Response) -> list[str]:
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["status"] == answer.status_code
    return [error["field"] for error in document.get("errors", [])]


# A raw body to one channel


@pytest.mark.parametrize(
    ("label", "body", "content_type", "member"),
    [
        ("application/x-www-form-urlencoded", b"hello=1&x", "text/plain; charset=utf-8", "data"),
        ("application/x-www-form-urlencoded", b'{"a": 1}', "application/json", "data"),
        (None, b"hello", "text/plain; charset=utf-8", "data"),
        (None, b"[1, 2]", "application/json", "data"),
        (None, b"\xff\xfe\x00", "application/octet-stream", "data_base64"),
        (None, b"", "text/plain; charset=utf-8", "data"),
        ("application/json; charset=utf-8", b"null", "application/json; charset=utf-8", "data"),
        ("application/vnd.api+json", b"{}", "application/vnd.api+json", "data"),
        ("text/html", "<p>ü".encode(), "text/html", "data"),
        ("text/plain; charset=latin-1", b"\xfc", "text/plain; charset=latin-1", "data_base64"),
        ("image/png", b"\x89PNG\r\n", "image/png", "data_base64"),
        ("application/x-ndjson", b"1\n2\n", "application/x-ndjson", "data"),
    ],
)
async def test_a_raw_body_is_kept_with_its_label_or_what_its_bytes_are(
    brook: Running, label: str | None, body: bytes, content_type: str, member: str
) -> None:
    headers = {} if label is None else {"content-type": label}
    answer = await brook.http.post("/v1/channels/chat.42", content=body, headers=headers)
    assert answer.status_code == 201
    [event] = await kept(brook)
    assert event["content_type"] == content_type
    assert event["id"] == answer.json()["id"]
    assert member in event


@pytest.mark.parametrize(
    ("label", "body", "status"),
    [
        ("application/json", b"{", 400),
        ("application/json", b"", 400),
        ("application/json", b"NaN", 400),
        ("application/json", b'"\xff"', 400),
        ("application/cloudevents+json", b"no json", 400),
        ("text/plain", b"\xff", 400),
        ("text/plain; charset=utf-8", b"\xff", 400),
        ("multipart/form-data; boundary=x", b"--x--", 415),
        ("nonsense", b"x", 422),
        ("text/plain; \xe9", b"x", 422),
        ("text/" + "x" * 250, b"x", 422),
    ],
)
async def test_a_label_that_is_not_true_is_refused_and_nothing_is_kept(
    brook: Running, label: str, body: bytes, status: int
) -> None:
    answer = await brook.http.post("/v1/channels/chat", content=body, headers={b"content-type": label.encode()})
    assert answer.status_code == status
    wrong_fields(answer)
    assert await kept(brook) == []


@pytest.mark.parametrize(
    "channel", ["a b", "ä", "%00", "%0d", "a%0ab", "hookbrook.x", "x" * 201, "a*", "%ff", "a%2525"]
)
async def test_a_channel_of_unknown_characters_is_refused(brook: Running, channel: str) -> None:
    answer = await brook.http.post(f"/v1/channels/{channel}", content=b"x")
    assert (answer.status_code, wrong_fields(answer)) == (422, ["channel"])


@pytest.mark.parametrize("channel", ["x" * 200, "a/b/c", "a:b@c_d-e.f", "a%2fb"])
async def test_the_rest_of_the_path_is_the_channel(brook: Running, channel: str) -> None:
    await brook.publish(channel)
    [event] = await kept(brook)
    assert event["channels"] == [channel.replace("%2f", "/")]


@pytest.mark.parametrize("query", ["type=a%00b", "type=hookbrook.x", "type=" + "x" * 201, "type=a&type=b", "type=a*"])
async def test_a_type_that_is_none_is_refused(brook: Running, query: str) -> None:
    answer = await brook.http.post(f"/v1/channels/a?{query}", content=b"x")
    assert (answer.status_code, wrong_fields(answer)) == (422, ["type"])


async def test_a_new_event_is_201_with_its_location_and_a_repeat_is_200_with_the_first(brook: Running) -> None:
    key = {"idempotency-key": "order/1?x#y%z"}
    first = await brook.http.post("/v1/channels/a?type=order.paid", content=b"hello", headers=key)
    assert first.status_code == 201
    assert (await brook.http.get(first.headers["location"])).json()["type"] == "order.paid"
    again = await brook.http.post("/v1/channels/a?type=order.paid", content=b"hello", headers=key)
    assert again.status_code == 200
    assert "location" not in again.headers
    assert again.json() == {**first.json(), "duplicate": True}
    for path, body in [("a?type=order.paid", b"other"), ("b?type=order.paid", b"hello"), ("a", b"hello")]:
        other = await brook.http.post(f"/v1/channels/{path}", content=body, headers=key)
        assert other.status_code == 409
        assert wrong_fields(other) == []
    assert len(await kept(brook)) == 1


@pytest.mark.parametrize("key", ["a b", "ü", "x" * 241])
async def test_an_idempotency_key_that_cannot_be_an_id_is_refused(brook: Running, key: str) -> None:
    headers = [(b"idempotency-key", key.encode())]
    answer = await brook.http.post("/v1/channels/a", content=b"x", headers=headers)
    assert (answer.status_code, wrong_fields(answer)) == (422, ["Idempotency-Key"])


async def test_a_body_over_the_limit_is_refused_with_and_without_a_length(brook: Running) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * 1024

    assert (await brook.http.post("/v1/channels/a", content=b"x" * 2048)).status_code == 201
    for body in (b"x" * 2049, pieces()):
        answer = await brook.http.post("/v1/channels/a", content=body)
        assert (answer.status_code, answer.json()["limit"]) == (413, 2048)
    assert len(await kept(brook)) == 1


# Events as JSON


async def test_one_event_keeps_every_field(brook: Running) -> None:
    event = {
        "channels": ["a", "b", "a"],
        "type": "x.y",
        "id": "my:id",
        "time": "2026-01-02T03:04:05.678+01:00",
        "data": {"b": [1, None], "a": "ü"},
    }
    answer = await post(brook, event)
    assert answer.status_code == 201
    [found] = await kept(brook)
    expected = {"channels": ["a", "b"], "type": "x.y", "id": "my:id", "time": "2026-01-02T02:04:05.678Z"}
    assert {name: found[name] for name in expected} == expected
    assert found["data"] == event["data"]
    assert list(found["data"]) == ["b", "a"]


async def test_text_and_bytes_travel_in_json(brook: Running) -> None:
    text = {"channel": "a", "content_type": "text/plain", "data": "a\r\nb\u0000ü"}
    binary = {"channel": "a", "data_base64": "/wA="}
    assert (await post(brook, [text, binary])).status_code == 201
    first, second = await kept(brook)
    assert (first["content_type"], first["data"]) == ("text/plain", "a\r\nb\u0000ü")
    assert (second["content_type"], second["data_base64"]) == ("application/octet-stream", "/wA=")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"channel": "a", "channels": ["b"]}, "channel"),
        ({"channel": None}, "channel"),
        ({"channel": None, "channels": []}, "channels"),
        ({"channel": None, "channels": ["a b"]}, "channels"),
        ({"channel": None, "channels": [f"c{n}" for n in range(2000)]}, "channels"),
        ({"channel": 7}, "channel"),
        ({"channel": "a\u0000"}, "channel"),
        ({"type": "a\r\nb"}, "type"),
        ({"type": ""}, "type"),
        ({"type": None}, "type"),
        ({"id": "a\u0000b"}, "id"),
        ({"id": "a\rb"}, "id"),
        ({"id": ""}, "id"),
        ({"id": "x" * 10_000}, "id"),
        ({"id": 5}, "id"),
        ({"time": "yesterday"}, "time"),
        ({"time": "2026-01-02T03:04:05"}, "time"),
        ({"content_type": "nonsense"}, "content_type"),
        ({"content_type": "text/plain"}, "data"),
        ({"data_base64": "AA=="}, "data"),
        ({"data": ...}, "data"),
        ({"data": ..., "data_base64": "***"}, "data_base64"),
        ({"data": "x" * 2047}, "data"),
        ({"surprise": 1}, "surprise"),
    ],
)
async def test_each_wrong_field_is_named_alone_in_an_array_and_in_a_line(
    brook: Running, change: dict[str, Any], field: str
) -> None:
    event = {"channel": "a", "data": 1, **change}
    event = {name: value for name, value in event.items() if value is not ...}
    status = 413 if change.get("data") == "x" * 2047 else 422
    alone = await post(brook, event)
    assert (alone.status_code, wrong_fields(alone)) == (status, [field])
    good = {"channel": "a", "data": 0}
    array = await post(brook, [good, event, good])
    assert array.status_code == status
    assert wrong_fields(array) == [f"[1].{field}"]
    assert await kept(brook) == []
    in_line = await lines(brook, good, event, good)
    assert (in_line.status_code, wrong_fields(in_line)) == (status, [field])
    assert (in_line.json()["line"], in_line.json()["accepted"]) == (2, 1)
    assert [found["cursor"] for found in await kept(brook)] == [in_line.json()["cursor"]]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b'{"channel":"a","data":1}x',
        b'{"channel":"a","data":NaN}',
        b'{"channel":"a","data":"\xff"}',
        b'{"channel":"a","data":"\\ud800"}',
        b'{"channel":"a","data":"\\ud800\\u0041"}',
        b'{"channel":"a","content_type":"text/plain","data":"\\udc00"}',
        b'{"channel":"a","id":"\\ud800","data":1}',
        b'{"channel":"a","data":"a\nb"}',
        b'{"channel":"a","data":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"[" * 100_000,
        b'\xef\xbb\xbf{"channel":"a","data":1}',
    ],
)
async def test_what_is_not_json_is_400_at_every_door_and_nothing_is_kept(brook: Running, body: bytes) -> None:
    for content_type in ("application/json", "application/cloudevents+json", "application/cloudevents-batch+json"):
        answer = await brook.http.post("/v1/events", content=body, headers={"content-type": content_type})
        assert answer.status_code in (400, 422), (content_type, answer.text)
        wrong_fields(answer)
    if body:
        answer = await brook.http.post("/v1/events", content=body + b"\n", headers=NDJSON)
        # A line of 200 KB may be over its limit before its end has come.
        assert answer.status_code in ((413, 422) if len(body) > 20_000 else (422,))
        assert answer.json()["line"] == 1
    assert await kept(brook) == []


@pytest.mark.parametrize("body", [1, "text", True, [1], [None], [[]]])
async def test_json_of_another_shape_is_refused(brook: Running, body: Any) -> None:
    answer = await post(brook, body)
    assert answer.status_code == 422
    assert wrong_fields(answer)


async def test_a_form_label_on_an_event_is_ignored_and_another_label_is_415(brook: Running) -> None:
    body = b'{"channel":"a","data":1}'
    for label in ("application/x-www-form-urlencoded", "text/json", "APPLICATION/JSON; charset=utf-8"):
        answer = await brook.http.post("/v1/events", content=body, headers={"content-type": label})
        assert answer.status_code == 201
    assert (await brook.http.post("/v1/events", content=body)).status_code == 201
    for label in ("text/plain", "application/xml", "multipart/form-data"):
        answer = await brook.http.post("/v1/events", content=body, headers={"content-type": label})
        assert answer.status_code == 415
        assert label in answer.json()["detail"]


async def test_an_array_is_answered_by_an_array_in_its_order(brook: Running) -> None:
    answer = await post(brook, [{"channel": "a", "data": n, "id": f"n{n}"} for n in (3, 1, 2, 1)])
    assert answer.status_code == 201
    assert [reply["id"] for reply in answer.json()] == ["n3", "n1", "n2", "n1"]
    assert [reply["duplicate"] for reply in answer.json()] == [False, False, False, True]
    assert [event["data"] for event in await kept(brook)] == [3, 1, 2]
    again = await post(brook, [{"channel": "a", "data": n, "id": f"n{n}"} for n in (3, 1)])
    assert again.status_code == 200
    assert all(reply["duplicate"] for reply in again.json())
    assert (await post(brook, [])).json() == []


async def test_a_conflict_in_an_array_names_its_index_and_keeps_nothing(brook: Running) -> None:
    await post(brook, {"channel": "a", "id": "x", "data": 1})
    answer = await post(brook, [{"channel": "a", "data": 5}, {"channel": "a", "id": "x", "data": 2}])
    assert (answer.status_code, answer.json()["index"]) == (409, 1)
    assert wrong_fields(answer) == ["[1].id"]
    assert [event["data"] for event in await kept(brook)] == [1]


async def test_an_array_of_too_many_events_is_413(brook: Running) -> None:
    answer = await post(brook, [{"channel": "a", "data": 1}] * 1001)
    assert (answer.status_code, answer.json()["limit"]) == (413, 1000)
    assert (await post(brook, [{"channel": "a", "data": 1}] * 1000)).status_code == 201


async def test_an_idempotency_key_makes_a_whole_array_repeatable(brook: Running) -> None:
    body = [{"channel": "a", "data": 1}, {"channel": "a", "data": 2, "id": "own"}]
    first = await post(brook, body, **{"idempotency-key": "k"})
    again = await post(brook, body, **{"idempotency-key": "k"})
    assert [reply["id"] for reply in again.json()] == ["k.0", "own"] == [reply["id"] for reply in first.json()]
    assert (first.status_code, again.status_code, len(await kept(brook))) == (201, 200, 2)


async def test_a_large_event_fits_in_json_if_it_fits_at_all(tmp_path: Path) -> None:
    """The limit of an array must not be lower than that of one event."""
    async with running(tmp_path, max_event_bytes="33MiB") as brook:
        data = "x" * (33 * 2**20 - 2)
        assert (await brook.http.post("/v1/events", json={"channel": "a", "data": data})).status_code == 201


# CloudEvents


def cloud_event(**change: Any) -> dict[str, Any]:
    return {"specversion": "1.0", "id": "ce-1", "source": "/shop", "type": "order.paid", "data": {"a": 1}} | change


async def test_a_cloud_event_becomes_an_event(brook: Running) -> None:
    event = cloud_event(subject="orders.42", time="2026-01-02T03:04:05Z", unknownextension="x")
    headers = {"content-type": "application/cloudevents+json; charset=utf-8"}
    answer = await brook.http.post("/v1/events", content=json.dumps(event), headers=headers)
    assert answer.status_code == 201
    [found] = await kept(brook)
    assert (found["id"], found["type"], found["channels"]) == ("ce-1", "order.paid", ["orders.42"])
    assert (found["time"], found["data"]) == ("2026-01-02T03:04:05Z", {"a": 1})
    assert (await brook.http.post("/v1/events", content=json.dumps(event), headers=headers)).status_code == 200


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"source": ""}, "source"),
        ({"id": "a b"}, "id"),
        ({"type": "a\u0000"}, "type"),
        ({"type": "hookbrook.reset"}, "type"),
        ({"subject": "a b"}, "subject"),
        ({"time": "x"}, "time"),
        ({"datacontenttype": "text/plain"}, "data"),
        ({"data_base64": "AA=="}, "data_base64"),
        ({"data": "x" * 2047}, "data"),
    ],
)
async def test_a_wrong_attribute_of_a_cloud_event_is_named_alone_and_in_a_batch(
    brook: Running, change: dict[str, Any], field: str
) -> None:
    event = cloud_event(subject="a") | change
    headers = {"content-type": "application/cloudevents+json"}
    alone = await brook.http.post("/v1/events", content=json.dumps(event), headers=headers)
    assert wrong_fields(alone) == [field]
    headers = {"content-type": "application/cloudevents-batch+json"}
    batch = await brook.http.post("/v1/events", content=json.dumps([cloud_event(subject="a"), event]), headers=headers)
    assert batch.status_code == alone.status_code
    assert wrong_fields(batch) == [f"[1].{field}"]
    assert await kept(brook) == []


async def test_a_cloud_event_without_a_channel_says_how_to_name_one(brook: Running) -> None:
    headers = {"content-type": "application/cloudevents+json"}
    answer = await brook.http.post("/v1/events", content=json.dumps(cloud_event()), headers=headers)
    assert (answer.status_code, wrong_fields(answer)) == (422, ["channel"])
    answer = await brook.http.post("/v1/events?channel=c", content=json.dumps(cloud_event()), headers=headers)
    assert answer.status_code == 201


@pytest.mark.parametrize("content_type", ["nonsense", "a/b\r\nx: y", "x" * 300, "text/plain\u0000"])
async def test_a_cloud_event_cannot_bring_a_content_type_that_is_none(brook: Running, content_type: str) -> None:
    event = cloud_event(subject="a", datacontenttype=content_type, data="x")
    headers = {"content-type": "application/cloudevents+json"}
    answer = await brook.http.post("/v1/events", content=json.dumps(event), headers=headers)
    assert (answer.status_code, wrong_fields(answer)) == (422, ["datacontenttype"])


# NDJSON


async def test_a_line_can_be_read_before_the_next_was_sent(brook: Running) -> None:
    listener = await brook.listen("/v1/channels/tokens")
    arrived: asyncio.Queue[str] = asyncio.Queue()

    async def tokens() -> AsyncIterator[bytes]:
        for number in range(3):
            yield b'{"channel":"tokens","data":%d}\n' % number
            arrived.put_nowait(await next_data())

    async def next_data() -> str:
        return (await listener.data(1))[0]

    async with asyncio.timeout(PATIENCE_S):
        answer = await brook.http.post("/v1/events", content=tokens(), headers=NDJSON)
    assert answer.status_code == 200
    assert answer.json()["accepted"] == 3
    assert [arrived.get_nowait() for _ in range(3)] == ["0", "1", "2"]


async def test_lines_may_be_blank_and_end_in_crlf_or_not_at_all(brook: Running) -> None:
    body = b'\n\r\n{"channel":"a","data":1}\r\n  \n{"channel":"a","data":2}\n\n{"channel":"a","data":3}'
    answer = await brook.http.post("/v1/events", content=body, headers=NDJSON)
    assert answer.json()["accepted"] == 3
    assert [event["data"] for event in await kept(brook)] == [1, 2, 3]
    bad = await brook.http.post("/v1/events", content=body + b"\n\nnonsense", headers=NDJSON)
    assert (bad.status_code, bad.json()["line"], bad.json()["accepted"]) == (422, 9, 3)


async def test_lines_that_arrive_together_are_committed_together_also_the_last(brook: Running) -> None:
    hub = brook.app._hub
    assert hub is not None
    groups: list[int] = []

    def count(events: Sequence[Event]) -> None:
        groups.append(len(events))

    hub.log.follow(count)
    answer = await lines(brook, *({"channel": "a", "data": n} for n in range(25)), end="\n")
    body = b"\n".join(b'{"channel":"a","data":%d}' % n for n in range(25))
    unended = await brook.http.post("/v1/events", content=body, headers=NDJSON)
    hub.log.unfollow(count)
    assert (answer.json()["accepted"], unended.json()["accepted"]) == (25, 25)
    assert groups == [25, 25]


async def test_no_lines_at_all_are_accepted(brook: Running) -> None:
    answer = await brook.http.post("/v1/events", content=b"\n\n", headers=NDJSON)
    assert answer.json() == {"accepted": 0, "cursor": None, "duplicates": 0}


async def test_lines_are_cut_alike_wherever_the_network_cuts_them(brook: Running) -> None:
    body = b"".join(b'{"channel":"a","id":"%d","data":"\xc3\xbc%d"}\r\n' % (n, n) for n in range(40))

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 7):
            yield body[start : start + 7]

    answer = await brook.http.post("/v1/events", content=pieces(), headers=NDJSON)
    assert answer.json()["accepted"] == 40
    assert [event["data"] for event in await kept(brook)] == [f"ü{n}" for n in range(40)]


async def test_the_lines_before_a_bad_one_stand_and_sending_all_again_is_safe(brook: Running) -> None:
    good = [{"channel": "a", "id": f"n{n}", "data": n} for n in range(5)]
    answer = await lines(brook, *good[:3], "{", *good[3:])
    document = answer.json()
    assert (answer.status_code, document["line"], document["accepted"]) == (422, 4, 3)
    assert [event["cursor"] for event in await kept(brook)][-1] == document["cursor"]
    again = await lines(brook, *good)
    assert again.json()["accepted"] == 5
    assert again.json()["duplicates"] == 3
    assert [event["data"] for event in await kept(brook)] == [0, 1, 2, 3, 4]


async def test_a_conflict_in_the_middle_names_its_line_and_the_lines_before_it_stand(brook: Running) -> None:
    await post(brook, {"channel": "a", "id": "taken", "data": "first"})
    rows = [{"channel": "a", "data": n} for n in range(3)]
    answer = await lines(brook, *rows[:2], "", {"channel": "a", "id": "taken", "data": "second"}, rows[2])
    document = answer.json()
    assert (answer.status_code, document["line"], document["accepted"]) == (409, 4, 2)
    assert [event["data"] for event in await kept(brook)] == ["first", 0, 1]


async def test_two_conflicts_name_the_first(brook: Running) -> None:
    await post(brook, [{"channel": "a", "id": "x", "data": 1}, {"channel": "a", "id": "y", "data": 1}])
    rows = [{"channel": "a", "id": name, "data": 2} for name in ("new", "y", "x")]
    answer = await lines(brook, *rows)
    assert (answer.status_code, answer.json()["line"], answer.json()["accepted"]) == (409, 2, 1)


async def test_a_line_that_does_not_end_is_refused_while_it_still_comes(brook: Running) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b'{"channel":"a","data":1}\n'
        for _ in range(64):
            yield b" " * 16384

    answer = await brook.http.post("/v1/events", content=endless(), headers=NDJSON)
    document = answer.json()
    assert (answer.status_code, document["line"], document["accepted"]) == (413, 2, 1)
    assert len(await kept(brook)) == 1


async def test_text_that_is_escaped_throughout_fits_in_a_line_if_it_fits_at_all(brook: Running) -> None:
    row = {"channel": "a", "content_type": "text/plain", "data": "\u0001" * 2048}
    assert (await lines(brook, row)).status_code == 200


async def test_an_idempotency_key_makes_lines_repeatable(brook: Running) -> None:
    for _ in range(2):
        answer = await lines(
            brook, {"channel": "a", "data": 1}, {"channel": "a", "data": 2}, **{"idempotency-key": "k"}
        )
        assert answer.status_code == 200
    assert [event["id"] for event in await kept(brook)] == ["k.1", "k.2"]
    assert answer.json()["duplicates"] == 2


async def test_many_lines_at_once_are_kept_in_order(brook: Running) -> None:
    rows = [{"channel": "a", "data": n} for n in range(5000)]
    answer = await lines(brook, *rows)
    assert answer.json()["accepted"] == 5000
    listener = await brook.listen("/v1/channels/a?last=5000")
    assert await listener.data(5000) == [str(n) for n in range(5000)]


async def test_lines_survive_a_client_that_leaves_in_the_middle(brook: Running) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", brook.port)
    line = b'{"channel":"a","data":1}\n{"channel":"a","da'
    head = b"POST /v1/events?tenant=%b HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/x-ndjson\r\n"
    head %= brook.tenant.encode()
    writer.write(head + b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(line), line))
    listener = await brook.listen("/v1/channels/a?last=1")
    assert await listener.data(1) == ["1"]
    writer.close()
    await writer.wait_closed()
    await brook.publish("a", b"2")
    assert await listener.data(1) == ["2"]


async def test_a_line_in_many_small_pieces_is_put_together_once() -> None:
    """A body of bytes that come one by one must not be copied with each of them."""
    cutter = Lines()
    started = time.process_time()
    for _ in range(300_000):
        assert not cutter.feed(b"x")
    assert cutter.unfinished == 300_000
    [line] = cutter.feed(b"y\n")
    assert len(line) == 300_001
    assert cutter.end() == []
    # Copied with each byte, it would be 45 GB.
    assert time.process_time() - started < 3


# Bytes


async def test_bytes_are_untouched_from_every_door_to_history_and_stream(brook: Running) -> None:
    listener = await brook.listen("/v1/channels/a")
    whole = await brook.listen("/v1/channels/a?format=event")
    await brook.publish("a", FRAGILE, **{"content-type": "application/json"})
    await brook.http.post("/v1/events", content=b'{"channel":"a","data":' + FRAGILE + b"}")
    await brook.http.post("/v1/events", content=b'[{"channel":"a","data":  ' + FRAGILE + b"  }]")
    await brook.http.post("/v1/events", content=b'{"channel":"a","data":' + FRAGILE + b"}", headers=NDJSON)
    event = b'{"specversion":"1.0","id":"1","source":"s","type":"message","subject":"a","data":' + FRAGILE + b"}"
    headers = {"content-type": "application/cloudevents+json"}
    await brook.http.post("/v1/events", content=event, headers=headers)
    assert await listener.data(5) == [FRAGILE.decode()] * 5
    assert all(f'"data":{FRAGILE.decode()},' in text for text in await whole.data(5))
    history = (await brook.http.get("/v1/channels/a")).content
    assert history.count(b'"data":' + FRAGILE + b',"cursor"') == 5


# Rights


async def test_a_token_publishes_only_where_it_may(brook: Running) -> None:
    token = (await brook.mint({"publish": ["chat.*"]})).json()["token"]
    headers = {"authorization": f"Bearer {token}"}
    assert (await brook.http.post("/v1/channels/chat.1", content=b"x", headers=headers)).status_code == 201
    for path in ("/v1/channels/other", "/v1/channels/chat"):
        assert (await brook.http.post(path, content=b"x", headers=headers)).status_code == 403
    allowed, forbidden = {"channel": "chat.1", "data": 1}, {"channels": ["chat.1", "other"], "data": 2}
    assert (await post(brook, forbidden, **headers)).status_code == 403
    assert (await post(brook, [allowed, forbidden], **headers)).status_code == 403
    answer = await lines(brook, allowed, forbidden, allowed, **headers)
    assert (answer.status_code, answer.json()["line"], answer.json()["accepted"]) == (403, 2, 1)
    assert len(await kept(brook)) == 2
    reader = (await brook.mint({"subscribe": ["*"]})).json()["token"]
    for body in ("/v1/channels/chat.1", "/v1/events"):
        answer = await brook.http.post(body, content=b"1", headers={"authorization": f"Bearer {reader}"})
        assert answer.status_code == 403


async def test_without_a_credential_nothing_is_published(tmp_path: Path) -> None:
    async with running(tmp_path, dev=False, public_channels="news") as brook:
        nobody = httpx.AsyncClient(base_url=brook.http.base_url)
        async with nobody:
            for path in ("/v1/channels/news", "/v1/events"):
                answer = await nobody.post(path, content=b'{"channel":"news","data":1}')
                assert answer.status_code == 401
                assert answer.headers["www-authenticate"].startswith("Bearer")
        assert await kept(brook) == []


async def test_an_id_that_was_made_here_is_as_much_taken_as_one_that_was_chosen(brook: Running) -> None:
    made = (await post(brook, {"channel": "a", "data": 1})).json()["id"]
    same = await post(brook, {"id": made, "channel": "a", "data": 1})
    other = await post(brook, {"id": made, "channel": "a", "data": 2})
    assert (same.status_code, same.json()["duplicate"], other.status_code) == (200, True, 409)


@pytest.mark.parametrize("parameter", ["closed=1", "tpye=x"])
async def test_a_raw_publish_refuses_a_parameter_that_it_does_not_know(brook: Running, parameter: str) -> None:
    name = parameter.partition("=")[0]
    answer = await brook.http.post(f"/v1/channels/a?{parameter}", content=b"1")
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, name)
