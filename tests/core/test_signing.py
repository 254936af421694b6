"""Standard Webhooks signatures, held against the specification's example and the reference library."""

import hmac
import time
from base64 import b64decode, b64encode, urlsafe_b64decode
from datetime import UTC, datetime

import pytest
import standardwebhooks
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from hookbrook.core.signing import (
    MAX_SIGNATURES,
    MIN_SECRET_BYTES,
    HmacKey,
    SignatureError,
    Verified,
    new_secret,
    parse_secret,
    parse_signing_key,
    sign,
    signature_header,
    verify,
)
from hookbrook.errors import Invalid, Unauthorized

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
NOW = 1_674_087_231
ID = "evt_1"
BODY = b'{"type":"invoice.paid"}'


def headers(*secrets: str, timestamp: int = NOW, body: bytes = BODY, prefix: str = "webhook") -> dict[str, str]:
    signature = signature_header(secrets or (SECRET,), id=ID, timestamp=timestamp, body=body)
    return {f"{prefix}-id": ID, f"{prefix}-timestamp": str(timestamp), f"{prefix}-signature": signature}


def refusal(given_headers: dict[str, str], body: bytes = BODY, now: float = NOW) -> str:
    with pytest.raises(SignatureError) as caught:
        verify(SECRET, given_headers, body, now=now)
    return caught.value.detail


def test_the_signature_published_with_the_scheme_is_ours_too() -> None:
    # The worked example that Svix, who wrote the specification, publish for "verifying payloads manually".
    signature = sign(SECRET, id="msg_p5jXN8AQM9LWM0D4loKWxJek", timestamp=1_614_265_330, body=b'{"test": 2432232314}')
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(body=st.text(), id_=st.text("abcdefghijklmnop_0123456789", min_size=1))
def test_the_reference_library_accepts_what_we_sign(body: str, id_: str) -> None:
    now = int(time.time())
    signed = {"webhook-id": id_, "webhook-timestamp": str(now)}
    signed["webhook-signature"] = sign(SECRET, id=id_, timestamp=now, body=body.encode())
    standardwebhooks.Webhook(SECRET).verify(body, signed, json_parse=False)


@given(body=st.text())
def test_we_accept_what_the_reference_library_signs(body: str) -> None:
    signature = standardwebhooks.Webhook(SECRET).sign(ID, datetime.fromtimestamp(NOW, UTC), body)
    signed = {"webhook-id": ID, "webhook-timestamp": str(NOW), "webhook-signature": signature}
    assert verify(SECRET, signed, body.encode(), now=NOW) == Verified(id=ID, timestamp=NOW)


def test_any_secret_and_any_signature_will_do() -> None:
    both = headers(OTHER, SECRET)
    assert both["webhook-signature"].count("v1,") == 2
    verify(SECRET, both, BODY, now=NOW)
    verify([new_secret(lambda n: b"x" * n), OTHER], both, BODY, now=NOW)


def test_header_names_come_in_any_case_as_bytes_and_with_the_older_prefix() -> None:
    verify(SECRET, {name.title(): value for name, value in headers().items()}, BODY, now=NOW)
    verify(SECRET, [(name.encode(), value.encode()) for name, value in headers().items()], BODY, now=NOW)
    verify(SECRET, headers(prefix="svix"), BODY, now=NOW)


def test_signatures_of_unknown_versions_and_broken_ones_are_passed_over() -> None:
    signed = headers()
    signed["webhook-signature"] = f"v1a,AAAA v1,not/base64! v1 ,, v2,x {signed['webhook-signature']}"
    verify(SECRET, signed, BODY, now=NOW)


@pytest.mark.parametrize("version", ["v1a", "v2", "v0", "", "V1"])
def test_a_signature_counts_only_under_its_own_version(version: str) -> None:
    signed = headers()
    signed["webhook-signature"] = signed["webhook-signature"].replace("v1,", f"{version},")
    assert refusal(signed) == "No signature matches."


