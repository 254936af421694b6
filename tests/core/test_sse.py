"""The SSE codec against WHATWG HTML section 9.2.6, against two other parsers, and against the traps that were met."""

import base64
import json
import re
from itertools import pairwise

import httpx_sse
import pytest
import sseclient
from hypothesis import given
from hypothesis import strategies as st

from hookbrook.core import sse
from hookbrook.core.sse import Frame, FrameTooLarge, Parser

CURSOR = "k3f9-1042"

texts = st.text(st.characters(codec="utf-8"))
types = st.text("abcdefghijklmnopqrstuvwxyzABC0123456789._:@/-", min_size=1, max_size=30)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)


def parse(stream: bytes) -> list[Frame]:
    return Parser().feed(stream)


def only(stream: bytes) -> Frame:
    (frame,) = parse(stream)
    return frame


def encode_text(data: str, *, type: str = "message", id: str = CURSOR) -> bytes:
    return sse.encode(type=type, data=data.encode(), kind="text", id=id)


def with_lf(text: str) -> str:
    return re.sub("\r\n|\r", "\n", text)


# --- the encoder -------------------------------------------------------------------------------------------------


def test_a_frame_has_its_type_then_its_data_then_its_id() -> None:
    frame = sse.encode(type="invoice.paid", data=b'{"a":1}', kind="json", id=CURSOR)
    assert frame == b'event: invoice.paid\ndata: {"a":1}\nid: k3f9-1042\n\n'


@pytest.mark.parametrize("type", ["message", "open", "error"])
def test_the_names_that_belong_to_eventsource_are_not_written(type: str) -> None:
    assert sse.encode(type=type, data=b"1", kind="json", id=CURSOR) == b"data: 1\nid: k3f9-1042\n\n"


def test_line_ends_between_json_tokens_become_spaces() -> None:
    pretty = b'{\r\n  "a": 1,\n  "b":\r2\n}'
    frame = sse.encode(type="message", data=pretty, kind="json", id=CURSOR)
    assert frame.count(b"data:") == 1
    assert json.loads(only(frame).data) == {"a": 1, "b": 2}


def test_json_keeps_every_other_byte() -> None:
    data = b'{"n":1E400,"n":0.10,"s":"\\n\xe2\x80\xa8"}'
    assert only(sse.encode(type="message", data=data, kind="json", id=CURSOR)).data.encode() == data


@pytest.mark.parametrize("line_end", ["\n", "\r", "\r\n"])
def test_text_is_split_at_every_line_end_so_that_none_injects_a_field(line_end: str) -> None:
    frame = encode_text(f"hello{line_end}id: forged{line_end}event: forged{line_end}{line_end}data: forged")
    parsed = only(frame)
    assert parsed.data == "hello\nid: forged\nevent: forged\n\ndata: forged"
    assert (parsed.type, parsed.last_event_id) == ("message", CURSOR)


def test_line_separators_that_are_not_of_sse_stay_in_the_line() -> None:
    text = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg"
    assert encode_text(text).count(b"data:") == 1
    assert only(encode_text(text)).data == text


def test_empty_text_is_one_empty_data_line_and_still_dispatches() -> None:
    assert encode_text("").count(b"data:") == 1
    assert only(encode_text("")).data == ""


def test_leading_spaces_and_colons_of_text_survive() -> None:
    assert only(encode_text("  : two spaces")).data == "  : two spaces"


def test_binary_travels_as_one_line_of_base64() -> None:
    data = bytes(range(256)) * 40
    frame = sse.encode(type="message", data=data, kind="binary", id=CURSOR)
    assert frame.count(b"\n") == 3
    assert base64.b64decode(only(frame).data, validate=True) == data


@pytest.mark.parametrize("breaker", ["\r", "\n", "\0", "\r\n"])
def test_nothing_that_breaks_a_line_gets_into_the_type_or_the_id(breaker: str) -> None:
    frame = sse.encode(type=f"a{breaker}data: forged", data=b"1", kind="json", id=f"k{breaker}3")
    assert frame == b"event: adata: forged\ndata: 1\nid: k3\n\n"


def test_a_lone_surrogate_in_a_type_does_not_stop_the_stream() -> None:
    assert only(sse.encode(type="a\ud800", data=b"1", kind="json", id=CURSOR)).type == "a?"


