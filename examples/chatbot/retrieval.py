"""Answers from documentation by retrieval: the pages' own sentences, and the page they stand on.

Markdown pages are cut at their headings into sections; a question is matched against the sections with BM25
(Robertson and Zaragoza, "The Probabilistic Relevance Framework", 2009), where the words of a heading count several
times. An answer is extractive: whole sentences of the best sections, in their order, named by page. Nothing is made
up, so a question that the pages do not cover is answered with exactly that.
"""

import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

# The usual constants of BM25: how fast a repeated word stops counting, and how much a long section is discounted.
SATURATION = 1.4
LENGTH_WEIGHT = 0.7

#: A word in a heading says what the section is about; in the running text it may only be mentioned.
HEADING_WEIGHT = 3

#: A section answers only if it holds this share of what the question asks for, weighed by how rare each word is.
#: Below it, a question about something else that happens to share a word would be answered with nonsense.
ENOUGH_COVERAGE = 0.45

#: A second section joins the answer only if it is nearly as good as the first.
NEARLY_AS_GOOD = 0.6

#: “What is a source?” is answered best where a sentence begins with “A source is”.
DEFINITION_BONUS = 2.0

#: Words of the passages shown: enough to say something, few enough to be read while they arrive.
PASSAGE_WORDS = 75
SECOND_PASSAGE_WORDS = 45
FEWEST_WORDS = 45

#: What is longer is no sentence but a drawing or a listing.
LONGEST_SENTENCE = 80

#: Endings, what stands for them, and how many letters must be left in front.
ENDINGS = (
    ("ication", "y", 3),
    ("ations", "", 4),
    ("ation", "", 4),
    ("ingly", "", 4),
    ("ings", "", 4),
    ("ing", "", 4),
    ("edly", "", 4),
    ("ied", "y", 3),
    ("ies", "y", 3),
    ("ed", "", 3),
)

STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        """a about all also am an and any are as at be been but by can could did do does doing each else for from get
        gets had has have having how i if in into is it its just like may me might more most much must my no not of
        on one only or other our out over please say she should so some such tell than that the their them then there
        these they this those to too up us very was we were what when where which while who whom whose why will with
        would you your""",
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A stretch of a page under one heading."""

    #: The file's name, as a reader would look for it: `docs/streams.md`.
    page: str
    #: The page's first heading.
    title: str
    heading: str
    sentences: tuple[str, ...]

    def cite(self) -> str:
        place = f"“{self.title}”" if self.heading == self.title else f"“{self.title}”, section “{self.heading}”"
        return f"{place} ({self.page})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A section that fits a question."""

    section: Section
    score: float
    #: The share of the question, weighed by rarity, whose words stand in the section: 0 to 1.
    coverage: float


