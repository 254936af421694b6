"""The demo as people meet it: Chromium on the page, three real processes behind it, and `kill -9` in mid-reply."""

import base64
import hashlib
import hmac
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

pytestmark = pytest.mark.browser

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
DOCS = Path(__file__).parents[1] / "examples" / "docs"
QUESTION = "What happens when a reader of a stream reconnects?"

#: Generous, since the machine may be busy; nothing waits for it unless the test fails.
PATIENCE_S = 40.0

#: Slow enough that there is a middle of the reply to kill something in.
PACE_S = "0.08"


class Demo:
    """`hookbrook demo`, and what it printed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._output = folder / "output"
        command = [sys.executable, "-m", "hookbrook.cli.demo", "--port", "0", "--folder", str(folder), "--no-open"]
        settings = {
            "HOOKBROOK_DEMO_PACE": PACE_S,
            "HOOKBROOK_DEMO_WORK_SECONDS": "0.5",
            "HOOKBROOK_DEMO_DOCS": str(DOCS),
        }
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(command, env={**os.environ, **settings}, stdout=output, stderr=output)
        self.page = str(until(lambda: self.found(r"is open:\s+(http://\S+)"), "the page's URL", self._is_dead))
        self.hookbrook = str(self.found(r"--url (http://\S+)"))

    @property
    def output(self) -> str:
        return self._output.read_text()

    def found(self, pattern: str) -> str:
        found = re.findall(pattern, self.output)
        return str(found[-1]) if found else ""

    def kill(self, name: str) -> None:
        """`kill -9` one of the three; the demo starts it again."""
        runs_again = self.output.count(f"{name} runs again")
        pid = self.found(rf"{name} runs again, as pid (\d+)") or self.found(rf"{name} (\d+)[,)]")
        os.kill(int(pid), signal.SIGKILL)
        until(lambda: self.output.count(f"{name} runs again") > runs_again, f"the return of {name}")

    def get(self, path: str) -> Any:
        return json.loads(self._request("GET", path, b"", {})[1])

    def post(self, path: str, body: bytes, headers: dict[str, str]) -> int:
        return self._request("POST", path, body, headers)[0]

    def _request(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(urlsplit(self.hookbrook).netloc, timeout=10)
        try:
            connection.request(method, path, body, {"Accept": "application/json", **headers})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def stop(self) -> None:
        self._process.terminate()
        assert self._process.wait(PATIENCE_S) == 0, self.output

    def _is_dead(self) -> str:
        return self.output if self._process.poll() is not None else ""


def until(condition: Callable[[], Any], what: str, failed: Callable[[], str] = lambda: "") -> Any:
    end = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        assert not failed(), failed()
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.02)
    return value


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    demo = Demo(tmp_path_factory.mktemp("demo"))
    yield demo
    demo.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=os.environ["HOOKBROOK_CHROMIUM"], args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser, demo: Demo) -> Iterator[Page]:
    """The chat in a browser of its own; whatever the console complains about fails the test, unless it was cut off."""
    context = browser.new_context()
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.goto(demo.page)
    page.wait_for_selector("#state[data-state=live]")
    yield page
    context.close()
    cut_off = (
        "ERR_CONNECTION_REFUSED",
        "ERR_INCOMPLETE_CHUNKED_ENCODING",
        "ERR_CONNECTION_RESET",
        "ERR_EMPTY_RESPONSE",
    )
    assert [text for text in complaints if not any(cause in text for cause in cut_off)] == []


def ask(page: Page, text: str = QUESTION) -> None:
    page.fill("#text", text)
    page.keyboard.press("Enter")


def words_shown(page: Page) -> int:
    return len((page.text_content(".bubble.reply:last-of-type") or "").split())


def wait_for_words(page: Page, count: int) -> None:
    until(lambda: page.query_selector(".bubble.reply") and words_shown(page) >= count, f"{count} words")


def wait_for_the_end(page: Page) -> str:
    page.wait_for_selector(".bubble.reply:last-of-type[aria-busy=false]", timeout=PATIENCE_S * 1000)
    return page.text_content(".bubble.reply:last-of-type") or ""


def reply_of(page: Page) -> str:
    return str(page.eval_on_selector(".bubble.reply:last-of-type", "each => each.id.replace(/^reply-/, '')"))


def channel_of(page: Page) -> str:
    """As the panel names it."""
    return page.text_content("#path dd") or ""


def text_of_the_engine(demo: Demo, page: Page) -> str:
    """What the engine called back with, without the marks that the page turns into code."""
    reply = reply_of(page)
    events = demo.get("/v1/channels/engine.replies?limit=1000")["data"]
    (text,) = (each["data"]["text"] for each in events if each["data"].get("reply") == reply and "text" in each["data"])
    return str(text).replace("`", "")


def assert_whole(demo: Demo, page: Page) -> None:
    """The reply that is shown is the engine's: no word is missing, doubled or out of place."""
    text = wait_for_the_end(page)
    assert text == text_of_the_engine(demo, page)
    assert len(text.split()) >= 40
    # The page puts words in order by their numbers; the log itself must hold each of them once.
    events = demo.get(f"/v1/channels/{channel_of(page)}?limit=1000")["data"]
    reply = reply_of(page)
    told = [each["data"] for each in events if each["type"] == "chat.delta" and each["data"]["reply"] == reply]
    assert [each["n"] for each in told] == list(range(1, len(told) + 1))
    assert "".join(each["text"] for each in told).replace("`", "") == text


