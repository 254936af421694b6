"""What stops the start, and what a full disk does: a sentence that says what to do, and nothing lost."""

import base64
import hmac
import http.client
import json
import os
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.served import PATIENCE_S, Served


def ended(folder: Path, *flags: str, toml: str = "", **environment: str) -> tuple[int, str]:
    """Exit code and output of a `hookbrook serve` that cannot start."""
    if toml:
        (folder / "hookbrook.toml").write_text(toml)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HOOKBROOK_")}
    command = [sys.executable, "-m", "hookbrook", "serve", "--port", "0", *flags]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    # One sentence or two, not a page.
    assert len(done.stderr.splitlines()) <= 2, done.stderr
    return done.returncode, done.stderr


def test_a_bad_setting_stops_the_start_and_is_named_without_its_value(tmp_path: Path) -> None:
    code, said = ended(tmp_path, "--dev", HOOKBROOK_MAX_EVENT_BYTES="a secret")
    assert code == 1
    assert "HOOKBROOK_MAX_EVENT_BYTES: must be a size" in said
    assert "a secret" not in said
    code, said = ended(tmp_path, toml='[[sources]]\nname = "x"\nprovider = "nobody"\n')
    assert code == 1
    assert "sources[0].provider" in said


def test_a_row_of_a_provider_that_is_wrong_stops_the_start_and_names_its_key(tmp_path: Path) -> None:
    row = '[providers.acme]\ntitle = "Acme"\n[providers.acme.verify]\nrecipe = "hmac"\nmessage = "{b}"\n'
    code, said = ended(tmp_path, toml=row + 'signature = { places = ["cookie:x"], encoding = "hex" }\n')
    assert code == 1
    assert "providers.acme.verify.signature.places[0]" in said
    code, said = ended(tmp_path, toml=row + 'signature = { places = ["header:x"], encoding = "hex" }\nhashes = 1\n')
    assert code == 1
    assert "providers.acme.verify" in said
    assert "hashes" in said


PROVIDERS = """
[providers.acme]
title = "Acme"
dedupe = ["header:X-Acme-Id"]
type = "acme.{body.kind}"

[providers.acme.verify]
recipe = "hmac"
hash = "sha512"
signature = { places = ["header:X-Acme-Signature"], separator = ";", assign = "=", name = "s", encoding = "base64url" }
message = "{m}|{t}|{header:X-Acme-Id}|{b}"
timestamp = { item = "t", unit = "ms", past_s = 60, future_s = 60 }

[[providers.acme.challenges]]
method = "GET"
when = [{ place = "query:ask" }]
signed = false
value = "query:ask"
json = { answer = "{hmac:hex}" }

[providers.globex]
extends = "acme"
title = "Globex"
type = "globex"

[[sources]]
name = "acme"
provider = "acme"
secrets = ["${ACME_SECRET}"]
networks = ["127.0.0.0/8"]
dedupe_window_s = 60

[[sources]]
name = "globex"
provider = "globex"
secrets = ["another"]
"""


def test_a_provider_of_the_operator_s_own_works_from_the_file_to_the_event(tmp_path: Path) -> None:
    (tmp_path / "hookbrook.toml").write_text(PROVIDERS)
    body, moment = b'{"kind":"made"}', str(round(time.time() * 1000))
    with Served(tmp_path, "--dev", ACME_SECRET="s3cret") as served:

        def ask(method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, Any]:
            connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=PATIENCE_S)
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named)
            answer = connection.getresponse()
            read = json.loads(answer.read())
            connection.close()
            return answer.status, read

        def send(name: str, secret: bytes) -> int:
            signed = hmac.digest(secret, f"POST|{moment}|7|".encode() + body, "sha512")
            value = f"t={moment};s={base64.urlsafe_b64encode(signed).decode()}"
            return ask("POST", f"/in/{name}", body, X_Acme_Id="7", X_Acme_Signature=value)[0]

        assert (send("acme", b"s3cret"), send("acme", b"another"), send("globex", b"another")) == (200, 401, 200)
        expected = hmac.digest(b"s3cret", b"hello", "sha256").hex()
        assert ask("GET", "/in/acme?ask=hello") == (200, {"answer": expected})
        events = ask("GET", "/v1/events")[1]["data"]
        assert [event["type"] for event in events] == ["acme.made", "globex"]
        assert ask("GET", "/v1/sources/acme")[1]["networks"] == ["127.0.0.0/8"]
        assert "acme" in {row["id"] for row in ask("GET", "/v1/providers")[1]["data"]}


