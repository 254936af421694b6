"""What a verb loads before it does anything: a person waits for it at each call."""

import subprocess
import sys

import pytest

#: What the server alone needs, or the client alone, or a table of rows.
HEAVY = {"fastapi", "uvicorn", "pydantic", "aiohttp", "asyncio", "urllib3", "jwt", "cryptography.x509", "rich.table"}


def loaded_by(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split()) & HEAVY


@pytest.mark.parametrize(
    ("code", "needed"),
    [
        ("import hookbrook.cli.commands", set()),
        ("from hookbrook.cli import events; events.connect(None, None)", {"urllib3"}),
        ("import os, pathlib, hookbrook.config as c; c.load({}, {}, pathlib.Path(os.devnull).parent)", set()),
    ],
    ids=["help", "publish", "settings"],
)
def test_a_verb_loads_no_more_than_it_needs(code: str, needed: set[str]) -> None:
    assert loaded_by(code) == needed
