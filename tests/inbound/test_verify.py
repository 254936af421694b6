"""Verdicts: what is accepted, what is refused and with which words, and that random bytes get a verdict too."""

import time
from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from hmac import digest
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from hookbrook.core.channel import check_name
from hookbrook.core.signing import signature_header
from hookbrook.inbound.challenge import answer
from hookbrook.inbound.providers import load
from hookbrook.inbound.recipe import Row, read_row
from hookbrook.inbound.request import Request
from hookbrook.inbound.signed import MAX_SIGNATURES
from hookbrook.inbound.verdict import Reason, Verdict
from hookbrook.inbound.verify import dedupe_id, verify

NOW = 1_795_000_000
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
BODY = b'{"id":"evt_1","type":"invoice.paid"}'


def hexmac(message: bytes, secret: str = SECRET) -> str:
    return digest(secret.encode(), message, "sha256").hex()


def stripe_headers(value: str) -> list[tuple[bytes, bytes]]:
    return [(b"Stripe-Signature", value.encode())]


def stripe_value(secret: str = SECRET, at: int = NOW, body: bytes = BODY) -> str:
    return f"t={at},v1={hexmac(b'%d.%s' % (at, body), secret)}"


def judge(
    row: Row,
    headers: Sequence[tuple[bytes, bytes]],
    body: bytes = BODY,
    secrets: Sequence[str] = (SECRET,),
    **more: Any,
) -> Verdict:
    return verify(row, secrets, Request(method="POST", headers=headers, body=body, **more), now=NOW)


def row_of(verify_table: Mapping[str, Any], **more: Any) -> Row:
    return read_row("made", {"title": "Made", "verify": verify_table, **more})


# --- what a verdict says ---


def test_a_good_webhook_is_told_with_its_id_type_time_and_what_was_proven(rows: Mapping[str, Row]) -> None:
    assert judge(rows["stripe"], stripe_headers(stripe_value()), secrets=(OTHER, SECRET)) == Verdict(
        ok=True,
        reason=Reason.VERIFIED,
        dedupe_id="evt_1",
        event_type="invoice.paid",
        timestamp=NOW,
        covers=("body", "timestamp"),
        matched_secret=1,
    )


def test_githubs_type_is_event_and_action_and_its_headers_are_not_covered(rows: Mapping[str, Row]) -> None:
    def sent(event: bytes, body: bytes) -> Verdict:
        signature = f"sha256={hexmac(body)}".encode()
        named = [(b"x-github-delivery", b"72d3162e"), (b"X-GitHub-Event", event)]
        return judge(rows["github"], [(b"x-hub-signature-256", signature), *named], body)

    verdict = sent(b"pull_request", b'{"action":"opened"}')
    assert (verdict.event_type, verdict.dedupe_id, verdict.covers) == ("pull_request.opened", "72d3162e", ("body",))
    assert sent(b"push", b'{"ref":"refs/heads/main"}').event_type == "push"
    assert sent(b"push", b'{"action":7}').event_type == "push.7"
    assert sent(b"push", b'{"action":[]}').event_type == "push"


def test_githubs_older_sha1_header_is_never_looked_at(rows: Mapping[str, Row]) -> None:
    sha1 = digest(SECRET.encode(), BODY, "sha1").hex()
    for headers in (
        [(b"x-hub-signature", f"sha1={sha1}".encode())],
        [(b"x-hub-signature-256", f"sha1={sha1}".encode())],
    ):
        assert not judge(rows["github"], headers).ok


def test_slack_forms_and_events_have_ids_and_types(rows: Mapping[str, Row]) -> None:
    def sent(body: bytes, content_type: bytes) -> Verdict:
        signature = f"v0={hexmac(b'v0:%d:%s' % (NOW, body))}".encode()
        headers = [(b"x-slack-signature", signature), (b"x-slack-request-timestamp", b"%d" % NOW)]
        return judge(rows["slack"], [*headers, (b"content-type", content_type)], body)

    event = sent(b'{"type":"event_callback","event_id":"Ev1","event":{"type":"app_mention"}}', b"application/json")
    assert (event.event_type, event.dedupe_id) == ("app_mention", "Ev1")
    command = b"command=%2Fdeploy&trigger_id=13345224609.738474920"
    form = sent(command, b"application/x-www-form-urlencoded; charset=utf-8")
    assert (form.event_type, form.dedupe_id) == ("/deploy", f"sha256:{sha256(command).hexdigest()}")


