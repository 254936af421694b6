"""What we sign is accepted by the providers' own code, whether it was old, by another secret, or had no signature."""

import dataclasses
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.inbound import documented
from tests.inbound.judge import BODY, SECRET, URL, Judge, Sent
from tests.inbound.node_judges import NODE_JUDGES, Node, node_judge, running
from tests.inbound.python_judges import PYTHON_JUDGES

from hookbrook.errors import Invalid
from hookbrook.inbound.place import parse_place
from hookbrook.inbound.recipe import Row, read_row
from hookbrook.inbound.request import FORM_TYPE, Request
from hookbrook.inbound.sign import can_sign, encode, put, sign
from hookbrook.inbound.signed import decode
from hookbrook.inbound.verdict import Reason
from hookbrook.inbound.verify import verify

MONTH_S = 30 * 86_400
#: Nobody but they can sign by their certificates.
CERTIFIED = ("amazon-sns", "paypal")
BY_NAME = {str(judge): judge for judge in PYTHON_JUDGES if judge.provider not in CERTIFIED}
SIGNABLE_NODE = {name: facts for name, facts in NODE_JUDGES.items() if facts["provider"] not in CERTIFIED}


def ed25519_hex(secret: str) -> str:
    return documented.ed25519_key(secret).private_bytes_raw().hex()


def ed25519_base64(secret: str) -> str:
    return b64encode(documented.ed25519_key(secret).private_bytes_raw()).decode()


def ec_pem(secret: str) -> str:
    return documented.ec_key(secret).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


#: What signs for the providers whose sources hold a public key.
PRIVATE: Mapping[str, Callable[[str], str]] = {
    "discord": ed25519_hex,
    "telnyx": ed25519_base64,
    "sendgrid": ec_pem,
}


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with running() as node:
        yield node


@pytest.fixture(params=[*BY_NAME, *(pytest.param(name, marks=pytest.mark.node) for name in SIGNABLE_NODE)])
def judge(request: pytest.FixtureRequest, node: Node) -> Judge:
    return BY_NAME[request.param] if request.param in BY_NAME else node_judge(node, request.param)


def resigned(row: Row, judge: Judge, sent: Sent) -> Sent:
    secret = PRIVATE.get(row.id, str)(judge.secrets[0])
    signed = sign(row, secret, sent.request, now=time.time(), id_="msg_1")
    headers = {name.decode(): value.decode("latin-1") for name, value in signed.headers}
    if row.id == "box":
        # Its library is given a dictionary, in which it looks for lower case.
        headers = {name.lower(): value for name, value in headers.items()}
    return Sent(
        headers=headers,
        body=signed.body.decode(),
        url=signed.url,
    )


def accepted_by_both(judge: Judge, row: Row, sent: Sent) -> None:
    verdict = verify(row, [judge.held(judge.secrets[0])], sent.request, now=time.time())
    assert (verdict.ok, verdict.reason, verdict.detail) == (True, Reason.VERIFIED, "")
    assert judge.accepts(judge.secrets[0], sent)


def test_a_month_old_webhook_by_another_secret_passes_when_it_is_signed_anew(
    judge: Judge, rows: Mapping[str, Row]
) -> None:
    row = rows[judge.provider]
    old = judge.sign(judge.secrets[1], judge.body, int(time.time()) - MONTH_S)
    assert not verify(row, [judge.held(judge.secrets[0])], old.request, now=time.time()).ok
    accepted_by_both(judge, row, resigned(row, judge, old))


#: What the providers' own code looks at besides, and we do not.
BESIDES = ("Content-Type", "X-Pusher-Key", "box-signature-version", "box-signature-algorithm", "X-Gitlab-Event")


def test_a_bare_body_becomes_a_webhook(judge: Judge, rows: Mapping[str, Row]) -> None:
    row = rows[judge.provider]
    like = judge.sign(judge.secrets[1], judge.body, int(time.time()) - MONTH_S)
    headers = {name: value for name, value in like.headers.items() if name in BESIDES}
    if judge.provider == "livekit":
        # Its library wants the name of the key as well, which only a token of theirs says.
        headers = dict(like.headers)
    accepted_by_both(judge, row, resigned(row, judge, dataclasses.replace(like, headers=headers, url=URL)))


