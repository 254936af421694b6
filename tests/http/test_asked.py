"""What a stream's URL asks for, and what of it is remembered."""

import pytest

from hookbrook.errors import Invalid
from hookbrook.http.asked import MAX_REMEMBERED, MAX_REMEMBERED_BYTES, NOW, Asking, Beginning
from hookbrook.stream.subscription import Format


def test_everything_that_can_be_asked_for() -> None:
    raw = b"channel=a&channel=b.*&type=t&format=event&control=1&merge=1&after=k3f9-1"
    asked = Asking(100)("acme", None, raw)
    subscription = asked.subscription
    assert (subscription.tenant, subscription.channels, subscription.types) == ("acme", ("a", "b.*"), ("t",))
    assert (subscription.format, subscription.control, subscription.merge) == (Format.EVENT, True, True)
    assert asked.beginning == Beginning(after="k3f9-1")


@pytest.mark.parametrize(
    ("raw", "beginning"),
    [
        (b"", NOW),
        (b"last=3", Beginning(last=3)),
        (b"last=0", Beginning(last=0)),
        (b"since=2h", Beginning(since="2h")),
        (b"after=", Beginning(after="")),
        (b"after=a-1&lastEventId=a-2", Beginning(seen="a-2")),
        (b"last-event-id=a-3&lastEventId=", Beginning(seen="a-3")),
    ],
)
def test_where_it_begins(raw: bytes, beginning: Beginning) -> None:
    assert Asking(100)("acme", "a", raw).beginning == beginning


@pytest.mark.parametrize(
    "raw", [b"after=a-1&last=1", b"last=x", b"last=10001", b"format=request", b"control=2", b"channel=a&channel=b"]
)
def test_what_cannot_be_is_refused_every_time(raw: bytes) -> None:
    asking = Asking(1)
    for _ in range(2):
        with pytest.raises(Invalid):
            asking("acme", None, raw)


def test_who_asks_for_the_same_shares_the_answer_and_nobody_else() -> None:
    asking = Asking(100)
    first = asking("acme", "a", b"type=t")
    assert asking("acme", "a", b"type=t") is first
    others = [asking("other", "a", b"type=t"), asking("acme", "b", b"type=t"), asking("acme", None, b"type=t")]
    assert [each.subscription.tenant for each in others] == ["other", "acme", "acme"]
    assert [each.subscription.channels for each in others] == [("a",), ("b",), ()]


@pytest.mark.parametrize(
    "raw",
    [b"token=secret", b"%74oken=secret", b"after=a-1", b"last=5", b"&".join([b"type=x"] * (MAX_REMEMBERED_BYTES // 6))],
)
def test_what_only_one_reader_asks_for_is_not_remembered(raw: bytes) -> None:
    asking = Asking(100)
    assert asking("acme", "a", raw) is not asking("acme", "a", raw)


def test_so_many_are_remembered_and_the_oldest_is_forgotten_first() -> None:
    asking = Asking(100)
    oldest, second = asking("acme", "a", b""), asking("acme", "b", b"")
    for number in range(MAX_REMEMBERED - 1):
        asking("acme", f"c.{number}", b"")
    assert asking("acme", "b", b"") is second
    assert asking("acme", "a", b"") is not oldest
