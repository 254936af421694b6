"""Who may import whom: the table of the design, held by reading the imports of `src/hookbrook`.

    cli ─► app ─► http ─► inbound, stream, store.base ─► core ─► errors
            ├──► outbound ─► store.base, core              client ─► core
            └──► store (but for its port) ─► store.base

Each rule is a function from a source root to the sentences that say what breaks it, so that each can be shown red on
a small tree of its own. Imports inside functions count: an import that hides from a cycle is still a cycle.
"""

import ast
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
ROOT = "hookbrook"

#: For each part of the package, the parts that it may import besides itself. The longest matching prefix of a
#: module's name is its part; `""` is `hookbrook/__init__.py`.
MAY_IMPORT: Mapping[str, frozenset[str]] = {
    "errors": frozenset(),
    "core": frozenset({"errors"}),
    "config": frozenset({"errors", "core"}),
    "client": frozenset({"errors", "core"}),
    "store.base": frozenset({"errors", "config", "core"}),
    "store.catalog": frozenset({"errors", "core", "store.base"}),
    "store.matcher": frozenset({"errors", "core"}),
    "store.appender": frozenset({"errors", "core", "store.base", "store.catalog", "store.matcher"}),
    "store": frozenset({"errors", "config", "core", "store.base"}),  # what remains is concrete: sqlite, later postgres
    "inbound": frozenset({"errors", "config", "core"}),  # gets `Fetch` handed in, so it needs no `outbound`
    "stream": frozenset({"errors", "config", "core", "store.base"}),
    "outbound": frozenset({"errors", "config", "core", "store.base"}),
    "http": frozenset(  # no concrete store
        {"errors", "config", "core", "inbound", "stream", "store.base", "store.catalog", "store.appender"}
    ),
    "app": frozenset(
        {"errors", "config", "core", "inbound", "stream", "outbound", "http", "store.base", "store.catalog"}
        | {"store.appender", "store"}
    ),
    "cli": frozenset({"", "errors", "config", "core", "client", "inbound", "app"}),  # signs as providers do
    "__main__": frozenset({"cli"}),
    "": frozenset({"errors", "core", "config", "client", "app"}),
}

#: What these parts may import from outside, besides the standard library.
MAY_IMPORT_FROM_OUTSIDE: Mapping[str, frozenset[str]] = {
    "errors": frozenset(),
    "core": frozenset({"msgspec", "cryptography", "jwt", "jmespath"}),
    "client": frozenset({"msgspec", "aiohttp", "urllib3"}),
}

#: Core decides and never acts: no I/O, no clock, no chance, no concurrency.
BANNED_IN_CORE = frozenset(
    {"asyncio", "concurrent", "multiprocessing", "os", "random", "secrets", "select", "selectors", "signal"}
    | {"socket", "sqlite3", "ssl", "subprocess", "threading", "time", "http", "urllib.request"}
)
#: The type of a generator that is handed in; drawing from the module itself would be chance.
ALLOWED_IN_CORE = frozenset({"random.Random", "http.HTTPStatus"})
#: Calls that read a clock, draw a number or open a file without a banned import.
BANNED_CALLS_IN_CORE = frozenset(
    {"datetime.now", "datetime.utcnow", "datetime.today", "date.today"}
    | {"uuid.uuid1", "uuid.uuid4", "uuid1", "uuid4", "open", "print", "input"}
)

#: Libraries that send requests. What leaves the gateway goes through the one guarded client of `outbound`.
REQUEST_LIBRARIES = frozenset(
    {"aiohappyeyeballs", "aiohttp", "httpx", "requests", "urllib3", "urllib.request", "http.client"}
)
MAY_SEND_REQUESTS = frozenset({"outbound", "client", "cli"})

#: Names that say nothing about what is inside.
EMPTY_NAMES = frozenset(
    {"util", "utils", "helper", "helpers", "manager", "managers", "service", "services", "common", "misc"}
)

#: A file that no longer fits in one reading is two files.
MAX_LINES = 500
#: Files that are longer, each with its reason.
LONGER_FILES: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """One name that a module imports: `module` as far as it is a module, and the `name` taken from it, if any."""

    module: str
    name: str
    line: int

    @property
    def full(self) -> str:
        return f"{self.module}.{self.name}" if self.name else self.module


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """One parsed file; `name` is dotted and begins with the package."""

    name: str
    path: Path
    tree: ast.Module
    imports: tuple[Import, ...]
    #: Those that exist for the type checker alone.
    typing_imports: tuple[Import, ...]

    @property
    def part(self) -> str:
        return part_of(self.name)


def read_modules(root: Path) -> dict[str, Module]:
    """Every module below `root/hookbrook`, by dotted name."""
    paths = {_dotted(path.relative_to(root)): path for path in sorted((root / ROOT).rglob("*.py"))}
    known = frozenset(paths)
    return {name: _read_module(name, path, path.read_text("utf-8"), known) for name, path in paths.items()}


