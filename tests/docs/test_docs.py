"""The pages say what the code says: settings, routes, verbs, providers, states, limits, links and figures."""

import importlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.docs import generated
from tests.docs.generated import BLOCK, HOUSE, PAGES, commands, completed, operations
from tests.docs.pages import anchors, blocks, links, without_code

from hookbrook.config import describe
from hookbrook.core.delivery import TRANSITIONS
from hookbrook.http.ingest import HINTS
from hookbrook.http.limits import Limits
from hookbrook.inbound.case import Cause
from hookbrook.inbound.providers import load
from hookbrook.inbound.verdict import Reason

README = HOUSE / "README.md"
DOCS = HOUSE / "docs"
REWRITE = "write it anew with `python -m tests.docs.generated`"
EACH_PAGE = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
#: A screenshot that is larger makes the page slow to open.
MAX_PICTURE_BYTES = 200 * 1024


def read(name: str) -> str:
    return (DOCS / name).read_text("utf-8")


# What is generated


@EACH_PAGE
def test_what_is_generated_is_what_the_code_says(path: Path) -> None:
    page = path.read_text("utf-8")
    assert page == completed(page), f"{path.name} is out of date; {REWRITE}"


def test_each_generated_part_stands_on_some_page() -> None:
    found = {name for path in PAGES for _, name, _, _ in BLOCK.findall(path.read_text("utf-8"))}
    assert found == set(generated.GENERATORS)


def test_a_table_that_is_out_of_date_is_caught() -> None:
    page = "<!-- generated: schedule -->\nnever\n<!-- end -->"
    assert completed(page) != page
    assert completed(completed(page)) == completed(page)


def test_every_setting_is_documented() -> None:
    page = read("settings.md")
    for each in describe():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{each.flag}` "))
        assert each.variable in row
        assert each.default in row
        assert each.about in row


def test_the_diagram_has_an_arrow_for_each_entry_of_the_table() -> None:
    arrows = re.findall(r"^    (\w+) --> (\w+): (\w+)$", read("webhooks-out.md"), re.MULTILINE)
    table = [(state, after, happening) for state, row in TRANSITIONS.items() for happening, after in row.items()]
    assert sorted(arrows) == sorted(table)


def test_every_happening_of_a_delivery_is_explained() -> None:
    page = read("webhooks-out.md")
    for happening in {happening for row in TRANSITIONS.values() for happening in row}:
        assert re.search(rf"^- .*`{happening}`.*:", page, re.MULTILINE), happening


def test_every_reason_of_a_refused_webhook_is_explained() -> None:
    page = read("webhooks-in.md")
    rows = "\n".join(line for line in page.splitlines() if line.startswith("| `"))
    assert [reason for reason in HINTS if f"`{reason}`" not in rows] == []
    assert set(Reason) - set(HINTS) == {Reason.VERIFIED, Reason.UNVERIFIED}


def test_the_number_of_judged_providers_is_what_the_table_has() -> None:
    judged = sum(bool(row.judge) for row in load().values())
    assert f"{judged} rows have one." in read("webhooks-in.md")


def test_every_cause_of_a_failure_is_explained() -> None:
    page = read("webhooks-in.md")
    rows = "\n".join(line for line in page.splitlines() if line.startswith("| `"))
    assert [cause for cause in Cause if f"`{cause}`" not in rows] == []


# Routes and verbs


def mentioned_routes(page: str) -> set[tuple[str, str]]:
    """`GET /v1/stream` and the like, in code."""
    return set(re.findall(r"`(GET|POST|PATCH|DELETE|OPTIONS) (/[^`?\s]*)", page))


@EACH_PAGE
def test_every_route_that_is_mentioned_exists(path: Path) -> None:
    known = {(method, shape(route)) for method, route, _ in operations()}
    mentioned = {(method, shape(route)) for method, route in mentioned_routes(path.read_text("utf-8"))}
    assert mentioned - known == set()


def shape(route: str) -> str:
    """The route whatever its parameters are called."""
    return re.sub(r"\{\w+\}", "{}", route)


