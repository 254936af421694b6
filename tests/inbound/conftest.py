"""The table of providers, and the judges' table that is printed when the tests have run."""

from collections.abc import Mapping

import pytest

from hookbrook.inbound.providers import load
from hookbrook.inbound.recipe import Row

JudgeTable = dict[tuple[str, str], dict[str, str]]
TABLE = pytest.StashKey[JudgeTable]()
COLUMNS = ("accepts", "changed byte", "wrong secret", "stale time", "missing header")


@pytest.fixture(scope="session")
def rows() -> Mapping[str, Row]:
    return load()


@pytest.fixture
def judged(request: pytest.FixtureRequest) -> JudgeTable:
    """Where a test notes what a judge and we said: by (provider, judge), by column."""
    return request.config.stash.setdefault(TABLE, {})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    table = config.stash.get(TABLE, {})
    if not table:
        return
    terminalreporter.section("judges: what they and we say of the same request")
    terminalreporter.line(_line("provider", "judge", COLUMNS))
    for (provider, judge), cells in sorted(table.items()):
        terminalreporter.line(_line(provider, judge, tuple(cells.get(column, "") for column in COLUMNS)))
    terminalreporter.line(f"{len({provider for provider, _ in table})} providers, {len(table)} judges")


def _line(provider: str, judge: str, cells: tuple[str, ...]) -> str:
    return f"{provider:18} {judge:32}" + "".join(f" {cell:29}" for cell in cells).rstrip()
