"""The head of a request (RFC 9112 section 3), as bytes."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from hookbrook.core.addresses import Target
from hookbrook.core.fetch import Unsendable

#: Distinct sets of names that are remembered as good; requests to one endpoint have the same.
_NAMES: Final = 4096
#: RFC 9110 section 5.6.2.
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
#: What frames the message or names the site is ours to say, whoever asks.
_OURS: Final = frozenset(
    {"connection", "content-length", "expect", "host", "te", "trailer", "transfer-encoding", "upgrade"}
)
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
#: RFC 9110 section 8.6: these are expected to have a body, and say so even when it is empty.
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})


def request_line(target: Target) -> str:
    """What all requests to the target have in common, from behind the method on."""
    host = f"[{target.host}]" if ":" in target.host else target.host
    default = target.port == _DEFAULT_PORTS[target.scheme]
    return f" {target.path} HTTP/1.1\r\nhost: {host if default else f'{host}:{target.port}'}\r\n"


def head(method: str, line: str, agent: str, headers: Mapping[str, str], length: int) -> bytes:
    """The bytes before the body; `line` is the target's. Raises `Unsendable` for what would not be one head of one
    request."""
    defaults = _defaults(method, agent, tuple(headers))
    fields = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    # A CR or LF within a value would begin a header, or a request, of somebody else's choice.
    if fields.count("\r") != len(headers) or fields.count("\n") != len(headers) or "\0" in fields:
        raise Unsendable("The request cannot be sent: a header has a forbidden character.")
    sized = f"content-length: {length}\r\n" if length or method in _WITH_BODY else ""
    try:
        return f"{method}{line}{defaults}{fields}{sized}\r\n".encode()
    except UnicodeEncodeError:
        raise Unsendable("The request cannot be sent: a header has a lone surrogate, which is no character.") from None


@lru_cache(maxsize=_NAMES)
def _defaults(method: str, agent: str, names: tuple[str, ...]) -> str:
    """What is sent unless the request says otherwise, once its method and names were checked."""
    for name in (method, *names):
        if not _TOKEN.fullmatch(name):
            raise Unsendable("The request cannot be sent: its method or a header's name has a forbidden character.")
    given = {name.lower() for name in names}
    taken = sorted(_OURS & given)
    if taken:
        raise Unsendable(f"The request cannot be sent: {taken[0]} is not the sender's to say.")
    # What is not decompressed had better not be compressed, so that people can read it.
    defaults = {"accept": "*/*", "accept-encoding": "identity", "user-agent": agent}
    return "".join(f"{name}: {value}\r\n" for name, value in defaults.items() if name not in given)
