"""Handshakes: answered as the provider wants it, only when it is really the provider, and harmless when echoed."""

import json
from collections.abc import Mapping
from hmac import digest
from typing import Any

import pytest

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
