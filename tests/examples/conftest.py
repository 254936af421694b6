"""The programs of examples/chatbot, run as real processes.

They import one another as scripts do, from their own folder.
"""

import asyncio
import base64
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

CHATBOT = Path(__file__).parents[2] / "examples" / "chatbot"
sys.path.insert(0, str(CHATBOT))

#: Generous, since the machine may be busy; nothing waits for it unless the test fails.
PATIENCE_S = 20.0


@pytest.fixture
def docs() -> Path:
    """Pages as a documentation has them: headings, lists, tables, code."""
    return Path(__file__).parent / "docs"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def new_secret() -> str:
    return "whsec_" + base64.b64encode(os.urandom(24)).decode()


@pytest.fixture
def make_secret() -> Callable[[], str]:
    return new_secret


@pytest.fixture
def secrets() -> dict[str, str]:
    """What the engine is told by its environment."""
    return {"ENGINE_WEBHOOK_SECRET": new_secret(), "ENGINE_CALLBACK_SECRET": new_secret()}


@pytest.fixture
def until() -> Callable[[Callable[[], Any], str], Awaitable[Any]]:
    """Wait for the first true value of a condition."""

    async def wait(condition: Callable[[], Any], what: str) -> Any:
        end = time.monotonic() + PATIENCE_S
        while not (value := condition()):
            assert time.monotonic() < end, f"waited in vain for {what}"
            await asyncio.sleep(0.01)
        return value

    return wait


class Program:
    """A process that listens; it may be killed and started again."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], folder: Path, name: str, ready: str = "/healthz"
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._command = [sys.executable, *command, "--port", str(self.port)]
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("HOOKBROOK_", "OPENAI_"))}
        self._environment = {**inherited, **environment}
        self._folder = folder
        self._log = folder / f"{name}.log"
        self._ready = ready
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start it and wait until it answers."""
        await asyncio.to_thread(self.start_and_wait)

    async def kill(self) -> None:
        await asyncio.to_thread(self.end, signal.SIGKILL)

    async def stop(self) -> int:
        return await asyncio.to_thread(self.end, signal.SIGTERM)

    def start_and_wait(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=self._folder, env=self._environment, stdout=log, stderr=log
            )
        end = time.monotonic() + PATIENCE_S
        while not self._answers():
            assert self._process.poll() is None, self.log
            assert time.monotonic() < end, self.log
            time.sleep(0.02)

    def end(self, number: int) -> int:
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(number)
        return self._process.wait(PATIENCE_S)

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request("GET", self._ready)
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    @property
    def log(self) -> str:
        return self._log.read_text()


@pytest.fixture
async def run(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """Start a program of the example; it ends with the test."""
    programs: list[Program] = []

    async def start(script: str, *arguments: str, **environment: str) -> Program:
        program = Program([str(CHATBOT / script), *arguments], environment, tmp_path, Path(script).stem)
        programs.append(program)
        await program.start()
        return program

    yield start
    for program in programs:
        await program.kill()


def start_hookbrook(folder: Path) -> Program:
    program = Program(["-m", "hookbrook", "serve", "--dev"], {}, folder, "hookbrook", "/readyz")
    program.start_and_wait()
    return program


@pytest.fixture(scope="module")
def hookbrook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A real one, open to this machine."""
    program = start_hookbrook(tmp_path_factory.mktemp("hookbrook"))
    yield program
    program.end(signal.SIGKILL)


@pytest.fixture
def mortal_hookbrook(tmp_path: Path) -> Iterator[Program]:
    """One for this test alone, which may kill it."""
    program = start_hookbrook(tmp_path)
    yield program
    program.end(signal.SIGKILL)
