"""What every test folder shares: where the browser is, a loud note when there is none, and the table of judges."""

import os
import subprocess
from pathlib import Path

import pytest

FIND_CHROMIUM = Path(__file__).parents[1] / "scripts" / "chromium.sh"
NO_CHROMIUM = "no Chromium: install it, or set HOOKBROOK_CHROMIUM to its path"


def pytest_configure() -> None:
    """Let a plain `pytest` see the browser that `make test` sees."""
    if not os.environ.get("HOOKBROOK_CHROMIUM"):
        environment = {name: value for name, value in os.environ.items() if name != "HOOKBROOK_CHROMIUM"}
        command = [str(FIND_CHROMIUM), "--find"]
        found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        os.environ["HOOKBROOK_CHROMIUM"] = found.stdout.strip()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not os.environ["HOOKBROOK_CHROMIUM"]:
        for item in items:
            if item.get_closest_marker("browser"):
                item.add_marker(pytest.mark.skip(reason=NO_CHROMIUM))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if NO_CHROMIUM in str(report.longrepr)]
    if skipped:
        sentence = f"{len(skipped)} browser tests did not run: {NO_CHROMIUM}"
        terminalreporter.write_sep("!", sentence, yellow=True, bold=True)
    _print_judges(terminalreporter)


JUDGED = ("accepts", "changed byte", "wrong secret", "stale time", "missing header")


def _print_judges(terminalreporter: pytest.TerminalReporter) -> None:
    """Provider × judge × what both said; noted as properties of the tests, since those come from every worker."""
    table: dict[tuple[str, str], dict[str, str]] = {}
    for report in terminalreporter.stats.get("passed", []):
        for name, value in report.user_properties:
            if name == "judged":
                provider, judge, column, text = value
                table.setdefault((provider, judge), {})[column] = text
    if not table:
        return
    terminalreporter.section("judges: what they and we say of the same request")
    terminalreporter.line(_judges_line("provider", "judge", JUDGED))
    for (provider, judge), cells in sorted(table.items()):
        terminalreporter.line(_judges_line(provider, judge, tuple(cells.get(column, "") for column in JUDGED)))
    terminalreporter.line(f"{len({provider for provider, _ in table})} providers, {len(table)} judges")


def _judges_line(provider: str, judge: str, cells: tuple[str, ...]) -> str:
    return f"{provider:18} {judge:32}" + "".join(f" {cell:29}" for cell in cells).rstrip()
