"""Markdown pages taken apart: fenced blocks with the marks before them, headings, links.

A mark is an HTML comment on the line before a fence, so that readers do not see it:

    <!-- server -->                      `hookbrook serve …`: the test starts this server for what follows
    <!-- run -->                         the commands are run; `run: NAME` also keeps the output under a name;
                                         `run: needs PROGRAM` is left out on a machine without it
    <!-- file: NAME -->                  the block is written to this file
    <!-- terminal: NAME, port 8000 -->   the command is started and goes on; a receiver is waited for at its port
    <!-- output -->, <!-- output: NAME -->   what the last `run`, or that terminal, prints; `…` stands for anything
    <!-- browser: ORIGIN -->             the script runs in a page of this origin
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

FENCE = re.compile(
    r"^(?:<!-- (?P<mark>[^\n]*?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block. `mark` is the first word of the comment before it, `name` what follows the colon."""

    mark: str
    name: str
    language: str
    text: str
    #: Where it stands on the page, counted from 1.
    line: int


def blocks(page: str) -> Iterator[Block]:
    for found in FENCE.finditer(page):
        mark, _, name = (found["mark"] or "").partition(":")
        yield Block(
            mark=mark.strip(),
            name=name.strip(),
            language=found["language"],
            text=found["text"],
            line=page.count("\n", 0, found.start()) + 1,
        )


def without_code(page: str) -> str:
    return re.sub(r"`[^`\n]*`", "", FENCE.sub("", page))


def links(page: str) -> list[str]:
    return LINK.findall(without_code(page))


def anchors(page: str) -> set[str]:
    """The fragments that GitHub gives to headings."""
    found = set()
    for heading in HEADING.findall(FENCE.sub("", page)):
        words = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower())
        found.add(words.strip().replace(" ", "-"))
    return found


def matches(pattern: str, text: str) -> bool:
    """Whether the text is what a page shows, where `…` stands for anything and a line's end does not count."""
    expected = ".*?".join(re.escape(piece) for piece in pattern.strip().split("…"))
    return re.fullmatch(expected, text.strip(), re.DOTALL) is not None
