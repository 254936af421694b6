"""A webhook as a text that somebody edits."""

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookbrook.cli.forward import Outgoing
from hookbrook.cli.letter import edited, read, written
from hookbrook.errors import HookbrookError

WEBHOOK = Outgoing(query="a=1", headers=(("x-a", "1"), ("x-b", "b: c"), ("x-a", "2")), body=b'{"a": 1,\r\n\n "b": 2}')


@given(st.text(max_size=100))
def test_a_text_that_nobody_changed_is_the_same_webhook(body: str) -> None:
    webhook = Outgoing(headers=WEBHOOK.headers, query="a=1&b=%20", body=body.encode("utf-8", "replace"))
    assert read(written(webhook, "/hook")) == webhook


def test_the_text_is_what_people_know_as_a_request() -> None:
    assert written(WEBHOOK, "/hook").split("\n")[:5] == ["POST /hook?a=1", "x-a: 1", "x-b: b: c", "x-a: 2", ""]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "line 1"),
        ("POST", "line 1"),
        ("{}", "line 1"),
        ("POST /hook\nx-a 1\n\n{}", "line 2"),
        ("POST /hook\nx-a: 1\n: 2\n\n{}", "line 3"),
        ("POST /hook\nx a: 1\n\n{}", "line 2"),
    ],
)
def test_what_is_no_request_is_told_with_its_line(text: str, line: str) -> None:
    with pytest.raises(HookbrookError, match=line):
        read(text)


def editor(tmp_path: Path, code: str) -> str:
    """A program that changes the file it is given."""
    script = tmp_path / f"editor{len(list(tmp_path.iterdir()))}.py"
    script.write_text(f"import sys, pathlib\nfile = pathlib.Path(sys.argv[-1])\n{code}\n")
    return f"{sys.executable} {script} --wait"


def test_the_editors_changes_are_what_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "file.write_bytes(file.read_bytes().replace(b'\"a\": 1', b'\"a\": 9').replace(b'x-b: b: c\\n', b''))"
    monkeypatch.setenv("VISUAL", editor(tmp_path, code))
    changed = edited(WEBHOOK, "/hook")
    assert changed is not None
    assert changed.body == b'{"a": 9,\r\n\n "b": 2}'
    assert changed.headers == (("x-a", "1"), ("x-a", "2"))


def test_an_emptied_text_is_not_sent_and_a_failed_editor_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", editor(tmp_path, "file.write_text('')"))
    assert edited(WEBHOOK, "/hook") is None
    for program, said in (
        (editor(tmp_path, "sys.exit(3)"), "ended with 3"),
        (editor(tmp_path, "file.write_bytes(b'\\xff')"), "not UTF-8"),
        ("/no/such/editor", "cannot be started"),
    ):
        monkeypatch.setenv("EDITOR", program)
        with pytest.raises(HookbrookError, match=said):
            edited(WEBHOOK, "/hook")


def test_a_body_that_is_no_text_cannot_be_edited() -> None:
    with pytest.raises(HookbrookError, match="no text"):
        written(Outgoing(body=b"\xff"), "/hook")
