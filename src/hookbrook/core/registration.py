"""What may be said of a source, an endpoint and a tenant: one judge for the API and for hookbrook.toml.

Everything wrong is named at once, so that nobody has to correct a form field by field. What only a provider's row can
say (its secrets, its templates) is judged where the rows are, in `http.registration`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_network
from urllib.parse import urlsplit

from hookbrook.core.addresses import MAX_URL_LENGTH, Network, Rule, check_target, parse_url
from hookbrook.core.channel import RESERVED, check_patterns
from hookbrook.core.credential import check_credential
from hookbrook.core.endpoint import (
    FORMATS,
    MAX_CONCURRENCY,
    MAX_RATE,
    MAX_TIMEOUT_S,
    MIN_RATE,
    ORDERINGS,
    SIGNATURES,
    Endpoint,
)
from hookbrook.core.expression import Expression
from hookbrook.core.headers import MAX_HEADERS, check_headers
from hookbrook.core.retry import parse_schedule
from hookbrook.core.signing import parse_secret
from hookbrook.core.source import Source
from hookbrook.errors import FieldError, Invalid

#: A tenant is a column of every index, and often a customer's id elsewhere: a UUID with a prefix fits.
MAX_TENANT_LENGTH = 64
#: A source's name is typed into other people's dashboards as a part of a URL.
MAX_SOURCE_NAME_LENGTH = 64
MAX_DESCRIPTION_LENGTH = 500
#: Every webhook's address is compared with each; GitHub publishes 6, the largest known list has some hundred.
MAX_NETWORKS = 500
#: The store forgets no id before (`store.base.SEEN_WINDOW_US`); no provider tries again for longer.
MAX_DEDUPE_WINDOW_S = 14 * 86_400
MAX_METADATA_KEYS = 50
MAX_METADATA_KEY_LENGTH = 40
MAX_METADATA_VALUE_LENGTH = 500
#: Below this a connection to the other side of the world does not come about.
MIN_TIMEOUT_S = 0.5
MIN_CONNECT_TIMEOUT_S = 0.1
#: The largest webhook that an installation can be set to receive.
MAX_BODY_BYTES = 256 * 2**20
#: Each secret is one more signature on every webhook; a rotation needs two.
MAX_ENDPOINT_SECRETS = 5

_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_SOURCE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\Z")


def check_tenant(field: str, value: str) -> str:
    """1 to 64 characters of `A-Za-z0-9._-`, the first a letter or digit; raises `Invalid`."""
    if not _TENANT.match(value):
        raise Invalid.of(
            field, f"must be 1 to {MAX_TENANT_LENGTH} characters of A-Z a-z 0-9 . _ -, and begin with a letter or digit"
        )
    return value


def check_source_name(field: str, value: str) -> str:
    """1 to 64 characters of `a-z0-9._-`, the first a letter or digit; raises `Invalid`."""
    if not _SOURCE_NAME.match(value):
        raise Invalid.of(
            field,
            f"must be 1 to {MAX_SOURCE_NAME_LENGTH} characters of a-z 0-9 . _ -, and begin with a letter or digit",
        )
    if value.startswith(RESERVED):
        # The name is the channel unless a template says otherwise.
        raise Invalid.of(field, f"names that start with {RESERVED!r} are reserved")
    return value


def check_description(field: str, value: str) -> str:
    if len(value) > MAX_DESCRIPTION_LENGTH:
        raise Invalid.of(field, f"may have at most {MAX_DESCRIPTION_LENGTH} characters")
    return value


def check_source(source: Source) -> None:
    """Raises `Invalid` with everything that is wrong, whichever the provider is."""
    check_all(
        lambda: check_source_name("name", source.name),
        lambda: check_tenant("tenant", source.tenant),
        lambda: check_description("description", source.description),
        lambda: None if source.dedupe_window_s is None else _check_window(source.dedupe_window_s),
        lambda: parse_networks(source.networks),
        lambda: None if source.public_url is None else check_public_url("public_url", source.public_url),
    )


def parse_networks(entries: Sequence[str], field: str = "networks") -> tuple[Network, ...]:
    """Networks such as `192.30.252.0/22`, or single addresses; raises `Invalid`, which names the entry."""
    if len(entries) > MAX_NETWORKS:
        raise Invalid.of(field, f"at most {MAX_NETWORKS} networks")
    found: list[Network] = []
    for index, entry in enumerate(entries):
        try:
            found.append(ip_network(entry))
        except ValueError:
            message = "must be a network such as 192.30.252.0/22 without bits beyond its length, or an address"
            raise Invalid.of(f"{field}[{index}]", message) from None
    return tuple(found)


def check_public_url(field: str, value: str) -> str:
    """An http or https URL without user, query and fragment, without a slash at its end; raises `Invalid`."""
    text = value.strip().rstrip("/")
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable or re.search(r"[\s@?#\\]", text) or len(text) > MAX_URL_LENGTH:
        raise Invalid.of(field, "must be a URL such as https://hooks.example.com, without user, query and fragment")
    return text


def _check_window(seconds: float) -> None:
    if not 0 <= seconds <= MAX_DEDUPE_WINDOW_S:
        raise Invalid.of("dedupe_window_s", f"must be between 0 and {MAX_DEDUPE_WINDOW_S} seconds")


def check_endpoint(endpoint: Endpoint, allowed: Sequence[Rule] = (), denied: Sequence[Rule] = ()) -> None:
    """Raises `Invalid` with everything that is wrong.

    Args:
        allowed: the operator's rules for addresses (`core.addresses`); a literal address that they refuse is an error.
        denied: likewise.
    """
    check_all(
        lambda: check_target(parse_url(endpoint.url), allowed, denied),
        lambda: check_tenant("tenant", endpoint.tenant),
        lambda: check_patterns("types", endpoint.types),
        lambda: check_patterns("channels", endpoint.channels),
        lambda: _check_secrets(endpoint.secrets),
        lambda: _check_signatures(endpoint.signatures),
        lambda: check_headers(endpoint.headers),
        lambda: check_headers(endpoint.secret_headers, "secret_headers"),
        lambda: _check_together(endpoint),
        lambda: None if endpoint.auth is None else check_credential(endpoint.auth),
        lambda: _check_word("ordering", endpoint.ordering, ORDERINGS),
        lambda: _check_word("format", endpoint.format, FORMATS),
        lambda: _check_expressions(endpoint),
        lambda: parse_schedule(endpoint.retry),
        lambda: _check_range("concurrency", endpoint.concurrency, 1, MAX_CONCURRENCY),
        lambda: _check_optional("rate_limit", endpoint.rate_limit, MIN_RATE, MAX_RATE),
        lambda: _check_range("timeout_s", endpoint.timeout_s, MIN_TIMEOUT_S, MAX_TIMEOUT_S),
        lambda: _check_range("connect_timeout_s", endpoint.connect_timeout_s, MIN_CONNECT_TIMEOUT_S, MAX_TIMEOUT_S),
        lambda: _check_optional("max_body_bytes", endpoint.max_body_bytes, 1, MAX_BODY_BYTES),
        lambda: check_description("description", endpoint.description),
        lambda: _check_metadata(endpoint.metadata),
    )


def check_all(*checks: Callable[[], object]) -> None:
    """Run every check, and raise one `Invalid` with the errors of all that failed."""
    errors: list[FieldError] = []
    for check in checks:
        try:
            check()
        except Invalid as invalid:
            errors += invalid.errors
    if errors:
        raise Invalid(
            f"{errors[0].field}: {errors[0].message}" if len(errors) == 1 else "Several fields are wrong.", errors
        )


def _check_secrets(secrets: Sequence[str]) -> None:
    if len(secrets) > MAX_ENDPOINT_SECRETS:
        raise Invalid.of("secret", f"at most {MAX_ENDPOINT_SECRETS} secrets at a time")
    for secret in secrets:
        parse_secret(secret)


def _check_signatures(signatures: Sequence[str]) -> None:
    if not signatures or len(set(signatures)) != len(signatures) or not set(signatures) <= set(SIGNATURES):
        raise Invalid.of("signatures", f"must be one or more of {', '.join(SIGNATURES)}, each once")


def _check_together(endpoint: Endpoint) -> None:
    """What two fields say of one header."""
    names = {name.lower() for name in endpoint.headers}
    for name in endpoint.secret_headers:
        if name.lower() in names:
            raise Invalid.of(f"secret_headers.{name}", "is given in headers, too")
    names |= {name.lower() for name in endpoint.secret_headers}
    if endpoint.auth is not None and "authorization" in names:
        raise Invalid.of("auth", "cannot be given beside a header named Authorization")
    if len(names) > MAX_HEADERS:
        raise Invalid.of("secret_headers", f"may have at most {MAX_HEADERS} headers together with headers")


def _check_word(field: str, word: str, words: Sequence[str]) -> None:
    if word not in words:
        raise Invalid.of(field, f"must be one of {', '.join(words)}")


def _check_expressions(endpoint: Endpoint) -> None:
    if endpoint.filter is not None:
        Expression.compile(endpoint.filter, field="filter")
    if endpoint.transform is not None:
        Expression.compile(endpoint.transform, field="transform")
        if endpoint.format != "data":
            raise Invalid.of("format", "cannot be given beside transform, whose result is the body")


def _check_optional(field: str, value: float | None, low: float, high: float) -> None:
    if value is not None:
        _check_range(field, value, low, high)


def _check_range(field: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise Invalid.of(field, f"must be between {low:.10g} and {high:.10g}")


def _check_metadata(metadata: Mapping[str, str]) -> None:
    if len(metadata) > MAX_METADATA_KEYS:
        raise Invalid.of("metadata", f"may have at most {MAX_METADATA_KEYS} keys")
    for key, value in metadata.items():
        if not 1 <= len(key) <= MAX_METADATA_KEY_LENGTH:
            raise Invalid.of("metadata", f"a key has 1 to {MAX_METADATA_KEY_LENGTH} characters")
        if len(value) > MAX_METADATA_VALUE_LENGTH:
            raise Invalid.of(f"metadata.{key}", f"may have at most {MAX_METADATA_VALUE_LENGTH} characters")
