"""`listen` and `replay` against a real server and a program that keeps every byte it gets."""

import hmac
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import pytest
import stripe
from tests.cli.receiver import Receiver, Seen
from tests.inbound.documented import b64mac
from tests.served import PATIENCE_S, Served
from typer.testing import CliRunner, Result

from hookbrook import ApiError, Hookbrook
from hookbrook.cli.bookmark import path_of
from hookbrook.cli.commands import app

NUMBERS = count()
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
LOCAL = "whsec_of_the_developer"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("listen"), "--dev") as process:
        yield process


@pytest.fixture
def brook(served: Served) -> Iterator[Hookbrook]:
    with Hookbrook(served.url) as client:
        yield client


@pytest.fixture
def program() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


class Run(Protocol):
    def __call__(self, *arguments: str, fails: bool = False) -> Result: ...


@pytest.fixture
def run(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    def run(*arguments: str, fails: bool = False) -> Result:
        environment = {"HOOKBROOK_URL": served.url, "HOOKBROOK_KEY": None, "HOOKBROOK_SOURCE_SECRET": None}
        result = CliRunner().invoke(app, arguments, env=environment)
        assert (result.exit_code != 0) == fails, (result.output, result.exception)
        return result

    return run


def source(brook: Hookbrook, provider: str = "none", **fields: Any) -> str:
    name = f"listen{next(NUMBERS)}"
    brook.request("POST", "/v1/sources", json={"name": name, "provider": provider, **fields})
    return name


def arrives(served: Served, name: str, body: bytes, headers: dict[str, str] | None = None) -> Any:
    import urllib.request

    request = urllib.request.Request(f"{served.url}/in/{name}", body, headers or {}, method="POST")
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        return json.loads(answer.read())


def github(body: bytes, delivery: str) -> dict[str, str]:
    signature = hmac.digest(b"its-secret", body, "sha256").hex()
    return {"X-Hub-Signature-256": f"sha256={signature}", "X-GitHub-Delivery": delivery, "X-GitHub-Event": "push"}


def bodies(seen: list[Seen]) -> list[Any]:
    return [json.loads(each.body) for each in seen]


# What is chosen


def test_the_last_ones_those_since_a_time_and_one_by_id_are_sent_again(
    served: Served, brook: Hookbrook, run: Run, program: Receiver
) -> None:
    name = source(brook)
    events = [arrives(served, name, b'{"n": %d}' % number) for number in range(3)]
    to = ("--forward-to", program.url)
    assert run("replay", name, *to).stdout.count("200 Whatever") == 1
    run("replay", name, *to, "--last", "2")
    run("replay", name, *to, "--since", "1h")
    run("replay", name, *to, "--id", events[1]["id"], "--id", events[0]["id"])
    assert [body["n"] for body in bodies(program.seen)] == [2, 1, 2, 0, 1, 2, 1, 0]


def test_types_and_an_expression_choose(served: Served, brook: Hookbrook, run: Run, program: Receiver) -> None:
    name = source(brook)
    for kind, amount in (("invoice.paid", 5), ("invoice.sent", 50), ("charge.made", 500)):
        arrives(served, name, b'{"type": "%b", "amount": %d}' % (kind.encode(), amount), {"X-Mode": "live"})
    chosen = [
        ("--type", "invoice.*"),
        ("--match", "body.amount > `10` && headers.\"x-mode\" == 'live'"),
        ("--match", "type == 'charge.made' && source && verified == `false` && channel"),
        ("--match", "body.nothing"),
    ]
    expected = [[5, 50], [50, 500], [500], []]
    for flags, amounts in zip(chosen, expected, strict=True):
        program.seen.clear()
        run("replay", name, "--forward-to", program.url, "--last", "9", *flags, fails=not amounts)
        assert [body["amount"] for body in bodies(program.seen)] == amounts


def test_an_expression_that_fails_is_told_and_leaves_that_one_out(
    served: Served, brook: Hookbrook, run: Run, program: Receiver
) -> None:
    name = source(brook)
    arrives(served, name, b'{"n": "text"}')
    said = run("replay", name, "--forward-to", program.url, "--match", "sum(body.n)", fails=True)
    assert "--match" in said.stderr
    assert program.seen == []


def test_what_failed_verification_comes_only_when_asked_for(
    served: Served, brook: Hookbrook, run: Run, program: Receiver
) -> None:
    name = source(brook, "github", secrets=["its-secret"], enforce=False)
    arrives(served, name, b"{}")
    assert "nothing to send" in run("replay", name, "--forward-to", program.url, fails=True).stderr
    run("replay", name, "--forward-to", program.url, "--unverified")
    assert len(program.seen) == 1


# What is sent


def test_the_original_is_sent_byte_for_byte(served: Served, brook: Hookbrook, run: Run, program: Receiver) -> None:
    name = source(brook, "github", secrets=["its-secret"])
    body = b'{\r\n "n": 1E400, "n": 2, "e": "\xc3\xa9"}\n'
    arrives(served, f"{name}?a=%20b", body, github(body, "1"))
    run("replay", name, "--forward-to", f"{program.url}?own=1")
    [seen] = program.seen
    assert seen.body == body
    assert seen.line == "POST /hook?own=1&a=%20b HTTP/1.1"
    assert seen.header("x-hub-signature-256") == github(body, "1")["X-Hub-Signature-256"]
    assert seen.header("host") == f"127.0.0.1:{program.port}"


def test_signed_anew_a_month_old_webhook_passes_the_providers_own_library(
    served: Served, brook: Hookbrook, run: Run, program: Receiver
) -> None:
    name = source(brook, "stripe", secrets=[SECRET], enforce=False)
    body = b'{"id":"evt_1","object":"event","type":"invoice.paid","data":{"object":{"object":"invoice"}}}'
    old = stripe.WebhookSignature.generate_signature_header(body.decode(), SECRET, int(time.time()) - 30 * 86_400)
    arrives(served, name, body, {"Stripe-Signature": old})
    run("replay", name, "--forward-to", program.url, "--unverified")
    said = run("replay", name, "--forward-to", program.url, "--unverified", "--resign", "--secret", LOCAL)
    assert "signed anew" in said.stdout
    as_it_was, anew = program.seen
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.Webhook.construct_event(as_it_was.body, as_it_was.header("stripe-signature"), SECRET)
    event = stripe.Webhook.construct_event(anew.body, anew.header("stripe-signature"), LOCAL)
    assert (event.id, anew.body) == ("evt_1", body)


def test_the_url_that_is_signed_is_the_targets_or_the_one_that_is_said(
    served: Served, brook: Hookbrook, run: Run, program: Receiver
) -> None:
    name = source(brook, "square", secrets=["s"], enforce=False)
    arrives(served, name, b"{}")
    resigned = ("replay", name, "--forward-to", program.url, "--unverified", "--resign", "--secret", LOCAL)
    run(*resigned)
    run(*resigned, "--sign-url", "https://shop.example/hook")
    signatures = [seen.header("x-square-hmacsha256-signature") for seen in program.seen]
    assert signatures == [b64mac(LOCAL, program.url + "{}"), b64mac(LOCAL, "https://shop.example/hook{}")]


def test_a_secret_that_is_shown_is_not_kept_and_put_in_by_signing(
    served: Served, brook: Hookbrook, run: Run, program: Receiver
) -> None:
    name = source(brook, "gitlab", secrets=["token"])
    arrives(served, name, b"{}", {"X-Gitlab-Token": "token"})
    assert "--resign" in run("replay", name, "--forward-to", program.url).stderr
    run("replay", name, "--forward-to", program.url, "--resign", "--secret", LOCAL)
    assert [seen.header("x-gitlab-token") for seen in program.seen] == [None, LOCAL]


def test_a_provider_of_the_operators_own_is_signed_by_the_file_in_this_folder(
    served: Served, brook: Hookbrook, run: Run, program: Receiver
) -> None:
    name = source(brook)
    arrives(served, name, b"{}")
    acme = ("replay", name, "--forward-to", program.url, "--resign", "--secret", LOCAL, "--provider", "acme")
    assert "'acme' is not known" in run(*acme, fails=True).output
    Path("hookbrook.toml").write_text('[providers.acme]\ntitle = "Acme"\nextends = "gitlab"\n')
    run(*acme)
    assert program.seen[0].header("x-gitlab-token") == LOCAL
    Path("hookbrook.toml").write_text("[providers")
    assert "hookbrook.toml" in str(run(*acme, fails=True).exception)


def test_a_secret_that_cannot_sign_is_told_in_the_row_and_nothing_is_sent(
    served: Served, brook: Hookbrook, run: Run, program: Receiver
) -> None:
    name = source(brook, "standard-webhooks", enforce=False)
    arrives(served, name, b"{}")
    flags = ("--forward-to", program.url, "--unverified", "--resign", "--secret", "whsec_!")
    assert "secret" in run("replay", name, *flags, fails=True).stdout
    assert program.seen == []


def test_several_events_of_one_request_are_one_request_again(
    served: Served, brook: Hookbrook, run: Run, program: Receiver
) -> None:
    name = source(brook, "line", secrets=["s"])

    def send(*events: str) -> bytes:
        body = f'{{"destination": "U1",\n"events": [{", ".join(events)}]}}'
        arrives(served, name, body.encode(), {"x-line-signature": b64mac("s", body)})
        return body.encode()

    one, two, three = (f'{{"type": "{kind}", "webhookEventId": "{kind}"}}' for kind in ("one", "two", "three"))
    first = send(one, two)
    run("replay", name, "--forward-to", program.url, "--last", "9")
    assert [seen.body for seen in program.seen] == [first]
    # By its second event it is found as well.
    run("replay", name, "--forward-to", program.url, "--last", "9", "--type", "two")
    assert [seen.body for seen in program.seen] == [first, first]
    # A batch whose first event is a repeat is not kept as a whole; its news are sent as a batch of their own.
    send(one, three)
    said = run("replay", name, "--forward-to", program.url, "--resign", "--secret", LOCAL)
    assert "repeats" in said.stdout
    assert program.seen[2].body == b'{"events":[%b]}' % three.encode()
    assert program.seen[2].header("x-line-signature") == b64mac(LOCAL, program.seen[2].body.decode())


def test_a_body_too_large_for_a_stream_is_fetched(
    served: Served, brook: Hookbrook, run: Run, program: Receiver
) -> None:
    name = source(brook)
    body = os.urandom(1024 * 1024 + 1)
    arrives(served, name, body)
    run("replay", name, "--forward-to", program.url)
    assert program.seen[0].body == body


def test_edited_and_then_signed(
    served: Served, brook: Hookbrook, run: Run, program: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = source(brook, "github", secrets=["its-secret"])
    arrives(served, name, b'{"amount": 1}', github(b'{"amount": 1}', "9"))
    monkeypatch.setenv("VISUAL", f"sed -i -e 's/{chr(34)}amount{chr(34)}: 1/{chr(34)}amount{chr(34)}: 2/'")
    run("replay", name, "--forward-to", program.url, "--edit", "--resign", "--secret", LOCAL)
    [seen] = program.seen
    assert seen.body == b'{"amount": 2}'
    assert seen.header("x-hub-signature-256") == "sha256=" + hmac.digest(LOCAL.encode(), seen.body, "sha256").hex()


# How it ends


def test_an_answer_that_is_no_success_is_shown_with_its_words_and_ends_with_1(
    served: Served, brook: Hookbrook, run: Run
) -> None:
    name = source(brook)
    arrives(served, name, b"{}")
    with Receiver(lambda _: 500) as program:
        said = run("replay", name, "--forward-to", program.url, fails=True)
    assert "500 Whatever" in said.stdout
    assert "said" in said.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["listen", "x"], "--forward-to"),
        (["replay", "x"], "--forward-to"),
        (["listen", "x", "-f", "3000", "--last", "1", "--since", "1h"], "one of"),
        (["replay", "x", "-f", "3000", "--last", "1", "--id", "evt_1"], "one of"),
        (["listen", "x", "-f", "3000", "--resign"], "--secret"),
        (["listen", "x", "-f", "3000", "--resign", "-s", "s", "--provider", "nobody"], "nobody"),
    ],
)
def test_a_wrong_use_is_told(run: Run, arguments: list[str], said: str) -> None:
    result = run(*arguments, fails=True)
    assert result.exit_code == 2
    assert said in result.output


