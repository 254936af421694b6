"""The open streams: shown, counted, ended, and ended for good when the right to listen is taken away."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.served import PATIENCE_S, Listener, Running, running


@pytest.fixture
async def brook(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path, dev=False, public_channels="news") as here:
        yield here


@pytest.fixture(params=[False, True], ids=["taken over", "plain ASGI"])
async def both(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path, dev=False, plain_asgi=request.param) as here:
        yield here


async def mint(brook: Running, subject: str, *, tenant: str = "default", **more: Any) -> Any:
    answer = await brook.mint({"sub": subject, "subscribe": ["*"], "publish": ["*"], "tenant": tenant, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def listen(brook: Running, subject: str, target: str = "/v1/channels/a", **more: Any) -> Listener:
    token = (await mint(brook, subject, **more))["token"]
    return await brook.listen(target, authorization=f"Bearer {token}")


async def rows(brook: Running, query: str = "") -> list[Any]:
    answer = await brook.http.get(f"/v1/connections{query}")
    assert answer.status_code == 200, answer.text
    data: list[Any] = answer.json()["data"]
    return data


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():  # noqa: ASYNC110 - what is waited for is behind HTTP
            await asyncio.sleep(0.01)


async def test_a_stream_is_shown_with_who_what_and_since_when(brook: Running) -> None:
    listener = await listen(brook, "ann", "/v1/stream?channel=a&channel=b.*&type=paid")
    (row,) = await rows(brook)
    assert row["id"].startswith("con_")
    assert row["since"].endswith("Z")
    known = {name: row[name] for name in row if name not in ("id", "since", "bytes")}
    assert known == {
        "tenant": "default",
        "credential": "token",
        "subject": "ann",
        "address": "127.0.0.1",
        "channels": ["a", "b.*"],
        "types": ["paid"],
        "state": "live",
        "lag_events": 0,
        "lag_s": 0.0,
    }
    await brook.http.post("/v1/channels/a?type=paid", content=b"hello")
    await listener.take(1)
    assert await brook.http.get(f"/v1/connections/{row['id']}") is not None
    after = (await brook.http.get(f"/v1/connections/{row['id']}")).json()
    assert after["bytes"] == len(listener.raw)
    await listener.close()

    async def gone() -> bool:
        return await rows(brook) == []

    await until(gone)
    assert (await brook.http.get(f"/v1/connections/{row['id']}")).status_code == 404


async def test_a_reader_that_does_not_keep_up_shows_how_far_behind_it_is(both: Running) -> None:
    listener = await listen(both, "slow")
    for _ in range(40):
        await both.publish("a", b"x" * 500_000)
    await asyncio.sleep(0.05)
    (row,) = await rows(both)
    assert row["state"] == "catching up"
    assert 0 < row["lag_events"] <= 40
    assert row["lag_s"] > 0
    await listener.take(40)

    async def live() -> bool:
        return [row["state"] for row in await rows(both)] == ["live"]

    await until(live)


async def test_streams_are_listed_page_by_page_and_chosen_by_subject_and_channel(brook: Running) -> None:
    for number in range(5):
        await listen(brook, f"s{number % 2}", f"/v1/channels/c.{number}")
    await listen(brook, "p", "/v1/stream?channel=c.*")
    seen: list[str] = []
    page = ""
    while True:
        answer = (await brook.http.get(f"/v1/connections?limit=2{page}")).json()
        seen += [row["id"] for row in answer["data"]]
        if answer["next"] is None:
            break
        page = f"&page={answer['next']}"
    assert len(seen) == len(set(seen)) == 6
    assert seen == sorted(seen)
    assert len(await rows(brook, "?subject=s0")) == 3
    assert {row["subject"] for row in await rows(brook, "?channel=c.1")} == {"s1", "p"}
    for bad in ("?page=nonsense", "?channel=a%20b", "?limit=0"):
        assert (await brook.http.get(f"/v1/connections{bad}")).status_code == 422


async def test_channels_are_listed_with_their_readers(brook: Running) -> None:
    for target in ("/v1/channels/a", "/v1/channels/a", "/v1/stream?channel=a&channel=b.*"):
        await listen(brook, "ann", target)
    await listen(brook, "ann", "/v1/channels/a", tenant="acme")
    everything = (await brook.http.get("/v1/channels")).json()
    assert everything == {
        "data": [
            {"channel": "a", "tenant": "acme", "readers": 1},
            {"channel": "a", "tenant": "default", "readers": 3},
            {"channel": "b.*", "tenant": "default", "readers": 1},
        ],
        "next": None,
    }
    names: list[Any] = []
    page = ""
    for _ in range(3):
        answer = (await brook.http.get(f"/v1/channels?limit=1{page}")).json()
        names += answer["data"]
        page = f"&page={answer['next']}"
    assert names == everything["data"]
    assert answer["next"] is None
    acme = (await brook.http.get("/v1/channels?tenant=acme")).json()["data"]
    assert acme == [{"channel": "a", "tenant": "acme", "readers": 1}]
    for bad in ("nonsense", "YQ"):
        assert (await brook.http.get(f"/v1/channels?page={bad}")).status_code == 422


async def test_nothing_of_it_crosses_tenants_or_is_shown_to_others(brook: Running) -> None:
    ours = await listen(brook, "ann")
    theirs = await listen(brook, "ann", tenant="acme")
    assert [row["tenant"] for row in await rows(brook, "?tenant=acme")] == ["acme"]
    (theirs_row,) = await rows(brook, "?tenant=acme")
    assert (await brook.http.delete(f"/v1/connections/{theirs_row['id']}?tenant=default")).status_code == 404
    assert (await brook.http.delete("/v1/connections?subject=ann")).json() == {"ended": 1}
    await ours.rest()
    await brook.http.post("/v1/channels/a?tenant=acme", content=b"still here")
    assert await theirs.data(1) == ["still here"]

    key = (await brook.http.post("/v1/keys", json={"scopes": ["publish", "subscribe"]})).json()["key"]
    token = (await mint(brook, "ann"))["token"]
    for credential in (key, token):
        headers = {"authorization": f"Bearer {credential}"}
        for method, path in [
            ("GET", "/v1/connections"), ("GET", "/v1/channels"), ("DELETE", "/v1/connections?subject=ann"),
            ("DELETE", "/v1/tokens?subject=ann"), ("DELETE", "/v1/tokens/x"),
        ]:  # fmt: skip
            assert (await brook.http.request(method, path, headers=headers)).status_code == 403


async def test_an_anonymous_reader_of_a_public_channel_is_shown_without_a_subject(brook: Running) -> None:
    await brook.listen("/v1/channels/news")
    (row,) = await rows(brook)
    assert (row["credential"], row["subject"]) == ("anonymous", None)


async def test_one_stream_is_ended_and_may_come_back(both: Running) -> None:
    token = (await mint(both, "ann"))["token"]
    first = await both.listen("/v1/channels/a", authorization=f"Bearer {token}")
    # Before there is another: two that were opened in one millisecond are listed in any order.
    [one] = await rows(both)
    second = await both.listen("/v1/channels/a", authorization=f"Bearer {token}")
    assert (await both.http.delete(f"/v1/connections/{one['id']}")).status_code == 204
    assert (await both.http.delete(f"/v1/connections/{one['id']}")).status_code == 404
    assert await first.rest() == []
    await both.publish("a", b"hello")
    assert await second.data(1) == ["hello"]
    again = await both.listen("/v1/channels/a?last=1", authorization=f"Bearer {token}")
    assert await again.data(1) == ["hello"]


# What takes the right to listen away


async def test_a_deleted_key_ends_its_streams_and_those_of_the_tokens_that_it_minted_at_once(both: Running) -> None:
    made = (await both.http.post("/v1/keys", json={"scopes": ["publish", "subscribe"]})).json()
    key = {"authorization": f"Bearer {made['key']}"}
    minted = (await both.http.post("/v1/tokens", json={"sub": "x", "subscribe": ["a"]}, headers=key)).json()["token"]
    by_key = await both.listen("/v1/channels/a", **key)
    by_token = await both.listen(f"/v1/channels/a?token={minted}")
    other = await listen(both, "bob")
    assert (await both.http.delete(f"/v1/keys/{made['id']}")).status_code == 204
    # Published after the answer: nothing of it may arrive.
    await both.publish("a", b"secret")
    for listener in (by_key, by_token):
        assert [frame.type for frame in await listener.rest()] == ["hookbrook.expired"]
        assert b"secret" not in listener.raw
        assert b'"reason":"revoked"' in listener.raw.replace(b" ", b"")
    assert await other.data(1) == ["secret"]
    assert (await both.listen(f"/v1/channels/a?token={minted}")).status == 401
    assert (await both.listen("/v1/channels/a", **key)).status == 401


async def test_a_revoked_token_ends_at_once_and_its_sisters_live(both: Running) -> None:
    one, two = await mint(both, "ann"), await mint(both, "ann")
    ended = await both.listen(f"/v1/channels/a?token={one['token']}")
    alive = await both.listen(f"/v1/channels/a?token={two['token']}")
    assert (await both.http.delete(f"/v1/tokens/{one['id']}")).json() == {"ended": 1}
    await both.publish("a", b"secret")
    assert [frame.type for frame in await ended.rest()] == ["hookbrook.expired"]
    assert await alive.data(1) == ["secret"]
    refused = await both.listen(f"/v1/channels/a?token={one['token']}")
    assert refused.status == 401
    assert "revoked" in (await refused.document())["detail"]


async def test_all_tokens_of_a_subject_are_revoked_in_its_tenant_and_later_ones_are_good(brook: Running) -> None:
    tokens = [(await mint(brook, "ann"))["token"] for _ in range(2)]
    streams = [await brook.listen(f"/v1/channels/a?token={token}") for token in tokens]
    bob, other = await listen(brook, "bob"), await listen(brook, "ann", tenant="acme")
    assert (await brook.http.delete("/v1/tokens?subject=ann")).json() == {"ended": 2}
    for stream in streams:
        assert [frame.type for frame in await stream.rest()] == ["hookbrook.expired"]
    assert (await brook.listen(f"/v1/channels/a?token={tokens[0]}")).status == 401
    await brook.publish("a", b"1")
    await brook.http.post("/v1/channels/a?tenant=acme", content=b"2")
    assert (await bob.data(1), await other.data(1)) == (["1"], ["2"])

    async def good() -> bool:
        # `iat` is in whole seconds, so that this takes one.
        return (await listen(brook, "ann")).status == 200

    await until(good)


async def test_a_revocation_outlives_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path, dev=False) as brook:
        key = brook.app.admin_key
        minted = await mint(brook, "ann")
        await brook.http.delete(f"/v1/tokens/{minted['id']}")
        # Twice is no mistake.
        assert (await brook.http.delete(f"/v1/tokens/{minted['id']}")).json() == {"ended": 0}
    async with running(tmp_path, dev=False, key=key) as brook:
        assert (await brook.listen(f"/v1/channels/a?token={minted['token']}")).status == 401


async def test_an_upload_that_goes_on_after_its_key_was_deleted_is_refused_at_the_next_line(both: Running) -> None:
    made = (await both.http.post("/v1/keys", json={"scopes": ["publish"]})).json()
    first, deleted = asyncio.Event(), asyncio.Event()

    async def lines() -> AsyncIterator[bytes]:
        yield b'{"channel": "a", "data": 1}\n'
        first.set()
        await deleted.wait()
        yield b'{"channel": "a", "data": 2}\n'

    async def upload() -> Any:
        headers = {"authorization": f"Bearer {made['key']}", "content-type": "application/x-ndjson"}
        return await both.http.post("/v1/events", content=lines(), headers=headers)

    async with asyncio.TaskGroup() as group:
        uploading = group.create_task(upload())
        await first.wait()

        async def kept() -> bool:
            return len((await both.http.get("/v1/channels/a")).json()["data"]) == 1

        await until(kept)
        await both.http.delete(f"/v1/keys/{made['id']}")
        deleted.set()
    answer = uploading.result()
    assert answer.status_code == 401
    assert (answer.json()["accepted"], answer.json()["line"]) == (1, 2)
    assert len((await both.http.get("/v1/channels/a")).json()["data"]) == 1
