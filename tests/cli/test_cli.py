"""The verbs against a real server; most run in this process, since a start of Python costs more than the verb."""

import http.client
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from tests.served import PATIENCE_S, Served
from typer.testing import CliRunner, Result

from hookbrook import ApiError, ConnectionFailed, HookbrookError, __version__
from hookbrook.cli.commands import app
from hookbrook.config import describe

PROGRAM = [sys.executable, "-m", "hookbrook"]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("cli"), "--dev") as process:
        yield process


class Run(Protocol):
    def __call__(self, *arguments: str, stdin: bytes = b"", fails: bool = False) -> Result: ...


@pytest.fixture
def run(served: Served) -> Run:
    """One command in this process. Its refusals by the server are left in `exception`, as `run()` tells them."""

    def run(*arguments: str, stdin: bytes = b"", fails: bool = False) -> Result:
        environment = {"HOOKBROOK_URL": served.url, "HOOKBROOK_KEY": None, "COLUMNS": "200"}
        result = CliRunner().invoke(app, arguments, input=stdin, env=environment)
        assert (result.exit_code != 0) == fails, (result.output, result.exception)
        return result

    return run


def document(result: Result) -> Any:
    return json.loads(result.stdout)


def events_of(served: Served, channel: str) -> list[Any]:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=PATIENCE_S)
    connection.request("GET", f"/v1/channels/{channel}")
    body = connection.getresponse().read()
    connection.close()
    events: list[Any] = json.loads(body)["data"]
    return events


# Publishing


@pytest.mark.parametrize(
    ("arguments", "stdin", "data", "content_type"),
    [
        (["hello"], b"", b'"hello"', "text/plain; charset=utf-8"),
        (['{"a": 1E400, "a": 2}'], b"", b'{"a": 1E400, "a": 2}', "application/json"),
        (["007"], b"", b'"007"', "text/plain; charset=utf-8"),
        (["NaN"], b"", b'"NaN"', "text/plain; charset=utf-8"),
        (["7", "--text"], b"", b'"7"', "text/plain; charset=utf-8"),
        (["-"], b"[1,  2]\n", b"[1,  2]", "application/json"),
        ([], b"from a pipe", b'"from a pipe"', "text/plain; charset=utf-8"),
        ([], b"[" * 100_000, json.dumps("[" * 100_000).encode(), "text/plain; charset=utf-8"),
    ],
)
def test_publish_takes_json_as_it_is_written_and_all_else_as_text(
    served: Served, run: Run, arguments: list[str], stdin: bytes, data: bytes, content_type: str
) -> None:
    channel = f"p{abs(hash((tuple(arguments), stdin)))}"
    said = document(run("publish", channel, *arguments, "--json", stdin=stdin))
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=PATIENCE_S)
    connection.request("GET", f"/v1/events/{said['id']}")
    body = connection.getresponse().read()
    connection.close()
    assert b'"data":' + data + b"," in body
    assert f'"content_type":"{content_type}"'.encode() in body


def test_publish_sends_a_file_and_bytes_that_are_no_text(served: Served, run: Run, tmp_path: Path) -> None:
    (tmp_path / "picture").write_bytes(b"\x89PNG\xff")
    run("publish", "files", "--file", str(tmp_path / "picture"))
    [event] = events_of(served, "files")
    assert (event["content_type"], event["data_base64"]) == ("application/octet-stream", "iVBOR/8=")


def test_publish_says_when_the_log_had_it_and_what_is_a_conflict(run: Run) -> None:
    first = run("publish", "again", "x", "--id", "same", "--type", "t")
    again = run("publish", "again", "x", "--id", "same", "--type", "t")
    assert again.stdout == first.stdout.rstrip("\n") + " (the log already had it)\n"
    conflict = run("publish", "again", "other", "--id", "same", "--type", "t", fails=True)
    assert isinstance(conflict.exception, ApiError)
    assert conflict.exception.status == 409


def test_publish_lines_makes_each_line_an_event(served: Served, run: Run) -> None:
    result = run("publish", "lines", "--lines", "--id", "run1", stdin=b'one\n\n{"n": 2}\r\nthree')
    assert result.stdout == "3 events\n"
    assert [event["data"] for event in events_of(served, "lines")] == ["one", {"n": 2}, "three"]
    assert document(run("publish", "lines", "--lines", "--id", "run1", "--json", stdin=b"one"))["accepted"] == 1
    assert len(events_of(served, "lines")) == 3


