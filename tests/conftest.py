"""What every test folder shares: where browsers and nginx are, a loud note when one is missing, the table of judges."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

SCRIPTS = Path(__file__).parents[1] / "scripts"


@dataclass(frozen=True, slots=True)
class Program:
    """What tests of one mark need: found by a script, which `make test` lets install it; named by a variable."""

    mark: str
    name: str
    find: tuple[str, ...]

    @property
    def variable(self) -> str:
        return f"HOOKBROOK_{self.name.upper()}"

    @property
    def missing(self) -> str:
        return f"no {self.name}: install it, or set {self.variable} to its path"


PROGRAMS = (
    Program("browser", "Chromium", ("chromium.sh", "--find")),
    Program("firefox", "Firefox", ("program.sh", "firefox-esr", "firefox-esr", "--find")),
    Program("nginx", "nginx", ("program.sh", "nginx", "nginx", "--find")),
)


# An example takes long when the machine is busy, which says nothing of our code; a test that hangs has its own limit.
settings.register_profile("unhurried", parent=settings(), deadline=None)
settings.load_profile("unhurried")


def pytest_configure() -> None:
    """Let a plain `pytest` see the programs that `make test` sees, and a busy machine take its time."""
    # A test that must be quick says how quick; a deadline for each example only finds out what else is running.
    settings.register_profile("hookbrook", parent=settings.default, deadline=None)
    settings.load_profile("hookbrook")
    for program in PROGRAMS:
        if not os.environ.get(program.variable):
            environment = {name: value for name, value in os.environ.items() if name != program.variable}
            command = [str(SCRIPTS / program.find[0]), *program.find[1:]]
            found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            os.environ[program.variable] = found.stdout.strip()


#: Folders whose files take longest, longest first.
LONG = ("crash", "docs", "browser", "e2e")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Where workers share out whole files, a long one that comes last is waited for by all others.
    folders = [*LONG, *{item.path.parent.name: None for item in items}]
    items.sort(key=lambda item: folders.index(item.path.parent.name))
    missing = [program for program in PROGRAMS if not os.environ[program.variable]]
    for item in items:
        for program in missing:
            if item.get_closest_marker(program.mark):
                item.add_marker(pytest.mark.skip(reason=program.missing))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for program in PROGRAMS:
        reports = terminalreporter.stats.get("skipped", [])
        skipped = [report for report in reports if program.missing in str(report.longrepr)]
        if skipped:
            sentence = f"{len(skipped)} tests did not run: {program.missing}"
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
