"""Time-ordered identifiers: a prefix, 48 bits of milliseconds and 80 random bits, in 26 characters.

The layout is ULID's, so ids made later sort later, which keeps the indexes that hold them appending at their right
edge. The alphabet is Crockford's base 32 in lower case.
"""

import re
from functools import lru_cache

from hookbrook.errors import Invalid

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
#: Every pair of characters, so that 130 bits take 13 look-ups.
_PAIRS = tuple(a + b for a in ALPHABET for b in ALPHABET)

#: Long enough for a UUID with a prefix, a Slack or Stripe id, or a URN; short enough for an index.
MAX_ID_LENGTH = 256
# RFC 9110 section 5.5 wants visible characters in a field value, and ids travel as `webhook-id`.
_VISIBLE = re.compile(r"[\x21-\x7e]+\Z")


def new_id(prefix: str, now_us: int, random: bytes) -> str:
    """An id such as `evt_01j9…`.

    Args:
        prefix: without the underscore, e.g. `evt`.
        now_us: microseconds since the Unix epoch; only its milliseconds are kept.
        random: at least 10 random bytes.
    """
    # Two halves of 40 bits, because numbers of one machine word are several times cheaper to shift.
    high, low = int.from_bytes(random[:5], "big"), int.from_bytes(random[5:10], "big")
    pairs = _PAIRS
    return (
        f"{_head(prefix, now_us // 1000)}{pairs[high >> 30]}{pairs[high >> 20 & 1023]}{pairs[high >> 10 & 1023]}"
        f"{pairs[high & 1023]}{pairs[low >> 30]}{pairs[low >> 20 & 1023]}{pairs[low >> 10 & 1023]}{pairs[low & 1023]}"
    )


@lru_cache(maxsize=16)
def _head(prefix: str, ms: int) -> str:
    """The part that all ids of a millisecond share."""
    return f"{prefix}_" + "".join(_PAIRS[ms >> shift & 1023] for shift in (40, 30, 20, 10, 0))


def check_id(field: str, value: str) -> str:
    """The id that a publisher chose, or `Invalid`: 1 to 256 visible ASCII characters, so no space, NUL, CR or LF."""
    if not value or len(value) > MAX_ID_LENGTH:
        raise Invalid.of(field, f"must have 1 to {MAX_ID_LENGTH} characters")
    if not _VISIBLE.match(value):
        raise Invalid.of(field, "may only contain visible ASCII characters")
    return value
