"""What an expression reads is never less than what it needs: names made from an excerpt are those made from all."""

import json
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hookbrook.inbound.reads import EVERYTHING, NOTHING, Reads, of_expression
from hookbrook.inbound.recipe import Row
from hookbrook.inbound.request import Request
from hookbrook.inbound.template import Template


def body(*names: str) -> Reads:
    return Reads(body=frozenset(names))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("body.type", body("type")),
        ("body.event.type || body.type", body("event", "type")),
        ("join('.', [headers.a, body.b][?@])", Reads(headers=frozenset("a"), body=frozenset("b"))),
        ("body.a[0].b[?c == 'd'] | [0]", body("a")),
        ("body.{x: a, y: query}", body("a", "query")),
        ("sort_by(body.a, &body.b)[0]", body("a")),
        ("!(body.a) && query.b", Reads(query=True, body=frozenset("a"))),
        ("body | a", Reads(body=None)),
        ("keys(body)", Reads(body=None)),
        ("body[0]", Reads(body=None)),
        ("body.*", Reads(body=None)),
        ("map(&body.a, [@])", EVERYTHING),
        ("@", EVERYTHING),
        ("*", EVERYTHING),
        ("'text'", NOTHING),
        ("nothing.of.ours", NOTHING),
    ],
)
def test_what_an_expression_reads(text: str, expected: Reads) -> None:
    assert of_expression(text) == expected


TEMPLATES = [
    Template.compile(text)
    for text in (
        "{body.a}",
        "{body.a.b}{.body.c}",
        "x.{headers.x-a}.{query.q}",
        "{body.a || body.b}",
        "{join('.', [body.a, body.b][?@])}",
        "{(keys(body)[?@ != 'a'])[0]}",
        "{body && 'there' || 'not'}",
        "{type(body.a)}",
        "{body.a[0].b}",
        "{length(body)}",
    )
]
NAMES = st.sampled_from(["a", "b", "c", 'q"uote', ""])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=300, deadline=2_000)
@given(value=st.dictionaries(NAMES, VALUES, max_size=4) | VALUES, as_form=st.booleans())
def test_a_name_from_an_excerpt_is_the_name_from_all(value: object, as_form: bool) -> None:
    headers = [(b"x-a", b"1"), (b"content-type", b"application/x-www-form-urlencoded" if as_form else b"text/json")]
    raw = b"a=1&b=&c=2" if as_form else json.dumps(value).encode()
    for template in TEMPLATES:
        whole = Request(method="POST", headers=headers, query=b"q=2", body=raw)
        part = Request(method="POST", headers=headers, query=b"q=2", body=raw, members=template.reads.body)
        again = Request(method="POST", headers=headers, query=b"q=2", body=raw, members=template.reads.body)
        assert template.name_for(again) == template.render(whole.document)
        assert template.render(part.document_of(template.reads)) == template.render(whole.document)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[1]",
        b"7",
        b"{",
        b'{"a":{"b":nul}}',
        b'{"b":1E400,"a":{"b":3}}',
        b'{"a":"\\ud83d"}',
        b'{"a":1,"a":{"b":2}}',
    ],
)
def test_an_excerpt_of_strange_bytes_is_what_all_of_it_says(raw: bytes) -> None:
    part = Request(method="POST", body=raw, members=frozenset("ab"))
    whole = Request(method="POST", body=raw).json
    expected = {name: whole[name] for name in "ab" if name in whole} if isinstance(whole, dict) else whole
    assert part.json_with("a") == expected
    assert Request(method="POST", body=raw, members=frozenset("b")).json_with("a") == whole


@pytest.mark.parametrize(
    ("provider", "names"),
    [
        ("github", ["action"]),
        ("stripe", ["id", "type"]),
        ("slack", ["challenge", "command", "event", "event_id", "type"]),
        ("mailgun", ["event-data", "signature"]),
        ("microsoft-graph", ["changeType", "id", "lifecycleEvent", "value"]),
    ],
)
def test_a_row_names_every_member_that_it_looks_at(rows: Mapping[str, Row], provider: str, names: list[str]) -> None:
    assert sorted(rows[provider].members or ()) == names


def test_a_row_that_lists_a_bodys_members_reads_all_of_it(rows: Mapping[str, Row]) -> None:
    assert rows["telegram"].members is None
