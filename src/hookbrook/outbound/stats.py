"""What the dispatcher tells of itself."""

from collections.abc import Mapping
from dataclasses import dataclass

from hookbrook.core.delivery import Happening


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """The dispatcher's state at one moment, for metrics."""

    #: Endpoints that have something to do.
    lanes: int
    #: Attempts under way.
    in_flight: int
    #: Deliveries known in memory that wait for a slot, and the bytes that they take.
    queued: int
    queued_bytes: int
    #: Outcomes that wait for the table.
    unrecorded: int
    #: Since the start: outcomes by kind, attempts ended by our own errors, failed writes of outcomes, outcomes that
    #: could not be written.
    outcomes: Mapping[Happening, int]
    internal_errors: int
    #: Attempts that did not come about, for want of a socket or of the proxy.
    prevented: int
    record_failures: int
    set_aside: int

    @property
    def repeatable(self) -> int:
        """What would be sent twice if the process were killed now."""
        return self.in_flight + self.unrecorded