@pytest.mark.parametrize(
    "arguments",
    [
        ["publish"],
        ["publish", "a", "x", "--lines"],
        ["publish", "a", "--lines", "--close"],
        ["publish", "a", "x", "--file", "README.md"],
        ["publish", "a", "--file", "/no/such/file"],
        ["publish", "a", "--unknown"],
        ["tail"],
        ["tail", "a", "--last", "1", "--since", "2h"],
        ["tail", "a", "--last", "-1"],
        ["endpoints", "add", "https://example.com", "--header", "no colon"],
        ["endpoints", "add", "https://example.com", "--secret-header", "no colon"],
        ["endpoints", "add", "https://example.com", "--basic", "nobody"],
        ["endpoints", "add", "https://example.com", "--basic", "a:b", "--bearer", "c"],
        ["endpoints", "add", "https://example.com", "--retry", "often"],
        ["sources", "list", "--limit", "0"],
        ["nonsense"],
    ],
)
def test_a_wrong_use_is_exit_code_2_and_one_sentence(run: Run, arguments: list[str]) -> None:
    result = run(*arguments, stdin=b"", fails=True)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["publish", "a b", "x"], 422),
        (["publish", "hookbrook.x", "x"], 422),
        (["sources", "show", "none"], 404),
        (["endpoints", "show", "ep_none"], 404),
        (["endpoints", "add", "ftp://example.com"], 422),
        (["sources", "add", "x", "nobody"], 422),
        (["deliveries", "show", "dlv_none"], 404),
        (["keys", "add", "everything"], 422),
        (["keys", "token"], 422),
        (["tail", "a b"], 422),
    ],
)
def test_a_refusal_is_told_by_the_servers_own_sentence(run: Run, arguments: list[str], status: int) -> None:
    error = run(*arguments, fails=True).exception
    assert isinstance(error, ApiError)
    assert error.status == status
    assert str(error)


# The management verbs


def test_sources_are_added_listed_shown_and_deleted(served: Served, run: Run) -> None:
    assert "hookbrook sources add" in run("sources", "list").stderr
    added = run("sources", "add", "billing", "stripe", "--secret", "whsec_0123456789abcdef0123456789abcdef")
    assert added.stdout.startswith(f"Point stripe at {served.url}/in/billing")
    assert "billing" in run("sources", "list").stdout
    [row] = document(run("sources", "list", "--json"))
    assert (row["name"], row["provider"]) == ("billing", "stripe")
    assert "0123456789abcdef" not in run("sources", "show", "billing").stdout
    assert "github" in run("sources", "providers").stdout
    assert "deleted" in run("sources", "delete", "billing").stdout
    assert document(run("sources", "list", "--json")) == []


def test_the_likely_mistake_of_failed_webhooks_is_shown(served: Served, run: Run) -> None:
    run(
        "sources", "add", "failing", "github", "--secret", "s3cret", "--network", "127.0.0.0/8", "--dedupe-window", "60"
    )
    assert "Nothing has failed" in run("sources", "explain", "failing").stderr
    connection = http.client.HTTPConnection("127.0.0.1", served.port)
    connection.request("POST", "/in/failing", b"{}", {"X-GitHub-Event": "push"})
    assert connection.getresponse().status == 401
    connection.close()
    deadline = time.monotonic() + PATIENCE_S
    while not (shown := run("sources", "explain", "failing").stdout) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "missing_signature" in shown
    assert "header_stripped (likely): The X-Hub-Signature-256 header is missing." in shown
    [failure] = document(run("sources", "explain", "failing", "--json"))
    assert failure["request"]["address"] == "127.0.0.1"
    run("sources", "delete", "failing")