def _dotted(relative: Path) -> str:
    parts = relative.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache  # each rule reads all of the source
def _read_module(name: str, path: Path, text: str, known: frozenset[str]) -> Module:
    tree = ast.parse(text, str(path))
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    typing_nodes = {id(node) for block in _type_checking_blocks(tree) for node in ast.walk(block)}
    found = [
        (id(node) in typing_nodes, imported)
        for node in ast.walk(tree)
        for imported in _imports_of(node, package, known)
    ]
    return Module(
        name=name,
        path=path,
        tree=tree,
        imports=tuple(imported for typing_only, imported in found if not typing_only),
        typing_imports=tuple(imported for typing_only, imported in found if typing_only),
    )


def _type_checking_blocks(tree: ast.Module) -> Iterator[ast.stmt]:
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            yield from node.body


def _imports_of(node: ast.AST, package: str, known: frozenset[str]) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield Import(module=alias.name, name="", line=node.lineno)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parents = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*parents, base] if base else parents)
        for alias in node.names:
            # `from hookbrook.core import event` names a module, `from hookbrook.core.event import Event` does not.
            if f"{base}.{alias.name}" in known:
                yield Import(module=f"{base}.{alias.name}", name="", line=node.lineno)
            else:
                yield Import(module=base, name=alias.name, line=node.lineno)


def part_of(module: str) -> str:
    """The row of the table that a module stands in."""
    inner = module.removeprefix(ROOT).removeprefix(".")
    rows = [row for row in MAY_IMPORT if inner == row or (row and inner.startswith((f"{row}.", f"{row}_")))]
    return max(rows, key=len, default=inner)


def _is_ours(module: str) -> bool:
    return module == ROOT or module.startswith(f"{ROOT}.")


def _is_within(name: str, names: frozenset[str]) -> bool:
    """Whether a dotted name is one of the names or lies below one."""
    return any(name == other or name.startswith(f"{other}.") for other in names)


def imports_follow_the_table(root: Path) -> Iterator[str]:
    """No part imports a part that its row does not name, be it for the type checker alone."""
    for module in read_modules(root).values():
        if module.part not in MAY_IMPORT:
            yield f"{module.name} stands in no row of the table"
            continue
        for imported in (*module.imports, *module.typing_imports):
            target = part_of(imported.module)
            if _is_ours(imported.module) and target != module.part and target not in MAY_IMPORT[module.part]:
                yield f"{module.name}:{imported.line} imports {imported.full}"


def foreign_imports_follow_the_table(root: Path) -> Iterator[str]:
    """The parts that promise few dependencies keep their promise."""
    for module in read_modules(root).values():
        allowed = MAY_IMPORT_FROM_OUTSIDE.get(module.part)
        for imported in (*module.imports, *module.typing_imports):
            top = imported.module.partition(".")[0]
            if allowed is not None and top not in {ROOT, *sys.stdlib_module_names, *allowed}:
                yield f"{module.name}:{imported.line} imports {imported.full}"


def core_is_pure(root: Path) -> Iterator[str]:
    """Core imports nothing that does I/O, tells the time or draws a number, and calls nothing that does."""
    for module in read_modules(root).values():
        if module.part != "core":
            continue
        for imported in module.imports:
            # `import random` alone is no sin, since `random.Random` may be the type of an argument.
            taken = _attributes_of(module.tree, imported.module) if not imported.name else {imported.full}
            for name in sorted(taken or {imported.full}):
                if _is_within(name, BANNED_IN_CORE) and not _is_within(name, ALLOWED_IN_CORE):
                    yield f"{module.name}:{imported.line} uses {name}"
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call) and _last_two(ast.unparse(node.func)) in BANNED_CALLS_IN_CORE:
                yield f"{module.name}:{node.lineno} calls {ast.unparse(node.func)}"


def _attributes_of(tree: ast.Module, module: str) -> set[str]:
    """What is taken from a module that is imported as a whole: `random.Random`, `os.environ`."""
    return {
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == module
    }


def _last_two(name: str) -> str:
    return ".".join(name.split(".")[-2:])


def requests_leave_by_one_door(root: Path) -> Iterator[str]:
    """Nothing but the guarded client, the SDK and the command line holds a library that sends requests."""
    for module in read_modules(root).values():
        for imported in module.imports:
            if module.part not in MAY_SEND_REQUESTS and _is_within(imported.full, REQUEST_LIBRARIES):
                yield f"{module.name}:{imported.line} imports {imported.full}"


def imports_form_no_cycle(root: Path) -> Iterator[str]:
    """No module needs itself, by however long a way."""
    modules = read_modules(root)
    needs = {name: {each.module for each in module.imports} & set(modules) for name, module in modules.items()}
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        yield " → ".join(reversed(error.args[1]))


