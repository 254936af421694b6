"""The ports of the store: what everything above it may rely on, whichever database lies below.

Small ports make one store. `Log` appends events and reads them back; `Deliveries` keeps what is owed to endpoints;
`Jobs` does work over many of either; `Registry` keeps the few things that people configure; `Failures` keeps the last
webhooks that could not be verified. All are asynchronous, all may be called by many tasks at once, and several
processes may write where the backend allows it. Nothing above this module knows SQL.

Each MUST below has a test in `tests/conformance`, which runs on every backend.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, NamedTuple, Protocol, TypeVar

from hookbrook.core.cursor import Epochs
from hookbrook.core.delivery import Attempt, Delivery, Happening, NewDelivery, Outcome, State
from hookbrook.core.endpoint import Endpoint
from hookbrook.core.event import Appended, Event, NewEvent
from hookbrook.core.eventtype import EventType
from hookbrook.core.failure import Failure
from hookbrook.core.job import Job
from hookbrook.core.key import ApiKey
from hookbrook.core.registration import MAX_DEDUPE_WINDOW_S
from hookbrook.core.revocation import Revocation
from hookbrook.core.source import Source

#: Called in the event loop with the events of one commit, in seq order. Must not block and must not raise.
Listener = Callable[[Sequence[Event]], None]

#: How long the id of a trimmed event is recognised after it was appended: the longest `dedupe_window_s` that a source
#: may have, and longer than any provider's last retry (Stripe stops within 3 days, Adyen within 7).
SEEN_WINDOW_US = MAX_DEDUPE_WINDOW_S * 1_000_000

NO_CHANGES: Mapping[str, int | None] = MappingProxyType({})

R = TypeVar("R", Source, Endpoint, ApiKey, Revocation, Job, EventType)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Where the log begins and ends."""

    #: Seq of the oldest event that can still be read; `tail + 1` if there is none.
    oldest: int
    #: Seq of the newest event; 0 if there never was one.
    tail: int
    #: When the event before `oldest` was appended; 0 if nothing was ever trimmed.
    trimmed: int = 0
    epochs: Epochs
    #: No channel has lost events after this seq; 0 if none has lost any on its own. MAY be higher than the truth.
    floor: int = 0
    #: False: no channel was ever closed. MAY be True when none was.
    closings: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which events to read."""

    #: None reads every tenant's; only administrators and our own machinery may.
    tenant: str | None
    #: Patterns; none match every name that is not reserved.
    channels: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    #: Only what arrived at the source of this name.
    source: str | None = None
    #: Only what is owed to somebody and in one of these states; or to nobody at all, if there are none. None: all.
    owed: tuple[State, ...] | None = None

    @property
    def is_exact(self) -> bool:
        """Whether all that it asks for are one tenant's channels by name."""
        return bool(self.channels) and self.tenant is not None and not any(name.endswith("*") for name in self.channels)

    @property
    def is_single(self) -> bool:
        return self.is_exact and len(self.channels) == 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """Events of a channel are gone though the log as a whole reaches further back."""

    #: The newest of them; later ones are all there.
    seq: int
    #: Whether retention or a person has removed it.
    why: Literal["trimmed", "deleted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is known of a query's channels beside their events."""

    #: Which of its exact channels are closed, with the seq of the event that closed each.
    closed: Mapping[str, int] = field(default_factory=dict)
    #: The newest loss after the place that was asked about.
    lost: Lost | None = None
    #: Another number whenever any channel has lost something since: then there may be more to tell than the newest.
    losses: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some events, and how far the store has looked for them."""

    events: list[Event]
    #: No further event matches between the page's start and this seq (the last seq looked at).
    scanned_to: int
    #: The log's ends at the moment of reading; what was asked for before `oldest` is gone.
    oldest: int
    tail: int
    #: Of the query's channels, at the same moment; losses after the page's start.
    standing: Standing = Standing()


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelTrim:
    """How much is kept of each channel that the pattern matches."""

    pattern: str
    #: Events appended before that time go; None keeps them whatever their age.
    appended_before: int | None
    #: All but the newest so many go; None keeps them however many there are.
    keep: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A delivery that may be attempted now, with the event it delivers."""

    delivery_id: str
    endpoint_id: str
    #: Attempts made in this round of retries; a person's resend begins a new one.
    attempts: int
    event: Event
    #: What else is in this line waits until this has ended; None: nothing does.
    line: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryQuery:
    tenant: str | None = None
    #: None means any.
    states: tuple[State, ...] = ()
    endpoint_id: str | None = None
    event_id: str | None = None
    #: Created at or after, and before.
    since: int | None = None
    until: int | None = None
    #: Only ids below this one: the page after the one that ended with it (newest first).
    before_id: str | None = None
    #: Only ids above this one, and the oldest first ("" to begin with).
    after_id: str | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Some of a job's work, and the job as it is after it."""

    #: To be saved on top of the revision before; what was sent and skipped is counted by the store.
    job: Job
    #: Ids of deliveries to be sent again, as far as they are in one of `states`.
    resend: Sequence[str] = ()
    #: Deliveries to the job's endpoint, each with the seq of its event. Where the endpoint has one of that event, that
    #: one is sent again instead, as far as it is in one of `states`.
    owe: Sequence[tuple[int, NewDelivery]] = ()
    states: tuple[State, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Advanced:
    """A job after a piece, and the endpoints that have something due by it."""

    job: Job
    endpoints: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """What erasing an event's data has changed."""

    seq: int
    #: Deliveries that were cancelled: endpoint and delivery.
    cancelled: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired:
    """One step of letting old data go."""

    #: How much was done.
    done: int
    #: No event up to this seq has data that is too old, unless it is still owed.
    up_to: int


class Log(Protocol):
    def append(
        self,
        events: Sequence[NewEvent],
        owed: Sequence[Sequence[NewDelivery]],
        routing_version: int,
    ) -> Awaitable[list[Appended]]:
        """Append the events and the deliveries that each owes (`owed[i]` for `events[i]`): all of them or none.

        Begins when it is called, not when it is awaited; whatever it raises, it raises to whoever awaits it.

        MUST return only when the events are durable. MUST number them without a gap in commit order.
        MUST answer an id already known in its `(tenant, scope)` with the first event, `duplicate=True`, and owe
        nothing for it; also when the first stands earlier in the same batch. An event whose digest differs from the
        first's raises `IdConflict` (unless either digest is empty), and nothing of the batch is kept. For an event
        with a `window_us`, an id that was appended longer ago is not known: it is appended, and known from then on.

        An event with the effect `close` closes all its channels; from then on MUST refuse every new event on any of
        them with `ChannelClosed`, those later in the same batch and racing ones included, and keep nothing of its
        batch. A known id is a duplicate all the same, also that of the closing event; and what arrived at a source is
        taken, since its provider cannot be told of channels. An event with the effect
        `delete` MUST be taken, opens its channels again, and is the newest of what they have lost: reads MUST NOT
        show it, or anything older, on any of them from then on, though what stands on other channels as well is shown
        there. What is owed of such events stays owed.

        Raises `StaleRouting`, `IdConflict`, `ChannelClosed`, `StoreFull`, `StoreUnavailable`, `StoreDamaged`.
        """

    def follow(self, listener: Listener) -> Bounds:
        """Call the listener with every event that is committed after the returned bounds, without a gap and in order.

        MUST be atomic: an event is either within the returned tail or will reach the listener. Each call of
        `append` returns only after the listeners of this process have seen its events.
        """

    def unfollow(self, listener: Listener) -> None: ...

    async def bounds(self) -> Bounds: ...

    def known_bounds(self) -> Bounds:
        """As `bounds`, by what this process knows without asking; raises a `StoreError` if it is closed."""

    async def read(self, query: Query, *, after: int, limit: int) -> Page:
        """The matching events with `seq > after` in order, at most `limit` of them.

        MUST bound the rows it looks at and the bytes it returns: a page may be empty though more follows, and then
        `scanned_to < tail`. All of a page MUST come from one snapshot.
        """

    async def read_back(self, query: Query, *, before: int, limit: int, bare: bool = False) -> Page:
        """The matching events with `seq < before`, newest first; here `scanned_to` is the lowest seq looked at.

        `bare`: without data and request, for whoever only counts.
        """

    async def seq_at(self, time_us: int) -> int:
        """The seq of the last event appended before that time, or of the last trimmed one."""

    async def event(self, tenant: str, event_id: str) -> Event | None: ...

    async def standing(self, query: Query, *, after: int) -> Standing:
        """What has become of the query's channels, and what they have lost after that seq.

        MUST tell every loss that `read` would pass over; channels that the query matches by a pattern included.
        """

    async def trim(
        self, *, appended_before: int | None, keep: int | None, limit: int, channels: Sequence[ChannelTrim] = ()
    ) -> int:
        """Remove up to `limit` of the oldest events that were appended before that time, or are not among the newest
        `keep`, and return how many were removed; less than `limit` means that there is no more to do now.

        Of `channels` the first whose pattern matches a channel holds for it, the same ones in every call between
        opening and closing, but for the times, which grow. An event goes when it has gone from all its channels. The
        same steps carry out what a `delete` has promised.

        MUST keep the data of an event that is still owed (pending or held), though streams no longer see it. MUST
        answer the id of a trimmed event as a duplicate until `SEEN_WINDOW_US` after its append.
        """

    async def erase(self, tenant: str, event_id: str, *, now: int) -> Erased | None:
        """Erase the data of an event, whoever is owed it, and return what that changed; None if there is no such event.

        MUST let the event stand where it was, of the kind `erased` and without data, and recognise its id as before.
        MUST cancel what is owed of it, refuse to send it again, and erase what receivers answered to it, also what is
        recorded later. MUST leave nothing of it in the store's files once this returns, as far as nobody still reads
        what was there before.
        """

    async def expire(self, *, appended_before: int, limit: int) -> Expired:
        """Likewise erase the data of up to `limit` events that were appended before that time; `done` below the limit
        means that there is no more to do now.

        MUST keep the data of an event that is still owed until it no longer is. Ids and conflicts stay as they were.
        """


class Deliveries(Protocol):
    async def due(self, endpoint_id: str, *, now: int, first: int, retries: int, excluding: Sequence[str]) -> list[Due]:
        """Pending deliveries of the endpoint whose time has come: at most so many that have not been attempted in this
        round, and so many that have; of either the longest due first.

        MUST cost the same for either kind, however many of the other are due, and however many wait in line.

        Of those in one line (`NewDelivery.line`) only the first that is pending is ever due: MUST hold over appends,
        outcomes, changes by a person, and changes of the endpoint.
        """

    async def next_due(self) -> dict[str, int]:
        """endpoint id -> time of its next due delivery, for each endpoint with a pending one."""

    async def next_due_of(self, endpoint_id: str) -> int | None: ...

    async def record(
        self, outcomes: Sequence[Outcome], *, now: int, failing: Mapping[str, int | None] = NO_CHANGES
    ) -> None:
        """Keep the attempts, and move each delivery on that is still pending. One that was cancelled or held meanwhile
        stays so; but one that was held MUST be succeeded if this attempt was accepted, or it would be sent twice.

        A delivery that is gone is passed over. In the same transaction keep since when endpoints fail (`failing`, by
        id; None: no longer). An endpoint that is gone is passed over as well.
        """

    async def failing(self, endpoint_ids: Sequence[str] | None = None) -> dict[str, int]:
        """endpoint id -> since when it fails, for those of them (None: of all) that do.

        MUST forget it when the endpoint is deleted, or saved as enabled after it was not.
        """

    async def change(self, delivery_id: str, happening: Happening, *, now: int) -> Delivery:
        """Apply what a person did (RESENT, CANCELLED).

        MUST hold what is resent to a disabled endpoint, and refuse what could never be sent: the endpoint is deleted,
        or the event's data was trimmed. Raises `NotFound`, or `Conflict` for that and by the table.
        """

    async def counts(self) -> Mapping[State, int]:
        """How many deliveries of all tenants have not succeeded, by state; a state without any may be absent.

        MUST NOT cost more the more have succeeded.
        """

    async def delivery(self, delivery_id: str) -> Delivery | None: ...

    async def waits_for(self, delivery_id: str) -> str | None:
        """The delivery that has to end before this one is due: the first in its line; None if it waits for none."""

    async def deliveries(self, query: DeliveryQuery) -> list[Delivery]: ...

    async def owed(self, seq: int, *, after_endpoint_id: str, limit: int) -> list[Delivery]:
        """What was owed of one event, in the order of the endpoints' ids."""

    async def attempts(self, delivery_id: str) -> list[Attempt]:
        """Oldest first."""


class Settling(Protocol):
    async def settle(self, *, behind: str = "", limit: int, now: int) -> str | None:
        """Hold, release or cancel so many more of what one endpoint is owed, if its change left some; returns its id,
        or None if no endpoint has any left. MUST take the next id behind that one, and after the last the first: so
        none waits until another, which is owed a million, is done."""


class Reroutes(NamedTuple):
    """The routing version, and what was saved and deleted since an earlier one, read together."""

    version: int
    saved: Sequence[Endpoint]
    #: Their ids.
    deleted: Sequence[str]


class Jobs(Protocol):
    async def advance(self, piece: Piece, *, now: int) -> Advanced:
        """Do a piece and save the job, in one transaction.

        MUST do nothing, and raise `Conflict`, if the job's stored revision is not the one before: so a piece is done
        once, and none after somebody cancelled the job. MUST let what it makes due count as a retry (`attempts` of
        `Due` begins at 1), hold it if the endpoint is disabled, and pass over what could never be sent: its endpoint
        is deleted, or its event's data gone. A dry run MUST count the same and change nothing but the job.
        """

    async def erase_tenant(self, job: Job, *, limit: int, now: int) -> Advanced:
        """Remove up to `limit` events of the job's tenant up to the job's end, with all that belongs to them, and save
        the job, all in one transaction; the last step removes the tenant's jobs, and ends the job.

        MUST do nothing, and raise `Conflict`, if the job's stored revision is not the one before. MUST let `standing`
        tell of what the tenant's channels have lost. All other
        records are deleted by whoever asks for this, through the catalogue that holds them in memory.
        """


class Registry(Protocol):
    async def save(self, record: R) -> R:
        """Insert a record of revision 1, or replace the one of the revision before.

        MUST raise `Conflict` if the stored revision is another, or a source's name or a key's hash is taken.
        A saved or deleted endpoint MUST raise the routing version in the same transaction; disabling it holds its
        pending deliveries, enabling releases them (due now), deleting cancels them; another `ordering` applies to all
        of them. Of a great many it may leave some to `Settling.settle`, and MUST remember that over a restart.
        """

    async def delete(self, kind: type[R], record_id: str) -> R | None: ...

    async def get(self, kind: type[R], record_id: str) -> R | None: ...

    async def records(
        self, kind: type[R], *, tenant: str | None = None, after_id: str = "", limit: int = 1000
    ) -> list[R]:
        """In the order of their ids."""

    async def routes(self) -> tuple[int, list[Endpoint]]:
        """The routing version and all endpoints, read together."""

    async def rerouted(self, since: int) -> Reroutes | None:
        """What changed after that routing version; None if that is no longer known, and all must be read.

        MUST be as cheap as the changes are few, however many endpoints there are.
        """

    async def secret(self, name: str, fresh: bytes) -> bytes:
        """The installation's secret of that name; the first caller's `fresh` becomes it."""


class Failures(Protocol):
    async def keep_failures(self, kept: Sequence[Failure], *, each: int) -> None:
        """Keep these, and of each source that they are of the newest `each`, by their ids; older ones are forgotten.

        A failure whose source is gone, or whose id is there already, is passed over. MUST forget the failures of a
        source that is deleted.
        """

    async def failures(self, source_id: str, *, before_id: str | None = None, limit: int = 50) -> list[Failure]:
        """The newest first; with `before_id` those with a lower id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    ok: bool
    #: What is wrong, in a sentence for the operator.
    reason: str = ""
    facts: Mapping[str, object] = field(default_factory=dict)


class Store(Log, Deliveries, Settling, Jobs, Registry, Failures, Protocol):
    """The whole of it."""

    async def open(self) -> None:
        """Take hold of the database, bring its schema up to date, open a new epoch.

        Raises `ConfigError` or a `StoreError` with a sentence that says what to do.
        """

    async def close(self) -> None:
        """Finish what was accepted, then let go. Later calls raise `StoreUnavailable`."""

    async def health(self) -> Health:
        """Whether an append would be accepted now. Never raises.

        A reason beside `ok=True` says what else is wrong: a damaged page that a read has met.
        """
