"""Third-party code and our rows judge the same requests: both accept the good one and refuse the four bad ones.

Where a judge is laxer than we are, the case says so and the test holds the judge to it, so that the note stays true.
The judges read the real clock, so the real clock is `now` here.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping

import pytest
from tests.inbound import documented
from tests.inbound.judge import OTHER_SECRET, SECRET, Judge, Sent
from tests.inbound.node_judges import NODE_JUDGES, Node, node_judge, running
from tests.inbound.python_judges import PYTHON_JUDGES

from hookbrook.inbound.challenge import answer
from hookbrook.inbound.recipe import Row
from hookbrook.inbound.request import Request
from hookbrook.inbound.verdict import Reason, Verdict
from hookbrook.inbound.verify import verify

#: Takes provider, judge, column and text.
Note = Callable[[str, str, str, str], None]
BY_NAME = {str(judge): judge for judge in PYTHON_JUDGES}


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with running() as node:
        yield node


@pytest.fixture(params=[*BY_NAME, *(pytest.param(name, marks=pytest.mark.node) for name in NODE_JUDGES)])
def judge(request: pytest.FixtureRequest, node: Node) -> Judge:
    return BY_NAME[request.param] if request.param in BY_NAME else node_judge(node, request.param)


def ours(row: Row, secret: str, sent: Sent, certificate: bytes | None = None) -> Verdict:
    return verify(row, [secret], sent.request, now=time.time(), certificate=certificate)


def theirs(judge: Judge, secret: str, sent: Sent) -> bool:
    # Theirs is anybody's code: a refusal may be any exception at all, and that is what is asked about.
    try:
        return judge.accepts(secret, sent)
    except Exception:  # noqa: BLE001
        return False


def refused_by_both(note: Note, judge: Judge, row: Row, column: str, sent: Sent) -> Verdict:
    secret = judge.secrets[0]
    verdict = ours(row, judge.held(secret), sent, judge.certificate)
    assert not verdict.ok
    if column in judge.laxer:
        assert theirs(judge, secret, sent), "the judge has become as strict as we are: take the note away"
        note(judge.provider, judge.name, column, f"we refuse ({judge.laxer[column]})")
    else:
        assert not theirs(judge, secret, sent)
        note(judge.provider, judge.name, column, "both refuse")
    return verdict


def signed(judge: Judge, secret: str = "", age: int = 0) -> Sent:
    return judge.sign(secret or judge.secrets[0], judge.body, int(time.time()) - age)


def test_a_good_webhook_is_accepted_by_both(judge: Judge, rows: Mapping[str, Row], note: Note) -> None:
    sent = signed(judge)
    verdict = ours(rows[judge.provider], judge.held(judge.secrets[0]), sent, judge.certificate)
    assert (verdict.ok, verdict.reason, verdict.detail) == (True, Reason.VERIFIED, "")
    assert judge.accepts(judge.secrets[0], sent)
    note(judge.provider, judge.name, "accepts", "both accept")


def test_a_changed_byte_is_refused_by_both(judge: Judge, rows: Mapping[str, Row], note: Note) -> None:
    verdict = refused_by_both(note, judge, rows[judge.provider], "changed byte", judge.changed(signed(judge)))
    assert verdict.reason == Reason.MISMATCH


def test_a_wrong_secret_is_refused_by_both(judge: Judge, rows: Mapping[str, Row], note: Note) -> None:
    sent = signed(judge, judge.secrets[1])
    verdict = refused_by_both(note, judge, rows[judge.provider], "wrong secret", sent)
    assert verdict.reason == Reason.MISMATCH


def test_a_stale_time_is_refused_by_both(judge: Judge, rows: Mapping[str, Row], note: Note) -> None:
    if not judge.stale_s:
        assert "timestamp" not in rows[judge.provider].covers
        note(judge.provider, judge.name, "stale time", "signs no time")
        return
    sent = signed(judge, age=judge.stale_s)
    assert refused_by_both(note, judge, rows[judge.provider], "stale time", sent).reason == Reason.TOO_OLD


def test_each_missing_header_is_refused_by_both(judge: Judge, rows: Mapping[str, Row], note: Note) -> None:
    lacking = judge.without(signed(judge))
    assert lacking
    for sent in lacking:
        verdict = refused_by_both(note, judge, rows[judge.provider], "missing header", sent)
        assert str(verdict.reason).startswith("missing")


def test_the_table_names_exactly_the_judges_that_are_asked(rows: Mapping[str, Row]) -> None:
    asked: dict[str, set[str]] = {}
    for judge in PYTHON_JUDGES:
        asked.setdefault(judge.provider, set()).add(judge.name.partition(",")[0])
    for facts in NODE_JUDGES.values():
        asked.setdefault(facts["provider"], set()).add(f"{facts['package']} (npm)")
    named = {row.id: set(row.judge.removesuffix(", the same scheme").split(", ")) for row in rows.values() if row.judge}
    assert named == asked
    assert len(named) >= 30


def test_stripe_accepts_any_future_time_and_we_one_minute(rows: Mapping[str, Row]) -> None:
    judge = BY_NAME["stripe-stripe-(PyPI)"]
    tomorrow = signed(judge, age=-86_400)
    assert judge.accepts(SECRET, tomorrow)
    assert ours(rows["stripe"], SECRET, tomorrow).reason == Reason.IN_THE_FUTURE
    assert ours(rows["stripe"], SECRET, signed(judge, age=-30)).ok


@pytest.mark.parametrize(
    "name", ["slack-slack_sdk-(PyPI)", "standard-webhooks-standardwebhooks-(PyPI)", "svix-svix-(PyPI)"]
)
def test_a_time_far_in_the_future_is_refused_by_both(name: str, rows: Mapping[str, Row]) -> None:
    judge = BY_NAME[name]
    sent = signed(judge, age=-400)
    assert not theirs(judge, SECRET, sent)
    assert ours(rows[judge.provider], SECRET, sent).reason == Reason.IN_THE_FUTURE


@pytest.mark.node
def test_zooms_own_code_answers_the_url_validation_as_we_do(node: Node, rows: Mapping[str, Row]) -> None:
    body = '{"event":"endpoint.url_validation","payload":{"plainToken":"qgg8vlvZRS6UYooatFL8Aw"},"event_ts":1}'
    sent = documented.zoom(SECRET, body, int(time.time()))
    theirs = node.ask("rivet", "accepts", secret=SECRET, body=body, headers=dict(sent.headers))
    verdict = verify(rows["zoom"], [OTHER_SECRET, SECRET], sent.request, now=time.time())
    reply = answer(rows["zoom"], [OTHER_SECRET, SECRET], sent.request, verdict)
    assert reply is not None
    assert reply.status == 200
    assert json.loads(reply.body) == json.loads(theirs["reply"])


@pytest.mark.node
def test_metas_question_is_answered_as_whatsapp_api_js_does(node: Node, rows: Mapping[str, Row]) -> None:
    query = "hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=meatyhamhock"
    theirs = node.ask("whatsapp", "answers", secret="meatyhamhock", body=query)["reply"]
    reply = answer(rows["meta"], ["verify_token:meatyhamhock"], Request(method="GET", query=query.encode()))
    assert reply is not None
    assert reply.body.decode() == theirs == "1158201444"
