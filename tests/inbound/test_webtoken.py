"""Tokens whose claims hold the body's hash: only the row's algorithms, only within their time, only for this body."""

import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from hashlib import sha256
from hmac import digest
from typing import Any

import pytest

from hookbrook.inbound.recipe import Row
from hookbrook.inbound.request import Request
from hookbrook.inbound.verdict import Reason, Verdict
from hookbrook.inbound.verify import verify
from hookbrook.inbound.webtoken import MAX_TOKEN

NOW = 1_795_000_000
SECRET = "a secret of more than 32 characters."
URL = "https://hooks.example.com/in/x?a=1"
BODY = b'{"id":"1"}'


def part(value: object) -> bytes:
    return urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")


def token(claims: Mapping[str, Any], secret: str = SECRET, alg: str = "HS256", hash_: str = "sha256") -> bytes:
    signed = part({"alg": alg, "typ": "JWT"}) + b"." + part(claims)
    return signed + b"." + urlsafe_b64encode(digest(secret.encode(), signed, hash_)).rstrip(b"=")


def claims(**changes: Any) -> dict[str, Any]:
    good = {
        "iss": "MessageBird",
        "nbf": NOW,
        "exp": NOW + 60,
        "jti": "j1",
        "payload_hash": sha256(BODY).hexdigest(),
        "url_hash": sha256(URL.encode()).hexdigest(),
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def judge(
    row: Row, value: bytes, body: bytes = BODY, now: float = NOW, secrets: tuple[str, ...] = (SECRET,)
) -> Verdict:
    headers = [(b"messagebird-signature-jwt", value)]
    return verify(row, secrets, Request(method="POST", url=URL, headers=headers, body=body), now=now)


@pytest.fixture
def row(rows: Mapping[str, Row]) -> Row:
    return rows["messagebird"]


def test_a_good_token_proves_body_time_id_and_url(row: Row) -> None:
    verdict = judge(row, token(claims()), secrets=("old", SECRET))
    assert (verdict.ok, verdict.matched_secret, verdict.dedupe_id, verdict.timestamp) == (True, 1, "j1", NOW)
    assert verdict.covers == ("body", "timestamp", "id", "url")
    assert judge(row, token(claims(), alg="HS512", hash_="sha512")).ok


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"payload_hash": sha256(b"other").hexdigest()}, Reason.MISMATCH),
        ({"payload_hash": ""}, Reason.MISMATCH),
        ({"payload_hash": None}, Reason.MISMATCH),
        ({"payload_hash": 7}, Reason.MISMATCH),
        ({"url_hash": None}, Reason.MISMATCH),
        ({"url_hash": sha256(b"https://elsewhere").hexdigest()}, Reason.MISMATCH),
        ({"iss": "Somebody"}, Reason.MISMATCH),
        ({"iss": None}, Reason.MISMATCH),
        ({"exp": NOW - 61}, Reason.TOO_OLD),
        ({"exp": None}, Reason.MISSING_TIMESTAMP),
        ({"exp": "never"}, Reason.MISSING_TIMESTAMP),
        ({"exp": True}, Reason.MISSING_TIMESTAMP),
        ({"exp": 1e300}, Reason.MISSING_TIMESTAMP),
        ({"nbf": NOW + 61}, Reason.IN_THE_FUTURE),
        ({"iat": NOW + 61}, Reason.IN_THE_FUTURE),
    ],
)
def test_each_claim_is_held_to_the_request(row: Row, changes: dict[str, Any], reason: Reason) -> None:
    assert judge(row, token(claims(**changes))).reason == reason


def test_clocks_may_differ_by_a_minute(row: Row) -> None:
    assert judge(row, token(claims(exp=NOW - 60, nbf=NOW + 60))).ok


def test_a_request_without_a_body_may_lack_the_hash(row: Row) -> None:
    assert judge(row, token(claims(payload_hash=None)), body=b"").ok
    assert judge(row, token(claims()), body=b"").reason == Reason.MISMATCH


@pytest.mark.parametrize("algorithm", ["none", "None", "RS256", "HS1", "", None, ["HS256"], {"HS256": 1}])
def test_an_algorithm_that_is_not_the_rows_is_refused(row: Row, algorithm: Any) -> None:
    good = token(claims(), alg=algorithm)
    assert judge(row, good).reason == Reason.MALFORMED_SIGNATURE
    assert not judge(row, good.rpartition(b".")[0] + b".").ok


def test_a_token_signed_by_the_wrong_algorithm_or_key_is_refused(row: Row) -> None:
    assert judge(row, token(claims(), hash_="sha512")).reason == Reason.MISMATCH
    assert judge(row, token(claims(), secret="another")).reason == Reason.MISMATCH
    assert judge(row, token(claims()).rpartition(b".")[0] + b".").reason == Reason.MISMATCH
    assert judge(row, token(claims()), secrets=()).reason == Reason.NO_SECRET


@pytest.mark.parametrize(
    "value",
    [b"x", b"..", b"a.b.c", b"e30.e30.", b"W10.W10.W10", b"x" * MAX_TOKEN + b"..", b"a.b.c.d", b"\xff.\xff.\xff"],
)
def test_what_is_no_token_is_told_as_such(row: Row, value: bytes) -> None:
    assert judge(row, value).reason == Reason.MALFORMED_SIGNATURE


def test_a_token_that_says_only_when_it_was_made_is_judged_by_its_age(rows: Mapping[str, Row]) -> None:
    def asked(**changes: Any) -> Verdict:
        made = {"iat": NOW, "jti": "j", "payload_hash": sha256(BODY).hexdigest(), **changes}
        value = token({name: value for name, value in made.items() if value is not None})
        request = Request(method="POST", headers=[(b"authorization", b"Bearer " + value)], body=BODY)
        return verify(rows["vonage"], [SECRET], request, now=NOW + 360)

    assert asked().ok
    assert asked(iat=NOW - 1).reason == Reason.TOO_OLD
    assert asked(exp=NOW).reason == Reason.TOO_OLD
    assert asked(iat=None).reason == Reason.MISSING_TIMESTAMP
    assert asked(jti=7).dedupe_id == f"sha256:{sha256(BODY).hexdigest()}"
