"""A reader who follows a page: types its commands into a shell, keeps its files, and looks at what is printed."""

import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

from tests.docs.pages import Block, matches
from tests.served import PATIENCE_S, Served

HOUSE = Path(__file__).parents[2]
NODE_MODULES = HOUSE / "tests" / "node" / "node_modules"
#: The port of the pages, and any other that they name.
DEFAULT_PORT = "4665"
PORT = re.compile(r"(?<=:)8\d\d\d\b|(?<=\"127\.0\.0\.1\", )8\d\d\d\b|(?<=listen\()8\d\d\d\b|(?<=/32:)8\d\d\d\b")
END = "--- the shell has come to the end of"


class Reader:
    """Follows one page in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server: Served | None = None
        self.outputs: dict[str, str] = {}
        self._ports: dict[str, str] = {}
        self._terminals: dict[str, tuple[subprocess.Popen[bytes], Path]] = {}
        self._last = ""
        self._count = 0
        # On a terminal curl shows no progress; in a pipe it would.
        (folder / ".curlrc").write_text("no-progress-meter\n")
        if NODE_MODULES.exists():
            (folder / "node_modules").symlink_to(NODE_MODULES)
        for name in ("pixel.png", "report.json"):
            (folder / name).write_bytes(b"{}" if name.endswith("json") else b"\x89PNG\r\n\x1a\n")
        self._shell = subprocess.Popen(
            ["bash", "-e"],
            cwd=folder,
            env=self._environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def follow(self, block: Block) -> None:
        """Do what the block says; raises AssertionError if it does not turn out as the page shows."""
        match block.mark:
            case "server":
                self._serve(block.text)
            case "run":
                self._run(block)
            case "file":
                (self.folder / block.name).write_text(self.here(block.text))
            case "terminal":
                self._start(block)
            case "output":
                self._compare(block)

    def here(self, text: str) -> str:
        """The text with the ports of this session."""
        text = PORT.sub(lambda found: self._ports.setdefault(found[0], str(free_port())), text)
        return text.replace(DEFAULT_PORT, str(self.server.port)) if self.server else text

    def _serve(self, text: str) -> None:
        words = shlex.split(self.here(text), comments=True)
        assert words[:2] == ["hookbrook", "serve"], text
        port = 0
        if self.server is not None:
            self._end_terminals()
            port = self.server.port
            self.server.end()
        self.server = Served(self.folder, *words[2:])
        self.server.port = port
        self.server.start()
        self._type(f"export HOOKBROOK_URL={self.server.url}")

    def _run(self, block: Block) -> None:
        if block.name.startswith("needs ") and not shutil.which(block.name.removeprefix("needs ")):
            self._last = ""
            return
        self._last = self._type(self.here(block.text))
        self.outputs[block.name] = self._last

    def _type(self, commands: str) -> str:
        """What the commands print. The shell stops at the first that fails, which is told."""
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._count += 1
        self._shell.stdin.write(f"{commands}\necho '{END} {self._count}'\n".encode())
        self._shell.stdin.flush()
        printed = ""
        for line in self._shell.stdout:
            text, end, _ = line.decode().partition(END)
            printed += text
            if end:
                return printed
        raise AssertionError(f"the shell ended in:\n{commands}\n{printed}")

    def _start(self, block: Block) -> None:
        name, _, place = block.name.partition(", port ")
        output = self.folder / f"{name}.terminal"
        open_before = self._streams_open()
        with output.open("wb") as file:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {self.here(block.text)}"],
                cwd=self.folder,
                env={**self._environment(), **self._exported()},
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self._terminals[name] = (process, output)
        if place:
            port = int(self._ports[place])
            until(lambda: is_listening(port) or process.poll() is not None, block.text)
        else:
            until(lambda: self._streams_open() > open_before or process.poll() is not None, block.text)

    def _exported(self) -> Mapping[str, str]:
        """What the shell has set, as a person would set it in the second terminal, too."""
        lines = self._type("env").splitlines()
        return dict(line.split("=", 1) for line in lines if line.startswith(("WEBHOOK_", "HOOKBROOK_")))

    def _streams_open(self) -> float:
        if self.server is None:
            return 0
        with urllib.request.urlopen(f"{self.server.url}/metrics", timeout=PATIENCE_S) as answer:
            found = re.search(rb"^hookbrook_streams_open (\S+)$", answer.read(), re.MULTILINE)
        return float(found[1]) if found else 0

    def _compare(self, block: Block) -> None:
        expected = self.here(block.text)
        if not block.name:
            assert matches(expected, self._last), f"printed:\n{self._last}\nthe page shows:\n{expected}"
            return
        _, output = self._terminals[block.name]
        until(
            lambda: matches(expected, without_heartbeats(output.read_text())),
            f"what the page shows:\n{expected}\nprinted",
            output.read_text,
        )

    def _environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("HOOKBROOK_")}
        path = f"{Path(sys.executable).parent}{os.pathsep}{inherited.get('PATH', '')}"
        return {
            **inherited,
            "PATH": path,
            "PYTHONUNBUFFERED": "1",
            "COLUMNS": "200",
            "CURL_HOME": str(self.folder),
            "XDG_STATE_HOME": str(self.folder),
        }

    def _end_terminals(self) -> None:
        for process, _ in self._terminals.values():
            end_group(process)
        self._terminals.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end_terminals()
        end_group(self._shell)
        for pipe in (self._shell.stdin, self._shell.stdout):
            if pipe is not None:
                pipe.close()
        if self.server is not None:
            self.server.end()


def without_heartbeats(stream: str) -> str:
    """The stream with only the heartbeat that it begins with; when the others come is the clock's business."""
    first, end, rest = stream.partition("\n")
    return first + end + rest.replace(": hb\n", "")


def end_group(process: "subprocess.Popen[bytes]") -> None:
    """End a process that leads a session, with all that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(PATIENCE_S)


def until(condition: Callable[[], bool], what: str, found: Callable[[], str] = lambda: "") -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}\n{found()}"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
