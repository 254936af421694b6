"""Sample webhooks for trying things out, written by us in the shape of the providers'; a file for each in `samples/`.

A file is a table for each type of event, as the provider's row names types:

    ["invoice.paid"]
    headers = { Content-Type = "application/json" }
    body = '{"id": "evt_${id}", "created": ${now}}'

`${…}` is filled in anew each time, so that no sample is taken for a repeat of another: `${id}` is 24 characters,
`${hex32}` and `${sha1}` are 32 and 40 hexadecimal digits, `${uuid}` is one, `${number}` has ten digits; `${now}`,
`${now_ms}` and `${iso}` are the time. The signature is put in by `sign`.
"""

import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from hashlib import sha1, sha256
from importlib import resources
from string import Template
from types import MappingProxyType
from uuid import UUID

import msgspec

from hookbrook.inbound.request import Request

FOLDER = "samples"


class Sample(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One type of event of one provider."""

    headers: Mapping[str, str]
    body: str


Samples = Mapping[str, Mapping[str, Sample]]


@cache
def load() -> Samples:
    """All samples, by provider and type."""
    folder = resources.files("hookbrook.inbound").joinpath(FOLDER)
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".toml")), key=lambda file: file.name)
    return MappingProxyType({file.name.removesuffix(".toml"): _read(file.read_text("utf-8")) for file in files})


def _read(text: str) -> Mapping[str, Sample]:
    return MappingProxyType(msgspec.convert(tomllib.loads(text), dict[str, Sample]))


def request_of(sample: Sample, *, url: str, now: float, seed: bytes) -> Request:
    """The sample as a request that is not signed yet, at `now` (seconds since 1970); `seed` makes it unlike others."""
    values = _values(now, seed)
    headers = [(name.encode(), Template(value).substitute(values).encode()) for name, value in sample.headers.items()]
    body = Template(sample.body.strip()).substitute(values).encode()
    return Request(method="POST", url=url, headers=headers, query=url.partition("?")[2].encode("latin-1"), body=body)


def _values(now: float, seed: bytes) -> Mapping[str, str]:
    digits = sha256(seed).hexdigest()
    moment = datetime.fromtimestamp(now, UTC)
    return {
        "id": digits[:24],
        "hex32": digits[:32],
        "sha1": sha1(seed).hexdigest(),  # noqa: S324 - it only looks like a commit
        "uuid": str(UUID(digits[:32], version=4)),
        "number": str(10**9 + int(digits[:12], 16) % (9 * 10**9)),
        "now": str(int(now)),
        "now_ms": str(int(now * 1000)),
        "iso": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }
