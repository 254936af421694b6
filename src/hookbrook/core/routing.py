"""Routes: which endpoints are owed an event.

The whole set carries a number, the routing version, which changes with every change of an endpoint. An append says
against which version its events were matched; the store refuses it if that is no longer the newest, and the events are
matched again. So no event misses an endpoint whose creation was acknowledged before, on whichever node it arrives.

Matching must not depend on how many endpoints there are, only on how many are found: so endpoints are filed by tenant,
then by channel pattern, then by type pattern. A hundred thousand endpoints that differ in nothing but their types are
found as fast as as many that differ in their channels. Saving one of them files that one anew.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from hookbrook.core.channel import OPERATIONS, RESERVED, PatternIndex, matches_any
from hookbrook.core.endpoint import Endpoint
from hookbrook.core.event import Event

#: So many endpoints under one channel pattern are looked at one by one; an index of their types would weigh more than
#: they do.
FEW: Final = 16
#: What an endpoint without type patterns asked for.
_ALL_TYPES: Final = ("*",)


class Rerouted(NamedTuple):
    """One endpoint that was saved or deleted, as it was and as it is; None: there was, or is, none."""

    before: Endpoint | None
    after: Endpoint | None

    @property
    def id(self) -> str:
        endpoint = self.after or self.before
        assert endpoint is not None
        return endpoint.id


def patterns_of(endpoint: Endpoint) -> tuple[str, ...]:
    """The channel patterns of an endpoint, each once; without any it asked for all."""
    if endpoint.channels:
        return tuple(dict.fromkeys(endpoint.channels))
    # One that names our own types and no channel wants their channel as well.
    return ("*", OPERATIONS) if any(pattern.startswith(RESERVED) for pattern in endpoint.types) else ("*",)


def wants(endpoint: Endpoint, event: Event) -> bool:
    """Whether the endpoint asks for such an event, by the same rules as `Routes.owed`."""
    return (
        endpoint.tenant == event.tenant
        and matches_any(endpoint.types, event.type)
        and any(matches_any(patterns_of(endpoint), channel) for channel in event.channels)
    )


class _Filed:
    """The endpoints under one channel pattern."""

    __slots__ = ("_by_type", "_endpoints")

    def __init__(self) -> None:
        self._endpoints: dict[str, Endpoint] = {}
        #: Only for more than a few.
        self._by_type: PatternIndex[str] | None = None

    def __bool__(self) -> bool:
        return bool(self._endpoints)

    def add(self, endpoint: Endpoint) -> None:
        self._endpoints[endpoint.id] = endpoint
        if self._by_type is not None:
            self._index(self._by_type, endpoint)
        elif len(self._endpoints) > FEW:
            self._by_type = PatternIndex()
            for each in self._endpoints.values():
                self._index(self._by_type, each)

    def _index(self, by_type: PatternIndex[str], endpoint: Endpoint) -> None:
        for pattern in endpoint.types or _ALL_TYPES:
            by_type.add(pattern, endpoint.id)

    def discard(self, endpoint: Endpoint) -> None:
        self._endpoints.pop(endpoint.id, None)
        if self._by_type is not None:
            for pattern in endpoint.types or _ALL_TYPES:
                self._by_type.discard(pattern, endpoint.id)

    def match(self, type: str) -> Iterable[str]:
        if self._by_type is not None:
            return self._by_type.match((type,))
        return [each.id for each in self._endpoints.values() if matches_any(each.types, type)]


class Routes:
    """The endpoints, and which of them asked for what. Changed in place by `change`."""

    def __init__(self, version: int, endpoints: Iterable[Endpoint]) -> None:
        self.version = version
        self.by_id: dict[str, Endpoint] = {}
        #: Which channel patterns there are, by tenant, and what is filed under each.
        self._patterns: dict[str, PatternIndex[str]] = {}
        self._filed: dict[tuple[str, str], _Filed] = {}
        for endpoint in endpoints:
            self._put(endpoint)

    def change(self, version: int, saved: Iterable[Endpoint], deleted: Iterable[str]) -> list[Rerouted]:
        """Bring the routes to that version; returns what that changed."""
        self.version = version
        changes = [Rerouted(self.by_id.get(endpoint.id), endpoint) for endpoint in saved]
        changes += [Rerouted(self.by_id[endpoint_id], None) for endpoint_id in deleted if endpoint_id in self.by_id]
        for before, after in changes:
            if before is not None:
                self._take(before)
            if after is not None:
                self._put(after)
        return changes

    def owed(self, tenant: str, channels: tuple[str, ...], type: str) -> list[Endpoint]:
        """The endpoints, enabled or not, that asked for such an event, in the order of their ids."""
        patterns = self._patterns.get(tenant)
        if patterns is None:
            return []
        found: set[str] = set()
        for pattern in patterns.match(channels):
            found.update(self._filed[tenant, pattern].match(type))
        return [self.by_id[endpoint_id] for endpoint_id in sorted(found)]

    def _put(self, endpoint: Endpoint) -> None:
        self.by_id[endpoint.id] = endpoint
        patterns = self._patterns.setdefault(endpoint.tenant, PatternIndex())
        for pattern in patterns_of(endpoint):
            patterns.add(pattern, pattern)
            self._filed.setdefault((endpoint.tenant, pattern), _Filed()).add(endpoint)

    def _take(self, endpoint: Endpoint) -> None:
        del self.by_id[endpoint.id]
        for pattern in patterns_of(endpoint):
            filed = self._filed[endpoint.tenant, pattern]
            filed.discard(endpoint)
            if not filed:
                del self._filed[endpoint.tenant, pattern]
                self._patterns[endpoint.tenant].discard(pattern, pattern)
