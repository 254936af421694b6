"""A request's views: headers, JSON, forms and queries, from any bytes."""

import gzip

import pytest

from hookbrook.inbound.place import parse_place
from hookbrook.inbound.request import MAX_FORM_FIELDS, MAX_VALUES, Request

FORM = [(b"Content-Type", b"Application/X-WWW-Form-Urlencoded; charset=utf-8")]


def test_header_names_are_found_in_any_case_and_values_trimmed() -> None:
    request = Request(method="POST", headers=[(b"X-A", b" 1 "), (b"x-a", b"2\t")])
    assert request.header(b"x-a") == [b"1", b"2"]
    assert request.header(b"x-b") == ()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"a":[1]}', {"a": [1]}),
        (b'{"a":1E400}', {"a": float("inf")}),
        (b'{"a":"\\ud83d"}', {"a": "\ud83d"}),
        (b"", None),
        (b"\xff", None),
        (b"{", None),
        (b"[" * 100_000, None),
        (b"1" * 5_000, None),
    ],
)
def test_json_is_read_where_it_is_json(body: bytes, expected: object) -> None:
    assert Request(method="POST", body=body).json == expected


def test_a_form_is_read_only_if_it_says_that_it_is_one() -> None:
    assert Request(method="POST", headers=FORM, body=b"a=1&a=2&b=%C3%AB").form_fields == {"a": ["1", "2"], "b": ["ë"]}
    assert Request(method="POST", body=b"a=1").form_fields == {}


def test_a_form_of_too_many_fields_is_not_read() -> None:
    body = b"&".join([b"a=1"] * (MAX_FORM_FIELDS + 1))
    assert Request(method="POST", headers=FORM, body=body).form_fields == {}


@pytest.mark.parametrize(
    ("place", "values", "said"),
    [
        ("header:X-A", [b"1", b"2"], "the X-A header"),
        ("header:X-B", [], "the X-B header"),
        ("json:a.b", [b"x"], "the body's a.b"),
        ("json:a.n", [b"7"], "the body's a.n"),
        ("json:a.t", [], "the body's a.t"),
        ("json:a.b.c", [], "the body's a.b.c"),
        ("query:q", [b"1", b"2"], "the query parameter q"),
        ("form:f", [], "the form field f"),
    ],
)
def test_a_place_gives_what_stands_there(place: str, values: list[bytes], said: str) -> None:
    request = Request(
        method="POST",
        headers=[(b"x-a", b"1"), (b"x-a", b"2")],
        query=b"q=1&q=2",
        body=b'{"a":{"b":"x","n":7,"t":true}}',
    )
    found = parse_place(place)
    assert list(found.values(request)) == values
    assert str(found) == said


@pytest.mark.parametrize(
    ("place", "values"),
    [
        ("json:items.1.id", [b"b"]),
        ("json:items.2.id", []),
        ("json:items.-1.id", []),
        ("json:items.id", []),
        ("json:items.*.id", [b"a", b"b"]),
        ("json:items.*.once", [b"1", b""]),
        ("json:items.*", [b"", b""]),
        ("json:id.*", []),
        ("json:empty.*.id", []),
        ("json:id + json:items.0.id", [b"x:a"]),
        ("json:id + json:none", []),
        ("json:id + json:items.*.id", []),
    ],
)
def test_a_path_leads_through_arrays_and_several_places_can_be_one(place: str, values: list[bytes]) -> None:
    body = b'{"id":"x","items":[{"id":"a","once":1},{"id":"b"}],"empty":[]}'
    assert list(parse_place(place).values(Request(method="POST", body=body))) == values


def test_a_form_field_is_a_place_too() -> None:
    assert list(parse_place("form:f").values(Request(method="POST", headers=FORM, body=b"f=x"))) == [b"x"]


@pytest.mark.parametrize(
    "text", ["", "header", "header:", "header:é", "json:", "json:a..b", "query:", "cookie:a", "json:a + x"]
)
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no place"):
        parse_place(text)


@pytest.mark.parametrize("end", [b"]}", b"1"], ids=["whole", "broken"])
@pytest.mark.parametrize("members", [None, frozenset({"type", "value"})])
def test_a_body_of_very_many_values_is_not_made_into_them(members: frozenset[str] | None, end: bytes) -> None:
    body = gzip.compress(b'{"type":"x","value":[[]' + b",[]" * MAX_VALUES + end)
    request = Request(method="POST", headers=[(b"content-encoding", b"gzip")], body=body, members=members)
    assert request.json_with("value") in (None, {"type": "x"})
    assert "value" not in (request.body_with(frozenset({"value"})) or {})


def test_a_member_is_found_beside_one_of_very_many_values() -> None:
    body = b'{"type":"x","value":[[]' + b",[]" * MAX_VALUES + b"]}"
    request = Request(method="POST", body=body, members=frozenset({"type"}))
    assert request.body_with(frozenset({"type"})) == {"type": "x"}
