"""The demo as a process: what it says when it cannot start, what it repairs, and what it leaves behind."""

import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

PATIENCE_S = 40.0


def until(condition: Callable[[], Any], what: Callable[[], str]) -> Any:
    end = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        assert time.monotonic() < end, what()
        time.sleep(0.05)
    return value


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "hookbrook.cli.demo", "--no-open", *arguments]


def refused(*arguments: str, **environment: str) -> str:
    """The sentence with which the demo ends at once."""
    ended = subprocess.run(
        command(*arguments),
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    return ended.stderr


class Running:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = folder.parent / "output"
        with self.output.open("ab") as output:
            arguments = command("--port", "0", "--folder", str(folder))
            self.process = subprocess.Popen(arguments, stdout=output, stderr=output)

    def said(self, text: str) -> bool:
        return text in self.output.read_text()

    def wait_for(self, text: str) -> None:
        until(lambda: self.said(text) or self.process.poll() is not None, self.output.read_text)
        assert self.said(text), self.output.read_text()

    def pids(self) -> dict[str, int]:
        """Of the three, as printed last."""
        said = self.output.read_text()
        found = re.findall(r"(hookbrook|engine|app)(?: runs again, as pid)? (\d+)[,).]", said)
        return {name: int(pid) for name, pid in found}

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


def lives(pid: int) -> bool:
    """Whether the process runs; one that waits to be reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    demo = Running(tmp_path / "demo")
    yield demo
    if demo.process.poll() is None:
        demo.end(signal.SIGTERM)


def test_a_port_in_use_is_told_with_the_way_out(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        sentence = refused("--port", str(port), "--folder", str(tmp_path / "demo"))
        assert f"Port {port} on 127.0.0.1 cannot be used (Address already in use)" in sentence
        assert "choose another by --port; 0 takes any free one" in sentence
        arguments = ("--port", "0", "--folder", str(tmp_path / "demo"))
        assert "HOOKBROOK_DEMO_APP_PORT" in refused(*arguments, HOOKBROOK_DEMO_APP_PORT=str(port))


@pytest.mark.parametrize("port", ["-1", "70000"])
def test_a_port_that_is_none_is_told(tmp_path: Path, port: str) -> None:
    assert f"Port {port}" in refused("--port", port, "--folder", str(tmp_path / "demo"))


def test_a_port_that_is_no_number_is_told(tmp_path: Path) -> None:
    arguments = ("--port", "0", "--folder", str(tmp_path / "demo"))
    assert "HOOKBROOK_DEMO_ENGINE_PORT must be a port number" in refused(*arguments, HOOKBROOK_DEMO_ENGINE_PORT="x")


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "cannot be made" in refused("--port", "0", "--folder", str(tmp_path / "file" / "demo"))


@pytest.mark.parametrize("host", ["0.0.0.0", "localhost", "192.0.2.1"])
def test_a_host_that_others_could_reach_is_refused(tmp_path: Path, host: str) -> None:
    assert "its host is 127.0.0.1 or ::1" in refused("--host", host, "--folder", str(tmp_path / "demo"))


def test_damaged_secrets_are_told(tmp_path: Path) -> None:
    (tmp_path / "secrets.json").write_text("{")
    assert "Remove it" in refused("--port", "0", "--folder", str(tmp_path))


@pytest.mark.crash
def test_it_starts_again_what_is_killed_keeps_its_folder_and_ends_with_all_its_processes(running: Running) -> None:
    running.wait_for("Ctrl-C stops everything")
    assert stat.S_IMODE((running.folder / "secrets.json").stat().st_mode) == 0o600
    assert "Another demo runs in" in refused("--port", "0", "--folder", str(running.folder))

    before = running.pids()
    assert sorted(before) == ["app", "engine", "hookbrook"]
    for name, pid in before.items():
        os.kill(pid, signal.SIGKILL)
        running.wait_for(f"{name} (pid {pid}) was ended by SIGKILL; starting it again")
        running.wait_for(f"{name} runs again")
    after = running.pids()
    assert all(after[name] != before[name] and lives(after[name]) for name in before)

    assert running.end(signal.SIGINT) == 0
    assert not any(lives(pid) for pid in after.values())

    # The second start finds the source and the endpoint of the first.
    again = Running(running.folder)
    running.output.write_text("")
    again.wait_for("Ctrl-C stops everything")
    assert again.end(signal.SIGTERM) == 0


@pytest.mark.crash
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a child that its parent died")
def test_its_processes_do_not_outlive_it_when_it_is_killed(running: Running) -> None:
    running.wait_for("Ctrl-C stops everything")
    pids = running.pids().values()
    running.end(signal.SIGKILL)
    until(lambda: not any(lives(pid) for pid in pids), lambda: "a process outlived the demo")


def test_told_to_stop_while_it_starts_it_leaves_nothing_behind(running: Running) -> None:
    running.wait_for("Starting Hookbrook")
    assert running.end(signal.SIGTERM) in (0, -signal.SIGTERM)
    running.wait_for("Starting Hookbrook")
    folders = {each.resolve() for each in Path("/proc").glob("[0-9]*/cwd") if os.access(each, os.R_OK)}
    assert running.folder not in folders
