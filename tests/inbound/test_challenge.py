"""Handshakes: answered as the provider wants it, only when it is really the provider, and harmless when echoed."""

import json
from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, datetime
from hmac import digest
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from hookbrook.inbound.challenge import MAX_ECHO, Reply, acknowledge, answer
from hookbrook.inbound.recipe import Row, read_row
from hookbrook.inbound.request import Request
from hookbrook.inbound.verify import verify

NOW = 1_795_000_000
SECRET = "s3cret"


def signed(body: bytes, prefix: str, secret: str = SECRET, method: str = "POST") -> Request:
    signature = "v0=" + digest(secret.encode(), b"v0:%d:%s" % (NOW, body), "sha256").hex()
    time_header = b"x-zm-request-timestamp" if prefix == "x-zm" else b"x-slack-request-timestamp"
    headers = [(f"{prefix}-signature".encode(), signature.encode()), (time_header, b"%d" % NOW)]
    return Request(method=method, headers=headers, body=body)


def ask(row: Row, request: Request, *secrets: str) -> Reply | None:
    held = secrets or (SECRET,)
    return answer(row, held, request, verify(row, held, request, now=NOW))


def zoom_body(token: object) -> bytes:
    return json.dumps({"event": "endpoint.url_validation", "payload": {"plainToken": token}}).encode()


def test_zoom_gets_its_token_back_with_the_hmac_by_the_secret_that_it_used(rows: Mapping[str, Row]) -> None:
    reply = ask(rows["zoom"], signed(zoom_body("abc"), "x-zm"), "old", SECRET)
    assert reply is not None
    assert (reply.status, reply.content_type) == (200, "application/json")
    expected = digest(SECRET.encode(), b"abc", "sha256").hex()
    assert json.loads(reply.body) == {"plainToken": "abc", "encryptedToken": expected}


def test_slack_gets_its_challenge_back_as_harmless_text(rows: Mapping[str, Row]) -> None:
    body = b'{"token":"t","challenge":"<script>alert(1)</script>{hmac:hex}","type":"url_verification"}'
    reply = ask(rows["slack"], signed(body, "x-slack"))
    assert reply is not None
    assert reply.body == b"<script>alert(1)</script>{hmac:hex}"
    assert reply.content_type == "text/plain; charset=utf-8"
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in reply.headers["Content-Security-Policy"]


def test_a_signed_handshake_is_not_answered_to_a_stranger(rows: Mapping[str, Row]) -> None:
    request = signed(zoom_body("abc"), "x-zm", secret="guess")
    assert ask(rows["zoom"], request) is None
    assert answer(rows["zoom"], [SECRET], request) is None
    assert ask(rows["slack"], Request(method="POST", body=b'{"type":"url_verification","challenge":"x"}')) is None


@pytest.mark.parametrize("token", [None, "", 7.5, ["x"], {"a": 1}, True, "x" * (MAX_ECHO + 1)])
def test_a_value_that_is_missing_strange_or_too_long_is_not_echoed(rows: Mapping[str, Row], token: object) -> None:
    assert ask(rows["zoom"], signed(zoom_body(token), "x-zm")) is None


def test_the_longest_value_is_echoed(rows: Mapping[str, Row]) -> None:
    assert ask(rows["zoom"], signed(zoom_body("x" * MAX_ECHO), "x-zm")) is not None


def test_an_ordinary_event_or_another_method_is_no_handshake(rows: Mapping[str, Row]) -> None:
    other = zoom_body("abc").replace(b"endpoint.url_validation", b"meeting.started")
    assert ask(rows["zoom"], signed(other, "x-zm")) is None
    assert ask(rows["zoom"], signed(b'["endpoint.url_validation"]', "x-zm")) is None
    assert ask(rows["zoom"], signed(zoom_body("abc"), "x-zm", method="GET")) is None


def made(**challenge: Any) -> Row:
    signature = {"places": ["header:x-sig"], "encoding": "hex"}
    recipe = {"recipe": "hmac", "message": "{b}", "signature": signature}
    return read_row("made", {"title": "Made", "verify": recipe, "challenges": [challenge]})


def test_an_unsigned_handshake_by_get_works_before_a_secret_exists() -> None:
    row = made(method="GET", when=[{"place": "query:challenge"}], signed=False, value="query:challenge", text="{value}")
    reply = answer(row, [], Request(method="GET", query=b"challenge=a%20b"))
    assert reply is not None
    assert reply.body == b"a b"
    assert answer(row, [], Request(method="GET", query=b"challenge=a&challenge=b")) is None
    assert answer(row, [], Request(method="GET")) is None


