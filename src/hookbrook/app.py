"""The one composition root: makes the parts, wires them, starts and stops them in order.

`App` is an ASGI application. It runs under our own server (`serve`), and as well under a host program's: through the
ASGI lifespan protocol, or with `async with app.running():` inside the host's own lifespan. It holds no globals, so a
process may have several.
"""

import asyncio
import logging
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from random import Random

from hookbrook.config import Settings
from hookbrook.core.event import Event
from hookbrook.core.fetch import Fetch
from hookbrook.errors import StoreUnavailable
from hookbrook.http.admission import Admission
from hookbrook.http.api import build_api
from hookbrook.http.auth import Auth, first_admin_key
from hookbrook.http.channels import Channels
from hookbrook.http.doors import Doors
from hookbrook.http.exchange import Exchange, Visitor
from hookbrook.http.express import Express
from hookbrook.http.gateway import Gateway, Stats
from hookbrook.http.guard import Guard, hosts_for, origins_for
from hookbrook.http.history import History
from hookbrook.http.ingest import Ingest
from hookbrook.http.issuers import AwaitKeys, Issuers
from hookbrook.http.problems import App as AsgiApp
from hookbrook.http.problems import Problems, Receive, Scope, Send, send_problem
from hookbrook.http.proxies import Proxies
from hookbrook.http.publish import Publish
from hookbrook.http.registration import declare
from hookbrook.http.requests import Requests
from hookbrook.http.server import Server, Signals
from hookbrook.http.server import run as run_loop
from hookbrook.http.stream import Stream
from hookbrook.inbound.providers import load as load_providers
from hookbrook.outbound.dispatcher import Dispatcher
from hookbrook.outbound.erasing import Eraser
from hookbrook.outbound.fetch import GuardedClient
from hookbrook.outbound.jobs import Runner
from hookbrook.outbound.operations import Operations
from hookbrook.outbound.settling import Settler
from hookbrook.store.appender import Appender
from hookbrook.store.base import Store
from hookbrook.store.catalog import Catalog
from hookbrook.store.retention import Retention
from hookbrook.store.sqlite import SqliteStore, system_clock
from hookbrook.stream.hub import Hub

logger = logging.getLogger("hookbrook")

#: Random bytes of the key that signs stream tokens (RFC 7518 section 3.2 wants at least the hash's 32).
TOKEN_SECRET_BYTES = 32
#: Streams that are sent away per second, so that their clients do not all come back at once.
DRAINED_PER_SECOND = 1000


