"""The parts of the pages that are made from the code: tables, and the diagram of states.

A page marks such a part with `<!-- generated: NAME -->` and `<!-- end -->`. `python -m tests.docs.generated` writes
them anew; `test_docs.py` holds that they are what the code says.
"""

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.docs.provider_pages import pages
from tests.served import running
from typer.core import TyperGroup
from typer.main import get_command

from hookbrook.cli.commands import app as cli
from hookbrook.config import describe
from hookbrook.core.delivery import TRANSITIONS, State
from hookbrook.core.retry import DEFAULT_DELAYS_S
from hookbrook.errors import NotAcceptable, Problem, Refused, StoreError
from hookbrook.inbound.providers import load

HOUSE = Path(__file__).parents[2]
PAGES = (HOUSE / "README.md", *sorted((HOUSE / "docs").glob("*.md")))
BLOCK = re.compile(r"(<!-- generated: ([a-z]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)

#: What a status means, for the table of errors; the errors themselves are found in the code.
MEANINGS: Mapping[str, str] = {
    "bad-request": "The request cannot be read at all.",
    "bad-signature": "A webhook whose sender is not proven.",
    "channel-closed": "The channel was closed by its publisher; nothing more can be published to it.",
    "conflict": "The same id with other content, or something that `hookbrook.toml` declares.",
    "forbidden": "A good credential without this right, or a write from a foreign origin.",
    "gone": "A cursor of another log, or older than what is kept.",
    "headers-too-large": "The head of the request is over a limit.",
    "http-version-not-supported": "Neither HTTP/1.0 nor HTTP/1.1.",
    "internal": "An error within Hookbrook; its log says more.",
    "invalid": "The request can be read, but a field is wrong; `errors` names each.",
    "method-not-allowed": "Another method is possible here; `Allow` names it.",
    "misdirected": "A host that is not listed.",
    "not-found": "There is no such thing.",
    "not-implemented": "A transfer coding that is not spoken here.",
    "request-timeout": "The request came too slowly.",
    "shutting-down": "The server is about to stop; send it again.",
    "store": "The store cannot do this now.",
    "store-damaged": "The database file is damaged.",
    "store-full": "The disk is full; nothing was kept.",
    "store-unavailable": "The store is locked, read-only or closed.",
    "too-large": "The body is over a limit; `limit` says which number.",
    "too-many": "Too many at once.",
    "unauthorized": "No credential, or one that does not hold.",
    "unsupported-media-type": "The content type cannot be published here.",
    "url-too-long": "The URL is over a limit.",
}


def table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def settings() -> str:
    rows = (
        [f"`{each.flag}`", f"`{each.variable}`", f"`{each.default}`" if each.default else "nothing", each.about]
        for each in describe()
    )
    return table(["Flag", "Variable", "Default", "What it is"], rows)


def providers() -> str:
    rows = (
        [
            f"`{row.id}`",
            f"[{row.title}](providers/{row.id}.md)",
            ", ".join(row.covers) or "nothing",
            "answered" if row.challenges else "–",
            row.retries or "–",
            row.judge or "–",
        ]
        for row in load().values()
    )
    return table(["Provider", "Page", "Covers", "Challenge", "Tries again", "Judge"], rows)


def schedule() -> str:
    rows = ([str(number), span(delay)] for number, delay in enumerate(DEFAULT_DELAYS_S, 1))
    return table(["After attempt", "Wait"], rows)


def span(seconds: float) -> str:
    for size, unit in ((3600, "hour"), (60, "minute"), (1, "second")):
        if seconds >= size:
            number = f"{seconds / size:g}"
            return f"{number} {unit}{'' if number == '1' else 's'}"
    raise ValueError(seconds)


def states() -> str:
    """A Mermaid diagram with an arrow for each entry of the table."""
    arrows = [
        f"    {before} --> {after}: {happening}\n"
        for before, row in TRANSITIONS.items()
        for happening, after in row.items()
    ]
    ends = [f"    {state} --> [*]\n" for state in (State.SUCCEEDED, State.FAILED, State.CANCELLED)]
    return "".join(["```mermaid\n", "stateDiagram-v2\n", "    [*] --> pending\n", *arrows, *ends, "```\n"])


@cache
def openapi() -> Any:
    """The document as a server answers it."""

    async def ask() -> Any:
        with TemporaryDirectory() as folder:
            async with running(Path(folder)) as here:
                return (await here.http.get("/openapi.json")).json()

    # A thread of its own, since a test may have a loop in this one.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(ask())).result()


def operations() -> Iterator[tuple[str, str, str]]:
    """Method, path and summary of every route."""
    for path, item in openapi()["paths"].items():
        for method in ("get", "post", "patch", "delete", "options"):
            if method in item:
                yield method.upper(), path, item[method]["summary"]


def routes() -> str:
    order = ["/v1/channels", "/v1/stream", "/v1/events", "/in/", "/v1/sources", "/v1/providers", "/v1/endpoints"]
    order += ["/.well-known", "/v1/deliveries", "/v1/keys", "/v1/tokens", "/healthz", "/readyz", "/metrics"]

    def place(operation: tuple[str, str, str]) -> int:
        return next((number for number, start in enumerate(order) if operation[1].startswith(start)), len(order))

    rows = ([f"`{method} {path}`", summary] for method, path, summary in sorted(operations(), key=place))
    return table(["Route", "What it does"], rows)


def errors() -> str:
    rows = ([str(status), f"`{slug}`", MEANINGS[slug]] for status, slug in sorted(problem_types()))
    return table(["Status", "Type, after `urn:hookbrook:problem:`", "Meaning"], rows)


def problem_types() -> set[tuple[int, str]]:
    """Status and type of every error that the server answers with."""
    return {(kind.status, kind.slug) for kind in kinds(Problem) if kind not in (Refused, StoreError, NotAcceptable)}


def kinds(root: type[Problem]) -> Iterator[type[Problem]]:
    yield root
    for kind in root.__subclasses__():
        yield from kinds(kind)


def verbs() -> str:
    return "\n".join(_verb(name, command) for name, command in commands())


def _verb(name: str, command: Any) -> str:
    about = " ".join((command.help or "").split("\n\n")[0].split())
    if name == "serve":
        return f"### `hookbrook serve`\n\n{about} Its flags are the [settings](settings.md), and `--config`.\n"
    rows = ([_shown(parameter), parameter.help or "–"] for parameter in command.params)
    return f"### `hookbrook {name}`\n\n{about}\n\n{table(['Argument or flag', 'What it is'], rows)}"


def _shown(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        name = (parameter.metavar or parameter.name).upper()
        return f"`{name}…`" if parameter.nargs == -1 else f"`{name}`"
    return ", ".join(f"`{flag}`" for flag in (*parameter.opts, *parameter.secondary_opts))


def commands() -> Iterator[tuple[str, Any]]:
    """Every verb with its whole name (`sources add`)."""
    return _below(get_command(cli), ())


def _below(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    if not isinstance(command, TyperGroup):
        yield " ".join(path), command
        return
    for name, child in command.commands.items():
        yield from _below(child, (*path, name))


GENERATORS: Mapping[str, Callable[[], str]] = {
    "settings": settings,
    "providers": providers,
    "schedule": schedule,
    "states": states,
    "routes": routes,
    "errors": errors,
    "verbs": verbs,
}


def completed(page: str) -> str:
    """The page with its generated parts as the code has them now."""
    return BLOCK.sub(lambda found: f"{found[1]}\n{GENERATORS[found[2]]().strip()}\n\n{found[4]}", page)


PROVIDERS = HOUSE / "docs" / "providers"
REWRITE_PROVIDERS = "write them anew with `python -m tests.docs.generated`"


def provider_pages(folder: Path) -> list[str]:
    """Write the pages of the providers; the names of those that were not as they should be."""
    folder.mkdir(exist_ok=True)
    wanted = pages()
    changed = []
    for path in sorted(folder.iterdir()):
        if path.name not in wanted:
            path.unlink()
            changed.append(path.name)
    for name, text in wanted.items():
        path = folder / name
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
            changed.append(name)
    return changed


def main() -> None:
    for name in provider_pages(PROVIDERS):
        print(f"wrote docs/providers/{name}")
    for path in PAGES:
        before = path.read_text("utf-8")
        after = completed(before)
        if after != before:
            path.write_text(after, "utf-8")
            print(f"wrote {path.relative_to(HOUSE)}")


if __name__ == "__main__":
    main()
