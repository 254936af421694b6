"""Jobs: work over many events or deliveries that outlasts a restart.

    recover   send again what ended without arriving (or in other states), over a time and a filter
    replay    owe past events to one endpoint, also those it never was owed
    erase     remove a whole tenant

A job is done in pieces. What a piece changes and how far it got are kept in one transaction, so that a process which is
killed in the middle goes on where it stopped, and does no piece twice. What a job makes due counts as a retry, not as
a first attempt: it takes the retries' share of its endpoint and delays no fresh event.
"""

from enum import StrEnum
from typing import Final

import msgspec

from hookbrook.core.channel import matches_any
from hookbrook.core.delivery import State
from hookbrook.core.event import DEFAULT_TENANT, format_time
from hookbrook.errors import Conflict, Invalid

#: Deliveries a second; and more than one process can send.
MIN_JOB_RATE = 0.01
MAX_JOB_RATE = 10_000.0
#: What can be sent again: what has ended.
RECOVERABLE: Final = (State.FAILED, State.CANCELLED, State.SUCCEEDED)


class JobKind(StrEnum):
    RECOVER = "recover"
    REPLAY = "replay"
    ERASE = "erase"


class JobState(StrEnum):
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"
    #: It could not go on; `error` says why.
    FAILED = "failed"


class Which(StrEnum):
    """Which past events a replay sends."""

    #: Those that the endpoint was never owed.
    MISSING = "missing"
    #: These, and those whose delivery has failed or was cancelled.
    UNDELIVERED = "undelivered"
    #: These, and those that have arrived.
    ALL = "all"


#: In which states a delivery that is there is sent again by a replay.
RESENT_BY: Final = {
    Which.MISSING: (),
    Which.UNDELIVERED: (State.FAILED, State.CANCELLED),
    Which.ALL: RECOVERABLE,
}


class Job(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    tenant: str = DEFAULT_TENANT
    kind: JobKind
    state: JobState = JobState.RUNNING
    #: None: of all endpoints (recover), or of none (erase).
    endpoint_id: str | None = None
    #: Patterns that narrow it; none narrow nothing.
    types: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    #: Recover: what is sent again. When it was created, at or after, and before.
    states: tuple[State, ...] = ()
    since: int | None = None
    until: int | None = None
    which: Which = Which.UNDELIVERED
    #: Deliveries a second; None: as fast as the store takes them.
    rate: float | None = None
    #: Count, and change nothing.
    dry_run: bool = False
    description: str = ""
    #: How far it got: the last seq (replay, erase) or delivery id (recover) that was dealt with; "" at the start.
    position: str = ""
    #: The last seq that it deals with (replay, erase).
    end: int = 0
    #: What was looked at, what of it was sent (or would be), and what could not be, or need not.
    looked_at: int = 0
    sent: int = 0
    skipped: int = 0
    error: str | None = None
    created: int
    updated: int
    #: Counts saves, as of every record.
    revision: int = 1

    def narrows_to(self, channels: tuple[str, ...], type: str) -> bool:
        """Whether an event on these channels, of this type, is within the job's own patterns."""
        if self.types and not matches_any(self.types, type):
            return False
        return not self.channels or any(matches_any(self.channels, channel) for channel in channels)

    def as_json(self) -> dict[str, object]:
        return {
            "id": self.id,
            "tenant": self.tenant,
            "kind": str(self.kind),
            "status": str(self.state),
            "endpoint_id": self.endpoint_id,
            "types": list(self.types),
            "channels": list(self.channels),
            "statuses": [str(state) for state in self.states],
            "since": None if self.since is None else format_time(self.since),
            "until": None if self.until is None else format_time(self.until),
            "which": str(self.which) if self.kind is JobKind.REPLAY else None,
            "rate": self.rate,
            "dry_run": self.dry_run,
            "description": self.description,
            "looked_at": self.looked_at,
            "sent": self.sent,
            "skipped": self.skipped,
            "error": self.error,
            "created_at": format_time(self.created),
            "updated_at": format_time(self.updated),
        }


def ended(job: Job, state: JobState, now: int, error: str | None = None) -> Job:
    """The job as it is after its end. Raises `Conflict` if it has ended already."""
    if job.state is not JobState.RUNNING:
        raise Conflict(f"The job is {job.state} already.")
    return moved(job, now, state=state, error=error)


def moved(job: Job, now: int, **changes: object) -> Job:
    """The job with changes, to be saved on top of the one that was read."""
    return msgspec.structs.replace(job, **changes, updated=now, revision=job.revision + 1)


def check_job(job: Job) -> None:
    """Raises `Invalid` for what a person may not ask of a job, beyond its patterns."""
    if job.rate is not None and not MIN_JOB_RATE <= job.rate <= MAX_JOB_RATE:
        raise Invalid.of("rate", f"must be between {MIN_JOB_RATE:g} and {MAX_JOB_RATE:g}")
    if job.since is not None and job.until is not None and job.since >= job.until:
        raise Invalid.of("until", "must be later than since")
    for state in job.states:
        if state not in RECOVERABLE:
            raise Invalid.of("statuses", f"must be some of {', '.join(RECOVERABLE)}")
