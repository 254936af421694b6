"""What of a request an expression looks at, so that no more of it is decoded.

A webhook's body is often 10 KB of JSON of which a name needs one word; building all of it takes several times as long
as verifying it. This walks over a parsed JMESPath expression and notes the members of the document that it can reach.
Whatever is not known for certain counts as everything: too much is slow, too little would be wrong.
"""

from dataclasses import dataclass
from typing import Any

import jmespath

#: Their operands are all looked for in the same place as they themselves.
_SIDE_BY_SIDE = frozenset(
    (
        "or_expression",
        "and_expression",
        "not_expression",
        "comparator",
        "function_expression",
        "multi_select_list",
        "multi_select_dict",
        "key_val_pair",
    )
)

#: Their first operand is looked for in the same place, the others in what that one found.
_ONE_IN_ANOTHER = frozenset(
    ("projection", "value_projection", "filter_projection", "flatten", "pipe", "index_expression", "slice")
)

_Path = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reads:
    """What of `{headers, query, body}` is looked at."""

    #: Names of headers; None: all of them.
    headers: frozenset[str] | None = frozenset()
    query: bool = False
    #: Names of the body's members; None: the whole body.
    body: frozenset[str] | None = frozenset()

    def __or__(self, other: "Reads") -> "Reads":
        return Reads(
            headers=_both(self.headers, other.headers),
            query=self.query or other.query,
            body=_both(self.body, other.body),
        )


def _both(names: frozenset[str] | None, others: frozenset[str] | None) -> frozenset[str] | None:
    return None if names is None or others is None else names | others


NOTHING = Reads()
EVERYTHING = Reads(headers=None, query=True, body=None)


def of_expression(text: str) -> Reads:
    """What the JMESPath expression `text`, which compiles, looks at."""
    found: set[_Path] = set()
    _use(found, _visit(jmespath.compile(text).parsed, (), found))
    reads = NOTHING
    for path in found:
        reads = reads | of_path(path)
    return reads


def of_path(path: _Path) -> Reads:
    """What is looked at by following names from the document."""
    match path:
        case ("headers", name, *_):
            return Reads(headers=frozenset((name,)))
        case ("headers",):
            return Reads(headers=None)
        case ("query", *_):
            return Reads(query=True)
        case ("body", name, *_):
            return Reads(body=frozenset((name,)))
        case ("body",):
            return Reads(body=None)
        case (_, *_):
            return NOTHING
    return EVERYTHING


def _visit(node: Any, at: _Path | None, found: set[_Path]) -> _Path | None:
    """The path of what the node gives if it is evaluated at a path; None for a value that is no part of the document,
    or of which all is used already."""
    kind, children = node["type"], node["children"]
    if kind == "field":
        return None if at is None else (*at, node["value"])
    if kind == "current":
        return at
    if kind == "subexpression":
        for child in children:
            at = _visit(child, at, found)
        return at
    if kind in _SIDE_BY_SIDE:
        for child in children:
            _use(found, _visit(child, at, found))
        return None
    if kind in _ONE_IN_ANOTHER and children:
        _use(found, _visit(children[0], at, found))
        return None
    if kind not in ("literal", "expref"):
        _use(found, at)
    return None


def _use(found: set[_Path], path: _Path | None) -> None:
    if path is not None:
        found.add(path)
