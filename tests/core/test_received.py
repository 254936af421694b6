"""A webhook on the wire: its bytes come out as they went in."""

import json
from base64 import b64encode

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookbrook.core.event import Event
from hookbrook.core.received import (
    MAX_INLINE_BODY,
    Batch,
    Request,
    body_of,
    from_wire,
    headers_json,
    in_batch,
    judgement,
    record,
    request_of,
    to_wire,
)
from hookbrook.core.sse import Parser, encode
from hookbrook.errors import HookbrookError

RECORD = {"method": "POST", "query": "a=1", "headers": [["x-a", "1"], ["x-b", "\xe9"], ["x-a", "2"]], "verified": True}


def event(data: bytes, record: bytes | None = None) -> Event:
    return Event(
        seq=7, epoch="k3", id="evt_1", channels=("github.octocat", "all"), type="push", tenant="default",
        source="github", time=1_000_000, appended=1_000_000, content_type="application/json", kind="json", data=data,
        request=msgspec.json.encode(RECORD) if record is None else record,
    )  # fmt: skip


def sent(wire: bytes) -> str:
    """As a client of the stream gets it."""
    [frame] = Parser().feed(encode(type="message", data=wire, kind="json", id="k3-7"))
    return frame.data


def headers(values: st.SearchStrategy[bytes]) -> st.SearchStrategy[list[tuple[bytes, bytes]]]:
    return st.lists(st.tuples(st.sampled_from([b"x-a", b"x-b", b"Cookie", b"x-\xe9"]), values), max_size=4)


@given(
    headers(st.one_of(st.binary(max_size=9), st.text("ab =/", max_size=9).map(str.encode))),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=9),
    st.sampled_from(["192.0.2.1", None]),
)
def test_a_record_says_of_a_request_what_it_was(
    pairs: list[tuple[bytes, bytes]], text: str, address: str | None
) -> None:
    judged = judgement(verified=True, reason="verified", covers=("body",), provider="github")
    private = frozenset([b"cookie"])
    assert headers_json(pairs, private, dict(pairs)) == headers_json(pairs, private)
    written = record(
        ("POST", text, text),
        headers_json(pairs, private),
        address=address,
        received_at="t",
        judged=judged,
    )
    shown = [(name.decode("latin-1"), "***" if name == b"Cookie" else value.decode("latin-1")) for name, value in pairs]
    assert request_of(event(b"", written)) == Request(
        method="POST", path=text, query=text, headers=tuple(shown), address=address, received_at="t", verified=True,
        reason="verified", covers=("body",), provider="github",
    )  # fmt: skip


@given(st.binary(max_size=300))
def test_any_body_is_the_same_behind_a_stream(body: bytes) -> None:
    assert from_wire(sent(to_wire(event(body)))).raw == body


@pytest.mark.parametrize(
    "body", [b'{\r\n "a": 1E400,\n\n "a": 2}\r\n', b"\xef\xbb\xbf{}", b"", b"\0", "\u2028é😀".encode(), b"\xff\xfe"]
)
def test_bodies_that_json_or_lines_would_change_are_the_same(body: bytes) -> None:
    webhook = from_wire(sent(to_wire(event(body))))
    assert (webhook.raw, webhook.size) == (body, len(body))


def test_headers_keep_their_order_their_repetition_and_each_byte() -> None:
    request = from_wire(sent(to_wire(event(b"{}")))).request
    assert request.headers == (("x-a", "1"), ("x-b", "\xe9"), ("x-a", "2"))
    assert (request.method, request.query, request.verified) == ("POST", "a=1", True)


def test_the_facts_of_the_event_are_there_and_only_channels_that_may_be_seen() -> None:
    document = json.loads(to_wire(event(b"{}"), channels=("all",)))
    facts = {name: document[name] for name in ("id", "cursor", "source", "type", "channels", "time")}
    assert facts == {
        "id": "evt_1", "cursor": "k3-7", "source": "github", "type": "push", "channels": ["all"],
        "time": "1970-01-01T00:00:01Z",
    }  # fmt: skip


def test_a_body_beyond_the_limit_is_left_out_and_its_size_told() -> None:
    assert from_wire(to_wire(event(b"x" * MAX_INLINE_BODY))).raw == b"x" * MAX_INLINE_BODY
    webhook = from_wire(to_wire(event(b"x" * (MAX_INLINE_BODY + 1))))
    assert (webhook.raw, webhook.size) == (None, MAX_INLINE_BODY + 1)


def test_the_first_of_several_events_carries_the_whole_body_and_the_others_their_part() -> None:
    whole = b'[ {"a": 1},\n{"a": 2} ]'
    first, second = in_batch(msgspec.json.encode(RECORD), ["evt_1", "evt_2"], whole)
    head, tail = event(b'{"a": 1}', first), event(b'{"a": 2}', second)
    assert (body_of(head), body_of(tail)) == (whole, b'{"a": 2}')
    shown = from_wire(sent(to_wire(head)))
    assert (shown.raw, shown.request.batch) == (whole, Batch(first="evt_1", index=0, count=2))
    assert shown.request.body_base64 is msgspec.UNSET
    assert from_wire(to_wire(tail)).request.batch == Batch(first="evt_1", index=1, count=2)
    assert request_of(head).headers == request_of(event(b"")).headers


def test_what_was_published_has_an_empty_request() -> None:
    published = msgspec.structs.replace(event(b"1"), request=None, source=None)
    assert from_wire(to_wire(published)).request.headers == ()


@pytest.mark.parametrize("document", ["", "{}", "[]", "\ud800", '{"id": 1}'])
def test_what_is_no_webhook_is_told(document: str) -> None:
    with pytest.raises(HookbrookError, match="no webhook"):
        from_wire(document.encode("utf-8", "replace"))


def test_a_body_that_is_not_base64_is_told() -> None:
    good = json.loads(to_wire(event(b"\xff")))
    assert good["body_base64"] == b64encode(b"\xff").decode()
    with pytest.raises(HookbrookError, match="no webhook"):
        from_wire(json.dumps(good | {"body_base64": "/"}))
