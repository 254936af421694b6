"""The headers that an endpoint's owner may add to the webhooks sent to it."""

import re
from collections.abc import Mapping
from typing import Final

from hookbrook.errors import Invalid

MAX_HEADERS = 40
MAX_NAME_LENGTH = 128
#: Room for a bearer token (a JWT with many claims), yet within the 8 KB that most servers accept for a whole head.
MAX_VALUE_LENGTH = 4096
MAX_TOTAL_LENGTH = 8192

# RFC 9110 sections 5.1 and 5.6.2.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
# RFC 9110 section 5.5 without obs-text; no CR, LF or NUL, which would begin a header of the attacker's choice.
_VALUE = re.compile(r"(?:[\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?)?", re.ASCII)

#: Ours to say. `Host` would choose another site behind the judged address; the rest frames the message or belongs to
#: one hop (RFC 9110 section 7.6.1), and disagreeing with the framing is how requests are smuggled.
_RESERVED: Final = frozenset(
    {
        "connection",
        "content-encoding",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
#: What receivers verify (`webhook-*`, `svix-*`), what stops loops (`hookbrook-*`), and a proxy's credentials.
_RESERVED_PREFIXES: Final = ("webhook-", "svix-", "hookbrook-", "proxy-")


def check_headers(headers: Mapping[str, str], field: str = "headers") -> None:
    """Raises `Invalid`, which names the header as `field.name` and never repeats a value, since it may be secret."""
    if len(headers) > MAX_HEADERS:
        raise Invalid.of(field, f"may have at most {MAX_HEADERS} headers")
    seen: set[str] = set()
    for name, value in headers.items():
        _check_header(name, value, f"{field}.{name[:MAX_NAME_LENGTH]}")
        if name.lower() in seen:
            raise Invalid.of(f"{field}.{name}", "is given twice (names do not depend on case)")
        seen.add(name.lower())
    if sum(len(name) + len(value) for name, value in headers.items()) > MAX_TOTAL_LENGTH:
        raise Invalid.of(field, f"may have at most {MAX_TOTAL_LENGTH} characters in all")


def _check_header(name: str, value: str, field: str) -> None:
    if len(name) > MAX_NAME_LENGTH or not _TOKEN.fullmatch(name):
        raise Invalid.of(field, f"is no header name of 1 to {MAX_NAME_LENGTH} characters (RFC 9110 section 5.1)")
    if name.lower() in _RESERVED or name.lower().startswith(_RESERVED_PREFIXES):
        raise Invalid.of(field, "is set by Hookbrook and cannot be changed")
    if len(value) > MAX_VALUE_LENGTH:
        raise Invalid.of(field, f"may have at most {MAX_VALUE_LENGTH} characters")
    if not _VALUE.fullmatch(value):
        raise Invalid.of(field, "may contain visible ASCII characters, with spaces and tabs between them")