def test_every_field_of_an_endpoint_can_be_given(run: Run) -> None:
    flags = {
        "--filter": "data.n > `1`", "--transform": "{n: data.n}", "--ordering": "channel", "--retry": "5,0.5",
        "--rate-limit": "7.5", "--connect-timeout": "3", "--timeout": "4", "--max-body-bytes": "1000",
        "--concurrency": "2", "--basic": "me:topsecret", "--secret-header": "X-Key: topsecret",
    }  # fmt: skip
    words = [word for pair in flags.items() for word in pair]
    signs = ("--signature", "v1", "--signature", "v1a", "--svix-headers")
    made = document(run("endpoints", "add", "https://example.com/full", *words, *signs, "--json"))
    assert "topsecret" not in json.dumps(made)
    expected = {
        "filter": "data.n > `1`", "transform": "{n: data.n}", "ordering": "channel", "retry": [5.0, 0.5],
        "rate_limit": 7.5, "connect_timeout_s": 3.0, "timeout_s": 4.0, "max_body_bytes": 1000, "concurrency": 2,
        "auth": {"type": "basic", "username": "me", "password": "***"}, "secret_headers": {"X-Key": "***"},
        "signatures": ["v1", "v1a"], "svix_headers": True,
    }  # fmt: skip
    assert {name: made[name] for name in expected} == expected
    other = document(
        run(
            "endpoints",
            "add",
            "https://example.com/o",
            "--bearer",
            "t",
            "--retry",
            "none",
            "--format",
            "event",
            "--json",
        )
    )
    assert (other["auth"]["type"], other["retry"], other["format"]) == ("bearer", [], "event")
    assert "is under way" in run("endpoints", "test", other["id"], '{"total": 5}', "--type", "order.paid").stdout
    run("endpoints", "test", other["id"], "no JSON", fails=True)
    for each in (made, other):
        run("endpoints", "delete", each["id"])


def test_endpoints_are_added_listed_switched_and_deleted(run: Run) -> None:
    made = document(
        run("endpoints", "add", "https://example.com/hook", "--type", "invoice.*", "--header", "X-A: b", "--json")
    )
    assert (made["types"], made["headers"]) == (["invoice.*"], {"X-A": "b"})
    assert made["id"] in run("endpoints", "list").stdout
    assert run("endpoints", "secret", made["id"]).stdout.startswith("whsec_")
    run("endpoints", "disable", made["id"])
    assert document(run("endpoints", "show", made["id"]))["enabled"] is False
    run("endpoints", "enable", made["id"])
    run("endpoints", "delete", made["id"])
    assert document(run("endpoints", "list", "--json")) == []


def test_deliveries_are_listed_shown_resent_and_cancelled(run: Run) -> None:
    made = document(run("endpoints", "add", "https://example.com/hook", "--channel", "owed", "--json"))
    run("endpoints", "disable", made["id"])
    event = document(run("publish", "owed", "x", "--json"))
    [held] = document(run("deliveries", "list", "--event", event["id"], "--json"))
    assert held["status"] == "held"
    assert held["id"] in run("deliveries", "list", "--status", "held").stdout
    assert document(run("deliveries", "show", held["id"]))["event_id"] == event["id"]
    run("deliveries", "cancel", held["id"])
    assert document(run("deliveries", "list", "--endpoint", made["id"], "--json"))[0]["status"] == "cancelled"
    run("endpoints", "delete", made["id"])


def test_an_event_is_explained_and_what_failed_is_sent_again(run: Run) -> None:
    made = document(run("endpoints", "add", "https://example.com/hook", "--channel", "lost", "--json"))
    run("endpoints", "disable", made["id"])
    event = document(run("publish", "lost", "x", "--json"))
    assert event["id"] in run("events", "list", "--channel", "lost", "--deliveries", "undelivered").stdout
    assert document(run("events", "show", event["id"]))["channels"] == ["lost"]
    why = {each["endpoint_id"]: each for each in document(run("events", "explain", event["id"], "--json"))}
    assert why[made["id"]]["why"] == "It is held while the endpoint is disabled."
    [held] = document(run("deliveries", "list", "--status", "undelivered", "--event", event["id"], "--json"))
    run("deliveries", "cancel", held["id"])
    counted = run("jobs", "recover", "--status", "cancelled", "--endpoint", made["id"], "--since", "1h", "--dry-run")
    assert "done: 1 would be sent, 0 skipped" in counted.stdout
    sent = document(run("endpoints", "replay", made["id"], "--wait", "--json"))
    assert (sent["status"], sent["sent"]) == ("done", 1)
    assert sent["id"] in run("jobs", "list").stdout
    assert document(run("jobs", "show", sent["id"])) == sent
    run("jobs", "cancel", sent["id"], fails=True)
    run("jobs", "delete", sent["id"])
    run("endpoints", "delete", made["id"])


def test_an_event_and_a_tenant_are_erased(run: Run) -> None:
    event = document(run("publish", "private", "secret", "--json"))
    run("events", "erase", event["id"])
    assert document(run("events", "show", event["id"]))["erased"] is True
    run("tenants", "erase", "acme", fails=True)
    done = document(run("tenants", "erase", "acme", "--yes", "--wait", "--json"))
    assert (done["kind"], done["status"], done["sent"]) == ("erase", "done", 0)


