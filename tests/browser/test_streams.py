"""Streams in real browsers: EventSource as it is, and `/hookbrook.js`, in two tabs, asleep, and in the cache."""

import asyncio
import json
import os
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any, Protocol, Self

import pytest
import pytest_asyncio
from tests.browser.chromium import Chromium, ChromiumTab
from tests.browser.firefox import Firefox
from tests.served import Running, running

pytestmark = pytest.mark.asyncio(loop_scope="module")

#: Generous, since the machine may be busy; nothing waits for it unless the test fails.
PATIENCE_S = 60.0
CHANNELS = count()


class Tab(Protocol):
    async def goto(self, url: str) -> None: ...
    async def back(self) -> None: ...
    async def js(self, expression: str) -> Any: ...
    async def close(self) -> None: ...


class Browser(Protocol):
    async def tab(self) -> Tab: ...


@pytest_asyncio.fixture(
    loop_scope="module",
    scope="module",
    params=[
        pytest.param(Chromium, marks=pytest.mark.browser, id="chromium"),
        pytest.param(Firefox, marks=pytest.mark.firefox, id="firefox"),
    ],
)
async def browser(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    async with request.param(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def brook(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    async with running(tmp_path_factory.mktemp("streams"), heartbeat_s=1) as here:
        yield here


@pytest.fixture
def channel() -> str:
    return f"c.{next(CHANNELS)}"


@asynccontextmanager
async def tabs(browser: Browser, number: int, url: str) -> AsyncIterator[list[Tab]]:
    opened = [await browser.tab() for _ in range(number)]
    try:
        for tab in opened:
            # Any page of the origin: what it shows is not looked at.
            await tab.goto(f"{url}/metrics")
        yield opened
    finally:
        for tab in opened:
            await tab.close()


async def until(condition: Callable[[], Awaitable[Any]], what: str) -> None:
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not await condition():  # noqa: ASYNC110 - what is waited for happens in a browser
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"waited in vain for {what}") from None


async def publish(brook: Running, channel: str, numbers: range) -> None:
    for number in numbers:
        await brook.publish(channel, str(number).encode())


async def open_brook(tab: Tab, target: str, options: str = "{share: 'x', watchdog: 3}") -> None:
    """Let `/hookbrook.js` read the stream into `window.seen`, and wait until it does."""
    await tab.js(
        f"""import("/hookbrook.js").then(({{ Brook }}) => new Promise((done) => {{
            window.seen = []; window.told = [];
            window.brook = new Brook("{target}", {options});
            brook.addEventListener("message", ({{ data, lastEventId }}) => seen.push(+data));
            for (const name of ["open", "error", "closed", "hookbrook.reset", "hookbrook.expired"])
                brook.addEventListener(name, ({{ type, status }}) => {{ told.push([type, status]); done(); }});
        }}))"""
    )


async def open_event_source(tab: Tab, target: str) -> None:
    await tab.js(
        f"""new Promise((done) => {{
            window.seen = [];
            window.source = new EventSource("{target}");
            source.onmessage = ({{ data }}) => seen.push(+data);
            source.onopen = done;
        }}).then(() => 1)"""
    )


async def sees(tab: Tab, numbers: range) -> None:
    """Each of them once and in order, and nothing else."""

    async def enough() -> bool:
        return len(await tab.js("seen")) >= len(numbers)

    try:
        await until(enough, f"{len(numbers)} events")
    except AssertionError:
        raise AssertionError(f"saw {await tab.js('seen')} of {numbers}, told {await tab.js('window.told')}") from None
    assert await tab.js("seen") == list(numbers)


async def streams_are(brook: Running, number: int, channel: str) -> None:
    async def reached() -> bool:
        rows = (await brook.http.get(f"/v1/connections?channel={channel}")).json()["data"]
        return len(rows) == number

    await until(reached, f"{number} streams")


class Gate:
    """A proxy in front of the server, which can fall silent as a network does: nothing passes, nothing is closed."""

    def __init__(self, port: int) -> None:
        self._upstream = port
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0
        self.connections = 0
        #: Connections up to this number pass nothing on.
        self.silent = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._upstream)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass_on(reader, to_server, number))
                group.create_task(self._pass_on(from_server, writer, number))
        except* (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            to_server.close()
            writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        while data := await reader.read(65536):
            if number > self.silent:
                writer.write(data)
                await writer.drain()
        writer.close()

    def fall_silent(self) -> None:
        self.silent = self.connections


# EventSource, without any program of ours


async def test_event_source_goes_on_where_it_stopped_when_its_stream_is_ended(
    browser: Browser, brook: Running, channel: str
) -> None:
    async with tabs(browser, 1, str(brook.http.base_url)) as [tab]:
        await open_event_source(tab, f"/v1/channels/{channel}")
        await publish(brook, channel, range(5))
        await sees(tab, range(5))
        (row,) = (await brook.http.get(f"/v1/connections?channel={channel}")).json()["data"]
        assert (await brook.http.delete(f"/v1/connections/{row['id']}")).status_code == 204
        await publish(brook, channel, range(5, 10))
        await sees(tab, range(10))


async def test_event_source_is_sent_away_when_there_is_no_room_and_comes_back_when_there_is(
    browser: Browser, tmp_path: Path
) -> None:
    async with running(tmp_path, max_connections=1) as brook:
        first = await brook.listen("/v1/channels/a")
        async with tabs(browser, 1, str(brook.http.base_url)) as [tab]:
            await tab.js(
                """new Promise((done) => {
                    window.seen = [];
                    window.source = new EventSource("/v1/channels/a?since=1h");
                    source.onmessage = ({ data }) => seen.push(+data);
                    source.addEventListener("hookbrook.busy", ({ data }) => done(data));
                }).then((data) => window.busy = JSON.parse(data))"""
            )
            assert (await tab.js("busy"))["reason"] == "connections"
            await first.close()
            await brook.publish("a", b"7")
            await sees(tab, range(7, 8))


# /hookbrook.js


async def test_tabs_share_one_connection_and_each_sees_every_event_once_also_when_the_first_is_closed(
    browser: Browser, brook: Running, channel: str
) -> None:
    url = str(brook.http.base_url)
    async with tabs(browser, 2, url) as others:
        first = await browser.tab()
        await first.goto(f"{url}/metrics")
        for tab in (first, *others):
            await open_brook(tab, f"/v1/channels/{channel}")
        await streams_are(brook, 1, channel)
        await publish(brook, channel, range(20))
        for tab in (first, *others):
            await sees(tab, range(20))
        await first.close()
        await publish(brook, channel, range(20, 40))
        for tab in others:
            await sees(tab, range(40))
        await streams_are(brook, 1, channel)


async def test_a_tab_that_comes_later_and_asks_for_the_past_gets_it_and_then_shares(
    browser: Browser, brook: Running, channel: str
) -> None:
    await publish(brook, channel, range(10))
    async with tabs(browser, 2, str(brook.http.base_url)) as [first, second]:
        target = f"/v1/channels/{channel}?last=5"
        await open_brook(first, target)
        await sees(first, range(5, 10))
        await publish(brook, channel, range(10, 12))
        await sees(first, range(5, 12))
        await open_brook(second, target)
        await sees(second, range(7, 12))
        await publish(brook, channel, range(12, 20))
        await sees(first, range(5, 20))
        await sees(second, range(7, 20))
        await streams_are(brook, 1, channel)


async def note_the_cache(tab: Tab) -> None:
    await tab.js("window.addEventListener('pageshow', ({ persisted }) => { window.cached = persisted; }) ?? 1")


async def came_back(tab: Tab) -> bool:
    """Wait for the page before; returns whether it came out of the cache, with all that it had."""
    await tab.back()

    async def there() -> bool:
        try:
            return bool(await tab.js("location.pathname === '/metrics' && document.readyState === 'complete'"))
        except Exception:  # noqa: BLE001 - the page changes while it is asked
            return False

    await until(there, "the page before")
    return await tab.js("window.cached ?? false") is True


async def test_a_page_in_the_back_forward_cache_holds_no_connection_and_misses_nothing(
    browser: Browser, brook: Running, channel: str
) -> None:
    url = str(brook.http.base_url)
    async with tabs(browser, 1, url) as [tab]:
        await open_brook(tab, f"/v1/channels/{channel}")
        await note_the_cache(tab)
        await publish(brook, channel, range(5))
        await sees(tab, range(5))
        await tab.goto(f"{url}/healthz")
        await streams_are(brook, 0, channel)
        await publish(brook, channel, range(5, 10))
        if await came_back(tab):
            await sees(tab, range(10))
        else:
            # Firefox decides before `pagehide`, and keeps no page that waits for an answer: it is loaded anew.
            assert not isinstance(browser, Chromium)
            assert await tab.js("typeof seen") == "undefined"


async def test_event_source_in_the_back_forward_cache_misses_nothing(
    browser: Browser, brook: Running, channel: str
) -> None:
    url = str(brook.http.base_url)
    async with tabs(browser, 1, url) as [tab]:
        await open_event_source(tab, f"/v1/channels/{channel}")
        await note_the_cache(tab)
        await publish(brook, channel, range(5))
        await sees(tab, range(5))
        await tab.goto(f"{url}/healthz")
        await publish(brook, channel, range(5, 10))
        if await came_back(tab):
            await sees(tab, range(10))


async def test_what_falls_silent_is_given_up_and_resumed(browser: Browser, brook: Running, channel: str) -> None:
    async with Gate(brook.port) as gate, tabs(browser, 1, f"http://127.0.0.1:{gate.port}") as [tab]:
        await open_brook(tab, f"/v1/channels/{channel}", "{watchdog: 3}")
        await publish(brook, channel, range(5))
        await sees(tab, range(5))
        gate.fall_silent()
        await publish(brook, channel, range(5, 10))
        await sees(tab, range(10))


async def test_a_browser_that_was_put_to_sleep_misses_nothing(browser: Browser, brook: Running, channel: str) -> None:
    """All its processes stop, as they do when a lid is closed; meanwhile the network forgets the connection."""
    if not isinstance(browser, Firefox) or browser._process is None:
        pytest.skip("Chromium's processes belong to playwright; see the test of frozen pages")
    async with Gate(brook.port) as gate, tabs(browser, 1, f"http://127.0.0.1:{gate.port}") as [tab]:
        await open_brook(tab, f"/v1/channels/{channel}", "{watchdog: 3}")
        await publish(brook, channel, range(5))
        await sees(tab, range(5))
        os.killpg(browser._process.pid, signal.SIGSTOP)
        gate.fall_silent()
        await publish(brook, channel, range(5, 10))
        await asyncio.sleep(4)
        os.killpg(browser._process.pid, signal.SIGCONT)
        await sees(tab, range(10))


async def test_a_frozen_page_lets_another_lead_and_catches_up_when_it_thaws(
    browser: Browser, brook: Running, channel: str
) -> None:
    async with tabs(browser, 2, str(brook.http.base_url)) as [first, second]:
        if not isinstance(first, ChromiumTab):
            pytest.skip("Firefox freezes no pages")
        for tab in (first, second):
            await open_brook(tab, f"/v1/channels/{channel}")
        await publish(brook, channel, range(5))
        for tab in (first, second):
            await sees(tab, range(5))
        await first.freeze(frozen=True)
        await publish(brook, channel, range(5, 10))
        await sees(second, range(10))
        await first.freeze(frozen=False)
        await sees(first, range(10))
        await publish(brook, channel, range(10, 15))
        for tab in (first, second):
            await sees(tab, range(15))
        await streams_are(brook, 1, channel)


async def test_a_gap_is_told(browser: Browser, brook: Running, channel: str) -> None:
    async with tabs(browser, 1, str(brook.http.base_url)) as [tab]:
        await open_brook(tab, f"/v1/channels/{channel}", "{}")
        await publish(brook, channel, range(3))
        await sees(tab, range(3))
        # As after a restored backup: a cursor of another log.
        await tab.js("(brook.lastEventId = 'elsewhere-7', dispatchEvent(new Event('pagehide')))")
        await tab.js("dispatchEvent(new Event('pageshow'))")

        async def told() -> bool:
            return any(name == "hookbrook.reset" for name, *_ in await tab.js("told"))

        await until(told, "the reset")
        await publish(brook, channel, range(3, 6))
        await sees(tab, range(6))


async def test_a_token_is_sent_as_a_header_and_made_anew_when_it_has_ended(browser: Browser, tmp_path: Path) -> None:
    async with running(tmp_path, dev=False) as brook:
        tokens = [(await brook.mint({"sub": f"s{number}", "subscribe": ["a"]})).json()["token"] for number in range(2)]
        async with tabs(browser, 1, str(brook.http.base_url)) as [tab]:
            await tab.js(f"window.tokens = {json.dumps(tokens)}")
            await open_brook(tab, "/v1/channels/a", "{token: async () => tokens.shift()}")
            await publish(brook, "a", range(3))
            await sees(tab, range(3))
            assert (await brook.http.delete("/v1/tokens?subject=s0")).json() == {"ended": 1}
            await publish(brook, "a", range(3, 6))
            await sees(tab, range(6))
            assert "hookbrook.expired" in [name for name, *_ in await tab.js("told")]


async def test_what_is_refused_for_good_is_not_asked_for_again(browser: Browser, tmp_path: Path) -> None:
    async with running(tmp_path, dev=False) as brook, tabs(browser, 1, str(brook.http.base_url)) as [tab]:
        await open_brook(tab, "/v1/channels/a", "{}")
        assert await tab.js("told") == [["error", 401]]
        assert await tab.js("brook.readyState") == 2


async def test_the_documented_page_shows_what_is_published(browser: Browser, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "streams.md").read_text("utf-8")
    (program,) = re.findall(r"```js\n(import .*?)```", page, re.DOTALL)
    script = f"Object.assign(document.createElement('script'), {{type: 'module', textContent: {json.dumps(program)}}})"
    async with running(tmp_path) as brook, tabs(browser, 1, str(brook.http.base_url)) as [tab]:
        await brook.publish("orders.42", b"first")
        await tab.js(f"document.head.append({script}) ?? 1")
        await shows(tab, ["first"])
        await brook.publish("orders.42", b"second")
        await shows(tab, ["first", "second"])


async def shows(tab: Tab, lines: list[str]) -> None:
    async def shown() -> bool:
        return bool(await tab.js("[...document.querySelectorAll('li')].map((row) => row.textContent)") == lines)

    await until(shown, str(lines))


async def test_a_stream_that_is_finished_is_left_for_good_by_event_source_and_by_the_library(
    browser: Browser, brook: Running, channel: str
) -> None:
    async with tabs(browser, 1, str(brook.http.base_url)) as [tab]:
        await open_brook(tab, f"/v1/channels/{channel}", "{}")
        await tab.js(f"(window.plain = new EventSource('/v1/channels/{channel}')) && 1")
        await publish(brook, channel, range(2))
        answer = await brook.http.post(f"/v1/channels/{channel}?close=1", content=b"2")
        assert answer.status_code == 201, answer.text
        await sees(tab, range(3))

        async def both_ended() -> bool:
            return bool(await tab.js("brook.readyState === 2 && plain.readyState === 2"))

        await until(both_ended, "the end")
        assert (await tab.js("told"))[-1] == ["closed", 204]
        await streams_are(brook, 0, channel)