#: Bodies in which these rows look for more than an object.
BODIES = {
    "microsoft-graph": b'{"value":[{"id":"1"},{"id":"2"}]}',
    "adyen": b'{"notificationItems":[{"NotificationRequestItem":{"eventCode":"A"}}]}',
    "mandrill": b"a=1&b=2",
    "twilio": b"a=1&b=2",
}
PUBLIC: Mapping[str, Callable[[str], str]] = {
    "discord": documented.ed25519_public_hex,
    "telnyx": documented.ed25519_public_base64,
    "sendgrid": documented.ec_public_base64,
}


def secret_for(row: Row) -> str:
    """What `sign` takes for this row."""
    return "ab" * 32 if row.id.startswith("adyen") else PRIVATE.get(row.id, str)(SECRET)


def held_for(row: Row) -> str:
    """What a source has for the same."""
    return PUBLIC[row.id](SECRET) if row.id in PUBLIC else secret_for(row)


def test_every_row_but_those_by_certificate_can_be_signed_and_is_then_accepted(rows: Mapping[str, Row]) -> None:
    refused = {}
    now = 1_795_000_000.25
    for row in rows.values():
        if not can_sign(row):
            refused[row.id] = "certificate"
            continue
        body = BODIES.get(row.id, BODY.encode())
        kind = FORM_TYPE if body.startswith(b"a=") else b"application/json"
        request = Request(method="POST", url=URL, headers=[(b"content-type", kind)], body=body)
        signed = sign(row, secret_for(row), request, now=now, id_="msg_1")
        verdict = verify(row, [held_for(row)], signed, now=now)
        if not verdict.ok:
            refused[row.id] = f"{verdict.reason} {verdict.detail}"
    assert refused == dict.fromkeys(CERTIFIED, "certificate")


def test_what_is_not_signed_keeps_its_bytes_its_order_and_its_repetition(rows: Mapping[str, Row]) -> None:
    headers = [
        (b"x-a", b"1"),
        (b"stripe-signature", b"t=1,v1=00"),
        (b"X-A", b"2"),
        (b"content-type", b"application/json; charset=utf-8"),
    ]
    body = b'{\r\n "n": 1E400, "n": 2}\n'
    request = Request(method="POST", url=URL, headers=headers, query=b"a=%20", body=body)
    signed = sign(rows["stripe"], SECRET, request, now=1_795_000_000, id_="")
    assert [signed.headers[0], *signed.headers[2:]] == [headers[0], *headers[2:]]
    assert signed.headers[1][0] == b"stripe-signature"
    assert signed.headers[1][1].startswith(b"t=1795000000,v1=")
    assert (signed.body, signed.query, signed.method) == (body, b"a=%20", "POST")


def test_the_senders_own_names_of_the_standard_headers_are_kept(rows: Mapping[str, Row]) -> None:
    headers = [(b"svix-id", b"m"), (b"svix-timestamp", b"1"), (b"svix-signature", b"v1,00")]
    signed = sign(rows["svix"], SECRET, Request(method="POST", headers=headers, body=b"{}"), now=2, id_="new")
    assert [name for name, _ in signed.headers] == [name for name, _ in headers]
    assert signed.headers[0] == (b"svix-id", b"m")
    assert verify(rows["svix"], [SECRET], signed, now=2).ok


def test_a_signature_by_a_key_that_we_lack_is_taken_away(rows: Mapping[str, Row]) -> None:
    sent = documented.box_secondary("another", BODY, 1)
    signed = sign(rows["box"], SECRET, sent.request, now=1_795_000_000, id_="")
    assert signed.header(b"box-signature-secondary") == ()
    assert verify(rows["box"], [SECRET], signed, now=1_795_000_000).ok


def test_a_time_within_the_body_is_a_number_or_a_text_as_it_was(rows: Mapping[str, Row]) -> None:
    linear = Request(method="POST", body=b'{"a": 1E400,"webhookTimestamp":1, "b":[ ]}')
    assert sign(rows["linear"], SECRET, linear, now=2, id_="").body == b'{"a":1E400,"webhookTimestamp":2000,"b":[ ]}'
    mailgun = Request(method="POST", body=b'{"signature":{"timestamp":"1","token":"t","signature":""}}')
    assert b'"timestamp":"2","token":"t"' in sign(rows["mailgun"], SECRET, mailgun, now=2, id_="").body