class Library:
    """The pages, indexed once."""

    def __init__(self, sections: Iterable[Section]) -> None:
        self.sections = tuple(section for section in sections if section.sentences)
        self._counts = [count_words(section) for section in self.sections]
        self._lengths = [sum(counts.values()) for counts in self._counts]
        self._mean_length = sum(self._lengths) / max(1, len(self._lengths))
        self._holders = Counter(word for counts in self._counts for word in counts)

    @classmethod
    def read(cls, places: Iterable[Path]) -> "Library":
        """Index every `.md` file of the given files and folders."""
        return cls(section for path in find_pages(places) for section in split_page(name_page(path), path.read_text()))

    def search(self, question: str, limit: int = 4) -> list[Hit]:
        """The sections that fit a question, best first; none if the pages do not cover it."""
        words = set(stems(question))
        asked = sum(self._rarity(word) for word in words)
        defines = definition_asked_for(question)
        if not asked:
            return []
        hits = (
            Hit(
                section=section,
                score=self._score(words, number) * (DEFINITION_BONUS if any(map(defines, section.sentences)) else 1),
                coverage=sum(self._rarity(word) for word in words if word in self._counts[number]) / asked,
            )
            for number, section in enumerate(self.sections)
        )
        fitting = [hit for hit in hits if hit.coverage >= ENOUGH_COVERAGE]
        return sorted(fitting, key=lambda hit: hit.score * hit.coverage, reverse=True)[:limit]

    def answer(self, question: str) -> str:
        """Several sentences of the pages that fit the question, named by page; or that nothing does."""
        hits = self.search(question)
        if not hits:
            return self._nothing_found(question)
        best = hits[0]
        parts = [f"The page {best.section.cite()} says: {self._passage(best.section, question, PASSAGE_WORDS)}"]
        for hit in hits[1:]:
            short = count_running_words(parts) < FEWEST_WORDS
            if short or (len(parts) == 1 and hit.score >= NEARLY_AS_GOOD * best.score):
                passage = self._passage(hit.section, question, SECOND_PASSAGE_WORDS)
                parts.append(f"And {hit.section.cite()}: {passage}")
        for section in self._behind(best.section):
            if count_running_words(parts) < FEWEST_WORDS:
                parts.append(f"The page goes on under “{section.heading}”: {first_words(section)}")
        return "\n\n".join(parts)

    def _behind(self, section: Section) -> Iterator[Section]:
        """The sections that follow on the same page."""
        place = self.sections.index(section) + 1
        return itertools.takewhile(lambda other: other.page == section.page, self.sections[place:])

    def _score(self, words: set[str], number: int) -> float:
        counts = self._counts[number]
        stretch = 1 - LENGTH_WEIGHT + LENGTH_WEIGHT * self._lengths[number] / self._mean_length
        return sum(
            self._rarity(word) * counts[word] * (SATURATION + 1) / (counts[word] + SATURATION * stretch)
            for word in words
        )

    def _rarity(self, word: str) -> float:
        holders = self._holders[word]
        return math.log(1 + (len(self.sections) - holders + 0.5) / (holders + 0.5))

    def _passage(self, section: Section, question: str, most_words: int) -> str:
        """The run of neighbouring sentences that says most about the question within so many words."""
        words = set(stems(question))
        defines = definition_asked_for(question)

        def worth(run: Sequence[str]) -> float:
            found = [set(stems(sentence)) & words for sentence in run]
            distinct = set().union(*found)
            repeated = sum(len(each) for each in found) - len(distinct)
            definition = DEFINITION_BONUS if defines(run[0]) else 0
            return sum(self._rarity(word) for word in distinct) + 0.1 * repeated + definition

        best = max(runs(section.sentences, most_words), key=worth)
        return " ".join(best)

    def _nothing_found(self, question: str) -> str:
        looked_for = ", ".join(f"“{word}”" for word in dict.fromkeys(plain_words(question))) or "anything to look for"
        pages = sorted({section.title for section in self.sections})
        return (
            f"I found nothing in Hookbrook's documentation that answers this: no section covers {looked_for}. "
            "I answer only with sentences from these pages and would rather say so than guess. "
            f"They are about: {', '.join(pages) or 'nothing yet, the folder is empty'}. Ask me about one of those."
        )


def find_pages(places: Iterable[Path]) -> Iterator[Path]:
    for place in places:
        if place.is_dir():
            yield from sorted(place.rglob("*.md"))
        elif place.exists():
            yield place


def name_page(path: Path) -> str:
    """The page as a reader would look for it; inside an installed package the folder is named `_docs`."""
    folder = path.parent.name.removeprefix("_")
    return f"{folder}/{path.name}" if folder in ("docs", "chatbot") else path.name


def split_page(page: str, markdown: str) -> Iterator[Section]:
    """Cut a page at its headings; code blocks, comments and the marks of Markdown fall away."""
    title = heading = page
    lines: list[str] = []
    fenced = False
    named = False
    for line in markdown.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or is_indented_code(line, lines) or line.startswith("<!--"):
            continue
        elif found := re.match(r"#{1,6}\s+(.+)", line):
            yield Section(page=page, title=title, heading=heading, sentences=tuple(split_sentences(lines)))
            heading = plain_text(found[1])
            title, named = (title, True) if named else (heading, True)
            lines = []
        else:
            lines.append(line)
    yield Section(page=page, title=title, heading=heading, sentences=tuple(split_sentences(lines)))


def is_indented_code(line: str, before: Sequence[str]) -> bool:
    """Four spaces after an empty line are code (CommonMark 4.4), unless a list goes on there."""
    in_list = any(re.match(r"\s*([-*+]|\d+\.)\s", earlier) for earlier in before[-6:])
    return line.startswith("    ") and not in_list and (not before or not before[-1].strip())