@pytest.mark.parametrize("arguments", [["listen", "x", "-f", "ftp://x"], ["replay", "x", "-f", "1", "--match", "a ||"]])
def test_a_wrong_value_is_one_sentence(run: Run, arguments: list[str]) -> None:
    assert str(run(*arguments, fails=True).exception)


def test_a_source_that_is_not_there_is_told(run: Run) -> None:
    for verb in ("listen", "replay"):
        error = run(verb, "nothing", "--forward-to", "3000", fails=True).exception
        assert isinstance(error, ApiError)
        assert error.status == 404


# listen


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


class Listening:
    """`hookbrook listen` as a process."""

    def __init__(self, served: Served, folder: Path, *arguments: str, url: str = "") -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("HOOKBROOK_")}
        self.log = folder / "listen.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "hookbrook", "listen", *arguments, "--url", url or served.url],
                cwd=folder,
                env={**inherited, "XDG_STATE_HOME": str(folder / "state"), "PYTHONUNBUFFERED": "1"},
                stdout=log,
                stderr=log,
                # A shell sets it to be ignored for what it runs in the background, and a child inherits that.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    def says(self, words: str) -> None:
        end = time.monotonic() + PATIENCE_S
        while words not in self.log.read_text():
            assert time.monotonic() < end, self.log.read_text()
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.02)

    def end(self, number: int = signal.SIGKILL) -> None:
        self.process.send_signal(number)
        self.process.wait(PATIENCE_S)


