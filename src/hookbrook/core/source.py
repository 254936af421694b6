"""The source: a place where one provider's webhooks arrive, `POST /in/{name}`."""

import msgspec

from hookbrook.core.event import DEFAULT_TENANT


class Source(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    #: The path in `/in/{name}`; unique in an installation.
    name: str
    provider: str
    tenant: str = DEFAULT_TENANT
    #: All are tried, so that a rotation can overlap.
    secrets: tuple[str, ...] = ()
    #: Template of the channel; None means the source's name.
    channel: str | None = None
    #: Template of the type; None means the provider's event type.
    type: str | None = None
    #: Template of the id by which repeats are known; None means the provider's own, or else the hash of the body.
    dedupe: str | None = None
    #: For how long a repeat is known for one; 0 takes every webhook for a new one, None means as the provider needs.
    dedupe_window_s: float | None = None
    #: Networks from which webhooks may come, beside a signature that holds; none means any.
    networks: tuple[str, ...] = ()
    #: What stands before `/in/{name}` in the address that the provider was given; None means the installation's.
    public_url: str | None = None
    #: False: what fails verification is kept and flagged instead of being refused.
    enforce: bool = True
    enabled: bool = True
    description: str = ""
    created: int
    updated: int
    revision: int = 1
    #: Declared in hookbrook.toml, and therefore read-only by API.
    declared: bool = False
