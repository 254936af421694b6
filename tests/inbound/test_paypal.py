"""PayPal's webhooks: only its certificates, only the webhook that is ours, and each thing that it signs."""

import zlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from tests.inbound import documented
from tests.inbound.judge import BODY, OTHER_SECRET, Sent

from hookbrook.inbound.certificate import address
from hookbrook.inbound.recipe import Certificate, Row
from hookbrook.inbound.request import Request
from hookbrook.inbound.verdict import Reason, Verdict
from hookbrook.inbound.verify import verify

NOW = int(datetime.now(UTC).timestamp())
WEBHOOK = "9XL90610J3647323C"
URL = documented.PAYPAL_CERTIFICATE_URL


@pytest.fixture
def row(rows: Mapping[str, Row]) -> Row:
    return rows["paypal"]


def judge(row: Row, sent: Sent, *secrets: str, certificate: bytes | None = b"") -> Verdict:
    pem = documented.certificate(documented.PAYPAL_KEY) if certificate == b"" else certificate
    return verify(row, secrets or (WEBHOOK,), sent.request, now=NOW, certificate=pem)


def sent_with(**headers: str) -> Sent:
    sent = documented.paypal(WEBHOOK, BODY, NOW)
    return replace(sent, headers={**sent.headers, **{f"PAYPAL-{k.replace('_', '-')}": v for k, v in headers.items()}})


def asked(row: Row, sent: Sent, *secrets: str) -> str | None:
    assert isinstance(row.verify, Certificate)
    return address(row.verify, secrets or (WEBHOOK,), sent.request)


def test_a_webhook_of_ours_is_accepted_by_the_secret_that_it_is_signed_for(row: Row) -> None:
    sent = documented.paypal(WEBHOOK, '{"id":"WH-1","event_type":"PAYMENT.SALE.COMPLETED"}', NOW)
    verdict = judge(row, sent, "ANOTHER1", WEBHOOK)
    assert (verdict.ok, verdict.matched_secret) == (True, 1)
    assert (verdict.event_type, verdict.dedupe_id) == ("PAYMENT.SALE.COMPLETED", "WH-1")
    assert asked(row, sent) == URL


def test_a_retry_of_three_days_later_is_accepted(row: Row) -> None:
    assert judge(row, documented.paypal(WEBHOOK, BODY, NOW - 3 * 86_400)).ok


def test_a_checksum_is_written_without_a_sign_or_leading_zeros(row: Row) -> None:
    bodies = ["", *(str(number) for number in range(64))]
    sums = {zlib.crc32(body.encode()) for body in bodies}
    assert min(sums) < 2**28 < 2**31 < max(sums)
    for body in bodies:
        assert judge(row, documented.paypal(WEBHOOK, body, NOW)).ok, body


def test_the_body_is_summed_as_its_bytes_came(row: Row) -> None:
    assert judge(row, documented.paypal(WEBHOOK, '{ "a" : "Zoë" }\n', NOW)).ok


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"TRANSMISSION_ID": "another"}, Reason.MISMATCH),
        ({"TRANSMISSION_TIME": "2026-01-01T00:00:00Z"}, Reason.MISMATCH),
        ({"AUTH_ALGO": "SHA1withRSA"}, Reason.MISMATCH),
        ({"AUTH_ALGO": "none"}, Reason.MISMATCH),
        ({"TRANSMISSION_SIG": "é"}, Reason.MALFORMED_SIGNATURE),
        ({"TRANSMISSION_SIG": "A"}, Reason.MALFORMED_SIGNATURE),
        ({"TRANSMISSION_SIG": "AAAA"}, Reason.MISMATCH),
        ({"TRANSMISSION_SIG": ""}, Reason.MISSING_SIGNATURE),
        ({"TRANSMISSION_ID": ""}, Reason.MISSING_ID),
        ({"TRANSMISSION_TIME": ""}, Reason.MISSING_TIMESTAMP),
        ({"CERT_URL": ""}, Reason.MISSING_SIGNATURE),
        ({"AUTH_ALGO": ""}, Reason.MISSING_SIGNATURE),
    ],
)
def test_what_is_wrong_with_a_webhook_is_told(row: Row, headers: dict[str, str], reason: Reason) -> None:
    sent = sent_with(**headers)
    assert judge(row, sent).reason == reason
    if reason != Reason.MISMATCH or "AUTH_ALGO" in headers:
        assert asked(row, sent) is None, "what is refused anyway is not worth a fetch"


def test_a_changed_byte_and_another_webhooks_id_are_refused(row: Row) -> None:
    sent = documented.paypal(WEBHOOK, BODY, NOW)
    assert judge(row, replace(sent, body=BODY.replace("1250", "9250"))).reason == Reason.MISMATCH
    assert judge(row, sent, WEBHOOK[:-1]).reason == Reason.MISMATCH
    assert judge(row, documented.paypal(WEBHOOK, BODY, NOW, key=OTHER_SECRET)).reason == Reason.MISMATCH


def test_a_header_that_is_there_twice_is_refused(row: Row) -> None:
    request = documented.paypal(WEBHOOK, BODY, NOW).request
    twice = [*request.headers, (b"paypal-transmission-time", b"2026-01-01T00:00:00Z")]
    doubled = Request(method="POST", headers=twice, body=request.body)
    assert verify(row, (WEBHOOK,), doubled, now=NOW).reason == Reason.AMBIGUOUS


@pytest.mark.parametrize("secrets", [(), ("",)])
def test_without_a_webhooks_id_everything_is_refused(row: Row, secrets: tuple[str, ...]) -> None:
    sent = documented.paypal("", BODY, NOW)
    pem = documented.certificate(documented.PAYPAL_KEY)
    assert verify(row, secrets, sent.request, now=NOW, certificate=pem).reason == Reason.NO_SECRET
    assert isinstance(row.verify, Certificate)
    assert address(row.verify, secrets, sent.request) is None


@pytest.mark.parametrize(
    "certificate", [None, b"x", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", b"<html>"]
)
def test_without_a_certificate_nothing_is_believed(row: Row, certificate: bytes | None) -> None:
    assert not judge(row, documented.paypal(WEBHOOK, BODY, NOW), certificate=certificate).ok


@pytest.mark.parametrize(
    ("url", "good"),
    [
        (URL, True),
        (URL.replace("api.", "api.sandbox."), True),
        (URL.replace("https", "http"), False),
        (URL.replace("api.", "evil."), False),
        (URL.replace("paypal.com", "paypal.com.evil.example"), False),
        (URL.replace("api.paypal.com", "api.paypal.com@evil.example"), False),
        (URL.replace("api.paypal.com", "api.paypal.com:8443"), False),
        (URL.replace("api.paypal.com", "www.paypal.com"), False),
        (URL.replace("/certs/", "/certs/../"), False),
        ("https://api.paypal.com/v1/other/CERT-1", False),
        (URL + "?next=https://evil.example", False),
        (URL + "#x", False),
        (URL + "é", False),
    ],
)
def test_only_paypals_certificates_are_asked_for(row: Row, url: str, good: bool) -> None:
    sent = sent_with(CERT_URL=url)
    assert asked(row, sent) == (url if good else None)
    if not good:
        assert judge(row, sent, certificate=None).reason == Reason.MALFORMED_SIGNATURE
