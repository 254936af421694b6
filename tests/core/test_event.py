import base64
import json
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hookbrook.core.event import (
    BINARY_TYPE,
    JSON_TYPE,
    TEXT_TYPE,
    Event,
    Kind,
    digest,
    format_time,
    is_json,
    is_json_type,
    kind_of,
    parse_time,
    to_json,
)
from hookbrook.errors import Invalid


def event(data: bytes, kind: Kind, content_type: str = JSON_TYPE, **fields: object) -> Event:
    values: dict[str, object] = {
        "seq": 7, "epoch": "abcdef", "id": "evt_1", "channels": ("a", "b"), "type": "paid", "tenant": "default",
        "source": None, "time": 1_790_000_000_123_456, "appended": 0, "content_type": content_type, "kind": kind,
        "data": data,
    }  # fmt: skip
    return Event(**{**values, **fields})  # type: ignore[arg-type]


#: What the standard library's parser would change or lose.
FRAGILE = [
    b"1E400",
    b"-0",
    b"1.10",
    b'{"a":1,"a":2}',
    b'"\\u00e9\\/"',
    b"123456789012345678901234567890",
    b' { "b" :\n1 } ',
]

_scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False),
    st.text(alphabet=st.characters(exclude_categories=["Cs"])),
)  # fmt: skip
_documents = st.recursive(
    _scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text("ab", max_size=2), inner, max_size=4)),
    max_leaves=12,
)
_json_bytes = st.builds(
    lambda value, indent, ascii_: json.dumps(value, indent=indent, ensure_ascii=ascii_).encode(),
    _documents, st.sampled_from([None, 1]), st.booleans(),
)  # fmt: skip


# The JSON form


@pytest.mark.parametrize("data", FRAGILE)
def test_json_data_is_embedded_byte_for_byte(data: bytes) -> None:
    assert is_json(data)
    whole = to_json(event(data, "json"))
    assert b'"data":' + data + b',"cursor":"abcdef-7"' in whole
    assert json.loads(whole)["id"] == "evt_1"


@given(_json_bytes)
def test_any_json_is_embedded_byte_for_byte(data: bytes) -> None:
    whole = to_json(event(data, kind_of(JSON_TYPE, data)))
    assert b'"data":' + data + b',"cursor"' in whole
    assert json.loads(whole)["data"] == json.loads(data)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_text_is_a_string(text: str) -> None:
    shown = json.loads(to_json(event(text.encode(), kind_of(TEXT_TYPE, text.encode()), TEXT_TYPE)))
    assert shown["data"] == text
    assert "data_base64" not in shown


@given(st.binary())
@example(b"\xff")
def test_whatever_the_label_says_the_bytes_come_back(data: bytes) -> None:
    for label in (JSON_TYPE, TEXT_TYPE, BINARY_TYPE):
        kind = kind_of(label, data)
        shown = json.loads(to_json(event(data, kind, label)))
        if kind == "binary":
            assert base64.b64decode(shown["data_base64"]) == data
        elif kind == "text":
            assert shown["data"].encode() == data
        else:
            assert shown["data"] == json.loads(data)


def test_the_json_form_names_what_the_design_names_in_its_order() -> None:
    keys = ["id", "channels", "type", "tenant", "source", "time", "content_type", "data", "cursor"]
    assert list(json.loads(to_json(event(b"1", "json")))) == keys


def test_only_the_channels_that_may_be_known_and_the_request_only_if_asked() -> None:
    received = event(b"1", "json", request=b'{"method":"POST"}')
    assert json.loads(to_json(received, channels=("b",)))["channels"] == ["b"]
    assert "request" not in json.loads(to_json(received))
    assert json.loads(to_json(received, request=True))["request"] == {"method": "POST"}


# What kind of bytes


@given(_json_bytes)
def test_what_the_standard_library_writes_is_json(data: bytes) -> None:
    assert is_json(data)


@given(st.text(alphabet='{}[]",:0123456789.eE+-\\u tfnr\n\x00\x7fä', max_size=12))
def test_what_the_standard_library_does_not_read_is_not_json(text: str) -> None:
    def refuse(word: str) -> object:
        raise ValueError(word)

    try:
        json.loads(text, parse_constant=refuse)
    except ValueError:
        assert not is_json(text.encode())
    else:
        # Only half a surrogate pair, which has no UTF-8, is read by the one and not by the other.
        assert is_json(text.encode()) or "\\ud" in text.lower()


