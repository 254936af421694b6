"""A webhook as a text to be edited: the request's first line, its headers, a blank line, its body.

    POST /hook?a=1
    content-type: application/json

    {"id": "evt_1"}

The body is taken byte for byte, but for the one line end that editors put behind the last line.
"""

import os
import shlex
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from hookbrook.cli.forward import Outgoing
from hookbrook.errors import HookbrookError


def written(outgoing: Outgoing, path: str) -> str:
    """The text of a request; `path` is shown for the reader. Raises HookbrookError if the body is no text."""
    try:
        body = outgoing.body.decode()
    except UnicodeDecodeError as error:
        raise HookbrookError("the body is no text, so it cannot be edited") from error
    query = f"?{outgoing.query}" if outgoing.query else ""
    lines = [f"{outgoing.method} {path}{query}", *(f"{name}: {value}" for name, value in outgoing.headers)]
    return "\n".join([*lines, "", body, ""])


def read(text: str) -> Outgoing:
    """Raises HookbrookError, naming the line, for a text that is no request."""
    head, _, body = text.partition("\n\n")
    first, *lines = head.split("\n")
    method, _, target = first.partition(" ")
    if not method.isalpha() or not target:
        raise HookbrookError("line 1: the first line is a method and a path, such as POST /hook")
    headers = []
    for number, line in enumerate(lines, 2):
        name, colon, value = line.partition(":")
        if not colon or not name.strip() or " " in name.strip():
            raise HookbrookError(f"line {number}: a header is a name, a colon and a value")
        headers.append((name.strip(), value.strip()))
    return Outgoing(
        method=method.upper(),
        query=target.partition("?")[2],
        headers=tuple(headers),
        body=body.removesuffix("\n").encode(),
    )


def edited(outgoing: Outgoing, path: str) -> Outgoing | None:
    """The request after its author has changed it in `$VISUAL` or `$EDITOR`; None if he has emptied it."""
    editor = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi")
    with TemporaryDirectory(prefix="hookbrook-") as folder:
        file = Path(folder) / "webhook.http"
        # The editor, not Python, decides about line ends.
        file.write_bytes(written(outgoing, path).encode())
        try:
            ended = subprocess.run([*editor, str(file)], check=False)  # noqa: S603 - the user's own editor
        except OSError as error:
            raise HookbrookError(f"{editor[0]} cannot be started: {error.strerror}; set EDITOR") from error
        if ended.returncode != 0:
            raise HookbrookError(f"{editor[0]} ended with {ended.returncode}, so nothing is sent")
        try:
            text = file.read_bytes().decode()
        except UnicodeDecodeError as error:
            raise HookbrookError("what was saved is not UTF-8") from error
    return read(text) if text.strip() else None
