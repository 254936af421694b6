"""The chat application between a real Hookbrook and whoever asks it over HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from yarl import URL

from hookbrook import AsyncHookbrook
from hookbrook.core.sse import Frame, Parser

if TYPE_CHECKING:
    from tests.examples.conftest import Program

Until = Callable[[Callable[[], Any], str], Awaitable[Any]]
Start = Callable[..., Awaitable["Program"]]

PATIENCE_S = 20.0
TEXT = "One two three four five six seven eight nine ten."
WORDS = ["One ", "two ", "three ", "four ", "five ", "six ", "seven ", "eight ", "nine ", "ten."]


@pytest.fixture
def start_app(run: Callable[..., Any], tmp_path: Path) -> Start:
    async def start(hookbrook: "Program", *, pace: float = 0.0) -> "Program":
        arguments = ("--data", str(tmp_path / "app.cursor"), "--pace", str(pace), "--engine", "by a test")
        program: Program = await run("app.py", *arguments, HOOKBROOK_URL=hookbrook.url)
        return program

    return start


@pytest.fixture
async def lone_app(run: Callable[..., Any], tmp_path: Path) -> "Program":
    """The application while there is no Hookbrook."""
    arguments = ("--data", str(tmp_path / "app.cursor"))
    program: Program = await run("app.py", *arguments, HOOKBROOK_URL="http://127.0.0.1:9")
    return program


@pytest.fixture
async def browser() -> AsyncIterator[aiohttp.ClientSession]:
    """Keeps the session's cookie, as a browser does."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        yield session


@asynccontextmanager
async def reading(browser: aiohttp.ClientSession, app: "Program", cursor: str = "") -> AsyncIterator[list[Frame]]:
    """The frames of the conversation's stream, which go on coming while it is open."""
    frames: list[Frame] = []
    headers = {"Last-Event-ID": cursor} if cursor else {}

    async def read(response: aiohttp.ClientResponse) -> None:
        parser = Parser()
        while chunk := await response.content.readany():
            frames.extend(parser.feed(chunk))

    async with browser.get(f"{app.url}/chat/stream", headers=headers) as response:
        assert response.status == 200
        assert response.headers["Content-Type"].startswith("text/event-stream")
        task = asyncio.create_task(read(response))
        yield frames
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def of(frames: list[Frame], type: str) -> list[dict[str, Any]]:
    return [json.loads(frame.data) for frame in frames if frame.type == type]


async def conversation_of(browser: aiohttp.ClientSession, app: "Program") -> str:
    """As the first frame of the stream tells it."""
    parser = Parser()
    async with browser.get(f"{app.url}/chat/stream") as response:
        while not (frames := parser.feed(await response.content.readany())):
            assert not response.content.at_eof()
    return str(json.loads(frames[0].data)["channel"]).removeprefix("chat.")


async def say(browser: aiohttp.ClientSession, app: "Program", message: Any) -> aiohttp.ClientResponse:
    async with browser.post(f"{app.url}/chat/messages", json=message) as answer:
        await answer.read()
        return answer


async def call_back(hookbrook: "Program", conversation: str) -> None:
    """Put on `engine.replies` what Hookbrook appends when the engine calls back."""
    reply = f"{conversation}-reply"
    common = {"conversation": conversation, "reply": reply}
    async with AsyncHookbrook(hookbrook.url) as hb:
        accepted = {**common, "engine": "by a test", "webhook": "evt_1"}
        await hb.publish("engine.replies", accepted, type="reply.accepted", id=f"job-{reply}-accepted")
        await hb.publish("engine.replies", {**common, "text": TEXT}, type="reply.finished", id=f"job-{reply}-finished")


async def test_a_message_is_published_once_however_often_it_is_sent(
    start_app: Start, hookbrook: "Program", browser: aiohttp.ClientSession
) -> None:
    app = await start_app(hookbrook)
    answers = [await say(browser, app, {"id": "m1", "text": " Hello? "}) for _ in range(3)]
    assert [answer.status for answer in answers] == [201, 201, 201]
    conversation = await conversation_of(browser, app)
    async with AsyncHookbrook(hookbrook.url) as hb:
        page = await hb.request("GET", f"/v1/channels/chat.{conversation}")
    (event,) = page["data"]
    assert (event["id"], event["type"]) == (f"{conversation}-m1", "chat.message")
    assert event["data"] == {
        "role": "user",
        "text": "Hello?",
        "message": "m1",
        "conversation": conversation,
        "reply": f"{conversation}-m1-reply",
    }


