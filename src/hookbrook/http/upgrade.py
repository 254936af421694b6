"""The head of a request that asks for another protocol, without its asking.

`Upgrade` (to h2c, or to a WebSocket) is ignored, as RFC 9110 section 7.8 allows. httptools however takes what follows
such a head for another protocol and drops the body. So its parser is replaced by a new one that reads the same head
without the `Upgrade` and then the body; the application sees the headers as they came.
"""

from collections.abc import Iterable


def without_upgrade(method: bytes, url: bytes, version: str, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The head as bytes, but for `Upgrade` and what `Connection` says of it."""
    lines = [method, b" ", url, b" HTTP/", version.encode(), b"\r\n"]
    for name, value in headers:
        if name == b"connection":
            tokens = [token for token in value.split(b",") if token.strip().lower() != b"upgrade"]
            lines += (b"connection: ", b",".join(tokens), b"\r\n")
        elif name != b"upgrade":
            lines += (name, b": ", value, b"\r\n")
    return b"".join([*lines, b"\r\n"])
