"""The catalogue of events: who sees what, what is refused when it is published, and what other tools make of it."""

import json
import time
from collections.abc import AsyncIterator, MutableMapping
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from tests.http.gateway_fixtures import Answer, House, call, gateway_in

from hookbrook.config import load
from hookbrook.core.key import Scope
from hookbrook.errors import ConfigError, Invalid
from hookbrook.http.problems import Problems, Receive, Send
from hookbrook.http.publish import Publish
from hookbrook.http.registration import declare
from hookbrook.http.schemas import Schema
from hookbrook.store.catalog import Catalog

ASYNCAPI = Path(__file__).parents[1] / "node/node_modules/@asyncapi/specs/schemas/3.0.0.json"
PAID: dict[str, Any] = {
    "type": "object",
    "required": ["amount"],
    "properties": {"amount": {"$ref": "#/$defs/money"}, "note": {"type": "string", "pattern": "^[a-z ]*$"}},
    "$defs": {"money": {"type": "integer", "minimum": 0}},
}


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with gateway_in(tmp_path) as house:
        yield house


async def add(house: House, **fields: Any) -> Any:
    answer = await house.ask("POST", "/v1/types", {"name": "invoice.paid", "schema": PAID, **fields})
    assert answer.status == 201, answer.body
    return answer.json()


async def publish(house: House, body: Any, *, path: str = "/v1/events", tenant: str = "default") -> Answer:
    doors = Publish(house.gateway)

    async def door(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["path"] == "/v1/events":
            await doors.events(scope, receive, send)
        else:
            await doors.channel(scope, receive, send, scope["path"].removeprefix("/v1/channels/"))

    key = await house.key(Scope.PUBLISH, tenant=tenant)
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await call(Problems(door), "POST", path, body=raw, headers={"Authorization": f"Bearer {key}"})


def event(data: Any, type: str = "invoice.paid") -> dict[str, Any]:
    return {"channel": "a", "type": type, "data": data}


async def test_a_type_that_is_made_anew_has_the_new_schema(house: House) -> None:
    made = await add(house, validate=True)
    assert (await publish(house, event({"amount": 5}))).status == 201
    assert (await house.ask("DELETE", f"/v1/types/{made['id']}")).status == 204
    await add(house, schema={"type": "array"}, validate=True)
    assert (await publish(house, event({"amount": 5}))).status == 422
    assert (await publish(house, event([]))).status == 201


async def test_a_type_is_added_shown_changed_and_removed(house: House) -> None:
    made = await add(house, description="Money came", example={"amount": 5}, validate=True)
    assert made["validate"] is True
    assert made["schema"] == PAID
    assert (await house.ask("GET", f"/v1/types/{made['id']}")).json() == made
    assert (await house.ask("POST", "/v1/types", {"name": "invoice.paid"})).status == 409
    changed = await house.ask("PATCH", f"/v1/types/{made['id']}", {"schema": {"type": "object"}, "deprecated": True})
    assert (changed.json()["schema"], changed.json()["deprecated"]) == ({"type": "object"}, True)
    assert (await house.ask("PATCH", f"/v1/types/{made['id']}", {"name": "other"})).status == 422
    assert (await house.ask("DELETE", f"/v1/types/{made['id']}")).status == 204
    assert (await house.ask("GET", "/v1/types")).json()["data"] == []


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"schema": {"type": "nothing"}}, "schema"),
        ({"schema": {"pattern": "(?=x)"}}, "schema"),
        ({"schema": {"pattern": "((a{100}){100}){100}"}}, "schema"),
        ({"schema": {"$ref": "http://127.0.0.1:1/x"}}, "schema"),
        ({"schema": 5}, "schema"),
        ({"schema": PAID, "example": {"amount": -1}}, "example/amount"),
        ({"validate": True}, "validate"),
        ({"name": "hookbrook.mine"}, "name"),
    ],
)
async def test_what_is_no_type_is_refused_by_name(house: House, fields: dict[str, Any], wrong: str) -> None:
    answer = await house.ask("POST", "/v1/types", {"name": "invoice.paid", **fields})
    assert (answer.status, list(answer.fields)) == (422, [wrong])


async def test_what_does_not_fit_is_refused_with_the_pointer_of_each_fault(house: House) -> None:
    await add(house, validate=True)
    assert (await publish(house, event({"amount": 5}))).status == 201
    refused = await publish(house, event({"amount": -1, "note": "NO"}))
    assert (refused.status, set(refused.fields)) == (422, {"data/amount", "data/note"})
    listed = await publish(house, [event({"amount": 1}), event({"amount": "x/y"})])
    assert set(listed.fields) == {"[1].data/amount"}
    assert (await publish(house, b'{"amount": -1}', path="/v1/channels/a?type=invoice.paid")).status == 422
    assert set((await publish(house, b"text", path="/v1/channels/a?type=invoice.paid")).fields) == {"data"}
    assert (await publish(house, event("anything", "other"))).status == 201
    assert [each.data for each in await house.events()] == [b'{"amount": 5}', b'"anything"']