NO_MESSAGES: list[Any] = [[], {}, {"id": "m1"}, {"id": "m1", "text": "  "}, {"id": "m-1", "text": "a"}]
NO_MESSAGES += [{"id": "é", "text": "a"}, {"id": "", "text": "a"}, {"id": "m" * 65, "text": "a"}]
NO_MESSAGES += [{"id": "m1", "text": "a" * 2001}]


async def test_what_is_no_message_is_refused(lone_app: "Program") -> None:
    async with aiohttp.ClientSession() as browser:
        assert [(await say(browser, lone_app, message)).status for message in NO_MESSAGES] == [400] * len(NO_MESSAGES)


async def test_a_form_of_another_site_is_refused(lone_app: "Program") -> None:
    async with (
        aiohttp.ClientSession() as browser,
        browser.post(f"{lone_app.url}/chat/messages", data=b'{"id": "m1", "text": "a"}') as answer,
    ):
        assert answer.status == 400


async def test_a_reply_of_the_engine_is_told_word_by_word(
    start_app: Start, hookbrook: "Program", browser: aiohttp.ClientSession, until: Until
) -> None:
    app = await start_app(hookbrook)
    conversation = await conversation_of(browser, app)
    async with reading(browser, app) as frames:
        await call_back(hookbrook, conversation)
        await until(lambda: of(frames, "chat.done"), "the end of the reply")
    assert of(frames, "chat.delta") == [
        {"reply": f"{conversation}-reply", "n": n, "text": word} for n, word in enumerate(WORDS, 1)
    ]
    assert of(frames, "chat.done") == [{"reply": f"{conversation}-reply", "words": 10}]
    assert [step["step"] for step in of(frames, "chat.step")] == ["accepted", "verified"]
    assert of(frames, "chat.about")[0]["engine"] == "by a test"


async def test_a_page_that_is_opened_later_is_told_everything_and_one_that_comes_back_the_rest(
    start_app: Start, hookbrook: "Program", browser: aiohttp.ClientSession, until: Until
) -> None:
    app = await start_app(hookbrook)
    conversation = await conversation_of(browser, app)
    await call_back(hookbrook, conversation)
    async with reading(browser, app) as frames:
        await until(lambda: of(frames, "chat.done"), "the end of the reply")
    async with reading(browser, app) as again:
        await until(lambda: of(again, "chat.done"), "the end of the reply")
    assert of(again, "chat.delta") == of(frames, "chat.delta")

    sixth = next(frame.last_event_id for frame in frames if '"n":6' in frame.data.replace(" ", ""))
    async with reading(browser, app, sixth) as rest:
        await until(lambda: of(rest, "chat.done"), "the end of the reply")
    assert [delta["n"] for delta in of(rest, "chat.delta")] == [7, 8, 9, 10]


async def test_other_events_on_the_engines_channel_are_passed_over(
    start_app: Start, hookbrook: "Program", browser: aiohttp.ClientSession, until: Until
) -> None:
    app = await start_app(hookbrook)
    conversation = await conversation_of(browser, app)
    async with AsyncHookbrook(hookbrook.url) as hb:
        await hb.publish("engine.replies", "text", type="reply.finished")
        await hb.publish("engine.replies", {"reply": 1}, type="reply.finished")
        await hb.publish("engine.replies", {"reply": "r0", "conversation": conversation}, type="other")
    async with reading(browser, app) as frames:
        await call_back(hookbrook, conversation)
        await until(lambda: of(frames, "chat.done"), "the end of the reply")
    assert {delta["reply"] for delta in of(frames, "chat.delta")} == {f"{conversation}-reply"}


