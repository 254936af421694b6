"""Neighbouring pieces of one text become one event that reads exactly the same."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hookbrook.core.event import JSON_TYPE, TEXT_TYPE, Event
from hookbrook.core.merge import MAX_MERGED_BYTES, merged
from hookbrook.core.sse import Parser, encode


def piece(seq: int, data: bytes, **fields: Any) -> Event:
    values: dict[str, Any] = {
        "seq": seq, "epoch": "abcdef", "id": f"e{seq}", "channels": ("a",), "type": "message", "tenant": "default",
        "source": None, "time": seq, "appended": seq, "content_type": TEXT_TYPE, "kind": "text", "data": data,
        "merge": "reply", **fields,
    }  # fmt: skip
    return Event(**values)


def text(seq: int, data: str, **fields: Any) -> Event:
    return piece(seq, data.encode(), **fields)


def string(seq: int, data: str, **fields: Any) -> Event:
    return piece(seq, data.encode(), **{"kind": "json", "content_type": JSON_TYPE, **fields})


def data_of(*events: Event) -> list[bytes]:
    return [event.data for event in merged(events)]


def test_the_merged_event_has_the_text_of_all_and_everything_else_of_the_last() -> None:
    [whole] = merged([text(1, "one "), text(2, "two "), text(5, "three", effect="close")])
    assert whole == text(5, "one two three", effect="close")
    assert whole.cursor == "abcdef-5"


def test_json_strings_merge_as_strings_with_their_escapes() -> None:
    assert data_of(string(1, '"say \\"hi"'), string(2, '"\\u00e9\\n"'), string(3, '""')) == [b'"say \\"hi\\u00e9\\n"']


def test_one_that_stays_alone_is_the_same_object() -> None:
    lone = text(1, "x")
    assert next(merged([lone])) is lone


@pytest.mark.parametrize(
    "second",
    [
        text(2, "b", merge="other"), text(2, "b", merge=""), text(2, "b", type="other"), text(2, "b", channels=("b",)),
        text(2, "b", channels=("a", "b")), text(2, "b", content_type="text/markdown"), text(2, "b", source="github"),
        string(2, '"b"', content_type=TEXT_TYPE), piece(2, b"b", kind="binary"),
    ],
    ids=["key", "no key", "type", "channel", "channels", "content type", "source", "kind", "binary"],
)  # fmt: skip
def test_what_differs_in_anything_but_its_text_stays_apart(second: Event) -> None:
    assert data_of(text(1, "a"), second, text(3, "c")) == [b"a", second.data, b"c"]


@pytest.mark.parametrize("data", ["1", "null", '{"a":"b"}', '["a"]', ' "padded"', '"padded" '])
def test_json_that_is_no_plain_string_never_merges(data: str) -> None:
    assert data_of(string(1, '"a"'), string(2, data), string(3, data)) == [b'"a"', data.encode(), data.encode()]


def test_binary_data_never_merges() -> None:
    assert data_of(piece(1, b"\xff", kind="binary"), piece(2, b"\xff", kind="binary")) == [b"\xff", b"\xff"]


def test_events_without_a_key_never_merge() -> None:
    assert data_of(text(1, "a", merge=""), text(2, "b", merge="")) == [b"a", b"b"]


def test_nothing_joins_what_has_closed_its_channel() -> None:
    assert data_of(text(1, "a", effect="close"), text(2, "b")) == [b"a", b"b"]


def test_a_line_end_and_a_surrogate_pair_are_not_joined_across_a_border() -> None:
    assert data_of(text(1, "a\r"), text(2, "\nb")) == [b"a\r", b"\nb"]
    assert data_of(text(1, "a\r"), text(2, "b")) == [b"a\rb"]
    assert data_of(text(1, "a\r"), text(2, ""), text(3, "\nb")) == [b"a\r", b"\nb"]
    assert len(data_of(string(1, '"\\ud83d"'), string(2, '""'), string(3, '"\\ude00"'))) == 2
    assert len(data_of(string(1, '"\\ud83d"'), string(2, '"\\ude00"'))) == 2
    assert len(data_of(string(1, '"\\ud83d\\ude00"'), string(2, '"x"'))) == 1


def test_a_merged_event_is_bounded_and_one_larger_event_passes() -> None:
    large = "x" * (MAX_MERGED_BYTES // 2)
    sizes = [len(data) for data in data_of(*(text(seq, large) for seq in range(1, 6)))]
    assert sizes == [MAX_MERGED_BYTES, MAX_MERGED_BYTES, len(large)]
    huge = "y" * (MAX_MERGED_BYTES + 1)
    assert data_of(text(1, "a"), text(2, huge), text(3, "b")) == [b"a", huge.encode(), b"b"]


_texts = st.sampled_from(["", "a", "é", "\r", "\n", "\r\n", "b\r", "\nc", "data: x", "😀"])
_strings = st.sampled_from(
    ['""', '"a"', '"\\ud83d"', '"\\ude00"', '"\\\\ud83d"', '"\\n"', '"😀"', '" "', "1", '{"a":1}']
)
_marks = st.fixed_dictionaries({"merge": st.sampled_from(["k", "k", "k", "l", ""])})
_pieces = st.one_of(_texts.map(lambda x: (text, x)), _strings.map(lambda x: (string, x)))
_events = st.lists(st.tuples(_pieces, _marks), min_size=20, max_size=60)


@settings(deadline=None)
@given(_events)
def test_whatever_is_published_reads_the_same_merged_and_apart(drawn: list[Any]) -> None:
    events = [make(seq, data, **marks) for seq, ((make, data), marks) in enumerate(drawn, 1)]
    place = 0
    for whole in merged(events):
        parts = events[place : whole.seq]
        assert len({(part.merge, part.type, part.kind) for part in parts}) == 1
        assert seen(whole) == "".join(map(seen, parts)) if len(parts) > 1 else seen(whole) == seen(parts[0])
        place = whole.seq
    assert place == len(events)


def seen(event: Event) -> Any:
    """What a program gets that reads the frame."""
    [frame] = Parser().feed(encode(type=event.type, data=event.data, kind=event.kind, id=event.cursor))
    return json.loads(frame.data) if event.kind == "json" else frame.data
