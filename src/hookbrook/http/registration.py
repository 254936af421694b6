"""Sources and endpoints on their way into the catalogue, from the API or from hookbrook.toml."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import msgspec

from hookbrook.core import registration
from hookbrook.core.declared import as_config
from hookbrook.core.endpoint import Endpoint
from hookbrook.core.eventtype import EventType
from hookbrook.core.registration import check_all
from hookbrook.core.rotation import with_signing_key
from hookbrook.core.signing import new_secret
from hookbrook.core.source import Source
from hookbrook.errors import ConfigError, Conflict, Invalid
from hookbrook.http.schemas import check_compiled
from hookbrook.inbound.providers import check_secrets
from hookbrook.inbound.recipe import Row
from hookbrook.inbound.template import Template
from hookbrook.store.catalog import Catalog

K = TypeVar("K", Source, Endpoint, EventType)

log = logging.getLogger("hookbrook.registration")


def check_source(source: Source, providers: Mapping[str, Row]) -> None:
    """Raises `Invalid` with everything that is wrong with a source, its secrets and templates included."""
    row = providers.get(source.provider)
    check_all(
        lambda: registration.check_source(source),
        lambda: _check_provider(source.provider, providers),
        lambda: None if row is None else check_secrets(row, source.secrets),
        lambda: None if source.channel is None else Template.compile(source.channel, field="channel"),
        lambda: None if source.type is None else Template.compile(source.type, field="type"),
        lambda: None if source.dedupe is None else Template.compile(source.dedupe, field="dedupe"),
    )


def _check_provider(provider: str, providers: Mapping[str, Row]) -> None:
    if provider not in providers:
        raise Invalid.of("provider", f"is not known; there are {', '.join(sorted(providers))}")


async def declare(
    catalog: Catalog,
    *,
    sources: Sequence[Source],
    endpoints: Sequence[Endpoint],
    types: Sequence[EventType] = (),
    providers: Mapping[str, Row],
    now: int,
    random: Callable[[int], bytes],
) -> None:
    """Make the catalogue hold what hookbrook.toml declares, at the start.

    What is declared no more stays as it is and can be changed by the API from then on: a start with the wrong file
    must not cancel deliveries or turn providers away. Raises `ConfigError` for what cannot be kept.
    """
    for index, source in enumerate(sources):
        as_config(f"sources[{index}]", check_source, source, providers)
    known_sources = {source.id: source for source in catalog.sources.values()}
    known_endpoints = dict(catalog.routes.by_id)
    for index, source in enumerate(sources):
        await _save(catalog, f"sources[{index}]", source, known_sources.get(source.id), now)
    for index, endpoint in enumerate(endpoints):
        existing = known_endpoints.get(endpoint.id)
        secrets = endpoint.secrets or (existing.secrets if existing else (new_secret(random),))
        completed = msgspec.structs.replace(endpoint, secrets=secrets)
        if existing is not None:
            completed = msgspec.structs.replace(
                completed,
                signing_key=existing.signing_key,
                retired=existing.retired,
                last_rotation=existing.last_rotation,
            )
        completed = with_signing_key(completed, random)
        await _save(catalog, f"endpoints[{index}]", completed, existing, now)
    known_types = {each.id: each for each in catalog.types.values()}
    for index, each in enumerate(types):
        as_config(f"types[{index}]", check_compiled, each)
        await _save(catalog, f"types[{index}]", each, known_types.get(each.id), now)
    await _release(catalog, known_types, {each.id for each in types})
    await _release(catalog, known_sources, {source.id for source in sources})
    await _release(catalog, known_endpoints, {endpoint.id for endpoint in endpoints})


async def _save(catalog: Catalog, key: str, declared: K, existing: K | None, now: int) -> None:
    if existing is None:
        record = msgspec.structs.replace(declared, created=now, updated=now)
    else:
        record = msgspec.structs.replace(
            declared, created=existing.created, updated=existing.updated, revision=existing.revision
        )
        if record == existing:
            return
        record = msgspec.structs.replace(record, updated=now, revision=existing.revision + 1)
    try:
        await catalog.save(record)
    except Conflict as exc:
        raise ConfigError(key, f"{exc.detail} Was it made by the API? Delete it there first.") from exc


async def _release(catalog: Catalog, known: Mapping[str, K], declared: set[str]) -> None:
    for record in known.values():
        if record.declared and record.id not in declared:
            await catalog.save(msgspec.structs.replace(record, declared=False, revision=record.revision + 1))
            log.warning("%s is no longer declared in hookbrook.toml; the API manages it from now on", record.id)
