"""What the API gives of deliveries and their attempts; see `models`."""

from typing import Literal

from pydantic import Field

from hookbrook.http.models import Model, Next


class AttemptResponse(Model):
    headers: list[list[str]]
    body: str
    truncated: bool


class AttemptTiming(Model):
    """Where the time went. Null: it did not come to that, or the connection was a reused one."""

    resolve_ms: float | None
    connect_ms: float | None
    tls_ms: float | None
    wait_ms: float | None = Field(description="From the connection until the answer's head was complete.")


class AttemptOut(Model):
    id: str = Field(description="The receiver saw it as `hookbrook-attempt`.")
    started_at: str
    duration_ms: float
    timing: AttemptTiming
    address: str | None
    status: int | None
    error: str | None
    message: str | None
    response: AttemptResponse


class DeliveryOut(Model):
    id: str
    tenant: str
    event_id: str
    event_type: str
    endpoint_id: str
    status: Literal["pending", "succeeded", "failed", "cancelled", "held"]
    attempts: int = Field(description="Attempts made so far.")
    next_attempt_at: str | None = Field(
        description="Null also while it waits for another one in its line; see `ordering` of the endpoint."
    )
    created_at: str
    updated_at: str
    last_status: int | None
    last_error: str | None


class DeliveryInFull(DeliveryOut):
    waits_for: str | None = Field(
        description="The delivery that has to end before this one is due, where the endpoint asks for order."
    )
    history: list[AttemptOut] = Field(description="The attempts, oldest first.")


class DeliveryList(Model):
    data: list[DeliveryOut]
    next: Next
