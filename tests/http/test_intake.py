"""What a source can be told about its webhooks: where from, known by what and for how long, under which address."""

import base64
import gzip
import hmac
import json
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.http.gateway_fixtures import Answer, House, call, gateway_in

from hookbrook.core.event import is_json
from hookbrook.inbound.providers import load
from hookbrook.inbound.request import MAX_INFLATED, Request

SECRET = "s3cret of the tests"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with gateway_in(tmp_path) as house:
        yield house


def github(body: bytes, delivery: str = "d1", secret: str = SECRET, **more: str) -> dict[str, str]:
    signature = hmac.digest(secret.encode(), body, "sha256").hex()
    return {
        "X-Hub-Signature-256": f"sha256={signature}",
        "X-GitHub-Delivery": delivery,
        "X-GitHub-Event": "push",
        "Content-Type": "application/json",
        **more,
    }


async def post(house: House, headers: Any, body: bytes, path: str = "/in/in", address: str = "127.0.0.1") -> Answer:
    return await call(house.app, "POST", path, body=body, headers=headers, client=(address, 50000))


async def received(house: House, name: str = "in") -> dict[str, int]:
    counts: dict[str, int] = (await house.ask("GET", f"/v1/sources/{name}")).json()["received"]
    return counts


# --- repeats


async def test_repeats_are_known_by_the_operator_s_template_and_for_as_long_as_it_says(house: House) -> None:
    await house.source(secrets=[SECRET], dedupe="{body.order.id}", dedupe_window_s=600)

    async def arrives(order: str, delivery: str) -> bool:
        body = json.dumps({"order": {"id": order}, "sent": delivery}).encode()
        duplicate: bool = (await post(house, github(body, delivery), body)).json()["duplicate"]
        return duplicate

    assert [await arrives("o 1", "d1"), await arrives("o 1", "d2"), await arrives("o-1", "d3")] == [False, True, False]
    house.clock.advance(601)
    assert [await arrives("o 1", "d4"), await arrives("o 1", "d5")] == [False, True]
    assert await received(house) == {"accepted": 3, "duplicate": 2, "unverified": 0, "refused": 0, "challenge": 0}


async def test_without_the_templates_value_the_provider_s_id_counts(house: House) -> None:
    await house.source(secrets=[SECRET], dedupe="{body.order.id}")
    answers = [await post(house, github(body, "d1"), body) for body in (b'{"a":1}', b'{"a":2}')]
    assert [answer.json()["duplicate"] for answer in answers] == [False, True]


async def test_a_window_of_zero_takes_every_webhook_for_a_new_one(house: House) -> None:
    await house.source(secrets=[SECRET], dedupe_window_s=0)
    answers = [await post(house, github(b"{}"), b"{}") for _ in range(3)]
    assert [answer.json()["duplicate"] for answer in answers] == [False] * 3


async def test_notifications_that_look_alike_are_not_repeats_where_the_provider_sends_no_id(house: House) -> None:
    await house.source(provider="dropbox", secrets=[SECRET])
    body = b'{"list_folder":{"accounts":["dbid:1"]}}'
    headers = {"X-Dropbox-Signature": hmac.digest(SECRET.encode(), body, "sha256").hex()}
    answers = [await post(house, headers, body) for _ in range(2)]
    assert [answer.json()["duplicate"] for answer in answers] == [False, False]


def test_a_provider_s_window_outlasts_what_the_default_does(house: House) -> None:
    rows = load()
    assert rows["adyen"].dedupe_window_s > 7 * 86_400
    assert all(row.dedupe_window_s >= 4 * 86_400 or row.dedupe_window_s == 0 for row in rows.values())


# --- addresses


