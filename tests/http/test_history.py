"""The history doors: pages, exports and single events, and who may see what of them."""

import json
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from tests.served import Running, running

pytestmark = pytest.mark.asyncio(loop_scope="module")
NUMBERS = count()
NDJSON = {"accept": "application/x-ndjson"}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    async with running(tmp_path_factory.mktemp("history")) as here:
        yield here


@pytest_asyncio.fixture(loop_scope="module")
async def brook(house: Running) -> AsyncIterator[Running]:
    """A tenant of this test's own."""
    async with house.as_tenant(f"t{next(NUMBERS)}") as view:
        yield view


async def publish(brook: Running, *events: dict[str, Any]) -> list[str]:
    """Returns the cursors."""
    answer = await brook.http.post("/v1/events", json=[{"channel": "a", "data": 1} | event for event in events])
    assert answer.status_code == 201
    return [reply["cursor"] for reply in answer.json()]


async def page(brook: Running, target: str = "/v1/events", **headers: str) -> Any:
    answer = await brook.http.get(target, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def pages(brook: Running, target: str) -> list[list[Any]]:
    """The data of each page, until there is none."""
    found = []
    following = ""
    while following is not None:
        document = await page(brook, f"{target}&page={following}" if following else target)
        found.append([event["data"] for event in document["data"]])
        following = document["next"]
        assert len(found) < 100
    return found


async def test_pages_follow_one_another_to_the_end(brook: Running) -> None:
    await publish(brook, *({"data": n} for n in range(25)))
    found = await pages(brook, "/v1/events?limit=10")
    assert [event for piece in found for event in piece] == list(range(25))
    assert [len(piece) for piece in found[:3]] == [10, 10, 5]


async def test_a_page_is_bounded_in_bytes_and_the_next_one_goes_on(brook: Running) -> None:
    """The answer is built in memory, and an event may have a megabyte."""
    text = "x" * 500_000
    for _ in range(3):
        await publish(brook, *[{"data": text}] * 8)
    found = await pages(brook, "/v1/events?limit=1000")
    assert sum(map(len, found)) == 24
    assert max(map(len, found)) <= 9


async def test_a_page_stays_right_while_events_are_appended(brook: Running) -> None:
    await publish(brook, *({"data": n} for n in range(4)))
    first = await page(brook, "/v1/channels/a?limit=3")
    await publish(brook, {"data": 4})
    second = await page(brook, f"/v1/channels/a?limit=3&page={first['next']}")
    assert [event["data"] for event in first["data"] + second["data"]] == [0, 1, 2, 3, 4]
    assert second["next"] is None


async def test_after_begins_behind_a_cursor_and_since_at_a_time(brook: Running) -> None:
    cursors = await publish(brook, *({"data": n} for n in range(3)))
    assert [event["data"] for event in (await page(brook, f"/v1/events?after={cursors[1]}"))["data"]] == [2]
    assert [event["data"] for event in (await page(brook, "/v1/events?since=1h"))["data"]] == [0, 1, 2]
    assert (await page(brook, "/v1/events?since=2999-01-01T00:00:00Z"))["data"] == []
    # The time of an append, not the one that the publisher says.
    await publish(brook, {"data": "old", "time": "2001-01-01T00:00:00Z"})
    assert (await page(brook, "/v1/events?since=1m"))["data"][-1]["data"] == "old"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("channel=orders.1", [0, 3]),
        ("channel=orders.*", [0, 1, 3]),
        ("channel=orders.1&channel=chat", [0, 2, 3]),
        ("channel=*", [0, 1, 2, 3]),
        ("type=paid", [0]),
        ("type=pa*", [0, 1]),
        ("channel=orders.*&type=paid&type=message", [0, 3]),
        ("channel=nothing", []),
    ],
)
async def test_channels_and_types_are_names_or_patterns(brook: Running, query: str, expected: list[int]) -> None:
    await publish(
        brook,
        {"channel": "orders.1", "type": "paid", "data": 0},
        {"channel": "orders.2", "type": "part", "data": 1},
        {"channel": "chat", "type": "said", "data": 2},
        {"channel": None, "channels": ["chat", "orders.1"], "data": 3},
    )
    assert [event["data"] for event in (await page(brook, f"/v1/events?{query}"))["data"]] == expected


async def test_the_path_of_a_channel_may_be_a_pattern(brook: Running) -> None:
    await publish(brook, {"channel": "x/1", "data": 1}, {"channel": "y", "data": 2}, {"channel": "x/2", "data": 3})
    assert [event["data"] for event in (await page(brook, "/v1/channels/x/*"))["data"]] == [1, 3]


async def test_a_foreign_cursor_is_410_with_the_ends_of_the_log(brook: Running) -> None:
    cursors = await publish(brook, {}, {})
    for parameter in ("after", "page"):
        answer = await brook.http.get(f"/v1/events?{parameter}=zzzzzz-1")
        document = answer.json()
        assert (answer.status_code, document["reason"], document["newest"]) == (410, "foreign", cursors[-1])
        assert document["oldest"].endswith("-0")
        # What it names can be read from.
        assert (await brook.http.get(f"/v1/events?after={document['oldest']}")).status_code == 200


