"""The endpoint: a customer's URL to which webhooks are sent, and what it asked for."""

from typing import Final, Literal

import msgspec

from hookbrook.core.credential import Credential
from hookbrook.core.event import DEFAULT_TENANT

#: What one endpoint may have in flight at once unless it says otherwise.
DEFAULT_CONCURRENCY = 10
MAX_CONCURRENCY = 1000
#: One request in a quarter of an hour; and more than one process can send.
MIN_RATE = 0.001
MAX_RATE = 10_000.0
#: Standard Webhooks 1.0 advises 15 to 30 seconds.
DEFAULT_TIMEOUT_S = 20.0
#: For the address, the connection and TLS together.
DEFAULT_CONNECT_TIMEOUT_S = 10.0
MAX_TIMEOUT_S = 120.0
#: What an endpoint may ask to be signed with (Standard Webhooks 1.0): a shared secret, and an Ed25519 key.
SIGNATURES: Final = ("v1", "v1a")
#: What waits for what: nothing, an event for the one before it on its channel, or each for the one before it.
Ordering = Literal["none", "channel", "all"]
#: What the body of a webhook is: the event's data, the event as we show it, or a CloudEvent in one of its two modes.
Format = Literal["data", "event", "cloudevent", "cloudevent-binary"]
FORMATS: Final[tuple[Format, ...]] = ("data", "event", "cloudevent", "cloudevent-binary")
ORDERINGS: Final[tuple[Ordering, ...]] = ("none", "channel", "all")
#: The receiver answered 410; nothing has arrived for too long.
GONE: Final = "gone"
FAILING: Final = "failing"


class Retired(msgspec.Struct, frozen=True, kw_only=True):
    """A secret or signing key that a rotation has replaced, and that signs beside the new one for a while."""

    #: `whsec_…` or `whsk_…`.
    key: str
    #: Microseconds since 1970. Nothing happens then: whoever signs looks whether it has passed.
    expires: int


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    url: str
    tenant: str = DEFAULT_TENANT
    #: Type patterns; empty means every type that is not reserved.
    types: tuple[str, ...] = ()
    #: Channel patterns; empty means every channel that is not reserved.
    channels: tuple[str, ...] = ()
    #: JMESPath over the event (`core.document`); an event for which it is false is not owed. None: all are.
    filter: str | None = None
    #: JMESPath over the event; its result is the body. None: the body is as `format` says.
    transform: str | None = None
    format: Format = "data"
    #: `whsec_…`; all of them sign `v1`, the first is the one to show.
    secrets: tuple[str, ...]
    #: Which of `SIGNATURES` each webhook carries.
    signatures: tuple[str, ...] = ("v1",)
    #: `whsk_…`, which signs `v1a`; made when that is first asked for.
    signing_key: str | None = None
    retired: tuple[Retired, ...] = ()
    #: Which `Idempotency-Key` the last rotation had, digested; "" if none.
    last_rotation: str = ""
    #: Whether the three headers come a second time under the names that Svix gave them (`svix-id`, …).
    svix_headers: bool = False
    headers: dict[str, str] = {}
    #: As `headers`, and nobody is shown their values.
    secret_headers: dict[str, str] = {}
    auth: Credential | None = None
    ordering: Ordering = "none"
    #: Seconds between attempts, or None for the default schedule.
    retry: tuple[float, ...] | None = None
    concurrency: int = DEFAULT_CONCURRENCY
    #: Requests a second; None: no limit.
    rate_limit: float | None = None
    timeout_s: float = DEFAULT_TIMEOUT_S
    connect_timeout_s: float = DEFAULT_CONNECT_TIMEOUT_S
    #: Bytes of a body; a delivery with a larger one fails. None: no limit.
    max_body_bytes: int | None = None
    enabled: bool = True
    #: Why Hookbrook disabled it (one of the below); None if it did not.
    disabled_reason: str | None = None
    description: str = ""
    metadata: dict[str, str] = {}
    created: int
    updated: int
    #: Counts saves; a save on top of another revision than the one read is refused.
    revision: int = 1
    #: Declared in hookbrook.toml, and therefore read-only by API.
    declared: bool = False

    def line_of(self, channel: str) -> str | None:
        """The line in which an event of that home channel waits for those before it, or None if it need not wait."""
        if self.ordering == "none":
            return None
        return channel if self.ordering == "channel" else ""
