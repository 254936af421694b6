from collections.abc import Callable
from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from hookbrook.core.entropy import BLOCK_BYTES, Entropy


def numbered() -> Callable[[int], bytes]:
    """A source whose every four bytes differ."""
    numbers = count()
    return lambda size: b"".join(next(numbers).to_bytes(4, "big") for _ in range(-(-size // 4)))[:size]


@given(st.lists(st.integers(0, 3 * BLOCK_BYTES).map(lambda size: size // 4 * 4), max_size=40))
def test_as_many_bytes_as_asked_for_and_none_twice(sizes: list[int]) -> None:
    entropy = Entropy(numbered())
    taken = [entropy(size) for size in sizes]
    assert [len(each) for each in taken] == sizes
    words = [each[start : start + 4] for each in taken for start in range(0, len(each), 4)]
    assert len(set(words)) == len(words)


def test_the_source_is_asked_once_for_many() -> None:
    calls: list[int] = []

    def source(size: int) -> bytes:
        calls.append(size)
        return bytes(size)

    entropy = Entropy(source)
    for _ in range(BLOCK_BYTES // 10):
        entropy(10)
    assert calls == [BLOCK_BYTES]