@pytest.fixture
def listening(served: Served, tmp_path: Path) -> Iterator[Callable[..., Listening]]:
    started: list[Listening] = []

    def start(*arguments: str) -> Listening:
        started.append(Listening(served, tmp_path, *arguments))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.end()


def test_what_came_while_nobody_listened_arrives_later_and_only_once(
    served: Served, brook: Hookbrook, program: Receiver, listening: Callable[..., Listening], tmp_path: Path
) -> None:
    name = source(brook)
    arrives(served, name, b'{"n": 0}')
    first = listening(name, "--forward-to", program.url)
    first.says("--- forwarding")
    done = arrives(served, name, b'{"n": 1}')["cursor"]
    program.wait(1)
    kept = path_of(tmp_path / "state" / "hookbrook", served.url, name, "")
    first.says("200 Whatever")
    # Killed between an answer and the note of it, it would send that one again.
    until(lambda: json.loads(kept.read_text())["cursor"] == done)
    first.end()
    arrives(served, name, b'{"n": 2}')
    arrives(served, name, b'{"n": 3}')
    second = listening(name)
    arrives(served, name, b'{"n": 4}')
    assert [body["n"] for body in bodies(program.wait(4))] == [1, 2, 3, 4]
    second.says("evt_")
    second.end(signal.SIGINT)
    assert str(json.loads(kept.read_text())["forward_to"])