def test_the_url_is_the_one_that_the_program_is_reached_at(rows: Mapping[str, Row]) -> None:
    here = replace(documented.square("another", BODY, 1).request, url="http://localhost:3000/hook?a=1")
    signed = sign(rows["square"], SECRET, here, now=2, id_="")
    assert verify(rows["square"], [SECRET], signed, now=2).ok
    assert not verify(rows["square"], [SECRET], replace(signed, url=URL), now=2).ok


@pytest.mark.parametrize(
    ("provider", "secret", "body", "field"),
    [
        ("adyen-platform", "no hex", b"{}", "secret"),
        ("standard-webhooks", "whsec_!", b"{}", "secret"),
        ("gitlab", "", b"{}", "secret"),
        ("discord", "ab" * 31, b"{}", "secret"),
        ("discord", "-----BEGIN PRIVATE KEY-----", b"{}", "secret"),
        ("sendgrid", ed25519_base64("x"), b"{}", "secret"),
        ("linear", SECRET, b"no json", "body"),
        ("linear", SECRET, b"[1]", "body"),
        ("microsoft-graph", SECRET, b'{"value":1}', "body"),
        ("amazon-sns", SECRET, b"{}", "provider"),
        ("paypal", SECRET, b"{}", "provider"),
    ],
)
def test_what_cannot_be_signed_is_refused_and_the_secret_not_repeated(
    rows: Mapping[str, Row], provider: str, secret: str, body: bytes, field: str
) -> None:
    with pytest.raises(Invalid) as refused:
        sign(rows[provider], secret, Request(method="POST", body=body), now=1, id_="m")
    assert [error.field for error in refused.value.errors] == [field]
    assert not secret or secret not in str(refused.value)


@given(st.binary(max_size=80), st.sampled_from(["hex", "base64", "base64url"]))
def test_what_is_encoded_is_decoded_as_a_row_reads_it(value: bytes, encoding: str) -> None:
    assert decode(encode(value, encoding), encoding) == value  # type: ignore[arg-type]


@pytest.mark.parametrize("place", ["header:X-A", "query:a", "form:a", "json:a.b", "json:list.1", "json:list.*"])
def test_what_is_put_somewhere_is_found_there_alone(place: str) -> None:
    is_json = place.startswith("json")
    request = Request(
        method="POST",
        url=f"{URL}?a=1&b=2",
        query=b"a=1&b=2",
        headers=[(b"x-a", b"1"), (b"X-A", b"2"), (b"content-type", FORM_TYPE)],
        body=b'{"a":{"c":1},"list":["x","y"]}' if is_json else b"a=1&a=2&b=3",
    )
    changed = put(request, parse_place(place), b"new & \xc3\xa9")
    assert set(parse_place(place).values(changed)) == {b"new & \xc3\xa9"}
    assert changed.url.partition("?")[2].encode() == changed.query


def test_nothing_can_be_put_into_two_places_at_once() -> None:
    with pytest.raises(Invalid):
        put(Request(method="POST"), parse_place("header:A + header:B"), b"x")


def test_a_row_of_the_operators_own_is_signed_as_it_says() -> None:
    row = read_row(
        "acme",
        {
            "title": "Acme",
            "verify": {
                "recipe": "hmac",
                "hash": "sha512",
                "signature": {
                    "places": ["header:X-Acme"],
                    "separator": ";",
                    "assign": ":",
                    "name": "s",
                    "encoding": "hex",
                },
                "message": "{m} {t} {header:X-Kind} {b}",
                "timestamp": {"item": "at", "unit": "iso", "past_s": 60, "future_s": 60},
            },
        },
    )
    request = Request(method="POST", headers=[(b"x-kind", b"a")], body=b"1")
    signed = sign(row, SECRET, request, now=1_795_000_000, id_="")
    assert verify(row, [SECRET], signed, now=1_795_000_000).ok
