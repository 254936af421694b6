"""What a request, a secret and an address may have been before somebody changed them; for `explain` to try.

Each variant comes with the sentence that is true if the signature holds for it. The commonest mistakes come first,
because whoever tries them may run out of patience.
"""

import json
import re
import zlib
from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any, Final
from urllib.parse import parse_qsl, quote, quote_plus, urlencode, urlsplit, urlunsplit

from hookbrook.inbound.request import MAX_FORM_FIELDS, Request
from hookbrook.inbound.signed import Key

#: Addresses that are tried; each is one more HMAC.
MAX_URLS: Final = 120
#: Bytes that a compressed body is inflated to at most.
MAX_INFLATED: Final = 1_000_000

_COMPACT: Final = (",", ":")
#: How programs write JSON: JavaScript, PHP, Python, and printed for people (as Stripe sends it).
_STYLES: Final[Sequence[Mapping[str, Any]]] = (
    {"separators": _COMPACT, "ensure_ascii": False},
    {"separators": _COMPACT},
    {"ensure_ascii": False},
    {},
    {"indent": 2, "ensure_ascii": False},
    {"indent": 2},
    {"indent": 4, "ensure_ascii": False},
)
_LOCAL: Final[Mapping[str, str]] = {"127.0.0.1": "localhost", "localhost": "127.0.0.1"}
_QUOTED: Final = re.compile(r"""\A(['"])(.*)\1\Z""", re.DOTALL)
_SCHEME: Final = re.compile(r"\A(?:bearer|basic|token)\s+", re.IGNORECASE)

Body = tuple[bytes, str, str]


def bodies(request: Request) -> Iterator[Body]:
    """(body, cause, sentence): what the body may have been."""
    body = request.body
    if not body:
        return
    stripped = body.strip()
    if stripped != body:
        yield stripped, "line_end", "The body has white space at an end, such as a line end, that was not signed."
    for ending in (b"\n", b"\r\n"):
        yield body + ending, "line_end", "The body has lost the line end that was signed."
    if b"\r\n" in body:
        yield body.replace(b"\r\n", b"\n"), "line_end", "The body's line ends were changed from LF to CRLF."
    elif b"\n" in body:
        yield body.replace(b"\n", b"\r\n"), "line_end", "The body's line ends were changed from CRLF to LF."
    if body.startswith(b"\xef\xbb\xbf"):
        yield body[3:], "reserialised", "The body has a byte order mark in front that was not signed."
    yield from _inflated(body)
    yield from _written_anew(request)
    yield from _other_text(body)


def _inflated(body: bytes) -> Iterator[Body]:
    if not body.startswith(b"\x1f\x8b"):
        return
    try:
        inflated = zlib.decompressobj(wbits=31).decompress(body, MAX_INFLATED)
    except zlib.error:
        return
    yield inflated, "compressed", "The body was compressed on its way, and what was signed is what it held before."


def _written_anew(request: Request) -> Iterator[Body]:
    sentence = "The body was parsed and written anew on its way: the same {what}, but not the bytes that were signed."
    if request.is_form:
        try:
            pairs = parse_qsl(request.body.decode(), keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS)
        except ValueError:
            return
        for how in (quote_plus, quote):
            text = urlencode(pairs, quote_via=how)
            for written in (text, re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), text)):
                yield written.encode(), "reserialised", sentence.format(what="form")
        return
    try:
        value = json.loads(request.body)
    except (ValueError, RecursionError):
        return
    for style in _STYLES:
        try:
            text = json.dumps(value, **style)
        except (ValueError, RecursionError):
            return
        yield text.encode("utf-8", "surrogatepass"), "reserialised", sentence.format(what="JSON")
        if style.get("separators") and "/" in text:
            yield (
                text.replace("/", "\\/").encode("utf-8", "surrogatepass"),
                "reserialised",
                sentence.format(what="JSON"),
            )


def _other_text(body: bytes) -> Iterator[Body]:
    if body.isascii():
        return
    sentence = "The body's text was decoded and encoded again in another character set."
    try:
        yield body.decode().encode("latin-1"), "reserialised", sentence
    except UnicodeError:
        yield body.decode("latin-1").encode(), "reserialised", sentence