def test_zoom_repeats_are_known_by_their_body(rows: Mapping[str, Row]) -> None:
    def sent(at: int) -> Verdict:
        signature = f"v0={hexmac(b'v0:%d:%s' % (at, BODY))}".encode()
        return judge(rows["zoom"], [(b"x-zm-signature", signature), (b"x-zm-request-timestamp", b"%d" % at)])

    assert sent(NOW).ok
    assert sent(NOW).dedupe_id == sent(NOW - 60).dedupe_id == f"sha256:{sha256(BODY).hexdigest()}"


def test_standard_webhooks_signed_by_our_own_sender_are_accepted(rows: Mapping[str, Row]) -> None:
    signature = signature_header((OTHER, SECRET), id="evt_9", timestamp=NOW, body=BODY).encode()
    headers = [(b"webhook-id", b"evt_9"), (b"webhook-timestamp", b"%d" % NOW), (b"webhook-signature", signature)]
    verdict = judge(rows["standard-webhooks"], headers)
    assert (verdict.ok, verdict.dedupe_id) == (True, "evt_9")
    assert verdict.covers == ("body", "timestamp", "id")


@pytest.mark.parametrize(
    ("provider", "value", "secret"),
    [
        ("bearer", b"Bearer s3cret", "s3cret"),
        ("bearer", b"bearer s3cret", "s3cret"),
        ("basic", b"Basic " + b64encode(b"user:pass"), "user:pass"),
    ],
)
def test_a_shown_secret_is_compared_and_protects_nothing(
    rows: Mapping[str, Row], provider: str, value: bytes, secret: str
) -> None:
    row = rows[provider]
    verdict = judge(row, [(b"authorization", value)], secrets=(OTHER, secret))
    assert (verdict.ok, verdict.covers, verdict.matched_secret) == (True, (), 1)
    assert judge(row, [(b"authorization", value)], secrets=(OTHER,)).reason == Reason.MISMATCH
    assert judge(row, [(b"authorization", value + b"x")], secrets=(secret,)).reason == Reason.MISMATCH
    assert judge(row, [(b"authorization", b"Digest x")], secrets=(secret,)).reason == Reason.MALFORMED_SIGNATURE
    assert judge(row, [], secrets=(secret,)).reason == Reason.MISSING_SIGNATURE
    assert judge(row, [(b"authorization", value)] * 2, secrets=(secret,)).reason == Reason.AMBIGUOUS
    assert judge(row, [(b"authorization", value)], secrets=()).reason == Reason.NO_SECRET
    assert judge(row, [(b"authorization", b"Bearer ")], secrets=("",)).reason == Reason.NO_SECRET


def test_a_row_without_proof_says_that_it_is_unverified(rows: Mapping[str, Row]) -> None:
    verdict = judge(rows["none"], [(b"idempotency-key", b"k1")], secrets=())
    assert (verdict.ok, verdict.reason, verdict.covers, verdict.dedupe_id) == (True, Reason.UNVERIFIED, (), "k1")


# --- what is refused, and the words for it ---

GOOD = hexmac(b"%d.%s" % (NOW, BODY))
STRIPE_REFUSALS = [
    ("", Reason.MALFORMED_SIGNATURE, "The Stripe-Signature header holds no signature of the expected form."),
    (f"t={NOW}", Reason.MALFORMED_SIGNATURE, "The Stripe-Signature header holds no signature of the expected form."),
    (f"t={NOW},v0={GOOD}", Reason.MALFORMED_SIGNATURE, ""),
    (f"t={NOW},v1=", Reason.MALFORMED_SIGNATURE, ""),
    (f"t={NOW},v1={GOOD[:-1]}", Reason.MALFORMED_SIGNATURE, ""),
    (f"t={NOW},v1={GOOD}zz", Reason.MALFORMED_SIGNATURE, ""),
    (f"t={NOW},v1={GOOD[:-2]}", Reason.MISMATCH, "No signature matches."),
    (f"t={NOW},v1={GOOD}00", Reason.MISMATCH, "No signature matches."),
    (f"v1={GOOD}", Reason.MISSING_TIMESTAMP, "The Stripe-Signature header holds no t=."),
    (f"t=now,v1={GOOD}", Reason.MALFORMED_TIMESTAMP, "The timestamp is not a number of seconds since 1970."),
    (f"t=+{NOW},v1={GOOD}", Reason.MALFORMED_TIMESTAMP, ""),
    (f"t={'9' * 400},v1={GOOD}", Reason.MALFORMED_TIMESTAMP, ""),
    (f"t={NOW},t={NOW},v1={GOOD}", Reason.AMBIGUOUS, "The Stripe-Signature header is there more than once."),
    (f"t={NOW - 1},v1={GOOD}", Reason.MISMATCH, "No signature matches."),
    (stripe_value(at=NOW - 301), Reason.TOO_OLD, "The timestamp is older than 300 s."),
    (stripe_value(at=NOW + 61), Reason.IN_THE_FUTURE, "The timestamp is more than 60 s in the future."),
]