def names_say_what_is_inside(root: Path) -> Iterator[str]:
    """No module and no package has a name that fits any content."""
    for name in read_modules(root):
        if name.rpartition(".")[2].strip("_") in EMPTY_NAMES:
            yield f"{name} has a name that says nothing"


def files_are_one_reading_long(root: Path, exceptions: Mapping[str, str] = LONGER_FILES) -> Iterator[str]:
    """No file is longer than the limit, and no exception outlives its need."""
    lengths = {
        path.relative_to(root / ROOT).as_posix(): len(path.read_text("utf-8").splitlines())
        for path in sorted((root / ROOT).rglob("*.py"))
    }
    for path, length in lengths.items():
        if length > MAX_LINES and path not in exceptions:
            yield f"{path} has {length} lines, more than {MAX_LINES}"
    for path in exceptions:
        if lengths.get(path, 0) <= MAX_LINES:
            yield f"{path} needs no exception any more"


RULES: tuple[Callable[[Path], Iterator[str]], ...] = (
    imports_follow_the_table,
    foreign_imports_follow_the_table,
    core_is_pure,
    requests_leave_by_one_door,
    imports_form_no_cycle,
    names_say_what_is_inside,
    files_are_one_reading_long,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_source_keeps_the_rule(rule: Callable[[Path], Iterator[str]]) -> None:
    assert list(rule(SOURCE)) == []


def test_the_source_is_really_read() -> None:
    names = read_modules(SOURCE)
    assert {"hookbrook", "hookbrook.errors", "hookbrook.core"} <= set(names)


# What follows shows each rule red, and green beside it, on trees of a few lines.


def plant(root: Path, files: Mapping[str, str]) -> Path:
    """Write a package whose files are given by path below `hookbrook`; packages get their `__init__.py`."""
    for path, text in {"__init__.py": "", **files}.items():
        target = root / ROOT / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, "utf-8")
    for folder in {each.parent for each in (root / ROOT).rglob("*.py")}:
        (folder / "__init__.py").touch()
    return root


@pytest.mark.parametrize(
    ("importer", "line"),
    [
        ("core/event.py", "from hookbrook.config import Settings"),
        ("core/event.py", "from hookbrook import config"),
        ("core/event.py", "from ..config import Settings"),
        ("core/event.py", "def late():\n    import hookbrook.config"),
        ("http/api.py", "from hookbrook.store.sqlite import Store"),
        ("http/api.py", "from hookbrook.store import sqlite"),
        ("http/api.py", "from hookbrook.store import sqlite_queries"),
        ("http/api.py", "from hookbrook.outbound.fetch import Fetch"),
        ("http/api.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from hookbrook.app import App"),
        ("inbound/verify.py", "from hookbrook.outbound.fetch import Fetch"),
        ("stream/feed.py", "from hookbrook.store.sqlite import Store"),
        ("stream/feed.py", "from hookbrook.http.api import Door"),
        ("outbound/fetch.py", "from hookbrook.stream.feed import Feed"),
        ("client/aio.py", "from hookbrook.config import Settings"),
        ("store/base.py", "from hookbrook.store.sqlite import Store"),
        ("store/sqlite.py", "from hookbrook.stream.feed import Feed"),
        ("store/sqlite_queries.py", "from hookbrook.http.api import Door"),
        ("http/api.py", "from hookbrook.store import open_store"),
        ("app.py", "from hookbrook.cli.serve import serve"),
        ("elsewhere/thing.py", "import json"),
    ],
)
def test_an_import_against_the_table_is_found(tmp_path: Path, importer: str, line: str) -> None:
    neighbours = {
        "config.py": "",
        "app.py": "",
        "cli/serve.py": "",
        "http/api.py": "",
        "outbound/fetch.py": "",
        "store/base.py": "",
        "store/sqlite.py": "",
        "store/sqlite_queries.py": "",
        "stream/feed.py": "",
    }
    found = list(imports_follow_the_table(plant(tmp_path, {**neighbours, importer: line})))
    assert any(importer.removesuffix(".py").replace("/", ".") in sentence for sentence in found)


def test_imports_along_the_table_are_left_alone(tmp_path: Path) -> None:
    root = plant(
        tmp_path,
        {
            "errors.py": "",
            "core/event.py": "from hookbrook.errors import Invalid\nfrom hookbrook.core import channel",
            "core/channel.py": "",
            "store/base.py": "from hookbrook.core.event import Event",
            "store/sqlite.py": "from hookbrook.store.base import Log\nfrom hookbrook.store import sqlite_rows",
            "store/sqlite_rows.py": "from hookbrook.core.event import Event",
            "http/api.py": "from hookbrook.store.base import Log",
            "app.py": "from hookbrook.http import api\nfrom hookbrook.store.sqlite import Store",
            "cli/serve.py": "from hookbrook.app import App",
        },
    )
    assert list(imports_follow_the_table(root)) == []