def secrets(held: Sequence[str]) -> Iterator[tuple[Sequence[str], str]]:
    """(secrets, sentence): what the texts of the secrets should have been."""
    for change, sentence in (
        (str.strip, "There is white space before or after the secret."),
        (lambda text: _QUOTED.sub(r"\2", text.strip()), "The secret was entered with the quotation marks around it."),
        (lambda text: _SCHEME.sub("", text.strip()), "The secret was entered with the word before it (`Bearer`)."),
        (_decoded, "The secret was entered in base64, and its provider uses what that decodes to."),
    ):
        changed = [change(text) for text in held]
        if changed != list(held):
            yield changed, sentence


def _decoded(text: str) -> str:
    try:
        return b64decode(text, validate=True).decode()
    except (NotBase64, ValueError):
        return text


def keys(used: Key) -> Iterator[tuple[Key, str]]:
    """(key, sentence): how else the text of a secret may become a key."""
    how = {"utf8": "taken as it stands", "base64": "decoded from base64", "hex": "decoded from hex"}
    strips = dict.fromkeys((used.strip, "", "whsec_"))
    for encoding, strip in product(how, strips):
        if (encoding, strip) != (used.encoding, used.strip):
            what = f"without `{strip}` and " if strip else "whole and " if used.strip else ""
            sentence = f"The secret is {how[used.encoding]} here, and the sender has it {what}{how[encoding]}."
            yield Key(encoding=encoding, strip=strip), sentence  # type: ignore[arg-type]  # a key of `how`


def urls(request: Request) -> Iterator[str]:
    """Other addresses under which the provider may know us."""
    parts = urlsplit(request.url)
    hosts = dict.fromkeys([parts.netloc, *_hosts(request), parts.hostname or ""])
    hosts |= dict.fromkeys(_local_names(hosts))
    ports = ("", *_forwarded_ports(request), ":443", ":80")
    netlocs = dict.fromkeys(
        [*hosts, *(f"{host.partition(':')[0]}{port}" for host in hosts for port in ports if "[" not in host)]
    )
    path = parts.path
    prefixes = [value.decode("latin-1").rstrip("/") for value in request.header(b"x-forwarded-prefix")]
    originals = [
        value.decode("latin-1").partition("?")[0]
        for name in (b"x-original-uri", b"x-original-url", b"x-forwarded-uri")
        for value in request.header(name)
        if value.startswith(b"/")
    ]
    slashed = path[:-1] if path.endswith("/") else path + "/"
    bare = path.removeprefix("/in")
    paths = dict.fromkeys([path, *originals, *(prefix + path for prefix in prefixes), slashed, bare])
    queries = dict.fromkeys([parts.query, ""])
    seen = {request.url}
    # By how many things differ, since one mistake is likelier than two.
    found = sorted(
        product(enumerate(("https", "http")), enumerate(netlocs), enumerate(paths), enumerate(queries)),
        key=lambda each: sum(bool(part[0]) for part in each[1:]) + (each[0][1] != parts.scheme),
    )
    for (_, scheme), (_, netloc), (_, path), (_, query) in found:
        url = urlunsplit((scheme, netloc, path, query, ""))
        if netloc and url not in seen:
            seen.add(url)
            yield url
            if len(seen) > MAX_URLS:
                return


def _local_names(hosts: Iterable[str]) -> Iterator[str]:
    """This machine by its other name: signed by a program here, which was told the one and calls the other."""
    for host in hosts:
        name, colon, port = host.partition(":")
        if name in _LOCAL:
            yield f"{_LOCAL[name]}{colon}{port}"


def _forwarded_ports(request: Request) -> Iterator[str]:
    for value in request.header(b"x-forwarded-port"):
        if re.fullmatch(rb"[0-9]{1,5}", value):
            yield f":{value.decode()}"


def _hosts(request: Request) -> Iterator[str]:
    for name in (b"x-forwarded-host", b"x-original-host", b"host"):
        for value in request.header(name):
            host = value.split(b",")[0].strip().decode("latin-1")
            if re.fullmatch(r"[A-Za-z0-9.:\[\]-]{1,255}", host):
                yield host
