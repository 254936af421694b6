import base64
import json
from itertools import count
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hookbrook.core.event import NewEvent
from hookbrook.core.publication import (
    Press,
    check_content_type,
    parse_array,
    parse_cloud_event,
    parse_cloud_events,
    parse_one,
)
from hookbrook.errors import BadRequest, Invalid, Problem, TooLarge, UnsupportedMedia

NOW = 1_795_450_800_000_000
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


def press(**options: Any) -> Press:
    numbers = count(1)
    settings: dict[str, Any] = {"now": NOW, "fresh_id": lambda: f"evt_{next(numbers)}", "max_event_bytes": 1024}
    return Press(**{**settings, **options})


def one(document: bytes | dict[str, Any], **options: Any) -> NewEvent:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return press(**options).publication(parse_one(body))


def fields(problem: Problem) -> list[str]:
    return [error.field for error in problem.errors]


def test_an_event_without_id_and_time_gets_both() -> None:
    event = one({"channel": "a", "data": 1}, tenant="acme")
    assert (event.id, event.dedupe_id, event.time, event.tenant) == ("evt_1", "evt_1", NOW, "acme")
    assert (event.type, event.content_type, event.kind) == ("message", "application/json", "json")
    # Its publisher learns the id, and may send it again: with the same content, or with other.
    assert event.digest == one({"channel": "a", "data": 1, "id": "evt_1"}).digest


def test_the_digest_tells_content_apart_and_leaves_the_time_out() -> None:
    base: dict[str, Any] = {"channel": "a", "data": 1, "id": "x"}
    digest = one(base).digest
    assert len(digest) == 16
    assert one({**base, "time": "2026-01-01T00:00:00Z"}).digest == digest
    changes: list[dict[str, Any]] = [{"data": 2}, {"type": "t"}, {"channel": "b"}, {"content_type": "text/json"}]
    others = {one({**base, **change}).digest for change in changes}
    assert len(others | {digest}) == 5


@given(value=JSON_VALUES, indent=st.sampled_from([None, 1]))
def test_data_is_kept_byte_for_byte(value: Any, indent: int | None) -> None:
    raw = json.dumps(value, indent=indent).encode()
    if len(raw) <= 1024:
        event = one(b'{"channel":"a","data":\n ' + raw + b" }")
        assert event.data == raw
        assert press().raw(raw, "application/json", "a", "message", None).data == raw
        [item] = parse_array(b'[{"data":' + raw + b',"channel":"a"}]')
        assert press().publication(item).data == raw


@given(text=st.text(max_size=200))
def test_text_in_json_becomes_the_text_itself(text: str) -> None:
    document = {"channel": "a", "content_type": "text/plain", "data": text}
    for ascii_only in (True, False):
        event = one(json.dumps(document, ensure_ascii=ascii_only).encode())
        assert (event.data, event.kind) == (text.encode(), "text")


@given(data=st.binary(max_size=200))
def test_bytes_travel_in_base64(data: bytes) -> None:
    event = one({"channel": "a", "data_base64": base64.b64encode(data).decode()})
    assert (event.data, event.content_type) == (data, "application/octet-stream")
    assert event.kind in ("text", "binary")


@given(body=st.binary(max_size=60))
def test_a_raw_body_without_a_label_is_always_taken_as_it_is(body: bytes) -> None:
    for label in ("", "application/x-www-form-urlencoded", "application/x-www-form-urlencoded; charset=utf-8"):
        event = press().raw(body, label, "a", "message", None)
        assert event.data == body
        # The standard library also reads half of a surrogate pair, which has no UTF-8.
        if b"\\u" not in body:
            assert event.kind == ("json" if _is_json(body) else "text" if _is_text(body) else "binary")


def _is_json(body: bytes) -> bool:
    def refuse(name: str) -> None:
        raise ValueError(name)

    try:
        json.loads(body.decode(), parse_constant=refuse)
    except ValueError:
        return False
    return True


