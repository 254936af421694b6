"""Requests made of any bytes, for every provider: what `test_fuzz.py` (hypothesis) and `fuzz.py` (atheris) try.

The bytes choose a provider, whose headers they fill, half of them with what a real sender would write there: pure
garbage is refused at the first step and would try nothing else.
"""

import base64
import json
from collections.abc import Sequence
from urllib.parse import quote

from tests.inbound import documented

from hookbrook.core.channel import RESERVED, check_name
from hookbrook.core.event import NewEvent
from hookbrook.core.source import Source
from hookbrook.http.intake import Arrival, Intake, Judged
from hookbrook.inbound.case import Case
from hookbrook.inbound.explain import explain
from hookbrook.inbound.place import HeaderPlace
from hookbrook.inbound.providers import load
from hookbrook.inbound.recipe import Row
from hookbrook.inbound.request import Request

NOW = 1_795_450_800
ROWS = load()
PROVIDERS = sorted(ROWS)
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#: Secrets of those whose scheme does not take any text.
SECRETS = {
    "discord": documented.ed25519_public_hex(SECRET),
    "telnyx": documented.ed25519_public_base64(SECRET),
    "sendgrid": documented.ec_public_base64(SECRET),
    "adyen": "00ff",
    "adyen-platform": "00ff",
    "amazon-sns": documented.TOPIC,
    "paypal": "9XL90610J3647323C",
}
#: What stands in such places.
USUAL = (
    b"",
    b"%d" % NOW,
    b"%d000" % NOW,
    b"2026-11-23T16:20:00Z",
    b"t=%d,v1=%s" % (NOW, b"ab" * 32),
    b"t=%d,t=1,v1=zz,v1=%s" % (NOW, b"ab" * 32),
    b"v1," + base64.b64encode(bytes(32)),
    b"sha256=" + b"ab" * 32,
    b"v0=" + b"ab" * 32,
    b"ab" * 64,
    base64.b64encode(bytes(64)),
    documented.PAYPAL_CERTIFICATE_URL.encode(),
    b"SHA256withRSA",
    b"Bearer " + SECRET.encode(),
    b"Basic " + base64.b64encode(SECRET.encode()),
    b"eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjk5OTk5OTk5OTl9." + b"A" * 43,
    b"eyJhbGciOiJub25lIn0.e30.",
    b"application/x-www-form-urlencoded",
    b"application/json",
    b"gzip",
    b"push",
    SECRET.encode(),
)
#: Templates of the operator's that ask for what is not theirs.
REACHING = (
    "{headers.authorization}",
    "{headers.cookie}",
    '{body."__class__"."__mro__"}',
    "{keys(@)[0]}",
    "{to_string(@)}",
    '{body.a || headers."x-a" || query.a}',
    "x.{join('.', values(headers))}",
)


class Bytes:
    """Takes bytes off the front; zeros when there are no more."""

    def __init__(self, data: bytes) -> None:
        self._rest = data

    def number(self) -> int:
        return self.take(1)[0]

    def take(self, count: int) -> bytes:
        taken, self._rest = self._rest[:count], self._rest[count:]
        return taken.ljust(count, b"\0")

    def rest(self) -> bytes:
        taken, self._rest = self._rest, b""
        return taken


def judge(data: bytes) -> Judged:
    """Raises AssertionError for a verdict that is none, and whatever the code under test should not have raised."""
    source = Bytes(data)
    row = ROWS[PROVIDERS[source.number() % len(PROVIDERS)]]
    shape = source.number()
    template = REACHING[shape % len(REACHING)] if shape & 128 else None
    headers = [(_name(row, source.number()), _value(source)) for _ in range(source.number() % 8)]
    query = source.take(source.number() % 32) if shape & 1 else b"a=1&bodySHA256=" + b"0" * 64
    body = source.rest()
    if shape & 2:
        body = _wrapped(row, body)
    elif shape & 4:
        body = b"a=1&mandrill_events=" + quote(body).encode()
    intake = Intake(
        Source(
            id="src_1",
            name="in",
            provider=row.id,
            secrets=(SECRETS.get(row.id, SECRET),),
            channel=template,
            type=template,
            dedupe=template,
            enforce=not shape & 8,
            created=0,
            updated=0,
        ),
        row,
        bytes,
    )
    request = Request(
        method="POST", url="https://a/in/in", headers=headers, lowered=True, query=query, body=body,
        members=intake.members,
    )  # fmt: skip
    judged = intake.judge(request, Arrival(at=NOW * 1_000_000, path="/in/in", address="192.0.2.1"), None)
    _check(intake, judged)
    if not judged.verdict.ok:
        case = Case(
            row=row, secrets=intake.source.secrets, request=request, verdict=judged.verdict, now=NOW, rows=ROWS
        )  # fmt: skip
        assert explain(case).sentence
    return judged


def _name(row: Row, number: int) -> bytes:
    places = [place.key for place in (*row.verify.places_read, *row.dedupe) if isinstance(place, HeaderPlace)]
    names = [*places, b"content-type", b"content-encoding", b"authorization", b"cookie", b"x-a"]
    return names[number % len(names)]


def _value(source: Bytes) -> bytes:
    number = source.number()
    return USUAL[number % len(USUAL)] if number & 128 else source.take(number)


def _wrapped(row: Row, body: bytes) -> bytes:
    """JSON with the members that the row looks at, all of them holding the same text or number."""
    text = body.decode("latin-1")
    value: object = text if len(text) % 3 else [{"id": text, "event": {"type": text}}, text, None]
    names: Sequence[str] = sorted(row.members or ("a",))
    return json.dumps(dict.fromkeys(names, value)).encode()


def _check(intake: Intake, judged: Judged) -> None:
    if judged.reply is not None:
        assert judged.reply.status in (200, 204)
        return
    if judged.events is None:
        assert not judged.verdict.ok
        assert intake.source.enforce
        problem = judged.verdict.problem()
        assert problem.status == 401
        return
    for event in judged.events:
        _check_event(event, judged)
        kept = json.loads(event.request or b"{}")["headers"]
        assert all(value == "***" for name, value in kept if name in ("authorization", "cookie"))


def _check_event(event: NewEvent, judged: Judged) -> None:
    [channel] = event.channels
    if judged.verdict.ok:
        check_name("channel", channel)
        assert not channel.lower().startswith(RESERVED)
    check_name("type", event.type)
    assert not event.type.lower().startswith(RESERVED)
    assert 0 < len(event.dedupe_id) <= 200
    assert event.dedupe_id.isascii()
    assert event.dedupe_id.isprintable()
