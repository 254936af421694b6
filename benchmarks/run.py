"""`make bench`: every number that the documentation shows, each beside its limit, measured in this one run."""

import platform
import sys
import time

import arrival
import deliver
import publish_batch
import publish_single
import receive
import receive_pace
import streams
import telling
import verify
from harness import PAIRS, SECONDS

SCRIPTS = (publish_single, publish_batch, deliver, arrival, receive, receive_pace)


def main() -> None:
    print(f"Python {platform.python_version()}, {PAIRS} pairs of {SECONDS:g} s each; median, and the spread.")
    begin = time.monotonic()
    for script in SCRIPTS:
        script.measure().report()
        sys.stdout.flush()
    for outcome in verify.measure():
        outcome.report()
    telling.main()
    streams.main()
    print(f"\nThis took {time.monotonic() - begin:.0f} s.")


if __name__ == "__main__":
    main()
