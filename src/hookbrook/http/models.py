"""What the management API takes and gives, as its documentation shows it.

Unknown fields are refused, and types are not bent (`"5"` is no number). What the values may be is judged by
`core.registration`, which hookbrook.toml goes through as well.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from hookbrook.core.endpoint import (
    DEFAULT_CONCURRENCY,
    DEFAULT_CONNECT_TIMEOUT_S,
    DEFAULT_TIMEOUT_S,
    Format,
    Ordering,
)
from hookbrook.core.rotation import DEFAULT_OVERLAP_S

ScopeName = Literal["admin", "publish", "subscribe", "ingest"]

Retry = Annotated[
    Any,
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "array", "items": {"type": "number"}},
                {
                    "type": "object",
                    "properties": {
                        "base_s": {"type": "number"},
                        "factor": {"type": "number"},
                        "max_s": {"type": "number"},
                        "attempts": {"type": "integer"},
                    },
                    "required": ["base_s"],
                },
                {"type": "null"},
            ]
        }
    ),
]
Secret = Annotated[str, Field(max_length=4096)]
Next = Annotated[str | None, Field(description="Send it as `page=` for what follows; null at the end.")]


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class SourceIn(Model):
    """A place where one provider's webhooks arrive."""

    name: str = Field(description="The path in `/in/{name}`; unique in this installation.", examples=["billing"])
    provider: str = Field(description="A row of `GET /v1/providers`.", examples=["stripe"])
    secrets: list[Secret] = Field(
        default=[],
        description="What the provider signs with; all are tried, so that a rotation can overlap. Write-only: shown as"
        " hints (`…9f3a`), and a hint sent back stands for the secret that it was made from.",
    )
    channel: str | None = Field(
        default=None,
        description="Template of the channel, by default the source's name.",
        examples=["github.{body.repository.full_name}"],
    )
    type: str | None = Field(default=None, description="Template of the type, by default the provider's event type.")
    tenant: str | None = Field(default=None, description="Whose events these are; cannot be changed.")
    dedupe: str | None = Field(
        default=None,
        description="Template of the id by which repeats are known, by default the provider's own, or else a hash.",
        examples=["{body.order.id}"],
    )
    dedupe_window_s: float | None = Field(
        default=None,
        description="For how long a repeat is known for one, by default as long as the provider needs; 0 takes every"
        " webhook for a new one.",
    )
    networks: list[str] = Field(
        default=[],
        description="Networks from which webhooks may come, beside a signature that holds; none means any.",
        examples=[["192.30.252.0/22"]],
    )
    public_url: str | None = Field(
        default=None,
        description="What stands before `/in/{name}` in the address that the provider was given, if that is not the"
        " installation's.",
        examples=["https://hooks.example.com"],
    )
    enforce: bool = Field(
        default=True,
        description="If false, what fails verification is kept, flagged, on `hookbrook.unverified.{name}`.",
    )
    enabled: bool = True
    description: str = ""


class Received(Model):
    """What became of webhooks since the start of the process that answers."""

    accepted: int
    duplicate: int = Field(description="Repeats; answered as the first was, and not kept again.")
    unverified: int = Field(description="Kept although they failed, because the source does not enforce.")
    refused: int
    challenge: int = Field(description="Questions of the provider that were answered.")


class SourceOut(Model):
    id: str
    name: str
    provider: str
    tenant: str
    url: str = Field(description="Where the provider sends its webhooks to.")
    secrets: list[str] = Field(description="Hints.")
    channel: str | None
    type: str | None
    dedupe: str | None
    dedupe_window_s: float = Field(description="Seconds; the provider's if the source has none of its own.")
    networks: list[str]
    public_url: str | None
    enforce: bool
    enabled: bool
    description: str
    declared: bool = Field(description="Declared in hookbrook.toml, and therefore read-only here.")
    received: Received
    created_at: str
    updated_at: str


class SourceMade(SourceOut):
    secret: str | None = Field(
        default=None, description="A secret that was made for this source because none was given. Shown only now."
    )


class FailedRequest(Model):
    method: str
    path: str
    query: str
    headers: list[list[str]] = Field(description="As they came; values of credentials are `***`.")
    address: str | None
    size: int = Field(description="Bytes of the whole body.")
    body: str | None = Field(description="Its beginning, if that is text.")
    body_base64: str | None = Field(description="Its beginning, if that is no text.")


class FailureOut(Model):
    """A webhook that could not be verified, and why."""

    id: str
    received_at: str
    reason: str = Field(description="What the caller was told.")
    detail: str
    cause: str = Field(description="The likely mistake, in a word.")
    explanation: str = Field(description="The same in a sentence, with what to do.")
    proven: bool = Field(description="Whether the signature holds once the mistake is undone.")
    skipped: int = Field(description="Failures for the same reason before this one that were counted and not kept.")
    request: FailedRequest