@pytest.mark.parametrize(("value", "reason", "detail"), STRIPE_REFUSALS)
def test_a_refusal_says_what_is_wrong(rows: Mapping[str, Row], value: str, reason: Reason, detail: str) -> None:
    verdict = judge(rows["stripe"], stripe_headers(value))
    assert (verdict.ok, verdict.reason) == (False, reason)
    assert verdict.detail == detail or not detail
    assert (verdict.dedupe_id, verdict.event_type, verdict.covers, verdict.matched_secret) == (None, None, (), None)


def test_a_missing_header_is_named_as_the_provider_writes_it(rows: Mapping[str, Row]) -> None:
    verdict = judge(rows["stripe"], [])
    assert verdict.reason == Reason.MISSING_SIGNATURE
    assert verdict.detail == "The Stripe-Signature header is missing."


def test_the_window_is_judged_to_the_second_at_arrival(rows: Mapping[str, Row]) -> None:
    assert judge(rows["stripe"], stripe_headers(stripe_value(at=NOW - 300))).ok
    assert judge(rows["stripe"], stripe_headers(stripe_value(at=NOW + 60))).ok


def test_the_problem_is_a_401_that_helps_no_forger(rows: Mapping[str, Row]) -> None:
    problem = judge(rows["stripe"], stripe_headers(stripe_value(OTHER))).problem()
    assert problem.as_json() == {
        "type": "urn:hookbrook:problem:bad-signature",
        "title": "The webhook's signature does not hold",
        "status": 401,
        "detail": "No signature matches.",
        "reason": "mismatch",
    }
    assert problem.headers["WWW-Authenticate"]


@pytest.mark.parametrize("secrets", [(), ("",), ("whsec_",), ("whsec_!!",), ("whsec_Zoë",)])
def test_without_a_usable_secret_everything_is_refused(rows: Mapping[str, Row], secrets: tuple[str, ...]) -> None:
    for key in (b"", b"\x00", b"whsec_"):
        signature = b"v1," + b64encode(digest(key, b"m.%d.%s" % (NOW, BODY), "sha256"))
        headers = [(b"webhook-id", b"m"), (b"webhook-timestamp", b"%d" % NOW), (b"webhook-signature", signature)]
        assert judge(rows["standard-webhooks"], headers, secrets=secrets).reason == Reason.NO_SECRET


def test_an_empty_secret_does_not_sign_for_a_plain_key(rows: Mapping[str, Row]) -> None:
    headers = [(b"x-hub-signature-256", b"sha256=" + digest(b"", BODY, "sha256").hex().encode())]
    assert judge(rows["github"], headers, secrets=("",)).reason == Reason.NO_SECRET


def test_an_unusable_secret_does_not_hide_a_good_one(rows: Mapping[str, Row]) -> None:
    signature = signature_header((SECRET,), id="m", timestamp=NOW, body=BODY).encode()
    headers = [(b"svix-id", b"m"), (b"svix-timestamp", b"%d" % NOW), (b"svix-signature", signature)]
    assert judge(rows["standard-webhooks"], headers, secrets=("whsec_!!", SECRET)).matched_secret == 1


# --- several of everything ---


