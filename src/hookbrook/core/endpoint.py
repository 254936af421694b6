"""The endpoint: a customer's URL to which webhooks are sent, and what it asked for."""

import msgspec

from hookbrook.core.event import DEFAULT_TENANT

#: What one endpoint may have in flight at once unless it says otherwise.
DEFAULT_CONCURRENCY = 10
MAX_CONCURRENCY = 1000
#: Standard Webhooks 1.0 advises 15 to 30 seconds.
DEFAULT_TIMEOUT_S = 20.0
MAX_TIMEOUT_S = 120.0


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    url: str
    tenant: str = DEFAULT_TENANT
    #: Type patterns; empty means every type that is not reserved.
    types: tuple[str, ...] = ()
    #: Channel patterns; empty means every channel that is not reserved.
    channels: tuple[str, ...] = ()
    #: `whsec_…`; the first signs, the others too while a rotation overlaps.
    secrets: tuple[str, ...]
    headers: dict[str, str] = {}
    #: Seconds between attempts, or None for the default schedule.
    retry: tuple[float, ...] | None = None
    concurrency: int = DEFAULT_CONCURRENCY
    timeout_s: float = DEFAULT_TIMEOUT_S
    enabled: bool = True
    description: str = ""
    metadata: dict[str, str] = {}
    created: int
    updated: int
    #: Counts saves; a save on top of another revision than the one read is refused.
    revision: int = 1
    #: Declared in hookbrook.toml, and therefore read-only by API.
    declared: bool = False