async def test_a_cursor_from_the_future_of_this_log_is_foreign(brook: Running) -> None:
    [cursor] = await publish(brook, {})
    epoch, _, seq = cursor.partition("-")
    answer = await brook.http.get(f"/v1/events?after={epoch}-{int(seq) + 1}")
    assert (answer.status_code, answer.json()["reason"]) == (410, "foreign")


async def test_a_trimmed_cursor_is_410_and_what_is_kept_can_still_be_read(tmp_path: Path) -> None:
    async with running(tmp_path, retention_count=5) as brook:
        cursors = await publish(brook, *({"data": n} for n in range(12)))
    async with running(tmp_path, retention_count=5) as brook:
        # Retention looks once at the start.
        while (answer := await brook.http.get(f"/v1/events?after={cursors[0]}")).status_code != 410:
            assert answer.status_code == 200
        document = answer.json()
        assert (document["reason"], document["oldest"], document["newest"]) == ("trimmed", cursors[6], cursors[11])
        assert [event["data"] for event in (await page(brook))["data"]] == [7, 8, 9, 10, 11]
        assert len((await page(brook, f"/v1/events?after={document['oldest']}"))["data"]) == 5


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("after=", "after"),
        ("after=x", "after"),
        ("page=%00", "page"),
        ("after=" + "1" * 1000, "after"),
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=1001", "limit"),
        ("limit=" + "9" * 5000, "limit"),
        ("limit=1e3", "limit"),
        ("limit=%D9%A1", "limit"),
        ("limit=1&limit=2", "limit"),
        ("since=yesterday", "since"),
        ("since=-2h", "since"),
        ("since=9999999w", "since"),
        ("channel=a+b", "channel"),
        ("channel=*a", "channel"),
        ("channel=", "channel"),
        ("type=a%00", "type"),
        ("&".join(f"channel=c{n}" for n in range(101)), "channel"),
    ],
)
async def test_a_wrong_parameter_is_named(brook: Running, query: str, field: str) -> None:
    answer = await brook.http.get(f"/v1/events?{query}")
    assert answer.status_code == 422, answer.text
    assert [error["field"] for error in answer.json()["errors"]] == [field]


@pytest.mark.parametrize("query", ["channel=%ff", "&".join(f"x{n}=1" for n in range(400))])
async def test_a_query_that_cannot_be_read_is_refused(brook: Running, query: str) -> None:
    answer = await brook.http.get(f"/v1/events?{query}")
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"


async def test_an_export_has_one_event_a_line_and_all_of_them(brook: Running) -> None:
    await publish(brook, *({"data": {"n": n, "text": "ü\n"}} for n in range(1000)))
    await publish(brook, *({"data": {"n": n}} for n in range(1000, 1500)))
    answer = await brook.http.get("/v1/events?channel=a", headers=NDJSON)
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.content.endswith(b"\n")
    rows = [json.loads(line) for line in answer.text.splitlines()]
    assert [row["data"]["n"] for row in rows] == list(range(1500))
    rest = await brook.http.get(f"/v1/channels/a?after={rows[-2]['cursor']}", headers=NDJSON)
    assert [json.loads(line) for line in rest.text.splitlines()] == rows[-1:]


async def test_an_export_of_nothing_is_empty(brook: Running) -> None:
    answer = await brook.http.get("/v1/events", headers=NDJSON)
    assert (answer.status_code, answer.content) == (200, b"")


async def test_head_says_what_get_would_without_a_body(brook: Running) -> None:
    [reply] = (await brook.http.post("/v1/events", json=[{"channel": "a", "data": 1}])).json()
    for target in ("/v1/events", "/v1/channels/a", f"/v1/events/{reply['id']}"):
        got, headed = await brook.http.get(target), await brook.http.head(target)
        assert (headed.status_code, headed.content) == (200, b"")
        assert headed.headers["content-length"] == str(len(got.content))
        assert headed.headers["content-type"] == got.headers["content-type"]
    assert (await brook.http.head("/v1/events", headers=NDJSON)).content == b""
    assert (await brook.http.head("/v1/events/evt_none")).status_code == 404
    assert (await brook.http.head("/v1/events?limit=x")).status_code == 422


async def test_answers_vary_by_what_is_accepted(brook: Running) -> None:
    await publish(brook, {})
    for target in ("/v1/channels/a", "/v1/events"):
        for accept in ("application/json", "application/x-ndjson", "*/*"):
            answer = await brook.http.get(target, headers={"accept": accept})
            assert "accept" in answer.headers["vary"]
    listener = await brook.listen("/v1/channels/a")
    assert "accept" in listener.headers["vary"]


async def test_one_event_is_found_by_its_id_whatever_that_holds(brook: Running) -> None:
    for name in ("plain", "urn:x/y?z#1", "100%", "a%2Fb", '"\\'):
        answer = await brook.http.post("/v1/events", json={"channel": "a", "data": name, "id": name})
        assert answer.status_code == 201
        found = await brook.http.get(answer.headers["location"])
        assert (found.status_code, found.json()["data"]) == (200, name)


