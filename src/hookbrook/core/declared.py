"""Sources and endpoints as hookbrook.toml declares them: tables become records with ids that outlast a restart.

    [[sources]]
    name = "billing"
    provider = "stripe"
    secrets = ["${STRIPE_SECRET}"]

    [[endpoints]]
    name = "crm"
    url = "https://crm.example.com/hooks"

An id is derived from the name, so that the same declaration is the same record at every start. A secret may be
written as `${NAME}` and is then read from the environment, so that the file itself can be shown to others.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final, TypeVar

import msgspec

from hookbrook.core.addresses import Rule
from hookbrook.core.endpoint import Endpoint
from hookbrook.core.event import DEFAULT_TENANT
from hookbrook.core.eventtype import EventType, check_type
from hookbrook.core.ids import new_id
from hookbrook.core.registration import check_endpoint, check_source, check_source_name
from hookbrook.core.retry import parse_schedule
from hookbrook.core.source import Source
from hookbrook.errors import ConfigError, Invalid

#: More than this is a database, and the API is the place for it.
MAX_DECLARED = 1_000

_SOURCE_KEYS: Final = (
    *("name", "provider", "tenant", "secrets", "channel", "type", "enforce", "enabled", "description"),
    *("dedupe", "dedupe_window_s", "networks", "public_url"),
)
_ENDPOINT_KEYS: Final = (
    *("name", "url", "tenant", "types", "channels", "secret", "secrets", "headers", "retry"),
    *("concurrency", "timeout_s", "enabled", "description", "metadata", "signatures", "svix_headers"),
    *("rate_limit", "ordering", "filter", "transform", "format", "connect_timeout_s", "max_body_bytes"),
    *("secret_headers", "auth"),
)
_TYPE_KEYS: Final = ("name", "tenant", "description", "schema", "example", "validate", "deprecated", "archived")

_FROM_ENVIRONMENT = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}\Z")
_PATH = re.compile(r"^(?P<what>.*) - at `\$\.?(?P<path>[^`]*)`$", re.DOTALL)

T = TypeVar("T")


def stable_id(prefix: str, *words: str) -> str:
    """An id that depends on the words alone. Its time is 0, so that it sorts before all that were made later."""
    return new_id(prefix, 0, hashlib.sha256("\0".join(words).encode("utf-8", "replace")).digest())


def read_sources(tables: object, environ: Mapping[str, str]) -> tuple[Source, ...]:
    """The `[[sources]]`; raises `ConfigError` naming the key (`sources[0].provider`) and never a secret.

    Whether the provider is known and its secrets fit is judged where the rows are, at the start.
    """
    sources = []
    for key, table in read_tables("sources", tables):
        check_keys(key, table, _SOURCE_KEYS, required=("name", "provider"))
        secrets = _secrets(f"{key}.secrets", table.get("secrets", []), environ)
        made = {"id": stable_id("src", "source", str(table["name"])), "created": 0, "updated": 0, "declared": True}
        source = _convert(key, {**table, **made, "secrets": secrets}, Source)
        if source.public_url is not None:
            source = msgspec.structs.replace(source, public_url=source.public_url.strip().rstrip("/"))
        as_config(key, check_source, source)
        sources.append(source)
    _check_unique("sources", [source.id for source in sources])
    return tuple(sources)


def read_endpoints(
    tables: object, environ: Mapping[str, str], *, allowed: Sequence[Rule] = (), denied: Sequence[Rule] = ()
) -> tuple[Endpoint, ...]:
    """The `[[endpoints]]`, each with a name that is only known here; raises `ConfigError` as above.

    One that declares no secret has no `secrets`, and gets one when it is first kept.
    """
    endpoints = []
    for key, table in read_tables("endpoints", tables):
        check_keys(key, table, _ENDPOINT_KEYS, required=("name", "url"))
        endpoint = _read_endpoint(key, dict(table), environ)
        as_config(key, check_endpoint, endpoint, allowed, denied)
        endpoints.append(endpoint)
    _check_unique("endpoints", [endpoint.id for endpoint in endpoints])
    return tuple(endpoints)


def read_types(tables: object) -> tuple[EventType, ...]:
    """The `[[types]]` of the event catalogue; raises `ConfigError` as above.

    Whether a schema can be compiled, and an example fits it, is judged where the compiler is, at the start.
    """
    types = []
    for key, table in read_tables("types", tables):
        check_keys(key, table, _TYPE_KEYS, required=("name",))
        tenant = str(table.get("tenant", DEFAULT_TENANT))
        made = {"id": type_id(tenant, str(table["name"])), "created": 0, "updated": 0, "declared": True}
        # Dates, which TOML has and JSON has not, become texts.
        plain = msgspec.to_builtins(dict(table), str_keys=True)
        declared = _convert(key, {**plain, **made}, EventType)
        as_config(key, check_type, declared)
        types.append(declared)
    _check_unique("types", [each.id for each in types])
    return tuple(types)


def type_id(tenant: str, name: str) -> str:
    """There is one type of a name for each tenant, so its id follows from both."""
    return stable_id("typ", tenant, name)


def as_config(key: str, check: Callable[..., T], *arguments: object) -> T:
    """Run a check, and turn its `Invalid` into a `ConfigError` that names the key in the file."""
    try:
        return check(*arguments)
    except Invalid as invalid:
        first = invalid.errors[0]
        raise ConfigError(f"{key}.{first.field}", first.message) from invalid


def nearest(word: str, known: Sequence[str]) -> str:
    """`; did you mean …?`, or nothing if no known word is near."""
    found = get_close_matches(word, known, n=1)
    return f"; did you mean {found[0]}?" if found else ""


def _read_endpoint(key: str, table: dict[str, Any], environ: Mapping[str, str]) -> Endpoint:
    name, tenant = table.pop("name"), str(table.get("tenant", DEFAULT_TENANT))
    if not isinstance(name, str):
        raise ConfigError(f"{key}.name", "must be a text")
    as_config(key, check_source_name, "name", name)
    if "secret" in table and "secrets" in table:
        raise ConfigError(f"{key}.secret", "give either secret or secrets, not both")
    given = [table.pop("secret")] if "secret" in table else table.get("secrets", [])
    if "retry" in table:
        table["retry"] = as_config(key, parse_schedule, table["retry"]).delays_s
    for field in ("secret_headers", "auth"):
        if field in table:
            table[field] = _filled(f"{key}.{field}", table[field], environ)
    made = {"id": stable_id("ep", "endpoint", tenant, name), "created": 0, "updated": 0, "declared": True}
    secrets = _secrets(f"{key}.secret", given, environ)
    return _convert(key, {"description": name, **table, **made, "secrets": secrets}, Endpoint)


def read_tables(key: str, tables: object) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """`("sources[0]", its table)` and so on; raises `ConfigError` if these are no tables, or too many."""
    if not isinstance(tables, list) or not all(isinstance(table, Mapping) for table in tables):
        raise ConfigError(key, f"is a list of tables, each begun with [[{key}]]")
    if len(tables) > MAX_DECLARED:
        raise ConfigError(key, f"at most {MAX_DECLARED} can be declared")
    for index, table in enumerate(tables):
        yield f"{key}[{index}]", table


def check_keys(key: str, table: Mapping[str, Any], known: Sequence[str], *, required: Sequence[str]) -> None:
    """Raises `ConfigError` naming a key that is unknown, or missing."""
    for name in table:
        if name not in known:
            raise ConfigError(f"{key}.{name}", f"is unknown{nearest(name, known)}")
    for name in required:
        if name not in table:
            raise ConfigError(f"{key}.{name}", "is required")


def _secrets(key: str, values: object, environ: Mapping[str, str]) -> list[str]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ConfigError(key, "must be text")
    return [read_secret(key, value, environ) for value in values]


def _filled(key: str, table: object, environ: Mapping[str, str]) -> object:
    """The table with its texts read from the environment where they say so; a wrong type is for others to name."""
    if not isinstance(table, Mapping):
        return table
    return {
        name: read_secret(f"{key}.{name}", value, environ) if isinstance(value, str) else value
        for name, value in table.items()
    }


def read_secret(key: str, value: str, environ: Mapping[str, str]) -> str:
    """The secret itself, or that of the variable which `${NAME}` names; raises `ConfigError` if there is none."""
    found = _FROM_ENVIRONMENT.match(value)
    if found is None:
        return value
    if not environ.get(found[1]):
        raise ConfigError(key, f"the environment variable {found[1]} is not set")
    return environ[found[1]]


def _convert(key: str, record: Mapping[str, Any], kind: type[T]) -> T:
    try:
        return msgspec.convert(record, kind)
    except msgspec.ValidationError as exc:
        # msgspec names the types and the path, and never a value.
        found = _PATH.match(str(exc))
        what, path = (found["what"], found["path"]) if found else (str(exc), "")
        raise ConfigError(f"{key}.{path}" if path else key, what) from exc


def _check_unique(key: str, ids: Sequence[str]) -> None:
    for index, record_id in enumerate(ids):
        if record_id in ids[:index]:
            raise ConfigError(f"{key}[{index}].name", "is declared twice")
