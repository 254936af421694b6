"""Where a fact stands in a request: `header:Stripe-Signature`, `json:payload.plainToken`, `query:challenge`, `form:…`.

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

    def values(self, request: Request) -> Sequence[bytes]:
        found = request.json
        for name in self.path:
            if not isinstance(found, dict):
                return ()
            found = found.get(name)
        if isinstance(found, str):
            return (found.encode("utf-8", "replace"),)
        if isinstance(found, int) and not isinstance(found, bool) and found.bit_length() <= MAX_INTEGER_BITS:
            return (str(found).encode(),)
        return ()

    def __str__(self) -> str:
        return f"the body's {'.'.join(self.path)}"


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


def parse_place(text: str) -> Place:
    """Reads `header:NAME`, `json:PATH`, `query:NAME` or `form:NAME`; raises ValueError saying so."""
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
