"""A process that the demo watches: started until it answers, ended in time, and never left behind."""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp

#: Seconds for a process to answer after its start; a slow disk may take a while to open the log.
START_S = 30.0
#: Seconds for a process to end by itself before it is killed.
STOP_S = 5.0
#: Linux: a signal for the child when its parent dies (prctl(2)).
PR_SET_PDEATHSIG = 1


class ChildFailed(Exception):
    """The process did not come to life; the message shows the end of what it logged."""


class Child:
    """One process, started as often as it takes; its output goes to a file."""

    def __init__(
        self, name: str, folder: Path, command: Sequence[str], environment: Mapping[str, str], ready: str
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._command = command
        self._folder = folder
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("HOOKBROOK_")}
        self._environment = {**inherited, "PYTHONUNBUFFERED": "1", **environment}
        self._ready = ready
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    async def start(self) -> dict[str, Any]:
        """Start it and wait until it answers; what it answered. Raises ChildFailed if it ends or stays silent."""
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                cwd=self._folder,
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C goes to the whole group of the terminal, but the order of ending is ours.
                start_new_session=True,
                preexec_fn=die_with_parent(),
            )
        deadline = time.monotonic() + START_S
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as http:
            while self._process.returncode is None and time.monotonic() < deadline:
                with contextlib.suppress(aiohttp.ClientError, TimeoutError, ValueError):
                    async with http.get(self._ready) as answer:
                        if answer.status == 200:
                            read: dict[str, Any] = await answer.json(content_type=None)
                            return read
                await asyncio.sleep(0.05)
        raise ChildFailed(f"{self.name} {self.fate()} before it was ready. {self.tail()}")

    async def wait(self) -> None:
        assert self._process is not None
        await self._process.wait()

    async def stop(self) -> None:
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), STOP_S)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    def fate(self) -> str:
        code = self._process.returncode if self._process else None
        if code is None:
            return f"did not answer within {START_S:g} s"
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def tail(self, lines: int = 8) -> str:
        last = self.log.read_text(errors="replace").splitlines()[-lines:] if self.log.exists() else []
        return f"Its log, {self.log}, ends with:\n" + "\n".join(f"  {line}" for line in last)


def die_with_parent() -> Callable[[], None] | None:
    """What a child does first on Linux, so that it does not outlive a killed parent; None elsewhere."""
    if not sys.platform.startswith("linux"):
        return None
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)  # the parent died in between

    return ask
