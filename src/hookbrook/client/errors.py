"""What the SDK raises, beside `ValueError` and `TypeError` for arguments that can never be right.

HookbrookError
├── ApiError           the server answered, and the answer is no (RFC 9457 problem)
├── ConnectionFailed   no answer: refused, cut, too slow
└── Reset              the stream cannot go on where it was; events may be missing
"""

from collections.abc import Mapping
from typing import Any

from hookbrook.errors import FieldError, HookbrookError


class ApiError(HookbrookError):
    """The server's refusal.

    `problem` is the whole problem+json document, with members that are special to the case (`accepted`, `line`); it
    is empty if something on the way, such as a proxy, answered instead.
    """

    def __init__(
        self,
        status: int,
        title: str,
        detail: str = "",
        errors: tuple[FieldError, ...] = (),
        problem: Mapping[str, Any] | None = None,
    ) -> None:
        self.status = status
        self.title = title
        self.detail = detail
        self.errors = errors
        self.problem = problem or {}
        super().__init__(": ".join(part for part in (f"{status} {title}", detail) if part))


class ConnectionFailed(HookbrookError):
    """No answer came. What was asked may or may not have happened; publishing again with the same id is safe."""


class Reset(HookbrookError):
    """The cursor is foreign to this log, or older than what is kept: events may be missing before the next one.

    A stream raises it, unless it was opened with `on_reset`; iterating on goes on behind the gap.
    """

    def __init__(self, reason: str, oldest: str | None = None, newest: str | None = None) -> None:
        #: What happened, as one word of the server's.
        self.reason = reason
        #: Cursors, if the server told: what the log still holds lies behind `oldest` and ends with `newest`.
        self.oldest = oldest
        self.newest = newest
        super().__init__(f"the stream cannot go on where it was ({reason}); events may be missing")