class BasicAuth(Model):
    """RFC 7617."""

    type: Literal["basic"]
    username: str
    password: Secret = Field(description="Write-only: shown as `***`.")


class BearerAuth(Model):
    """RFC 6750."""

    type: Literal["bearer"]
    token: Secret = Field(description="Write-only: shown as `***`.")


AuthOf = Annotated[BasicAuth | BearerAuth, Field(discriminator="type")]


class EndpointIn(Model):
    """A URL to which webhooks are sent."""

    url: str = Field(examples=["https://example.com/webhooks"])
    types: list[str] = Field(default=[], description="Type patterns; none means every type.", examples=[["invoice.*"]])
    channels: list[str] = Field(default=[], description="Channel patterns; none means every channel.")
    tenant: str | None = Field(default=None, description="Whose events it gets; cannot be changed.")
    secret: Secret | None = Field(
        default=None, description="`whsec_…`; made if absent. `GET /v1/endpoints/{id}/secret` shows it."
    )
    filter: str | None = Field(
        default=None,
        description="JMESPath over the event; what it is false for is not owed.",
        examples=["data.amount > `100`"],
    )
    transform: str | None = Field(
        default=None,
        description="JMESPath over the event; its result, as JSON, is the body.",
        examples=["{text: join(' ', ['Paid:', data.number])}"],
    )
    format: Format = Field(
        default="data",
        description="The body: the event's `data`; the `event` with its id, type and channels; or a `cloudevent`,"
        " whose attributes stand in the body or, in `cloudevent-binary`, in `ce-*` headers.",
    )
    signatures: list[Literal["v1", "v1a"]] = Field(
        default=["v1"],
        description="What each webhook is signed with: `v1` is HMAC-SHA256 by the secret, `v1a` Ed25519 by a key of"
        " ours, whose public half `GET /v1/endpoints/{id}/public-keys` shows.",
    )
    svix_headers: bool = Field(
        default=False, description="Send `svix-id`, `svix-timestamp` and `svix-signature` beside `webhook-*`."
    )
    headers: dict[str, str] = Field(
        default={}, description="Added to each request. Values of headers that name a credential are shown as `***`."
    )
    secret_headers: dict[str, Secret] = Field(
        default={}, description="As `headers`, but write-only: every value is shown as `***`, which sent back keeps it."
    )
    auth: AuthOf | None = Field(default=None, description="What the receiver wants as `Authorization`.")
    ordering: Ordering = Field(
        default="none",
        description="What a delivery waits for: nothing, the one before it on its `channel`, or the one before it of"
        " `all`. One that has failed for good or was cancelled holds up none.",
    )
    retry: Retry = Field(
        default=None,
        description="Delays between attempts in seconds (`[5, 300]`), or an exponential schedule; null is the default.",
    )
    concurrency: int = Field(default=DEFAULT_CONCURRENCY, description="Requests in flight at once.")
    rate_limit: float | None = Field(default=None, description="Requests a second; null sets no limit.")
    timeout_s: float = Field(default=DEFAULT_TIMEOUT_S, description="Seconds for one attempt.")
    connect_timeout_s: float = Field(
        default=DEFAULT_CONNECT_TIMEOUT_S, description="Of these, seconds until there is a connection."
    )
    max_body_bytes: int | None = Field(
        default=None, description="Deliveries with a larger body fail; null sets no limit."
    )
    enabled: bool = Field(default=True, description="While false, deliveries are held.")
    description: str = ""
    metadata: dict[str, str] = {}


class ExpiringKey(Model):
    hint: str
    signature: str = Field(description="`v1` or `v1a`.")
    expires_at: str


class EndpointOut(Model):
    id: str
    url: str
    types: list[str]
    channels: list[str]
    tenant: str
    filter: str | None
    transform: str | None
    format: Format
    secrets: list[str] = Field(description="Hints.")
    signatures: list[str]
    svix_headers: bool
    expiring: list[ExpiringKey] = Field(description="Replaced by a rotation, and signing until then.")
    headers: dict[str, str]
    secret_headers: dict[str, str]
    auth: AuthOf | None
    ordering: Ordering
    retry: list[float] | None
    concurrency: int
    rate_limit: float | None
    timeout_s: float
    connect_timeout_s: float
    max_body_bytes: int | None
    enabled: bool
    description: str
    metadata: dict[str, str]
    disabled_reason: str | None = Field(
        description="Why Hookbrook disabled it: `gone` (its receiver answered 410) or `failing`; null if it did not."
    )
    failing_since: str | None = Field(description="Since when every attempt has failed; null if the last arrived.")
    declared: bool = Field(description="Declared in hookbrook.toml, and therefore read-only here.")
    created_at: str
    updated_at: str