async def test_only_types_that_ask_for_it_are_validated_and_the_tenants_own_comes_first(house: House) -> None:
    common = await add(house, tenant="*", validate=True)
    wrong = event({"amount": -1})
    assert (await publish(house, wrong)).status == 422
    assert (await publish(house, wrong, tenant="acme")).status == 422
    own = await add(house, tenant="acme")
    assert (await publish(house, wrong, tenant="acme")).status == 201
    assert (await publish(house, wrong)).status == 422
    await house.ask("PATCH", f"/v1/types/{own['id']}", {"validate": True, "schema": {"required": ["amount"]}})
    assert (await publish(house, event({}), tenant="acme")).status == 422
    await house.ask("PATCH", f"/v1/types/{common['id']}", {"archived": True})
    assert (await publish(house, wrong)).status == 201
    # Everybody with a key of the tenant sees its types, and those of all; nobody else's.
    key = await house.key(Scope.SUBSCRIBE, tenant="acme")
    seen = (await house.ask("GET", "/v1/types", key=key)).json()["data"]
    assert {each["tenant"] for each in seen} == {"acme", "*"}
    assert (await house.ask("POST", "/v1/types", {"name": "x"}, key=key)).status == 403
    stranger = await house.key(Scope.SUBSCRIBE, tenant="other")
    assert (await house.ask("GET", f"/v1/types/{own['id']}", key=stranger)).status == 404


async def test_types_are_known_after_a_restart(house: House) -> None:
    await add(house, validate=True)
    again = Catalog(house.gateway.store)
    await again.load()
    assert again.validated_type("default", "invoice.paid") is not None
    assert again.validated_type("acme", "invoice.paid") is None


async def test_other_tools_read_the_exports(house: House) -> None:
    await add(house, example={"amount": 5}, description="Money came", deprecated=True)
    await add(house, name="a:b/c@d", schema=None, example=[1])
    await add(house, name="gone", archived=True)
    openapi = (await house.ask("GET", "/v1/catalog/openapi.json")).json()
    assert set(openapi["webhooks"]) == {"invoice.paid", "a:b/c@d"}
    OpenAPIV31SpecValidator(openapi).validate()
    asyncapi = (await house.ask("GET", "/v1/catalog/asyncapi.json")).json()
    judge = jsonschema_rs.validator_for(json.loads(ASYNCAPI.read_text("utf-8")), offline=True)
    assert [error.message for error in judge.iter_errors(asyncapi)] == []
    # The judge can say no.
    assert not judge.is_valid({**asyncapi, "asyncapi": "1.0"})


HOSTILE = [
    ({"items": {"enum": [f"v{number}" for number in range(4000)]}}, ["z"] * 499),
    ({"items": {"allOf": [{"minimum": number} for number in range(400)]}}, [0] * 1600),
    ({"uniqueItems": True, "items": {"pattern": "^(a+)+$"}}, ["a" * 90 + str(number) for number in range(5000)]),
    ({"pattern": "^(a?){60}a{60}$"}, "a" * 1_000_000),
]


@pytest.mark.parametrize(("schema", "data"), HOSTILE, ids=["enum", "wide", "backtracking", "long"])
def test_no_event_keeps_the_loop_for_long_whatever_the_schema(schema: Any, data: Any) -> None:
    began = time.process_time()
    with pytest.raises(Invalid):
        Schema(schema).check("data", json.dumps(data).encode())
    assert time.process_time() - began < 1.5


@pytest.mark.parametrize("data", [b"[" * 5000 + b"]" * 5000, b"1E400", b"1" * 100_000, b"[" + b"1," * 500_000 + b"1]"])
def test_what_cannot_be_checked_is_refused_and_breaks_nothing(data: bytes) -> None:
    with pytest.raises(Invalid, match="checked"):
        Schema({"items": {"maximum": 5, "minimum": 0, "multipleOf": 1}}).check("data", data)


async def test_types_are_declared_in_the_file_and_read_only_then(tmp_path: Path) -> None:
    (tmp_path / "hookbrook.toml").write_text(
        """
        [[types]]
        name = "invoice.paid"
        tenant = "*"
        validate = true
        schema = { type = "object", required = ["amount"], properties.amount = { type = "integer" } }
        example = { amount = 5 }
        """,
        encoding="utf-8",
    )
    settings = load({}, {}, tmp_path)
    async with gateway_in(tmp_path) as house:
        for _ in range(2):
            await declare(
                house.gateway.catalog, sources=(), endpoints=(), types=settings.types, providers={}, now=1, random=bytes
            )
        [made] = (await house.ask("GET", "/v1/types")).json()["data"]
        assert (made["declared"], made["example"]) == (True, {"amount": 5})
        assert (await house.ask("PATCH", f"/v1/types/{made['id']}", {"validate": False})).status == 409
        assert (await publish(house, event({}))).status == 422
    (tmp_path / "hookbrook.toml").write_text('[[types]]\nname = "x"\nschema = { "$ref" = "#" }\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"types\[0\].schema"):
        load({}, {}, tmp_path)