def split_sentences(lines: Iterable[str]) -> Iterator[str]:
    """Sentences of the paragraphs; a list item or a row of a table is a sentence of its own."""
    paragraph: list[str] = []
    for text, following in itertools.pairwise([*map(str.strip, lines), "", ""]):
        starts_anew = not text or re.match(r"([-*+]|\d+\.)\s|\||>", text)
        if starts_anew and paragraph:
            yield from end_sentences(plain_text(" ".join(paragraph)))
            paragraph = []
        if text.startswith("|"):
            if not is_table_rule(text) and not is_table_rule(following):
                cells = [plain_text(cell) for cell in text.strip("|").split("|")]
                yield from end_sentences(": ".join(cell for cell in cells if cell))
        elif text:
            paragraph.append(re.sub(r"^([-*+]|\d+\.|>)\s+", "", text))


def is_table_rule(line: str) -> bool:
    """The line between a table's head and its rows; the head says nothing by itself."""
    return re.fullmatch(r"\|[-:| ]+\|?", line) is not None


def end_sentences(text: str) -> Iterator[str]:
    for sentence in re.split(r"(?<=[.!?])\s+(?=[A-Z`“\"(])", text):
        stripped = sentence.strip()
        if 2 < len(stripped.split()) <= LONGEST_SENTENCE:
            yield stripped if stripped[-1] in ".!?:" else f"{stripped}."


def plain_text(markdown: str) -> str:
    """The text without links, images, emphasis and HTML; code stays as it is, back ticks included."""
    parts = re.split(r"(`[^`]+`)", re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", markdown))
    return "".join(part if part.startswith("`") else without_marks(part) for part in parts).strip()


def without_marks(text: str) -> str:
    text = re.sub(r"</?[a-z][^>]*>", "", text)
    return re.sub(r"\*\*|__|(?<!\w)[*_](?=\S)|(?<=\S)[*_](?!\w)", "", text)


def first_words(section: Section) -> str:
    return " ".join(next(runs(section.sentences, SECOND_PASSAGE_WORDS)))


def definition_asked_for(question: str) -> Callable[[str], bool]:
    """Whether a sentence says what something is, if the question asks for that."""
    asked = re.fullmatch(r"\s*what(?:'s|’s|\s+is|\s+are)\s+(?:an?\s+|the\s+)?([\w -]+?)\s*\??\s*", question.lower())
    if asked is None:
        return lambda sentence: False  # noqa: ARG005 - it takes a sentence, like the other
    noun = re.escape(asked[1].removesuffix("s"))
    defines = re.compile(rf"(?:an?\s+|the\s+)?`?{noun}s?`?\s+(?:is|are)\b", re.IGNORECASE)
    return lambda sentence: defines.match(sentence) is not None


def runs(sentences: Sequence[str], most_words: int) -> Iterator[tuple[str, ...]]:
    """From each sentence on, as many as fit; always at least one."""
    for start in range(len(sentences)):
        end, words = start + 1, len(sentences[start].split())
        while end < len(sentences) and words + len(sentences[end].split()) <= most_words:
            words += len(sentences[end].split())
            end += 1
        yield tuple(sentences[start:end])


def count_words(section: Section) -> Counter[str]:
    counts = Counter(stem for sentence in section.sentences for stem in stems(sentence))
    for stem in [*stems(section.heading), *stems(section.title)]:
        counts[stem] += HEADING_WEIGHT
    return counts


def count_running_words(texts: Iterable[str]) -> int:
    return sum(len(text.split()) for text in texts)


def plain_words(text: str) -> list[str]:
    return [word for word in re.findall(r"[a-z0-9]+", text.lower().replace("'s", "")) if word not in STOP_WORDS]


def stems(text: str) -> list[str]:
    return [stem(word) for word in plain_words(text)]


def stem(word: str) -> str:
    """A light stemmer, so that `streams`, `streamed` and `streaming` meet; not linguistics."""
    for ending, instead, least in ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= least:
            return undouble(word.removesuffix(ending) + instead)
    if word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3:
        word = word.removesuffix("s")
    return word.removesuffix("e") if len(word) > 4 else word


def undouble(word: str) -> str:
    doubled = len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lsz"
    return word[:-1] if doubled else word.removesuffix("e") if len(word) > 4 else word
