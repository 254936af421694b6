"""Expressions mean what JMESPath means, and cost no more than their budget."""

import json
import time
import tracemalloc
from typing import Any

import jmespath
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookbrook.core.expression import MAX_DEPTH, MAX_LENGTH, MAX_OUTPUT, Expression, measure
from hookbrook.errors import Invalid

DOCUMENT: dict[str, Any] = {
    "body": {
        "type": "invoice.paid",
        "amount": 1250,
        "tags": ["a", "b", None],
        "lines": [{"sku": "x", "n": 3}, {"sku": "y", "n": 1}],
        "nested": [[1, 2], [3]],
    },
    "headers": {"x-github-event": "push"},
}

EXPRESSIONS = [
    "body.type",
    "body.missing.further",
    'headers."x-github-event"',
    "body.lines[?n > `2`].sku | [0]",
    "body.lines[*].{sku: sku, twice: [n, n]}",
    "body.nested[]",
    "body.nested[0][::-1]",
    "sort_by(body.lines, &n)[0].sku",
    "max_by(body.lines, &n).sku",
    "map(&sku, body.lines)",
    "join('-', body.lines[].sku)",
    "to_string(body)",
    "body.type == 'invoice.paid' && body.amount >= `1000`",
    "!body.missing || body.amount != `1`",
    "merge(body, {a: `1`}) | keys(@)",
    "values(headers)",
    "body.lines.*",
    "body.* | [0]",
    "contains(body.type, 'paid')",
    "length(body.tags)",
    "not_null(body.missing, body.type)",
    "starts_with(body.type, 'invoice')",
    "reverse(body.tags)",
    "sum(body.lines[].n)",
    "body.tags[?@]",
    "body == body",
]


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_an_expression_gives_what_jmespath_gives(text: str) -> None:
    assert Expression.compile(text).evaluate(DOCUMENT) == jmespath.search(text, DOCUMENT)