def test_a_port_in_use_is_told_before_the_store_is_touched(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = ended(tmp_path, "--dev", "--port", str(port))
    assert code == 1
    assert f"port: {port} on 127.0.0.1 is in use" in said
    assert list(tmp_path.glob("*.db*")) == []


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    code, said = ended(tmp_path, "--dev", "--store", "sqlite:///nowhere/log.db")
    assert code == 1
    assert "store: cannot write in" in said
    assert "nowhere" in said


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
    code, said = ended(tmp_path, "--dev", "--store", "sqlite:///locked/log.db")
    assert code == 1
    assert "store: cannot write in" in said


def test_a_file_that_is_no_database_is_told_and_stays_as_it_is(tmp_path: Path) -> None:
    damaged = tmp_path / "hookbrook.db"
    damaged.write_bytes(b"no database at all" * 1000)
    code, said = ended(tmp_path, "--dev")
    assert code == 1
    assert "hookbrook.db is not a sound SQLite database" in said
    assert "backup" in said
    assert damaged.read_bytes() == b"no database at all" * 1000


def test_the_database_of_another_program_is_told_and_stays_as_it_is(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "hookbrook.db") as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    before = (tmp_path / "hookbrook.db").read_bytes()
    code, said = ended(tmp_path, "--dev")
    assert code == 1
    assert "the database of another program" in said
    assert (tmp_path / "hookbrook.db").read_bytes() == before


def test_a_second_server_on_the_same_file_is_turned_away_and_the_first_goes_on(tmp_path: Path) -> None:
    with Served(tmp_path, "--dev") as first:
        assert publish(first.port, "a", b"1") == 201
        code, said = ended(tmp_path, "--dev")
        assert code == 1
        assert "in use by another Hookbrook" in said
        assert publish(first.port, "a", b"2") == 201
        assert first.end(signal.SIGTERM) == 0


def test_the_first_start_keeps_its_key_in_a_file_that_only_its_owner_reads(tmp_path: Path) -> None:
    (tmp_path / "hookbrook-admin.key").write_text("the key of another log\n")
    with Served(tmp_path) as served:
        path = tmp_path / "hookbrook-admin.key.1"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        key = path.read_text().strip()
        assert key not in served.log
        assert publish(served.port, "a", b"1") == 401
        assert publish(served.port, "a", b"1", authorization=f"Bearer {key}") == 201
        assert served.end() == 0
    with Served(tmp_path) as served:
        assert publish(served.port, "a", b"1", authorization=f"Bearer {key}") == 201
    assert sorted(path.name for path in tmp_path.glob("*.key*")) == ["hookbrook-admin.key", "hookbrook-admin.key.1"]
    assert (tmp_path / "hookbrook-admin.key").read_text() == "the key of another log\n"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_refuses_until_there_is_room_and_loses_nothing(small_disk: Path, tmp_path: Path) -> None:
    filler = small_disk / "filler"
    accepted: list[int] = []
    refused: set[int] = set()
    number = 0

    def publish_next() -> int:
        nonlocal number
        number += 1
        status = publish(served.port, "a", b'{"n":%d,"x":"%b"}' % (number, b"x" * 20_000))
        if status == 201:
            accepted.append(number)
        else:
            refused.add(status)
        return status

    with Served(tmp_path, "--dev", "--store", f"sqlite:///{small_disk}/log.db") as served:
        assert publish_next() == 201
        fill(filler)
        wait_for(lambda: publish_next() != 201, "the disk to be full")
        for _ in range(5):
            publish_next()
        assert refused <= {503, 507}
        assert 507 in refused
        assert get(served.port, "/readyz")[0] == 503
        assert get(served.port, "/v1/events?limit=1")[0] == 200
        filler.unlink()
        wait_for(lambda: publish_next() == 201, "room")
        assert publish_next() == 201
        assert get(served.port, "/readyz")[0] == 200
        assert kept(served) == accepted
        served.kill()
    with Served(tmp_path, "--dev", "--store", f"sqlite:///{small_disk}/log.db") as served:
        assert kept(served) == accepted


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"\0" * 4096):
            pass


def kept(served: Served) -> list[int]:
    status, body = get(served.port, "/v1/events", accept="application/x-ndjson")
    assert status == 200
    return [int(line.partition(b'"n":')[2].partition(b",")[0]) for line in body.splitlines()]


def publish(port: int, channel: str, body: bytes, **headers: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    connection.request("POST", f"/v1/channels/{channel}", body=body, headers=headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def get(port: int, target: str, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    connection.request("GET", target, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


def wait_for(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.01)