def test_no_more_signatures_are_looked_at_than_a_rotation_has() -> None:
    signed = headers()
    wrong = "v1," + b64encode(bytes(32)).decode()
    good = signed["webhook-signature"]
    signed["webhook-signature"] = " ".join([wrong] * (MAX_SIGNATURES - 1) + [good])
    verify(SECRET, signed, BODY, now=NOW)
    signed["webhook-signature"] = " ".join([wrong] * MAX_SIGNATURES + [good])
    assert refusal(signed) == "No signature matches."


@pytest.mark.parametrize("missing", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_missing_header_is_named(missing: str) -> None:
    signed = headers()
    del signed[missing]
    assert refusal(signed) == f"The {missing} header is missing."


def test_the_window_is_judged_both_ways_to_the_second() -> None:
    verify(SECRET, headers(), BODY, now=NOW + 300)
    verify(SECRET, headers(), BODY, now=NOW - 300)
    assert refusal(headers(), now=NOW + 301) == "The timestamp is older than 300 s."
    assert refusal(headers(), now=NOW - 301) == "The timestamp is more than 300 s in the future."


@pytest.mark.parametrize("text", ["", " ", "1674087231.5", "-1", "1e9", "٣", "1_0", "9" * 400, "0x10"])
def test_a_timestamp_that_is_no_number_of_seconds_is_refused(text: str) -> None:
    assert "timestamp" in refusal({**headers(), "webhook-timestamp": text})


def test_a_changed_body_id_or_time_is_refused() -> None:
    assert refusal(headers(), body=BODY + b" ") == "No signature matches."
    assert refusal({**headers(), "webhook-id": "evt_2"}) == "No signature matches."
    assert refusal({**headers(), "webhook-timestamp": str(NOW + 1)}) == "No signature matches."


def test_a_refusal_is_a_401_that_says_nothing_of_the_secret_or_the_digest() -> None:
    signed = headers(OTHER)
    with pytest.raises(Unauthorized) as caught:
        verify(SECRET, signed, BODY, now=NOW)
    assert caught.value.status == 401
    expected = sign(SECRET, id=ID, timestamp=NOW, body=BODY).removeprefix("v1,")
    assert expected not in repr(caught.value)
    assert SECRET not in repr(caught.value)


@given(
    headers=st.lists(
        st.tuples(
            st.sampled_from([b"webhook-id", b"webhook-timestamp", b"webhook-signature", b"svix-signature"])
            | st.binary(max_size=20),
            st.binary(max_size=60) | st.builds(lambda b: b"v1," + b64encode(b), st.binary(max_size=40)),
        )
    ),
    body=st.binary(max_size=200),
)
def test_random_headers_and_bodies_are_refused_and_nothing_else_is_raised(
    headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    with pytest.raises(SignatureError):
        verify(SECRET, headers, body, now=NOW)


@given(st.binary(min_size=64, max_size=64))
def test_a_new_secret_is_one_that_the_reference_library_and_we_can_read(randomness: bytes) -> None:
    secret = new_secret(lambda count: randomness[:count])
    assert len(parse_secret(secret).key) == 32
    standardwebhooks.Webhook(secret)


@pytest.mark.parametrize(
    ("secret", "message"),
    [
        ("", "starts with whsec_"),
        ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "starts with whsec_"),
        ("whsec_", "holds 24 to 64 bytes, this one 0"),
        ("whsec_c2hvcnQ=", "this one 5"),
        ("whsec_" + b64encode(bytes(65)).decode(), "this one 65"),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS!", "not base64"),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n", "not base64"),
        ("whsec_Zoë", "not base64"),
    ],
)
def test_a_secret_that_is_none_is_explained_without_showing_it(secret: str, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_secret(secret)
    assert message in str(caught.value)
    assert not secret.removeprefix("whsec_").strip() or secret.removeprefix("whsec_").strip() not in str(caught.value)


def test_a_key_does_not_show_itself() -> None:
    assert "key=" not in repr(parse_secret(SECRET))


# Ed25519, judged by libsodium.


def libsodium_pair() -> tuple[SigningKey, str, str]:
    key = SigningKey.generate()
    return key, "whsk_" + b64encode(bytes(key)).decode(), "whpk_" + b64encode(bytes(key.verify_key)).decode()


@given(body=st.binary(), id_=st.text("abcdefghijklmnop_0123456789", min_size=1))
def test_libsodium_verifies_what_we_sign_with_ed25519(body: bytes, id_: str) -> None:
    key, private, _ = libsodium_pair()
    version, _, signature = sign(private, id=id_, timestamp=NOW, body=body).partition(",")
    assert version == "v1a"
    key.verify_key.verify(f"{id_}.{NOW}.".encode() + body, b64decode(signature))


def test_we_verify_what_libsodium_signs_and_nothing_else() -> None:
    key, _, public = libsodium_pair()
    signature = key.sign(f"{ID}.{NOW}.".encode() + BODY).signature
    signed = headers()
    signed["webhook-signature"] = "v1a," + b64encode(signature).decode()
    assert verify(public, signed, BODY, now=NOW) == Verified(id=ID, timestamp=NOW)
    assert verify([SECRET, public], signed, BODY, now=NOW).id == ID
    for secrets, body in ((public, BODY + b" "), (libsodium_pair()[2], BODY), (SECRET, BODY)):
        with pytest.raises(SignatureError):
            verify(secrets, signed, body, now=NOW)
    signed["webhook-signature"] = "v1," + b64encode(signature).decode()
    with pytest.raises(SignatureError):
        verify(public, signed, BODY, now=NOW)


def test_a_receiver_with_either_kind_of_key_finds_its_signature_among_several() -> None:
    _, private, public = libsodium_pair()
    both = headers(OTHER, private, SECRET)
    assert [each.split(",")[0] for each in both["webhook-signature"].split()] == ["v1", "v1a", "v1"]
    for secret in (SECRET, OTHER, public):
        verify(secret, both, BODY, now=NOW)
    time_now = int(time.time())
    standardwebhooks.Webhook(SECRET).verify(BODY.decode(), headers(private, SECRET, timestamp=time_now))


def test_a_private_key_is_read_alone_or_with_its_public_half_and_no_other() -> None:
    key, private, public = libsodium_pair()
    whole = "whsk_" + b64encode(bytes(key) + bytes(key.verify_key)).decode()
    assert str(parse_signing_key(whole).public) == str(parse_signing_key(private).public) == public
    stranger = "whsk_" + b64encode(bytes(key) + bytes(SigningKey.generate().verify_key)).decode()
    with pytest.raises(Invalid):
        parse_signing_key(stranger)


@given(st.binary(min_size=32, max_size=32))
def test_whatever_calls_itself_a_public_key_refuses_without_another_error(key: bytes) -> None:
    signed = headers()
    signed["webhook-signature"] = "v1a," + b64encode(bytes(64)).decode() + " v1a,AAAA"
    with pytest.raises(SignatureError):
        verify("whpk_" + b64encode(key).decode(), signed, BODY + key, now=NOW)


@pytest.mark.parametrize("text", ["whpk_", "whpk_AAAA", "whpk_!", "whpk_" + b64encode(bytes(33)).decode()])
def test_a_public_key_that_is_none_is_told(text: str) -> None:
    with pytest.raises(Invalid):
        verify(text, headers(), BODY, now=NOW)


def test_a_private_key_is_never_shown_and_does_not_verify() -> None:
    _, private, _ = libsodium_pair()
    assert private[5:] not in repr(parse_signing_key(private))
    with pytest.raises(Invalid) as caught:
        verify(private, headers(), BODY, now=NOW)
    assert private[5:] not in str(caught.value)


def test_a_public_key_as_a_jwk_is_the_one_of_the_rfcs() -> None:
    # RFC 8037 appendix A.1 to A.3: a key, its public half, and its thumbprint.
    seed = urlsafe_b64decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
    public = parse_signing_key("whsk_" + b64encode(seed).decode()).public
    jwk = public.as_jwk()
    assert (jwk["kty"], jwk["crv"]) == ("OKP", "Ed25519")
    assert jwk["x"] == "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
    assert jwk["kid"] == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


@given(st.binary(min_size=MIN_SECRET_BYTES, max_size=200), st.lists(st.binary(), min_size=1, max_size=3))
def test_the_prepared_key_signs_as_the_standard_library_does(key: bytes, messages: list[bytes]) -> None:
    prepared = HmacKey(key=key)
    assert [prepared.sign(message) for message in messages] == [
        hmac.digest(key, message, "sha256") for message in messages
    ]
