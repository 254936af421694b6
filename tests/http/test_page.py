"""`/hookbrook.js` as it is served. What it does is tried in browsers (tests/browser)."""

import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.served import Running, running

HOUSE = Path(__file__).parents[2]
#: What a page pays for it, uncompressed.
MAX_BYTES = 3 * 1024


@pytest.fixture
async def brook(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path, dev=False, allowed_origins="https://app.example.com") as here:
        del here.http.headers["authorization"]
        yield here


async def test_everybody_may_have_it_and_it_is_small(brook: Running) -> None:
    answer = await brook.http.get("/hookbrook.js")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/javascript")
    assert len(answer.content) <= MAX_BYTES
    assert b"export{" in answer.content
    head = await brook.http.head("/hookbrook.js")
    assert (head.status_code, head.content) == (200, b"")


async def test_a_copy_that_is_still_good_is_not_sent_again(brook: Running) -> None:
    first = await brook.http.get("/hookbrook.js")
    assert first.headers["cache-control"] == "public, max-age=3600"
    tag = first.headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = await brook.http.get("/hookbrook.js", headers={"if-none-match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert (await brook.http.get("/hookbrook.js", headers={"if-none-match": '"other"'})).status_code == 200


async def test_pages_of_listed_origins_may_import_it(brook: Running) -> None:
    answer = await brook.http.get("/hookbrook.js", headers={"origin": "https://app.example.com"})
    assert answer.headers["access-control-allow-origin"] == "https://app.example.com"
    assert "origin" in answer.headers["vary"]
    assert "access-control-allow-origin" not in (await brook.http.get("/hookbrook.js")).headers


@pytest.mark.node
def test_what_is_served_was_made_of_what_can_be_read() -> None:
    made = subprocess.run([HOUSE / "scripts" / "page.sh", "--show"], check=True, capture_output=True)
    served = HOUSE / "src" / "hookbrook" / "http" / "page" / "hookbrook.min.js"
    assert made.stdout == served.read_bytes(), "run scripts/page.sh"