def test_a_message_is_answered_and_the_reply_grows_in_visible_steps(demo: Demo, page: Page) -> None:
    ask(page)
    lengths = set()
    while page.query_selector(".bubble.reply[aria-busy=false]") is None:
        if page.query_selector(".bubble.reply .growing"):
            lengths.add(words_shown(page))
        time.sleep(0.02)
    assert len(lengths) >= 5
    assert page.text_content(".bubble.user") == QUESTION
    assert_whole(demo, page)


def test_the_page_says_which_engine_answers_and_shows_the_path_of_the_message(demo: Demo, page: Page) -> None:
    assert page.text_content("#engine") == "answers by retrieval from Hookbrook's docs"
    page.click("#suggestions li:nth-child(1) button")
    wait_for_the_end(page)
    done = page.eval_on_selector_all("#path li.done", "items => items.map(item => item.dataset.step)")
    assert done == ["published", "accepted", "verified", "streamed"]
    cursor = page.text_content("#path li[data-step=verified] dl dd:nth-of-type(2)")
    assert cursor in [each["cursor"] for each in demo.get("/v1/channels/engine.replies?limit=1000")["data"]]


def test_a_reload_in_mid_reply_goes_on_where_it_was(demo: Demo, page: Page) -> None:
    ask(page)
    wait_for_words(page, 8)
    page.reload()
    wait_for_words(page, 8)
    assert page.query_selector(".bubble.reply[aria-busy=true]") is not None
    assert_whole(demo, page)
    assert len(page.query_selector_all(".bubble")) == 2


@pytest.mark.crash
@pytest.mark.parametrize("name", ["hookbrook", "app", "engine"])
def test_killed_in_mid_reply_and_started_again_the_reply_completes_with_every_word_once(
    demo: Demo, page: Page, name: str
) -> None:
    ask(page)
    wait_for_words(page, 8)
    assert page.query_selector(".bubble.reply[aria-busy=true]") is not None
    demo.kill(name)
    assert_whole(demo, page)
    page.wait_for_selector("#state[data-state=live]")

    # A page that is opened afresh shows the same conversation.
    shown = page.inner_text("#bubbles")
    page.reload()
    wait_for_the_end(page)
    assert page.inner_text("#bubbles") == shown


