"""Every error that Hookbrook raises, and what a caller over HTTP is told of it.

    HookbrookError
    ├── ConfigError               a bad setting; stops the start and names its key
    ├── StoreError                the store cannot do what was asked
    │   ├── StoreFull       507   no room on the disk; nothing was written
    │   ├── StoreUnavailable 503  locked, read-only or closed
    │   ├── StoreDamaged    503   the file is not a database, or its pages are broken
    │   └── StaleRouting    503   matched against routes that have changed since; never reaches a caller
    └── Refused                   the caller's request cannot be carried out (RFC 9457 problem)
        ├── BadRequest      400   cannot be read at all
        ├── Unauthorized    401   no credential, or one that does not hold
        ├── Forbidden       403   a good credential without this right; a foreign Origin
        ├── NotFound        404
        ├── MethodNotAllowed 405
        ├── NotAcceptable   406
        ├── Conflict        409   declared in hookbrook.toml
        │   └── BatchConflict     one event contradicts what the log has
        │       ├── IdConflict    the same id with other content
        │       └── ChannelClosed its publisher has finished the channel
        ├── Gone            410   a cursor of another log, or older than what is kept
        ├── TooLarge        413   over a named limit of bytes
        ├── UnsupportedMedia 415
        ├── Misdirected     421   a Host that is not ours
        ├── Invalid         422   can be read, but a field is wrong; `errors` names each
        └── TooMany         429   over a named rate or count

A class carries its HTTP status, its problem type and its title; an instance carries what is special about the
case. Core raises these too: a status is a fact about the error, not about a socket.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar


class HookbrookError(Exception):
    """The root of everything raised here on purpose."""


class ConfigError(HookbrookError):
    """A setting that cannot be used. The message names the key and what is allowed, never a secret's value."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(f"{key}: {message}")
        self.key = key


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong field of a request: where it stands (`data[3].channel`) and what is wrong with it."""

    field: str
    message: str

    def as_json(self) -> dict[str, str]:
        return {"field": self.field, "message": self.message}


@dataclass(eq=False)
class Problem(HookbrookError):
    """An error that has an HTTP status; `detail` is one sentence for the caller (RFC 9457 section 3.1.4)."""

    status: ClassVar[int] = 500
    slug: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"

    detail: str = ""
    errors: Sequence[FieldError] = ()
    #: Response headers that belong to the refusal (`Retry-After`, `Allow`, `WWW-Authenticate`).
    headers: Mapping[str, str] = field(default_factory=dict)
    #: Extension members (RFC 9457 section 3.2): `accepted`, `line`, `limit`, …
    extra: Mapping[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.detail or "; ".join(f"{error.field}: {error.message}" for error in self.errors) or self.title

    def as_json(self) -> dict[str, object]:
        """The problem+json document."""
        body: dict[str, object] = {
            "type": f"urn:hookbrook:problem:{self.slug}",
            "title": self.title,
            "status": self.status,
        }
        if self.detail:
            body["detail"] = self.detail
        if self.errors:
            body["errors"] = [error.as_json() for error in self.errors]
        return {**body, **self.extra}


class StoreError(Problem):
    status = 503
    slug = "store"
    title = "The store cannot do this"


class StoreFull(StoreError):
    status = 507
    slug = "store-full"
    title = "The disk is full"


class StoreUnavailable(StoreError):
    slug = "store-unavailable"
    title = "The store is not available"


class StoreDamaged(StoreError):
    slug = "store-damaged"
    title = "The store is damaged"


class StaleRouting(StoreError):
    """The events were matched against routes that have changed since: read the routes, match and append again."""


class Refused(Problem):
    """The caller's own request is at fault; nothing of it was applied."""

    status = 400
    slug = "refused"
    title = "Refused"


class BadRequest(Refused):
    status = 400
    slug = "bad-request"
    title = "Bad request"


class Unauthorized(Refused):
    status = 401
    slug = "unauthorized"
    title = "Unauthorized"


class Forbidden(Refused):
    status = 403
    slug = "forbidden"
    title = "Forbidden"


class NotFound(Refused):
    status = 404
    slug = "not-found"
    title = "Not found"


class MethodNotAllowed(Refused):
    status = 405
    slug = "method-not-allowed"
    title = "Method not allowed"


class NotAcceptable(Refused):
    status = 406
    slug = "not-acceptable"
    title = "Not acceptable"


class Conflict(Refused):
    status = 409
    slug = "conflict"
    title = "Conflict"


class BatchConflict(Conflict):
    """One event of a batch contradicts what the log has. `index` is its place in the batch, `field` what is wrong."""

    field = ""
    message = ""

    def __init__(self, detail: str, index: int) -> None:
        super().__init__(detail)
        self.index = index


class IdConflict(BatchConflict):
    """An id that the log already has, with other content."""

    field = "id"
    message = "was already used for an event with other content"

    def __init__(self, index: int, event_id: str) -> None:
        super().__init__(f"The id {event_id!r} was already used for an event with other content.", index)


class ChannelClosed(BatchConflict):
    """An event for a channel that was finished."""

    slug = "channel-closed"
    title = "The channel is closed"
    field = "channel"
    message = "was closed by its publisher"

    def __init__(self, index: int, channel: str) -> None:
        super().__init__(f"The channel {channel!r} was closed by its publisher; nothing can be published to it.", index)
        self.extra = {"channel": channel}


class Gone(Refused):
    status = 410
    slug = "gone"
    title = "Gone"


class TooLarge(Refused):
    status = 413
    slug = "too-large"
    title = "Too large"


class UnsupportedMedia(Refused):
    status = 415
    slug = "unsupported-media-type"
    title = "Unsupported media type"


class Misdirected(Refused):
    status = 421
    slug = "misdirected"
    title = "Misdirected request"


class Invalid(Refused):
    status = 422
    slug = "invalid"
    title = "Invalid"

    @classmethod
    def of(cls, name: str, message: str) -> "Invalid":
        """The common case: one wrong field."""
        return cls(f"{name}: {message}", (FieldError(name, message),))


class TooMany(Refused):
    status = 429
    slug = "too-many"
    title = "Too many"
