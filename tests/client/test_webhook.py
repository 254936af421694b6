"""`hookbrook.verify`, judged by the reference library of Standard Webhooks."""

from datetime import UTC, datetime
from email.message import Message

import pytest
from standardwebhooks import Webhook

from hookbrook import SignatureError, verify

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
BODY = b'{"type":"order.paid","data":{"id":42}}'
NOW = 1_795_450_800.0


def headers_of(body: bytes, *, sent_at: float = NOW) -> dict[str, str]:
    moment = datetime.fromtimestamp(sent_at, UTC)
    signature = Webhook(SECRET).sign("evt_1", moment, body.decode())
    return {"Webhook-Id": "evt_1", "Webhook-Timestamp": str(int(sent_at)), "Webhook-Signature": signature}


def test_a_webhook_of_the_reference_library_verifies() -> None:
    verified = verify(SECRET, headers_of(BODY), BODY, now=NOW)
    assert (verified.id, verified.timestamp) == ("evt_1", int(NOW))


def test_the_headers_of_the_standard_library_s_server_are_headers() -> None:
    headers = Message()
    for name, value in headers_of(BODY).items():
        headers[name] = value
    assert verify(SECRET, headers, BODY, now=NOW).id == "evt_1"


def test_any_one_of_several_secrets_will_do() -> None:
    assert verify([OTHER, SECRET], headers_of(BODY), BODY, now=NOW).id == "evt_1"


def test_the_clock_is_now_if_nothing_is_said() -> None:
    sent_at = datetime.now(UTC).timestamp()
    assert verify(SECRET, headers_of(BODY, sent_at=sent_at), BODY).id == "evt_1"
    with pytest.raises(SignatureError):
        verify(SECRET, headers_of(BODY, sent_at=sent_at - 3600), BODY)


def test_a_changed_body_another_secret_and_an_old_webhook_are_refused() -> None:
    with pytest.raises(SignatureError):
        verify(SECRET, headers_of(BODY), BODY + b" ", now=NOW)
    with pytest.raises(SignatureError):
        verify(OTHER, headers_of(BODY), BODY, now=NOW)
    with pytest.raises(SignatureError):
        verify(SECRET, headers_of(BODY), BODY, now=NOW + 301)


def test_the_tolerance_may_be_chosen() -> None:
    assert verify(SECRET, headers_of(BODY), BODY, now=NOW + 301, tolerance_s=600).id == "evt_1"
