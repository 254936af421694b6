"""What the API takes and gives of jobs and explanations; see `models`."""

from typing import Literal

from pydantic import Field

from hookbrook.http.delivery_models import DeliveryOut
from hookbrook.http.models import Model, Next


class ReplayIn(Model):
    """Which past events an endpoint is sent, and how fast."""

    since: str | None = Field(default=None, description="RFC 3339, or how long ago: `2h`. Null: from the beginning.")
    until: str | None = Field(default=None, description="Likewise; null: until now.")
    types: list[str] = Field(default=[], description="Type patterns that narrow it.")
    channels: list[str] = Field(default=[], description="Channel patterns that narrow it.")
    which: Literal["missing", "undelivered", "all"] = Field(
        default="undelivered",
        description="Replay: events that the endpoint was never owed; those, and what has failed or was cancelled; or"
        " those, and what has arrived.",
    )
    rate: float | None = Field(default=None, description="Deliveries a second; null sets no limit.")
    dry_run: bool = Field(default=False, description="Count, and send nothing.")
    description: str = ""


class JobIn(ReplayIn):
    """Work over many events or deliveries, which outlasts a restart."""

    kind: Literal["recover", "replay"]
    endpoint_id: str | None = Field(default=None, description="Required for a replay; null recovers of all endpoints.")
    statuses: list[Literal["failed", "cancelled", "succeeded"]] = Field(
        default=["failed"], description="Recover: the deliveries that are sent again.", min_length=1
    )
    tenant: str | None = None


class JobOut(Model):
    id: str
    tenant: str
    kind: Literal["recover", "replay", "erase"]
    status: Literal["running", "done", "cancelled", "failed"]
    endpoint_id: str | None
    types: list[str]
    channels: list[str]
    statuses: list[str]
    since: str | None
    until: str | None
    which: str | None
    rate: float | None
    dry_run: bool
    description: str
    looked_at: int = Field(description="Deliveries (recover) or events (replay) that it has dealt with.")
    sent: int = Field(description="What of it was sent, or would be (dry run); for an erasure, what was removed.")
    skipped: int = Field(description="What could not be sent, or need not: gone, in another state, or owed already.")
    error: str | None
    created_at: str
    updated_at: str


class JobList(Model):
    data: list[JobOut]
    next: Next


class ExplanationOut(Model):
    endpoint_id: str
    url: str | None = Field(description="Null: the endpoint was deleted.")
    enabled: bool
    owed: bool
    reason: Literal["owed", "created_after", "type", "channel", "reserved", "filter", "changed"]
    why: str = Field(description="A sentence for people.")
    changed_since: bool = Field(
        description="The endpoint was changed after the event was accepted, and is judged as it is now."
    )
    delivery: DeliveryOut | None


class Explanations(Model):
    event_id: str
    tenant: str
    accepted_at: str
    data: list[ExplanationOut]
    next: Next
