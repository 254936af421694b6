import base64
import json

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hookbrook.core.cloudevent import CloudEvent, Content, content_of, to_structured
from hookbrook.core.event import BINARY_TYPE, JSON_TYPE, TEXT_TYPE, Event, kind_of, parse_time
from hookbrook.errors import Invalid


def read(**attributes: object) -> Content:
    whole = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", **attributes}
    return content_of(msgspec.json.decode(json.dumps(whole).encode(), type=CloudEvent), "data[2].")


def event(data: bytes, content_type: str, source: str | None = None) -> Event:
    return Event(
        seq=7, epoch="abcdef", id="evt_1", channels=("a", "b"), type="paid", tenant="default", source=source,
        time=1_500_000, appended=0, content_type=content_type, kind=kind_of(content_type, data), data=data,
    )  # fmt: skip


def test_json_data_is_kept_byte_for_byte() -> None:
    text = b'{"specversion":"1.0","id":"1","source":"s","type":"t","data": {"a":1E400, "a":2} }'
    content = content_of(msgspec.json.decode(text, type=CloudEvent))
    assert content == Content(content_type=JSON_TYPE, kind="json", data=b'{"a":1E400, "a":2}', time=None)


def test_text_travels_as_a_string_and_binary_as_base64() -> None:
    assert read(datacontenttype="text/plain", data="hallo").data == b"hallo"
    content = read(datacontenttype="image/png", data_base64=base64.b64encode(b"\xff\0").decode())
    assert (content.kind, content.data) == ("binary", b"\xff\0")


def test_data_may_be_absent() -> None:
    assert read().data == b"null"
    assert read(datacontenttype="text/plain").data == b""


def test_the_time_is_read() -> None:
    assert read(time="2026-11-23T16:20:00Z").time == parse_time("2026-11-23T16:20:00Z")


@pytest.mark.parametrize(
    ("attributes", "field"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"source": ""}, "source"),
        ({"time": "yesterday"}, "time"),
        ({"data_base64": "not base64!"}, "data_base64"),
        ({"data_base64": "ä"}, "data_base64"),
        ({"data_base64": "AA==", "data": 1}, "data_base64"),
        ({"datacontenttype": "text/plain", "data": {"a": 1}}, "data"),
        ({"datacontenttype": "text/plain", "data": None}, "data"),
    ],
)
def test_a_wrong_attribute_is_refused_by_name(attributes: dict[str, object], field: str) -> None:
    with pytest.raises(Invalid) as refused:
        read(**attributes)
    assert refused.value.errors[0].field == f"data[2].{field}"


@given(st.binary(), st.sampled_from([JSON_TYPE, TEXT_TYPE, BINARY_TYPE, "application/xml"]))
@example(b"no json", JSON_TYPE)
@example(b'{"a": 1E400}', JSON_TYPE)
@example(b'"\\ud800"', JSON_TYPE)
@example(b"\xff", TEXT_TYPE)
@example(b" 0\n", JSON_TYPE)
def test_what_is_written_is_read_back_byte_for_byte(data: bytes, label: str) -> None:
    """But for blanks around JSON, which is a member of a JSON document here: RFC 8259 section 2."""
    before = event(data, label)
    content = content_of(msgspec.json.decode(to_structured(before, channels=before.channels), type=CloudEvent))
    kept = data.strip(b" \t\r\n") if before.kind == "json" else data
    assert content == Content(content_type=label, kind=before.kind, data=kept, time=before.time)


def test_only_the_channels_that_may_be_known_are_named() -> None:
    shown = json.loads(to_structured(event(b"1", JSON_TYPE), channels=("b",)))
    assert (shown["hookbrookchannels"], shown["source"], shown["hookbrookcursor"]) == ("b", "/channels/b", "abcdef-7")


def test_what_a_provider_sent_names_its_source() -> None:
    assert json.loads(to_structured(event(b"1", JSON_TYPE, "github"), channels=("a",)))["source"] == "/in/github"
