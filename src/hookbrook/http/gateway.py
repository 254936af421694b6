"""What the doors are given: one frozen record of the parts, made by the composition root."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from hookbrook.config import Settings
from hookbrook.core.addresses import Rule
from hookbrook.core.endpoint import Endpoint
from hookbrook.core.entropy import Entropy
from hookbrook.core.registration import check_endpoint
from hookbrook.http.admission import Admission
from hookbrook.http.auth import Auth
from hookbrook.http.proxies import Proxies
from hookbrook.http.schemas import Schemas
from hookbrook.http.tally import Tally
from hookbrook.inbound.recipe import Row
from hookbrook.store.appender import Appender
from hookbrook.store.base import Store
from hookbrook.store.catalog import Catalog
from hookbrook.stream.connections import Connections


def _zero() -> int:
    return 0


def _nothing() -> Mapping[str, int]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """Where `/metrics` reads its numbers; each is called at every scrape."""

    #: Events appended by this process since its start.
    events: Callable[[], int] = _zero
    #: Streams open now.
    streams: Callable[[], int] = _zero
    #: Attempts under way now, or answered and not on the disk yet: what a crash would repeat.
    in_flight: Callable[[], int] = _zero
    #: Attempts that did not come about since the start, for want of a socket or of the proxy.
    prevented: Callable[[], int] = _zero
    #: Attempts by what they led to (`accepted`, `refused`, `exhausted`) since the start.
    outcomes: Callable[[], Mapping[str, int]] = _nothing


def _ignore(_endpoint_id: str) -> None:
    return None


def _ignore_seq(_seq: int) -> None:
    return None


def _ignore_both(_endpoint_id: str, _delivery_id: str) -> None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    settings: Settings
    store: Store
    catalog: Catalog
    appender: Appender
    auth: Auth
    #: Microseconds since 1970.
    clock: Callable[[], int]
    #: Provider rows by id.
    providers: Mapping[str, Row]
    #: Tell the dispatcher that an endpoint has something due that it did not have before.
    dispatcher_poke: Callable[[str], None] = _ignore
    #: Tell the dispatcher that a delivery of an endpoint was cancelled.
    dispatcher_forget: Callable[[str, str], None] = _ignore_both
    #: Hold nothing in memory up to this seq, because something of it was erased.
    forget_data: Callable[[int], None] = _ignore_seq
    #: Begin a job that the store has.
    begin_job: Callable[[str], None] = _ignore
    schemas: Schemas = field(init=False)
    stats: Stats = field(default_factory=Stats)
    #: What became of webhooks that arrived.
    tally: Tally = field(default_factory=Tally)
    #: The open streams.
    connections: Connections
    admission: Admission
    proxies: Proxies
    #: The operator's rules for addresses.
    allowed: tuple[Rule, ...] = ()
    denied: tuple[Rule, ...] = ()
    #: False once the server is on its way down, so that `/readyz` sends no more traffic here.
    accepting: Callable[[], bool] = lambda: True
    #: So many random bytes, for ids and secrets.
    random: Callable[[int], bytes] = field(default_factory=lambda: Entropy(os.urandom))

    def __post_init__(self) -> None:
        object.__setattr__(self, "schemas", Schemas(self.catalog))

    def check_endpoint(self, endpoint: Endpoint) -> None:
        """Raises `Invalid` with everything that is wrong, addresses that the operator does not allow included."""
        check_endpoint(endpoint, self.allowed, self.denied)
