import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookbrook.core.ids import ALPHABET, MAX_ID_LENGTH, check_id, new_id
from hookbrook.errors import Invalid

_random = st.binary(min_size=16, max_size=16)
#: Up to the year 10889, where 48 bits of milliseconds end.
_times = st.integers(0, (1 << 48) * 1000 - 1)


@given(_times, _random)
def test_an_id_is_its_time_and_its_random_bits_in_base_32(now: int, random: bytes) -> None:
    prefix, _, text = new_id("evt", now, random).partition("_")
    assert (prefix, len(text)) == ("evt", 26)
    digits = [ALPHABET.index(character) for character in text]
    ms = 0
    for digit in digits[:10]:
        ms = ms * 32 + digit
    assert ms == now // 1000
    assert digits[10:] == [byte % 32 for byte in random]


@given(_times, _times, _random, _random)
def test_ids_made_in_a_later_millisecond_sort_later(one: int, two: int, first: bytes, second: bytes) -> None:
    if one // 1000 < two // 1000:
        assert new_id("dlv", one, first) < new_id("dlv", two, second)


@given(st.text(alphabet=st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=MAX_ID_LENGTH))
def test_a_publisher_may_choose_any_visible_ascii(value: str) -> None:
    assert check_id("id", value) == value


@pytest.mark.parametrize("value", ["", "x" * (MAX_ID_LENGTH + 1), "a b", "a\n", "\r", "a\0", "\x7f", "ä", "\ud800"])
def test_any_other_id_is_refused(value: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_id("data[0].id", value)
    assert refused.value.errors[0].field == "data[0].id"
