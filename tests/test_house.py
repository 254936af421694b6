"""What stands around the code keeps its word: licence, changelog, lock files, `make`, README, lint rules.

The judgements are functions over text, so that each can be shown red on a few lines of its own.
"""

import json
import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HOUSE = Path(__file__).parents[1]
LOCKS = ("requirements/run.txt", "requirements/test.txt")
NPM_LOCK = HOUSE / "tests" / "node" / "package-lock.json"
SCRIPTS = [HOUSE / ".ci" / "run", *sorted((HOUSE / "scripts").glob("*.sh"))]

#: What a lock file may consist of; whatever is not one of these could name a host or a machine.
PIN = re.compile(r"(?P<name>[a-z0-9-]+)==(?P<version>[0-9A-Za-z.+!]+)(?: ; (?P<marker>[^/:@\\]+))? \\")
HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}(?P<more> \\)?")

UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX)\b")


def project() -> dict[str, Any]:
    return tomllib.loads((HOUSE / "pyproject.toml").read_text("utf-8"))


def read(path: str) -> str:
    return (HOUSE / path).read_text("utf-8")


# Licence and changelog


def test_the_licence_is_the_one_that_is_declared() -> None:
    licence = read("LICENSE")
    assert project()["project"]["license"] == "Apache-2.0"
    assert project()["project"]["license-files"] == ["LICENSE"]
    assert "Apache License" in licence
    assert "Version 2.0, January 2004" in licence


def newest_version(changelog: str) -> str:
    """The version of the first section: `## 0.1.0 (unreleased)`, `## 1.2.0 (2027-01-31)`."""
    found = re.search(r"^## (\S+) \((?:unreleased|\d{4}-\d{2}-\d{2})\)$", changelog, re.MULTILINE)
    return found[1] if found else ""


def test_the_newest_version_in_the_changelog_is_the_one_that_is_built() -> None:
    assert newest_version(read("CHANGELOG.md")) == project()["project"]["version"]


def test_the_changelog_is_read_from_its_top() -> None:
    assert newest_version("# Changelog\n\n## 0.2.0 (unreleased)\n\n## 0.1.0 (2027-01-31)\n") == "0.2.0"
    assert newest_version("# Changelog\n\n## soon\n") == ""


# Finished code


def unfinished_lines(root: Path) -> Iterator[str]:
    for path in sorted(root.rglob("*")):
        if path.is_file() and path.suffix in {".py", ".sql", ".html", ".css", ".js", ".ts", ".tsx", ".toml", ".md"}:
            for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
                if UNFINISHED.search(line):
                    yield f"{path}:{number} {line.strip()}"


@pytest.mark.parametrize("folder", ["src", "examples", "benchmarks"])
def test_nothing_is_left_to_be_finished(folder: str) -> None:
    assert list(unfinished_lines(HOUSE / folder)) == []


def test_a_line_left_to_be_finished_is_found(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.py").write_text("a = 1\nb = 2  # TODO: three\nXXXL = 'a size'\n", "utf-8")
    assert len(list(unfinished_lines(tmp_path))) == 1


# Lock files


def strange_lines(lock: str) -> list[str]:
    """Lines that are neither a pin nor its hash, and pins without a hash."""
    strange = []
    expecting_hash = False
    for line in lock.splitlines():
        wanted = HASH if expecting_hash else PIN
        found = wanted.fullmatch(line)
        if not found:
            strange.append(line)
        expecting_hash = line.endswith("\\")
    return strange


def pins(lock: str) -> dict[str, set[str]]:
    """The versions of each package; more than one if they differ by Python version."""
    found: dict[str, set[str]] = {}
    for line in lock.splitlines():
        if pin := PIN.fullmatch(line):
            found.setdefault(pin["name"], set()).add(pin["version"])
    return found


@pytest.mark.parametrize("path", LOCKS)
def test_a_lock_file_holds_pins_and_hashes_and_nothing_else(path: str) -> None:
    lock = read(path)
    assert strange_lines(lock) == []
    assert len(pins(lock)) > 10


@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://packages.example/simple",
        "--find-links /opt/somewhere",
        "thing @ https://packages.example/thing.whl",
        "thing==1.0",
        "-e .",
        "# made by pip-compile --find-links=/opt/somewhere",
        "    # via /work/pyproject.toml",
    ],
)
def test_a_line_that_could_name_a_host_or_a_machine_is_found(line: str) -> None:
    pin = "thing==1.0 \\\n    --hash=sha256:" + "0" * 64
    assert strange_lines(f"{pin}\n{pin}\n") == []
    assert line in strange_lines(f"{pin}\n{line}\n{pin}\n")


def test_a_pin_without_a_hash_is_found() -> None:
    assert strange_lines("thing==1.0 \\\nother==1.0 \\\n    --hash=sha256:" + "0" * 64) == ["other==1.0 \\"]


def test_what_the_demo_runs_on_is_what_the_tests_judged() -> None:
    run, test = pins(read("requirements/run.txt")), pins(read("requirements/test.txt"))
    assert {name: test.get(name) for name in run} == run


def unlocked(requirements: list[str], lock: str) -> list[str]:
    """Requirements that the lock file does not satisfy."""
    locked = pins(lock)
    parsed = [Requirement(text) for text in requirements]
    return [
        str(each)
        for each in parsed
        if not (versions := locked.get(canonicalize_name(each.name)))
        or not all(each.specifier.contains(version) for version in versions)
    ]