def test_a_program_that_is_being_restarted_is_waited_for(
    served: Served, brook: Hookbrook, listening: Callable[..., Listening]
) -> None:
    name = source(brook)
    with Receiver() as program:
        port = program.port
    listener = listening(name, "--forward-to", f"http://127.0.0.1:{port}/hook")
    listener.says("--- forwarding")
    arrives(served, name, b'{"n": 1}')
    arrives(served, name, b'{"n": 2}')
    listener.says("waiting for")
    with Receiver(port=port) as program:
        assert [body["n"] for body in bodies(program.wait(2))] == [1, 2]


def test_a_gap_is_told_and_what_comes_then_is_forwarded(
    served: Served, brook: Hookbrook, program: Receiver, listening: Callable[..., Listening]
) -> None:
    name = source(brook)
    listener = listening(name, "--forward-to", program.url, "--after", "zzzz-7")
    listener.says("--- webhooks may be missing here")
    listener.says("--- forwarding")
    arrives(served, name, b'{"n": 1}')
    program.wait(1)


def test_a_second_listener_on_the_same_place_is_refused(
    brook: Hookbrook, program: Receiver, listening: Callable[..., Listening], run: Run, tmp_path: Path
) -> None:
    name = source(brook)
    listening(name, "--forward-to", program.url).says("--- forwarding")
    error = run("listen", name, "--forward-to", program.url, fails=True).exception
    assert "--name" in str(error)
