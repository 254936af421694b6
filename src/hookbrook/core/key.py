"""API keys: `hbk_…`, shown once, kept only as a hash."""

import hashlib
from enum import StrEnum

import msgspec

from hookbrook.core.event import DEFAULT_TENANT

PREFIX = "hbk_"
#: 256 random bits: such a key cannot be guessed, so a plain SHA-256 protects it and costs one microsecond per request.
RANDOM_BYTES = 32


class Scope(StrEnum):
    #: Everything, of every tenant.
    ADMIN = "admin"
    PUBLISH = "publish"
    SUBSCRIBE = "subscribe"
    #: `POST /in/{source}` for sources that have no provider signature.
    INGEST = "ingest"


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    tenant: str = DEFAULT_TENANT
    #: Hexadecimal SHA-256 of the whole key; unique.
    hash: str
    #: The last four characters, so that people can tell keys apart.
    hint: str
    scopes: tuple[Scope, ...]
    description: str = ""
    #: When it stops working; None means never.
    expires: int | None = None
    created: int
    updated: int
    revision: int = 1


def hash_key(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