def test_the_lock_files_satisfy_pyproject() -> None:
    groups = project()["dependency-groups"]
    run = [*project()["project"]["dependencies"], *project()["build-system"]["requires"], *groups["build"]]
    assert unlocked(run, read("requirements/run.txt")) == []
    everything = [*run, *(text for group in groups.values() for text in group)]
    assert unlocked(everything, read("requirements/test.txt")) == []


def test_a_requirement_that_is_not_locked_is_found() -> None:
    lock = "thing==1.0 \\\n    --hash=sha256:" + "0" * 64
    assert unlocked(["Thing>=1"], lock) == []
    assert unlocked(["Thing>=2", "other"], lock) == ["Thing>=2", "other"]


def npm_packages_that_name_a_host(lock: dict[str, Any]) -> list[str]:
    """Packages that say where they were fetched, or that carry no hash."""
    return [
        path
        for path, package in lock["packages"].items()
        if path and ("resolved" in package or "integrity" not in package)
    ]


@pytest.mark.skipif(not NPM_LOCK.exists(), reason="there are no npm judges")
def test_the_npm_lock_file_names_no_host() -> None:
    lock = json.loads(NPM_LOCK.read_text("utf-8"))
    assert npm_packages_that_name_a_host(lock) == []
    assert len(lock["packages"]) > 1


def test_an_npm_package_that_names_a_host_is_found() -> None:
    clean = {"integrity": "sha512-abc"}
    packages = {
        "": {},
        "node_modules/a": clean,
        "node_modules/b": {**clean, "resolved": "https://x"},
        "node_modules/c": {},
    }
    assert npm_packages_that_name_a_host({"packages": packages}) == ["node_modules/b", "node_modules/c"]


# Verbs


def make(*arguments: str) -> "subprocess.CompletedProcess[str]":
    # What a surrounding `make test` hands to its children would change what this make does and prints.
    handed_on = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "ARGS"}
    environment = {name: value for name, value in os.environ.items() if name not in handed_on}
    return subprocess.run(["make", *arguments], cwd=HOUSE, env=environment, capture_output=True, text=True, check=False)


def verbs_in_help() -> list[str]:
    return re.findall(r"^make (\w+) ", make("help").stdout, re.MULTILINE)


def test_help_lists_every_verb_and_make_alone_is_help() -> None:
    phony = re.search(r"^\.PHONY: (.+)$", read("Makefile"), re.MULTILINE)
    assert phony
    assert sorted(verbs_in_help()) == sorted(phony[1].split())
    assert {"demo", "test", "check", "bench", "lock", "clean"} <= set(verbs_in_help())
    assert make().stdout == make("help").stdout


@pytest.mark.parametrize("verb", verbs_in_help())
def test_every_verb_of_help_exists(verb: str) -> None:
    planned = make("--dry-run", verb)
    assert planned.returncode == 0, planned.stderr


def test_a_verb_that_does_not_exist_is_refused() -> None:
    assert make("--dry-run", "coffee").returncode != 0


def make_commands(markdown: str) -> set[str]:
    """The verbs of every `make …` in code: fenced, indented or between backticks."""
    fenced = re.findall(r"^```.*?^```", markdown, re.MULTILINE | re.DOTALL)
    indented = re.findall(r"^ {4}.*$", markdown, re.MULTILINE)
    spans = re.findall(r"`[^`\n]+`", markdown)
    code = "\n".join([*fenced, *indented, *spans])
    return set(re.findall(r"\bmake ([a-z]+)", code))


@pytest.mark.parametrize("path", ["README.md", "CONTRIBUTING.md"])
def test_every_make_command_in_a_page_exists(path: str) -> None:
    assert make_commands(read(path)) <= set(verbs_in_help())


def test_make_commands_are_found_in_code_and_not_in_prose() -> None:
    page = "We make sure.\n\n```sh\nmake demo\n```\n\n    make bench\n\nThen `PYTHON=python3.12 make test`.\n"
    assert make_commands(page) == {"demo", "bench", "test"}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_every_script_can_be_run_and_parsed(script: Path) -> None:
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0


def test_ci_runs_the_verbs_that_the_readme_names() -> None:
    script = read(".ci/run")
    assert re.findall(r"^make .+$", script, re.MULTILINE) == ["make check", "make test"]
    assert "set -euo pipefail" in script


# Lint rules


def unexplained_rules(pyproject: str) -> list[str]:
    """Lines of ruff's `ignore` and `per-file-ignores` that name a rule without a comment."""
    sections = re.findall(
        r"^ignore = \[\n.*?^\]|^\[tool\.ruff\.lint\.per-file-ignores\]\n.*?(?=^\[|\Z)",
        pyproject,
        re.MULTILINE | re.DOTALL,
    )
    lines = "\n".join(sections).splitlines()
    return [line for line in lines if re.search(r'"[A-Z]+[0-9]*"', line) and not re.search(r"#\s*\S", line)]


def test_every_ignored_lint_rule_says_why() -> None:
    assert unexplained_rules(read("pyproject.toml")) == []


def test_an_ignored_lint_rule_without_a_reason_is_found() -> None:
    page = """
[tool.ruff.lint]
ignore = [
  "N818",  # a reason
  "S101",
]

[tool.ruff.lint.per-file-ignores]
"tests/**" = [
  "S",
]
"examples/**" = ["T201"]   # a reason
"benchmarks/**" = ["T201"]

[tool.pytest.ini_options]
"""
    assert [line.strip() for line in unexplained_rules(page)] == ['"S101",', '"S",', '"benchmarks/**" = ["T201"]']
