"""Time-ordered identifiers: a prefix, 48 bits of milliseconds and 80 random bits, in 26 characters.

The layout is ULID's, so ids made later sort later, which keeps the indexes that hold them appending at their right
edge. The alphabet is Crockford's base 32 in lower case.
"""

import re

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
    number = (now_us // 1000) << 80 | int.from_bytes(random[:10], "big")
    pairs = _PAIRS
    return (
        f"{prefix}_{pairs[number >> 120]}{pairs[number >> 110 & 1023]}{pairs[number >> 100 & 1023]}"
        f"{pairs[number >> 90 & 1023]}{pairs[number >> 80 & 1023]}{pairs[number >> 70 & 1023]}"
        f"{pairs[number >> 60 & 1023]}{pairs[number >> 50 & 1023]}{pairs[number >> 40 & 1023]}"
        f"{pairs[number >> 30 & 1023]}{pairs[number >> 20 & 1023]}{pairs[number >> 10 & 1023]}{pairs[number & 1023]}"
    )


def check_id(field: str, value: str) -> str:
    """The id that a publisher chose, or `Invalid`: 1 to 256 visible ASCII characters, so no space, NUL, CR or LF."""
    if not value or len(value) > MAX_ID_LENGTH:
        raise Invalid.of(field, f"must have 1 to {MAX_ID_LENGTH} characters")
    if not _VISIBLE.match(value):
        raise Invalid.of(field, "may only contain visible ASCII characters")
    return value