def test_retry_rides_in_front_of_a_real_event() -> None:
    frame = sse.with_retry(sse.encode(type="message", data=b"1", kind="json", id=CURSOR), 1500)
    assert frame == b"retry: 1500\ndata: 1\nid: k3f9-1042\n\n"
    assert only(frame).retry_ms == 1500


def test_a_control_event_has_one_line_of_data_and_its_id_last() -> None:
    frame = sse.control("hookbrook.reset", {"reason": "a\nb"}, id=CURSOR, retry_ms=20)
    assert frame == b'retry: 20\nevent: hookbrook.reset\ndata: {"reason":"a\\nb"}\nid: k3f9-1042\n\n'


def test_a_control_event_without_an_id_leaves_the_readers_cursor() -> None:
    parser = Parser()
    parser.feed(encode_text("x"))
    (frame,) = parser.feed(sse.control("hookbrook.drain", {}))
    assert frame.data == "{}"
    assert frame.last_event_id == CURSOR


def test_only_our_own_names_are_control_events() -> None:
    with pytest.raises(ValueError, match="reset"):
        sse.control("reset", {})


def test_a_heartbeat_is_a_comment_without_a_blank_line_and_dispatches_nothing() -> None:
    assert sse.HEARTBEAT == b": hb\n"
    parser = Parser()
    assert parser.feed(sse.HEARTBEAT * 3) == []
    assert parser.comments_seen == 3


def test_a_heartbeat_between_two_frames_changes_neither() -> None:
    assert parse(encode_text("a") + sse.HEARTBEAT + encode_text("b")) == parse(encode_text("a") + encode_text("b"))


@given(types, texts)
def test_what_is_encoded_as_text_is_parsed_again(type: str, data: str) -> None:
    frame = only(encode_text(data, type=type))
    assert frame.type == ("message" if type in sse.UNNAMED_TYPES else type)
    assert frame.data == with_lf(data)
    assert frame.last_event_id == CURSOR


@given(json_values, st.integers(0, 4))
def test_what_is_encoded_as_json_is_one_line_and_the_same_value(value: object, indent: int) -> None:
    frame = sse.encode(type="x", data=json.dumps(value, indent=indent).encode(), kind="json", id=CURSOR)
    assert frame.count(b"\n") == 4
    assert json.loads(only(frame).data) == value


@given(st.text(), st.binary(), st.text(), st.sampled_from(["text", "binary"]))
def test_no_type_data_or_id_makes_more_or_less_than_one_frame(type: str, data: bytes, id: str, kind: str) -> None:
    if kind == "text":
        data = data.decode(errors="replace").encode()
    frame = sse.encode(type=type, data=data, kind="text" if kind == "text" else "binary", id=id)
    assert len(parse(frame)) == 1
    assert frame.endswith(b"\n\n")


# --- the parser --------------------------------------------------------------------------------------------------


def test_data_lines_are_joined_and_one_space_is_stripped() -> None:
    assert only(b"data:a\ndata: b\ndata:  c\n\n").data == "a\nb\n c"


@pytest.mark.parametrize("line_end", [b"\n", b"\r", b"\r\n"])
def test_every_line_end_ends_a_line(line_end: bytes) -> None:
    stream = line_end.join([b"event: x", b"data: 1", b"id: 7", b"", b"data: 2", b"", b""])
    assert [(f.type, f.data, f.last_event_id) for f in parse(stream)] == [("x", "1", "7"), ("message", "2", "7")]


def test_an_event_that_ends_with_cr_is_dispatched_before_the_next_byte_arrives() -> None:
    parser = Parser()
    assert [frame.data for frame in parser.feed(b"data: 1\r\n\r")] == ["1"]
    assert parser.feed(b"\n") == []
    assert [frame.data for frame in parser.feed(b"data: 2\n\n")] == ["2"]


def test_crlf_split_between_chunks_is_one_line_end() -> None:
    parser = Parser()
    assert parser.feed(b"data: 1\r") == []
    assert parser.feed(b"\ndata: 2\r") == []
    assert [frame.data for frame in parser.feed(b"\n\r\n")] == ["1\n2"]


