"""The clock and the chance that the exchanges are given."""

import secrets
import time

from hookbrook.core.ids import ID_BYTES, new_id

_random = secrets.SystemRandom()


def fresh_id(prefix: str) -> str:
    """A time-ordered id of now, such as `evt_01j9…`."""
    return new_id(prefix, time.time_ns() // 1000, secrets.token_bytes(ID_BYTES))


def jitter() -> float:
    """A number in [0, 1)."""
    return _random.random()