def test_any_of_several_signatures_by_any_of_several_secrets_will_do(rows: Mapping[str, Row]) -> None:
    wrong = "00" * 32
    value = f"t={NOW},v1={wrong},v0=x,v1={GOOD}"
    assert judge(rows["stripe"], stripe_headers(value), secrets=(OTHER, SECRET)).matched_secret == 1
    two_headers = [*stripe_headers(f"t={NOW},v1={wrong}"), *stripe_headers(f"v1={GOOD}")]
    assert judge(rows["stripe"], two_headers).ok


def test_no_more_signatures_are_compared_than_a_rotation_has(rows: Mapping[str, Row]) -> None:
    wrong = "v1=" + "00" * 32
    fits = ",".join([f"t={NOW}", *[wrong] * (MAX_SIGNATURES - 1), f"v1={GOOD}"])
    too_many = ",".join([f"t={NOW}", *[wrong] * MAX_SIGNATURES, f"v1={GOOD}"])
    assert judge(rows["stripe"], stripe_headers(fits)).ok
    assert judge(rows["stripe"], stripe_headers(too_many)).reason == Reason.MISMATCH


def test_a_header_of_a_million_signatures_costs_no_more_than_sixteen(rows: Mapping[str, Row]) -> None:
    headers = stripe_headers(f"t={NOW}," + ",".join(["v1=" + "00" * 32] * 1_000_000))
    started = time.process_time()
    assert not judge(rows["stripe"], headers, secrets=[OTHER] * 10).ok
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize("prefix", ["", "sha256", "SHA256=", "sha255=", "v0=", " sha256 ="])
def test_a_prefix_is_part_of_the_form(rows: Mapping[str, Row], prefix: str) -> None:
    verdict = judge(rows["github"], [(b"x-hub-signature-256", f"{prefix}{hexmac(BODY)}".encode())])
    assert verdict.reason == Reason.MALFORMED_SIGNATURE


@pytest.mark.parametrize("change", ["!", "\n", " ", "=", "A"])
def test_base64_is_read_strictly(rows: Mapping[str, Row], change: str) -> None:
    good = signature_header((SECRET,), id="m", timestamp=NOW, body=BODY)
    signature = (good[:10] + change + good[10:]).encode()
    headers = [(b"webhook-id", b"m"), (b"webhook-timestamp", b"%d" % NOW), (b"webhook-signature", signature)]
    assert not judge(rows["standard-webhooks"], headers).ok


@pytest.mark.parametrize("repeated", [b"webhook-id", b"webhook-timestamp"])
def test_what_is_signed_once_may_not_be_said_twice(rows: Mapping[str, Row], repeated: bytes) -> None:
    signature = signature_header((SECRET,), id="m", timestamp=NOW, body=BODY).encode()
    headers = [(b"webhook-id", b"m"), (b"webhook-timestamp", b"%d" % NOW), (b"webhook-signature", signature)]
    again = [(name, value) for name, value in headers if name == repeated]
    assert judge(rows["standard-webhooks"], headers + again).reason == Reason.AMBIGUOUS


# --- ids ---


def test_an_id_that_a_log_could_not_show_is_replaced_by_its_hash(rows: Mapping[str, Row]) -> None:
    def id_of(delivery: bytes) -> str:
        return dedupe_id(rows["github"], Request(method="POST", headers=[(b"x-github-delivery", delivery)], body=BODY))

    assert id_of(b"a" * 200) == "a" * 200
    assert id_of(b"a" * 201) == f"sha256:{sha256(b'a' * 201).hexdigest()}"
    assert id_of(b"a\x00b") == f"sha256:{sha256(bytes([97, 0, 98])).hexdigest()}"
    assert id_of(b"") == f"sha256:{sha256(BODY).hexdigest()}"


@pytest.mark.parametrize(
    ("value", "expected"), [("42", "42"), ('"x"', "x"), ("true", None), ("null", None), ("[1]", None), ("1" * 60, None)]
)
def test_an_id_in_the_body_is_a_text_or_an_integer(rows: Mapping[str, Row], value: str, expected: str | None) -> None:
    body = f'{{"id":{value}}}'.encode()
    found = dedupe_id(rows["stripe"], Request(method="POST", body=body))
    assert found == (expected or f"sha256:{sha256(body).hexdigest()}")


# --- what single rows need ---


