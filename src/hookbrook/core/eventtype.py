"""The event type: what a name in the catalogue means, and what events of it look like.

A schema is written by whoever may configure this installation, and is then applied to what others publish, within the
event loop. So what a schema may be is bounded such that applying it costs no more than it looks: it refers only to
itself, by pointer, and never back to where it came from; and written out, with every reference replaced by what it
refers to, it has a bounded number of values. Each of these meets each value of an event at most once, so that their
product bounds the work. (Recursive schemas would not be bounded by that: two references that lead back double the
work with each level of the data.) Expressions are left to an engine without backtracking.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from hookbrook.core.channel import check_name
from hookbrook.core.event import DEFAULT_TENANT
from hookbrook.core.registration import check_all, check_description, check_tenant
from hookbrook.errors import Invalid

#: The tenant of a type that is every tenant's. A tenant's own type of the same name comes before it.
EVERYBODY: Final = "*"
#: Bytes of a schema or an example as JSON. Large ones of real interfaces have 20 KB.
MAX_SCHEMA_BYTES: Final = 64 * 1024
#: Nesting; what validates it recurses.
MAX_DEPTH: Final = 64
#: Values of a schema with all references written out.
MAX_VALUES: Final = 5_000
#: Values of a schema times values of the data that it is applied to, some tens of milliseconds. A schema of 100 values
#: may be applied to data of 20,000.
MAX_WORK: Final = 2_000_000

#: What opens another way to refer than a pointer within the schema, or back to where one came from.
_REFERRING: Final = ("$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor", "$anchor", "$id")
_POINTER = re.compile(r"#(/[^#]*)?\Z")


class EventType(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    #: As events name it.
    name: str
    tenant: str = DEFAULT_TENANT
    description: str = ""
    #: JSON Schema 2020-12 of the data, or None.
    schema: Any = None
    example: Any = None
    #: Whether what is published is refused unless it fits the schema.
    validate: bool = False
    deprecated: bool = False
    #: No longer shown to those who ask what there is, nor validated.
    archived: bool = False
    created: int
    updated: int
    revision: int = 1
    #: Declared in hookbrook.toml, and therefore read-only by API.
    declared: bool = False

    @property
    def validates(self) -> bool:
        return self.validate and not self.archived and self.schema is not None


def check_type(type: EventType) -> None:
    """Raises `Invalid` with everything that is wrong, but for what only a compiler of schemas can say."""
    check_all(
        lambda: check_name("name", type.name),
        lambda: None if type.tenant == EVERYBODY else check_tenant("tenant", type.tenant),
        lambda: check_description("description", type.description),
        lambda: None if type.schema is None else check_schema(type.schema),
        lambda: _check_size("example", type.example),
        lambda: _check_validate(type),
    )


def _check_validate(type: EventType) -> None:
    if type.validate and type.schema is None:
        raise Invalid.of("validate", "needs a schema")


def check_schema(schema: object) -> None:
    """Raises `Invalid` for a schema that is too large, or whose cost cannot be told."""
    if not isinstance(schema, dict | bool):
        raise Invalid.of("schema", "must be an object or a boolean")
    _check_size("schema", schema)
    values_of(schema)


def _check_size(field: str, document: object) -> None:
    if len(msgspec.json.encode(document)) > MAX_SCHEMA_BYTES:
        raise Invalid.of(field, f"may have at most {MAX_SCHEMA_BYTES} bytes as JSON")
    if _depth(document) > MAX_DEPTH:
        raise Invalid.of(field, f"may nest at most {MAX_DEPTH} levels")


def _depth(document: object) -> int:
    """Without recursion, which is what it protects others from."""
    depth, level = 0, [document]
    while level:
        depth += 1
        level = [child for value in level for child in _children(value)]
    return depth


def _children(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def values_of(schema: object) -> int:
    """How many values the schema has with every reference written out; raises `Invalid` for too many.

    Strings in examples and enumerations that look like references are taken for some, which errs on the safe side.
    """
    try:
        return _Expansion(schema).weight(schema)
    except RecursionError:
        raise Invalid.of("schema", "refers from place to place too often") from None


class _Expansion:
    def __init__(self, root: object) -> None:
        self._root = root
        #: By pointer; None while it is being weighed.
        self._weights: dict[str, int | None] = {}

    def weight(self, value: object) -> int:
        total = 1
        if isinstance(value, dict):
            for name in _REFERRING:
                # At the root an id changes nothing.
                if isinstance(value.get(name), str) and not (name == "$id" and value is self._root):
                    raise Invalid.of("schema", f"{name} is not taken; refer with $ref to a place in the schema")
            reference = value.get("$ref")
            if isinstance(reference, str):
                total += self._weight_of(reference)
        for child in _children(value):
            total += self.weight(child)
        if total > MAX_VALUES:
            raise Invalid.of("schema", f"may have at most {MAX_VALUES} values with its references written out")
        return total

    def _weight_of(self, reference: str) -> int:
        if not _POINTER.match(reference):
            raise Invalid.of("schema", f"$ref must point into the schema itself (#/$defs/…), not to {reference[:80]!r}")
        if reference not in self._weights:
            self._weights[reference] = None
            self._weights[reference] = self.weight(self._find(reference))
        weight = self._weights[reference]
        if weight is None:
            raise Invalid.of("schema", f"refers to itself at {reference[:80]}, which has no bound")
        return weight

    def _find(self, reference: str) -> object:
        # RFC 6901 section 4: `~1` first, so that `~01` stays `~1`.
        value = self._root
        for part in reference.split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            if isinstance(value, dict) and name in value:
                value = value[name]
            elif isinstance(value, list) and name.isascii() and name.isdigit() and int(name[:6]) < len(value):
                value = value[int(name[:6])]
            else:
                raise Invalid.of("schema", f"$ref points to {reference[:80]}, where nothing is")
        return value


def work_of(weight: int, data: bytes) -> int:
    """An upper bound of what applying a schema of that weight to JSON data takes, in values met."""
    return weight * (1 + data.count(b",") + data.count(b"[") + data.count(b"{"))
