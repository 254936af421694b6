"""Signatures by a certificate that the message names: only Amazon's addresses, only our topics, few fetches."""

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from tests.inbound import documented
from tests.inbound.documented import SNS_CERTIFICATE_URL, TOPIC
from tests.inbound.judge import BODY, OTHER_SECRET, SECRET, Sent

from hookbrook.core.fetch import Request as Outbound
from hookbrook.core.fetch import Response, TimedOut, Timing
from hookbrook.errors import Problem
from hookbrook.inbound.certificate import FAILED_S, KEPT_S, MAX_BYTES, MAX_KEPT, Certificates, address, is_at
from hookbrook.inbound.challenge import answer
from hookbrook.inbound.recipe import Certificate, Row
from hookbrook.inbound.verdict import Reason, Verdict
from hookbrook.inbound.verify import verify

NOW = int(time.time())
HOSTS = ("sns.*.amazonaws.com", "sns.*.amazonaws.com.cn")
CONFIRMATION = {
    "Type": "SubscriptionConfirmation",
    "Token": "2336412f37",
    "SubscribeURL": "https://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription&Token=2336412f37",
}


@pytest.fixture
def row(rows: Mapping[str, Row]) -> Row:
    return rows["amazon-sns"]


def changed(sent: Sent, **changes: Any) -> Sent:
    message = {**json.loads(sent.body), **changes}
    return replace(sent, body=json.dumps({name: value for name, value in message.items() if value is not None}))


def judge(row: Row, sent: Sent, *secrets: str, certificate: bytes | None = b"", now: float = NOW) -> Verdict:
    pem = documented.certificate(SECRET) if certificate == b"" else certificate
    return verify(row, secrets or (TOPIC,), sent.request, now=now, certificate=pem)


@pytest.mark.parametrize("version", ["1", "2"])
def test_a_message_of_a_topic_that_is_ours_is_accepted(row: Row, version: str) -> None:
    verdict = judge(row, documented.sns(SECRET, BODY, NOW, version), "arn:aws:sns:eu-west-1:1:other", TOPIC)
    assert (verdict.ok, verdict.matched_secret, verdict.timestamp) == (True, 1, NOW)
    assert (verdict.event_type, verdict.dedupe_id) == ("Notification", "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324")
    assert "body" not in verdict.covers


def test_a_message_without_a_subject_is_signed_without_it(row: Row) -> None:
    sent = documented.sns(SECRET, BODY, NOW)
    assert judge(row, changed(sent, Subject=None)).reason == Reason.MISMATCH
    assert judge(row, changed(sent, Subject="Another")).reason == Reason.MISMATCH


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"Message": "other"}, Reason.MISMATCH),
        ({"TopicArn": TOPIC + "x"}, Reason.MISMATCH),
        ({"TopicArn": None}, Reason.MISMATCH),
        ({"SignatureVersion": "3"}, Reason.MISMATCH),
        ({"SignatureVersion": "1"}, Reason.MISMATCH),
        ({"SignatureVersion": None}, Reason.MISMATCH),
        ({"Signature": None}, Reason.MISSING_SIGNATURE),
        ({"Signature": 7}, Reason.MISSING_SIGNATURE),
        ({"Signature": "é"}, Reason.MALFORMED_SIGNATURE),
        ({"Signature": "A"}, Reason.MALFORMED_SIGNATURE),
        ({"Type": "Other"}, Reason.MALFORMED_SIGNATURE),
        ({"Type": ["Notification"]}, Reason.MALFORMED_SIGNATURE),
        ({"Timestamp": "today"}, Reason.MALFORMED_TIMESTAMP),
        ({"Timestamp": "2020-01-01T00:00:00.000Z"}, Reason.TOO_OLD),
        ({"Timestamp": "2999-01-01T00:00:00.000Z"}, Reason.IN_THE_FUTURE),
    ],
)
def test_what_is_wrong_with_a_message_is_told(row: Row, changes: dict[str, Any], reason: Reason) -> None:
    assert judge(row, changed(documented.sns(SECRET, BODY, NOW), **changes)).reason == reason