def test_box_signs_with_two_keys_and_either_will_do(rows: Mapping[str, Row]) -> None:
    at = "2026-11-18T08:26:40-07:00"
    good = b64encode(digest(SECRET.encode(), BODY + at.encode(), "sha256"))
    other = b64encode(digest(OTHER.encode(), BODY + at.encode(), "sha256"))
    time_header = (b"box-delivery-timestamp", at.encode())
    for primary, secondary in ((good, other), (other, good)):
        headers = [(b"box-signature-primary", primary), (b"box-signature-secondary", secondary), time_header]
        sent_at = int(datetime.fromisoformat(at).timestamp())
        verdict = verify(rows["box"], [SECRET], Request(method="POST", headers=headers, body=BODY), now=sent_at + 600)
        assert (verdict.ok, verdict.timestamp) == (True, sent_at)
        late = verify(rows["box"], [SECRET], Request(method="POST", headers=headers, body=BODY), now=sent_at + 601)
        assert late.reason == Reason.TOO_OLD


@pytest.mark.parametrize("text", ["yesterday", "2026-11-18T15:26:40", "2026-W47-3", "1795000000", "", "\xff"])
def test_a_time_in_words_needs_date_time_and_offset(rows: Mapping[str, Row], text: str) -> None:
    headers = [(b"box-signature-primary", b"AAAA"), (b"box-delivery-timestamp", text.encode("latin-1"))]
    assert judge(rows["box"], headers).reason == Reason.MALFORMED_TIMESTAMP


def test_twilios_body_that_is_no_form_needs_its_hash_in_the_signed_url(rows: Mapping[str, Row]) -> None:
    def sent(query: str, body: bytes = BODY, content_type: bytes = b"application/json") -> Verdict:
        url = "https://hooks.example/in/twilio" + (f"?{query}" if query else "")
        headers = [(b"x-twilio-signature", b64encode(digest(SECRET.encode(), url.encode(), "sha1")))]
        headers.append((b"content-type", content_type))
        return judge(rows["twilio"], headers, body, url=url, query=query.encode())

    good = f"bodySHA256={sha256(BODY).hexdigest()}"
    assert sent(good).covers == ("body", "url")
    assert sent(good, BODY + b" ").reason == Reason.MISMATCH
    assert sent("").reason == Reason.MISSING_SIGNATURE
    assert sent(f"{good}&{good}").reason == Reason.AMBIGUOUS
    assert sent("", b"").ok
    assert sent("", b"a=1", b"application/x-www-form-urlencoded").reason == Reason.MISMATCH


def test_twilios_form_is_sorted_and_each_value_counts_once(rows: Mapping[str, Row]) -> None:
    url = "https://hooks.example/in/twilio"
    value = b64encode(digest(SECRET.encode(), (url + "a1a2b" + "cé").encode(), "sha1"))
    headers = [(b"x-twilio-signature", value), (b"content-type", b"application/x-www-form-urlencoded")]
    assert judge(rows["twilio"], headers, b"c=%C3%A9&a=2&b=&a=1&a=2", url=url).ok


def test_every_notification_of_microsoft_graph_shows_the_secret(rows: Mapping[str, Row]) -> None:
    def sent(*states: str) -> Reason:
        items = ",".join(f'{{"id":"1"{state}}}' for state in states)
        return judge(rows["microsoft-graph"], [], f'{{"value":[{items}]}}'.encode()).reason

    good = f',"clientState":"{SECRET}"'
    assert sent(good) == sent(good, good) == Reason.VERIFIED
    assert sent(good, "") == sent("", good) == sent(good, ',"clientState":"x"') == Reason.MISMATCH
    assert sent() == Reason.MISSING_SIGNATURE


def test_what_of_a_body_is_not_signed_is_said(rows: Mapping[str, Row]) -> None:
    assert rows["mailgun"].covers == ("timestamp", "fields")
    assert rows["adyen"].covers == ("fields",)
    assert rows["hubspot"].covers == ("body", "timestamp", "url", "method")
    assert rows["gitlab"].covers == ()
    assert rows["qstash"].covers == ("body", "timestamp", "url")


