"""The programs of examples/chatbot, run as real processes.

They import one another as scripts do, from their own folder.
"""

import asyncio
import base64
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
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
    """One of the example's processes; it may be killed and started again."""

    def __init__(self, script: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._command = [sys.executable, str(CHATBOT / script), "--port", str(self.port), *arguments]
        self._environment = {**os.environ, **environment}
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, env=self._environment, stdout=log, stderr=log
            )
        end = time.monotonic() + PATIENCE_S
        async with aiohttp.ClientSession() as http:
            while True:
                try:
                    async with http.get(f"{self.url}/healthz") as answer:
                        assert answer.status == 200
                        return
                except aiohttp.ClientError:
                    assert time.monotonic() < end, self.log
                    assert self._process.returncode is None, self.log
                    await asyncio.sleep(0.02)

    async def kill(self) -> None:
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        return await self._end(signal.SIGTERM)

    async def _end(self, number: int) -> int:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(number)
        return await asyncio.wait_for(self._process.wait(), PATIENCE_S)

    @property
    def log(self) -> str:
        return self._log.read_text()


@pytest.fixture
async def run(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """Start a program of the example; it ends with the test."""
    programs: list[Program] = []

    async def start(script: str, *arguments: str, **environment: str) -> Program:
        program = Program(script, arguments, environment, tmp_path / f"{script}.log")
        programs.append(program)
        await program.start()
        return program

    yield start
    for program in programs:
        await program.kill()