def test_keys_are_made_shown_once_and_deleted_and_tokens_are_minted(run: Run) -> None:
    key = run("keys", "add", "publish", "subscribe", "--description", "the [shop]").stdout.strip()
    assert key.startswith("hbk_")
    listing = run("keys", "list").stdout
    assert "the [shop]" in listing
    assert key not in listing
    [row] = document(run("keys", "list", "--json"))
    run("keys", "delete", row["id"])
    token = run("keys", "token", "--subscribe", "chat.*", "--lifetime", "60").stdout.strip()
    assert token.count(".") == 2


def test_a_limit_ends_a_listing_of_several_pages(run: Run) -> None:
    ids = [document(run("keys", "add", "publish", "--json"))["id"] for _ in range(3)]
    assert len(document(run("keys", "list", "--limit", "2", "--json"))) == 2
    for key_id in ids:
        run("keys", "delete", key_id)


# Help and errors


def test_every_verb_has_help_that_says_what_it_does(run: Run) -> None:
    top = run("--help").output
    for verb in (
        "serve",
        "demo",
        "publish",
        "tail",
        "listen",
        "replay",
        "trigger",
        "sources",
        "endpoints",
        "deliveries",
        "keys",
    ):
        assert verb in top
        assert len(run(verb, "--help").output.splitlines()) > 5
    for group, verbs in {
        "sources": ("list", "add", "show", "delete", "providers"),
        "endpoints": ("list", "add", "show", "secret", "enable", "disable", "delete"),
        "deliveries": ("list", "show", "resend", "cancel"),
        "keys": ("list", "add", "delete", "token"),
    }.items():
        for verb in verbs:
            assert "Usage" in run(group, verb, "--help").output


def test_serve_has_a_flag_for_every_setting(run: Run) -> None:
    said = run("serve", "--help").output
    for setting in describe():
        assert setting.flag in said


def test_the_version_is_shown(run: Run) -> None:
    assert run("--version").stdout == f"hookbrook {__version__}\n"


