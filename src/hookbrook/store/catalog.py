"""The catalogue: sources, keys and routes held in memory, because every request asks for one of them.

It is a copy, and says of what: everything in it was read from the registry, changes go to the registry first, and the
routes carry the version by which an append finds out that they are old.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import islice

from hookbrook.core.endpoint import Endpoint
from hookbrook.core.eventtype import EVERYBODY, EventType
from hookbrook.core.key import ApiKey
from hookbrook.core.revocation import Revocation
from hookbrook.core.routing import Rerouted, Routes
from hookbrook.core.source import Source
from hookbrook.core.token import Claims
from hookbrook.store.base import R, Registry

#: Called with the routes and what has just changed in them. Must not block and must not raise.
RoutesListener = Callable[[Routes, Sequence[Rerouted]], None]

#: Records read per call while loading.
PAGE = 1000


class Catalog:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.routes = Routes(0, ())
        #: by name, the path in `/in/{name}`
        self.sources: dict[str, Source] = {}
        #: by hash
        self.keys: dict[str, ApiKey] = {}
        #: by tenant and name
        self.types: dict[tuple[str, str], EventType] = {}
        #: Those that are validated, by name and tenant: one look-up says that a name is not.
        self.validated: Mapping[str, Mapping[str, EventType]] = {}
        self.key_ids: frozenset[str] = frozenset()
        self._revocations: dict[tuple[str, str, str], Revocation] = {}
        self._key_listeners: list[Callable[[ApiKey], object]] = []
        self._routes_listeners: list[RoutesListener] = []

    def on_routes(self, listener: RoutesListener) -> None:
        """Call the listener now, with all endpoints as new, and whenever some have changed."""
        self._routes_listeners.append(listener)
        listener(self.routes, [Rerouted(None, endpoint) for endpoint in self.routes.by_id.values()])

    def on_key_gone(self, listener: Callable[[ApiKey], object]) -> None:
        """Call the listener whenever a key does not hold any more, because it was deleted or replaced."""
        self._key_listeners.append(listener)

    def is_revoked(self, tenant: str, claims: Claims) -> bool:
        """Whether a token of that tenant is refused although it has not expired."""
        if not self._revocations:
            return False
        found = (self._revocations.get((tenant, claims.jti or "", "")), self._revocations.get((tenant, "", claims.sub)))
        return any(each is not None and each.concerns(claims) for each in found)

    def revocation(self, tenant: str, *, token: str, subject: str) -> Revocation | None:
        return self._revocations.get((tenant, token, subject))

    def expired_revocations(self, now: int, limit: int) -> list[Revocation]:
        """Some of those that may be forgotten."""
        return list(islice((each for each in self._revocations.values() if each.expires <= now), limit))

    def validated_type(self, tenant: str, name: str) -> EventType | None:
        """The type that what is published there must fit: the tenant's own, or else everybody's."""
        types = self.validated.get(name)
        if types is None:
            return None
        # A tenant's own type of the name holds even if it asks for nothing.
        own = self.types.get((tenant, name))
        return types.get(EVERYBODY) if own is None else types.get(tenant)

    def _types_changed(self) -> None:
        validated: dict[str, dict[str, EventType]] = {}
        for each in self.types.values():
            if each.validates:
                validated.setdefault(each.name, {})[each.tenant] = each
        self.validated = validated

    async def load(self) -> None:
        self.sources = {source.name: source for source in await self._all(Source)}
        self.keys = {key.hash: key for key in await self._all(ApiKey)}
        self._keys_changed()
        self.types = {(each.tenant, each.name): each for each in await self._all(EventType)}
        self._types_changed()
        for revocation in await self._all(Revocation):
            self._remember(revocation)
        await self.refresh_routes()

    async def refresh_routes(self) -> Routes:
        """Read what has changed. What was read earlier and arrives later does not replace the newer."""
        changed = await self._registry.rerouted(self.routes.version) if self.routes.version else None
        if changed is None:
            await self._read_all_routes()
        elif changed.version > self.routes.version:
            self._tell(self.routes.change(*changed))
        return self.routes

    async def _read_all_routes(self) -> None:
        version, endpoints = await self._registry.routes()
        if version > self.routes.version:
            gone = self.routes.by_id.keys() - {endpoint.id for endpoint in endpoints}
            self._tell(self.routes.change(version, endpoints, gone))

    def _tell(self, changes: Sequence[Rerouted]) -> None:
        for listener in self._routes_listeners:
            listener(self.routes, changes)

    async def save(self, record: R) -> R:
        """As `Registry.save`; once this returns, the next request in this process sees the change."""
        saved = await self._registry.save(record)
        if isinstance(saved, Endpoint):
            await self.refresh_routes()
        elif isinstance(saved, Source):
            self._forget(saved.id)
            self.sources[saved.name] = saved
        elif isinstance(saved, EventType):
            self.types[saved.tenant, saved.name] = saved
            self._types_changed()
        elif isinstance(saved, Revocation):
            self._remember(saved)
        elif isinstance(saved, ApiKey):
            self._forget(saved.id)
            self.keys[saved.hash] = saved
            self._keys_changed()
        return saved

    async def delete(self, kind: type[R], record_id: str) -> R | None:
        """As `Registry.delete`."""
        deleted = await self._registry.delete(kind, record_id)
        if isinstance(deleted, Endpoint):
            await self.refresh_routes()
        elif isinstance(deleted, EventType):
            self.types.pop((deleted.tenant, deleted.name), None)
            self._types_changed()
        elif deleted is not None:
            self._forget(record_id)
        return deleted

    def _forget(self, record_id: str) -> None:
        self.sources = {name: source for name, source in self.sources.items() if source.id != record_id}
        self._revocations = {name: each for name, each in self._revocations.items() if each.id != record_id}
        gone = [key for key in self.keys.values() if key.id == record_id]
        self.keys = {digest: key for digest, key in self.keys.items() if key.id != record_id}
        self._keys_changed()
        for key in gone:
            for listener in self._key_listeners:
                listener(key)

    def _keys_changed(self) -> None:
        self.key_ids = frozenset(key.id for key in self.keys.values())

    def _remember(self, revocation: Revocation) -> None:
        self._revocations[revocation.tenant, revocation.token, revocation.subject] = revocation

    async def _all(self, kind: type[R]) -> list[R]:
        found: list[R] = []
        while True:
            page = await self._registry.records(kind, after_id=found[-1].id if found else "", limit=PAGE)
            found += page
            if len(page) < PAGE:
                return found