def test_one_leading_bom_is_stripped_and_a_second_is_not() -> None:
    assert only(b"\xef\xbb\xbfdata: 1\n\n").data == "1"
    assert parse(b"\xef\xbb\xbf\xef\xbb\xbfdata: 1\n\n") == []
    assert only(b"data: 1\n\xef\xbb\xbfdata: 2\n\n").data == "1"


def test_what_only_begins_like_a_bom_is_kept() -> None:
    parser = Parser()
    assert parser.feed(b"\xef") == []
    assert parser.feed(b"\xbb") == []
    assert [frame.data for frame in parser.feed(b"x: 1\ndata: 2\n\n")] == ["2"]


def test_an_id_with_nul_is_ignored() -> None:
    assert [f.last_event_id for f in parse(b"data: 1\nid: a\n\ndata: 2\nid: b\0c\n\n")] == ["a", "a"]


def test_an_id_persists_until_another_comes_and_an_empty_one_resets_it() -> None:
    frames = parse(b"data: 1\nid: a\n\ndata: 2\n\ndata: 3\nid\n\ndata: 4\n\n")
    assert [frame.last_event_id for frame in frames] == ["a", "a", "", ""]


def test_an_id_without_data_moves_the_cursor_silently() -> None:
    parser = Parser()
    assert parser.feed(b"id: 9\n\n") == []
    assert parser.last_event_id == "9"


def test_an_id_counts_only_when_its_event_is_whole() -> None:
    parser = Parser(last_event_id="1")
    parser.feed(b"id: 2\ndata: half")
    assert parser.last_event_id == "1"


def test_a_new_parser_goes_on_from_the_id_that_it_is_given() -> None:
    (frame,) = Parser(last_event_id="41").feed(b"data: 1\n\n")
    assert frame.last_event_id == "41"


def test_a_partial_final_event_is_not_dispatched() -> None:
    assert parse(b"data: 1\n\ndata: 2\nid: 2\n") == parse(b"data: 1\n\n")


def test_empty_data_dispatches_and_no_data_does_not() -> None:
    assert [frame.data for frame in parse(b"data\n\n")] == [""]
    assert [frame.data for frame in parse(b"data:\ndata:\n\n")] == ["\n"]
    assert parse(b"event: x\n\n\n\n") == []


def test_a_type_does_not_leak_into_the_next_event() -> None:
    assert [frame.type for frame in parse(b"event: x\n\ndata: 1\n\nevent:\ndata: 2\n\n")] == ["message", "message"]


@pytest.mark.parametrize("value", [b"", b"-1", b"1.5", b"1e3", b" 5", b"x", "٣".encode()])
def test_a_retry_that_is_not_only_digits_is_ignored(value: bytes) -> None:
    parser = Parser()
    (frame,) = parser.feed(b"retry: " + value + b"\ndata: 1\n\n")
    assert frame.retry_ms is None
    assert parser.retry_ms is None


def test_a_retry_alone_is_remembered_and_told_with_the_next_event() -> None:
    parser = Parser()
    assert parser.feed(b"retry: 0300\n\n") == []
    assert parser.retry_ms == 300
    assert [frame.retry_ms for frame in parser.feed(b"data: 1\n\ndata: 2\n\n")] == [300, None]
    assert parser.retry_ms == 300


@pytest.mark.parametrize("value", [b"9" * 5000, b"99999999999999999999"])
def test_an_absurd_retry_is_bounded(value: bytes) -> None:
    assert only(b"retry: " + value + b"\ndata: 1\n\n").retry_ms == sse.MAX_RETRY_MS


def test_unknown_fields_comments_and_lines_without_a_colon_are_ignored() -> None:
    assert only(b"foo: 1\n:comment\n data: 2\nData: 3\nwhatever\ndata: 4\n\n").data == "4"


def test_bytes_that_are_not_utf8_become_replacement_characters() -> None:
    assert only(b"data: a\xff\xe2\x82\ndata: \x80b\n\n").data == "a\ufffd\ufffd\n\ufffdb"


def test_characters_that_only_unicode_takes_for_line_ends_do_not_end_lines() -> None:
    assert only("data: a\u2028b\x85c\x0bd\n\n".encode()).data == "a\u2028b\x85c\x0bd"


@pytest.mark.parametrize("chunk_size", [1, 7, 1000])
def test_a_line_over_the_limit_is_refused_however_it_arrives(chunk_size: int) -> None:
    stream = b"data: " + b"x" * 200
    parser = Parser(max_line_bytes=100)
    with pytest.raises(FrameTooLarge, match="100 bytes"):
        feed_in_chunks(parser, stream, chunk_size)


