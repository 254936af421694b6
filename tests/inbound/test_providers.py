"""The table of providers: complete, extendable by the operator, and refused at the start when a row is wrong."""

from typing import Any

import pytest
from tests.inbound import documented

from hookbrook.errors import ConfigError, Invalid
from hookbrook.inbound.providers import MAX_SECRETS, check_secrets, load
from hookbrook.inbound.recipe import Row, Token

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def acme(**changes: Any) -> dict[str, Any]:
    recipe: dict[str, Any] = {
        "recipe": "hmac",
        "signature": {"places": ["header:X-Acme-Signature"], "encoding": "hex"},
        "message": "{b}",
    }
    for path, value in changes.items():
        *parents, last = path.split("__")
        table = recipe
        for name in parents:
            table = table.setdefault(name, {})
        table[last] = value
    return {"acme": {"title": "Acme", "verify": recipe}}


def test_every_provider_of_ours_says_where_its_facts_are_from() -> None:
    rows = load()
    assert {"github", "stripe", "slack", "zoom", "standard-webhooks", "svix", "openai", "resend", "clerk"} <= set(rows)
    for row in rows.values():
        if row.id != "none":
            assert row.source_url.startswith("https://"), row.id
            assert row.checked_on is not None, row.id
        assert row.setup, row.id


#: Rows of a provider for which no third-party code was found that is small enough to be tested with.
UNJUDGED = {
    *("bitbucket", "dropbox", "intercom", "jira", "mailgun", "microsoft-graph", "okta", "pagerduty"),
    *("postmark", "trello", "twitch", "typeform", "vercel", "x", "zendesk"),
}
#: Schemes that anybody may use, rather than somebody's.
GENERAL = {"basic", "bearer", "cloudevents", "none"}


def test_every_other_provider_has_a_judge() -> None:
    rows = load()
    assert len(rows) - len(GENERAL) >= 40
    assert {row.id for row in rows.values() if not row.judge} == UNJUDGED | GENERAL


def test_an_operator_can_add_replace_and_extend_rows() -> None:
    rows = load({**acme(), "mine": {"extends": "stripe", "title": "Mine", "type": "mine.{body.kind}"}})
    assert rows["acme"].verify.covers == ("body",)
    assert rows["mine"].verify == load()["stripe"].verify
    assert (rows["mine"].id, rows["mine"].title) == ("mine", "Mine")
    assert rows["mine"].type.render({"body": {"kind": "x"}}) == "mine.x"


@pytest.mark.parametrize(
    ("declared", "key", "message"),
    [
        (acme(hash="md5"), "providers.acme.verify.hash", "md5"),
        (acme(recipe="magic"), "providers.acme.verify.recipe", "magic"),
        (acme(message="{x}"), "providers.acme.verify.message", "{x} is unknown"),
        (acme(message="fixed"), "providers.acme.verify.message", "same for every request"),
        (acme(message="{t}.{b}"), "providers.acme.verify", "signs {t}"),
        (acme(message="{id}.{b}"), "providers.acme.verify", "signs {id}"),
        (acme(signature__places=[]), "providers.acme.verify.signature", "at least one place"),
        (acme(signature__places=["cookie:x"]), "providers.acme.verify.signature.places[0]", "is no place"),
        (acme(signature__places=[7]), "providers.acme.verify.signature.places[0]", "expected a text"),
        (acme(signature__name="v1"), "providers.acme.verify.signature", "belong together"),
        (acme(signature__encoding="rot13"), "providers.acme.verify.signature.encoding", "rot13"),
        (acme(signature__colour="red"), "providers.acme.verify.signature", "colour"),
        (acme(timestamp={"item": "t", "past_s": 1, "future_s": 1}), "providers.acme.verify", "no `assign`"),
        (acme(timestamp={"past_s": 1, "future_s": 1}), "providers.acme.verify.timestamp", "either"),
        (acme(timestamp={"item": "t", "past_s": 0, "future_s": 1}), "providers.acme.verify.timestamp", "at least 1"),
        (acme(message="{json:}"), "providers.acme.verify.message", "is no place"),
        (
            acme(timestamp={"item": "t", "unit": "h", "past_s": 1, "future_s": 1}),
            "providers.acme.verify.timestamp.unit",
            "h",
        ),
        ({"acme": {**acme()["acme"], "split": "xml"}}, "providers.acme", "`split`"),
        ({"acme": {**acme()["acme"], "split": "form:"}}, "providers.acme", "`split`"),
        (
            {"acme": {"title": "A", "verify": {"recipe": "certificate", "scheme": "sns", "hosts": ["a.example"]}}},
            "providers.acme.verify",
            "needs a `timestamp`",
        ),
        ({"acme": {"title": "A"}}, "providers.acme", "verify"),
        ({"acme": {**acme()["acme"], "type": "{body."}}, "providers.acme.type", "brace"),
        ({"acme": {**acme()["acme"], "checked_on": "soon"}}, "providers.acme.checked_on", "date"),
        ({"acme": {"extends": "nobody"}}, "providers.acme.extends", "names no provider"),
        ({"acme": {"extends": "svix"}}, "providers.acme.extends", "extends another"),
        ({"acme": 7}, "providers.acme", "is a table"),
        ({"A b": {}}, "providers.A b", "a-z"),
    ],
)
def test_a_row_that_is_wrong_stops_the_start_and_names_its_key(
    declared: dict[str, Any], key: str, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(declared)
    assert caught.value.key == key
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("challenge", "message"),
    [
        ({"when": [], "signed": True, "text": "x"}, "swallow every webhook"),
        ({"when": [{"place": "json:a"}], "signed": True}, "either `text` or `json`"),
        ({"when": [{"place": "json:a"}], "signed": True, "text": "{value}"}, "does not say where"),
        ({"when": [{"place": "json:a"}], "signed": True, "value": "json:a", "text": "{secret}"}, "{secret} is unknown"),
        ({"when": [{"place": "json:a"}], "text": "x"}, "signed"),
        ({"method": "GET", "when": [], "signed": True, "text": "x"}, "only a POST"),
        (
            {"when": [{"place": "json:a"}], "signed": True, "text": "", "headers": {"X": "{value}"}},
            "does not say where",
        ),
    ],
)
def test_a_challenge_that_is_wrong_stops_the_start(challenge: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match="challenges") as caught:
        load({"acme": {**acme()["acme"], "challenges": [challenge]}})
    assert message in str(caught.value)


