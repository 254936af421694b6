"""Catching up with pieces of text merged: over channels, page borders and slow clients it is the same text."""

import asyncio
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from hookbrook.core.event import JSON_TYPE, TEXT_TYPE, Event
from hookbrook.core.sse import Frame
from hookbrook.stream.position import Start
from hookbrook.stream.subscription import Format

from .conftest import CONTROL, MemorySink, Rig, fresh_rig, seq_of

PIECE: dict[str, Any] = {"merge": "reply", "kind": "text", "content_type": TEXT_TYPE}


async def test_four_thousand_words_come_as_a_few_events_and_live_word_by_word(small_rig: Rig) -> None:
    live = small_rig.open("a", merge=True)
    for _ in range(8):
        await small_rig.publish("a", count=500, data=b"word ", **PIECE)
    late = small_rig.open("a", merge=True, start=Start(after=0))
    await small_rig.settled(late)
    assert len(live.frames) == 4000
    assert len(late.frames) <= 25
    assert "".join(frame.data for frame in late.frames) == "word " * 4000
    assert seq_of(late.frames[-1]) == 4000
    await small_rig.publish("a", data=b"more", **PIECE)
    assert late.frames[-1].data == "more"


async def test_who_does_not_ask_gets_every_event_as_it_was_published(small_rig: Rig) -> None:
    await small_rig.publish("a", count=50, data=b"word ", **PIECE)
    sink = small_rig.open("a", start=Start(after=0))
    await small_rig.settled(sink)
    assert sink.seqs == list(range(1, 51))


async def test_as_a_whole_event_a_merged_one_is_the_last_with_the_text_of_all(small_rig: Rig) -> None:
    await small_rig.publish("a", count=20, data=b"w", **PIECE)
    sink = small_rig.open("a", merge=True, format=Format.EVENT, start=Start(after=0))
    await small_rig.settled(sink)
    document = json.loads(sink.frames[-1].data)
    assert document["data"].startswith("ww")
    assert (document["id"], document["merge"]) == ("e19", "reply")


async def test_what_stands_between_on_a_channel_that_is_not_read_does_not_part_the_pieces(rig: Rig) -> None:
    for _ in range(5):
        await rig.publish("a", data=b"w", **PIECE)
        await rig.publish("b")
    sink = rig.open("a", merge=True, start=Start(after=0))
    await rig.settled(sink)
    assert [(frame.data, seq_of(frame)) for frame in sink.frames] == [("wwwww", 9)]


_data = st.sampled_from(
    [
        *[("text", TEXT_TYPE, word) for word in ("a", "b ", "", "\r", "\nx", "é" * 30)],
        *[("json", JSON_TYPE, word) for word in ('"a"', '"\\n"', '"\\ud83d"', '"\\ude00"', "1", '{"a":1}')],
    ]
)
_events = st.lists(
    st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(["", "k", "k", "l"]), _data, st.integers(1, 9)),
    min_size=1, max_size=25,
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(
    drawn=_events,
    max_entries=st.sampled_from([4, 30, 1000]),
    limit=st.sampled_from([1, 100, 1 << 30]),
    channels=st.sampled_from([("a",), ("a", "b"), ("*",)]),
)
def test_at_whatever_borders_it_is_the_same_text_in_the_same_order(
    drawn: list[Any], max_entries: int, limit: int, channels: tuple[str, ...]
) -> None:
    async def run() -> None:
        async with fresh_rig(max_entries=max_entries) as rig:
            for channel, key, (kind, content_type, data), count in drawn:
                fields = {"merge": key, "kind": kind, "content_type": content_type, "data": data.encode()}
                await rig.publish(channel, count=count, **fields)
            sink = rig.open(*channels, merge=True, start=Start(after=0), sink=MemorySink(limit=limit))
            while True:
                await rig.settled(sink)
                assert sink.excess <= sink.largest
                if not sink.drain():
                    break
            check(sink.frames, [event for event in rig.log if event.channels[0] in channels or channels == ("*",)])

    asyncio.run(run())


def check(frames: list[Frame], expected: list[Event]) -> None:
    """Each frame is one of the events, or several neighbours that are pieces of one text."""
    place = 0
    for frame in frames:
        assert frame.type not in CONTROL
        parts = [event for event in expected[place:] if event.seq <= seq_of(frame)]
        assert parts[-1].seq == seq_of(frame)
        if len(parts) > 1:
            assert len({(part.merge, part.channels, part.kind) for part in parts}) == 1
            assert parts[0].merge
            assert seen(frame.data, parts[0]) == "".join(seen(_plain(part), part) for part in parts)
        else:
            assert seen(frame.data, parts[0]) == seen(_plain(parts[0]), parts[0])
        place += len(parts)
    assert place == len(expected)


def _plain(event: Event) -> str:
    text = event.data.decode()
    return text.replace("\r\n", "\n").replace("\r", "\n") if event.kind == "text" else text


def seen(data: str, event: Event) -> Any:
    return json.loads(data) if event.kind == "json" else data
