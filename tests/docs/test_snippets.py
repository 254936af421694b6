"""What the pages tell people to type does what they say: every marked command and program runs, against a real server
and in the order of the page, and prints what is shown."""

import functools
import os
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright
from tests.docs.generated import HOUSE, PAGES
from tests.docs.pages import Block, blocks, matches
from tests.docs.session import NODE_MODULES, Reader

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
PATIENCE_MS = 30_000


def marked(path: Path) -> list[Block]:
    return [block for block in blocks(path.read_text("utf-8")) if block.mark]


@pytest.mark.timeout(240)
@pytest.mark.node
@pytest.mark.parametrize("path", [path for path in PAGES if marked(path)], ids=lambda path: path.name)
def test_a_page_does_what_it_says(path: Path, tmp_path: Path) -> None:
    if not NODE_MODULES.exists():
        pytest.skip("needs the packages in tests/node")
    with Reader(tmp_path) as reader:
        for block in marked(path):
            try:
                reader.follow(block)
            except AssertionError as error:
                raise AssertionError(f"{path.name}, line {block.line}: {error}") from error


def scripts(language: str) -> list[tuple[str, Block]]:
    """The programs of all pages, those too that only show how something would be done."""
    return [
        (path.name, block) for path in PAGES for block in blocks(path.read_text("utf-8")) if block.language == language
    ]


@pytest.mark.node
@pytest.mark.parametrize(
    ("page", "block"), scripts("js"), ids=lambda each: each if isinstance(each, str) else each.line
)
def test_every_script_can_be_parsed(page: str, block: Block, tmp_path: Path) -> None:
    file = tmp_path / "script.mjs"
    file.write_text(block.text)
    checked = subprocess.run(["node", "--check", str(file)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, f"{page}: {checked.stderr}"


@pytest.mark.parametrize(
    ("page", "block"), scripts("python"), ids=lambda each: each if isinstance(each, str) else each.line
)
def test_every_program_can_be_parsed(page: str, block: Block) -> None:
    compile(block.text, f"{page}, line {block.line}", "exec")


@pytest.mark.browser
def test_the_script_of_the_readme_shows_what_is_published(tmp_path: Path) -> None:
    page = [block for block in marked(HOUSE / "README.md") if block.mark in ("server", "run", "browser")]
    place = next(number for number, block in enumerate(page) if block.mark == "browser")
    server = next(block for block in reversed(page[:place]) if block.mark == "server")
    token = next(block for block in page[:place] if block.name == "token")
    with Reader(tmp_path) as reader:
        for block in (server, token):
            reader.follow(block)
        script = reader.here(page[place].text).replace("THE-TOKEN", reader.outputs["token"].strip())
        reader.follow(shell("hookbrook publish chat.42 'Hello from the server!'"))
        assert "Hello from the server!" in text_of_a_page(script, reader.here(page[place].name))


def shell(command: str) -> Block:
    return Block(mark="run", name="", language="sh", text=command, line=0)


def text_of_a_page(script: str, origin: str) -> str:
    """What a page with this script comes to show."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(f"<!doctype html><body></body><script>{script}</script>".encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", int(origin.rpartition(":")[2])), Page)
    with sync_playwright() as playwright, serving(server):
        chromium = playwright.chromium.launch(executable_path=os.environ["HOOKBROOK_CHROMIUM"], args=FLAGS)
        page = chromium.new_page()
        page.goto(origin)
        page.wait_for_function("document.body.innerText.includes('!')", timeout=PATIENCE_MS)
        text = page.inner_text("body")
        chromium.close()
    return text


class serving:  # noqa: N801 - reads as a word in `with`
    """A server in a thread, as long as the block lasts."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self._server = server
        self._thread = threading.Thread(target=functools.partial(server.serve_forever, poll_interval=0.02))

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def test_a_page_that_shows_something_else_is_caught(tmp_path: Path) -> None:
    typed, shown = blocks("<!-- run -->\n```sh\necho one two\n```\n\n<!-- output -->\n```text\none three\n```\n")
    with Reader(tmp_path) as reader:
        reader.follow(typed)
        with pytest.raises(AssertionError, match="one two"):
            reader.follow(shown)


def test_a_command_that_fails_is_caught(tmp_path: Path) -> None:
    with Reader(tmp_path) as reader, pytest.raises(AssertionError, match="the shell ended"):
        reader.follow(shell("hookbrook nonsense"))


@pytest.mark.parametrize(
    ("shown", "printed", "is_right"),
    [("a … c", "a b c\n", True), ("a … c", "a b d", False), ("a", "a b", False), ("(1)\n…", "(1)\n2\n3", True)],
)
def test_an_ellipsis_stands_for_anything(shown: str, printed: str, is_right: bool) -> None:
    assert matches(shown, printed) is is_right


def test_marks_names_and_lines_are_read() -> None:
    first, second = blocks("Text\n\n<!-- terminal: a, port 8000 -->\n```sh\nx\n```\n\n```\ny\n```\n")
    assert (first.mark, first.name, first.language, first.text, first.line) == (
        "terminal",
        "a, port 8000",
        "sh",
        "x\n",
        3,
    )
    assert (second.mark, second.text) == ("", "y\n")
