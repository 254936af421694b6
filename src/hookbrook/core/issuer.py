"""Issuers: who else than we may sign stream tokens, as `[[issuers]]` of hookbrook.toml says.

    [[issuers]]
    issuer = "https://id.example.com"
    keys_url = "https://id.example.com/.well-known/jwks.json"
    audience = "hookbrook"

An issuer belongs to one tenant: whatever its tokens say, they open nobody else's channels.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from hookbrook.core.addresses import Rule, parse_url
from hookbrook.core.channel import check_patterns
from hookbrook.core.declared import as_config, check_keys, read_secret, read_tables
from hookbrook.core.event import DEFAULT_TENANT
from hookbrook.core.keyset import KeySetError, from_secret
from hookbrook.core.registration import check_tenant
from hookbrook.core.token import LEEWAY_S, Claims, TokenError, check_times
from hookbrook.core.units import format_duration, parse_duration
from hookbrook.errors import ConfigError, Invalid

#: Identity providers' access tokens last from minutes to a day.
DEFAULT_MAX_LIFETIME_S: Final = 30 * 86400.0
MAX_MAX_LIFETIME_S: Final = 366 * 86400.0
MAX_TEXT: Final = 1000

_KEYS: Final = (
    *("issuer", "tenant", "audience", "secret", "keys_file", "keys_url"),
    *("subscribe_claim", "publish_claim", "max_lifetime"),
)
_WHERE: Final = ("secret", "keys_file", "keys_url")


class Issuer(msgspec.Struct, frozen=True, kw_only=True):
    #: What the token's `iss` says, letter by letter.
    issuer: str
    tenant: str = DEFAULT_TENANT
    #: What the token's `aud` must name, if this is not empty.
    audience: str = ""
    #: Exactly one of these three says where the keys are.
    secret: str = ""
    keys_file: Path | None = None
    keys_url: str = ""
    #: Names of the claims that hold channel patterns.
    subscribe_claim: str = "subscribe"
    publish_claim: str = "publish"
    #: Seconds that a token may have left; bounds how long revocations are kept.
    max_lifetime_s: float = DEFAULT_MAX_LIFETIME_S

    def claims(self, payload: Mapping[str, Any], *, now_s: float) -> Claims:
        """What a token of this issuer, whose signature holds, says; raises `TokenError`."""
        if self.audience and self.audience not in _as_list(payload.get("aud")):
            raise TokenError("The token is not for this audience.")
        if payload.get("tenant") not in (None, self.tenant):
            raise TokenError("The token names a tenant that is not its issuer's.")
        try:
            claims = Claims(
                exp=_time(payload, "exp"),
                iat=None if payload.get("iat") is None else _time(payload, "iat"),
                nbf=None if payload.get("nbf") is None else _time(payload, "nbf"),
                sub=_text(payload, "sub"),
                jti=_text(payload, "jti") or None,
                tenant=self.tenant,
                subscribe=_patterns(payload, self.subscribe_claim),
                publish=_patterns(payload, self.publish_claim),
            )
        except Invalid as exc:
            raise TokenError(f"The token's claims are not valid: {exc}.") from exc
        check_times(claims, now_s=now_s)
        if claims.exp - now_s > self.max_lifetime_s + LEEWAY_S:
            limit = format_duration(self.max_lifetime_s)
            raise TokenError(f"The token lasts longer than {limit}, the max_lifetime of its issuer.")
        return claims


def read_issuers(
    tables: object, environ: Mapping[str, str], folder: Path, *, allowed: tuple[Rule, ...]
) -> tuple[Issuer, ...]:
    """The `[[issuers]]`; raises `ConfigError` naming the key (`issuers[0].keys_url`) and never a secret."""
    issuers: list[Issuer] = []
    for key, table in read_tables("issuers", tables):
        issuer = _read_issuer(key, table, environ, folder, allowed)
        if any(other.issuer == issuer.issuer for other in issuers):
            raise ConfigError(f"{key}.issuer", "is declared twice; an issuer belongs to one tenant")
        issuers.append(issuer)
    return tuple(issuers)


def _read_issuer(
    key: str, table: Mapping[str, Any], environ: Mapping[str, str], folder: Path, allowed: tuple[Rule, ...]
) -> Issuer:
    check_keys(key, table, _KEYS, required=("issuer",))
    for name, value in table.items():
        if name != "max_lifetime" and not (isinstance(value, str) and 0 < len(value) <= MAX_TEXT):
            raise ConfigError(f"{key}.{name}", f"must be a text of 1 to {MAX_TEXT} characters")
    if len([name for name in _WHERE if name in table]) != 1:
        raise ConfigError(f"{key}.keys_url", "give exactly one of secret, keys_file and keys_url")
    tenant = as_config(key, check_tenant, "tenant", table.get("tenant", DEFAULT_TENANT))
    return Issuer(
        issuer=table["issuer"],
        tenant=tenant,
        audience=table.get("audience", ""),
        secret=_read_secret(f"{key}.secret", table["secret"], environ) if "secret" in table else "",
        keys_file=folder / table["keys_file"] if "keys_file" in table else None,
        keys_url=_read_url(key, table["keys_url"], allowed) if "keys_url" in table else "",
        subscribe_claim=table.get("subscribe_claim", "subscribe"),
        publish_claim=table.get("publish_claim", "publish"),
        max_lifetime_s=_read_lifetime(f"{key}.max_lifetime", table.get("max_lifetime")),
    )


def _read_secret(key: str, value: str, environ: Mapping[str, str]) -> str:
    secret = read_secret(key, value, environ)
    try:
        from_secret(secret)
    except KeySetError as exc:
        raise ConfigError(key, str(exc)) from None
    return secret


def _read_url(key: str, url: str, allowed: tuple[Rule, ...]) -> str:
    target = as_config(key, parse_url, url, "keys_url")
    if target.scheme != "https" and not (target.address is not None and allowed):
        # Who can change the answer on its way could sign as anybody.
        raise ConfigError(f"{key}.keys_url", "must begin with https:// (or name an address that allow_networks lists)")
    return url


def _read_lifetime(key: str, value: object) -> float:
    if value is None:
        return DEFAULT_MAX_LIFETIME_S
    try:
        seconds = parse_duration(str(value))
    except ValueError as exc:
        raise ConfigError(key, str(exc)) from None
    if not 1 <= seconds <= MAX_MAX_LIFETIME_S:
        raise ConfigError(key, f"must be between 1s and {format_duration(MAX_MAX_LIFETIME_S)}")
    return seconds


def _as_list(value: object) -> list[object]:
    return list(value) if isinstance(value, list) else [value]


def _time(payload: Mapping[str, Any], name: str) -> float:
    value = payload.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Invalid.of(name, "must be a time in seconds")
    return float(value)


def _text(payload: Mapping[str, Any], name: str) -> str:
    value = payload.get(name, "")
    if not isinstance(value, str) or len(value) > MAX_TEXT or not value.isprintable():
        raise Invalid.of(name, f"must be a text of at most {MAX_TEXT} characters")
    return value


def _patterns(payload: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = payload.get(name, [])
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
        raise Invalid.of(name, "must be a list of channel patterns")
    return check_patterns(name, values)
