"""Providers' webhooks through the door, signed by third-party code where it exists."""

import asyncio
import base64
import gzip
import hashlib
import hmac
import json
import logging
import random
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import stripe
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from slack_sdk.signature import SignatureVerifier
from standardwebhooks import Webhook
from tests.http.gateway_fixtures import NOW, SECOND, Answer, House, call, gateway_in
from tests.inbound import documented
from tests.inbound.test_certificate import Shelf

from hookbrook.core.fetch import Response, Timing
from hookbrook.core.source import Source
from hookbrook.http.ingest import Ingest
from hookbrook.http.problems import Problems

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"id":"evt_1","type":"invoice.paid","event":"meeting.started","n":1E400,"n":2}'
#: Ours is a clock of the tests; the judges are told its time.
NOW_S = NOW // SECOND


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with gateway_in(tmp_path) as house:
        yield house


def github(body: bytes, secret: str = SECRET, delivery: str = "72d3162e") -> dict[str, str]:
    # GitHub's scheme in one line; that it is GitHub's is judged in tests/inbound.
    signature = hmac.digest(secret.encode(), body, "sha256").hex()
    return {
        "X-Hub-Signature-256": f"sha256={signature}",
        "X-GitHub-Delivery": delivery,
        "X-GitHub-Event": "push",
        "Content-Type": "application/json",
    }


def stripe_headers(body: bytes, secret: str = SECRET) -> dict[str, str]:
    signature = stripe.WebhookSignature.generate_signature_header(body.decode(), secret, NOW_S)
    return {"Stripe-Signature": signature, "Content-Type": "application/json; charset=utf-8"}


def slack(body: bytes, secret: str = SECRET) -> dict[str, str]:
    signature = SignatureVerifier(secret).generate_signature(timestamp=str(NOW_S), body=body.decode())
    assert signature is not None
    return {"X-Slack-Signature": signature, "X-Slack-Request-Timestamp": str(NOW_S)}


def zoom(body: bytes, secret: str = SECRET) -> dict[str, str]:
    signature = hmac.digest(secret.encode(), b"v0:%d:%b" % (NOW_S, body), "sha256").hex()
    return {"x-zm-signature": f"v0={signature}", "x-zm-request-timestamp": str(NOW_S)}


def standard(body: bytes, secret: str = SECRET, message: str = "msg_1") -> dict[str, str]:
    signature = Webhook(secret).sign(message, datetime.fromtimestamp(NOW_S, UTC), body.decode())
    return {"webhook-id": message, "webhook-timestamp": str(NOW_S), "webhook-signature": signature}


SIGNERS = {"github": github, "stripe": stripe_headers, "slack": slack, "zoom": zoom, "standard-webhooks": standard}
TYPES = {
    "github": "push",
    "stripe": "invoice.paid",
    "slack": "invoice.paid",
    "zoom": "meeting.started",
    "standard-webhooks": "invoice.paid",
}


async def post(house: House, headers: Any, body: bytes | list[bytes] = BODY, path: str = "/in/in") -> Answer:
    return await call(house.app, "POST", path, body=body, headers=headers)


@pytest.mark.parametrize("provider", SIGNERS)
async def test_a_signed_webhook_is_kept_byte_for_byte_and_its_repeat_is_a_duplicate(
    house: House, provider: str
) -> None:
    source = await house.source(provider=provider, secrets=[SECRET])
    first = await post(house, SIGNERS[provider](BODY))
    again = await post(house, SIGNERS[provider](BODY))
    assert (first.status, again.status) == (200, 200)
    assert first.json()["duplicate"] is False
    assert again.json() == {**first.json(), "duplicate": True}
    [event] = await house.events()
    assert event.data == BODY
    assert (event.id, event.cursor) == (first.json()["id"], first.json()["cursor"])
    assert event.id.startswith("evt_")
    assert (event.source, event.channels, event.type) == (source["name"], ("in",), TYPES[provider])