@pytest.mark.crash
def test_an_engine_killed_while_it_works_answers_after_all(demo: Demo, page: Page) -> None:
    ask(page)
    page.wait_for_selector("#path li[data-step=accepted].done")
    demo.kill("engine")
    assert_whole(demo, page)


@pytest.mark.crash
def test_a_message_sent_while_hookbrook_is_away_arrives_once_when_it_is_back(demo: Demo, page: Page) -> None:
    demo.kill("hookbrook")
    ask(page)
    assert_whole(demo, page)
    assert len(page.query_selector_all(".bubble.user")) == 1


def test_two_conversations_do_not_see_each_other(demo: Demo, page: Page, browser: Browser) -> None:
    other = browser.new_context()
    other_page = other.new_page()
    other_page.goto(demo.page)
    ask(page)
    ask(other_page, "How are webhook signatures verified?")
    wait_for_the_end(page)
    wait_for_the_end(other_page)
    assert other_page.text_content(".bubble.user") == "How are webhook signatures verified?"
    assert len(page.query_selector_all(".bubble")) == len(other_page.query_selector_all(".bubble")) == 2
    other.close()


def test_an_event_that_somebody_publishes_on_the_channel_appears_as_text(demo: Demo, page: Page) -> None:
    ask(page)
    wait_for_the_end(page)
    assert demo.post(f"/v1/channels/{channel_of(page)}", b"<b>Hello</b> from the terminal!", {}) == 201
    page.wait_for_selector(".bubble.note")
    assert page.text_content(".bubble.note") == "Published from elsewhere: <b>Hello</b> from the terminal!"


def callback(demo: Demo, secret: str, webhook_id: str, conversation: str) -> int:
    """Call back as the engine does, signed with this secret."""
    reply = {"conversation": conversation, "reply": f"{webhook_id}-reply"}
    body = json.dumps({"type": "reply.finished", **reply, "text": "A reply that nobody asked for."}).encode()
    sent_at = str(int(time.time()))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.digest(key, f"{webhook_id}.{sent_at}.".encode() + body, hashlib.sha256)
    signature = "v1," + base64.b64encode(digest).decode()
    headers = {"webhook-id": webhook_id, "webhook-timestamp": sent_at, "webhook-signature": signature}
    return demo.post("/in/engine", body, {"content-type": "application/json", **headers})


def test_a_callback_with_a_wrong_signature_appears_nowhere_and_its_refusal_is_in_the_log(
    demo: Demo, page: Page
) -> None:
    ask(page)
    wait_for_the_end(page)
    conversation = channel_of(page).removeprefix("chat.")
    forged = "whsec_" + base64.b64encode(b"not the secret of the source").decode()
    assert callback(demo, forged, "forged1", conversation) == 401

    # The right secret shows that nothing but the signature was at fault, and that what came before is over.
    true_secret = json.loads((demo.folder / "secrets.json").read_text())["callback"]
    assert callback(demo, true_secret, "signed1", conversation) in (200, 201, 202, 204)
    until(lambda: len(page.query_selector_all(".bubble.reply")) == 2, "the reply that was signed")
    wait_for_the_end(page)
    assert len(page.query_selector_all(".bubble.reply")) == 2
    assert "forged1" not in json.dumps(demo.get("/v1/channels/engine.replies?limit=1000"))
    assert re.search(r"engine.*(refus|signature)|(refus|signature).*engine", demo.log("hookbrook"), re.IGNORECASE)


def test_the_page_runs_nothing_that_is_not_its_own(demo: Demo, browser: Browser) -> None:
    context = browser.new_context()
    page = context.new_page()
    answer = page.goto(demo.page)
    assert answer is not None
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    (cookie,) = context.cookies()
    assert (cookie.get("httpOnly"), cookie.get("sameSite")) == (True, "Lax")
    page.evaluate("document.head.append(Object.assign(document.createElement('script'), {textContent: 'ran = 1'}))")
    assert page.evaluate("typeof ran") == "undefined"
    context.close()