@pytest.mark.parametrize("text", ["", "a.", "a[", "foo(", "`{`", "a b", "'", "[?", "}", "a..b", "unknown(@)"])
def test_what_is_no_expression_is_refused_when_compiled_or_at_the_first_use(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        Expression.compile(text, field="filter").evaluate(DOCUMENT, field="filter")
    assert caught.value.errors[0].field == "filter"


def test_a_literal_between_backticks_is_json_and_a_text_goes_between_quotes() -> None:
    assert Expression.compile("`\"a\"` == 'a'").evaluate(None) is True
    assert Expression.compile("'`no literal`'").evaluate(None) == "`no literal`"
    assert Expression.compile('`"a \\` tick"`').evaluate(None) == "a ` tick"
    with pytest.raises(Invalid, match="between backticks"):
        Expression.compile("name == `foo`")


def test_an_expression_that_is_too_long_is_refused() -> None:
    Expression.compile("a" * MAX_LENGTH)
    with pytest.raises(Invalid, match="at most 1000 characters"):
        Expression.compile("a" * (MAX_LENGTH + 1))


@pytest.mark.parametrize("opening", ["!", "(", "[", "a[?", "a|", "not_null("])
def test_an_expression_that_nests_too_deep_is_refused_and_does_not_exhaust_the_stack(opening: str) -> None:
    closing = {"(": ")", "[": "]", "a[?": "]", "not_null(": ")"}.get(opening, "")
    depth = min(MAX_LENGTH // (len(opening) + len(closing)) - 1, 400)
    text = opening * depth + "a" + closing * depth
    with pytest.raises(Invalid):
        Expression.compile(text).evaluate(DOCUMENT)


def test_the_depth_limit_is_where_it_says() -> None:
    Expression.compile("!" * (MAX_DEPTH - 1) + "a")
    Expression.compile("(" * MAX_DEPTH + "a" + ")" * MAX_DEPTH)
    Expression.compile("a == '" + "(" * 400 + "' || b == \"" + "[" * 400 + '"')
    with pytest.raises(Invalid, match="at most 40 deep"):
        Expression.compile("!" * MAX_DEPTH + "a")


BOMBS = {
    "doubled, then printed": "|".join(["[@,@]"] * 24) + "|to_string(@)",
    "doubled, then handed out": "|".join(["[@,@]"] * 24),
    "doubled as an object": "|".join(["{a:@,b:@}"] * 22),
    "doubled, then compared": "[" + "|".join(["[@,@]"] * 22) + "," + "|".join(["[@,@]"] * 22) + "]|[0]==[1]",
    "doubled, then searched": "[" + "|".join(["[@,@]"] * 22) + "]|contains(@, `[[1]]`)",
    "joined by a long text": "join(to_string(@), map(&'', values(@)|$|$|$))".replace("$", "[@,@,@,@,@,@,@,@][]"),
    "flattened doubles": "|".join(["[@,@][]"] * 24),
    "maps of maps": "map(&map(&map(&map(&@, $), $), $), $)".replace("$", "`[" + ",".join("1" * 30) + "]`"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_short_text_cannot_make_much_work(name: str) -> None:
    document = {"k": "v" * 10_000}
    expression = Expression.compile(BOMBS[name])
    started = time.process_time()
    with pytest.raises(Invalid):
        expression.evaluate(document)
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    "text",
    [
        "body.more[*].a",
        "body.more[?a == `1`]",
        "to_string(body)",
        "sort(body.list)",
        "body == body",
        "body.list[]",
        "body.list[::2]",
        "body.list | reverse(@)",
        "map(&@, body.list)",
        "max_by(body.more, &a)",
        "join('', body.list)",
        "keys(body.map)",
        "values(body.map)",
        "merge(body.map, `{}`)",
    ],
)
def test_a_large_document_is_paid_for(text: str) -> None:
    numbers = [str(number) for number in range(1_000)]
    document = {"body": {"list": numbers, "more": [{"a": 1}] * 1_000, "map": dict.fromkeys(numbers)}}
    expression = Expression.compile(text)
    expression.evaluate(document)
    with pytest.raises(Invalid, match="more than 100 steps"):
        expression.evaluate(document, max_steps=100)


@pytest.mark.parametrize(
    "text",
    [
        "join(text, split)",
        "join(text, map(&'', split))",
        "list|[" + "@," * 400 + "@][]",
        "list|[" + "@," * 400 + "@]|to_string(@)",
        "[" + "text," * 150 + "text]|join('', @)",
    ],
)
def test_what_would_be_too_large_is_refused_before_it_is_made(text: str) -> None:
    document = {"text": "v" * 1_000_000, "split": ["x"] * 64, "list": [1] * 40_000}
    expression = Expression.compile(text)
    tracemalloc.start()
    try:
        with pytest.raises(Invalid):
            expression.evaluate(document)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000


@pytest.mark.parametrize("text", ["length(body)", "type(body)", "not_null(body) && `1`", "length(to_array(body))"])
def test_what_does_not_look_inside_costs_nothing_for_the_size(text: str) -> None:
    assert Expression.compile(text).evaluate({"body": [1] * 100_000}, max_steps=10)


def test_a_long_text_can_be_searched_and_compared() -> None:
    document = {"body": {"text": "lorem " * 100_000}}
    assert Expression.compile("contains(body.text, 'ipsum')").evaluate(document) is False
    assert Expression.compile("body.text == body.text").evaluate(document) is True


def test_the_result_is_measured() -> None:
    assert Expression.compile("body").evaluate({"body": "x" * (MAX_OUTPUT - 1)})
    with pytest.raises(Invalid, match="larger than"):
        Expression.compile("body").evaluate({"body": "x" * MAX_OUTPUT})


@pytest.mark.parametrize(
    "text",
    [
        "body.type < `1`",
        "ceil(number)",
        "floor(number)",
        "avg(body.tags)",
        "sort(body.tags)",
        "max_by(mixed, &@)",
        "&body",
        "[&body]",
        "join(',', body.tags)",
        "length(`1`)",
        "body.lines[::0]",
        "abs(body)",
    ],
)
def test_values_that_do_not_fit_are_refused_and_nothing_else_is_raised(text: str) -> None:
    with pytest.raises(Invalid):
        Expression.compile(text).evaluate({**DOCUMENT, "number": float("inf"), "mixed": [1, "a"]})


def test_a_document_nested_deeply_is_measured_without_recursion() -> None:
    deep: object = "x"
    for _ in range(50_000):
        deep = [deep]
    assert measure(deep, 10**9) == 50_002
    with pytest.raises(Invalid):
        Expression.compile("to_string(@)").evaluate(deep, max_steps=10**9)


def test_what_comes_after_the_limit_is_not_counted() -> None:
    doubled: list[Any] = [1]
    for _ in range(200):
        doubled = [doubled, doubled]
    assert measure(doubled, 1_000) == 1_001


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=20,
)
WORDS = (
    "a b . * [ ] [*] [] [0] | || && ! == < ( ) { } : @ & , `1` 't' [? [::2] sort( to_string( map(& keys( contains( avg("
)
expressions = st.lists(st.sampled_from(WORDS.split()), max_size=12).map("".join)


@given(text=expressions | st.text(max_size=30), document=json_values)
def test_any_text_on_any_document_gives_json_or_invalid(text: str, document: object) -> None:
    try:
        result = Expression.compile(text).evaluate(document)
    except Invalid:
        return
    json.dumps(result)


@given(value=json_values)
def test_a_value_is_measured_as_values_and_characters(value: object) -> None:
    def size(item: object) -> int:
        if isinstance(item, str):
            return 1 + len(item)
        if isinstance(item, dict):
            return 1 + sum(1 + len(key) + size(inner) for key, inner in item.items())
        return 1 + sum(size(inner) for inner in item) if isinstance(item, list) else 1

    assert measure(value, 10**6) == size(value)
