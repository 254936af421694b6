"""The management API: what can be made, seen, changed and deleted, by whom, and what is refused how."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import msgspec
import pytest
from tests.http.gateway_fixtures import NOW, SECOND, House, call, gateway_in

from hookbrook.core.credential import Basic, Bearer
from hookbrook.core.delivery import Attempt, Happening, Outcome
from hookbrook.core.endpoint import Endpoint
from hookbrook.core.event import NewEvent
from hookbrook.core.key import Scope
from hookbrook.core.source import Source
from hookbrook.http.gateway import Stats
from hookbrook.http.registration import declare

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
#: One path of each kind, with a body that would do.
MANAGED = [
    ("POST", "/v1/sources", {"name": "x", "provider": "github"}),
    ("GET", "/v1/sources", None),
    ("GET", "/v1/sources/src_00000000000000000000000000", None),
    ("POST", "/v1/endpoints", {"url": "https://example.com"}),
    ("GET", "/v1/endpoints", None),
    ("GET", "/v1/endpoints/ep_00000000000000000000000000/secret", None),
    ("POST", "/v1/keys", {"scopes": ["admin"]}),
    ("GET", "/v1/keys", None),
    ("DELETE", "/v1/keys/key_00000000000000000000000000", None),
    ("GET", "/v1/deliveries", None),
    ("POST", "/v1/deliveries/dlv_00000000000000000000000000/resend", None),
]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with gateway_in(tmp_path) as house:
        yield house


# ---- who may


@pytest.mark.parametrize(("method", "path", "body"), MANAGED)
async def test_management_is_for_administrators(house: House, method: str, path: str, body: Any) -> None:
    nobody = await house.ask(method, path, body, key="")
    assert (nobody.status, nobody.headers["www-authenticate"]) == (401, 'Bearer realm="hookbrook"')
    assert (await house.ask(method, path, body, key="hbk_wrong")).status == 401
    other = await house.key(Scope.PUBLISH, Scope.SUBSCRIBE, Scope.INGEST)
    assert (await house.ask(method, path, body, key=other)).status == 403


async def test_who_asks_is_judged_before_what_is_asked(house: House) -> None:
    broken = await call(house.app, "POST", "/v1/endpoints", body=b"{")
    huge = await call(house.app, "POST", "/v1/endpoints", body=b" " * 1_000_000)
    nowhere = await call(house.app, "GET", "/v1/nowhere")
    assert [answer.status for answer in (broken, huge, nowhere)] == [401, 401, 401]


# ---- sources


async def test_a_source_is_made_and_its_secret_is_never_shown_again(house: House) -> None:
    answer = await house.ask(
        "POST", "/v1/sources", {"name": "billing", "provider": "stripe", "secrets": [SECRET], "description": "Money"}
    )
    made = answer.json()
    assert answer.status == 201
    assert answer.headers["location"] == f"/v1/sources/{made['id']}"
    assert made["url"] == "http://localhost:4665/in/billing"
    assert made["secrets"] == [f"…{SECRET[-4:]}"]
    assert made["secret"] is None
    assert made["created_at"] == "2026-11-23T16:20:00Z"
    seen = (await house.ask("GET", f"/v1/sources/{made['id']}")).json()
    assert seen == {name: value for name, value in made.items() if name != "secret"}
    listed = await house.ask("GET", "/v1/sources")
    assert listed.json() == {"data": [seen], "next": None}
    assert SECRET.encode() not in answer.body + listed.body


async def test_the_url_of_a_source_is_the_public_one(tmp_path: Path) -> None:
    async with gateway_in(tmp_path, public_url="https://hooks.example.com/brook/") as house:
        assert (await house.source())["url"] == "https://hooks.example.com/brook/in/in"


@pytest.mark.parametrize(("provider", "made"), [("standard-webhooks", True), ("bearer", True), ("github", False)])
async def test_a_secret_is_made_where_it_is_ours_to_make(house: House, provider: str, made: bool) -> None:
    source = await house.source(provider=provider)
    assert (source["secret"] is not None) is made
    assert len(source["secrets"]) == made


async def test_a_source_is_changed_by_a_merge_patch(house: House) -> None:
    source = await house.source(secrets=[SECRET], channel="a.{body.x}", description="old")
    path = f"/v1/sources/{source['id']}"
    house.clock.advance(1)
    answer = await house.ask("PATCH", path, {"description": "new", "channel": None, "name": "renamed"})
    changed = answer.json()
    assert answer.status == 200
    assert (changed["description"], changed["channel"], changed["name"]) == ("new", None, "renamed")
    assert changed["url"].endswith("/in/renamed")
    assert changed["secrets"] == source["secrets"]
    assert changed["updated_at"] == "2026-11-23T16:20:01Z"
    assert list(house.gateway.catalog.sources) == ["renamed"]
    assert (await house.ask("PATCH", path, {})).json()["description"] == "new"


async def test_a_hint_stands_for_the_secret_it_was_made_from(house: House) -> None:
    source = await house.source(secrets=[SECRET])
    path = f"/v1/sources/{source['id']}"
    await house.ask("PATCH", path, {"secrets": [source["secrets"][0], "the new one"]})
    assert house.gateway.catalog.sources["in"].secrets == (SECRET, "the new one")
    assert (await house.ask("PATCH", path, {"secrets": ["…abcd"]})).fields == {
        "secrets[0]": "is a hint, and no secret fits it"
    }
    await house.ask("PATCH", path, {"secrets": None})
    assert not house.gateway.catalog.sources["in"].secrets


async def test_secrets_that_look_alike_are_not_confused(house: House) -> None:
    secrets = ["short", "brief", f"{SECRET}1234", f"{OTHER}1234"]
    source = await house.source(secrets=secrets)
    path = f"/v1/sources/{source['id']}"
    await house.ask("PATCH", path, {"description": "x"})
    assert house.gateway.catalog.sources["in"].secrets == tuple(secrets)
    await house.ask("PATCH", path, {"secrets": source["secrets"]})
    assert house.gateway.catalog.sources["in"].secrets == tuple(secrets)


async def test_a_deleted_source_is_gone_at_once(house: House) -> None:
    source = await house.source()
    answer = await house.ask("DELETE", f"/v1/sources/{source['id']}")
    assert (answer.status, answer.body) == (204, b"")
    assert (await house.ask("GET", f"/v1/sources/{source['id']}")).status == 404
    assert (await house.ask("DELETE", f"/v1/sources/{source['id']}")).status == 404
    assert house.gateway.catalog.sources == {}


async def test_a_source_is_found_by_its_name_as_well_as_by_its_id(house: House) -> None:
    made = (await house.ask("POST", "/v1/sources", {"name": "billing", "provider": "github"})).json()
    assert (await house.ask("GET", "/v1/sources/billing")).json() == (
        await house.ask("GET", f"/v1/sources/{made['id']}")
    ).json()
    assert (await house.ask("PATCH", "/v1/sources/billing", {"description": "money"})).json()["id"] == made["id"]
    assert (await house.ask("DELETE", "/v1/sources/billing")).status == 204
    assert (await house.ask("GET", f"/v1/sources/{made['id']}")).status == 404


async def test_a_source_s_name_is_taken_once(house: House) -> None:
    await house.source(name="one")
    other = await house.source(name="two")
    again = await house.ask("POST", "/v1/sources", {"name": "one", "provider": "github"})
    assert again.status == 409
    assert "one" in again.json()["detail"]
    assert (await house.ask("PATCH", f"/v1/sources/{other['id']}", {"name": "one"})).status == 409


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"name", "provider"}),
        ({"name": "Ünïcode", "provider": "github"}, {"name"}),
        ({"name": "a/b", "provider": "github"}, {"name"}),
        ({"name": "", "provider": "nobody"}, {"name", "provider"}),
        ({"name": "hookbrook.x", "provider": "github"}, {"name"}),
        ({"name": "a", "provider": "github", "surprise": 1}, {"surprise"}),
        ({"name": "a", "provider": "github", "secrets": ["x", 1]}, {"secrets[1]"}),
        ({"name": "a", "provider": "github", "secrets": ["x", ""]}, {"secrets[1]"}),
        ({"name": "a", "provider": "standard-webhooks", "secrets": ["whsec_!"]}, {"secrets[0]"}),
        ({"name": "a", "provider": "github", "channel": "{body."}, {"channel"}),
        ({"name": "a", "provider": "github", "channel": "hookbrook.x", "type": ""}, {"channel", "type"}),
        ({"name": "a", "provider": "github", "enabled": "yes"}, {"enabled"}),
        ({"name": "a", "provider": "github", "tenant": "a b"}, {"tenant"}),
        ({"name": "a", "provider": "github", "description": "x" * 501}, {"description"}),
    ],
)
async def test_every_wrong_field_of_a_source_is_named(house: House, body: Any, fields: set[str]) -> None:
    answer = await house.ask("POST", "/v1/sources", body)
    assert answer.status == 422
    assert set(answer.fields) == fields
    assert house.gateway.catalog.sources == {}


async def test_providers_are_listed(house: House) -> None:
    rows = (await house.ask("GET", "/v1/providers", key=await house.key(Scope.PUBLISH))).json()["data"]
    zoom = next(row for row in rows if row["id"] == "zoom")
    assert (zoom["title"], zoom["challenge"], zoom["covers"]) == ("Zoom", True, ["body", "timestamp"])


# ---- endpoints


async def test_an_endpoint_needs_only_a_url(house: House) -> None:
    answer = await house.ask("POST", "/v1/endpoints", {"url": "https://example.com/hook"})
    made = answer.json()
    assert (answer.status, answer.headers["location"]) == (201, f"/v1/endpoints/{made['id']}")
    assert made["secret"].startswith("whsec_")
    assert (made["types"], made["channels"], made["retry"], made["enabled"]) == ([], [], None, True)
    assert (made["concurrency"], made["timeout_s"]) == (10, 20.0)
    assert house.gateway.catalog.routes.by_id[made["id"]].secrets == (made["secret"],)
    shown = await house.ask("GET", f"/v1/endpoints/{made['id']}/secret")
    assert shown.json() == {"secret": made["secret"], "secrets": [made["secret"]]}
    assert shown.headers["cache-control"] == "no-store"
    seen = (await house.ask("GET", f"/v1/endpoints/{made['id']}")).json()
    assert seen == {name: value for name, value in made.items() if name != "secret"}


async def test_an_endpoint_is_changed_by_a_merge_patch(house: House) -> None:
    endpoint = await house.endpoint(
        secret=SECRET, types=["a.*"], headers={"X-A": "1", "X-B": "2"}, metadata={"k": "v"}, retry=[1, 2], timeout_s=5
    )
    path = f"/v1/endpoints/{endpoint['id']}"
    patch = {"types": ["b"], "headers": {"X-A": None, "X-C": "3"}, "retry": None, "timeout_s": None}
    changed = (await house.ask("PATCH", path, patch)).json()
    assert changed["types"] == ["b"]
    assert changed["headers"] == {"X-B": "2", "X-C": "3"}
    assert (changed["metadata"], changed["retry"], changed["timeout_s"]) == ({"k": "v"}, None, 20.0)
    assert (await house.ask("GET", f"{path}/secret")).json()["secret"] == SECRET
    await house.ask("PATCH", path, {"secret": OTHER})
    assert (await house.ask("GET", f"{path}/secret")).json()["secrets"] == [OTHER]
    await house.ask("PATCH", path, {"secret": None})
    assert (await house.ask("GET", f"{path}/secret")).json()["secret"] not in (SECRET, OTHER)
    assert endpoint["id"] in house.poked


async def test_what_is_read_of_an_endpoint_can_be_sent_back(house: House) -> None:
    given = {"X-Team": "a", "Authorization": "Bearer abc"}
    endpoint = await house.endpoint(headers=given, retry={"base_s": 1, "attempts": 3}, types=["a"], metadata={"k": "v"})
    path = f"/v1/endpoints/{endpoint['id']}"
    seen = (await house.ask("GET", path)).json()
    assert seen["headers"] == {"X-Team": "a", "Authorization": "***"}
    ours = ("id", "secrets", "expiring", "disabled_reason", "failing_since", "declared", "created_at", "updated_at")
    answer = await house.ask("PATCH", path, {name: value for name, value in seen.items() if name not in ours})
    assert answer.status == 200
    assert house.gateway.catalog.routes.by_id[endpoint["id"]].headers == given
    assert answer.json()["retry"] == [1.0, 2.0]


async def test_what_proves_who_sends_is_written_and_never_shown(house: House) -> None:
    basic = {"type": "basic", "username": "me", "password": "topsecret"}
    endpoint = await house.endpoint(auth=basic, secret_headers={"X-Key": "topsecret", "X-Other": "topsecret"})
    path = f"/v1/endpoints/{endpoint['id']}"

    async def stored() -> Endpoint:
        found = await house.gateway.store.get(Endpoint, endpoint["id"])
        assert found is not None
        return found

    for seen in (endpoint, (await house.ask("GET", path)).json(), (await house.ask("GET", "/v1/endpoints")).json()):
        assert "topsecret" not in json.dumps(seen)
    assert endpoint["auth"] == {"type": "basic", "username": "me", "password": "***"}
    # What was shown, sent back, changes nothing; a part of it changes that part.
    await house.ask("PATCH", path, {"auth": endpoint["auth"], "secret_headers": endpoint["secret_headers"]})
    assert ((await stored()).auth, (await stored()).secret_headers) == (
        Basic(username="me", password="topsecret"),
        {"X-Key": "topsecret", "X-Other": "topsecret"},
    )
    await house.ask("PATCH", path, {"auth": {"username": "you"}, "secret_headers": {"X-Other": None}})
    assert ((await stored()).auth, (await stored()).secret_headers) == (
        Basic(username="you", password="topsecret"),
        {"X-Key": "topsecret"},
    )
    changed = await house.ask("PATCH", path, {"auth": {"type": "bearer", "token": "other"}})
    assert (changed.status, changed.json()["auth"]) == (200, {"type": "bearer", "token": "***"})
    assert (await stored()).auth == Bearer(token="other")
    assert (await house.ask("PATCH", path, {"auth": None})).json()["auth"] is None


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"url"}),
        ({"url": 1}, {"url"}),
        ({"url": "ftp://example.com"}, {"url"}),
        ({"url": "http://127.0.0.1/x"}, {"url"}),
        ({"url": "http://[::ffff:10.0.0.1]/"}, {"url"}),
        ({"url": "http://169.254.169.254/latest"}, {"url"}),
        ({"url": "http://2130706433/"}, {"url"}),
        ({"url": "https://user:pw@example.com"}, {"url"}),
        ({"types": ["a b"], "channels": ["*x"], "url": "x"}, {"types", "channels", "url"}),
        ({"secret": "whsec_c2hvcnQ="}, {"secret"}),
        ({"secret": "no prefix"}, {"secret"}),
        ({"headers": {"Host": "x"}}, {"headers.Host"}),
        ({"headers": {"X-A": "a\r\nX-B: b"}}, {"headers.X-A"}),
        ({"headers": {"X-A": 1}}, {"headers.X-A"}),
        ({"retry": [0]}, {"retry[0]"}),
        ({"retry": "often"}, {"retry"}),
        ({"retry": {"base": 1}}, {"retry.base"}),
        ({"concurrency": 0, "timeout_s": 1000}, {"concurrency", "timeout_s"}),
        ({"concurrency": 1.5}, {"concurrency"}),
        ({"concurrency": "5"}, {"concurrency"}),
        ({"metadata": {"": "x"}}, {"metadata"}),
        ({"metadata": {"k": "x" * 501}}, {"metadata.k"}),
        ({"id": "ep_mine"}, {"id"}),
        ({"rate_limit": 0}, {"rate_limit"}),
        ({"rate_limit": 10_001}, {"rate_limit"}),
        ({"rate_limit": "5"}, {"rate_limit"}),
        ({"ordering": "fifo"}, {"ordering"}),
        ({"filter": "data."}, {"filter"}),
        ({"secret_headers": {"Host": "x"}}, {"secret_headers.Host"}),
        ({"headers": {"X-A": "1"}, "secret_headers": {"x-a": "2"}}, {"secret_headers.x-a"}),
        ({"auth": {"type": "digest"}}, {"auth"}),
        ({"auth": {"type": "basic", "username": "a:b", "password": "c"}}, {"auth.username"}),
        ({"auth": {"type": "basic", "username": "a", "password": "c\r\nX: y"}}, {"auth.password"}),
        ({"auth": {"type": "bearer", "token": "a b"}}, {"auth.token"}),
        ({"auth": {"type": "bearer", "token": "a"}, "headers": {"authorization": "b"}}, {"auth"}),
        ({"filter": "x" * 1001}, {"filter"}),
        ({"transform": "{", "format": "event"}, {"transform"}),
        ({"transform": "@", "format": "event"}, {"format"}),
        ({"format": "xml"}, {"format"}),
        ({"max_body_bytes": 0, "connect_timeout_s": 0}, {"max_body_bytes", "connect_timeout_s"}),
        ({"max_body_bytes": 2**28 + 1}, {"max_body_bytes"}),
        ({"burst": 5}, {"burst"}),
    ],
)
async def test_every_wrong_field_of_an_endpoint_is_named(house: House, body: Any, fields: set[str]) -> None:
    full = {"url": "https://example.com", **body} if body else body
    answer = await house.ask("POST", "/v1/endpoints", full)
    assert answer.status == 422
    assert set(answer.fields) == fields
    assert house.gateway.catalog.routes.by_id == {}


async def test_a_private_address_may_be_used_where_the_operator_allows_it(tmp_path: Path) -> None:
    async with gateway_in(tmp_path, allow_networks="127.0.0.1/32:8080") as house:
        await house.endpoint(url="http://127.0.0.1:8080/x")
        assert (await house.ask("POST", "/v1/endpoints", {"url": "http://127.0.0.1:8081/x"})).status == 422


async def test_a_patch_that_is_wrong_changes_nothing(house: House) -> None:
    endpoint = await house.endpoint(description="as it was")
    path = f"/v1/endpoints/{endpoint['id']}"
    for patch, field in (
        ({"description": "new", "url": "x"}, "url"),
        ({"description": "new", "url": None}, "url"),
        ({"description": "new", "unknown": None}, "unknown"),
        ({"description": "new", "tenant": "other"}, "tenant"),
        ({"description": "new", "id": "ep_1"}, "id"),
        ([], ""),
        ("text", ""),
    ):
        answer = await house.ask("PATCH", path, patch)
        assert (answer.status, set(answer.fields)) == (422, {field})
    assert (await house.ask("GET", path)).json()["description"] == "as it was"


async def test_why_and_since_when_an_endpoint_is_in_trouble_is_shown_until_it_is_enabled(house: House) -> None:
    made = await house.endpoint()
    path = f"/v1/endpoints/{made['id']}"
    assert (made["disabled_reason"], made["failing_since"]) == (None, None)
    await house.gateway.store.record([], now=house.clock(), failing={made["id"]: NOW})
    record = house.gateway.catalog.routes.by_id[made["id"]]
    await house.gateway.catalog.save(
        msgspec.structs.replace(record, enabled=False, disabled_reason="failing", revision=2)
    )
    for seen in (
        (await house.ask("GET", path)).json(),
        (await house.ask("GET", "/v1/endpoints")).json()["data"][0],
        (await house.ask("PATCH", path, {"description": "x"})).json(),
    ):
        assert (seen["enabled"], seen["disabled_reason"]) == (False, "failing")
        assert seen["failing_since"] == "2026-11-23T16:20:00Z"
    enabled = (await house.ask("PATCH", path, {"enabled": True})).json()
    assert (enabled["enabled"], enabled["disabled_reason"], enabled["failing_since"]) == (True, None, None)
    by_hand = (await house.ask("PATCH", path, {"enabled": False})).json()
    assert (by_hand["enabled"], by_hand["disabled_reason"]) == (False, None)


# ---- tenants


async def test_an_administrator_sees_all_tenants_or_the_one_that_is_named(house: House) -> None:
    ours = await house.endpoint()
    theirs = await house.endpoint(tenant="acme")
    chosen = (await house.ask("POST", "/v1/endpoints?tenant=acme", {"url": "https://example.com"})).json()
    assert (ours["tenant"], theirs["tenant"], chosen["tenant"]) == ("default", "acme", "acme")

    async def listed(query: str) -> set[str]:
        return {each["id"] for each in (await house.ask("GET", f"/v1/endpoints{query}")).json()["data"]}

    assert await listed("") == {ours["id"], theirs["id"], chosen["id"]}
    assert await listed("?tenant=acme") == {theirs["id"], chosen["id"]}
    assert (await house.ask("GET", f"/v1/endpoints/{ours['id']}?tenant=acme")).status == 404
    assert (await house.ask("DELETE", f"/v1/endpoints/{ours['id']}?tenant=acme")).status == 404
    assert ours["id"] in house.gateway.catalog.routes.by_id


# ---- repeats


@pytest.mark.parametrize(
    ("path", "body", "other"),
    [
        ("/v1/endpoints", {"url": "https://example.com"}, {"url": "https://example.org"}),
        ("/v1/sources", {"name": "a", "provider": "bearer"}, {"name": "a", "provider": "github"}),
        ("/v1/sources", {"name": "a", "provider": "github"}, {"name": "b", "provider": "github"}),
    ],
)
async def test_the_same_idempotency_key_makes_one_thing(house: House, path: str, body: Any, other: Any) -> None:
    first = await house.ask("POST", path, body, **{"Idempotency-Key": "k1"})
    house.clock.advance(5)
    again = await house.ask("POST", path, body, **{"Idempotency-Key": "k1"})
    assert (again.status, again.json()) == (first.status, first.json()) == (201, first.json())
    assert len((await house.ask("GET", path)).json()["data"]) == 1
    assert (await house.ask("POST", path, other, **{"Idempotency-Key": "k1"})).status == 409
    assert (await house.ask("POST", path, body, **{"Idempotency-Key": "x" * 256})).status == 422


async def test_a_repeated_request_for_a_key_says_that_keys_are_shown_once(house: House) -> None:
    first = await house.ask("POST", "/v1/keys", {"scopes": ["publish"]}, **{"Idempotency-Key": "k1"})
    again = await house.ask("POST", "/v1/keys", {"scopes": ["publish"]}, **{"Idempotency-Key": "k1"})
    assert again.status == 409
    assert first.json()["id"] in again.json()["detail"]


# ---- what hookbrook.toml declares


async def test_what_is_declared_is_kept_over_starts_and_read_only(house: House) -> None:
    source = Source(
        id="src_00000000000000000000000001", name="d", provider="github", created=0, updated=0, declared=True
    )
    endpoint = Endpoint(
        id="ep_00000000000000000000000001",
        url="https://example.com",
        secrets=(),
        created=0,
        updated=0,
        declared=True,
    )

    async def start(sources: list[Source], endpoints: list[Endpoint]) -> None:
        gateway = house.gateway
        await declare(
            gateway.catalog,
            sources=sources,
            endpoints=endpoints,
            providers=gateway.providers,
            now=house.clock(),
            random=gateway.random,
        )

    await start([source], [endpoint])
    secret = house.gateway.catalog.routes.by_id[endpoint.id].secrets
    house.clock.advance(10)
    await start([source], [endpoint])
    assert house.gateway.catalog.routes.by_id[endpoint.id].secrets == secret, "a restart makes no new secret"
    assert house.gateway.catalog.sources["d"].created == NOW
    assert house.gateway.catalog.sources["d"].revision == 1, "what did not change is not saved"
    for path in (f"/v1/sources/{source.id}", f"/v1/endpoints/{endpoint.id}"):
        assert (await house.ask("GET", path)).json()["declared"] is True
        assert (await house.ask("PATCH", path, {"description": "x"})).status == 409
        assert (await house.ask("DELETE", path)).status == 409
    await start([msgspec.structs.replace(source, description="changed")], [])
    assert house.gateway.catalog.sources["d"].description == "changed"
    assert (await house.ask("PATCH", f"/v1/endpoints/{endpoint.id}", {"description": "x"})).status == 200
    assert (await house.ask("DELETE", f"/v1/sources/{source.id}")).status == 409


# ---- keys and tokens


async def test_a_key_is_shown_once_and_works_until_it_is_deleted(house: House) -> None:
    answer = await house.ask(
        "POST", "/v1/keys", {"scopes": ["publish", "subscribe", "publish"], "tenant": "acme", "description": "CI"}
    )
    made = answer.json()
    assert (answer.status, answer.headers["cache-control"]) == (201, "no-store")
    assert made["key"].startswith("hbk_")
    assert (made["scopes"], made["tenant"], made["hint"]) == (["publish", "subscribe"], "acme", made["key"][-4:])
    listed = await house.ask("GET", "/v1/keys?tenant=acme")
    assert [each["id"] for each in listed.json()["data"]] == [made["id"]]
    assert made["key"].encode() not in listed.body
    path = f"/v1/keys/{made['id']}"
    assert (await house.ask("GET", path)).json()["hint"] == made["hint"]
    assert (await house.ask("GET", "/v1/providers", key=made["key"])).status == 200
    assert (await house.ask("DELETE", path)).status == 204
    assert (await house.ask("GET", "/v1/providers", key=made["key"])).status == 401


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"scopes"}),
        ({"scopes": []}, {"scopes"}),
        ({"scopes": ["root"]}, {"scopes[0]"}),
        ({"scopes": ["admin"], "expires_at": "2020-01-01T00:00:00Z"}, {"expires_at"}),
        ({"scopes": ["admin"], "expires_at": "tomorrow"}, {"expires_at"}),
        ({"scopes": ["admin"], "tenant": "", "description": "x" * 501}, {"description"}),
        ({"scopes": ["admin"], "tenant": "a b"}, {"tenant"}),
    ],
)
async def test_every_wrong_field_of_a_key_is_named(house: House, body: Any, fields: set[str]) -> None:
    answer = await house.ask("POST", "/v1/keys", body)
    assert (answer.status, set(answer.fields)) == (422, fields)


async def test_a_token_is_minted_for_a_browser(house: House) -> None:
    key = await house.key(Scope.SUBSCRIBE, tenant="acme")
    answer = await house.ask("POST", "/v1/tokens", {"sub": "ann", "subscribe": ["chat.*"], "lifetime_s": 60}, key=key)
    assert (answer.status, answer.headers["cache-control"]) == (200, "no-store")
    assert answer.json()["expires_at"] == "2026-11-23T16:21:00Z"
    claims = jwt.decode(answer.json()["token"], options={"verify_signature": False})
    assert claims.pop("key").startswith("key_")
    assert claims.pop("jti") == answer.json()["id"]
    assert claims == {
        "sub": "ann",
        "tenant": "acme",
        "subscribe": ["chat.*"],
        "publish": [],
        "exp": NOW // SECOND + 60,
        "iat": NOW // SECOND,
    }
    assert (await house.ask("POST", "/v1/tokens", {"publish": ["a"]}, key=key)).status == 403
    assert (await house.ask("POST", "/v1/tokens", {"subscribe": ["a"], "tenant": "other"}, key=key)).status == 403
    token = answer.json()["token"]
    assert (await house.ask("POST", "/v1/tokens", {"subscribe": ["chat.1"]}, key=token)).status == 403
    assert (await house.ask("POST", "/v1/tokens", {}, key=key)).fields.keys() == {"subscribe"}


# ---- deliveries


async def deliver(house: House, number: int, *, tenant: str = "default") -> str:
    """Append an event and return its id."""
    event = NewEvent(
        id=f"e{number}",
        dedupe_id=f"e{number}",
        channels=("orders",),
        tenant=tenant,
        time=house.clock(),
        content_type="text/plain",
        kind="text",
        data=b"x",
    )
    [appended] = await house.gateway.appender.append([event])
    return appended.id


async def test_deliveries_are_listed_newest_first_in_pages(house: House) -> None:
    endpoint = await house.endpoint()
    for number in range(5):
        house.clock.advance(1)
        await deliver(house, number)
    seen: list[str] = []
    query = "?limit=2"
    for size in (2, 2, 1):
        page = (await house.ask("GET", f"/v1/deliveries{query}")).json()
        assert len(page["data"]) == size
        seen += [each["event_id"] for each in page["data"]]
        query = f"?limit=2&page={page['next']}"
    assert page["next"] is None
    assert seen == ["e4", "e3", "e2", "e1", "e0"]
    assert {each["endpoint_id"] for each in page["data"]} == {endpoint["id"]}


async def test_deliveries_are_filtered(house: House) -> None:
    endpoint = await house.endpoint()
    other = await house.endpoint()
    await deliver(house, 1)
    house.clock.advance(3600)
    await deliver(house, 2)
    await house.ask("PATCH", f"/v1/endpoints/{other['id']}", {"enabled": False})

    async def found(query: str) -> list[tuple[str, str]]:
        data = (await house.ask("GET", f"/v1/deliveries?{query}")).json()["data"]
        return sorted((each["event_id"], each["status"]) for each in data)

    assert await found(f"endpoint_id={endpoint['id']}") == [("e1", "pending"), ("e2", "pending")]
    assert await found("status=held") == [("e1", "held"), ("e2", "held")]
    assert await found("event_id=e1&status=pending") == [("e1", "pending")]
    assert await found("since=30m&status=pending") == [("e2", "pending")]
    assert await found("until=2026-11-23T17:00:00Z&status=pending") == [("e1", "pending")]
    assert await found("tenant=acme") == []
    for query, field in (
        ("status=lost", "status"),
        ("since=soon", "since"),
        ("limit=0", "limit"),
        ("limit=a", "limit"),
    ):
        answer = await house.ask("GET", f"/v1/deliveries?{query}")
        assert (answer.status, set(answer.fields)) == (422, {field})


@pytest.mark.parametrize("page", ["x", "%%%", "Li4v", "ZXBfMQ", "é", "ZXBf" * 100])
@pytest.mark.parametrize("path", ["sources", "endpoints", "keys", "deliveries"])
async def test_a_page_that_was_never_named_is_refused(house: House, path: str, page: str) -> None:
    answer = await house.ask("GET", f"/v1/{path}?page={page}")
    assert (answer.status, set(answer.fields)) == (422, {"page"})


async def failed_delivery(house: House) -> str:
    """The id of a delivery whose only attempt was refused."""
    await deliver(house, 1)
    [delivery] = (await house.ask("GET", "/v1/deliveries")).json()["data"]
    attempt = Attempt(
        id="att_1",
        delivery_id=delivery["id"],
        started=house.clock(),
        duration=1500,
        address="192.0.2.1:443",
        status=500,
        response_headers=(("x-a", "b"),),
        response_body=b"no \xff",
    )
    outcome = Outcome(attempt=attempt, happening=Happening.EXHAUSTED)
    await house.gateway.store.record([outcome], now=house.clock())
    found: str = delivery["id"]
    return found


async def test_a_failed_delivery_is_shown_with_its_attempts_and_can_be_sent_again(house: House) -> None:
    endpoint = await house.endpoint()
    path = f"/v1/deliveries/{await failed_delivery(house)}"
    seen = (await house.ask("GET", path)).json()
    assert (seen["status"], seen["attempts"], seen["last_status"]) == ("failed", 1, 500)
    [attempt] = seen["history"]
    assert (attempt["status"], attempt["duration_ms"], attempt["address"]) == (500, 1.5, "192.0.2.1:443")
    assert attempt["response"] == {"headers": [["x-a", "b"]], "body": "no �", "truncated": False}
    again = await house.ask("POST", f"{path}/resend")
    assert (again.status, again.json()["status"]) == (200, "pending")
    assert house.poked == [endpoint["id"]]
    cancelled = await house.ask("POST", f"{path}/cancel")
    assert cancelled.json()["status"] == "cancelled"
    assert (await house.ask("POST", f"{path}/cancel")).status == 409


async def test_what_cannot_arrive_is_not_sent_again(house: House) -> None:
    endpoint = await house.endpoint()
    path = f"/v1/deliveries/{await failed_delivery(house)}"
    await house.ask("PATCH", f"/v1/endpoints/{endpoint['id']}", {"enabled": False})
    assert "disabled" in (await house.ask("POST", f"{path}/resend")).json()["detail"]
    await house.ask("DELETE", f"/v1/endpoints/{endpoint['id']}")
    assert "deleted" in (await house.ask("POST", f"{path}/resend")).json()["detail"]


async def test_a_delivery_of_another_tenant_is_not_found(house: House) -> None:
    await house.endpoint()
    path = f"/v1/deliveries/{await failed_delivery(house)}"
    for method, action in (("GET", ""), ("POST", "/resend"), ("POST", "/cancel")):
        assert (await house.ask(method, f"{path}{action}?tenant=acme")).status == 404


# ---- what is refused, and how


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b'{"url": NaN}', 400),
        (b'{"url": "\\ud800"}', 400),
        (b"\xff", 400),
        (b"[" * 100_000, 400),
        (b'{"concurrency": ' + b"9" * 5000 + b"}", 400),
        (b"", 422),
        (b"[]", 422),
        (b"null", 422),
        (b'"text"', 422),
        (b" " * 300_000, 413),
    ],
)
async def test_a_body_that_is_none_is_a_clear_problem(house: House, body: bytes, status: int) -> None:
    headers = {"Authorization": f"Bearer {house.admin}"}
    answer = await call(house.app, "POST", "/v1/endpoints", body=body, headers=headers)
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["type"].startswith("urn:hookbrook:problem:")
    assert problem["detail"]


@pytest.mark.parametrize(
    "label", ["application/x-www-form-urlencoded", "text/plain", "application/merge-patch+json", "x"]
)
async def test_a_body_is_json_whatever_its_label_says(house: House, label: str) -> None:
    answer = await house.ask("POST", "/v1/endpoints", {"url": "https://example.com"}, **{"Content-Type": label})
    assert answer.status == 201


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nowhere", 404),
        ("GET", "/nowhere", 404),
        ("GET", "/v1/sources/", 404),
        ("GET", "/v1/sources/x/y/z", 404),
        ("PUT", "/v1/sources", 405),
        ("POST", "/healthz", 405),
        ("PATCH", "/v1/tokens", 405),
    ],
)
async def test_an_address_that_is_none_is_a_problem(house: House, method: str, path: str, status: int) -> None:
    answer = await house.ask(method, path)
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert ("allow" in answer.headers) == (status == 405)


async def test_a_refusal_does_not_repeat_what_was_sent(house: House) -> None:
    answer = await house.ask("POST", "/v1/endpoints", {"url": 1, "secret": ["hunter2"], "hunter3": "hunter4"})
    assert answer.status == 422
    assert b"hunter2" not in answer.body
    assert b"hunter4" not in answer.body


# ---- operation


async def test_health_and_metrics_need_no_credential(tmp_path: Path) -> None:
    stats = Stats(
        events=lambda: 42,
        streams=lambda: 7,
        in_flight=lambda: 3,
        prevented=lambda: 2,
        outcomes=lambda: {"accepted": 5, "refused": 1},
    )
    async with gateway_in(tmp_path, stats=stats) as house:
        assert (await house.ask("GET", "/healthz", key="")).json() == {"status": "ok"}
        assert (await house.ask("GET", "/readyz", key="")).status == 200
        metrics = await house.ask("GET", "/metrics", key="")
        assert metrics.headers["content-type"].startswith("text/plain")
        lines = metrics.body.decode().splitlines()
        for line in (
            "hookbrook_events_total 42.0",
            "hookbrook_streams_open 7.0",
            "hookbrook_attempts_in_flight 3.0",
            "hookbrook_attempts_prevented_total 2.0",
            'hookbrook_attempts_total{outcome="accepted"} 5.0',
            'hookbrook_attempts_total{outcome="refused"} 1.0',
            "hookbrook_store_writable 1.0",
            'hookbrook_deliveries{status="pending"} 0.0',
            'hookbrook_deliveries{status="held"} 0.0',
        ):
            assert line in lines
        assert any(line.startswith("process_resident_memory_bytes ") for line in lines)


async def test_a_closed_store_is_alive_but_not_ready(tmp_path: Path) -> None:
    async with gateway_in(tmp_path) as house:
        await house.gateway.store.close()
        assert (await house.ask("GET", "/healthz", key="")).status == 200
        answer = await house.ask("GET", "/readyz", key="")
        assert answer.status == 503
        assert answer.json()["reason"]
        assert (await house.ask("GET", "/v1/sources")).status == 503


async def test_the_document_shows_every_door(house: House) -> None:
    document = (await house.ask("GET", "/openapi.json", key="")).json()
    hot = {"/v1/channels/{channel}", "/v1/events", "/v1/events/{event_id}", "/v1/stream", "/in/{source}"}
    assert hot <= set(document["paths"])
    operations = [
        operation for path in document["paths"].values() for name, operation in path.items() if name != "parameters"
    ]
    names = [operation["operationId"] for operation in operations]
    assert len(names) == len(set(names))
    assert all(operation["summary"] for operation in operations)
    references = set(_references(document))
    assert references
    for reference in references:
        assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"]
    assert "422" in document["paths"]["/v1/endpoints"]["post"]["responses"]
    assert document["paths"]["/v1/endpoints"]["post"]["security"]
    assert "security" not in document["paths"]["/healthz"]["get"]
    assert "HTTPValidationError" not in json.dumps(document)


def _references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [each for value in node.values() for each in _references(value)]
    return [each for value in node for each in _references(value)] if isinstance(node, list) else []
