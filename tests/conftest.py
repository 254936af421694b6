"""What every test folder shares: where the browser is, and a loud note when there is none."""

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
