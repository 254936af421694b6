"""The pages of the providers are what the table says, lead somewhere, and their commands work."""

import re
import shlex
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.docs.generated import REWRITE_PROVIDERS, provider_pages
from tests.docs.pages import blocks, links
from tests.docs.provider_pages import OWN, pages
from tests.docs.test_docs import is_reachable
from tests.http.gateway_fixtures import House, gateway_in
from tests.inbound import documented

from hookbrook.inbound.providers import load
from hookbrook.inbound.sample import load as load_samples

FOLDER = Path(__file__).parents[2] / "docs" / "providers"
ROWS = load()
#: Secrets of the kinds that rows want, in place of the words on the page.
SECRETS = {
    "adyen": "ab" * 32,
    "adyen-platform": "ab" * 32,
    "discord": documented.ed25519_public_hex("x"),
    "telnyx": documented.ed25519_public_base64("x"),
    "sendgrid": documented.ec_public_base64("x"),
}
WORDS = {"THE-PUBLIC-KEY", "THE-SECRET"}


def test_the_pages_are_what_the_table_says() -> None:
    there = {path.name: path.read_text("utf-8") for path in FOLDER.iterdir()}
    assert there.keys() == pages().keys(), REWRITE_PROVIDERS
    assert [name for name, text in pages().items() if there[name] != text] == [], REWRITE_PROVIDERS


def test_they_are_written_and_what_belongs_to_no_row_is_removed(tmp_path: Path) -> None:
    (tmp_path / "gone.md").write_text("an old page")
    assert set(provider_pages(tmp_path)) == {*pages(), "gone.md"}
    assert {path.name for path in tmp_path.iterdir()} == set(pages())
    assert provider_pages(tmp_path) == []


def test_an_id_of_several_parts_names_each_of_them() -> None:
    text = pages()["mandrill.md"]
    assert "by the body's `_id` with the body's `event` with the body's `ts`, for" in text


def test_the_age_of_a_token_is_told_where_it_is_judged() -> None:
    assert "`iat`, which may be 5 minutes old" in pages()["vonage.md"]
    assert "`iat`" not in pages()["livekit.md"]


def test_the_index_counts_those_that_are_judged() -> None:
    text = pages()["index.md"]
    assert f"knows {len(ROWS)} providers" in text
    assert f"{sum(bool(row.judge) for row in ROWS.values())} of them are judged" in text
    assert all(f"({name}.md)" in text for name in ROWS)


@pytest.mark.parametrize("name", ["index", *ROWS])
def test_every_link_leads_somewhere_and_no_fact_is_left_empty(name: str) -> None:
    text = pages()[f"{name}.md"]
    assert [target for target in links(text) if not is_reachable(FOLDER / f"{name}.md", target)] == []
    assert not re.search(r"\bNone\b|``|  \w| \.", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


@pytest.mark.parametrize("name", ROWS)
def test_a_page_says_what_there_is_to_know(name: str) -> None:
    row, text = ROWS[name], pages()[f"{name}.md"]
    assert f"hookbrook sources add {'mine' if name in OWN else name} {name}" in text
    assert ("## Its question" in text) == bool(row.challenges)
    assert row.retries in text
    assert row.setup in text
    assert row.type.text in text
    assert (row.judge in text) if row.judge else name == "none" or "Not judged" in text
    assert all(type_ in text for type_ in load_samples().get(name, {}))


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with gateway_in(tmp_path) as house:
        yield house


async def test_the_command_of_each_page_makes_a_source(house: House) -> None:
    for name in ROWS:
        command = next(block.text for block in blocks(pages()[f"{name}.md"]) if "sources add" in block.text)
        _, _, _, source, provider, *flags = shlex.split(command)
        assert set(flags[::2]) <= {"--secret"}
        secrets = [SECRETS.get(name, word) if word in WORDS else word for word in flags[1::2]]
        document: dict[str, Any] = {"name": f"{source}.{name}", "provider": provider, "secrets": secrets}
        if name == "standard-webhooks":
            document["secrets"] = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]
        if ROWS[name].verify == ROWS["standard-webhooks"].verify:
            document["secrets"] = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]
        answer = await house.ask("POST", "/v1/sources", document)
        assert answer.status == 201, (name, answer.body)
