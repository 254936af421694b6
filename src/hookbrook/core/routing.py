"""Routes: which endpoints are owed an event.

The whole set carries a number, the routing version, which changes with every change of an endpoint. An append says
against which version its events were matched; the store refuses it if that is no longer the newest, and the events are
matched again. So no event misses an endpoint whose creation was acknowledged before, on whichever node it arrives.
"""

from collections.abc import Iterable

from hookbrook.core.channel import OPERATIONS, RESERVED, PatternIndex, matches_any
from hookbrook.core.endpoint import Endpoint


def _all_channels(endpoint: Endpoint) -> tuple[str, ...]:
    """What an endpoint without channel patterns asked for; one that names our own types wants their channel as well."""
    return ("*", OPERATIONS) if any(pattern.startswith(RESERVED) for pattern in endpoint.types) else ("*",)


class Routes:
    """An immutable set of endpoints, indexed by tenant and channel pattern."""

    def __init__(self, version: int, endpoints: Iterable[Endpoint]) -> None:
        self.version = version
        self.by_id = {endpoint.id: endpoint for endpoint in endpoints}
        self._tenants: dict[str, PatternIndex[str]] = {}
        for endpoint in self.by_id.values():
            index = self._tenants.setdefault(endpoint.tenant, PatternIndex())
            for pattern in endpoint.channels or _all_channels(endpoint):
                index.add(pattern, endpoint.id)

    def owed(self, tenant: str, channels: tuple[str, ...], type: str) -> list[Endpoint]:
        """The endpoints, enabled or not, that asked for such an event, in the order of their ids."""
        index = self._tenants.get(tenant)
        if index is None:
            return []
        found = index.match(channels)
        if not found:
            return []
        endpoints = (self.by_id[endpoint_id] for endpoint_id in sorted(found))
        return [endpoint for endpoint in endpoints if matches_any(endpoint.types, type)]
