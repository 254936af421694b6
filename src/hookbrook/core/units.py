"""Durations and sizes as people write them: `30d`, `1h30m`, `250ms`; `25MiB`, `1.5MB`.

A bare number is seconds or bytes. Both functions raise ValueError with a sentence that says what may be written and
does not repeat the text, so that the caller can name the setting or the parameter.
"""

import math
import re

_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h|d|w))+\Z")
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d|w)")
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?\Z")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]{0,3})\Z")

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_BYTES = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}

#: Longer than any duration or size that a person writes; also keeps `int` and `float` away from endless digits.
MAX_LENGTH = 40
#: A hundred years and more are a mistake, and would overflow the clock's arithmetic further on.
MAX_DURATION_S = 100 * 366 * 86400.0

_DURATION_HELP = "must be a duration such as 15s, 250ms, 1h30m or 30d"
_SIZE_HELP = "must be a size such as 1MiB, 500kB or a number of bytes"


def parse_duration(text: str) -> float:
    """Seconds. Units are ms, s, m, h, d and w, and may follow one another; a bare number is seconds."""
    text = text.strip()
    if len(text) > MAX_LENGTH:
        raise ValueError(_DURATION_HELP)
    if _NUMBER.match(text):
        seconds = float(text)
    elif _DURATION.match(text):
        seconds = math.fsum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
    else:
        raise ValueError(_DURATION_HELP)
    if seconds > MAX_DURATION_S:
        raise ValueError("must not be longer than 100 years")
    return seconds


def parse_size(text: str) -> int:
    """Whole bytes. `kB`, `MB` and `GB` are powers of 1000, `KiB`, `MiB` and `GiB` of 1024, in any case of letters."""
    text = text.strip()
    found = _SIZE.match(text) if len(text) <= MAX_LENGTH else None
    if found is None or found[2].lower() not in _BYTES:
        raise ValueError(_SIZE_HELP)
    size = float(found[1]) * _BYTES[found[2].lower()]
    if "." not in found[1]:
        return int(found[1]) * _BYTES[found[2].lower()]
    if not size.is_integer():
        raise ValueError(_SIZE_HELP)
    return int(size)


def format_duration(seconds: float) -> str:
    """The shortest form that `parse_duration` reads back: 2592000 is `30d`."""
    for unit in ("d", "h", "m", "s"):
        if seconds and seconds % _SECONDS[unit] == 0:
            return f"{int(seconds / _SECONDS[unit])}{unit}"
    return f"{seconds:g}s"


def format_size(size: int) -> str:
    """The shortest exact form that `parse_size` reads back: 1048576 is `1MiB`."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)