@pytest.mark.parametrize("certificate", [None, b"x", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_without_a_certificate_nothing_is_believed(row: Row, certificate: bytes | None) -> None:
    assert not judge(row, documented.sns(SECRET, BODY, NOW), certificate=certificate).ok


def test_a_certificate_holds_only_in_its_time_and_for_its_key(row: Row) -> None:
    sent = documented.sns(SECRET, BODY, NOW + 3 * 86_400)
    assert judge(row, sent, now=NOW + 3 * 86_400).reason == Reason.MISMATCH
    assert judge(row, documented.sns(OTHER_SECRET, BODY, NOW)).reason == Reason.MISMATCH


@pytest.mark.parametrize("secrets", [("",), ("x",)])
def test_without_a_topic_everything_is_refused(row: Row, secrets: tuple[str, ...]) -> None:
    sent = changed(documented.sns(SECRET, BODY, NOW), TopicArn="")
    assert not judge(row, sent, *secrets).ok
    assert verify(row, (), sent.request, now=NOW).reason == Reason.NO_SECRET


@pytest.mark.parametrize(
    ("url", "good"),
    [
        (SNS_CERTIFICATE_URL, True),
        ("https://sns.cn-north-1.amazonaws.com.cn/x.pem", True),
        ("https://sns.us-east-1.amazonaws.com:443/x.pem", True),
        ("HTTPS://SNS.us-east-1.amazonaws.com/x.pem", True),
        ("http://sns.us-east-1.amazonaws.com/x.pem", False),
        ("https://sns.us-east-1.amazonaws.com:8443/x.pem", False),
        ("https://sns.us-east-1.amazonaws.com:x/x.pem", False),
        ("https://sns.us-east-1.amazonaws.com.evil.example/x.pem", False),
        ("https://evil.example/sns.us-east-1.amazonaws.com/x.pem", False),
        ("https://evil.example#sns.us-east-1.amazonaws.com/x.pem", False),
        ("https://sns.us-east-1.amazonaws.com@evil.example/x.pem", False),
        ("https://evil.example\\@sns.us-east-1.amazonaws.com/x.pem", False),
        ("https://sns.a.b.amazonaws.com/x.pem", False),
        ("https://sns..amazonaws.com/x.pem", False),
        ("https://snsxus-east-1xamazonaws.com/x.pem", False),
        ("https://bucket.s3.amazonaws.com/x.pem", False),
        ("https://sns.us-east-1.amazonaws.com\n.evil.example/x.pem", False),
        ("https://[::1/x.pem", False),
        ("https://sns.us-east-1.amazonaws.com/" + "x" * 3_000, False),
        ("", False),
    ],
)
def test_only_the_pinned_hosts_are_asked(row: Row, url: str, good: bool) -> None:
    assert is_at(url, HOSTS) is good
    assert isinstance(row.verify, Certificate)
    sent = changed(documented.sns(SECRET, BODY, NOW), SigningCertURL=url)
    assert address(row.verify, (TOPIC,), sent.request) == (url if good else None)


def test_nothing_is_fetched_for_somebody_elses_topic_or_from_another_path(row: Row) -> None:
    assert isinstance(row.verify, Certificate)
    sent = documented.sns(SECRET, BODY, NOW)
    assert address(row.verify, (TOPIC + "x",), sent.request) is None
    assert address(row.verify, (), sent.request) is None
    for path in ("x.txt", "x.pem?a=1", "x.pem#a"):
        other = changed(sent, SigningCertURL=f"https://sns.us-east-1.amazonaws.com/{path}")
        assert address(row.verify, (TOPIC,), other.request) is None


def test_a_subscription_is_confirmed_only_at_the_pinned_host_and_only_if_signed(row: Row) -> None:
    def asked(sent: Sent) -> str | None:
        reply = answer(row, (TOPIC,), sent.request, judge(row, sent))
        return None if reply is None else reply.visit

    assert asked(documented.sns(SECRET, BODY, NOW, **CONFIRMATION)) == CONFIRMATION["SubscribeURL"]
    elsewhere = {**CONFIRMATION, "SubscribeURL": "https://evil.example/?Action=ConfirmSubscription"}
    assert asked(documented.sns(SECRET, BODY, NOW, **elsewhere)) is None
    assert asked(documented.sns(OTHER_SECRET, BODY, NOW, **CONFIRMATION)) is None
    assert asked(documented.sns(SECRET, BODY, NOW, **{**CONFIRMATION, "Type": "UnsubscribeConfirmation"})) is None


class Shelf:
    """A `Fetch` that has some addresses by heart, and notes what it was asked."""

    def __init__(self, found: Mapping[str, Response | None]) -> None:
        self.found = dict(found)
        self.asked: list[str] = []
        self.at_once = 0
        self.most_at_once = 0

    async def send(self, request: Outbound) -> Response:
        assert request.method == "GET"
        assert request.response_limit == MAX_BYTES
        self.asked.append(request.url)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        response = self.found.get(request.url)
        if response is None:
            raise TimedOut("No answer in time.")
        return response


def page(body: bytes, status: int = 200, truncated: bool = False) -> Response:
    return Response(
        status=status, headers=(), body=body, truncated=truncated, address="127.0.0.1:443", timing=Timing(total=1)
    )


async def test_a_certificate_is_fetched_once_and_kept_for_a_day() -> None:
    now = [0]
    shelf = Shelf({"https://a/x.pem": page(b"pem")})
    certificates = Certificates(shelf, lambda: now[0])
    found = await asyncio.gather(*(certificates.get("https://a/x.pem") for _ in range(4)))
    assert found == [b"pem"] * 4
    asked = len(shelf.asked)
    now[0] = KEPT_S * 1_000_000 - 1
    assert await certificates.get("https://a/x.pem") == b"pem"
    assert len(shelf.asked) == asked
    now[0] += 1
    await certificates.get("https://a/x.pem")
    assert len(shelf.asked) == asked + 1


@pytest.mark.parametrize("response", [None, page(b"no", status=404), page(b"x", truncated=True), page(b"", status=302)])
async def test_a_failure_is_an_error_that_the_provider_repeats_and_is_remembered_shortly(
    response: Response | None,
) -> None:
    now = [0]
    shelf = Shelf({"https://a/x.pem": response})
    certificates = Certificates(shelf, lambda: now[0])
    for _ in range(3):
        with pytest.raises(Problem) as caught:
            await certificates.get("https://a/x.pem")
        assert caught.value.status == 500
    assert len(shelf.asked) == 1
    shelf.found["https://a/x.pem"] = page(b"pem")
    now[0] = FAILED_S * 1_000_000
    assert await certificates.get("https://a/x.pem") == b"pem"


async def test_a_flood_of_addresses_is_fetched_few_at_a_time_and_forgotten() -> None:
    shelf = Shelf({f"https://a/{index}.pem": page(b"pem") for index in range(200)})
    certificates = Certificates(shelf, lambda: 0)
    await asyncio.gather(*(certificates.get(f"https://a/{index}.pem") for index in range(200)))
    assert shelf.most_at_once <= 4
    before = len(shelf.asked)
    for index in range(200):
        await certificates.get(f"https://a/{index}.pem")
    assert len(shelf.asked) - before >= 200 - MAX_KEPT


async def test_what_is_known_neither_waits_behind_forged_addresses_nor_is_forgotten_for_them() -> None:
    shelf = Shelf({"https://a/x.pem": page(b"pem")})
    certificates = Certificates(shelf, lambda: 0)
    await certificates.get("https://a/x.pem")
    forged = [asyncio.create_task(certificates.get(f"https://a/{index}.pem")) for index in range(2 * MAX_KEPT)]
    await asyncio.sleep(0)
    found = asyncio.create_task(certificates.get("https://a/x.pem"))
    await asyncio.sleep(0)
    assert found.done()
    failed = await asyncio.gather(*forged, return_exceptions=True)
    assert all(isinstance(each, Problem) for each in failed)
    assert await certificates.get("https://a/x.pem") == b"pem"
    assert shelf.asked.count("https://a/x.pem") == 1


async def test_without_a_fetch_there_is_no_certificate() -> None:
    with pytest.raises(Problem):
        await Certificates(None, lambda: 0).get("https://a/x.pem")
    with pytest.raises(Problem):
        await Certificates(Shelf({}), lambda: 0).visit("https://a/confirm")
