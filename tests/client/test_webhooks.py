"""What arrives at a source, read by both clients from a real server."""

import asyncio
from pathlib import Path

import pytest
from tests.served import PATIENCE_S, Running, running

from hookbrook import ApiError, AsyncHookbrook, Hookbrook, Reset, Webhook

BODY = b'{\r\n "type": "paid", "n": 1E400}'


async def arrives(house: Running, body: bytes) -> None:
    answer = await house.http.post("/in/shop", content=body, headers=[("x-a", "1"), ("x-b", "2"), ("x-a", "3")])
    assert answer.status_code == 200, answer.text


def facts(webhook: Webhook) -> tuple[object, ...]:
    sent = [pair for pair in webhook.request.headers if pair[0].startswith("x-")]
    return webhook.raw, webhook.type, webhook.source, sent


async def test_both_clients_yield_requests_as_they_arrived_and_tell_where_they_stand(tmp_path: Path) -> None:
    expected = (BODY, "paid", "shop", [("x-a", "1"), ("x-b", "2"), ("x-a", "3")])
    async with running(tmp_path) as house, asyncio.timeout(PATIENCE_S):
        await house.http.post("/v1/sources", json={"name": "shop", "provider": "none"})
        await arrives(house, b'{"type": "other"}')
        await arrives(house, BODY)
        url = str(house.http.base_url)
        places: list[tuple[str, bool]] = []

        def note(cursor: str, live: bool) -> None:
            places.append((cursor, live))

        async with AsyncHookbrook(url) as brook:
            stream = brook.webhooks("shop", types="paid", last=9, on_place=note)
            async with stream:
                webhook = await anext(stream)
                assert facts(webhook) == expected
                waiting = asyncio.ensure_future(anext(stream))
                await arrives(house, b'{"type": "paid", "n": 2}')
                assert (await waiting).raw == b'{"type": "paid", "n": 2}'
            assert places == [(webhook.cursor, True)]
            path = f"/v1/sources/shop/requests/{webhook.id}/body"
            assert await brook.download(path) == BODY

        def read() -> tuple[list[Webhook], list[str], bytes]:
            with Hookbrook(url) as brook:
                seen: list[str] = []

                def at(cursor: str, _live: bool) -> None:
                    seen.append(cursor)
                    past.close()

                past = brook.webhooks("shop", since="1h", on_place=at)
                with past:
                    return list(past), seen, brook.download(path)

        found, seen, body = await asyncio.to_thread(read)
        assert facts(found[1]) == expected
        assert (seen, body) == ([found[-1].cursor], BODY)


async def test_a_gap_is_raised_and_a_source_that_is_not_there_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as house, asyncio.timeout(PATIENCE_S):
        await house.http.post("/v1/sources", json={"name": "shop", "provider": "none"})
        async with AsyncHookbrook(str(house.http.base_url)) as brook:
            async with brook.webhooks("shop", after="zzzz-1") as stream:
                with pytest.raises(Reset):
                    await anext(stream)
                waiting = asyncio.ensure_future(anext(stream))
                await arrives(house, BODY)
                assert (await waiting).raw == BODY
            async with brook.webhooks("nothing") as stream:
                with pytest.raises(ApiError) as refused:
                    await anext(stream)
            assert refused.value.status == 404