def test_a_token_for_metas_question_signs_nothing(rows: Mapping[str, Row]) -> None:
    secret = "verify_token:meatyhamhock"
    for key in (secret, "meatyhamhock"):
        headers = [(b"x-hub-signature-256", b"sha256=" + hexmac(BODY, key).encode())]
        assert judge(rows["meta"], headers, secrets=(secret,)).reason == Reason.NO_SECRET
        assert judge(rows["meta"], headers, secrets=(secret, SECRET)).reason == Reason.MISMATCH
    good = [(b"x-hub-signature-256", b"sha256=" + hexmac(BODY).encode())]
    assert judge(rows["meta"], good, secrets=(secret, SECRET)).matched_secret == 1


def test_the_signed_string_can_hold_a_header() -> None:
    signature = {"places": ["header:x-sig"], "encoding": "hex"}
    row = row_of({"recipe": "hmac", "message": "{header:X-Nonce}.{b}", "signature": signature})
    headers = [(b"x-sig", hexmac(b"n1." + BODY).encode()), (b"x-nonce", b"n1")]
    assert judge(row, headers).ok
    assert not judge(row, headers[:1]).ok


# --- recipes that no row needs yet ---


def test_the_url_and_method_can_be_signed() -> None:
    signature = {"places": ["header:x-sig"], "encoding": "base64"}
    row = row_of({"recipe": "hmac", "hash": "sha512", "message": "{m}|{u}|{b}", "signature": signature})
    url = "https://hooks.example/in/made?a=1"
    value = b64encode(digest(SECRET.encode(), b"POST|" + url.encode() + b"|" + BODY, "sha512"))
    assert judge(row, [(b"x-sig", value)], url=url).covers == ("body", "url", "method")
    assert not judge(row, [(b"x-sig", value)], url=url.replace("https", "http")).ok


def test_a_key_can_be_hex_and_a_time_in_milliseconds() -> None:
    row = row_of(
        {
            "recipe": "hmac",
            "message": "{t}.{b}",
            "key": {"encoding": "hex"},
            "signature": {"places": ["header:x-sig"], "encoding": "hex"},
            "timestamp": {"places": ["json:sent"], "unit": "ms", "past_s": 60, "future_s": 60},
        }
    )
    body = b'{"sent":%d}' % (NOW * 1000 + 500)
    value = digest(bytes.fromhex("00ff"), b"%d.%s" % (NOW * 1000 + 500, body), "sha256").hex().encode()
    assert judge(row, [(b"x-sig", value)], body, secrets=("00ff",)).timestamp == NOW
    late = verify(row, ["00ff"], Request(method="POST", headers=[(b"x-sig", value)], body=body), now=NOW + 61)
    assert late.reason == Reason.TOO_OLD


