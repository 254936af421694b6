import json

from hypothesis import given
from hypothesis import strategies as st

from hookbrook.core.channel import PatternIndex
from hookbrook.core.sse import Parser
from hookbrook.stream.subscription import Entry, Format, Subscription

from .conftest import kept


def asking(*channels: str, **wishes: object) -> Subscription:
    return Subscription(tenant="default", channels=channels, **wishes)  # type: ignore[arg-type]


def test_a_frame_is_encoded_once_and_shared_by_all_readers() -> None:
    entry = Entry(kept(1, "a", "b"))
    for format_ in Format:
        frames = {id(entry.frame(asking(name, format=format_))) for name in ("a", "b", "*")}
        assert len(frames) == 1


def test_the_three_formats() -> None:
    entry = Entry(kept(7, type="paid", data=b'{"a":1E400}'))
    assert entry.frame(asking("a")) == b'event: paid\ndata: {"a":1E400}\nid: abcdef-7\n\n'
    for format_ in (Format.EVENT, Format.CLOUDEVENT):
        [frame] = Parser().feed(entry.frame(asking("a", format=format_)))
        # Without a name, so that `onmessage` sees it.
        assert (frame.type, frame.last_event_id) == ("message", "abcdef-7")
        assert '"data":{"a":1E400}' in frame.data
        assert json.loads(frame.data)["type"] == "paid"


def test_a_reader_is_told_only_of_the_channels_that_it_may_read() -> None:
    entry = Entry(kept(1, "a", "secret", "b"))
    guest = asking("a", format=Format.EVENT, may_see=lambda channel: channel != "secret")
    owner = asking("a", format=Format.EVENT)
    shown = [Parser().feed(entry.frame(reader))[0].data for reader in (guest, owner, guest)]
    assert [json.loads(each)["channels"] for each in shown] == [["a", "b"], ["a", "secret", "b"], ["a", "b"]]
    clouds = asking("a", format=Format.CLOUDEVENT, may_see=lambda channel: channel != "secret")
    assert b"secret" not in entry.frame(clouds)


def test_the_channel_by_which_an_event_was_found_is_named_whatever_the_rights() -> None:
    nobody = asking("b*", may_see=lambda channel: False)
    assert nobody.visible(kept(1, "a", "b1", "c")) == ("b1",)


_names = st.sampled_from(["a", "a.b", "b", "hookbrook.x"])
_patterns = st.sampled_from(["*", "a", "a*", "b", "hookbrook.*", "h*"])


@given(
    st.lists(_names, min_size=1, max_size=3), _names, st.lists(_patterns, min_size=1, max_size=3),
    st.lists(_patterns, max_size=2), st.sampled_from(["default", "other"]),
)  # fmt: skip
def test_catching_up_and_live_want_the_same(
    channels: list[str], type_: str, asked: list[str], types: list[str], tenant: str
) -> None:
    """Live readers are found by the index, those who catch up ask `wants`."""
    reader = asking(*asked, types=tuple(types))
    index: PatternIndex[str] = PatternIndex()
    for pattern in reader.channels:
        index.add(pattern, "reader")
    event = kept(1, *channels, type=type_, tenant=tenant)
    is_found = bool(index.match(event.channels)) and reader.wants_type(event.type) and tenant == reader.tenant
    assert reader.wants(event) is is_found