@pytest.mark.parametrize("provider", SIGNERS)
async def test_what_is_not_signed_right_is_refused_and_not_kept(house: House, provider: str) -> None:
    await house.source(provider=provider, secrets=[SECRET])
    good = SIGNERS[provider](BODY)
    other = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
    answers = [
        await post(house, good, BODY.replace(b"paid", b"void")),
        await post(house, SIGNERS[provider](BODY, other)),
        await post(house, {}),
    ]
    assert [answer.status for answer in answers] == [401, 401, 401]
    assert all(answer.headers["content-type"] == "application/problem+json" for answer in answers)
    assert all(answer.headers["www-authenticate"] for answer in answers)
    assert await house.events() == []


async def test_a_webhook_that_is_too_old_on_arrival_is_refused(house: House) -> None:
    await house.source(provider="stripe", secrets=[SECRET])
    house.clock.advance(301)
    answer = await post(house, stripe_headers(BODY))
    assert answer.status == 401
    assert "older" in answer.json()["detail"]


async def test_either_of_two_secrets_will_do(house: House) -> None:
    await house.source(secrets=["old secret of ours", SECRET])
    assert (await post(house, github(BODY))).status == 200


async def test_the_refusal_is_logged_for_the_operator_and_holds_no_secret(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    await house.source(secrets=[SECRET])
    with caplog.at_level(logging.WARNING, "hookbrook.ingest"):
        await post(house, github(BODY, "another secret"))
    [record] = caplog.records
    assert "source=in reason=mismatch" in record.getMessage()
    assert "secret the one" in record.__dict__["hint"]
    assert SECRET not in caplog.text
    assert "another secret" not in caplog.text


async def test_an_unknown_and_a_disabled_source_answer_like_a_wrong_signature(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    await house.source(secrets=[SECRET])
    await house.source(name="off", secrets=[SECRET], enabled=False)
    headers = github(BODY, "another secret")
    answers = [await post(house, headers, path=f"/in/{name}") for name in ("in", "off", "nowhere", "a/b", "", "%00")]
    assert {answer.status for answer in answers} == {401}
    assert len({answer.body for answer in answers}) == 1
    assert len({tuple(sorted(answer.headers.items())) for answer in answers}) == 1
    assert "unknown_source" in caplog.text
    assert "disabled_source" in caplog.text


@pytest.mark.parametrize(
    ("provider", "headers"),
    [("gitlab", {"X-Gitlab-Token": "another"}), ("discord", {"X-Signature-Ed25519": "ab" * 64})],
)
async def test_an_unknown_source_answers_like_a_wrong_proof_of_any_recipe(
    house: House, provider: str, headers: dict[str, str]
) -> None:
    await house.source(provider=provider, secrets=["58" + "66" * 31])
    headers = {**headers, "X-Signature-Timestamp": str(house.clock() // 1_000_000)}
    known, unknown = [await post(house, headers, path=path) for path in ("/in/in", "/in/nowhere")]
    assert (known.status, known.body) == (401, unknown.body)


async def test_a_body_over_the_limit_is_refused_whether_it_says_so_or_not(tmp_path: Path) -> None:
    async with gateway_in(tmp_path, max_webhook_bytes="2KiB") as house:
        await house.source(secrets=[SECRET])
        big = b"x" * 2049
        announced = await post(house, github(big), big)
        streamed = await post(house, github(big), [b"x" * 1000, b"x" * 1000, b"x" * 49, b"more that is never read"])
        lying = await post(house, {**github(big), "Content-Length": "10"}, [big])
        huge = await post(house, {**github(big), "Content-Length": "9" * 30}, [big])
        for answer in (announced, streamed, lying, huge):
            assert answer.status == 413
            assert answer.json()["limit"] == 2048
            assert "max_webhook_bytes" in answer.json()["detail"]
        fits = b"x" * 2048
        assert (await post(house, github(fits), [fits[:2000], fits[2000:]])).status == 200


async def test_garbage_in_headers_is_kept_and_does_no_harm(house: House) -> None:
    await house.source(secrets=[SECRET])
    signed = [(name.lower().encode(), value.encode()) for name, value in github(BODY).items()]
    garbage = [(b"x-noise", bytes(range(128, 256))), (b"x-noise", b""), (b"X-Caps", b" spaces "), (b"cookie", b"c=1")]
    assert (await post(house, [*signed, *garbage])).status == 200
    [event] = await house.events()
    assert event.request is not None
    request = json.loads(event.request)
    assert ["x-noise", bytes(range(128, 256)).decode("latin-1")] in request["headers"]
    assert ["x-noise", ""] in request["headers"]
    assert ["X-Caps", " spaces "] in request["headers"]
    assert ["cookie", "***"] in request["headers"]
    assert request["verified"] is True
    assert request["covers"] == ["body"]
    assert (request["method"], request["path"], request["query"]) == ("POST", "/in/in", "")
    assert request["address"] == "127.0.0.1"
    assert request["received_at"] == "2026-11-23T16:20:00Z"


async def test_random_requests_are_refused_and_never_an_error(house: House) -> None:
    for provider in SIGNERS:
        await house.source(name=provider, provider=provider, secrets=[SECRET])
    rng = random.Random(4665)
    for _ in range(300):
        provider = rng.choice(list(SIGNERS))
        headers = [(name.lower().encode(), value.encode()) for name, value in SIGNERS[provider](BODY).items()]
        index = rng.randrange(len(headers))
        headers[index] = (headers[index][0], rng.randbytes(rng.randrange(60)))
        body = rng.randbytes(rng.randrange(200))
        answer = await post(house, headers, body, path=f"/in/{provider}")
        assert answer.status == 401


async def test_many_repeats_at_once_make_one_event_and_all_hear_of_the_same(house: House) -> None:
    await house.source(secrets=[SECRET])
    answers = await asyncio.gather(*(post(house, github(BODY)) for _ in range(50)))
    assert {answer.status for answer in answers} == {200}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum(not answer.json()["duplicate"] for answer in answers) == 1
    assert len(await house.events()) == 1


async def test_a_repeat_with_other_content_is_a_duplicate_not_a_conflict(house: House) -> None:
    await house.source(secrets=[SECRET])
    first = await post(house, github(BODY))
    other = b'{"sent":"again"}'
    again = await post(house, github(other), other)
    assert (again.status, again.json()) == (200, {**first.json(), "duplicate": True})


async def test_two_sources_may_use_the_same_ids(house: House) -> None:
    await house.source(name="one", secrets=[SECRET])
    await house.source(name="two", secrets=[SECRET])
    answers = [await post(house, github(BODY), path=f"/in/{name}") for name in ("one", "two")]
    assert [answer.json()["duplicate"] for answer in answers] == [False, False]


async def test_zoom_s_challenge_is_answered_and_not_kept(house: House) -> None:
    await house.source(provider="zoom", secrets=[SECRET])
    body = b'{"event":"endpoint.url_validation","payload":{"plainToken":"abc"}}'
    answer = await post(house, zoom(body), body)
    encrypted = hmac.digest(SECRET.encode(), b"abc", "sha256").hex()
    assert (answer.status, answer.json()) == (200, {"plainToken": "abc", "encryptedToken": encrypted})
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert (await post(house, zoom(body, "another secret"), body)).status == 401
    assert await house.events() == []


async def test_zoom_s_challenge_is_answered_again_every_72_hours(house: House) -> None:
    await house.source(provider="zoom", secrets=["an old one", SECRET])
    for round_ in range(3):
        body = b'{"event":"endpoint.url_validation","payload":{"plainToken":"t%d"},"event_ts":%d}' % (round_, round_)
        moment = house.clock() // SECOND
        signature = hmac.digest(SECRET.encode(), b"v0:%d:%b" % (moment, body), "sha256").hex()
        headers = {"x-zm-signature": f"v0={signature}", "x-zm-request-timestamp": str(moment)}
        encrypted = hmac.digest(SECRET.encode(), b"t%d" % round_, "sha256").hex()
        answer = await post(house, headers, body)
        assert answer.json() == {"plainToken": f"t{round_}", "encryptedToken": encrypted}
        house.clock.advance(72 * 3600)
    assert (await house.ask("GET", "/v1/sources/in")).json()["received"]["challenge"] == 3


async def test_questions_that_come_before_a_secret_exists_are_answered(house: House) -> None:
    for provider in ("trello", "mandrill", "dropbox", "microsoft-graph", "okta", "cloudevents", "meta", "discord"):
        await house.source(name=provider, provider=provider, secrets=["verify_token:v"] if provider == "meta" else [])

    async def ask(method: str, path: str, **headers: str) -> tuple[int, bytes]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await call(house.app, method, path, headers=named)
        return answer.status, answer.body

    assert await ask("HEAD", "/in/trello") == (200, b"")
    assert await ask("HEAD", "/in/mandrill") == (200, b"")
    assert await ask("GET", "/in/dropbox?challenge=abc") == (200, b"abc")
    assert await ask("POST", "/in/microsoft-graph?validationToken=a%20b") == (200, b"a b")
    assert await ask("GET", "/in/okta", X_Okta_Verification_Challenge="q") == (200, b'{"verification":"q"}')
    assert (await ask("OPTIONS", "/in/cloudevents", WebHook_Request_Origin="a.example"))[0] == 200
    meta = "/in/meta?hub.mode=subscribe&hub.challenge=7&hub.verify_token="
    assert await ask("GET", meta + "v") == (200, b"7")
    assert b"7" not in (await ask("GET", meta + "w"))[1]
    assert await ask("GET", "/in/mandrill") == (200, b"Webhooks are sent here by POST.\n")
    assert (await ask("POST", "/in/discord"))[0] == 401
    assert await house.events() == []


async def test_slack_s_challenge_is_echoed_as_plain_text(house: House) -> None:
    await house.source(provider="slack", secrets=[SECRET])
    body = b'{"type":"url_verification","challenge":"<script>"}'
    answer = await post(house, slack(body), body)
    assert (answer.status, answer.body) == (200, b"<script>")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert "sandbox" in answer.headers["content-security-policy"]


async def test_probes_are_answered_alike_whether_the_source_exists_or_not(house: House) -> None:
    await house.source(secrets=[SECRET])
    for method, status in (("HEAD", 200), ("OPTIONS", 204), ("GET", 200), ("PUT", 405), ("DELETE", 405)):
        here = await call(house.app, method, "/in/in")
        nowhere = await call(house.app, method, "/in/nowhere")
        assert here == nowhere
        assert here.status == status
        assert "POST" in here.headers["allow"]


async def test_channel_and_type_come_from_templates_and_can_never_be_our_own(house: House) -> None:
    await house.source(secrets=[SECRET], channel="github.{body.repository.full_name}", type="{headers.x-github-event}")
    body = b'{"repository":{"full_name":"octo cat/hello"}}'
    await post(house, github(body), body)
    await house.source(name="evil", secrets=[SECRET], channel="{body.channel}", type="{body.type}")
    body = b'{"channel":"hookbrook.reset","type":"HOOKBROOK.drain"}'
    await post(house, github(body), body, path="/in/evil")
    first, second = await house.events()
    assert (first.channels, first.type) == (("github.octo-cat/hello",), "push")
    assert (second.channels, second.type) == (("_hookbrook.reset",), "_HOOKBROOK.drain")


@pytest.mark.parametrize(
    ("label", "body", "kind", "kept"),
    [
        ("application/json", b"[1]", "json", "application/json"),
        ("application/json", b"not json", "text", "application/json"),
        ("application/x-www-form-urlencoded", b"a=1", "text", "application/x-www-form-urlencoded"),
        ("application/json", gzip.compress(b"{}", mtime=0), "binary", "application/json"),
        (None, b'{"a":1}', "json", "application/json"),
        (None, b"\xff", "binary", "application/octet-stream"),
        ("x" * 300, b"{}", "json", "application/json"),
    ],
)
async def test_the_label_says_what_it_may_be_and_the_bytes_what_it_is(
    house: House, label: str | None, body: bytes, kind: str, kept: str
) -> None:
    await house.source(secrets=[SECRET])
    headers = github(body)
    del headers["Content-Type"]
    await post(house, {**headers, **({"Content-Type": label} if label else {})}, body)
    [event] = await house.events()
    assert (event.kind, event.content_type, event.data) == (kind, kept, body)


async def test_a_source_that_does_not_enforce_keeps_what_fails_apart(house: House) -> None:
    source = await house.source(secrets=[SECRET], enforce=False)
    await house.endpoint()
    forged = await post(house, github(BODY, "another secret"))
    real = await post(house, github(BODY))
    assert (forged.status, real.status) == (200, 200)
    assert real.json()["duplicate"] is False, "a forger must not make the real webhook look like a repeat"
    unverified, verified = await house.events()
    assert unverified.channels == (f"hookbrook.unverified.{source['name']}",)
    assert unverified.type == "push"
    assert unverified.request is not None
    assert json.loads(unverified.request)["verified"] is False
    assert verified.channels == ("in",)
    owed = (await house.ask("GET", "/v1/deliveries")).json()["data"]
    assert [delivery["event_id"] for delivery in owed] == [verified.id]


async def test_a_source_without_a_secret_refuses_everything(house: House) -> None:
    await house.source(provider="stripe")
    answer = await post(house, stripe_headers(BODY))
    assert answer.status == 401
    assert answer.json()["reason"] == "no_secret"


async def test_a_shown_secret_is_checked_and_not_kept_in_the_log(house: House) -> None:
    made = await house.source(provider="bearer")
    assert made["secret"]
    body = b'{"type":"build.done"}'
    assert (await post(house, {"Authorization": "Bearer wrong"}, body)).status == 401
    assert (await post(house, {"Authorization": f"Bearer {made['secret']}"}, body)).status == 200
    [event] = await house.events()
    assert event.type == "build.done"
    assert event.request is not None
    assert made["secret"].encode() not in event.request
    assert ["authorization", "***"] in json.loads(event.request)["headers"]


async def test_a_body_large_enough_for_a_thread_is_verified_all_the_same(house: House) -> None:
    await house.source(secrets=[SECRET])
    body = b'{"blob":"' + b"x" * 1_000_000 + b'"}'
    answer = await post(house, github(body), [body[:500_000], body[500_000:]])
    assert answer.status == 200
    [event] = await house.events()
    assert (hashlib.sha256(event.data).digest(), event.kind) == (hashlib.sha256(body).digest(), "json")
    assert (await post(house, github(body), [body[:-2], b'y"', b"}"])).status == 401


async def test_the_tenant_of_the_source_is_the_tenant_of_its_events(house: House) -> None:
    await house.source(secrets=[SECRET], tenant="acme")
    await post(house, github(BODY))
    [event] = await house.events()
    assert event.tenant == "acme"


async def test_the_provider_of_a_source_may_be_declared_no_longer(house: House) -> None:
    await house.source(secrets=[SECRET])
    [source] = house.gateway.catalog.sources.values()
    orphan = {name: getattr(source, name) for name in source.__struct_fields__} | {"provider": "gone", "revision": 2}
    await house.gateway.catalog.save(Source(**orphan))
    answer = await post(house, github(BODY))
    assert answer.status == 500
    assert await house.events() == []


# Batches, and what single providers want to read


def sendgrid_key() -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(12345, ec.SECP256R1())


def sendgrid(body: bytes) -> dict[str, str]:
    signature = sendgrid_key().sign(b"%d%b" % (NOW_S, body), ec.ECDSA(SHA256()))
    return {
        "X-Twilio-Email-Event-Webhook-Signature": base64.b64encode(signature).decode(),
        "X-Twilio-Email-Event-Webhook-Timestamp": str(NOW_S),
        "Content-Type": "application/json",
    }


async def sendgrid_source(house: House) -> Any:
    public = sendgrid_key().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return await house.source(provider="sendgrid", secrets=[base64.b64encode(public).decode()])


async def test_each_event_of_a_batch_becomes_one_of_its_own_and_is_known_again(house: House) -> None:
    source = await sendgrid_source(house)
    first = b'[{"sg_event_id":"a","event":"open","n":1E400}, {"sg_event_id":"b","event":"click"}]'
    second = b'[{"sg_event_id":"b","event":"click"},{"sg_event_id":"c","event":"drop"},{"sg_event_id":"c"}]'
    assert [each["duplicate"] for each in (await post(house, sendgrid(first), first)).json()] == [False, False]
    assert [each["duplicate"] for each in (await post(house, sendgrid(second), second)).json()] == [True, False, True]
    events = await house.events()
    assert [event.type for event in events] == ["open", "click", "drop"]
    assert events[0].data == b'{"sg_event_id":"a","event":"open","n":1E400}'
    assert {event.source for event in events} == {source["name"]}
    assert all(json.loads(event.request or b"")["verified"] for event in events)


async def test_a_batch_of_none_is_fine_and_a_forged_one_is_not_kept(house: House) -> None:
    await sendgrid_source(house)
    assert (await post(house, sendgrid(b"[]"), b"[]")).json() == []
    assert (await post(house, sendgrid(b"[]"), b'[{"event":"open"}]')).status == 401
    assert await house.events() == []


async def test_what_a_provider_wants_to_read_is_what_it_gets(house: House) -> None:
    await house.source(name="graph", provider="microsoft-graph", secrets=["a state"])
    await house.source(name="chat", provider="twilio", secrets=[SECRET])
    graph = await post(house, {}, b'{"value":[{"id":"1","clientState":"a state"}]}', "/in/graph")
    assert (graph.status, graph.body) == (202, b"")
    url = f"{house.gateway.settings.base_url}/in/chat"
    signature = base64.b64encode(hmac.digest(SECRET.encode(), f"{url}Bodyhi".encode(), "sha1")).decode()
    headers = {"X-Twilio-Signature": signature, "Content-Type": "application/x-www-form-urlencoded"}
    chat = await post(house, headers, b"Body=hi", "/in/chat")
    assert (chat.status, chat.headers["content-type"], chat.body) == (200, "text/xml", b"<Response/>")


async def test_questions_are_answered_before_a_secret_exists(house: House) -> None:
    await house.source(name="box", provider="dropbox")
    await house.source(name="okta", provider="okta")
    await house.source(name="ce", provider="cloudevents")
    await house.source(name="graph", provider="microsoft-graph")
    dropbox = await call(house.app, "GET", "/in/box?challenge=abc")
    assert (dropbox.status, dropbox.body, dropbox.headers["x-content-type-options"]) == (200, b"abc", "nosniff")
    okta = await call(house.app, "GET", "/in/okta", headers={"X-Okta-Verification-Challenge": "q"})
    assert okta.json() == {"verification": "q"}
    events = await call(house.app, "OPTIONS", "/in/ce", headers={"WebHook-Request-Origin": "sender.example"})
    assert events.headers["webhook-allowed-origin"] == "sender.example"
    graph = await post(house, {}, b"", "/in/graph?validationToken=a%20b")
    assert (graph.status, graph.body) == (200, b"a b")
    assert await house.events() == []


async def test_a_certificate_is_fetched_and_a_subscription_confirmed(house: House) -> None:
    page = Response(
        status=200, headers=(), body=documented.certificate(SECRET), address="127.0.0.1:443", timing=Timing(total=1)
    )
    confirmation = "https://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription&Token=t"
    shelf = Shelf({documented.SNS_CERTIFICATE_URL: page, confirmation: page})
    house.clock.now = int(time.time()) * SECOND  # the certificate is of today
    door = Problems(Ingest(house.gateway, shelf))
    await house.source(provider="amazon-sns", secrets=[documented.TOPIC])

    async def sent(**more: str) -> Answer:
        message = documented.sns(SECRET, "hello", house.clock.now // SECOND, **more)
        return await call(door, "POST", "/in/in", body=message.body.encode(), headers=message.headers)

    confirmed = await sent(Type="SubscriptionConfirmation", Token="t", SubscribeURL=confirmation)
    assert (confirmed.status, shelf.asked) == (200, [documented.SNS_CERTIFICATE_URL, confirmation])
    assert await house.events() == []
    assert (await sent()).json()["duplicate"] is False
    assert (await sent()).json()["duplicate"] is True
    assert len(shelf.asked) == 2
    [event] = await house.events()
    assert (event.type, json.loads(event.data)["Message"]) == ("Notification", "hello")
    assert (await sent(SigningCertURL="https://evil.example/x.pem")).status == 401
    assert len(shelf.asked) == 2
    gone = await sent(Type="SubscriptionConfirmation", Token="t", SubscribeURL=confirmation + "2")
    assert gone.status == 500, "a failure that Amazon tries again"


async def test_paypals_certificate_is_fetched_from_paypal_alone(house: House) -> None:
    pem = documented.certificate(documented.PAYPAL_KEY)
    page = Response(status=200, headers=(), body=pem, address="127.0.0.1:443", timing=Timing(total=1))
    shelf = Shelf({documented.PAYPAL_CERTIFICATE_URL: page})
    house.clock.now = int(time.time()) * SECOND  # the certificate is of today
    door = Problems(Ingest(house.gateway, shelf))
    await house.source(provider="paypal", secrets=["9XL90610J3647323C"])
    message = documented.paypal("9XL90610J3647323C", '{"id":"WH-1","event_type":"A.B"}', house.clock.now // SECOND)

    async def sent(path: str = "/in/in", **headers: str) -> Answer:
        return await call(door, "POST", path, body=message.body.encode(), headers={**message.headers, **headers})

    assert (await sent()).json()["duplicate"] is False
    assert (await sent()).json()["duplicate"] is True
    elsewhere = await sent(**{"PAYPAL-CERT-URL": "https://evil.example/v1/notifications/certs/CERT-1"})
    assert elsewhere.status == 401
    assert shelf.asked == [documented.PAYPAL_CERTIFICATE_URL]
    wrong = await sent(**{"PAYPAL-TRANSMISSION-ID": "another"})
    unknown = await sent("/in/nobody")
    assert (wrong.status, wrong.body) == (unknown.status, unknown.body)
    [event] = await house.events()
    assert event.type == "A.B"


async def test_a_batch_that_is_kept_unverified_stays_the_one_body_that_it_was(house: House) -> None:
    await house.source(provider="gocardless", secrets=[SECRET], enforce=False)
    body = b'{"events":[{"id":"EV1"},{"id":"EV2"}]}'
    assert (await post(house, {"Webhook-Signature": "00" * 32}, body)).status == 200
    [event] = await house.events()
    assert (event.data, event.channels) == (body, ("hookbrook.unverified.in",))


async def test_an_unknown_source_is_refused_after_as_much_work_as_a_wrong_signature(house: House) -> None:
    await house.source(secrets=[SECRET])
    # So large that hashing it outweighs all else; still small enough for this thread.
    body = b"x" * 250_000
    headers = github(body, "another secret")

    async def cost(path: str) -> float:
        begin = time.thread_time()
        assert (await post(house, headers, body, path)).status == 401
        return time.thread_time() - begin

    await cost("/in/in")
    costs = [(await cost("/in/in"), await cost("/in/nowhere")) for _ in range(40)]
    known, unknown = min(pair[0] for pair in costs), min(pair[1] for pair in costs)
    assert 0.5 < unknown / known < 2
