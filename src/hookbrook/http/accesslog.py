"""The access log: one line a request, in the logger `hookbrook.access`, and never a secret in it.

Tokens travel in queries (`?token=`), under names that a provider or a client may choose. So the rule is not which
values to hide but which to show: those of our own parameters that say where and what, when they look harmless.
"""

import logging
import re
from collections.abc import Callable, MutableMapping
from functools import partial
from typing import Any
from urllib.parse import unquote_plus

access = logging.getLogger("hookbrook.access")

#: Query parameters whose values appear in the log. Everything else is `***`.
SHOWN = frozenset(
    {"after", "channel", "close", "control", "endpoint", "event", "format", "last", "limit", "page", "since"}
    | {"source", "status", "tenant", "type"}
)
#: A shown value is made of these; what holds more, such as a second `?token=`, is hidden after all.
_HARMLESS = re.compile(rb"[A-Za-z0-9._:@/*,-]{0,200}")
_HIDDEN = b"***"
#: No parameter's name is longer, but a token in the wrong place is (`?eyJh…=`).
_LONGEST_NAME = 24


def redacted(query: bytes) -> bytes:
    """A query string that is safe to log: `channel=a&token=eyJh…` becomes `channel=a&token=***`."""
    return b"&".join(_redacted_pair(pair) for pair in query.split(b"&"))


def _redacted_pair(pair: bytes) -> bytes:
    name, equals, value = pair.partition(b"=")
    if not equals:
        # A value without a name may be anything, a token too.
        return pair if name.decode("latin-1") in SHOWN else _HIDDEN
    # `%74oken` is `token` to whoever reads the query, so names are compared decoded.
    if unquote_plus(name.decode("latin-1")) in SHOWN and _HARMLESS.fullmatch(value):
        return pair
    return (name if len(name) <= _LONGEST_NAME else _HIDDEN) + b"=" + _HIDDEN


def recorder(
    scope: MutableMapping[str, Any], status: int, started: float, now: Callable[[], float]
) -> Callable[[int], None]:
    """What writes the line once the size is known, perhaps in days; it holds as little as it can of the request."""
    if not access.isEnabledFor(logging.INFO):
        return _forget
    write = partial(
        record,
        client=scope["client"],
        method=scope["method"],
        path=scope["raw_path"],
        query=scope["query_string"],
        status=status,
    )
    return lambda size: write(size=size, seconds=now() - started)


def _forget(_size: int) -> None:
    return None


def record(
    *, client: tuple[str, int] | None, method: str, path: bytes, query: bytes, status: int, size: int, seconds: float
) -> None:
    """Write the line of one finished request; `size` counts the bytes of the response's body."""
    target = path + b"?" + redacted(query) if query else path
    fields = {
        "client": f"{client[0]}:{client[1]}" if client else "-",
        "method": method,
        "path": target.decode("ascii", "backslashreplace"),
        "status": status,
        "duration_ms": round(seconds * 1000, 3),
        "bytes": size,
    }
    access.info("%(client)s %(method)s %(path)s %(status)d %(bytes)dB %(duration_ms).3fms", fields, extra=fields)