def test_a_server_that_is_not_there_is_told_in_one_sentence_with_exit_code_1(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HOOKBROOK_")}
    done = subprocess.run(
        [*PROGRAM, "publish", "a", "x", "--url", "http://127.0.0.1:9"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("hookbrook: ")
    assert "127.0.0.1:9" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("environment", "error"),
    [({"HOOKBROOK_URL": "nonsense"}, "HOOKBROOK_URL"), ({"HOOKBROOK_KEY": "a\nb"}, "HOOKBROOK_KEY")],
)
def test_a_wrong_address_or_key_is_named(environment: dict[str, str], error: str) -> None:
    result = CliRunner().invoke(app, ["publish", "a", "x"], env=environment)
    assert isinstance(result.exception, HookbrookError)
    assert not isinstance(result.exception, ConnectionFailed)
    assert error in str(result.exception)


def test_a_key_is_sent_and_a_wrong_one_refused(run: Run) -> None:
    error = run("publish", "a", "x", "--key", "hbk_wrong", fails=True).exception
    assert isinstance(error, ApiError)
    assert error.status == 401


# tail


@pytest.fixture
def tail(tmp_path: Path) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    started: list[subprocess.Popen[str]] = []

    def tail(served: Served, *arguments: str) -> "subprocess.Popen[str]":
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HOOKBROOK_")}
        process = subprocess.Popen(
            [*PROGRAM, "tail", *arguments, "--url", served.url],
            cwd=tmp_path,
            env={**environment, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield tail
    for process in started:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()


def wait_for_streams(served: Served, number: int) -> None:
    end = time.monotonic() + PATIENCE_S
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=PATIENCE_S)
        connection.request("GET", "/metrics")
        body = connection.getresponse().read().decode()
        connection.close()
        if f"hookbrook_streams_open {number}.0" in body:
            return
        assert time.monotonic() < end
        time.sleep(0.02)


def lines_of(process: "subprocess.Popen[str]", count: int) -> list[str]:
    assert isinstance(process.stdout, io.TextIOBase)
    return [process.stdout.readline() for _ in range(count)]


def test_tail_goes_on_across_a_kill_and_a_restart_even_before_its_first_event(
    tmp_path: Path, tail: Callable[..., "subprocess.Popen[str]"]
) -> None:
    with Served(tmp_path, "--dev") as served:
        plain, machine = tail(served, "chat.*"), tail(served, "chat.1", "--json")
        wait_for_streams(served, 2)
        served.kill()
        served.start()
        # Nobody may have come back yet, and nobody has seen an event.
        runner = CliRunner()
        for data in ('{"n": 1}', "two\nlines\x1b[31m"):
            result = runner.invoke(app, ["publish", "chat.1", data, "-t", "said"], env={"HOOKBROOK_URL": served.url})
            assert result.exit_code == 0, result.output
        shown = lines_of(plain, 2)
        assert shown[0].split(None, 1)[1] == 'chat.1  said  {"n": 1}\n'
        # One event is one line, and the terminal is not told what to do.
        assert shown[1].endswith("said  two\\nlines\\x1b[31m\n")
        events = [json.loads(line) for line in lines_of(machine, 2)]
        assert [event["data"] for event in events] == [{"n": 1}, "two\nlines\x1b[31m"]
        assert events[0]["channels"] == ["chat.1"]


def test_tail_ends_when_its_channel_is_closed(
    served: Served, run: Run, tail: Callable[..., "subprocess.Popen[str]"]
) -> None:
    process = tail(served, "finished", "--last", "5", "--json")
    run("publish", "finished", "almost", "--merge", "reply")
    run("publish", "finished", "done", "--close")
    first, last = (json.loads(line) for line in lines_of(process, 2))
    assert (first["data"], first["merge"], last["data"], last["close"]) == ("almost", "reply", "done", True)
    assert process.wait(PATIENCE_S) == 0
    refused = run("publish", "finished", "late", fails=True)
    assert isinstance(refused.exception, ApiError)
    assert refused.exception.status == 409


def test_tail_begins_in_the_past_and_ends_quietly_with_its_reader(
    served: Served, run: Run, tail: Callable[..., "subprocess.Popen[str]"]
) -> None:
    for number in range(3):
        run("publish", "past", str(number))
    process = tail(served, "past", "--last", "2")
    assert [line.split()[-1] for line in lines_of(process, 2)] == ["1", "2"]
    assert process.stdout is not None
    process.stdout.close()
    # `tail | head`: the next line finds nobody to read it.
    end = time.monotonic() + PATIENCE_S
    while process.poll() is None:
        run("publish", "past", "more")
        assert time.monotonic() < end
        time.sleep(0.05)
    assert process.returncode == 1
    assert process.stderr is not None
    assert process.stderr.read() == ""


def test_tail_goes_on_after_it_slept_while_the_server_was_restarted(
    tmp_path: Path, tail: Callable[..., "subprocess.Popen[str]"]
) -> None:
    with Served(tmp_path, "--dev") as served:
        process = tail(served, "chat.*")
        wait_for_streams(served, 1)
        runner = CliRunner()

        def publish(data: str) -> None:
            result = runner.invoke(app, ["publish", "chat.1", data], env={"HOOKBROOK_URL": served.url})
            assert result.exit_code == 0, result.output

        publish("awake")
        assert lines_of(process, 1)[0].endswith("awake\n")
        process.send_signal(signal.SIGSTOP)
        served.kill()
        served.start()
        publish("asleep")
        process.send_signal(signal.SIGCONT)
        publish("awake again")
        assert [line.split("  ")[-1] for line in lines_of(process, 2)] == ["asleep\n", "awake again\n"]


def test_connections_are_shown_and_ended(tmp_path: Path, tail: Callable[..., "subprocess.Popen[str]"]) -> None:
    with Served(tmp_path, "--dev") as served:
        tail(served, "chat.*")
        wait_for_streams(served, 1)
        runner = CliRunner()

        def run(*words: str) -> str:
            result = runner.invoke(app, ["connections", *words], env={"HOOKBROOK_URL": served.url})
            assert result.exit_code == 0, result.output
            return result.output

        (row,) = json.loads(run("list", "--json", "--channel", "chat.1"))
        assert (row["channels"], row["state"], row["subject"]) == (["chat.*"], "live", "dev")
        assert row["id"] in run("list")
        assert "ended" in run("end", row["id"])
        assert json.loads(run("list", "--json", "--subject", "nobody")) == []
        assert "streams of dev are ended" in run("end", "--subject", "dev")
        both = runner.invoke(app, ["connections", "end"], env={"HOOKBROOK_URL": served.url})
        assert both.exit_code == 2