def test_a_computed_reply_can_be_base64_and_fails_closed_without_a_secret() -> None:
    row = made(
        method="GET",
        when=[{"place": "query:crc_token"}],
        signed=False,
        value="query:crc_token",
        json={"response_token": "sha256={hmac:base64}"},
    )
    request = Request(method="GET", query=b"crc_token=abc")
    reply = answer(row, ["key"], request)
    assert reply is not None
    # printf abc | openssl dgst -sha256 -hmac key -binary | base64
    assert json.loads(reply.body) == {"response_token": "sha256=nBluMtwBdfhvSxy4konWYZ3mvuaZ5MN45oMJ7Zehpqs="}
    assert answer(row, [], request) is None


def test_a_fixed_reply_needs_no_value() -> None:
    row = made(when=[{"place": "json:type", "equals": "1"}], signed=False, json={"type": 1})
    reply = answer(row, [], Request(method="POST", body=b'{"type":1}'))
    assert reply is not None
    assert reply.body == b'{"type":1}'


def test_a_webhook_that_was_kept_is_acknowledged_as_its_row_says(rows: Mapping[str, Row]) -> None:
    assert acknowledge(rows["github"]) is None
    recipe = {"recipe": "token", "places": ["header:x-token"]}
    row = read_row("made", {"title": "Made", "verify": recipe, "acknowledge": {"status": 202, "body": "ok"}})
    assert acknowledge(row) == Reply(status=202, content_type="text/plain", body=b"ok")


# --- the questions that providers ask ---


def asked(row: Row, method: str, *secrets: str, **request: Any) -> Reply | None:
    return answer(row, secrets, Request(method=method, **request))


def test_meta_is_answered_if_it_shows_the_token_that_it_was_given(rows: Mapping[str, Row]) -> None:
    def ask_meta(token: str, *secrets: str, mode: str = "subscribe") -> bytes | None:
        query = f"hub.mode={mode}&hub.challenge=1158&hub.verify_token={token}".encode()
        reply = asked(rows["meta"], "GET", *secrets, query=query)
        return None if reply is None else reply.body

    assert ask_meta("meatyhamhock", "an app's secret", "verify_token:meatyhamhock") == b"1158"
    assert ask_meta("other", "verify_token:meatyhamhock") is None
    assert ask_meta("meatyhamhock", "meatyhamhock") is None, "a key that travels in a URL would be none"
    assert ask_meta("", "verify_token:") is None
    assert ask_meta("meatyhamhock") is None
    assert ask_meta("meatyhamhock", "verify_token:meatyhamhock", mode="unsubscribe") is None


def test_microsoft_graph_and_dropbox_get_their_text_back_unescaped(rows: Mapping[str, Row]) -> None:
    graph = asked(rows["microsoft-graph"], "POST", query=b"validationToken=Validation%3A+Testing+%3Cb%3E")
    dropbox = asked(rows["dropbox"], "GET", query=b"challenge=abc123")
    assert graph is not None
    assert dropbox is not None
    assert (graph.status, graph.body, dropbox.body) == (200, b"Validation: Testing <b>", b"abc123")
    for reply in (graph, dropbox):
        assert reply.content_type == "text/plain; charset=utf-8"
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert asked(rows["microsoft-graph"], "POST", body=b'{"value":[]}') is None


def test_okta_gets_its_header_back_in_json(rows: Mapping[str, Row]) -> None:
    reply = asked(rows["okta"], "GET", headers=[(b"x-okta-verification-challenge", b'q"1')])
    assert reply is not None
    assert (reply.content_type, json.loads(reply.body)) == ("application/json", {"verification": 'q"1'})


def test_x_gets_the_hmac_of_its_token_each_time_that_it_asks(rows: Mapping[str, Row]) -> None:
    for token in ("one", "two"):
        reply = asked(rows["x"], "GET", SECRET, query=f"crc_token={token}&nonce=n".encode())
        expected = b64encode(digest(SECRET.encode(), token.encode(), "sha256")).decode()
        assert reply is not None
        assert json.loads(reply.body) == {"response_token": f"sha256={expected}"}
    assert asked(rows["x"], "GET", query=b"crc_token=one") is None


def twitch(kind: str, body: bytes, secret: str = SECRET) -> Request:
    at = datetime.fromtimestamp(NOW, UTC).strftime("%Y-%m-%dT%H:%M:%S.123456789Z").encode()
    signature = "sha256=" + digest(secret.encode(), b"m1" + at + body, "sha256").hex()
    headers = [
        (b"twitch-eventsub-message-id", b"m1"),
        (b"twitch-eventsub-message-timestamp", at),
        (b"twitch-eventsub-message-signature", signature.encode()),
        (b"twitch-eventsub-message-type", kind.encode()),
        (b"twitch-eventsub-subscription-type", b"channel.follow"),
    ]
    return Request(method="POST", headers=headers, body=body)


