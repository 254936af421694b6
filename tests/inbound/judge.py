"""What a judge is: third-party code that signs or verifies for a provider, and what it is shown."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from hookbrook.inbound.request import Request

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER_SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
URL = "https://hooks.example.com/in/source"
#: Has the amount that is changed, and something to read for each of the providers.
BODY = '{"id":"evt_1","type":"invoice.paid","event":"meeting.started","amount":1250,"name":"Zoë"}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One webhook as its provider would send it."""

    headers: Mapping[str, str] = field(default_factory=dict)
    body: str
    url: str = URL

    @property
    def request(self) -> Request:
        return Request(
            method="POST",
            url=self.url,
            query=urlsplit(self.url).query.encode(),
            headers=[(name.encode(), value.encode()) for name, value in self.headers.items()],
            body=self.body.encode(),
        )


def changed_body(sent: Sent) -> Sent:
    changed = replace(sent, body=sent.body.replace("1250", "9250"))
    assert changed != sent
    return changed


def changed_header(name: str) -> Callable[[Sent], Sent]:
    """For what is proven by a shown secret alone, and not by the body."""

    def change(sent: Sent) -> Sent:
        value = sent.headers[name]
        return replace(sent, headers={**sent.headers, name: value[:-1] + ("a" if value[-1] != "a" else "b")})

    return change


def each_header_missing(sent: Sent) -> Sequence[Sent]:
    return [only_without(name)(sent)[0] for name in sent.headers if name != "Content-Type"]


def only_without(*names: str) -> Callable[[Sent], Sequence[Sent]]:
    """For requests with headers that the judge looks at and we do not."""

    def without(sent: Sent) -> Sequence[Sent]:
        return [
            replace(sent, headers={name: value for name, value in sent.headers.items() if name != missing})
            for missing in names
        ]

    return without


def without_member(name: str) -> Callable[[Sent], Sequence[Sent]]:
    """For signatures that stand in the body."""

    def without(sent: Sent) -> Sequence[Sent]:
        rest = {key: value for key, value in json.loads(sent.body).items() if key != name}
        return [replace(sent, body=json.dumps(rest))]

    return without


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    provider: str
    #: The package and where it is from.
    name: str
    #: Makes a webhook with this secret, this body and the time at which it is sent: the judge's own code, or else ours,
    #: written after the provider's documentation.
    sign: Callable[[str, str, int], Sent]
    #: The judge's verdict, by this secret. An exception is a refusal too.
    accepts: Callable[[str, Sent], bool]
    body: str = BODY
    #: What our source holds for a secret by which `sign` signs: the secret itself, or its public key.
    held: Callable[[str], str] = str
    secrets: tuple[str, str] = (SECRET, OTHER_SECRET)
    #: The certificate that was fetched, for providers that sign by one.
    certificate: bytes | None = None
    #: Age in seconds at which a webhook is too old for both; 0: its time is not signed.
    stale_s: int = 0
    #: Columns in which the judge accepts what we refuse, each with the reason.
    laxer: Mapping[str, str] = field(default_factory=dict)
    changed: Callable[[Sent], Sent] = changed_body
    without: Callable[[Sent], Sequence[Sent]] = each_header_missing

    def __str__(self) -> str:
        return f"{self.provider}-{self.name.replace(' ', '-')}"