def _is_text(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


@given(body=st.binary(max_size=80))
@example(b"{}")
@example(b"[]")
@example(b"[{}]")
def test_bytes_that_are_no_event_are_refused_and_never_an_error(body: bytes) -> None:
    for read in (_read_one, _read_array, _read_cloud_event, _read_cloud_events):
        try:
            events = read(body)
        except (BadRequest, Invalid):
            continue
        assert not events


def _read_one(body: bytes) -> list[NewEvent]:
    return [press().publication(parse_one(body))]


def _read_array(body: bytes) -> list[NewEvent]:
    return [press().publication(item) for item in parse_array(body)]


def _read_cloud_event(body: bytes) -> list[NewEvent]:
    return [press().cloud_event(parse_cloud_event(body), None)]


def _read_cloud_events(body: bytes) -> list[NewEvent]:
    return [press().cloud_event(item, None) for item in parse_cloud_events(body)]


@given(body=JSON_VALUES)
def test_json_that_is_no_event_is_refused_with_a_field(body: Any) -> None:
    # Numbers and strings that JSON's grammar has and no program can hold are `BadRequest`.
    with pytest.raises((Invalid, BadRequest)) as caught:
        press().publication(parse_one(json.dumps(body).encode()))
    assert fields(caught.value) or isinstance(caught.value, BadRequest)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"5", "body"),
        (b"[]", "body"),
        (b'{"channel":5}', "channel"),
        (b'{"channels":["a",5]}', "channels[1]"),
        (b'{"channels":"a"}', "channels"),
        (b'{"surprise":1}', "surprise"),
        (b'{"data_base64":1}', "data_base64"),
    ],
)
def test_a_shape_that_is_wrong_names_its_place(body: bytes, field: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_one(body)
    assert fields(caught.value) == [field]
    with pytest.raises(Invalid) as caught:
        parse_array(b'[{"channel":"a","data":1},' + body + b"]")
    assert fields(caught.value) == [f"[1].{field}" if field != "body" else "[1]"]


def test_a_missing_attribute_of_a_cloud_event_is_named() -> None:
    with pytest.raises(Invalid) as caught:
        parse_cloud_event(b'{"specversion":"1.0","id":"1","source":"s"}')
    assert fields(caught.value) == ["type"]
    with pytest.raises(Invalid) as caught:
        parse_cloud_events(b'[{"specversion":"1.0","id":"1","type":"t"}]')
    assert fields(caught.value) == ["[0].source"]


def test_an_id_of_its_own_wins_over_the_one_that_is_handed_in() -> None:
    item = parse_one(b'{"channel":"a","data":1,"id":"own"}')
    assert press().publication(item, id="handed-in").id == "own"
    assert press().publication(parse_one(b'{"channel":"a","data":1}'), id="handed-in").id == "handed-in"
    with pytest.raises(Invalid) as caught:
        press().publication(parse_one(b'{"channel":"a","data":1,"id":""}'), id="handed-in")
    assert fields(caught.value) == ["id"]


def test_the_limit_is_on_the_data_and_not_on_its_spelling() -> None:
    assert len(one({"channel": "a", "content_type": "text/plain", "data": "\x01" * 1024}).data) == 1024
    with pytest.raises(TooLarge) as caught:
        one({"channel": "a", "content_type": "text/plain", "data": "\x01" * 1025})
    assert (fields(caught.value), caught.value.extra["limit"]) == (["data"], 1024)
    with pytest.raises(TooLarge):
        press().raw(b"x" * 1025, "", "a", "message", None)


@pytest.mark.parametrize(
    "value",
    ["text/plain", "text/plain; charset=utf-8", "application/vnd.a+json;v=1", "a/b ; c", "image/svg+xml"],
)
def test_a_media_type_is_taken(value: str) -> None:
    assert check_content_type("f", value) == value


@pytest.mark.parametrize(
    "value",
    [
        "",
        "text",
        "text/",
        "/plain",
        "text/plain\n",
        "text/plain\r\nx: y",
        "text/pl ain",
        "a/b; \u00e4",
        "a/b" * 80,
        "a/b,c/d",
    ],
)
def test_what_is_no_media_type_is_refused(value: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_content_type("f", value)
    assert fields(caught.value) == ["f"]


@pytest.mark.parametrize(
    ("label", "body", "error"),
    [
        ("application/json", b"{", BadRequest),
        ("application/problem+json", b"", BadRequest),
        ("text/plain", b"\xff", BadRequest),
        ("text/plain; charset=UTF-8", b"\xff", BadRequest),
        ('text/plain; charset="utf-8"', b"\xff", BadRequest),
        ("multipart/form-data; boundary=x", b"", UnsupportedMedia),
        ("nonsense", b"", Invalid),
    ],
)
def test_a_label_must_be_true(label: str, body: bytes, error: type[Problem]) -> None:
    with pytest.raises(error):
        press().raw(body, label, "a", "message", None)


def test_a_label_of_another_charset_is_taken_on_trust() -> None:
    event = press().raw(b"\xfc", "text/plain; charset=iso-8859-1", "a", "message", None)
    assert (event.data, event.kind) == (b"\xfc", "binary")


def cloud(**change: Any) -> Any:
    document = {"specversion": "1.0", "id": "1", "source": "s", "type": "t", "subject": "a", "data": {"n": 1}}
    return parse_cloud_event(json.dumps({**document, **change}).encode())


def test_a_cloud_event_names_its_channel_by_subject_unless_one_is_said() -> None:
    assert press().cloud_event(cloud(), None).channels == ("a",)
    assert press().cloud_event(cloud(), "said").channels == ("said",)
    with pytest.raises(Invalid) as caught:
        press().cloud_event(cloud(subject=None), None)
    assert fields(caught.value) == ["channel"]


@pytest.mark.parametrize("content_type", ["nonsense", "a/b\r\nx: y", "x/" + "y" * 300])
def test_a_cloud_event_cannot_bring_a_content_type_that_is_none(content_type: str) -> None:
    with pytest.raises(Invalid) as caught:
        press().cloud_event(cloud(datacontenttype=content_type, data="x"), None, "[2].")
    assert fields(caught.value) == ["[2].datacontenttype"]


def test_two_channels_of_one_name_are_one() -> None:
    assert one({"channels": ["a", "b", "a"], "data": 1}).channels == ("a", "b")