async def test_replies_of_several_conversations_are_told_at_the_same_time_and_apart(
    start_app: Start, hookbrook: "Program", browser: aiohttp.ClientSession, until: Until
) -> None:
    app = await start_app(hookbrook, pace=0.05)
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as other:
        one, two = await conversation_of(browser, app), await conversation_of(other, app)
        assert one != two
        async with reading(browser, app) as frames, reading(other, app) as others:
            await call_back(hookbrook, one)
            await call_back(hookbrook, two)
            await until(lambda: of(others, "chat.delta"), "a word of the second")
            assert not of(frames, "chat.done")
            await until(lambda: of(frames, "chat.done") and of(others, "chat.done"), "both ends")
    assert {delta["reply"] for delta in of(frames, "chat.delta")} == {f"{one}-reply"}
    assert {delta["reply"] for delta in of(others, "chat.delta")} == {f"{two}-reply"}


async def test_an_app_killed_in_mid_reply_completes_it_after_a_restart_with_every_word_once(
    start_app: Start, hookbrook: "Program", browser: aiohttp.ClientSession, until: Until
) -> None:
    app = await start_app(hookbrook, pace=0.1)
    conversation = await conversation_of(browser, app)
    async with reading(browser, app) as frames:
        await call_back(hookbrook, conversation)
        await until(lambda: len(of(frames, "chat.delta")) >= 3, "some words")
        await app.kill()
    assert not of(frames, "chat.done")

    await app.start()
    async with reading(browser, app) as frames:
        await until(lambda: of(frames, "chat.done"), "the end of the reply")
    assert [delta["text"] for delta in of(frames, "chat.delta")] == WORDS


async def test_the_bookmark_moves_behind_a_reply_when_it_was_told(
    start_app: Start, hookbrook: "Program", browser: aiohttp.ClientSession, until: Until, tmp_path: Path
) -> None:
    app = await start_app(hookbrook)
    conversation = await conversation_of(browser, app)
    await call_back(hookbrook, conversation)
    async with AsyncHookbrook(hookbrook.url) as hb:
        last = [page async for page in hb.pages("/v1/channels/engine.replies")][-1]["cursor"]
    bookmark = tmp_path / "app.cursor"
    await until(lambda: bookmark.exists() and bookmark.read_text() == last, "the bookmark behind the reply")


async def test_while_hookbrook_is_away_the_stream_waits_and_then_goes_on_by_itself(
    start_app: Start, mortal_hookbrook: "Program", browser: aiohttp.ClientSession, until: Until
) -> None:
    app = await start_app(mortal_hookbrook)
    conversation = await conversation_of(browser, app)
    await mortal_hookbrook.kill()
    async with reading(browser, app) as frames:
        await until(lambda: of(frames, "chat.waiting"), "the word that Hookbrook is away")
        await mortal_hookbrook.start()
        await until(lambda: of(frames, "chat.live"), "the stream")
        await call_back(mortal_hookbrook, conversation)
        await until(lambda: of(frames, "chat.done"), "the end of the reply")


async def test_hookbrook_killed_in_mid_reply_costs_no_word(
    start_app: Start, mortal_hookbrook: "Program", browser: aiohttp.ClientSession, until: Until
) -> None:
    app = await start_app(mortal_hookbrook, pace=0.1)
    conversation = await conversation_of(browser, app)
    async with reading(browser, app) as frames:
        await call_back(mortal_hookbrook, conversation)
        await until(lambda: len(of(frames, "chat.delta")) >= 3, "some words")
        await mortal_hookbrook.kill()
    await mortal_hookbrook.start()
    async with reading(browser, app) as frames:
        await until(lambda: of(frames, "chat.done"), "the end of the reply")
    assert [delta["text"] for delta in of(frames, "chat.delta")] == WORDS


async def test_the_page_comes_with_a_policy_and_a_session_that_scripts_cannot_read(lone_app: "Program") -> None:
    async with aiohttp.ClientSession() as browser, browser.get(lone_app.url) as answer:
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        cookie = answer.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Lax" in cookie
        assert "<title>" in await answer.text()


async def test_the_pages_files_are_served_and_nothing_else(lone_app: "Program") -> None:
    async with aiohttp.ClientSession() as browser:

        async def status(path: str) -> int:
            async with browser.get(URL(lone_app.url + path, encoded=True)) as answer:
                return answer.status

        assert [await status(path) for path in ("/chat.js", "/view.js", "/chat.css", "/icon.svg")] == [200] * 4
        hidden = ("/app.py", "/../app.py", "/%2e%2e/app.py", "/page/", "/app.cursor")
        assert [await status(path) for path in hidden] == [404] * len(hidden)
