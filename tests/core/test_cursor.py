import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookbrook.core.cursor import Cursor, Epoch, Epochs, new_epoch
from hookbrook.errors import Invalid


@given(st.binary(min_size=6, max_size=8), st.integers(0, 10**18 - 1))
def test_a_cursor_is_read_as_it_was_written(random: bytes, seq: int) -> None:
    cursor = Cursor(new_epoch(random), seq)
    assert Cursor.parse(str(cursor)) == cursor
    # Other characters, or more of them, would cost a CORS preflight as Last-Event-ID.
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,128}", str(cursor))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "abcdef",
        "abcdef-",
        "-1",
        "abc-1",
        "abcdef-1a",
        "abcdef--1",
        "ABCDEF-1",
        "abcdef-1\n",
        " abcdef-1",
        "abcdef-٣",
        "äbcdef-1",
        "a" * 13 + "-1",
        "abcdef-" + "1" * 19,
        "abcdef-+1",
        "abcdef-1_0",
    ],
)
def test_anything_else_is_refused_and_the_field_is_named(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        Cursor.parse(text, "Last-Event-ID")
    assert refused.value.errors[0].field == "Last-Event-ID"


def test_epochs_differ_with_their_random_bytes() -> None:
    assert len({new_epoch(bytes([a, b, 0, 0, 0, 0])) for a in range(36) for b in range(36)}) == 36 * 36


# Which cursors belong to a log. The model: a log is a list of (epoch, seq), the position before its first event
# belongs to the first epoch, and every epoch knows the position at which it began.

_counts = st.lists(st.integers(0, 4), min_size=1, max_size=8)


def _log(counts: list[int]) -> tuple[Epochs, int, list[str]]:
    """Epochs in which so many events were appended, the tail, and the epoch of each event (index 0: seq 1)."""
    firsts = [1]
    for count in counts:
        firsts.append(firsts[-1] + count)
    names = [f"epoch{number}" for number in range(len(counts))]
    epochs = Epochs([Epoch(name, first) for name, first in zip(names, firsts, strict=False)])
    owners = [name for name, count in zip(names, counts, strict=True) for _ in range(count)]
    return epochs, firsts[-1] - 1, owners


@given(_counts)
def test_every_event_of_the_log_has_the_epoch_under_which_it_was_appended(counts: list[int]) -> None:
    epochs, tail, owners = _log(counts)
    assert [epochs.name_of(seq) for seq in range(1, tail + 1)] == owners


@given(_counts)
def test_every_cursor_that_the_log_hands_out_is_its_own(counts: list[int]) -> None:
    epochs, tail, _ = _log(counts)
    assert all(epochs.contains(epochs.cursor(seq), tail) for seq in range(tail + 1))


@given(_counts, st.integers(0, 9), st.integers(-1, 40))
def test_a_cursor_belongs_just_if_its_epoch_issued_it_or_began_there(counts: list[int], epoch: int, seq: int) -> None:
    epochs, tail, owners = _log(counts)
    name = f"epoch{epoch}"
    if epoch >= len(counts):
        assert not epochs.contains(Cursor(name, seq), tail)
        return
    began_at = sum(counts[:epoch])
    issued = [number for number, owner in enumerate(owners, 1) if owner == name]
    assert epochs.contains(Cursor(name, seq), tail) is (seq == began_at or seq in issued)


@given(_counts, st.integers(1, 5), st.data())
def test_a_restored_backup_does_not_know_the_cursors_that_came_after_it(
    counts: list[int], further: int, data: st.DataObject
) -> None:
    """The backup was made in the last epoch; the original went on in it, the copy opens an epoch of its own."""
    _, tail, _ = _log(counts)
    more = data.draw(st.integers(0, 5), label="appended to the copy")
    firsts = [1 + sum(counts[:number]) for number in range(len(counts))]
    copy = Epochs([*(Epoch(f"epoch{number}", first) for number, first in enumerate(firsts)), Epoch("copied", tail + 1)])
    assert not copy.contains(Cursor(f"epoch{len(counts) - 1}", tail + further), tail + more)
    assert copy.contains(Cursor(f"epoch{len(counts) - 1}", tail), tail + more)


@given(_counts)
def test_positions_sort_as_the_log_does(counts: list[int]) -> None:
    epochs, tail, _ = _log(counts)
    order = [int(epochs.cursor(seq).epoch.removeprefix("epoch")) for seq in range(1, tail + 1)]
    assert all(first <= second for first, second in pairwise(order))