def test_twitch_gets_its_challenge_back_if_it_signed_it(rows: Mapping[str, Row]) -> None:
    body = b'{"challenge":"pogchamp-kappa","subscription":{}}'
    reply = ask(rows["twitch"], twitch("webhook_callback_verification", body))
    assert reply is not None
    assert (reply.status, reply.body) == (200, b"pogchamp-kappa")
    assert ask(rows["twitch"], twitch("webhook_callback_verification", body, "guess")) is None
    assert ask(rows["twitch"], twitch("notification", body)) is None
    for kind, expected in (("notification", "channel.follow"), ("revocation", "revocation")):
        verdict = verify(rows["twitch"], [SECRET], twitch(kind, body), now=NOW)
        assert (verdict.event_type, verdict.dedupe_id) == (expected, "m1")


def discord(body: bytes, signed_body: bytes | None = None) -> Request:
    signature = DISCORD.sign(b"%d%s" % (NOW, body if signed_body is None else signed_body)).hex().encode()
    return Request(
        method="POST",
        headers=[(b"x-signature-ed25519", signature), (b"x-signature-timestamp", b"%d" % NOW)],
        body=body,
    )


DISCORD = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def test_discords_pings_are_answered_and_its_bad_signatures_are_not(rows: Mapping[str, Row]) -> None:
    key = DISCORD.public_key().public_bytes_raw().hex()
    interaction = ask(rows["discord"], discord(b'{"type":1,"id":"1"}'), key)
    event = ask(rows["discord"], discord(b'{"version":1,"type":0}'), key)
    assert interaction is not None
    assert event is not None
    assert (interaction.status, json.loads(interaction.body)) == (200, {"type": 1})
    assert (event.status, event.body) == (204, b"")
    assert ask(rows["discord"], discord(b'{"type":1,"event":{"type":"APPLICATION_AUTHORIZED"}}'), key) is None
    probe = discord(b'{"type":1}', signed_body=b"something else")
    assert ask(rows["discord"], probe, key) is None
    assert verify(rows["discord"], [key], probe, now=NOW).problem().status == 401


def test_cloudevents_asks_by_options_from_which_origin(rows: Mapping[str, Row]) -> None:
    origin = (b"webhook-request-origin", b"eventemitter.example.com")
    reply = asked(rows["cloudevents"], "OPTIONS", headers=[origin])
    assert reply is not None
    assert reply.status == 200
    assert reply.headers["WebHook-Allowed-Origin"] == "eventemitter.example.com"
    assert reply.headers["WebHook-Allowed-Rate"] == "*"
    assert asked(rows["cloudevents"], "OPTIONS") is None
    assert asked(rows["cloudevents"], "OPTIONS", headers=[origin, origin]) is None


@pytest.mark.parametrize("value", [b"a%0d%0aSet-Cookie:x", b"%C3%A9", b"%00"])
def test_a_header_of_a_reply_holds_nothing_that_would_end_it(value: bytes) -> None:
    row = made(
        method="GET",
        when=[{"place": "query:q"}],
        signed=False,
        value="query:q",
        headers={"X-Echo": "{value}"},
        text="",
    )
    assert asked(row, "GET", query=b"q=" + value) is None
    assert asked(row, "GET", query=b"q=fine") is not None


FORM = [(b"content-type", b"application/x-www-form-urlencoded")]


def test_a_test_that_cannot_be_signed_is_answered_and_nothing_else_is(rows: Mapping[str, Row]) -> None:
    assert asked(rows["mandrill"], "POST", headers=FORM, body=b"mandrill_events=%5B%5D") is not None
    assert asked(rows["mandrill"], "POST", headers=FORM, body=b"mandrill_events=%5B%7B%7D%5D") is None
    assert asked(rows["woocommerce"], "POST", headers=FORM, body=b"webhook_id=7") is not None
    signed_form = [*FORM, (b"x-wc-webhook-signature", b"AAAA")]
    assert asked(rows["woocommerce"], "POST", headers=signed_form, body=b"webhook_id=7") is None


def test_a_get_may_be_answered_whatever_it_says() -> None:
    row = made(method="GET", when=[], signed=False, text="here")
    assert asked(row, "GET") is not None
    assert asked(row, "POST") is None
