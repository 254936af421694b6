"""Where a fact stands in a request: `header:Stripe-Signature`, `json:payload.plainToken`, `query:challenge`, `form:…`.

A JSON path may hold a number, which counts from 0 in an array, and `*` for each of its elements. Two places joined by
` + ` give one value, its parts parted by a colon, if each of them has exactly one: some ids are unique only together.

A place that holds several values (a repeated header) gives them all; whoever needs exactly one refuses more, because
two programs that read the same request could otherwise each trust another one.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from hookbrook.inbound.request import Request


class Place(ABC):
    """Somewhere in a request; `str()` of it is how a sentence to the caller names it."""

    __slots__ = ()

    @property
    def members(self) -> frozenset[str]:
        """Names of the body's members that it looks at."""
        return frozenset()

    @abstractmethod
    def values(self, request: Request) -> Sequence[bytes]:
        """Everything that stands there, as bytes; empty if nothing does."""


@dataclass(frozen=True, slots=True)
class HeaderPlace(Place):
    name: str
    key: bytes

    def values(self, request: Request) -> Sequence[bytes]:
        return request.header(self.key)

    def __str__(self) -> str:
        return f"the {self.name} header"


@dataclass(frozen=True, slots=True)
class JsonPlace(Place):
    """A member of the JSON body, found by the names on the way to it; a text or a number."""

    path: tuple[str, ...]

    @property
    def members(self) -> frozenset[str]:
        return frozenset(self.path[:1])

    def values(self, request: Request) -> Sequence[bytes]:
        return _found(request.json_with(self.path[0]), self.path)

    def __str__(self) -> str:
        return f"the body's {'.'.join(self.path)}"


def _found(value: object, path: tuple[str, ...]) -> Sequence[bytes]:
    for index, name in enumerate(path):
        if isinstance(value, dict):
            value = value.get(name)
        elif not isinstance(value, list):
            return ()
        elif name == "*":
            # An element without the value counts as an empty one, so that nobody takes what one element says for all.
            return [(*_found(element, path[index + 1 :]), b"")[0] for element in value]
        elif name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        else:
            return ()
    if isinstance(value, str):
        return (value.encode("utf-8", "replace"),)
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() <= MAX_INTEGER_BITS:
        return (str(value).encode(),)
    return ()


#: Ids are 64 bits; printing an integer of many thousand digits takes quadratic time.
MAX_INTEGER_BITS = 128


@dataclass(frozen=True, slots=True)
class QueryPlace(Place):
    name: str

    def values(self, request: Request) -> Sequence[bytes]:
        return [value.encode("utf-8", "replace") for value in request.query_fields.get(self.name, ())]

    def __str__(self) -> str:
        return f"the query parameter {self.name}"


@dataclass(frozen=True, slots=True)
class FormPlace(Place):
    name: str

    def values(self, request: Request) -> Sequence[bytes]:
        return [value.encode("utf-8", "replace") for value in request.form_fields.get(self.name, ())]

    def __str__(self) -> str:
        return f"the form field {self.name}"


@dataclass(frozen=True, slots=True)
class JoinedPlace(Place):
    """Several places that make up one value."""

    places: tuple[Place, ...]

    @property
    def members(self) -> frozenset[str]:
        return frozenset().union(*(place.members for place in self.places))

    def values(self, request: Request) -> Sequence[bytes]:
        found = [place.values(request) for place in self.places]
        if any(len(values) != 1 for values in found):
            return ()
        return (b":".join(values[0] for values in found),)

    def __str__(self) -> str:
        return " with ".join(str(place) for place in self.places)


def parse_place(text: str) -> Place:
    """Reads `header:NAME`, `json:PATH`, `query:NAME` or `form:NAME`, or several with ` + `; raises ValueError."""
    if " + " in text:
        return JoinedPlace(tuple(parse_place(part) for part in text.split(" + ")))
    kind, _, name = text.partition(":")
    match kind:
        case "header" if name.isascii() and name:
            return HeaderPlace(name, name.lower().encode())
        case "json" if all(name.split(".")):
            return JsonPlace(tuple(name.split(".")))
        case "query" if name:
            return QueryPlace(name)
        case "form" if name:
            return FormPlace(name)
    raise ValueError(f"{text!r} is no place; write header:NAME, json:PATH, query:NAME or form:NAME")
