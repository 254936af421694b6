"""The forward proxy through which webhooks leave, where a network has no other way out."""

import re
from base64 import b64encode
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote_to_bytes, urlsplit

_HOST: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|[0-9A-Fa-f:.]+", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    host: str
    port: int
    #: The value of `Proxy-Authorization`, or None.
    authorization: str | None = field(default=None, repr=False)


def parse_proxy(url: str) -> Proxy:
    """`http://[user:password@]host:port`. Raises `ValueError`, which does not repeat the text."""
    wrong = ValueError("must be http://HOST:PORT or http://USER:PASSWORD@HOST:PORT")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise wrong from None
    if parts.scheme != "http" or not host or not port or not _HOST.fullmatch(host) or not url.isascii():
        raise wrong
    if parts.path not in ("", "/") or parts.query or parts.fragment or re.search(r"[\s\x00-\x1f\x7f]", url):
        raise wrong
    authorization = None
    if parts.username is not None:
        pair = unquote_to_bytes(parts.username) + b":" + unquote_to_bytes(parts.password or "")
        authorization = f"Basic {b64encode(pair).decode()}"
    return Proxy(host=host, port=port, authorization=authorization)
