"""Names made from a request: `github.{body.repository.full_name}` becomes `github.octocat/hello-world`.

What stands in braces is JMESPath over `{headers, query, body}`. A plain path may be written without the quotes that
JMESPath wants around a hyphen: `{headers.x-github-event}`. With a dot in front of it, `{.body.action}` gives the value
and a dot before it, or nothing at all if there is none. The result is always a valid channel or type:

- a character that a name cannot have becomes `-`;
- a name that is too long keeps its start and ends in a hash of the whole, so that two of them stay two;
- what is missing, empty, not a text or number, or fails to evaluate, is the template's fallback (`unknown`);
- a result that starts with `hookbrook.` is written `_hookbrook.`, because those names are our own and a stranger's
  body decides about what a template yields.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Any

from hookbrook.core.channel import MAX_NAME_LENGTH, RESERVED
from hookbrook.core.expression import Expression
from hookbrook.errors import Invalid
from hookbrook.inbound.reads import NOTHING, Reads, of_expression, of_path
from hookbrook.inbound.request import PRIVATE_HEADERS, Request

#: A name has 200 characters; nobody needs more text than this to describe it.
MAX_TEMPLATE_LENGTH = 500

#: Parts in braces, each an evaluation at every request.
MAX_PARTS = 8

#: Steps of one evaluation at the door, where a provider waits: a few milliseconds at the most.
MAX_STEPS = 5_000

#: What a missing value becomes.
MISSING = "unknown"

#: Names that are remembered: most webhooks are of a few types and belong on a few channels.
MAX_KNOWN_NAMES = 1_024

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._:@/\-]")
_PLAIN_PATH = re.compile(r"(\.?)((?:headers|query|body)(?:\.[A-Za-z0-9_\-]+)+)\Z")
_QUOTES = "'\"`"
_HASH_DIGITS = 16


@dataclass(frozen=True, slots=True)
class _Path:
    """A value found by names alone, which needs no interpreter."""

    names: tuple[str, ...]
    #: Whether the value may be missing, and has a dot before it if not.
    dotted: bool


_Part = str | _Path | Expression
#: Gives the text of a part for a request.
_Finder = Callable[[Request], str]


class Template:
    """A compiled template. Immutable; `text` is what it was compiled from, and `reads` what of a document it needs."""

    __slots__ = ("_finders", "_missing", "_parts", "reads", "text")

    def __init__(self, text: str, parts: tuple[_Part, ...], missing: str) -> None:
        self.text = text
        self.reads = _reads(parts)
        self._parts = parts
        self._missing = missing
        #: What gives each part's text, if none of them is an expression.
        self._finders = [_finder(part, missing) for part in parts if not isinstance(part, Expression)]
        if len(self._finders) < len(parts):
            self._finders.clear()

    def __repr__(self) -> str:
        return f"Template({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Template) and (self.text, self._missing) == (other.text, other._missing)

    def __hash__(self) -> int:
        return hash((self.text, self._missing))

    @classmethod
    def compile(cls, text: str, *, missing: str = MISSING, field: str = "template") -> "Template":
        """Reads `text`; raises `Invalid`, naming `field`, if it could not give a name."""
        if not text:
            raise Invalid.of(field, "a template cannot be empty")
        if len(text) > MAX_TEMPLATE_LENGTH:
            raise Invalid.of(field, f"a template has at most {MAX_TEMPLATE_LENGTH} characters, this one {len(text)}")
        parts = tuple(_parts(text, field))
        if sum(not isinstance(part, str) for part in parts) > MAX_PARTS:
            raise Invalid.of(field, f"a template has at most {MAX_PARTS} parts in braces")
        if isinstance(parts[0], str) and parts[0].startswith(RESERVED):
            raise Invalid.of(field, f"names that start with {RESERVED!r} are reserved")
        return cls(text, parts, missing)

    def render(self, document: Mapping[str, Any]) -> str:
        """The name for this `{headers, query, body}`; never raises, and always a valid name that is not reserved."""
        return clean_name("".join(self._render(part, document) for part in self._parts), missing=self._missing)

    def name_for(self, request: Request) -> str:
        """As `render` of the request's document, which is made only if an expression asks for it."""
        if not self._finders:
            return self.render(request.document_of(self.reads))
        return clean_name("".join([find(request) for find in self._finders]), missing=self._missing)

    def text_of(self, document: Mapping[str, Any]) -> str | None:
        """The text as it is, for what is no name; None if a part of it is missing. Never raises."""
        texts = [part if isinstance(part, str) else self._value(part, document) for part in self._parts]
        if any(not text for text, part in zip(texts, self._parts, strict=True) if not _may_be_empty(part)):
            return None
        return "".join(texts)

    def _value(self, part: "_Path | Expression", document: Mapping[str, Any]) -> str:
        """The value of a part in braces; empty if there is none."""
        if isinstance(part, _Path):
            text = _text(_follow(document, part.names))
            return (text and f".{text}") if part.dotted else text
        try:
            return _text(part.evaluate(document, max_steps=MAX_STEPS))
        except Invalid:
            return ""

    def _render(self, part: _Part, document: Mapping[str, Any]) -> str:
        if isinstance(part, str):
            return part
        return self._value(part, document) or ("" if _may_be_empty(part) else self._missing)


