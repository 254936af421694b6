"""What all verbs share that talk to a running Hookbrook: where it is, and how answers are shown."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NoReturn
from urllib.parse import quote

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from hookbrook import Hookbrook

Url = Annotated[
    str | None,
    typer.Option("--url", envvar="HOOKBROOK_URL", help="Where Hookbrook is.", show_default="http://127.0.0.1:4665"),
]
Key = Annotated[
    str | None, typer.Option("--key", envvar="HOOKBROOK_KEY", help="API key; not needed with `serve --dev`.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Tenant = Annotated[str | None, typer.Option("--tenant", help="Another tenant's; needs an administrator's key.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="How many to show at most.")]

#: Tries of one command after the first: a person waits for it.
RETRIES = 2


def connect(url: str | None, key: str | None) -> "Hookbrook":
    # Imported late: `serve` and `--help` connect to nothing, and the HTTP client is a quarter of what they would load.
    from hookbrook import Hookbrook

    return Hookbrook(url, key, retries=RETRIES)


def path(*parts: str) -> str:
    """A path of the API; each part is escaped."""
    return "/v1/" + "/".join(quote(part, safe="") for part in parts)


def show(value: Any) -> None:
    """One JSON document on standard output."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def show_table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], *, empty: str) -> None:
    """The rows as a table, or a sentence on standard error if there are none."""
    rows = list(rows)
    if not rows:
        print(empty, file=sys.stderr)
        return
    # Imported late: `publish` draws no table, and would wait for it at each call.
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.removesuffix("_at").replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    console().print(table)


def console() -> "Console":
    from rich.console import Console

    # In a pipe nothing is folded to eighty columns.
    return Console(soft_wrap=not sys.stdout.isatty(), highlight=False, width=None if sys.stdout.isatty() else 10_000)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "–"
    return str(value).replace("[", "\\[")


def take(rows: Iterable[Any], limit: int) -> list[Any]:
    """The first rows; pages are asked for only as far as needed."""
    taken = []
    for row in rows:
        taken.append(row)
        if len(taken) == limit:
            break
    return taken


def fail(sentence: str) -> NoReturn:
    """A usage error."""
    raise typer.BadParameter(sentence)
