"""The body of an upload, made of the user's items as they come."""

from collections.abc import Iterator
from typing import Any

from hookbrook.client.errors import ConnectionFailed
from hookbrook.client.upload import Upload


def pull(lines: Upload, source: Iterator[Any]) -> bytes | None:
    for item in source:
        return lines.add(item)
    lines.exhausted = True
    return None


def body(lines: Upload, source: Iterator[Any]) -> Iterator[bytes]:
    yield from tuple(lines.unacknowledged)
    while not (lines.full or lines.exhausted):
        try:
            line = pull(lines, source)
        except Exception as error:
            # The source is the user's and may raise anything; kept aside, because the HTTP client would take an OSError
            # of the source for one of the connection.
            lines.fault = error
            raise ConnectionFailed("the source of the upload failed") from error
        if line is not None:
            yield line
    lines.sent_all = True
