"""The head of a request, as ASGI wants to have it."""

import urllib.parse
from typing import Any

import httptools

from hookbrook.http.problems import Headers, VersionNotSupported

#: Host and port of one end of a connection; None for a Unix socket.
Address = tuple[str, int] | None


def read_scope(
    method: bytes,
    url: bytes,
    version: str,
    headers: Headers,
    *,
    server: tuple[str, int | None] | None,
    client: Address,
    scheme: str | None,
) -> dict[str, Any]:
    """The scope but for `state` and `extensions`; raises `VersionNotSupported`, and httptools' error for a bad URL."""
    if version not in ("1.1", "1.0"):
        raise VersionNotSupported("This server speaks HTTP/1.1.")
    if url.startswith(b"/") and b"#" not in url:
        raw_path, _, query = url.partition(b"?")
    else:
        # RFC 9112 section 3.2: absolute-form and asterisk-form.
        parsed = httptools.parse_url(url)
        raw_path, query = parsed.path or b"/", parsed.query or b""
    path = raw_path.decode("ascii")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": version,
        "server": server,
        "client": client,
        "scheme": scheme,
        "method": method.decode("ascii"),
        "root_path": "",
        "path": urllib.parse.unquote(path) if "%" in path else path,
        "raw_path": raw_path,
        "query_string": query,
        "headers": headers,
    }


def address_of(info: object) -> Address:
    """What a transport tells of one of its ends."""
    return (str(info[0]), int(info[1])) if isinstance(info, tuple) and len(info) >= 2 else None
