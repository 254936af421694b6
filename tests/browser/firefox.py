"""Firefox as Debian ships it, driven by WebDriver BiDi, the protocol that it speaks by itself.

Playwright drives only a Firefox of its own making. The protocol (W3C, "WebDriver BiDi") is JSON over a WebSocket: a
command has an id, and its result bears the same.
"""

import asyncio
import json
import os
import re
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import aiohttp

PATIENCE_S = 60.0
#: No first-run pages, no updates and no calls home; and a back/forward cache as people have it.
PREFERENCES: Mapping[str, object] = {
    "app.update.auto": False,
    "browser.aboutwelcome.enabled": False,
    "browser.sessionhistory.max_total_viewers": 4,
    "browser.shell.checkDefaultBrowser": False,
    "browser.tabs.warnOnClose": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "fission.bfcacheInParent": True,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "toolkit.telemetry.enabled": False,
}


class Firefox:
    """One browser with a fresh profile."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None
        self._session = aiohttp.ClientSession()
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._reading: asyncio.Task[None] | None = None
        self._answers: dict[int, asyncio.Future[Any]] = {}

    async def __aenter__(self) -> Self:
        lines = (f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in PREFERENCES.items())
        (self._folder / "user.js").write_text("".join(lines), "utf-8")
        self._process = await asyncio.create_subprocess_exec(
            os.environ["HOOKBROOK_FIREFOX"],
            *("--headless", "--no-remote", "--remote-debugging-port", "0", "--profile", str(self._folder)),
            env={**os.environ, "HOME": str(self._folder)},
            stderr=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        async with asyncio.timeout(PATIENCE_S):
            url = await self._url(self._process)
            self._socket = await self._session.ws_connect(f"{url}/session", max_msg_size=0)
        self._reading = asyncio.create_task(self._read(self._socket))
        await self.send("session.new", capabilities={"alwaysMatch": {"acceptInsecureCerts": True}})
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        await self._session.close()
        if self._process is not None and self._process.returncode is None:
            # With its children: they are in a session of their own.
            os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()

    async def _url(self, process: asyncio.subprocess.Process) -> str:
        assert process.stderr is not None
        while line := (await process.stderr.readline()).decode():
            if found := re.search(r"WebDriver BiDi listening on (ws://\S+)", line):
                return found[1]
        raise AssertionError("Firefox ended")

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            document = json.loads(message.data)
            answer = self._answers.pop(document.get("id"), None)
            if answer is None or answer.done():
                continue
            if document["type"] == "error":
                answer.set_exception(AssertionError(f"{document['error']}: {document['message']}"))
            else:
                answer.set_result(document["result"])

    async def send(self, method: str, **params: Any) -> Any:
        assert self._socket is not None
        number = len(self._answers) + 1
        while number in self._answers:
            number += 1
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params})
        async with asyncio.timeout(PATIENCE_S):
            return await answer

    async def tab(self) -> "FirefoxTab":
        made = await self.send("browsingContext.create", type="tab")
        return FirefoxTab(self, made["context"])


class FirefoxTab:
    def __init__(self, firefox: Firefox, context: str) -> None:
        self._firefox = firefox
        self._context = context

    async def goto(self, url: str) -> None:
        await self._firefox.send("browsingContext.navigate", context=self._context, url=url, wait="complete")

    async def back(self) -> None:
        await self._firefox.send("browsingContext.traverseHistory", context=self._context, delta=-1)

    async def js(self, expression: str) -> Any:
        """The value of an expression, awaited if it is a promise."""
        answer = await self._firefox.send(
            "script.evaluate",
            expression=f"Promise.resolve({expression}).then(JSON.stringify)",
            target={"context": self._context},
            awaitPromise=True,
        )
        assert answer["type"] == "success", answer.get("exceptionDetails", {}).get("text")
        value = answer["result"].get("value")
        return None if value is None else json.loads(value)

    async def close(self) -> None:
        await self._firefox.send("browsingContext.close", context=self._context)
