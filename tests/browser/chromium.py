"""Chromium, with what tests of streams need and playwright turns off by default: the back/forward cache."""

import json
import os
from pathlib import Path
from typing import Any, Self

from playwright.async_api import BrowserContext, Page, Playwright, async_playwright

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


class Chromium:
    """One browser with a fresh profile; all its tabs share that."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._playwright: Playwright | None = None
        self._context: BrowserContext | None = None

    async def __aenter__(self) -> Self:
        self._playwright = await async_playwright().start()
        self._context = await self._playwright.chromium.launch_persistent_context(
            self._folder,
            executable_path=os.environ["HOOKBROOK_CHROMIUM"],
            args=FLAGS,
            ignore_default_args=["--disable-back-forward-cache"],
            ignore_https_errors=True,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._context is not None:
            await self._context.close()
        if self._playwright is not None:
            await self._playwright.stop()

    async def tab(self) -> "ChromiumTab":
        assert self._context is not None
        return ChromiumTab(self._context, await self._context.new_page())


class ChromiumTab:
    def __init__(self, context: BrowserContext, page: Page) -> None:
        self._context = context
        self._page = page

    async def goto(self, url: str) -> None:
        await self._page.goto(url)

    async def back(self) -> None:
        # A page from the cache is shown without being loaded, so there is no load to wait for.
        await self._page.evaluate("() => { history.back() }")

    async def js(self, expression: str) -> Any:
        """The value of an expression, awaited if it is a promise."""
        value = await self._page.evaluate(f"Promise.resolve({expression}).then(JSON.stringify)")
        return None if value is None else json.loads(value)

    async def freeze(self, *, frozen: bool) -> None:
        """As the system does with a tab that nobody has looked at for a while."""
        session = await self._context.new_cdp_session(self._page)
        await session.send("Page.setWebLifecycleState", {"state": "frozen" if frozen else "active"})
        await session.detach()

    async def close(self) -> None:
        await self._page.close()
