"""The schemas of the catalogue, compiled, and applied to what is published.

Compiled by the schema's own engine, which fetches nothing, and whose expressions cannot backtrack.
"""

from itertools import islice
from typing import Any

import msgspec

from hookbrook.core.event import Kind
from hookbrook.core.eventtype import MAX_WORK, EventType, check_type, values_of, work_of
from hookbrook.errors import FieldError, Invalid
from hookbrook.store.catalog import Catalog

#: Bytes of one compiled expression; `(a{100}){100}` has more. The time of a match grows with it.
MAX_PATTERN_BYTES = 64 * 1024
#: Faults that are told at once.
MAX_FAULTS = 10
#: Beyond this much work only the first fault is told: the library makes all of them at once, each with a copy of where
#: it stands, which would take a thousand times as long as finding out that there is one.
MAX_WORK_OF_ALL = 5_000
#: Of what is wrong somewhere, this much is told: it repeats what was sent.
MAX_FAULT_CHARACTERS = 200


class Schema:
    """One compiled schema. Raises `Invalid` if it is none."""

    def __init__(self, schema: Any) -> None:
        # Imported late: most installations never compile a schema, and the library has megabytes.
        import jsonschema_rs

        self._weight = values_of(schema)
        try:
            self._validator: Any = jsonschema_rs.Draft202012Validator(
                schema, offline=True, pattern_options=jsonschema_rs.RegexOptions(size_limit=MAX_PATTERN_BYTES)
            )
        except (ValueError, jsonschema_rs.ReferencingError) as exc:
            # ValidationError is a ValueError.
            raise Invalid.of("schema", f"is no JSON Schema: {_first_line(exc)}") from None

    def check(self, field: str, data: bytes) -> None:
        """Raises `Invalid` naming the JSON pointer of each fault, as far as there are not too many."""
        work = work_of(self._weight, data)
        if work > MAX_WORK:
            raise Invalid.of(field, "is too large to be checked against the schema of its type")
        try:
            document = msgspec.json.decode(data)
        except (msgspec.DecodeError, RecursionError, ValueError):
            raise Invalid.of(field, "nests too deep, or has too large a number, to be checked") from None
        self.check_value(field, document, work=work)

    def check_value(self, field: str, document: Any, *, work: int = 0) -> None:
        if self._validator.is_valid(document):
            return
        if work > MAX_WORK_OF_ALL:
            faults = [_fault(field, _first_error(self._validator, document))]
        else:
            errors = islice(self._validator.iter_errors(document), MAX_FAULTS)
            faults = [_fault(field, error) for error in errors]
        raise Invalid(f"{faults[0].field}: {faults[0].message}", faults)


def check_compiled(asked: EventType) -> None:
    """Raises `Invalid` with what is wrong with a type, a schema that is none and an example that does not fit it
    included."""
    check_type(asked)
    if asked.schema is not None:
        schema = Schema(asked.schema)
        if asked.example is not None:
            schema.check_value("example", asked.example, work=MAX_WORK)


class Schemas:
    """The compiled schemas of the types that are validated; each is compiled when it is first needed."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        #: By the type's id, with what it was compiled from. One that was removed and made anew has the same id.
        self._compiled: dict[str, tuple[EventType, Schema]] = {}

    def __bool__(self) -> bool:
        """Whether any type is validated at all."""
        return bool(self._catalog.validated)

    def judge(self, tenant: str, name: str, kind: Kind, data: bytes, field: str) -> None:
        """Raises `Invalid` if an event of this type may not have this data."""
        found = self._catalog.validated_type(tenant, name)
        if found is None:
            return
        if kind != "json":
            raise Invalid.of(f"{field}data", f"must be JSON, since the type {name} has a schema")
        self._schema_of(found).check(f"{field}data", data)

    def _schema_of(self, type: EventType) -> Schema:
        found = self._compiled.get(type.id)
        if found is None or found[0] is not type:
            found = self._compiled[type.id] = (type, Schema(type.schema))
        return found[1]


def _first_error(validator: Any, document: Any) -> Any:
    try:
        validator.validate(document)
    except ValueError as exc:
        return exc
    raise AssertionError("what is not valid has an error")


def _fault(field: str, error: Any) -> FieldError:
    place = "".join(f"/{_escaped(part)}" for part in error.instance_path)
    return FieldError(f"{field}{place}", _shortened(error.message))


def _escaped(part: str | int) -> str:
    """RFC 6901 section 3."""
    return str(part).replace("~", "~0").replace("/", "~1")


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_FAULT_CHARACTERS else f"{text[:MAX_FAULT_CHARACTERS]}…"


def _first_line(error: Exception) -> str:
    return _shortened(str(error).splitlines()[0]) if str(error) else "it cannot be read"