async def test_a_signature_that_holds_is_not_enough_from_elsewhere(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    await house.source(secrets=[SECRET], networks=["192.30.252.0/22", "2001:db8::/32", "198.51.100.7"])
    for address in ("192.30.255.9", "::ffff:192.30.252.1", "2001:db8::1", "198.51.100.7"):
        assert (await post(house, github(b"{}"), b"{}", address=address)).status == 200
    bad = await post(house, github(b"{}", secret="wrong"), b"{}", address="192.30.255.9")
    for address in ("192.31.0.1", "2001:db9::1", "", "unix"):
        assert await post(house, github(b"{}"), b"{}", address=address) == bad
    assert bad.json()["reason"] == "mismatch"
    assert "reason=network" in caplog.text
    await house.ingest.failures.idle()
    found = (await house.ask("GET", "/v1/sources/in/failures")).json()["data"]
    assert "network" in {failure["cause"] for failure in found}


async def test_a_trusted_proxy_says_from_where_and_how_it_was_called_and_a_stranger_does_not(tmp_path: Path) -> None:
    async with gateway_in(tmp_path, trusted_proxies="10.0.0.0/8") as house:
        await house.source(provider="square", secrets=[SECRET], networks=["198.51.100.0/24"])
        url = b"https://hooks.example.com/in/in"
        signature = base64.b64encode(hmac.digest(SECRET.encode(), url + b"{}", "sha256")).decode()
        headers = {
            "x-square-hmacsha256-signature": signature,
            "X-Forwarded-For": "203.0.113.9, 198.51.100.7",
            "X-Forwarded-Proto": "https",
            "X-Forwarded-Host": "hooks.example.com",
        }
        assert (await post(house, headers, b"{}", address="198.51.100.7")).status == 401
        assert (await post(house, headers, b"{}", address="10.1.1.1")).status == 200
        [event] = await house.events()
        assert json.loads(event.request or b"")["address"] == "198.51.100.7"
        other = {**headers, "X-Forwarded-For": "198.51.100.7, 203.0.113.9"}
        assert (await post(house, other, b"{}", address="10.1.1.1")).status == 401


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("networks", ["10.0.0.1/8"], "without bits beyond"),
        ("networks", ["nowhere"], "must be a network"),
        ("networks", ["10.0.0.0/8"] * 501, "at most 500"),
        ("public_url", "ftp://x", "must be a URL"),
        ("public_url", "https://a/?q", "must be a URL"),
        ("dedupe_window_s", -1, "between 0"),
        ("dedupe_window_s", 1e9, "between 0"),
        ("dedupe", "{body.", "brace"),
    ],
)
async def test_what_a_source_cannot_be_told_is_refused_by_name(
    house: House, field: str, value: object, message: str
) -> None:
    answer = await house.ask("POST", "/v1/sources", {"name": "in", "provider": "github", field: value})
    assert answer.status == 422
    [(name, said)] = answer.fields.items()
    assert name.startswith(field)
    assert message in said


# --- changes, secrets


async def test_a_changed_secret_or_template_holds_from_the_next_request_on(house: House) -> None:
    await house.source(secrets=[SECRET])
    assert (await post(house, github(b"{}"), b"{}")).status == 200
    await house.ask("PATCH", "/v1/sources/in", {"secrets": ["a new one"], "channel": "new.{body.a}"})
    assert (await post(house, github(b"{}"), b"{}")).status == 401
    body = b'{"a":"x"}'
    assert (await post(house, github(body, "d2", "a new one"), body)).status == 200
    assert [event.channels for event in await house.events()] == [("in",), ("new.x",)]
    await house.ask("DELETE", "/v1/sources/in")
    assert (await post(house, github(body, "d3", "a new one"), body)).status == 401


async def test_an_endpoint_that_asks_for_what_is_unverified_gets_it_and_no_other_does(house: House) -> None:
    await house.source(secrets=[SECRET], enforce=False)
    await house.endpoint(channels=["*"])
    asked = await house.endpoint(channels=["hookbrook.unverified.in"])
    await post(house, github(b"{}", secret="wrong"), b"{}")
    owed = (await house.ask("GET", "/v1/deliveries")).json()["data"]
    assert [delivery["endpoint_id"] for delivery in owed] == [asked["id"]]
    assert (await received(house))["unverified"] == 1


async def test_what_became_of_webhooks_is_in_the_metrics_without_names(house: House) -> None:
    await house.source(name="very-secret-name", secrets=[SECRET])
    for delivery in ("d1", "d1", "d2"):
        await post(house, github(b"{}", delivery), b"{}", "/in/very-secret-name")
    await post(house, {}, b"{}", "/in/very-secret-name")
    metrics = (await house.ask("GET", "/metrics")).body.decode()
    for line in ('{outcome="accepted"} 2.0', '{outcome="duplicate"} 1.0', '{outcome="refused"} 1.0'):
        assert f"hookbrook_webhooks_total{line}" in metrics
    assert "very-secret-name" not in metrics


