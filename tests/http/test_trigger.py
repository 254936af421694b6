"""Samples that the server signs and sends through its own door."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.http.gateway_fixtures import House, gateway_in
from tests.inbound import documented

from hookbrook.core.key import Scope
from hookbrook.core.received import request_of

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with gateway_in(tmp_path, public_url="https://hooks.example.com") as house:
        yield house


@pytest.mark.parametrize(
    ("provider", "type_", "secret"),
    [
        ("stripe", "invoice.paid", SECRET),
        ("github", "pull_request.opened", SECRET),
        ("square", "payment.updated", SECRET),
        ("twilio", "received", SECRET),
        ("clerk", "user.created", SECRET),
        ("adyen", "AUTHORISATION", "ab" * 32),
        ("gitlab", "push", SECRET),
    ],
)
async def test_a_sample_is_verified_kept_and_says_who_sent_it(
    house: House, provider: str, type_: str, secret: str
) -> None:
    await house.source(provider=provider, secrets=[secret])
    for _ in range(2):
        answer = await house.ask("POST", "/v1/sources/in/trigger", {"type": type_})
        assert (answer.status, answer.json()["status"]) == (200, 200), answer.body
    # Each is another one.
    first, second = await house.events()
    assert (first.type, second.type) == (type_, type_)
    request = request_of(first)
    assert (request.verified, request.provider) == (True, provider)
    assert dict(request.headers)["hookbrook-triggered-by"].startswith("key key_")


async def test_the_answer_is_that_of_the_door(house: House) -> None:
    made = await house.source(provider="stripe", secrets=[SECRET])
    answer = await house.ask("POST", f"/v1/sources/{made['id']}/trigger", {"type": "invoice.paid"})
    [event] = await house.events()
    assert json.loads(answer.json()["body"]) == {"id": event.id, "cursor": event.cursor, "duplicate": False}


async def test_a_body_of_ones_own_is_signed_as_it_is(house: House) -> None:
    await house.source(provider="github", secrets=[SECRET])
    body = '{\r\n "action": "closed", "n": 1E400}'
    own = {"headers": {"X-GitHub-Event": "issues", "Content-Type": "application/json"}, "body": body}
    answer = await house.ask("POST", "/v1/sources/in/trigger", own)
    assert answer.json()["status"] == 200
    [event] = await house.events()
    assert (event.type, event.data) == ("issues.closed", body.encode())


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({}, "type"),
        ({"type": "invoice.paid", "body": "{}"}, "type"),
        ({"type": "nothing"}, "type"),
        ({"body": "{}", "headers": {"a b": "c"}}, "headers.a b"),
        ({"body": "{}", "headers": {"a": "b\r\nc: d"}}, "headers.a"),
        ({"body": "{}", "headers": {"a": "€"}}, "headers.a"),
        ({"body": 1}, "body"),
        ({"other": 1}, "other"),
    ],
)
async def test_what_cannot_be_sent_is_refused_with_its_field(
    house: House, document: dict[str, object], field: str
) -> None:
    await house.source(provider="stripe", secrets=[SECRET])
    answer = await house.ask("POST", "/v1/sources/in/trigger", document)
    assert (answer.status, [error["field"] for error in answer.json()["errors"]]) == (422, [field])
    assert await house.events() == []


async def test_a_source_that_cannot_sign_says_why(house: House) -> None:
    public = documented.ed25519_public_hex(SECRET)
    sources: dict[str, tuple[dict[str, Any], str]] = {
        "nothing": ({"provider": "stripe"}, "no secret"),
        "public": ({"provider": "discord", "secrets": [public]}, "private key"),
        "off": ({"provider": "stripe", "secrets": [SECRET], "enabled": False}, "disabled"),
        "shown": ({"provider": "meta", "secrets": ["verify_token:x"]}, "no secret"),
    }
    for name, (fields, said) in sources.items():
        await house.source(name=name, **fields)
        answer = await house.ask("POST", f"/v1/sources/{name}/trigger", {"body": "{}"})
        assert answer.status == 409, name
        assert said in answer.json()["detail"]


async def test_what_amazon_signs_nobody_else_can(house: House) -> None:
    await house.source(provider="amazon-sns", secrets=[documented.TOPIC])
    answer = await house.ask("POST", "/v1/sources/in/trigger", {"body": "{}"})
    assert (answer.status, answer.json()["errors"][0]["field"]) == (422, "provider")


async def test_only_an_administrator_may_speak_for_a_provider(house: House) -> None:
    await house.source(provider="stripe", secrets=[SECRET])
    for scopes in ((Scope.INGEST,), (Scope.PUBLISH, Scope.SUBSCRIBE)):
        key = await house.key(*scopes)
        assert (await house.ask("POST", "/v1/sources/in/trigger", {"type": "invoice.paid"}, key=key)).status == 403
    assert (await house.ask("POST", "/v1/sources/in/trigger", {"type": "invoice.paid"}, key="")).status == 401
    assert (await house.ask("POST", "/v1/sources/none/trigger", {"type": "invoice.paid"})).status == 404
    assert await house.events() == []


async def test_the_list_of_providers_names_their_samples(house: House) -> None:
    rows = {row["id"]: row for row in (await house.ask("GET", "/v1/providers")).json()["data"]}
    assert "invoice.paid" in rows["stripe"]["samples"]
    assert rows["x"]["samples"] == []


async def test_a_sample_comes_from_no_network_and_is_taken_all_the_same(house: House) -> None:
    await house.source(provider="github", secrets=[SECRET], networks=["192.0.2.0/24"])
    answer = await house.ask("POST", "/v1/sources/in/trigger", {"type": "push"})
    assert answer.json()["status"] == 200
    assert len(await house.events()) == 1