def _finder(part: str | _Path, missing: str) -> _Finder:
    if isinstance(part, str):
        return lambda _request: part
    before, otherwise = (".", "") if part.dotted else ("", missing)
    return _FINDERS[part.names[0]](part.names[1:], before, otherwise)


def _body_finder(names: tuple[str, ...], before: str, otherwise: str) -> _Finder:
    member, rest = names[0], names[1:]
    members = frozenset((member,))

    def find(request: Request) -> str:
        body = request.json_with(member)
        if body is None:
            body = request.body_with(members)  # it may be a form
        value = body.get(member) if isinstance(body, dict) else None
        text = "" if value is None else _text(_follow(value, rest))
        return before + text if text else otherwise

    return find


def _query_finder(names: tuple[str, ...], before: str, otherwise: str) -> _Finder:
    def find(request: Request) -> str:
        text = _text(_follow(request.query_texts, names))
        return before + text if text else otherwise

    return find


def _header_finder(names: tuple[str, ...], before: str, otherwise: str) -> _Finder:
    key = names[0].encode("utf-8", "replace")
    if key in PRIVATE_HEADERS or len(names) > 1:
        return lambda _request: otherwise

    def find(request: Request) -> str:
        value = request.distinct.get(key)
        text = request.header_text(key) if value is None else value.strip().decode("latin-1")
        return before + text if text else otherwise

    return find


#: By kind of path: finds the text of what the names below it lead to, with what stands before it; or else the other.
_FINDERS: Mapping[str, Callable[[tuple[str, ...], str, str], _Finder]] = {
    "body": _body_finder,
    "query": _query_finder,
    "headers": _header_finder,
}


def _reads(parts: tuple[_Part, ...]) -> Reads:
    reads = NOTHING
    for part in parts:
        if isinstance(part, _Path):
            reads |= of_path(part.names)
        elif isinstance(part, Expression):
            reads |= of_expression(part.text)
    return reads


def _may_be_empty(part: _Part) -> bool:
    return isinstance(part, _Path) and part.dotted


def _follow(value: Any, names: tuple[str, ...]) -> Any:
    for name in names:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def clean_name(text: str, *, missing: str = MISSING) -> str:
    """The valid, unreserved channel or type that is nearest to `text`."""
    return _known_name(text, missing) if len(text) <= MAX_NAME_LENGTH else _clean_name(text, missing)


def _clean_name(text: str, missing: str) -> str:
    name = _NOT_IN_NAMES.sub("-", text[: MAX_NAME_LENGTH + 1]) or missing
    # Compared without case, so that a reader who is careless about it is not deceived either.
    if name.lower().startswith(RESERVED):
        name = "_" + name
    if len(name) <= MAX_NAME_LENGTH:
        return name
    digest = sha256(text.encode("utf-8", "replace")).hexdigest()[:_HASH_DIGITS]
    return f"{name[: MAX_NAME_LENGTH - _HASH_DIGITS - 1]}-{digest}"


_known_name = lru_cache(MAX_KNOWN_NAMES)(_clean_name)


def _text(value: object) -> str:
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int() if value.bit_length() <= 128:
            return str(value)
        case float():
            return repr(value)
    return ""


def _parts(text: str, field: str) -> Iterator[_Part]:
    position = 0
    while position < len(text):
        opening = text.find("{", position)
        literal = text[position:] if opening < 0 else text[position:opening]
        if literal:
            yield _literal(literal, field)
        if opening < 0:
            return
        closing = _closing_brace(text, opening, field)
        yield _expression(text[opening + 1 : closing].strip(), field)
        position = closing + 1


def _literal(text: str, field: str) -> str:
    if wrong := _NOT_IN_NAMES.search(text):
        raise Invalid.of(field, f"{wrong.group()!r} cannot stand in a name; allowed are A-Z a-z 0-9 . _ : @ / -")
    return text


def _expression(text: str, field: str) -> _Path | Expression:
    if plain := _PLAIN_PATH.match(text):
        return _Path(tuple(plain[2].split(".")), dotted=bool(plain[1]))
    return Expression.compile(text, field=field)


def _closing_brace(text: str, opening: int, field: str) -> int:
    """Where the brace at `opening` ends: JMESPath has braces of its own, and texts in three kinds of quotes."""
    depth = 0
    quote = ""
    escaped = False
    for position in range(opening, len(text)):
        character = text[position]
        if escaped:
            escaped = False
        elif quote:
            escaped = character == "\\"
            quote = "" if character == quote else quote
        elif character in _QUOTES:
            quote = character
        elif character == "{":
            depth += 1
        elif character == "}":
            depth -= 1
            if depth == 0:
                return position
    raise Invalid.of(field, "a brace is opened and not closed")