@pytest.mark.parametrize("data", [b"", b"NaN", b"Infinity", b"{}{}", b"\xef\xbb\xbf{}", b'"\xff"', b"[" * 100_000])
def test_what_is_no_json_under_a_json_label_is_text_or_binary(data: bytes) -> None:
    assert kind_of(JSON_TYPE, data) == ("binary" if b"\xff" in data else "text")


def test_nested_beyond_all_reason_is_not_json() -> None:
    assert not is_json(b"[" * 100_000 + b"]" * 100_000)


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("application/json", True),
        ("Application/JSON ; charset=utf-8", True),
        ("application/vnd.api+json", True),
        ("text/json", True),
        ("text/plain", False),
        ("application/jsonlines", False),
        ("", False),
    ],
)
def test_json_labels(label: str, *, expected: bool) -> None:
    assert is_json_type(label) is expected


# Digests


@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from(["a", "b", "ab"]), min_size=1, max_size=3),
            st.sampled_from(["t", "at"]),
            st.sampled_from(["", "t", "x"]),
            st.binary(max_size=2),
        ),
        min_size=2,
        max_size=2,
        unique_by=str,
    )
)
def test_any_difference_in_what_was_published_changes_the_digest(
    contents: list[tuple[list[str], str, str, bytes]],
) -> None:
    one, two = (digest(tuple(channels), type_, label, data) for channels, type_, label, data in contents)
    assert one != two
    assert len(one) == len(two) == 16


def test_what_was_said_cannot_move_from_one_field_into_the_next() -> None:
    assert digest(("a", "b"), "c", "d", b"e") != digest(("a",), "b", "c", b"d\0e")


# Times

_MIN, _MAX = (
    int((moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))
    for moment in (datetime.min.replace(tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))
)


@given(st.integers(_MIN, _MAX))
def test_a_time_is_read_as_it_was_written(time: int) -> None:
    assert parse_time(format_time(time)) == time


@pytest.mark.parametrize(
    ("time", "written"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1_500_000, "1970-01-01T00:00:01.500Z"),
        (1, "1970-01-01T00:00:00.000001Z"),
        (-1000, "1969-12-31T23:59:59.999Z"),
        (_MIN, "0001-01-01T00:00:00Z"),
    ],
)
def test_a_time_has_as_many_digits_as_it_needs(time: int, written: str) -> None:
    assert format_time(time) == written


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2026-11-23T17:20:00+01:00", "2026-11-23T16:20:00Z"),
        ("2026-11-23t16:20:00z", "2026-11-23T16:20:00Z"),
        ("2026-11-23 16:20:00-00:00", "2026-11-23T16:20:00Z"),
        ("2026-11-23T16:20:00.123456789Z", "2026-11-23T16:20:00.123456Z"),
        ("2026-11-23T16:20:00.5Z", "2026-11-23T16:20:00.500Z"),
    ],
)
def test_rfc_3339_is_read(text: str, same: str) -> None:
    assert parse_time(text) == parse_time(same)


@pytest.mark.parametrize(
    "text",
    [
        "", "now", "2026-11-23", "2026-11-23T16:20:00", "2026-11-23T16:20+00:00", "20261123T162000.5+0000",
        "2026-W47-1T16:20:00+00:00", "2026-11-23x16:20:00Z", "2026-11-23T16:20:00,5Z", "2026-11-23T16:20:00+00:00:30",
        "2026-13-23T16:20:00Z", "2026-11-23T25:20:00Z", "2026-11-23T16:20:00Z\n", "２026-11-23T16:20:00Z",
        "2026-11-23T16:20:00.Z", "2026-11-23T16:20:00+24:00", "2026-11-23T:::::::00Z",
    ],
)  # fmt: skip
def test_what_is_not_rfc_3339_is_refused_and_the_field_is_named(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_time(text, "data[1].time")
    assert refused.value.errors[0].field == "data[1].time"


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"])
def test_a_time_that_could_not_be_written_again_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="out of range"):
        parse_time(text)


def test_events_are_values() -> None:
    one = event(b"1", "json")
    with pytest.raises(AttributeError):
        one.seq = 8  # type: ignore[misc]
    assert msgspec.structs.replace(one, seq=8) != one
    assert one.cursor == "abcdef-7"
