"""Time-ordered identifiers: a prefix, 48 bits of milliseconds and 80 random bits, in 26 characters.

The layout is ULID's, so ids made later sort later, which keeps the indexes that hold them appending at their right
edge. The alphabet is Crockford's base 32 in lower case.
"""

import re
from functools import lru_cache

from hookbrook.errors import Invalid

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
#: What `new_id` wants, one for each character behind the time.
ID_BYTES = 16
#: The character for a byte: for its lowest five bits.
_CHARACTERS = ALPHABET.encode() * 8

#: Long enough for a UUID with a prefix, a Slack or Stripe id, or a URN; short enough for an index.
MAX_ID_LENGTH = 256
# RFC 9110 section 5.5 wants visible characters in a field value, and ids travel as `webhook-id`.
_VISIBLE = re.compile(r"[\x21-\x7e]+\Z")


def new_id(prefix: str, now_us: int, random: bytes) -> str:
    """An id such as `evt_01j9…`.

    Args:
        prefix: without the underscore, e.g. `evt`.
        now_us: microseconds since the Unix epoch; only its milliseconds are kept.
        random: at least `ID_BYTES`, of which five bits each are kept: that is far cheaper than cutting 80 bits up.
    """
    ms = now_us // 1000
    last = f"{ALPHABET[ms >> 10 & 31]}{ALPHABET[ms >> 5 & 31]}{ALPHABET[ms & 31]}"
    return f"{_head(prefix, ms >> 15)}{last}{random[:ID_BYTES].translate(_CHARACTERS).decode()}"


@lru_cache(maxsize=16)
def _head(prefix: str, moment: int) -> str:
    """The part that all ids of some thirty seconds share."""
    return f"{prefix}_" + "".join(ALPHABET[moment >> shift & 31] for shift in range(30, -1, -5))


def check_id(field: str, value: str) -> str:
    """The id that a publisher chose, or `Invalid`: 1 to 256 visible ASCII characters, so no space, NUL, CR or LF."""
    if not value or len(value) > MAX_ID_LENGTH:
        raise Invalid.of(field, f"must have 1 to {MAX_ID_LENGTH} characters")
    if not _VISIBLE.match(value):
        raise Invalid.of(field, "may only contain visible ASCII characters")
    return value