@pytest.mark.parametrize(
    "headers",
    [
        [(b"x-a", b"\xff"), (b"authorization", b"Bearer x"), (b"x-a", b"")],
        [(b"X-A", b"1"), (b"Authorization", b"Bearer x"), (b"COOKIE", b"c")],
        [(b"x-a", b"a\0b"), (b"cookie", b"c")],
        [(b"x-a", b"a\0b"), (b"x-b", b"c")],
        [],
    ],
)
async def test_headers_are_kept_as_they_came_but_for_credentials(house: House, headers: Any) -> None:
    await house.source(provider="none")
    assert (await post(house, headers, b"{}")).status == 200
    [event] = await house.events()
    kept = json.loads(event.request or b"")["headers"]
    names = (b"authorization", b"cookie")
    expected = [[name.decode(), "***" if name.lower() in names else value.decode("latin-1")] for name, value in headers]
    assert kept == [["host", "localhost:4665"], *expected, ["content-length", "2"]]


# --- compressed bodies


@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_a_compressed_body_is_signed_and_kept_as_sent_and_read_for_its_names(
    house: House, coding: str, pack: Any
) -> None:
    await house.source(secrets=[SECRET], channel="repo.{body.name}")
    body = pack(b'{"name":"hello","action":"opened"}')
    assert (await post(house, github(body, **{"Content-Encoding": coding}), body)).status == 200
    [event] = await house.events()
    assert (event.data, event.kind) == (body, "binary")
    assert (event.channels, event.type) == (("repo.hello",), "push.opened")


async def test_a_gzip_bomb_is_inflated_no_further_than_the_limit(house: House) -> None:
    await house.source(secrets=[SECRET], channel="repo.{body.name}")
    bomb = gzip.compress(b'{"name":"' + b"x" * 50_000_000 + b'"}')
    assert len(bomb) < 100_000
    assert Request(method="POST", headers=[(b"content-encoding", b"gzip")], body=bomb).inflated is bomb
    assert (await post(house, github(bomb, **{"Content-Encoding": "gzip"}), bomb)).status == 200
    [event] = await house.events()
    assert (event.data, event.channels) == (bomb, ("repo.unknown",))
    fits = gzip.compress(b" " * MAX_INFLATED)
    assert len(Request(method="POST", headers=[(b"content-encoding", b"gzip")], body=fits).inflated) == MAX_INFLATED


async def test_a_body_that_lies_about_its_coding_is_kept_as_it_is(house: House) -> None:
    await house.source(secrets=[SECRET])
    for number, body in enumerate((b'{"a":1}', b"\x1f\x8b", gzip.compress(b"{}")[:-4])):
        headers = github(body, f"d{number}", **{"Content-Encoding": "gzip"})
        assert (await post(house, headers, body)).status == 200


async def test_each_event_of_a_compressed_batch_is_one_of_its_own(house: House) -> None:
    await house.source(provider="gocardless", secrets=[SECRET])
    body = gzip.compress(b'{"events":[{"id":"EV1","resource_type":"payments","action":"paid"},{"id":"EV2"}]}')
    signature = hmac.digest(SECRET.encode(), body, "sha256").hex()
    headers = {"Webhook-Signature": signature, "Content-Encoding": "gzip", "Content-Type": "application/json"}
    assert len((await post(house, headers, body)).json()) == 2
    first, second = await house.events()
    assert (first.type, first.data) == ("payments.paid", b'{"id":"EV1","resource_type":"payments","action":"paid"}')
    assert second.data == b'{"id":"EV2"}'


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(
    value=st.dictionaries(st.sampled_from(["a", "b", "type"]), JSON), tail=st.binary(max_size=3), cut=st.integers(0, 9)
)
def test_a_body_that_was_walked_over_is_json_if_it_is_utf8(value: Any, tail: bytes, cut: int) -> None:
    body = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")[cut:] + tail
    request = Request(method="POST", body=body, members=frozenset(("type",)))
    request.json_with("type")
    if request.is_walked:
        assert is_json(body) or _is_no_utf8(body)


def _is_no_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return True
    return False
