"""What a type of the catalogue may be; above all, which schemas are bounded."""

from typing import Any

import pytest

from hookbrook.core.eventtype import MAX_VALUES, EventType, check_schema, check_type, values_of, work_of
from hookbrook.errors import Invalid


def doubling(levels: int) -> dict[str, Any]:
    """Each level refers twice to the one below, so that written out there are 2^levels."""
    defs: dict[str, Any] = {"a0": {"type": "string"}}
    for level in range(1, levels):
        below = {"$ref": f"#/$defs/a{level - 1}"}
        defs[f"a{level}"] = {"allOf": [below, {"not": below}]}
    return {"$defs": defs, "$ref": f"#/$defs/a{levels - 1}"}


def chain(length: int) -> dict[str, Any]:
    defs: dict[str, Any] = {f"a{number}": {"$ref": f"#/$defs/a{number + 1}"} for number in range(length)}
    return {"$defs": {**defs, f"a{length}": True}, "$ref": "#/$defs/a0"}


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ([], "object or a boolean"),
        ({"$ref": "https://example.com/schema.json"}, "point into the schema itself"),
        ({"$ref": "file:///etc/passwd"}, "point into the schema itself"),
        ({"$ref": "other.json#/a"}, "point into the schema itself"),
        ({"$ref": "#/$defs/none"}, "where nothing is"),
        ({"$ref": "#"}, "refers to itself"),
        ({"items": {"allOf": [{"$ref": "#"}, {"$ref": "#"}]}}, "refers to itself"),
        ({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}, "refers to itself"),
        ({"$dynamicRef": "#a"}, "not taken"),
        ({"properties": {"a": {"$id": "https://example.com"}}}, "not taken"),
        (doubling(30), "written out"),
        (chain(1500), "too often"),
        ({"enum": list(range(MAX_VALUES))}, "written out"),
        ({"const": "x" * 100_000}, "65536 bytes"),
    ],
)
def test_a_schema_without_a_bound_is_refused(schema: Any, why: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_schema(schema)
    assert why in str(refused.value)


def test_a_schema_that_nests_too_deep_is_refused_and_breaks_nothing() -> None:
    schema: Any = True
    for _ in range(900):
        schema = {"not": schema}
    with pytest.raises(Invalid, match="nest"):
        check_schema(schema)


def test_references_are_counted_as_often_as_they_are_followed() -> None:
    money = {"type": "object", "properties": {"amount": {"type": "integer"}}}
    once = {"$defs": {"money": money, "a/b": True}, "properties": {"price": {"$ref": "#/$defs/money"}}}
    both = {"price": {"$ref": "#/$defs/money"}, "tax": {"$ref": "#/$defs/money"}}
    twice = {**once, "properties": both}
    assert values_of(twice) - values_of(once) == values_of(money) + 2
    check_schema({**once, "items": {"$ref": "#/$defs/a~1b"}})
    check_schema({"$id": "https://example.com/invoice", **once})
    # A property may have any name.
    check_schema({"properties": {"$ref": {"type": "string"}, "$id": {"type": "string"}}})


def test_the_work_of_an_event_grows_with_its_values_and_not_with_its_texts() -> None:
    assert work_of(10, b'{"a": [1, 2, 3]}') == 10 * 5
    assert work_of(10, b'"%b"' % (b"x" * 1000)) == 10


def test_everything_that_is_wrong_is_named_at_once() -> None:
    wrong = EventType(
        id="typ_1", name="hookbrook.x", tenant="a b", description="x" * 1000, validate=True, created=0, updated=0
    )
    with pytest.raises(Invalid) as refused:
        check_type(wrong)
    assert {error.field for error in refused.value.errors} == {"name", "tenant", "description", "validate"}
    check_type(EventType(id="typ_1", name="paid", tenant="*", created=0, updated=0))
