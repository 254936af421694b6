"""Webhooks that fail: explained to the operator and to nobody else, and kept within bounds."""

import asyncio
import base64
import hmac
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import stripe
from tests.http.gateway_fixtures import NOW, SECOND, Answer, House, call, gateway_in

from hookbrook.core.failure import KEPT_PER_SOURCE, MAX_KEPT_BODY, MAX_KEPT_HEADERS
from hookbrook.core.key import Scope
from hookbrook.http.failures import BURST, MAX_WAITING, REFILL_US

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"id":"evt_1","type":"invoice.paid"}'


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with gateway_in(tmp_path) as house:
        yield house


def signed(body: bytes = BODY, secret: str = SECRET, at: int = NOW // SECOND) -> dict[str, str]:
    return {"Stripe-Signature": stripe.WebhookSignature.generate_signature_header(body.decode(), secret, at)}


async def post(house: House, headers: Any, body: bytes | list[bytes] = BODY, path: str = "/in/in") -> Answer:
    return await call(house.app, "POST", path, body=body, headers=headers)


async def failures(house: House, name: str = "in", query: str = "") -> list[dict[str, Any]]:
    await house.ingest.failures.idle()
    answer = await house.ask("GET", f"/v1/sources/{name}/failures{query}")
    assert answer.status == 200, answer.body
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


async def test_the_operator_is_told_the_mistake_and_the_caller_is_not(house: House) -> None:
    source = await house.source(provider="stripe", secrets=[SECRET])
    answer = await post(house, {**signed(), "X-Api-Key": "k3y", "Cookie": "c=1"}, BODY + b"\n")
    assert answer.status == 401
    assert answer.json()["detail"] == "No signature matches."
    assert b"line" not in answer.body
    [failure] = await failures(house, source["id"])
    assert (failure["cause"], failure["proven"], failure["reason"]) == ("line_end", True, "mismatch")
    assert failure["received_at"] == "2026-11-23T16:20:00Z"
    request = failure["request"]
    assert (request["method"], request["path"], request["size"]) == ("POST", "/in/in", len(BODY) + 1)
    assert request["body"] == (BODY + b"\n").decode()
    assert ["x-api-key", "***"] in request["headers"]
    assert ["cookie", "***"] in request["headers"]
    assert SECRET not in json.dumps(failure)


async def test_the_log_says_it_too(house: House, caplog: pytest.LogCaptureFixture) -> None:
    await house.source(provider="stripe", secrets=[f"{SECRET}x"])
    await house.source(name="other", provider="stripe", secrets=[SECRET])
    with caplog.at_level(logging.WARNING, "hookbrook.ingest"):
        await post(house, signed())
        await house.ingest.failures.idle()
    assert "explained: source=in cause=other_source: It is signed with the secret of the source `other`" in caplog.text
    assert SECRET not in caplog.text


async def test_nothing_is_told_of_another_tenant_s_sources(house: House) -> None:
    await house.source(provider="stripe", secrets=["another"])
    await house.source(name="theirs", provider="stripe", secrets=[SECRET], tenant="acme")
    await post(house, signed())
    [failure] = await failures(house)
    assert failure["cause"] == "wrong_secret"
    assert "theirs" not in json.dumps(failure)


async def test_failures_are_for_the_tenant_s_administrators(house: House) -> None:
    source = await house.source(provider="stripe", secrets=[SECRET])
    await post(house, {})
    other = await house.key(Scope.PUBLISH, Scope.SUBSCRIBE, Scope.INGEST)
    assert (await house.ask("GET", f"/v1/sources/{source['id']}/failures", key=other)).status == 403
    assert (await house.ask("GET", f"/v1/sources/{source['id']}/failures", key="")).status == 401
    assert (await house.ask("GET", "/v1/sources/nowhere/failures")).status == 404


async def test_a_token_that_is_shown_at_the_wrong_source_is_not_kept(house: House) -> None:
    await house.source(secrets=[SECRET])
    await post(house, {"X-Gitlab-Token": "glpat-x", "Authorization": "Bearer b"}, path="/in/in?token=t")
    [failure] = await failures(house)
    kept = json.dumps(failure)
    assert "glpat-x" not in kept
    assert "Bearer b" not in kept
    assert failure["request"]["query"] == "***"
    assert failure["cause"] == "wrong_provider"


async def test_what_is_kept_of_a_request_is_bounded(house: House) -> None:
    await house.source(secrets=[SECRET])
    noise = [(b"x-noise-%d" % number, b"\xff" * 1000) for number in range(30)]
    body = b"\xfe" * 100_000
    await post(house, noise, body)
    [failure] = await failures(house)
    request = failure["request"]
    assert sum(len(name) + len(value) for name, value in request["headers"]) <= MAX_KEPT_HEADERS
    assert request["size"] == len(body)
    assert base64.b64decode(request["body_base64"]) == body[:MAX_KEPT_BODY]


async def test_a_flood_is_counted_and_not_kept(house: House, caplog: pytest.LogCaptureFixture) -> None:
    source = await house.source(provider="stripe", secrets=[SECRET])
    with caplog.at_level(logging.WARNING, "hookbrook.ingest"):
        answers = await asyncio.gather(*(post(house, {}, b"garbage %d" % number) for number in range(1000)))
        assert {answer.status for answer in answers} == {401}
        kept = await failures(house)
    assert len(kept) == BURST
    assert len(caplog.records) <= 2 * BURST
    # Of another kind, and therefore not lost among them.
    house.clock.advance(0.001)
    await post(house, signed(), BODY + b"\n")
    house.clock.advance(REFILL_US / SECOND)
    await post(house, {}, b"later")
    kept = await failures(house)
    assert [failure["reason"] for failure in kept[:2]] == ["missing_signature", "mismatch"]
    assert kept[0]["skipped"] == 1000 - BURST
    seen = (await house.ask("GET", f"/v1/sources/{source['id']}")).json()
    assert seen["received"]["refused"] == 1002


async def test_only_the_newest_are_kept_and_pages_lead_through_them(house: House) -> None:
    await house.source(provider="stripe", secrets=[SECRET])
    for number in range(KEPT_PER_SOURCE + 5):
        house.clock.advance(REFILL_US / SECOND)
        await post(house, {}, b"%d" % number)
        await house.ingest.failures.idle()
    kept = await failures(house, query="?limit=200")
    assert [failure["request"]["body"] for failure in kept] == [
        str(number) for number in range(KEPT_PER_SOURCE + 4, 4, -1)
    ]
    page = (await house.ask("GET", "/v1/sources/in/failures?limit=20")).json()
    again = (await house.ask("GET", f"/v1/sources/in/failures?limit=40&page={page['next']}")).json()
    assert page["data"] + again["data"] == kept
    assert again["next"] is None


async def test_what_waits_to_be_explained_is_bounded(house: House) -> None:
    for number in range(MAX_WAITING + 40):
        await house.source(name=f"s{number}", provider="stripe", secrets=[SECRET])
    await asyncio.gather(*(post(house, {}, path=f"/in/s{number}") for number in range(MAX_WAITING + 40)))
    found = [len(await failures(house, f"s{number}")) for number in range(MAX_WAITING + 40)]
    assert 0 < sum(found) <= MAX_WAITING + 2


async def test_what_an_observing_source_keeps_is_explained_as_well(house: House) -> None:
    await house.source(provider="stripe", secrets=[SECRET], enforce=False)
    assert (await post(house, signed(), BODY + b"\n")).status == 200
    [failure] = await failures(house)
    assert failure["cause"] == "line_end"


async def test_failures_go_with_their_source(house: House) -> None:
    source = await house.source(provider="stripe", secrets=[SECRET])
    await post(house, {})
    assert len(await failures(house)) == 1
    await house.ask("DELETE", f"/v1/sources/{source['id']}")
    await house.source(provider="stripe", secrets=[SECRET])
    assert await failures(house) == []


async def test_another_public_url_is_told_with_the_one_that_is_signed(house: House) -> None:
    await house.source(provider="square", secrets=[SECRET])
    url = b"https://hooks.example.com/in/in"
    signature = base64.b64encode(hmac.digest(SECRET.encode(), url + BODY, "sha256")).decode()
    headers = {"x-square-hmacsha256-signature": signature, "X-Forwarded-Host": "hooks.example.com"}
    await post(house, headers)
    [failure] = await failures(house)
    assert failure["cause"] == "public_url"
    assert "https://hooks.example.com/in/in" in failure["explanation"]
    changed = await house.ask("PATCH", "/v1/sources/in", {"public_url": "https://hooks.example.com/"})
    assert changed.json()["url"] == "https://hooks.example.com/in/in"
    assert (await post(house, headers)).status == 200
