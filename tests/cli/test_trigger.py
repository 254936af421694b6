"""`hookbrook trigger` against a real server, and against a program that the provider's own library guards."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
import stripe
from tests.cli.receiver import Receiver
from tests.inbound.documented import b64mac, ed25519_key, ed25519_public_hex
from tests.served import Served
from typer.testing import CliRunner, Result

from hookbrook import Hookbrook
from hookbrook.cli.commands import app
from hookbrook.inbound.sample import load

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("trigger"), "--dev") as process:
        with Hookbrook(process.url) as brook:
            for name, provider, secret in (
                ("billing", "stripe", SECRET),
                ("gl1", "gitlab", "one"),
                ("gl2", "gitlab", "two"),
                ("dc", "discord", ed25519_public_hex(SECRET)),
            ):
                brook.request("POST", "/v1/sources", json={"name": name, "provider": provider, "secrets": [secret]})
        yield process


class Run(Protocol):
    def __call__(self, *arguments: str, fails: bool = False) -> Result: ...


@pytest.fixture
def run(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, fails: bool = False) -> Result:
        environment = {"HOOKBROOK_URL": served.url, "HOOKBROOK_KEY": None, "HOOKBROOK_SOURCE_SECRET": None}
        environment |= {"COLUMNS": "200"}
        result = CliRunner().invoke(app, ["trigger", *arguments], env=environment)
        assert (result.exit_code != 0) == fails, (result.output, result.exception)
        return result

    return run


def last(served: Served, channel: str) -> Any:
    with Hookbrook(served.url) as brook:
        return list(brook.pages("/v1/events", {"channel": channel}))[-1]


def test_all_samples_are_listed(run: Run) -> None:
    said = run("--list").stdout
    assert all(type_ in said for types in load().values() for type_ in types)
    assert run().stdout == said
    assert "github" not in run("stripe", "--list").stdout
    assert "'nobody'" in run("nobody", "--list", fails=True).output


def test_the_server_signs_by_the_sources_secret(served: Served, run: Run) -> None:
    assert run("stripe", "invoice.paid").stdout.startswith('billing: 200  {"id":"evt_')
    event = last(served, "billing")
    assert (event["type"], event["data"]["data"]["object"]["object"]) == ("invoice.paid", "invoice")


def test_the_body_is_changed_as_asked(served: Served, run: Run, tmp_path: Path) -> None:
    run(
        "stripe",
        "invoice.paid",
        "--set",
        "data.object.amount_paid=7",
        "--set",
        "data.object.note=a=b",
        "--set",
        "x.y=[1]",
    )
    data = last(served, "billing")["data"]
    assert (data["data"]["object"]["amount_paid"], data["data"]["object"]["note"], data["x"]) == (7, "a=b", {"y": [1]})
    (tmp_path / "own.json").write_text('{"id": "evt_own", "type": "mine"}')
    run("stripe", "--file", "own.json")
    assert last(served, "billing")["type"] == "mine"


def test_it_is_edited_before_it_is_signed(served: Served, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISUAL", "sed -i -e s/invoice.paid/invoice.edited/g")
    run("stripe", "invoice.paid", "--edit")
    assert last(served, "billing")["type"] == "invoice.edited"
    monkeypatch.setenv("VISUAL", "truncate -s 0")
    assert run("stripe", "invoice.paid", "--edit").stdout == ""


def test_of_several_sources_one_has_to_be_named(served: Served, run: Run) -> None:
    said = run("gitlab", "push", fails=True)
    assert "--source gl1" in said.output
    assert run("gitlab", "push", "--source", "gl2").stdout.startswith("gl2: 200")
    assert "hookbrook sources add" in run("zoom", "meeting.started", fails=True).output


def test_with_a_secret_no_administrator_is_needed_to_sign(served: Served, run: Run) -> None:
    assert ": 200" in run("gitlab", "push", "--source", "gl1", "--secret", "one").stdout
    assert ": 401" in run("gitlab", "push", "--source", "gl1", "--secret", "wrong", fails=True).stdout
    # The source holds the public half, which cannot sign.
    assert "private key" in str(run("discord", "APPLICATION_AUTHORIZED", fails=True).exception)
    private = ed25519_key(SECRET).private_bytes_raw().hex()
    assert ": 204" in run("discord", "APPLICATION_AUTHORIZED", "--secret", private).stdout


def test_any_url_gets_what_the_providers_own_library_accepts(run: Run) -> None:
    with Receiver() as program:
        run("stripe", "checkout.session.completed", "--to", program.url, "--secret", SECRET)
        run("square", "payment.updated", "--to", program.url, "--secret", "s")
        run("none", "--file", "/dev/null", "--to", program.url)
    paid, square, empty = program.seen
    event = stripe.Webhook.construct_event(paid.body, paid.header("stripe-signature"), SECRET)
    assert event.type == "checkout.session.completed"
    assert square.header("x-square-hmacsha256-signature") == b64mac("s", program.url + square.body.decode())
    assert empty.body == b""


def test_an_answer_that_is_no_success_ends_with_1(run: Run) -> None:
    with Receiver(lambda _: 500) as program:
        assert "500 Whatever" in run("gitlab", "push", "--to", program.url, "--secret", "s", fails=True).stdout
    assert "nothing listens" in str(run("gitlab", "push", "--to", program.url, "--secret", "s", fails=True).exception)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["stripe"], "invoice.paid"),
        (["stripe", "nothing"], "invoice.paid"),
        (["nobody", "x"], "--file"),
        (["stripe", "invoice.paid", "--to", "http://localhost:1", "--source", "billing"], "either"),
        (["stripe", "invoice.paid", "--to", "http://localhost:1"], "--secret"),
        (["stripe", "invoice.paid", "--set", "nothing"], "PATH=VALUE"),
        (["stripe", "invoice.paid", "--set", "a..b=1"], "PATH=VALUE"),
        (["nobody", "--file", "/dev/null", "--to", "http://localhost:1"], "no provider"),
    ],
)
def test_a_wrong_use_is_told(run: Run, arguments: list[str], said: str) -> None:
    result = run(*arguments, fails=True)
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())
    assert "Traceback" not in json.dumps(result.output)
