"""A gateway over a real store in a temporary folder, and a caller that speaks ASGI to its doors."""

import json
import os
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote

from hookbrook.config import load
from hookbrook.core.event import Event
from hookbrook.core.key import Scope as KeyScope
from hookbrook.http.admission import Admission
from hookbrook.http.api import build_api
from hookbrook.http.auth import Auth, new_key
from hookbrook.http.gateway import Gateway, Stats
from hookbrook.http.ingest import Ingest
from hookbrook.http.problems import App, Problems, Receive, Scope, Send
from hookbrook.http.proxies import Proxies
from hookbrook.inbound.providers import load as load_providers
from hookbrook.store.appender import Appender
from hookbrook.store.base import Query
from hookbrook.store.catalog import Catalog
from hookbrook.store.sqlite import SqliteStore
from hookbrook.stream.connections import Connections

#: 2026-11-23T16:20:00Z, in microseconds.
NOW = 1_795_450_800_000_000
SECOND = 1_000_000
TOKEN_SECRET = b"a secret of the tests, 32 bytes!"


@dataclass(slots=True)
class Clock:
    """A clock that moves when a test says so."""

    now: int = NOW

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += round(seconds * SECOND)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def fields(self) -> dict[str, str]:
        """The wrong fields that a problem names."""
        assert self.headers["content-type"] == "application/problem+json"
        return {error["field"]: error["message"] for error in self.json().get("errors", [])}


Headers = Mapping[str, str] | Iterable[tuple[bytes, bytes]]


async def call(
    app: App,
    method: str,
    path: str,
    *,
    body: bytes | list[bytes] = b"",
    headers: Headers = (),
    client: tuple[str, int] | None = ("127.0.0.1", 50000),
) -> Answer:
    """One request. A body that is a list arrives in as many pieces, without a length."""
    pieces = list(body) if isinstance(body, list) else [body]
    pairs = [(b"host", b"localhost:4665"), *_pairs(headers)]
    if not isinstance(body, list) and body and all(name != b"content-length" for name, _ in pairs):
        pairs.append((b"content-length", str(len(body)).encode()))
    path, _, query = path.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": quote(path).encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": pairs,
        "client": client,
        "server": ("127.0.0.1", 4665),
    }
    sent: list[Mapping[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if not pieces:
            return {"type": "http.disconnect"}
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    start = sent[0]
    found = {name.decode("latin-1"): value.decode("latin-1") for name, value in start["headers"]}
    return Answer(status=start["status"], headers=found, body=b"".join(part.get("body", b"") for part in sent[1:]))


def _pairs(headers: Headers) -> list[tuple[bytes, bytes]]:
    if isinstance(headers, Mapping):
        return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    return list(headers)


@dataclass(slots=True, kw_only=True)
class House:
    """A gateway, its doors, and an administrator's key."""

    gateway: Gateway
    clock: Clock
    admin: str
    poked: list[str]
    #: Jobs that were begun.
    begun: list[str] = field(default_factory=list)
    app: App = field(init=False)
    ingest: Ingest = field(init=False)

    def __post_init__(self) -> None:
        self.ingest = ingest = Ingest(self.gateway)
        api = build_api(self.gateway)

        async def doors(scope: Scope, receive: Receive, send: Send) -> None:
            await (ingest if scope["path"].startswith("/in/") else api)(scope, receive, send)

        self.app = Problems(doors)

    async def ask(self, method: str, path: str, document: Any = None, *, key: str | None = None, **more: str) -> Answer:
        """A management request by the administrator, or by whoever holds `key` ("" is nobody)."""
        key = self.admin if key is None else key
        headers = {**more, **({"Authorization": f"Bearer {key}"} if key else {})}
        body = b"" if document is None else json.dumps(document).encode()
        return await call(self.app, method, path, body=body, headers=headers)

    async def key(self, *scopes: KeyScope, tenant: str = "default") -> str:
        text, key = new_key(tenant=tenant, scopes=scopes, now=self.clock())
        await self.gateway.catalog.save(key)
        return text

    async def source(self, **fields: Any) -> Any:
        answer = await self.ask("POST", "/v1/sources", {"name": "in", "provider": "github", **fields})
        assert answer.status == 201, answer.body
        return answer.json()

    async def endpoint(self, **fields: Any) -> Any:
        answer = await self.ask("POST", "/v1/endpoints", {"url": "https://example.com/hook", **fields})
        assert answer.status == 201, answer.body
        return answer.json()

    async def events(self) -> list[Event]:
        """The whole log, our own channels included."""
        page = await self.gateway.store.read(Query(tenant=None, channels=("*", "hookbrook.*")), after=0, limit=1000)
        return page.events


@asynccontextmanager
async def gateway_in(folder: Path, *, stats: Stats | None = None, **flags: object) -> AsyncIterator[House]:
    """A gateway that keeps its log in `folder`; the rest are settings."""
    clock = Clock()
    settings = load(flags, {}, folder)
    store = SqliteStore(settings.store_path, clock=clock)
    await store.open()
    try:
        catalog = Catalog(store)
        await catalog.load()
        text, key = new_key(tenant="default", scopes=[KeyScope.ADMIN], now=clock())
        await catalog.save(key)
        poked: list[str] = []
        connections = Connections()
        begun: list[str] = []
        gateway = Gateway(
            settings=settings,
            store=store,
            catalog=catalog,
            appender=Appender(store, catalog, clock),
            auth=Auth(catalog, settings=settings, token_secret=TOKEN_SECRET, clock=clock),
            clock=clock,
            providers=load_providers(settings.providers),
            dispatcher_poke=poked.append,
            begin_job=begun.append,
            stats=stats or Stats(),
            connections=connections,
            admission=Admission(settings, connections, now=lambda: clock() / SECOND, rng=Random(1)),
            proxies=Proxies(settings.proxy_rules, standard=settings.proxy_headers == "forwarded"),
            allowed=settings.allow_rules,
            denied=settings.deny_rules,
            random=os.urandom,
        )
        house = House(gateway=gateway, clock=clock, admin=text, poked=poked, begun=begun)
        yield house
        await house.ingest.close()

    finally:
        await store.close()