def test_a_line_at_the_limit_is_read() -> None:
    assert Parser(max_line_bytes=10).feed(b"data: 1234\n\n")[0].data == "1234"


def test_an_event_of_many_lines_over_the_limit_is_refused() -> None:
    parser = Parser(max_event_bytes=100)
    with pytest.raises(FrameTooLarge, match="100 bytes of data"):
        parser.feed(b"data: 123456789\n" * 11)


def test_the_limit_of_an_event_counts_each_event_by_itself() -> None:
    assert len(Parser(max_event_bytes=100).feed((b"data: 123456789\n" * 10 + b"\n") * 5)) == 5


def test_empty_data_lines_count_too() -> None:
    parser = Parser(max_event_bytes=100)
    with pytest.raises(FrameTooLarge):
        parser.feed(b"data\n" * 101)


def feed_in_chunks(parser: Parser, stream: bytes, size: int) -> list[Frame]:
    return [frame for i in range(0, len(stream), size) for frame in parser.feed(stream[i : i + size])]


pieces = st.sampled_from(
    [
        b"\r", b"\n", b"\r\n", b"\n\n", b"data: 1", b"data", b"data:", b"id: 5", b"id: 6\0", b"id", b"event: x",
        b"event", b": hb", b":", b"retry: 10", b"retry: x", b"\xef\xbb\xbf", b"\xef", b"\xe2\x82\xac", b"\xff", b" ",
        b"unknown: y",
    ]
)  # fmt: skip


@given(st.lists(pieces, max_size=30), st.lists(st.integers(0, 200), max_size=20))
def test_any_chunking_gives_the_same_frames(parts: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(parts)
    whole, chunked = Parser(), Parser()
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    frames = [frame for start, end in pairwise(edges) for frame in chunked.feed(stream[start:end])]
    assert frames == whole.feed(stream)
    assert frames == feed_in_chunks(Parser(), stream, 1)
    assert (chunked.last_event_id, chunked.retry_ms, chunked.comments_seen, chunked.bytes_seen) == (
        whole.last_event_id, whole.retry_ms, whole.comments_seen, whole.bytes_seen,
    )  # fmt: skip


# --- judged by others' parsers -----------------------------------------------------------------------------------


def read_with_sseclient(stream: bytes) -> list[tuple[str, str]]:
    return [(event.event, event.data) for event in sseclient.SSEClient(iter([stream])).events()]


def read_with_httpx_sse(stream: bytes) -> list[tuple[str, str, str, int | None]]:
    decoder = httpx_sse._decoders.SSEDecoder()
    events = (decoder.decode(line) for line in re.split("\r\n|\r|\n", stream.decode())[:-1])
    return [(event.event, event.data, event.id, event.retry) for event in events if event is not None]


def frame_of_ours(name: str, data: str, cursor: str, retry_ms: int | None) -> bytes:
    frame = encode_text(data, type=name, id=cursor)
    return frame if retry_ms is None else sse.with_retry(frame, retry_ms)


frames_of_ours = st.lists(
    st.builds(
        frame_of_ours,
        types,
        # httpx-sse and sseclient drop an event whose data is empty; sseclient splits lines where only Unicode does.
        st.text(st.characters(codec="ascii", exclude_characters="\x0b\x0c\x1c\x1d\x1e"), min_size=1).filter(str.strip),
        st.text("abc019._-", min_size=1),
        st.none() | st.integers(0, 100_000),
    ),
    max_size=5,
)


@given(frames_of_ours)
def test_httpx_sse_reads_from_our_frames_what_our_parser_reads(frames: list[bytes]) -> None:
    stream = sse.HEARTBEAT.join(frames)
    ours = [(frame.type, frame.data, frame.last_event_id, frame.retry_ms) for frame in parse(stream)]
    assert read_with_httpx_sse(stream) == ours


@given(frames_of_ours)
def test_sseclient_reads_from_our_frames_what_our_parser_reads(frames: list[bytes]) -> None:
    stream = sse.HEARTBEAT.join(frames)
    assert read_with_sseclient(stream) == [(frame.type, frame.data) for frame in parse(stream)]