@pytest.mark.parametrize("name", ["evt_none", "%00", "%ff", "x" * 5000, "a%2F..%2Fb", "%ED%A0%80"])
async def test_an_event_that_is_not_there_is_404(brook: Running, name: str) -> None:
    answer = await brook.http.get(f"/v1/events/{name}")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


async def test_tenants_do_not_see_each_other(house: Running, brook: Running) -> None:
    async with house.as_tenant("other") as other:
        [ours] = await publish(brook, {"id": "same", "data": "ours"})
        [theirs] = await publish(other, {"id": "same", "data": "theirs"})
        assert [event["data"] for event in (await page(brook))["data"]] == ["ours"]
        assert [event["data"] for event in (await page(other))["data"]] == ["theirs"]
        assert (await page(brook, "/v1/events/same"))["data"] == "ours"
        assert (await page(other, "/v1/events/same"))["data"] == "theirs"
        assert (await brook.http.get("/v1/events", headers=NDJSON)).text.count("\n") == 1
        # A position in the log is nobody's secret, and shows nobody's events.
        assert (await page(other, f"/v1/events?after={ours}"))["data"][0]["cursor"] == theirs


async def with_token(brook: Running, target: str, *patterns: str, **headers: str) -> httpx.Response:
    token = (await brook.mint({"subscribe": patterns, "tenant": brook.tenant})).json()["token"]
    return await brook.http.get(target, headers={"authorization": f"Bearer {token}", **headers})


async def test_a_token_reads_what_it_may_and_learns_of_no_other_channel(brook: Running) -> None:
    await publish(
        brook,
        {"channel": None, "channels": ["secret", "chat.1"], "data": 1, "id": "both"},
        {"channel": "secret", "data": 2, "id": "hidden"},
    )
    for target in ("/v1/channels/chat.1", "/v1/events?channel=chat.1", "/v1/channels/chat.*"):
        [event] = (await with_token(brook, target, "chat.*")).json()["data"]
        assert (event["data"], event["channels"]) == (1, ["chat.1"])
        [line] = (await with_token(brook, target, "chat.*", accept="application/x-ndjson")).text.splitlines()
        assert json.loads(line)["channels"] == ["chat.1"]
    one = await with_token(brook, "/v1/events/both", "chat.*")
    assert (one.json()["data"], one.json()["channels"]) == (1, ["chat.1"])
    assert (await with_token(brook, "/v1/events/hidden", "chat.*")).status_code == 404
    for target in ("/v1/events", "/v1/channels/secret", "/v1/channels/*", "/v1/events?channel=chat*"):
        assert (await with_token(brook, target, "chat.*")).status_code == 403


async def test_a_token_is_not_shown_a_providers_request(house: Running, brook: Running) -> None:
    source = {"name": "open", "provider": "none", "channel": "chat.1", "tenant": brook.tenant}
    assert (await house.http.post("/v1/sources", json=source)).status_code == 201
    event_id = (await house.http.post("/in/open", content=b"{}")).json()["id"]
    assert (await page(brook, f"/v1/events/{event_id}"))["request"]["method"] == "POST"
    shown = (await with_token(brook, f"/v1/events/{event_id}", "chat.*")).json()
    assert (shown["data"], "request" in shown) == ({}, False)


async def test_our_own_events_must_be_asked_for_by_name(house: Running, brook: Running) -> None:
    source = {"name": "lax", "provider": "github", "secrets": ["It's a Secret to Everybody"], "enforce": False}
    source["tenant"] = brook.tenant
    assert (await house.http.post("/v1/sources", json=source)).status_code == 201
    headers = {"x-hub-signature-256": "sha256=" + "0" * 64, "x-github-event": "push", "x-github-delivery": "1"}
    assert (await house.http.post("/in/lax", content=b"{}", headers=headers)).status_code == 200
    assert (await page(brook))["data"] == []
    assert (await page(brook, "/v1/events?channel=*"))["data"] == []
    [event] = (await page(brook, "/v1/channels/hookbrook.unverified.lax"))["data"]
    assert event["source"] == "lax"
    assert "request" not in event
    assert (await page(brook, f"/v1/events/{event['id']}"))["request"]["verified"] is False


async def test_without_a_credential_public_channels_are_readable_and_no_others(tmp_path: Path) -> None:
    async with running(tmp_path, dev=False, public_channels="news.*") as brook:
        await publish(brook, {"channel": "news.1"}, {"channel": "private"})
        async with httpx.AsyncClient(base_url=brook.http.base_url) as nobody:
            assert len((await nobody.get("/v1/channels/news.1")).json()["data"]) == 1
            assert len((await nobody.get("/v1/events?channel=news.*")).json()["data"]) == 1
            for target in ("/v1/channels/private", "/v1/events", "/v1/channels/*"):
                answer = await nobody.get(target)
                assert answer.status_code == 401
                assert answer.headers["www-authenticate"].startswith("Bearer")
            wrong = {"authorization": "Bearer hbk_wrong"}
            assert (await nobody.get("/v1/channels/news.1", headers=wrong)).status_code == 401
