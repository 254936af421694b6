"""Third-party code and our rows judge the same requests: both accept the good one and refuse the four bad ones.

Where a judge is laxer than we are, the case says so and the test holds the judge to it, so that the note stays true:
Stripe's and GitHub's requests have no such case beyond those below, and Zoom's official code checks no time at all.
The judges read the real clock, so the real clock is `now` here.
"""

import json
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hmac import digest
from pathlib import Path
from typing import Any, Protocol

import pytest
import standardwebhooks
import stripe
import svix
from slack_sdk.signature import SignatureVerifier

from hookbrook.inbound.challenge import answer
from hookbrook.inbound.recipe import Row
from hookbrook.inbound.request import Request
from hookbrook.inbound.verdict import Reason, Verdict
from hookbrook.inbound.verify import verify

NODE = Path(__file__).parents[1] / "node"

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER_SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
BODY = '{"id":"evt_1","type":"invoice.paid","event":"meeting.started","amount":1250,"name":"Zoë"}'
ID = "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W"

Headers = Mapping[str, str]
JudgeTable = dict[tuple[str, str], dict[str, str]]


class Judge(Protocol):
    """Somebody else's code for one provider."""

    @property
    def name(self) -> str: ...

    @property
    def provider(self) -> str: ...

    @property
    def laxer(self) -> Mapping[str, str]:
        """Columns in which it accepts what we refuse, each with the reason."""

    def sign(self, secret: str, body: str, sent_at: int) -> Headers: ...

    def accepts(self, secret: str, body: str, headers: Headers) -> bool: ...


class StripeJudge:
    name = "stripe (PyPI)"
    provider = "stripe"
    laxer: Mapping[str, str] = {}

    def sign(self, secret: str, body: str, sent_at: int) -> Headers:
        return {"Stripe-Signature": stripe.WebhookSignature.generate_signature_header(body, secret, sent_at)}

    def accepts(self, secret: str, body: str, headers: Headers) -> bool:
        try:
            stripe.WebhookSignature.verify_header(body, headers.get("Stripe-Signature"), secret, 300)
        except stripe.SignatureVerificationError:
            return False
        return True


class SlackJudge:
    name = "slack_sdk (PyPI)"
    provider = "slack"
    laxer: Mapping[str, str] = {}

    def sign(self, secret: str, body: str, sent_at: int) -> Headers:
        signature = SignatureVerifier(secret).generate_signature(timestamp=str(sent_at), body=body)
        assert signature is not None
        return {"X-Slack-Signature": signature, "X-Slack-Request-Timestamp": str(sent_at)}

    def accepts(self, secret: str, body: str, headers: Headers) -> bool:
        return SignatureVerifier(secret).is_valid_request(body, headers)


class StandardWebhooksJudge:
    name = "standardwebhooks (PyPI)"
    provider = "standard-webhooks"
    laxer: Mapping[str, str] = {}

    def sign(self, secret: str, body: str, sent_at: int) -> Headers:
        signature = standardwebhooks.Webhook(secret).sign(ID, datetime.fromtimestamp(sent_at, UTC), body)
        return {"webhook-id": ID, "webhook-timestamp": str(sent_at), "webhook-signature": signature}

    def accepts(self, secret: str, body: str, headers: Headers) -> bool:
        try:
            standardwebhooks.Webhook(secret).verify(body, dict(headers))
        except standardwebhooks.WebhookVerificationError:
            return False
        return True


