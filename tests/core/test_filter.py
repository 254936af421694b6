"""Content filters, and the document that they see."""

from typing import Any

import pytest

from hookbrook.core.document import MAX_DATA, document_of
from hookbrook.core.event import JSON_TYPE, Kind, NewEvent
from hookbrook.core.filter import MAX_STEPS, Sieve, is_true
from hookbrook.errors import Invalid


def event(data: bytes = b'{"amount": 120, "tags": ["a"]}', kind: Kind = "json") -> NewEvent:
    return NewEvent(
        id="evt_1",
        channels=("orders.1", "all"),
        type="order.paid",
        time=0,
        content_type=JSON_TYPE,
        kind=kind,
        data=data,
        dedupe_id="evt_1",
    )


def test_the_document_is_the_event_as_people_know_it() -> None:
    assert document_of(event(b'{"a": 1}')) == {
        "id": "evt_1",
        "type": "order.paid",
        "channels": ["orders.1", "all"],
        "tenant": "default",
        "source": None,
        "time": "1970-01-01T00:00:00Z",
        "content_type": "application/json",
        "data": {"a": 1},
    }


@pytest.mark.parametrize(
    ("data", "kind", "seen"),
    [
        (b"hello", "text", "hello"),
        (b"\x00\xff", "binary", None),
        (b"1E400", "json", float("inf")),
        (b'"\\ud800"', "json", "\ud800"),
        (b'{"a": 1, "a": 2}', "json", {"a": 2}),
        (b"12345678901234567890123", "json", 12345678901234567890123),
    ],
)
def test_data_is_seen_whatever_it_is(data: bytes, kind: Kind, seen: Any) -> None:
    assert document_of(event(data, kind))["data"] == seen


@pytest.mark.parametrize("data", [b" " * MAX_DATA + b"1", b"[" * 100_000 + b"]" * 100_000])
def test_data_too_large_or_too_deep_is_not_looked_at(data: bytes) -> None:
    with pytest.raises(Invalid):
        document_of(event(data), "filter")


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("data.amount > `100`", True),
        ("data.amount > `120`", False),
        ("type == 'order.paid' && data.tags[?@ == 'a']", True),
        ("data.missing", False),
        ("contains(channels, 'all')", True),
        ("data.amount", True),
        ("source", False),
    ],
)
def test_a_filter_lets_pass_what_it_is_true_for(text: str, passes: bool) -> None:
    assert Sieve(event()).passes(text) is passes


@pytest.mark.parametrize(
    ("value", "truth"),
    [(None, False), (False, False), ("", False), ([], False), ({}, False), (0, True), (0.0, True), ([0], True)],
)
def test_truth_is_that_of_the_language(value: Any, truth: bool) -> None:
    assert is_true(value) is truth


@pytest.mark.parametrize("text", ["contains(data.missing, 'x')", "[@,@]|[@,@]|" * 12 + "to_string(@)"])
def test_a_filter_that_fails_says_so_and_is_not_evaluated_again(text: str) -> None:
    sieve = Sieve(event())
    with pytest.raises(Invalid) as caught:
        sieve.passes(text)
    assert caught.value.errors[0].field == "filter"
    steps = sieve.meter.steps
    assert 0 < steps <= MAX_STEPS + 100
    with pytest.raises(Invalid):
        sieve.passes(text)
    assert sieve.meter.steps == steps


def test_a_filter_that_many_endpoints_share_is_evaluated_once() -> None:
    sieve = Sieve(event())
    assert sieve.passes("data.amount > `1`")
    steps = sieve.meter.steps
    assert all(sieve.passes("data.amount > `1`") for _ in range(1000))
    assert sieve.meter.steps == steps
