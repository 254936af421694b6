"""Random bytes against every recipe: a verdict, never an error, never a hang, and no name that reaches too far."""

import os
import time

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.inbound.garbage import PROVIDERS, judge

#: A run by hand takes more: `HOOKBROOK_FUZZ_EXAMPLES=100000 pytest tests/inbound/test_fuzz.py`.
EXAMPLES = int(os.environ.get("HOOKBROOK_FUZZ_EXAMPLES", "400"))


@settings(max_examples=EXAMPLES, deadline=None)
@given(provider=st.integers(0, len(PROVIDERS) - 1), data=st.binary(max_size=400))
def test_any_bytes_get_a_verdict(provider: int, data: bytes) -> None:
    judge(bytes((provider,)) + data)


def test_no_bytes_of_a_megabyte_take_long() -> None:
    hard = [
        b"[" * 1_000_000,
        b'{"a":' * 200_000,
        b'{"a":"' + b"\\u0000" * 150_000 + b'"}',
        b"&" * 1_000_000,
        b"a=%" * 300_000,
        b"\xff" * 1_000_000,
        b"1" * 1_000_000,
    ]
    for index in range(len(PROVIDERS)):
        body = hard[index % len(hard)]
        for shape in (1, 5, 9):
            begin = time.process_time()
            judge(bytes((index, shape, 3, 0, 130, 1, 132, 2, 143, 0)) + body)
            # A tenth of a second, explanation included; the bound is for a machine that does ten things at once.
            assert time.process_time() - begin < 5