class App:
    """Hookbrook as an ASGI application.

    Args:
        settings: see `hookbrook.config.load`.
        clock: microseconds since the Unix epoch.
        rng: for jitter; secrets and ids come from the operating system.
    """

    def __init__(
        self, settings: Settings, *, clock: Callable[[], int] = system_clock, rng: Random | None = None
    ) -> None:
        self.settings = settings
        #: The first administrator's key, if this start made one: the only time it is known.
        self.admin_key: str | None = None
        self._clock = clock
        self._rng = rng or Random()  # noqa: S311 - jitter, not secrets
        self._asgi: AsgiApp | None = None
        self._express: Express | None = None
        self._accepting = False
        self._parts = AsyncExitStack()
        self._hub: Hub | None = None
        self._dispatcher: Dispatcher | None = None
        self._appended = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if self._asgi is None:
            problem = StoreUnavailable(
                "Hookbrook has not been started, or has ended; run its lifespan, or `async with app.running()`."
            )
            if scope["type"] != "http":
                raise problem
            # A host program that still answers while it ends must not take this for an error of its own.
            await send_problem(send, problem, head=scope["method"] == "HEAD")
            return
        await self._asgi(scope, receive, send)

    def shortcut(self, exchange: Exchange | Visitor) -> bool:
        """The short way for single events and streams, for a server of ours that runs this; see `Express`."""
        return self._express is not None and self._express(exchange)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["App"]:
        """Started inside, stopped after: for a host program's own lifespan."""
        await self.start()
        try:
            yield self
        finally:
            await self.drain(self.settings.drain_s)
            await self.stop()

    async def start(self) -> None:
        """Open the store and start all parts; raises `ConfigError` or a `StoreError` and leaves nothing open."""
        try:
            await self._start()
        except BaseException:
            await self._parts.aclose()
            raise
        self._accepting = True

    async def drain(self, window_s: float) -> None:
        """Be not ready, and send the readers of streams away: so many a second, within the window."""
        self._accepting = False
        if self._hub is not None:
            await self._hub.drain(min(window_s, len(self._hub) / DRAINED_PER_SECOND))

    async def stop(self) -> None:
        """Finish appends and attempts, write what came of them, and close the store."""
        self._accepting = False
        self._asgi = self._express = None
        await self._parts.aclose()

    async def _start(self) -> None:
        settings = self.settings
        providers = load_providers(settings.providers)
        store = SqliteStore(settings.store_path, clock=self._clock)
        await self._opened(store.open, store.close)
        catalog = Catalog(store)
        await catalog.load()
        await declare(
            catalog,
            sources=settings.sources,
            endpoints=settings.endpoints,
            types=settings.types,
            providers=providers,
            now=self._clock(),
            random=os.urandom,
        )
        if not settings.dev:
            self.admin_key = await first_admin_key(catalog, now=self._clock())
        appender = Appender(store, catalog, self._clock)
        client = GuardedClient(
            allowed=settings.allow_rules,
            denied=settings.deny_rules,
            proxy=settings.proxy,
            direct=settings.direct_rules,
        )
        await self._parts.enter_async_context(client)
        dispatcher = await self._start_dispatcher(store, catalog, appender, client)
        hub = await self._start_hub(store, catalog)
        runner = await self._start_jobs(store, catalog, dispatcher, hub)
        await self._start_retention(store, hub)
        issuers = Issuers(settings.issuers, fetch=client, now=time.monotonic)
        token_secret = await store.secret("token", os.urandom(TOKEN_SECRET_BYTES))
        gateway = Gateway(
            settings=settings,
            store=store,
            catalog=catalog,
            appender=appender,
            auth=Auth(catalog, settings=settings, token_secret=token_secret, clock=self._clock, issuers=issuers),
            clock=self._clock,
            providers=providers,
            dispatcher_poke=dispatcher.poke,
            dispatcher_forget=dispatcher.forget,
            begin_job=runner.begin,
            forget_data=hub.forget,
            stats=self._stats(store, hub, dispatcher),
            connections=hub.connections,
            admission=Admission(settings, hub.connections, now=time.monotonic, rng=self._rng),
            proxies=Proxies(settings.proxy_rules, standard=settings.proxy_headers == "forwarded"),
            allowed=settings.allow_rules,
            denied=settings.deny_rules,
            accepting=lambda: self._accepting,
        )
        ingest = Ingest(gateway, client)
        self._parts.push_async_callback(ingest.close)
        publish = Publish(gateway)
        stream = Stream(gateway, hub)
        guard = _guarded(gateway, publish, stream, ingest)
        self._asgi, self._express = guard, Express(guard, publish, ingest, stream, appender)

    async def _start_dispatcher(self, store: Store, catalog: Catalog, appender: Appender, client: Fetch) -> Dispatcher:
        operations = Operations(catalog, appender.append, now=self._clock, disable_after_s=self.settings.disable_after)
        self._parts.push_async_callback(operations.close)
        dispatcher = Dispatcher(store, client, operations, clock=self._clock, rng=self._rng)
        catalog.on_routes(dispatcher.routes_changed)
        appender.on_owed(dispatcher.offer)
        await self._opened(dispatcher.start, lambda: dispatcher.stop(self.settings.drain_s))
        settler = Settler(store, dispatcher.poke, clock=self._clock)
        catalog.on_routes(settler.routes_changed)
        await self._opened(settler.start, settler.stop)
        self._dispatcher = dispatcher
        return dispatcher

    async def _start_hub(self, store: Store, catalog: Catalog) -> Hub:
        hub = Hub(store, clock=self._clock, rng=self._rng, heartbeat_s=self.settings.heartbeat_s)
        hub.start()
        catalog.on_key_gone(lambda key: hub.connections.revoke(lambda each: key.id in each.rests_on))
        self._parts.push_async_callback(hub.stop)
        await hub.feed.warm()
        self._hub = hub
        return hub

    async def _start_jobs(self, store: Store, catalog: Catalog, dispatcher: Dispatcher, hub: Hub) -> Runner:
        eraser = Eraser(store, catalog, hub.forget_tenant, clock=self._clock)
        runner = Runner(store, lambda: catalog.routes, dispatcher.poke, eraser, clock=self._clock, rng=self._rng)
        await self._opened(runner.start, runner.stop)
        return runner

    async def _start_retention(self, store: Store, hub: Hub) -> None:
        age, count = self.settings.retention_age, self.settings.retention_count
        rules = self.settings.retention
        retention = Retention(
            store,
            age_s=age,
            count=count,
            clock=self._clock,
            rules=rules,
            body_age_s=self.settings.body_retention,
            forget=hub.forget,
        )
        task = asyncio.create_task(retention.run(), name="hookbrook-retention")
        self._parts.push_async_callback(_end, task)

    async def _opened(self, start: Callable[[], Awaitable[None]], stop: Callable[[], Awaitable[None]]) -> None:
        """Start a part, and stop it when the app stops, before everything that was started earlier."""
        await start()
        self._parts.push_async_callback(stop)

    def _stats(self, store: Store, hub: Hub, dispatcher: Dispatcher) -> Stats:
        def count(events: Sequence[Event]) -> None:
            self._appended += len(events)

        def outcomes() -> Mapping[str, int]:
            return Counter({str(kind): number for kind, number in dispatcher.stats().outcomes.items()})

        store.follow(count)
        return Stats(
            events=lambda: self._appended,
            streams=lambda: len(hub),
            in_flight=lambda: dispatcher.stats().repeatable,
            prevented=lambda: dispatcher.stats().prevented,
            outcomes=outcomes,
        )

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        """ASGI lifespan 2.0: start and stop when the host's server does."""
        await receive()
        try:
            await self.start()
        except Exception as exc:  # noqa: BLE001 - the protocol wants every failure told to the server
            await send({"type": "lifespan.startup.failed", "message": str(exc)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.drain(self.settings.drain_s)
        await self.stop()
        await send({"type": "lifespan.shutdown.complete"})


def _guarded(gateway: Gateway, publish: Publish, stream: Stream, ingest: Ingest) -> Guard:
    settings = gateway.settings
    doors = Doors(
        publish=publish,
        channels=Channels(gateway),
        history=History(gateway),
        stream=stream,
        ingest=ingest,
        requests=Requests(gateway, stream),
        api=build_api(gateway, ingest),
    )
    return Guard(
        # Only who fetches keys pays for waiting for them.
        Problems(AwaitKeys(doors) if any(issuer.keys_url for issuer in settings.issuers) else doors),
        allowed_hosts=hosts_for(settings.host, settings.public_url, settings.allowed_hosts),
        allowed_origins=origins_for(settings.public_url, settings.allowed_origins),
    )


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


#: Told once requests are answered: the port, and the administrator's key if this start made one.
Announce = Callable[[int, str | None], None]


def run(settings: Settings, *, announce: Announce) -> None:
    """`serve` on an event loop of its own."""
    run_loop(serve(settings, announce=announce))


async def serve(settings: Settings, *, announce: Announce) -> None:
    """Run until a signal, then end in order: not ready, accept no more, drain streams, finish requests, appends and
    attempts, close the store. A second signal ends the process at once.

    Raises `ConfigError` or a `StoreError` if it cannot start.
    """
    app: App | None = None

    def door(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        assert app is not None
        return app(scope, receive, send)

    # Bound first, so that a port in use is told before the store is touched; connections wait in the kernel meanwhile.
    def shortcut(exchange: Exchange | Visitor) -> bool:
        return app is not None and app.shortcut(exchange)

    server = Server(door, host=settings.host, port=settings.port, shortcut=shortcut)
    await server.bind()
    with Signals() as signals:
        app = App(replace(settings, port=server.port))
        try:
            await app.start()
        except BaseException:
            server.unbind()
            raise
        await server.start()
        announce(server.port, app.admin_key)
        await signals.first()
        logger.info("stopping: streams are told to come back, what is under way may finish")
        server.stop_accepting()
        await app.drain(settings.drain_s)
        await server.finish(settings.drain_s)
        await app.stop()
        logger.info("stopped")
