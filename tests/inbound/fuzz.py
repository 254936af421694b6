"""The same as `test_fuzz.py` under atheris, which follows the code's branches:

    pip install atheris
    python -m tests.inbound.fuzz -max_total_time=60

Ends with a trace and the bytes if anything but a verdict comes out. Not among the locked dependencies: it is for
finding something new, and what it finds becomes a case of `test_fuzz.py`.
"""

import sys
from importlib import import_module


def main() -> None:
    atheris = import_module("atheris")
    with atheris.instrument_imports(include=["hookbrook.inbound", "hookbrook.http.intake"]):
        garbage = import_module("tests.inbound.garbage")
    atheris.Setup(sys.argv, garbage.judge)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