class SvixJudge:
    name = "svix (PyPI)"
    provider = "svix"
    laxer: Mapping[str, str] = {}

    def sign(self, secret: str, body: str, sent_at: int) -> Headers:
        signature = svix.Webhook(secret).sign(ID, datetime.fromtimestamp(sent_at, UTC), body)
        return {"svix-id": ID, "svix-timestamp": str(sent_at), "svix-signature": signature}

    def accepts(self, secret: str, body: str, headers: Headers) -> bool:
        try:
            svix.Webhook(secret).verify(body, dict(headers))
        except svix.WebhookVerificationError:
            return False
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeJudge:
    """One of the judges in tests/node/judges.mjs; all share one process."""

    process: "subprocess.Popen[str]"
    judge: str
    name: str
    provider: str
    signs: bool
    laxer: Mapping[str, str]

    def ask(self, **request: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"judge": self.judge, **request}) + "\n")
        self.process.stdin.flush()
        reply: dict[str, Any] = json.loads(self.process.stdout.readline())
        return reply

    def sign(self, secret: str, body: str, sent_at: int) -> Headers:
        if not self.signs:
            return documented_zoom_headers(secret, body, sent_at)
        headers: Headers = self.ask(do="sign", secret=secret, body=body, time=sent_at, id=ID)["headers"]
        return headers

    def accepts(self, secret: str, body: str, headers: Headers) -> bool:
        return bool(self.ask(do="accepts", secret=secret, body=body, headers=dict(headers))["accepted"])


def documented_zoom_headers(secret: str, body: str, sent_at: int) -> Headers:
    """As Zoom's documentation writes it down, since Zoom's own package verifies only."""
    signature = digest(secret.encode(), f"v0:{sent_at}:{body}".encode(), "sha256").hex()
    return {"x-zm-signature": f"v0={signature}", "x-zm-request-timestamp": str(sent_at)}


NODE_JUDGES = {
    "octokit": ("@octokit/webhooks-methods (npm)", "github", True, {}),
    "stripe": ("stripe (npm)", "stripe", True, {}),
    "standardwebhooks": ("standardwebhooks (npm)", "standard-webhooks", True, {}),
    "rivet": ("@zoom/rivet (npm)", "zoom", False, {"stale time": "checks no time"}),
}


@pytest.fixture(scope="module")
def node() -> "Iterator[subprocess.Popen[str]]":
    if not (NODE / "node_modules").is_dir():
        pytest.fail("the judges are not installed: run `npm ci` in tests/node")
    with subprocess.Popen(
        ["node", "judges.mjs"], cwd=NODE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=30) == 0


@pytest.fixture(
    params=[
        StripeJudge,
        SlackJudge,
        StandardWebhooksJudge,
        SvixJudge,
        *(pytest.param(name, marks=pytest.mark.node) for name in NODE_JUDGES),
    ],
    ids=lambda param: param if isinstance(param, str) else param.__name__,
)
def judge(request: pytest.FixtureRequest) -> Judge:
    if not isinstance(request.param, str):
        made: Judge = request.param()
        return made
    name, provider, signs, laxer = NODE_JUDGES[request.param]
    process = request.getfixturevalue("node")
    return NodeJudge(process=process, judge=request.param, name=name, provider=provider, signs=signs, laxer=laxer)


def ours(row: Row, secret: str, body: str, headers: Headers) -> Verdict:
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    return verify(row, [secret], Request(method="POST", headers=pairs, body=body.encode()), now=time.time())


def note(judged: JudgeTable, judge: Judge, column: str, text: str) -> None:
    judged.setdefault((judge.provider, judge.name), {})[column] = text


def refused_by_both(
    judged: JudgeTable, judge: Judge, row: Row, column: str, secret: str, body: str, headers: Headers
) -> Verdict:
    verdict = ours(row, secret, body, headers)
    assert not verdict.ok
    if column in judge.laxer:
        assert judge.accepts(secret, body, headers), "the judge has become as strict as we are: take the note away"
        note(judged, judge, column, f"only we refuse: {judge.laxer[column]}")
    else:
        assert not judge.accepts(secret, body, headers)
        note(judged, judge, column, "both refuse")
    return verdict


def test_what_the_judge_signs_is_accepted_by_both(judge: Judge, rows: Mapping[str, Row], judged: JudgeTable) -> None:
    headers = judge.sign(SECRET, BODY, int(time.time()))
    verdict = ours(rows[judge.provider], SECRET, BODY, headers)
    assert (verdict.ok, verdict.reason) == (True, Reason.VERIFIED)
    assert judge.accepts(SECRET, BODY, headers)
    note(judged, judge, "accepts", "both accept")