def test_every_route_is_documented() -> None:
    assert mentioned_routes(read("api.md")) >= {(method, route) for method, route, _ in operations()}


def test_a_route_that_does_not_exist_is_found() -> None:
    assert mentioned_routes("See `GET /v1/nothing` and `POST /v1/events`.") == {
        ("GET", "/v1/nothing"),
        ("POST", "/v1/events"),
    }


def command_lines(page: str) -> Iterator[str]:
    """Every `hookbrook …` in code, one command each."""
    code = "\n".join([block.text for block in blocks(page) if block.language in ("sh", "ini")])
    code += "\n" + "\n".join(re.findall(r"`([^`\n]+)`", page))
    for line in code.replace("\\\n", " ").splitlines():
        for part in re.split(r"\||;|&&|\$\(", line.partition(" # ")[0]):
            found = re.match(r"\s*(?:\w+=\S* )*(?:\S*/)?hookbrook (.+)", part)
            if found and not found[1].startswith("VERB"):
                yield found[1].strip(" )`")


@EACH_PAGE
def test_every_command_that_is_shown_exists(path: Path) -> None:
    known = dict(commands())
    for line in command_lines(path.read_text("utf-8")):
        words = re.findall(r"'[^']*'|\"[^\"]*\"|\S+", line)
        if words[0] == "--version":
            continue
        verb = next((name for name in (" ".join(words[:2]), words[0]) if name in known), None)
        assert verb, f"hookbrook {line}"
        flags = {flag for each in known[verb].params for flag in (*each.opts, *each.secondary_opts)} | {"--help"}
        assert {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)} <= flags, f"hookbrook {line}"


def test_commands_are_found_wherever_they_stand() -> None:
    page = "Say `hookbrook tail x`.\n\n```sh\nA=1 hookbrook serve --port 1 | cat\nid=$(hookbrook keys list)\n```\n"
    assert set(command_lines(page)) == {"tail x", "serve --port 1", "keys list"}


def test_every_verb_is_documented() -> None:
    page = read("cli.md")
    assert [name for name, _ in commands() if f"### `hookbrook {name}`" not in page] == []


@EACH_PAGE
def test_every_variable_that_is_mentioned_is_one(path: Path) -> None:
    known = {each.variable for each in describe()}
    known |= {"HOOKBROOK_URL", "HOOKBROOK_KEY", "HOOKBROOK_CONFIG", "HOOKBROOK_SOURCE_SECRET", "HOOKBROOK_CHROMIUM"}
    known |= {"HOOKBROOK_FIREFOX", "HOOKBROOK_NGINX"}
    names = set(re.findall(r"\bHOOKBROOK_[A-Z_]+[A-Z]\b", path.read_text("utf-8")))
    assert {name for name in names if not name.startswith("HOOKBROOK_DEMO")} - known == set()


# Limits and figures

UNITS = {"": 1, "KiB": 2**10, "MiB": 2**20, "s": 1, "day": 86400, "days": 86400}


def limits() -> list[tuple[str, str, str]]:
    """Name, value and constant of each row of the table of limits."""
    return re.findall(r"^\| ([^|]+) \| ([^|]+) \| `([a-z_.]+[.][A-Z_a-z.]+)` \|$", read("operations.md"), re.MULTILINE)


def value_of(constant: str) -> float:
    """The value in the code, in seconds, bytes or as it is."""
    parts = constant.split(".")
    depth = next(n for n in range(len(parts), 0, -1) if is_module(f"hookbrook.{'.'.join(parts[:n])}"))
    value: Any = importlib.import_module(f"hookbrook.{'.'.join(parts[:depth])}")
    for name in parts[depth:]:
        value = getattr(value, name)
    number = float(value)
    return number / 1_000_000 if constant.endswith("_US") else number