@pytest.mark.parametrize(
    ("path", "line"),
    [("core/a.py", "import pydantic"), ("client/a.py", "from fastapi import FastAPI"), ("errors.py", "import msgspec")],
)
def test_a_foreign_import_beyond_the_promise_is_found(tmp_path: Path, path: str, line: str) -> None:
    assert len(list(foreign_imports_follow_the_table(plant(tmp_path, {path: line})))) == 1


def test_foreign_imports_within_the_promise_are_left_alone(tmp_path: Path) -> None:
    files = {"core/a.py": "import msgspec, jwt, hmac", "client/a.py": "import aiohttp", "http/a.py": "import fastapi"}
    assert list(foreign_imports_follow_the_table(plant(tmp_path, files))) == []


@pytest.mark.parametrize(
    "code",
    [
        "import asyncio",
        "import os",
        "import os.path",
        "from os import environ",
        "import socket",
        "import threading",
        "from secrets import token_hex",
        "from time import monotonic",
        "import time as clock\nclock.time()",
        "import urllib.request",
        "from urllib import request",
        "from random import choice",
        "import random\nrandom.random()",
        "from datetime import datetime\ndatetime.now()",
        "import datetime\ndatetime.datetime.now()",
        "from uuid import uuid4\nuuid4()",
        "open('a')",
    ],
)
def test_an_impure_line_in_core_is_found(tmp_path: Path, code: str) -> None:
    assert list(core_is_pure(plant(tmp_path, {"core/a.py": code}))) != []


def test_pure_lines_in_core_and_impure_ones_elsewhere_are_left_alone(tmp_path: Path) -> None:
    pure = "import random\nimport urllib.parse\nfrom random import Random\ndef pick(rng: random.Random): rng.random()"
    files = {"core/a.py": pure, "stream/a.py": "import asyncio, time\ntime.monotonic()"}
    assert list(core_is_pure(plant(tmp_path, files))) == []


@pytest.mark.parametrize("part", ["inbound", "http", "stream", "store/sqlite", "app"])
@pytest.mark.parametrize(
    "line", ["import aiohttp", "from urllib import request", "from http.client import HTTPResponse"]
)
def test_a_second_door_for_requests_is_found(tmp_path: Path, part: str, line: str) -> None:
    path = f"{part}.py" if part in {"store/sqlite", "app"} else f"{part}/a.py"
    assert len(list(requests_leave_by_one_door(plant(tmp_path, {path: line})))) == 1


def test_the_doors_for_requests_are_left_alone(tmp_path: Path) -> None:
    files = {"outbound/fetch.py": "import aiohttp", "client/a.py": "import urllib3", "http/a.py": "import urllib.parse"}
    assert list(requests_leave_by_one_door(plant(tmp_path, files))) == []


def test_a_cycle_is_found_although_an_import_hides_in_a_function(tmp_path: Path) -> None:
    files = {
        "core/a.py": "from hookbrook.core.b import B",
        "core/b.py": "from hookbrook.core import c",
        "core/c.py": "def late():\n    from hookbrook.core.a import A",
    }
    [cycle] = imports_form_no_cycle(plant(tmp_path, files))
    assert {"hookbrook.core.a", "hookbrook.core.b", "hookbrook.core.c"} == set(cycle.split(" → "))


def test_an_import_for_the_type_checker_closes_no_cycle(tmp_path: Path) -> None:
    files = {
        "core/a.py": "from hookbrook.core.b import B",
        "core/b.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from hookbrook.core.a import A",
    }
    assert list(imports_form_no_cycle(plant(tmp_path, files))) == []


@pytest.mark.parametrize("path", ["utils.py", "http/helpers.py", "manager/a.py", "core/_common.py"])
def test_a_name_that_says_nothing_is_found(tmp_path: Path, path: str) -> None:
    assert len(list(names_say_what_is_inside(plant(tmp_path, {path: ""})))) == 1


def test_a_file_of_too_many_lines_is_found_unless_it_is_explained(tmp_path: Path) -> None:
    root = plant(tmp_path, {"core/a.py": "a = 1\n" * (MAX_LINES + 1), "core/b.py": "b = 1\n" * MAX_LINES})
    assert len(list(files_are_one_reading_long(root, {}))) == 1
    assert list(files_are_one_reading_long(root, {"core/a.py": "a table"})) == []


def test_an_exception_that_is_not_needed_any_more_is_found(tmp_path: Path) -> None:
    root = plant(tmp_path, {"core/a.py": "a = 1\n"})
    assert len(list(files_are_one_reading_long(root, {"core/a.py": "a table", "core/gone.py": "a table"}))) == 2