def test_an_hmac_challenge_needs_an_hmac_recipe() -> None:
    challenge = {"when": [{"place": "json:a"}], "signed": True, "value": "json:a", "text": "{hmac:hex}"}
    token = {"recipe": "token", "places": ["header:x-token"]}
    with pytest.raises(ConfigError, match="not hmac"):
        load({"acme": {"title": "A", "verify": token, "challenges": [challenge]}})


def row(name: str) -> Row:
    return load()[name]


def test_good_secrets_pass() -> None:
    check_secrets(row("stripe"), ["whsec_abc", "any text"])
    check_secrets(row("standard-webhooks"), [SECRET, SECRET.removeprefix("whsec_"), "whsec_YWJj", "whsec_YWI"])
    check_secrets(row("bearer"), ["a b"])
    check_secrets(row("none"), [])
    check_secrets(row("paypal"), ["9XL90610J3647323C"])
    assert isinstance(row("bearer").verify, Token)


@pytest.mark.parametrize(
    ("provider", "secret", "message"),
    [
        ("stripe", "", "it is empty"),
        ("bearer", "", "it is empty"),
        ("github", "s3cret\n", "white space"),
        ("standard-webhooks", "whsec_", "it is empty"),
        ("standard-webhooks", "whsec_n0t*base64", "not base64"),
        ("standard-webhooks", "whsec_Zoë", "not base64"),
        ("meta", "verify_token:", "it is empty"),
        ("livekit", "", "it is empty"),
        ("discord", "00" * 31, "no public key of the kind ed25519"),
        ("telnyx", "TUlHZk1BMEdDU3FHU0liM0RRRUJBUVVBQTRHTkFEQ0JpUUtCZ1FE", "no public key of the kind ed25519"),
        ("sendgrid", documented.ed25519_public_base64("x"), "no public key of the kind ecdsa_p256"),
        ("paypal", "EGnHDxD_qRPdaLdZz8iCr8N7", "not the id of a webhook"),
        ("paypal", "WEBHOOK_ID", "not the id of a webhook"),
        ("basic", "a-password-alone", "`name:password`"),
        ("postmark", "a-password-alone", "`name:password`"),
    ],
)
def test_a_secret_that_the_scheme_cannot_use_is_named_and_not_shown(provider: str, secret: str, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_secrets(row(provider), [secret])
    assert [error.field for error in caught.value.errors] == ["secrets[0]"]
    assert message in str(caught.value)
    assert not secret.removeprefix("whsec_").strip() or secret.removeprefix("whsec_").strip() not in str(caught.value)


def test_the_secret_that_is_wrong_is_named_among_good_ones() -> None:
    with pytest.raises(Invalid) as caught:
        check_secrets(row("stripe"), [SECRET, "", SECRET])
    assert [error.field for error in caught.value.errors] == ["secrets[1]"]


def test_a_public_key_is_read_as_such() -> None:
    check_secrets(row("discord"), [documented.ed25519_public_hex("x")])
    check_secrets(row("telnyx"), [documented.ed25519_public_base64("x")])
    check_secrets(row("sendgrid"), [documented.ec_public_base64("x")])


def test_a_key_in_hex_is_read_as_such() -> None:
    check_secrets(row("adyen"), ["00ff"])
    with pytest.raises(Invalid, match="not hex"):
        check_secrets(row("adyen"), ["xyz"])


def test_the_number_of_secrets_is_limited() -> None:
    with pytest.raises(Invalid, match="at most 10"):
        check_secrets(row("github"), ["x"] * (MAX_SECRETS + 1))