class EndpointMade(EndpointOut):
    secret: str


class SecretOut(Model):
    secret: str = Field(description="The one that signs first.")
    secrets: list[str] = Field(description="All that sign now, also those that a rotation has replaced.")


class RotateIn(Model):
    """How to replace what an endpoint's webhooks are signed with."""

    signatures: list[Literal["v1", "v1a"]] | None = Field(
        default=None, description="What gets a new key; by default all that the endpoint signs with."
    )
    overlap_s: float = Field(
        default=DEFAULT_OVERLAP_S, description="Seconds for which the old keys sign beside the new; 7 days at most."
    )
    secret: Secret | None = Field(default=None, description="The new `whsec_…`; made if absent.")


class PublicKeyOut(Model):
    key: str = Field(description="`whpk_…`.")
    kid: str = Field(description="Its thumbprint (RFC 7638), by which the key set names it.")
    expires_at: str | None = Field(description="When it stops to sign, because a rotation has replaced it.")


class PublicKeysOut(Model):
    data: list[PublicKeyOut] = Field(description="The newest first; empty if the endpoint does not sign `v1a`.")
    url: str = Field(description="The same as a JSON Web Key Set, for which nobody needs a credential.")


class Jwk(Model):
    """An Ed25519 public key (RFC 8037)."""

    kty: str
    crv: str
    x: str
    kid: str
    use: str
    alg: str


class JwkSet(Model):
    """RFC 7517 section 5."""

    keys: list[Jwk]


class KeyIn(Model):
    """An API key."""

    scopes: list[ScopeName] = Field(min_length=1, description="What it may do; `admin` includes the others.")
    tenant: str | None = None
    description: str = ""
    expires_at: str | None = Field(default=None, description="RFC 3339; null means never.")


class KeyOut(Model):
    id: str
    hint: str = Field(description="The key's last four characters.")
    scopes: list[ScopeName]
    tenant: str
    description: str
    expires_at: str | None
    created_at: str


class KeyMade(KeyOut):
    key: str = Field(description="The key itself. Shown only now.")


class TokenIn(Model):
    """A stream token: what a browser gets instead of a key."""

    sub: str = Field(default="", description="Who will use it; appears in the list of connections.")
    subscribe: list[str] = Field(default=[], description="Channel patterns that may be read.", examples=[["chat.42"]])
    publish: list[str] = Field(default=[], description="Channel patterns that may be written.")
    tenant: str | None = None
    lifetime_s: float | None = Field(default=None, description="Seconds; by default `token_lifetime`.")


class TokenOut(Model):
    id: str = Field(description="By which it can be revoked: `DELETE /v1/tokens/{id}`.")
    token: str
    expires_at: str


class ConnectionOut(Model):
    """An open stream."""

    id: str
    tenant: str
    credential: Literal["key", "token", "dev", "anonymous"] = Field(description="What it was opened with.")
    subject: str | None = Field(description="The key's id, or the token's `sub`.")
    address: str = Field(description="Where the client is; see the setting `trusted_proxies`.")
    channels: list[str] = Field(description="Channels and patterns.")
    types: list[str]
    since: str
    state: Literal["live", "catching up"]
    lag_events: int = Field(description="Events of the log that it has not got to yet; 0 while it is live.")
    lag_s: float = Field(description="Seconds since the first of those was appended.")
    bytes: int = Field(description="Sent so far.")


class Ended(Model):
    ended: int = Field(description="Streams that were ended.")


class ChannelOut(Model):
    """A channel or pattern that somebody reads."""

    channel: str
    tenant: str
    readers: int


class ProviderOut(Model):
    id: str
    title: str
    samples: list[str] = Field(description="Types of events that `POST /v1/sources/{source_id}/trigger` can send.")
    covers: list[str] = Field(description="What the provider's proof protects; the rest is the sender's word.")
    challenge: bool = Field(description="Whether it asks before it sends; such questions are answered.")
    retries: str
    deadline_s: float | None
    source_url: str
    checked_on: str | None


class ProblemOut(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str | None = None
    errors: list[dict[str, str]] | None = None


class SourceList(Model):
    data: list[SourceOut]
    next: Next


class FailureList(Model):
    data: list[FailureOut]
    next: Next


class EndpointList(Model):
    data: list[EndpointOut]
    next: Next


class KeyList(Model):
    data: list[KeyOut]
    next: Next


class ConnectionList(Model):
    data: list[ConnectionOut]
    next: Next


class ChannelList(Model):
    data: list[ChannelOut]
    next: Next


class ProviderList(Model):
    data: list[ProviderOut]
    next: Next
