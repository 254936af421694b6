"""Publishing and the rest of the API, by both clients, against a server that misbehaves as told."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from hookbrook import ApiError, ConnectionFailed, NewEvent, Published
from hookbrook.errors import ConfigError, FieldError

if TYPE_CHECKING:
    from tests.client.conftest import Client, Connection, Server

EVENT_ID = re.compile(r"evt_[0-9a-hjkmnp-tv-z]{26}")


async def accept(connection: Connection) -> None:
    await connection.read_body()
    document = connection.call.json()
    await connection.answer(201, {"id": document["id"], "cursor": "k3f9-1", "duplicate": False})


async def cut_before_the_answer(connection: Connection) -> None:
    await connection.read_body()
    await connection.reset()


def refuse(status: int, body: object = None, **headers: str) -> Callable[[Connection], Any]:
    async def script(connection: Connection) -> None:
        await connection.read_body()
        await connection.answer(status, body, **headers)

    return script


def test_json_is_published_under_a_fresh_id(server: Server, client: Client) -> None:
    server.script(accept)
    published = client.publish("orders.42", {"paid": True}, type="order.paid")
    (call,) = server.calls
    document = call.json()
    assert EVENT_ID.fullmatch(published.id)
    assert published == Published(id=published.id, cursor="k3f9-1", duplicate=False)
    assert (call.method, call.target) == ("POST", "/v1/events")
    assert call.headers["content-type"] == "application/json"
    assert document == {"id": published.id, "channels": ["orders.42"], "type": "order.paid", "data": {"paid": True}}


def test_text_is_published_as_text(server: Server, client: Client) -> None:
    server.script(accept)
    client.publish("chat.42", "hello")
    document = server.calls[0].json()
    assert (document["data"], document["content_type"]) == ("hello", "text/plain; charset=utf-8")


def test_bytes_are_published_as_bytes(server: Server, client: Client) -> None:
    server.script(accept)
    client.publish("images", b"\xff\0")
    document = server.calls[0].json()
    assert (document["data_base64"], document["content_type"]) == ("/wA=", "application/octet-stream")
    assert "data" not in document


def test_everything_that_is_said_of_an_event_is_sent(server: Server, client: Client) -> None:
    server.script(accept)
    moment = datetime(2026, 11, 23, 16, 20, tzinfo=UTC)
    published = client.publish(
        "a", "<b>", id="mine", channels=["b", "c"], time=moment, content_type="text/html", type="page"
    )
    assert published.id == "mine"
    assert server.calls[0].json() == {
        "id": "mine",
        "channels": ["a", "b", "c"],
        "type": "page",
        "time": "2026-11-23T16:20:00Z",
        "content_type": "text/html",
        "data": "<b>",
    }


def test_the_key_is_sent_as_a_bearer_token(server: Server, connect: Callable[..., Client]) -> None:
    server.script(accept)
    connect(server.url, "hbk_secret").publish("a", 1)
    connect(server.url).publish("a", 1)
    assert server.calls[0].headers["authorization"] == "Bearer hbk_secret"
    assert "authorization" not in server.calls[1].headers


def test_a_lost_answer_is_asked_for_again_under_the_same_id(server: Server, client: Client) -> None:
    server.script(cut_before_the_answer, cut_before_the_answer, accept)
    client.publish("a", 1)
    assert len(server.calls) == 3
    assert len({call.body for call in server.calls}) == 1


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504, 507])
def test_a_passing_trouble_is_waited_out(status: int, server: Server, client: Client) -> None:
    server.script(refuse(status, b"<html>busy</html>", retry_after="0"), accept)
    client.publish("a", 1)
    assert len(server.calls) == 2
    assert server.calls[0].body == server.calls[1].body


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422, 500])
def test_a_refusal_is_raised_and_not_repeated(status: int, server: Server, client: Client) -> None:
    problem = {
        "type": "urn:hookbrook:problem:invalid",
        "title": "Invalid",
        "status": status,
        "detail": "channel: is empty",
        "errors": [{"field": "channel", "message": "is empty"}],
    }
    server.script(refuse(status, problem))
    with pytest.raises(ApiError, match=f"{status} Invalid: channel: is empty") as caught:
        client.publish("a", 1)
    assert caught.value.status == status
    assert caught.value.errors == (FieldError("channel", "is empty"),)
    assert caught.value.problem == problem
    assert len(server.calls) == 1


def test_patience_has_an_end(server: Server, connect: Callable[..., Client]) -> None:
    server.script(refuse(503, b"no"))
    with pytest.raises(ApiError, match="503"):
        connect(server.url, retries=2).publish("a", 1)
    assert len(server.calls) == 3


def test_a_refused_connection_is_tried_again_until_the_server_is_back(
    server: Server, connect: Callable[..., Client]
) -> None:
    server.script(accept)
    server.refuse()
    client = connect(server.url, "hbk_secret", retries=1)
    with pytest.raises(ConnectionFailed, match=r"no answer from http://127.0.0.1:\d+: ") as caught:
        client.publish("a", 1)
    assert "hbk_secret" not in str(caught.value)
    server.listen_after(0.05)
    connect(server.url, backoff_s=0.02).publish("a", 1)


def test_a_server_that_does_not_answer_in_time_is_tried_again(server: Server, connect: Callable[..., Client]) -> None:
    async def stall(connection: Connection) -> None:
        await connection.read_body()
        await connection.until_client_leaves()

    server.script(stall, accept)
    connect(server.url, timeout_s=0.1).publish("a", 1)
    assert len(server.calls) == 2


def test_an_answer_that_is_cut_short_is_asked_for_again(server: Server, client: Client) -> None:
    async def half(connection: Connection) -> None:
        await connection.read_body()
        await connection.head(201, {"content-length": "100", "content-type": "application/json"})
        await connection.send(b'{"id":')
        connection.writer.close()

    server.script(half, accept)
    client.publish("a", 1)
    assert len(server.calls) == 2


def test_an_answer_of_somebody_else_is_an_error(server: Server, client: Client) -> None:
    server.script(refuse(200, b"<html>Sign in to the Wi-Fi</html>"))
    with pytest.raises(ApiError, match="200 Not an answer of Hookbrook: <html>Sign in"):
        client.publish("a", 1)


def test_a_redirect_is_not_followed_so_that_the_key_goes_nowhere_else(
    server: Server, connect: Callable[..., Client]
) -> None:
    server.script(refuse(307, b"", location=f"{server.url}/elsewhere"))
    with pytest.raises(ApiError, match="307"):
        connect(server.url, "hbk_secret").publish("a", 1)
    assert [call.target for call in server.calls] == ["/v1/events"]


def test_a_cookie_is_not_kept(server: Server, connect: Callable[..., Client]) -> None:
    server.script(refuse(503, b"", set_cookie="session=1"), accept)
    # By name, since a cookie jar would ignore the cookies of a bare address anyway.
    connect(server.url.replace("127.0.0.1", "localhost")).publish("a", 1)
    assert "cookie" not in server.calls[1].headers


def test_a_url_may_have_a_path(server: Server, connect: Callable[..., Client]) -> None:
    server.script(accept)
    connect(f"{server.url}/events-gateway/").publish("a", 1)
    assert server.calls[0].target == "/events-gateway/v1/events"


def test_data_without_json_is_refused_before_anything_is_sent(server: Server, client: Client) -> None:
    with pytest.raises(TypeError):
        client.publish("a", object())
    assert server.calls == []


def test_a_time_without_an_offset_is_refused_before_anything_is_sent(server: Server, client: Client) -> None:
    with pytest.raises(ValueError, match="offset"):
        client.publish("a", 1, time=datetime(2026, 1, 1))  # noqa: DTZ001 — that is the mistake
    assert server.calls == []


def test_several_events_are_one_array(server: Server, client: Client) -> None:
    async def accept_all(connection: Connection) -> None:
        await connection.read_body()
        documents: Any = connection.call.json()
        replies = [{"id": e["id"], "cursor": f"k3f9-{n}", "duplicate": n == 1} for n, e in enumerate(documents)]
        await connection.answer(201, replies)

    server.script(cut_before_the_answer, accept_all)
    events = [
        NewEvent("a", UUID(int=1), id="first"),
        {"channel": "b", "data": "text", "type": "note"},
        {"channels": ["c", "d"], "data": None},
    ]
    published = client.publish_many(events)
    documents: Any = server.calls[0].json()
    assert [event["channels"] for event in documents] == [["a"], ["b"], ["c", "d"]]
    assert [(event.id, event.cursor, event.duplicate) for event in published] == [
        ("first", "k3f9-0", False),
        (documents[1]["id"], "k3f9-1", True),
        (documents[2]["id"], "k3f9-2", False),
    ]
    assert len({document["id"] for document in documents}) == 3
    assert server.calls[0].body == server.calls[1].body


def test_no_events_need_no_request(server: Server, client: Client) -> None:
    assert client.publish_many([]) == []
    assert server.calls == []


def test_a_misspelt_member_of_an_event_is_an_error(client: Client) -> None:
    with pytest.raises(TypeError, match="chanel"):
        client.publish_many([{"chanel": "a", "data": 1}])


def test_an_event_needs_a_channel(client: Client) -> None:
    with pytest.raises(ValueError, match="needs a channel"):
        client.publish_many([{"data": 1}])


# --- the rest of the API -----------------------------------------------------------------------------------------


def test_any_request_of_the_api_can_be_made(server: Server, client: Client) -> None:
    server.script(refuse(201, {"id": "ep_1"}))
    answer = client.request("POST", "/v1/endpoints", json={"url": "https://a.example"}, params={"tenant": "t&1"})
    (call,) = server.calls
    assert answer == {"id": "ep_1"}
    assert (call.method, call.target) == ("POST", "/v1/endpoints?tenant=t%261")
    assert call.json() == {"url": "https://a.example"}


def test_parameters_may_be_lists_truths_and_absent(server: Server, client: Client) -> None:
    server.script(refuse(200, []))
    client.request("GET", "/v1/deliveries", params={"status": ["held", "failed"], "all": True, "page": None, "n": 5})
    assert server.calls[0].target == "/v1/deliveries?status=held&status=failed&all=true&n=5"


def test_a_repeated_post_carries_the_same_idempotency_key(server: Server, client: Client) -> None:
    server.script(cut_before_the_answer, refuse(201, {}))
    client.request("POST", "/v1/endpoints", json={})
    keys = {call.headers["idempotency-key"] for call in server.calls}
    assert len(server.calls) == 2
    assert len(keys) == 1


def test_an_empty_answer_is_none(server: Server, client: Client) -> None:
    async def no_content(connection: Connection) -> None:
        await connection.head(204, {"connection": "close"})

    server.script(no_content)
    assert client.request("DELETE", "/v1/endpoints/ep_1") is None


def test_a_delete_whose_answer_was_lost_has_succeeded_when_the_next_says_not_found(
    server: Server, client: Client
) -> None:
    server.script(cut_before_the_answer, cut_before_the_answer, refuse(404, {"title": "Not found"}))
    assert client.request("DELETE", "/v1/endpoints/ep_1") is None


def test_a_delete_of_what_never_was_is_not_found(server: Server, client: Client) -> None:
    server.script(refuse(503, b""), refuse(404, {"title": "Not found"}))
    with pytest.raises(ApiError, match="404 Not found"):
        client.request("DELETE", "/v1/endpoints/ep_1")


def test_pages_are_turned_until_the_last(server: Server, client: Client) -> None:
    server.script(refuse(200, {"data": [1, 2], "next": "p2"}), refuse(200, {"data": [3], "next": None}))
    assert list(client.pages("/v1/endpoints", {"limit": 2})) == [1, 2, 3]
    assert [call.target for call in server.calls] == ["/v1/endpoints?limit=2", "/v1/endpoints?limit=2&page=p2"]


def test_a_path_starts_with_a_slash(client: Client) -> None:
    with pytest.raises(ValueError, match="slash"):
        client.request("GET", "v1/endpoints")


@pytest.mark.parametrize("url", ["127.0.0.1:4665", "ftp://a.example", "http://", "http://a.example?x=1"])
def test_a_url_that_is_none_is_refused_at_once(url: str, connect: Callable[..., Client]) -> None:
    with pytest.raises(ConfigError, match="HOOKBROOK_URL"):
        connect(url)


def test_a_key_that_would_break_a_header_is_refused_without_being_shown(connect: Callable[..., Client]) -> None:
    with pytest.raises(ConfigError, match="HOOKBROOK_KEY") as caught:
        connect("http://127.0.0.1:1", "hbk_secret\r\nx: y")
    assert "secret" not in str(caught.value)