def is_module(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        return False
    return True


@pytest.mark.parametrize(("what", "shown", "constant"), limits(), ids=lambda text: str(text))
def test_a_limit_is_what_the_code_says(what: str, shown: str, constant: str) -> None:
    number, _, unit = shown.partition(" ")
    assert float(number) * UNITS[unit] == value_of(constant), what


def test_the_limits_of_a_connection_are_all_there() -> None:
    constants = {constant for _, _, constant in limits()}
    fields = set(Limits.__slots__)
    numbers = {f"http.limits.DEFAULT_LIMITS.{field}" for field in fields - {"live_types"}}
    assert numbers - constants == UNDOCUMENTED_LIMITS


#: How we say no, which nobody has to reckon with.
UNDOCUMENTED_LIMITS = {"http.limits.DEFAULT_LIMITS.linger_s"}


def test_the_limits_that_are_settings_have_their_defaults() -> None:
    page = read("operations.md")
    for each in describe():
        if each.name.startswith("max_") and not each.name.endswith("lifetime"):
            shown = re.sub(r"(?<=\d)(?=[KM]iB)", " ", each.default)
            assert f"| `{each.name}` | {shown} |" in page


FIGURE = re.compile(
    r"\d[\d,.]*\s?(?:events|messages|deliveries|requests|connections|commits|posts)?\s?(?:/s|per second)\b"
)


@EACH_PAGE
def test_no_figure_stands_without_its_measurement(path: Path) -> None:
    """`make bench` prints figures of the machine that it runs on; the pages name it and give none of their own."""
    assert FIGURE.findall(without_code(path.read_text("utf-8"))) == []


@pytest.mark.parametrize("text", ["12,400 requests/s", "1000 events per second", "3.5 deliveries /s", "5/s"])
def test_figures_are_found(text: str) -> None:
    assert FIGURE.search(text)


# Links and pictures


@EACH_PAGE
def test_every_link_leads_somewhere(path: Path) -> None:
    broken = [target for target in links(path.read_text("utf-8")) if not is_reachable(path, target)]
    assert broken == []


def is_reachable(page: Path, target: str) -> bool:
    """Whether a link within the repository leads to a file, and to a heading of it. Others are not asked."""
    parts = urlsplit(target)
    if parts.scheme:
        return parts.scheme == "https"
    file = page if not parts.path else page.parent / parts.path
    if not file.exists():
        return False
    return not parts.fragment or parts.fragment in anchors(file.read_text("utf-8"))


def test_a_broken_link_is_found() -> None:
    assert is_reachable(README, "docs/operations.md#limits")
    assert not is_reachable(README, "docs/operations.md#nothing")
    assert not is_reachable(README, "docs/nothing.md")


def test_every_page_is_on_the_map() -> None:
    named = set(links(read("index.md")))
    assert {path.name for path in DOCS.glob("*.md")} - named == {"index.md"}


def test_every_picture_is_small_and_shown() -> None:
    shown = {Path(target).name for path in PAGES for target in links(path.read_text("utf-8")) if "img/" in target}
    pictures = list((DOCS / "img").iterdir())
    assert {picture.name for picture in pictures} == shown
    assert [picture.name for picture in pictures if picture.stat().st_size > MAX_PICTURE_BYTES] == []


def test_every_dependency_has_its_sentence() -> None:
    declared = tomllib.loads((HOUSE / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    names = [re.split(r"[<>=\[ ]", each)[0] for each in declared]
    rows = re.findall(r"^\| ([a-z0-9-]+) \| (.+) \|$", read("dependencies.md"), re.MULTILINE)
    assert [name for name, _ in rows] == sorted(names)


# Manners


@EACH_PAGE
def test_a_page_has_one_title_and_sections_with_names_of_their_own(path: Path) -> None:
    headings = re.findall(r"^(#+) (.+)$", "\n".join(strip_code(path)), re.MULTILINE)
    assert [level for level, _ in headings].count("#") == 1
    assert len({name for _, name in headings}) == len(headings)


def strip_code(path: Path) -> Iterator[str]:
    inside = False
    for line in path.read_text("utf-8").splitlines():
        if line.startswith("```"):
            inside = not inside
        elif not inside:
            yield line


@EACH_PAGE
def test_every_toml_and_json_example_can_be_read(path: Path) -> None:
    for block in blocks(path.read_text("utf-8")):
        if block.language == "toml":
            tomllib.loads(block.text)
