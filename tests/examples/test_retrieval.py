import re
from pathlib import Path

import pytest
from retrieval import Library, split_page, split_sentences, stem, stems


@pytest.fixture
def library(docs: Path) -> Library:
    return Library.read([docs])


@pytest.mark.parametrize(
    ("question", "page", "fact"),
    [
        ("What is Hookbrook?", "docs/start.md", "self-hosted event gateway"),
        ("What happens when a browser reconnects to the stream?", "docs/streams.md", "`Last-Event-ID`"),
        ("When will a failed delivery be retried?", "docs/deliveries.md", "after 5 seconds, 5 minutes"),
        ("How do you verify the signature of Stripe?", "docs/sources.md", "`Stripe-Signature`"),
        ("Which port does it listen on, and how do I install it?", "docs/start.md", "port 4665"),
        ("can I send webhooks to private addresses?", "docs/deliveries.md", "`allow_networks`"),
        ("How are webhook signatures verified?", "docs/sources.md", "checked over the raw bytes"),
        ("What is a source?", "docs/sources.md", "A source is a place"),
        ("what are endpoints", "docs/deliveries.md", "An endpoint is a URL"),
        ("what if a reader is too slow", "docs/streams.md", "catching up"),
    ],
)
def test_a_question_is_answered_with_the_fact_and_its_page(
    library: Library, question: str, page: str, fact: str
) -> None:
    answer = library.answer(question)
    assert fact in answer
    assert f"({page})" in answer
    assert len(answer.split()) >= 40


def test_comments_of_a_page_are_for_nobody_to_read() -> None:
    *_, section = split_page("a.md", "# Streams\n\nOpen one like this:\n\n<!-- run -->\n```sh\ncurl x\n```\n")
    assert section.sentences == ("Open one like this:",)


def test_every_sentence_of_an_answer_stands_on_a_page(library: Library, docs: Path) -> None:
    answer = library.answer("How are retries of a failed delivery scheduled?")
    text = " ".join(" ".join(path.read_text().split()) for path in docs.glob("*.md"))
    for part in answer.split("\n\n"):
        said = part.partition(": ")[2]
        for sentence in re.split(r"(?<=[.!?])\s+(?=[A-Z])", said):
            assert sentence.rstrip(".") in text


@pytest.mark.parametrize("question", ["Who won the world cup?", "Give me a recipe for bread with Hookbrook", "??", ""])
def test_what_the_pages_do_not_cover_is_said_to_be_unknown(library: Library, question: str) -> None:
    answer = library.answer(question)
    assert answer.startswith("I found nothing in Hookbrook's documentation")
    assert "Receiving webhooks" in answer


def test_a_library_without_pages_says_so(tmp_path: Path) -> None:
    assert "the folder is empty" in Library.read([tmp_path]).answer("What is Hookbrook?")


def test_a_missing_folder_holds_no_pages(tmp_path: Path) -> None:
    assert Library.read([tmp_path / "absent"]).sections == ()


def test_code_blocks_and_their_comments_are_neither_headings_nor_sentences() -> None:
    sections = list(
        split_page("p.md", "# Title\n\nOne sentence stands here.\n\n```sh\n# no heading\nls\n```\n\n## Next\n")
    )
    assert [(section.heading, section.sentences) for section in sections] == [
        ("p.md", ()),
        ("Title", ("One sentence stands here.",)),
        ("Next", ()),
    ]


def test_indented_code_is_left_out_but_a_list_that_goes_on_is_kept() -> None:
    *_, code = split_page("p.md", "# Code\n\n    a drawing of boxes -> here\n\nThe text goes on.\n")
    *_, listed = split_page("p.md", "# List\n\n- an item of three words\n\n    that goes on here\n")
    assert code.sentences == ("The text goes on.",)
    assert listed.sentences == ("an item of three words.", "that goes on here.")


def test_a_section_knows_the_first_heading_of_its_page() -> None:
    *_, last = split_page("p.md", "# Title\n## Part\nOne sentence stands here.\n")
    assert last.cite() == "“Title”, section “Part” (p.md)"


def test_list_items_and_table_rows_are_sentences_of_their_own() -> None:
    lines = [
        "- the *first* of all",
        "- the [second](x.md) of all",
        "",
        "| Port | Meaning |",
        "|---|---|",
        "| `4665` | the open door |",
    ]
    assert list(split_sentences(lines)) == ["the first of all.", "the second of all.", "`4665`: the open door."]


def test_marks_of_markdown_fall_away_but_not_inside_code() -> None:
    lines = ["A **bold** and _slanted_ `whsec_…` or `a*b*c` in snake_case <b>here</b>."]
    assert list(split_sentences(lines)) == ["A bold and slanted `whsec_…` or `a*b*c` in snake_case here."]


def test_a_full_stop_inside_a_name_ends_no_sentence() -> None:
    assert list(split_sentences(["It asks for `orders.42` or v1.0 of it. Then it ends."])) == [
        "It asks for `orders.42` or v1.0 of it.",
        "Then it ends.",
    ]


@pytest.mark.parametrize(
    "forms",
    [
        ("stream", "streams", "streamed", "streaming"),
        ("retry", "retries", "retried", "retrying"),
        ("delivery", "deliveries"),
        ("verify", "verified", "verifies", "verification"),
        ("signature", "signatures"),
        ("stop", "stopped", "stopping"),
        ("cache", "cached", "caching", "caches"),
        ("use", "uses"),
    ],
)
def test_forms_of_a_word_have_one_stem(forms: tuple[str, ...]) -> None:
    assert len({stem(form) for form in forms}) == 1


def test_words_that_say_nothing_are_left_out() -> None:
    assert stems("What is the retry schedule?") == ["retry", "schedul"]
