"""The table of providers: the rows that travel with the package and those that the operator declares."""

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any

import msgspec

from hookbrook.errors import ConfigError, FieldError, Invalid
from hookbrook.inbound.proof import verifying
from hookbrook.inbound.recipe import VERIFY_TOKEN, Certificate, Hmac, Jwt, PublicKey, Row, Token, read_row

#: Secrets of one source: each is one more HMAC over every request, and a rotation needs two.
MAX_SECRETS = 10

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}\Z")
_PATH = re.compile(r"^(?P<what>.*) - at `\$\.?(?P<path>[^`]*)`$", re.DOTALL)


def load(declared: Mapping[str, Any] | None = None) -> Mapping[str, Row]:
    """All rows by id: ours, then `[providers]` of hookbrook.toml, which may replace or extend them.

    Raises `ConfigError`, naming the key, at the first row that is not right.
    """
    return _read_all({**_shipped(), **declared}) if declared else _shipped_rows()


@cache
def _shipped() -> Mapping[str, Any]:
    return tomllib.loads(resources.files("hookbrook.inbound").joinpath("providers.toml").read_text("utf-8"))


@cache
def _shipped_rows() -> Mapping[str, Row]:
    return _read_all(_shipped())


def _read_all(tables: Mapping[str, Any]) -> Mapping[str, Row]:
    return MappingProxyType({name: _read(name, tables) for name in tables})


def check_secrets(row: Row, secrets: tuple[str, ...] | list[str]) -> None:
    """Whether each secret is one that this provider's scheme can use; raises `Invalid`, which never shows a secret."""
    if len(secrets) > MAX_SECRETS:
        raise Invalid.of("secrets", f"at most {MAX_SECRETS} secrets, got {len(secrets)}")
    errors = [
        FieldError(f"secrets[{index}]", problem)
        for index, secret in enumerate(secrets)
        if (problem := _secret_problem(row, secret))
    ]
    if errors:
        raise Invalid("; ".join(f"{error.field}: {error.message}" for error in errors), errors)


def _read(name: str, tables: Mapping[str, Any]) -> Row:
    key = f"providers.{name}"
    if not _NAME.match(name):
        raise ConfigError(key, "a provider's name has 1 to 63 characters of a-z 0-9 _ -")
    try:
        return read_row(name, _extended(key, tables[name], tables))
    except msgspec.ValidationError as exc:
        found = _PATH.match(str(exc))
        what, path = (found["what"], found["path"]) if found else (str(exc), "")
        raise ConfigError(f"{key}.{path}" if path else key, what) from exc


def _extended(key: str, table: Any, tables: Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(table, Mapping):
        raise ConfigError(key, "a provider is a table")
    if "extends" not in table:
        return table
    base = tables.get(table["extends"]) if isinstance(table["extends"], str) else None
    if not isinstance(base, Mapping) or "extends" in base:
        raise ConfigError(f"{key}.extends", "names no provider, or one that extends another itself")
    return {**base, **{name: value for name, value in table.items() if name != "extends"}}


def _secret_problem(row: Row, secret: str) -> str:
    if secret != secret.strip():
        return "there is white space before or after the secret"
    if row.has_verify_token and secret.startswith(VERIFY_TOKEN):
        return "" if secret != VERIFY_TOKEN else "it is empty"
    if isinstance(row.verify, Certificate):
        return _named_problem(row.verify.scheme, secret)
    if isinstance(row.verify, Token):
        if row.verify.encoding == "base64" and ":" not in secret:
            return "it is not of the form `name:password`"
        return "" if secret else "it is empty"
    if isinstance(row.verify, Hmac | PublicKey | Jwt):
        try:
            key = row.verify.key.decode(secret)
            if isinstance(row.verify, PublicKey):
                verifying(row.verify.algorithm, key)
        except ValueError as exc:
            return str(exc)
    return ""


def _named_problem(scheme: str, secret: str) -> str:
    if scheme == "sns":
        return "" if secret.startswith("arn:") else "it is not the name of a topic (arn:…)"
    # As PayPal describes its ids. By WEBHOOK_ID, which is none, its simulator signs for anybody.
    return "" if secret.isascii() and secret.isalnum() else "it is not the id of a webhook (letters and digits)"
