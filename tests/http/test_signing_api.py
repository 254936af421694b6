"""What an endpoint's webhooks are signed with over the management API: shown, rotated, served as a key set."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import jwt
import msgspec
import pytest
from nacl.signing import VerifyKey
from standardwebhooks import Webhook
from tests.http.gateway_fixtures import House, call, gateway_in

from hookbrook import verify
from hookbrook.core.endpoint import Endpoint
from hookbrook.core.event import Appended, NewEvent, as_event
from hookbrook.http.registration import declare
from hookbrook.outbound.message import Letterhead

DAY_S = 86_400
BODY = b'{"paid":true}'


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with gateway_in(tmp_path) as house:
        yield house


async def rotate(house: House, endpoint: Any, document: Any = None, **headers: str) -> Any:
    answer = await house.ask("POST", f"/v1/endpoints/{endpoint['id']}/rotate", document, **headers)
    assert answer.status == 200, answer.body
    assert answer.headers["cache-control"] == "no-store"
    return answer.json()


async def key_set(house: House, endpoint: Any) -> list[dict[str, str]]:
    answer = await call(house.app, "GET", f"/.well-known/hookbrook/{endpoint['id']}/keys.json")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/jwk-set+json")
    keys: list[dict[str, str]] = answer.json()["keys"]
    return keys


def sent(house: House, endpoint: Any) -> dict[str, str]:
    """The headers of a webhook that would be sent now."""
    event = NewEvent(
        id="evt_1", channels=("a",), time=0, content_type="application/json", kind="json", data=BODY, dedupe_id="evt_1"
    )
    record = house.gateway.catalog.routes.by_id[endpoint["id"]]
    kept = as_event(event, Appended(id=event.id, seq=1, epoch="e"), 0)
    return Letterhead(record).request(kept, house.clock() // 1_000_000, "att_1").headers


async def test_both_secrets_sign_for_a_day_after_a_rotation(house: House) -> None:
    endpoint = await house.endpoint()
    turned = await rotate(house, endpoint)
    assert turned["secret"] != endpoint["secret"]
    assert turned["secrets"] == [turned["secret"], endpoint["secret"]]
    house.clock.advance(DAY_S - 1)
    now = house.clock() / 1_000_000
    for secret in turned["secrets"]:
        verify(secret, sent(house, endpoint), BODY, now=now)
    seen = (await house.ask("GET", f"/v1/endpoints/{endpoint['id']}")).json()
    assert [(each["signature"], each["expires_at"]) for each in seen["expiring"]] == [("v1", "2026-11-24T16:20:00Z")]
    house.clock.advance(1)
    assert sent(house, endpoint)["webhook-signature"].count("v1,") == 1
    seen = (await house.ask("GET", f"/v1/endpoints/{endpoint['id']}")).json()
    assert seen["expiring"] == []
    assert (await house.ask("GET", f"/v1/endpoints/{endpoint['id']}/secret")).json()["secrets"] == [turned["secret"]]


async def test_the_overlap_and_the_secret_may_be_chosen(house: House) -> None:
    endpoint = await house.endpoint()
    own = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
    turned = await rotate(house, endpoint, {"overlap_s": 0, "secret": own})
    assert turned == {"secret": own, "secrets": [own]}
    Webhook(own)


async def test_a_repeated_rotation_is_made_once(house: House) -> None:
    endpoint = await house.endpoint()
    first = await rotate(house, endpoint, **{"Idempotency-Key": "k1"})
    assert await rotate(house, endpoint, **{"Idempotency-Key": "k1"}) == first
    assert await rotate(house, endpoint, **{"Idempotency-Key": "k2"}) != first


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"overlap_s": -1}, "overlap_s"),
        ({"overlap_s": 7 * DAY_S + 1}, "overlap_s"),
        ({"overlap_s": "1d"}, "overlap_s"),
        ({"secret": "short"}, "secret"),
        ({"signatures": ["v1a"]}, "signatures"),
        ({"signatures": ["v2"]}, "signatures[0]"),
        ({"unknown": 1}, "unknown"),
    ],
)
async def test_a_rotation_that_is_wrong_changes_nothing(house: House, document: Any, field: str) -> None:
    endpoint = await house.endpoint()
    answer = await house.ask("POST", f"/v1/endpoints/{endpoint['id']}/rotate", document)
    assert (answer.status, set(answer.fields)) == (422, {field})
    assert house.gateway.catalog.routes.by_id[endpoint["id"]].secrets == (endpoint["secret"],)


async def test_setting_a_secret_ends_those_that_a_rotation_left(house: House) -> None:
    endpoint = await house.endpoint()
    await rotate(house, endpoint)
    await house.ask("PATCH", f"/v1/endpoints/{endpoint['id']}", {"secret": None})
    assert len((await house.ask("GET", f"/v1/endpoints/{endpoint['id']}/secret")).json()["secrets"]) == 1


async def test_an_endpoint_that_asks_for_ed25519_has_public_keys_and_libsodium_verifies_with_them(
    house: House,
) -> None:
    endpoint = await house.endpoint(signatures=["v1", "v1a"], svix_headers=True)
    shown = (await house.ask("GET", f"/v1/endpoints/{endpoint['id']}/public-keys")).json()
    [public] = shown["data"]
    assert public["expires_at"] is None
    assert shown["url"].endswith(f"/.well-known/hookbrook/{endpoint['id']}/keys.json")
    [jwk] = await key_set(house, endpoint)
    assert jwk["kid"] == public["kid"]
    headers = sent(house, endpoint)
    assert all(headers[f"svix-{part}"] == headers[f"webhook-{part}"] for part in ("id", "timestamp", "signature"))
    now = house.clock() / 1_000_000
    for secret in (public["key"], endpoint["secret"]):
        verify(secret, headers, BODY, now=now)
    signature = dict(each.split(",") for each in headers["webhook-signature"].split())["v1a"]
    message = f"evt_1.{headers['webhook-timestamp']}.".encode() + BODY
    x = jwt.utils.base64url_decode(jwk["x"])
    VerifyKey(x).verify(message, jwt.utils.base64url_decode(signature.replace("+", "-").replace("/", "_")))
    assert jwt.PyJWK(jwk).algorithm_name == "EdDSA"


async def test_a_rotated_signing_key_is_served_until_it_signs_no_more(house: House) -> None:
    endpoint = await house.endpoint(signatures=["v1a"])
    [old] = await key_set(house, endpoint)
    await rotate(house, endpoint, {"overlap_s": 60})
    new, kept = await key_set(house, endpoint)
    assert (kept, new["kid"] != old["kid"]) == (old, True)
    house.clock.advance(60)
    assert await key_set(house, endpoint) == [new]


async def test_a_key_set_is_one_endpoints_alone_and_there_is_none_without_ed25519(house: House) -> None:
    one, other = await house.endpoint(signatures=["v1a"]), await house.endpoint(signatures=["v1a"])
    plain = await house.endpoint()
    assert (await key_set(house, one)) != (await key_set(house, other))
    for endpoint_id in (plain["id"], "ep_nobody"):
        answer = await call(house.app, "GET", f"/.well-known/hookbrook/{endpoint_id}/keys.json")
        assert answer.status == 404
    assert (await house.ask("GET", f"/v1/endpoints/{plain['id']}/public-keys")).json()["data"] == []


async def test_no_answer_but_the_secrets_own_shows_a_private_key(house: House) -> None:
    endpoint = await house.endpoint(signatures=["v1", "v1a"])
    record = house.gateway.catalog.routes.by_id[endpoint["id"]]
    assert record.signing_key is not None
    await rotate(house, endpoint)
    for path in ("", "/secret", "/public-keys"):
        answer = await house.ask("GET", f"/v1/endpoints/{endpoint['id']}{path}")
        assert record.signing_key.encode() not in answer.body
    assert b"whsk_" not in json.dumps(await key_set(house, endpoint)).encode()


async def test_signatures_are_changed_and_the_key_stays_the_same(house: House) -> None:
    endpoint = await house.endpoint()
    path = f"/v1/endpoints/{endpoint['id']}"
    for wrong in ([], ["v1", "v1"]):
        assert (await house.ask("PATCH", path, {"signatures": wrong})).fields.keys() == {"signatures"}
    await house.ask("PATCH", path, {"signatures": ["v1", "v1a"]})
    keys = await key_set(house, endpoint)
    await house.ask("PATCH", path, {"signatures": None})
    assert "v1a" not in sent(house, endpoint)["webhook-signature"]
    await house.ask("PATCH", path, {"signatures": ["v1a"]})
    assert await key_set(house, endpoint) == keys


async def test_a_declared_endpoint_keeps_its_key_over_starts_and_is_not_rotated_by_api(house: House) -> None:
    declared = Endpoint(
        id="ep_1", url="https://x.example", secrets=(), signatures=("v1a",), created=0, updated=0, declared=True
    )
    for seed in (1, 2):
        await declare(
            house.gateway.catalog,
            sources=(),
            endpoints=(declared,),
            providers={},
            now=house.clock(),
            random=Random(seed).randbytes,
        )
        house.clock.advance(1)
    assert house.gateway.catalog.routes.by_id["ep_1"].revision == 1
    assert (await house.ask("POST", "/v1/endpoints/ep_1/rotate")).status == 409


def test_records_of_the_first_release_still_decode_and_sign() -> None:
    document = b"""{"id":"ep_1","url":"https://x.example","secrets":["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
                   "created":1,"updated":1}"""
    assert msgspec.json.decode(document, type=Endpoint).signatures == ("v1",)
