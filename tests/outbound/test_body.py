"""What stands in a webhook, and what cannot be sent."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from hookbrook.core.channel import OPERATIONS
from hookbrook.core.cloudevent import to_headers
from hookbrook.core.delivery import Happening, State
from hookbrook.core.endpoint import Endpoint
from hookbrook.core.event import JSON_TYPE, Event, Kind
from hookbrook.outbound.body import NotReshaped, TooLarge, body_of
from hookbrook.store.base import Query

from .conftest import Serve
from .rig import SECRET, Post, VirtualTime, rig_on

TOLD = Query(tenant=None, channels=(OPERATIONS,), types=("hookbrook.*",))


def event(data: bytes = b'{"n": 1.50}', kind: Kind = "json", **fields: object) -> Event:
    values: dict[str, object] = {
        "seq": 7, "epoch": "e", "id": "evt_1", "channels": ("orders.1", "all"), "type": "order.paid",
        "tenant": "default", "source": None, "time": 0, "appended": 0, "content_type": JSON_TYPE, **fields,
    }  # fmt: skip
    return Event(data=data, kind=kind, **values)  # type: ignore[arg-type]


def endpoint(**fields: object) -> Endpoint:
    return Endpoint(id="ep_1", url="https://x", secrets=(SECRET,), created=0, updated=0, **fields)  # type: ignore[arg-type]


def test_the_data_is_sent_as_it_is_unless_something_else_is_asked_for() -> None:
    body = body_of(event(b'{"a": 1E400,\n "a": 2}', content_type="application/x+json"), endpoint())
    assert (body.content, body.content_type, dict(body.headers)) == (
        b'{"a": 1E400,\n "a": 2}',
        "application/x+json",
        {},
    )


def test_the_event_is_sent_with_all_that_is_known_of_it() -> None:
    body = body_of(event(), endpoint(format="event"))
    assert body.content_type == "application/json"
    assert b'"data":{"n": 1.50}' in body.content
    assert json.loads(body.content) == {
        "id": "evt_1",
        "channels": ["orders.1", "all"],
        "type": "order.paid",
        "tenant": "default",
        "source": None,
        "time": "1970-01-01T00:00:00Z",
        "content_type": "application/json",
        "data": {"n": 1.5},
        "cursor": "e-7",
    }


def test_a_cloudevent_stands_in_the_body_or_in_headers() -> None:
    structured = body_of(event(), endpoint(format="cloudevent"))
    assert structured.content_type == "application/cloudevents+json"
    said = json.loads(structured.content)
    assert (said["specversion"], said["type"], said["data"]) == ("1.0", "order.paid", {"n": 1.5})
    binary = body_of(event(b"\x00\xff", "binary", content_type="image/png"), endpoint(format="cloudevent-binary"))
    assert (binary.content, binary.content_type) == (b"\x00\xff", "image/png")
    assert dict(binary.headers) == {
        "ce-specversion": "1.0",
        "ce-id": "evt_1",
        "ce-source": "/channels/orders.1",
        "ce-type": "order.paid",
        "ce-time": "1970-01-01T00:00:00Z",
        "ce-hookbrookchannels": "orders.1,all",
        "ce-hookbrookcursor": "e-7",
    }


def test_what_a_header_cannot_hold_is_percent_encoded() -> None:
    # The example of the HTTP protocol binding's section 3.1.3.2.
    headers = to_headers(event(id='Euro € 😀 "100%"'), channels=("a",))
    assert headers["ce-id"] == "Euro%20%E2%82%AC%20%F0%9F%98%80%20%22100%25%22"


def test_a_reshaped_body_is_json() -> None:
    body = body_of(event(b'{"n": 7}'), endpoint(transform="{text: join(' ', ['Order', to_string(data.n)])}"))
    assert body == (b'{"text":"Order 7"}', "application/json", {})


@pytest.mark.parametrize(
    ("transform", "reason"),
    [
        ("data.missing", "found nothing"),
        ("sum(data)", "does not fit this document"),
        ("[@,@]|[@,@]|" * 16 + "@", "is larger than 1000000"),
        ("data.half", "cannot be written as JSON"),
    ],
)
def test_a_transform_that_fails_says_why(transform: str, reason: str) -> None:
    with pytest.raises(NotReshaped, match=reason):
        body_of(event(b'{"n": 1, "half": "\\ud800"}'), endpoint(transform=transform))


def test_a_body_beyond_the_endpoints_limit_names_it() -> None:
    assert body_of(event(b"12345"), endpoint(max_body_bytes=5)).content == b"12345"
    with pytest.raises(TooLarge, match=r"6 bytes.* at most 5 \(max_body_bytes\)"):
        body_of(event(b"123456"), endpoint(max_body_bytes=5))


async def test_what_is_signed_is_what_is_sent(tmp_path: Path, serve: Serve) -> None:
    post = Post()
    async with rig_on(tmp_path / "a.db", time=VirtualTime()) as rig:
        await rig.start()
        url = (await serve(post)).url
        await rig.endpoint(url, transform="{id: id, n: data.n}")
        await rig.endpoint(url, format="cloudevent-binary", headers={"CE-Id": "forged"})
        await rig.publish("evt_1", data=b'{"n": 7}')
        await rig.settled()
        assert {row.state for row in await rig.rows()} == {State.SUCCEEDED}
    by_length = sorted(post.requests, key=lambda request: len(request.body))
    assert [request.body for request in by_length] == [b'{"n": 7}', b'{"id":"evt_1","n":7}']
    assert "forged" not in str(post.requests)
    for request in post.requests:
        sent = dict(request.headers)
        expected = Webhook(SECRET).sign(
            "evt_1", datetime.fromtimestamp(int(sent["webhook-timestamp"]), UTC), request.body.decode()
        )
        assert sent["webhook-signature"] == expected


async def test_an_event_offered_from_memory_and_one_read_from_the_table_are_sent_alike(
    tmp_path: Path, serve: Serve
) -> None:
    post, time = Post("500 Not Now"), VirtualTime()
    async with rig_on(tmp_path / "a.db", time=time) as rig:
        await rig.start()
        await rig.endpoint((await serve(post)).url, format="event", retry=(5.0,))
        await rig.publish("evt_1")
        await rig.settled()
        await rig.advance(10)
    first, second = post.requests
    assert first.body == second.body
    assert json.loads(first.body)["cursor"].endswith("-1")


@pytest.mark.parametrize(
    ("settings", "error"), [({"transform": "sum(data)"}, "transform"), ({"max_body_bytes": 1}, "too_large_body")]
)
async def test_what_cannot_be_sent_fails_at_once_is_told_and_not_charged_to_the_receiver(
    tmp_path: Path, serve: Serve, settings: dict[str, object], error: str
) -> None:
    post = Post()
    async with rig_on(tmp_path / "a.db") as rig:
        dispatcher = await rig.start()
        endpoint = await rig.endpoint((await serve(post)).url, **settings)
        await rig.publish("evt_1")
        await rig.settled()
        row = await rig.row("evt_1")
        [attempt] = await rig.store.attempts(row.id)
        assert (row.state, attempt.error, attempt.message) == (State.FAILED, error, row.last_error)
        assert await rig.store.failing() == {}
        [told] = (await rig.store.read(TOLD, after=0, limit=9)).events
        assert json.loads(told.data)["last_error"] == error
        # Its owner corrects the endpoint, and has it sent.
        await rig.change(endpoint, transform=None, max_body_bytes=None)
        await rig.store.change(row.id, Happening.RESENT, now=rig.time.clock())
        dispatcher.poke(endpoint.id)
        await rig.settled()
        assert (await rig.row("evt_1")).state is State.SUCCEEDED
    assert post.ids == ["evt_1"]


async def test_a_filter_that_fails_is_told(tmp_path: Path, serve: Serve) -> None:
    post = Post()
    async with rig_on(tmp_path / "a.db") as rig:
        await rig.start()
        await rig.endpoint((await serve(post)).url, filter="sum(data) > `1`")
        ops = await rig.endpoint((await serve(post)).url, types=("hookbrook.*",), channels=(), filter="sum(data)")
        await rig.publish("evt_1")
        await rig.settled()
        told = (await rig.store.read(TOLD, after=0, limit=9)).events
        # The other filter fails too, about an operational event, and that raises no other.
        [quiet] = await rig.rows(endpoint_id=ops.id)
    assert quiet.state is State.FAILED
    [said] = [json.loads(each.data) for each in told]
    assert (said["event_id"], said["last_error"], said["last_status"]) == ("evt_1", "filter", None)
    assert "does not fit" in said["message"]
    assert post.ids == []