def test_a_changed_byte_is_refused_by_both(judge: Judge, rows: Mapping[str, Row], judged: JudgeTable) -> None:
    headers = judge.sign(SECRET, BODY, int(time.time()))
    changed = BODY.replace("1250", "9250")
    verdict = refused_by_both(judged, judge, rows[judge.provider], "changed byte", SECRET, changed, headers)
    assert verdict.reason == Reason.MISMATCH


def test_a_wrong_secret_is_refused_by_both(judge: Judge, rows: Mapping[str, Row], judged: JudgeTable) -> None:
    headers = judge.sign(OTHER_SECRET, BODY, int(time.time()))
    verdict = refused_by_both(judged, judge, rows[judge.provider], "wrong secret", SECRET, BODY, headers)
    assert verdict.reason == Reason.MISMATCH


def test_a_stale_time_is_refused_by_both(judge: Judge, rows: Mapping[str, Row], judged: JudgeTable) -> None:
    if judge.provider == "github":
        note(judged, judge, "stale time", "GitHub signs no time")
        return
    headers = judge.sign(SECRET, BODY, int(time.time()) - 400)
    verdict = refused_by_both(judged, judge, rows[judge.provider], "stale time", SECRET, BODY, headers)
    assert verdict.reason == Reason.TOO_OLD


def test_each_missing_header_is_refused_by_both(judge: Judge, rows: Mapping[str, Row], judged: JudgeTable) -> None:
    headers = judge.sign(SECRET, BODY, int(time.time()))
    for missing in headers:
        rest = {name: value for name, value in headers.items() if name != missing}
        verdict = refused_by_both(judged, judge, rows[judge.provider], "missing header", SECRET, BODY, rest)
        assert str(verdict.reason).startswith("missing")


@pytest.mark.parametrize("provider", ["openai", "resend", "clerk", "svix"])
def test_senders_of_the_standard_scheme_are_judged_as_the_standard_is(provider: str, rows: Mapping[str, Row]) -> None:
    headers = StandardWebhooksJudge().sign(SECRET, BODY, int(time.time()))
    assert ours(rows[provider], SECRET, BODY, headers).ok
    assert not ours(rows[provider], OTHER_SECRET, BODY, headers).ok
    assert rows[provider].verify == rows["standard-webhooks"].verify


def test_stripe_accepts_any_future_time_and_we_one_minute(rows: Mapping[str, Row]) -> None:
    judge = StripeJudge()
    tomorrow = judge.sign(SECRET, BODY, int(time.time()) + 86_400)
    assert judge.accepts(SECRET, BODY, tomorrow)
    assert ours(rows["stripe"], SECRET, BODY, tomorrow).reason == Reason.IN_THE_FUTURE
    assert ours(rows["stripe"], SECRET, BODY, judge.sign(SECRET, BODY, int(time.time()) + 30)).ok


@pytest.mark.parametrize("judge", [SlackJudge, StandardWebhooksJudge, SvixJudge], indirect=True)
def test_a_time_far_in_the_future_is_refused_by_both(judge: Judge, rows: Mapping[str, Row]) -> None:
    headers = judge.sign(SECRET, BODY, int(time.time()) + 400)
    assert not judge.accepts(SECRET, BODY, headers)
    assert ours(rows[judge.provider], SECRET, BODY, headers).reason == Reason.IN_THE_FUTURE


@pytest.mark.node
@pytest.mark.parametrize("judge", ["rivet"], indirect=True)
def test_zooms_own_code_answers_the_url_validation_as_we_do(judge: NodeJudge, rows: Mapping[str, Row]) -> None:
    body = '{"event":"endpoint.url_validation","payload":{"plainToken":"qgg8vlvZRS6UYooatFL8Aw"},"event_ts":1}'
    headers = judge.sign(SECRET, body, int(time.time()))
    theirs = judge.ask(do="accepts", secret=SECRET, body=body, headers=dict(headers))
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    request = Request(method="POST", headers=pairs, body=body.encode())
    verdict = verify(rows["zoom"], [OTHER_SECRET, SECRET], request, now=time.time())
    reply = answer(rows["zoom"], [OTHER_SECRET, SECRET], request, verdict)
    assert reply is not None
    assert reply.status == 200
    assert json.loads(reply.body) == json.loads(theirs["reply"])