ED = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
EC = ec.derive_private_key(12345, ec.SECP256R1())
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def spki(key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


PUBLIC_KEYS = {
    "ed25519": (ED.public_key().public_bytes_raw(), ED.sign),
    "ecdsa_p256": (spki(EC.public_key()), lambda message: EC.sign(message, ec.ECDSA(SHA256()))),
    "rsa_sha256": (spki(RSA.public_key()), lambda message: RSA.sign(message, padding.PKCS1v15(), SHA256())),
}


@pytest.mark.parametrize("algorithm", PUBLIC_KEYS)
def test_a_signature_by_a_private_key_is_verified_with_the_public_one(algorithm: str) -> None:
    public, sign = PUBLIC_KEYS[algorithm]
    row = row_of(
        {
            "recipe": "public_key",
            "algorithm": algorithm,
            "message": "{t}{b}",
            "key": {"encoding": "base64"},
            "signature": {"places": ["header:x-sig"], "encoding": "base64"},
            "timestamp": {"places": ["header:x-time"], "past_s": 300, "future_s": 300},
        }
    )
    headers = [(b"x-sig", b64encode(sign(b"%d%s" % (NOW, BODY)))), (b"x-time", b"%d" % NOW)]
    secrets = [b64encode(key).decode() for key, _ in PUBLIC_KEYS.values()] + ["AAAA", b64encode(public).decode()]
    verdict = judge(row, headers, secrets=secrets)
    assert verdict.ok
    assert secrets[verdict.matched_secret or 0] == b64encode(public).decode()
    assert judge(row, headers, BODY + b" ", secrets=secrets).reason == Reason.MISMATCH
    assert judge(row, headers, secrets=["AAAA"]).reason == Reason.MISMATCH


# --- any bytes ---

ROWS = load()
FUZZED = {
    **ROWS,
    **{
        algorithm: row_of(
            {
                "recipe": "public_key",
                "algorithm": algorithm,
                "message": "{id}{t}{u}{m}{b}",
                "id": ["query:id", "form:id", "json:id"],
                "key": {"encoding": "base64"},
                "signature": {"places": ["json:sig", "form:sig", "header:x-sig"], "encoding": "base64"},
                "timestamp": {"places": ["json:t"], "unit": "ms", "past_s": 300, "future_s": 300},
            }
        )
        for algorithm in PUBLIC_KEYS
    },
}
NAMES = [b"x-hub-signature-256", b"x-github-event", b"x-github-delivery", b"stripe-signature", b"x-slack-signature"]
NAMES += [b"x-slack-request-timestamp", b"x-zm-signature", b"x-zm-request-timestamp", b"webhook-id", b"svix-id"]
NAMES += [b"webhook-timestamp", b"webhook-signature", b"svix-signature", b"authorization", b"content-type", b"x-sig"]
VALUES = st.binary(max_size=40) | st.sampled_from(
    [
        b"%d" % NOW,
        b"t=%d,v1=00" % NOW,
        b"sha256=" + b"00" * 32,
        b"v0=" + b"00" * 32,
        b"v1,AAAA v1a,AAAA v1,",
        b"Bearer x",
        b"Basic AAAA",
        b"application/x-www-form-urlencoded",
        b"\xff\xfe\x00\r\n",
        b"9" * 5_000,
        "٣".encode(),
    ]
)
BODIES = st.binary(max_size=100) | st.sampled_from(
    [
        b"",
        b"[" * 100_000,
        b'{"id":' * 10_000,
        b'{"id":1E400,"type":"\\ud800","sig":"AAAA","t":%d000}' % NOW,
        b'{"id":' + b"1" * 10_000 + b"}",
        b'{"type":{"type":[]},"event":"endpoint.url_validation","payload":{"plainToken":7}}',
        b'{"type":"url_verification","challenge":"\\u0000"}',
        b"id=1&sig=AAAA&" + b"a=&" * 2_000,
        b"\xff" * 50,
    ]
)


@settings(max_examples=400, deadline=2_000)
@given(
    name=st.sampled_from(sorted(FUZZED)),
    method=st.sampled_from(["POST", "GET", "", "\ud800"]),
    headers=st.lists(st.tuples(st.sampled_from(NAMES) | st.binary(max_size=8), VALUES), max_size=12),
    query=st.binary(max_size=40),
    body=BODIES,
    secrets=st.lists(st.sampled_from([SECRET, "AAAA", "x", "", "\ud800", "whsec_"]) | st.text(max_size=10), max_size=3),
    now=st.sampled_from([float(NOW), 0.0, -1.0, 1e300]),
)
def test_any_bytes_get_a_verdict_and_never_an_exception(
    name: str,
    method: str,
    headers: list[tuple[bytes, bytes]],
    query: bytes,
    body: bytes,
    secrets: list[str],
    now: float,
) -> None:
    row = FUZZED[name]
    request = Request(method=method, url="https://\ud800", headers=headers, query=query, body=body)
    verdict = verify(row, secrets, request, now=now)
    answer(row, secrets, request, verdict)
    if name == "none":
        assert verdict.ok
    if verdict.ok:
        assert verdict.dedupe_id
        check_name("type", verdict.event_type or "")
    else:
        assert verdict.detail.isprintable()
        assert verdict.problem().status == 401
    if not any(secrets) and name != "none":
        assert verdict.reason == Reason.NO_SECRET


@settings(max_examples=200)
@given(position=st.integers(0, len(BODY) - 1), bit=st.integers(0, 7), provider=st.sampled_from(["github", "stripe"]))
def test_each_flipped_bit_of_the_body_is_noticed(position: int, bit: int, provider: str) -> None:
    headers = [*stripe_headers(stripe_value()), (b"x-hub-signature-256", f"sha256={hexmac(BODY)}".encode())]
    assert judge(ROWS[provider], headers).ok
    changed = bytearray(BODY)
    changed[position] ^= 1 << bit
    assert judge(ROWS[provider], headers, bytes(changed)).reason == Reason.MISMATCH
