"""A dispatcher with everything real around it: the SQLite store, the guarded client, receivers on loopback.

Time alone is virtual: nothing comes due unless a test advances it, and each test says so in seconds.
"""

import asyncio
import heapq
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from random import Random
from time import monotonic

from msgspec.structs import replace

from hookbrook.core.addresses import parse_rules
from hookbrook.core.delivery import Attempt, Delivery, Happening, Outcome, State
from hookbrook.core.endpoint import Endpoint
from hookbrook.core.event import NewEvent
from hookbrook.core.fetch import Fetch
from hookbrook.outbound.dispatcher import Dispatcher
from hookbrook.outbound.fetch import GuardedClient
from hookbrook.outbound.operations import Operations
from hookbrook.outbound.settling import Settler
from hookbrook.store.appender import Appender
from hookbrook.store.base import NO_CHANGES, Deliveries, DeliveryQuery, Due
from hookbrook.store.catalog import Catalog
from hookbrook.store.sqlite import SqliteStore

from .conftest import Arrived, Peer

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#: When the tests begin: 2026-11-23T16:20:00Z.
START_US = 1_795_450_800_000_000
DAY_S = 86_400.0

#: The tasks that stand for work; the ledger's one waits for ever.
WORK = {f"hookbrook {work}" for work in ("attempts", "pager", "sweep", "disabling", "operations", "settling")}
#: How long nothing need move before it is taken to be stuck; longer than an attempt may last.
STUCK_S = 30.0


class VirtualTimer:
    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        self.callback = None


class VirtualTime:
    """`Timers` and a wall clock that stand still until they are moved; whole microseconds within."""

    def __init__(self, wall_us: int = START_US) -> None:
        self._now_us = 1_000_000_000
        self._wall_us = wall_us
        self._timers: list[tuple[int, int, VirtualTimer]] = []
        self._number = count()

    def time(self) -> float:
        return self._now_us / 1_000_000

    def clock(self) -> int:
        return self._wall_us

    def call_later(self, delay: float, callback: Callable[[], object], /) -> VirtualTimer:
        timer = VirtualTimer(callback)
        heapq.heappush(self._timers, (self._now_us + round(delay * 1_000_000), next(self._number), timer))
        return timer

    def set_wall(self, seconds: float) -> None:
        """Somebody sets the clock by so much; no time passes."""
        self._wall_us += round(seconds * 1_000_000)

    @property
    def planned(self) -> int:
        """Timers that stand."""
        return sum(timer.callback is not None for _, _, timer in self._timers)

    def next_us(self) -> int | None:
        """Microseconds until the next timer."""
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        return self._timers[0][0] - self._now_us if self._timers else None

    def move(self, seconds: float) -> None:
        """Let so much time pass, and call what falls due."""
        self.move_us(round(seconds * 1_000_000))

    def move_us(self, left: int) -> None:
        while (step := self.next_us()) is not None and step <= left:
            _, _, timer = heapq.heappop(self._timers)
            self._step(step)
            left -= step
            assert timer.callback is not None
            timer.callback()
        self._step(left)

    def _step(self, us: int) -> None:
        self._now_us += us
        self._wall_us += us


async def nothing(*_: object) -> None: ...


class Troubled:
    """The store's `Deliveries`, whose writing of outcomes fails while `trouble` says so."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        #: Called with the outcomes before they are written; raises to refuse them.
        self.trouble: Callable[[Sequence[Outcome]], None] = lambda _: None
        #: Awaited when the outcomes are written, and before the dispatcher hears of it.
        self.recorded: Callable[[Sequence[Outcome]], Awaitable[None]] = nothing
        #: Awaited before due deliveries are read, and after, before the dispatcher gets them.
        self.before_due: Callable[[], Awaitable[None]] = nothing
        self.after_due: Callable[[], Awaitable[None]] = nothing

    async def record(
        self, outcomes: Sequence[Outcome], *, now: int, failing: Mapping[str, int | None] = NO_CHANGES
    ) -> None:
        self.trouble(outcomes)
        await self._store.record(outcomes, now=now, failing=failing)
        await self.recorded(outcomes)

    async def failing(self, endpoint_ids: Sequence[str] | None = None) -> dict[str, int]:
        return await self._store.failing(endpoint_ids)

    async def due(self, endpoint_id: str, *, now: int, first: int, retries: int, excluding: Sequence[str]) -> list[Due]:
        await self.before_due()
        page = await self._store.due(endpoint_id, now=now, first=first, retries=retries, excluding=excluding)
        await self.after_due()
        return page

    async def next_due(self) -> dict[str, int]:
        return await self._store.next_due()

    async def next_due_of(self, endpoint_id: str) -> int | None:
        return await self._store.next_due_of(endpoint_id)

    async def change(self, delivery_id: str, happening: Happening, *, now: int) -> Delivery:
        return await self._store.change(delivery_id, happening, now=now)

    async def counts(self) -> Mapping[State, int]:
        return await self._store.counts()

    async def delivery(self, delivery_id: str) -> Delivery | None:
        return await self._store.delivery(delivery_id)

    async def waits_for(self, delivery_id: str) -> str | None:
        return await self._store.waits_for(delivery_id)

    async def deliveries(self, query: DeliveryQuery) -> list[Delivery]:
        return await self._store.deliveries(query)

    async def owed(self, seq: int, *, after_endpoint_id: str, limit: int) -> list[Delivery]:
        return await self._store.owed(seq, after_endpoint_id=after_endpoint_id, limit=limit)

    async def attempts(self, delivery_id: str) -> list[Attempt]:
        return await self._store.attempts(delivery_id)


class Rig:
    def __init__(self, store: SqliteStore, time: VirtualTime, fetch: Fetch, rng: Random) -> None:
        self.store = store
        self.rng = rng
        self.time = time
        self.fetch = fetch
        self.catalog = Catalog(store)
        self.appender = Appender(store, self.catalog, time.clock)
        self.operations = Operations(
            self.catalog, self.appender.append, now=time.clock, disable_after_s=5 * DAY_S, timers=time
        )
        self.dispatcher: Dispatcher | None = None
        self.settler: Settler | None = None
        self._number = count(1)

    async def start(self, deliveries: Deliveries | None = None, **limits: int) -> Dispatcher:
        dispatcher = Dispatcher(
            deliveries or self.store,
            self.fetch,
            self.operations,
            clock=self.time.clock,
            rng=self.rng,
            timers=self.time,
            **limits,
        )
        await self.catalog.load()
        self.catalog.on_routes(dispatcher.routes_changed)
        self.appender.on_owed(dispatcher.offer)
        await dispatcher.start()
        self.dispatcher = dispatcher
        self.settler = Settler(self.store, dispatcher.poke, clock=self.time.clock)
        self.catalog.on_routes(self.settler.routes_changed)
        await self.settler.start()
        return dispatcher

    async def endpoint(self, url: str, **settings: object) -> Endpoint:
        number = next(self._number)
        fields: dict[str, object] = {"secrets": (SECRET,), "channels": ("*",), **settings}
        return await self.catalog.save(
            Endpoint(id=f"ep_{number}", url=url, created=START_US, updated=START_US, **fields)  # type: ignore[arg-type]
        )

    async def change(self, endpoint: Endpoint, **settings: object) -> Endpoint:
        return await self.catalog.save(replace(endpoint, revision=endpoint.revision + 1, **settings))

    async def publish(self, *ids: str, data: bytes = b"{}", **fields: object) -> None:
        events = [
            NewEvent(
                id=event_id,
                channels=("orders.1",),
                time=self.time.clock(),
                content_type="application/json",
                kind="json",
                data=data,
                dedupe_id=event_id,
            )
            for event_id in ids
        ]
        await self.appender.append([replace(event, **fields) for event in events] if fields else events)

    async def settled(self) -> None:
        """Wait until nothing is under way, for as long as anything moves: a busy machine needs its time."""
        assert self.dispatcher is not None
        moved = monotonic()
        before = None
        while True:
            busy = {task.get_name() for task in asyncio.all_tasks()} & WORK
            now = self.dispatcher.stats()
            if not busy and now.unrecorded == 0:
                return
            if now != before:
                before, moved = now, monotonic()
            assert monotonic() - moved < STUCK_S, f"nothing has moved for {STUCK_S} s: {busy}, {now}"
            # Many things must come to rest, and none of them knows of the others.
            await asyncio.sleep(0.0002)

    async def advance(self, seconds: float) -> None:
        """Let time pass timer by timer, and let what each one starts come to rest."""
        left = round(seconds * 1_000_000)
        while (step := self.time.next_us()) is not None and step <= left:
            self.time.move_us(step)
            left -= step
            await self.settled()
        self.time.move_us(left)

    async def states(self) -> dict[str, State]:
        """event id -> state, for tests with one endpoint."""
        return {row.event_id: row.state for row in await self.rows()}

    async def rows(self, **query: object) -> list[Delivery]:
        rows: list[Delivery] = []
        while True:
            before = rows[-1].id if rows else None
            page = await self.store.deliveries(DeliveryQuery(limit=1000, before_id=before, **query))  # type: ignore[arg-type]
            rows += page
            if len(page) < 1000:
                return rows

    async def row(self, event_id: str) -> Delivery:
        [row] = await self.rows(event_id=event_id)
        return row


@asynccontextmanager
async def rig_on(
    path: Path, *, time: VirtualTime | None = None, fetch: Fetch | None = None, rng: Random | None = None
) -> AsyncIterator[Rig]:
    """A rig on the store in that file; its dispatcher is stopped without grace at the end."""
    time = time or VirtualTime()
    store = SqliteStore(path, clock=time.clock)
    await store.open()
    try:
        async with GuardedClient(allowed=parse_rules(["127.0.0.0/8"])) as client:
            rig = Rig(store, time, fetch or client, rng or Random(7))
            try:
                yield rig
            finally:
                if rig.dispatcher is not None and rig.settler is not None:
                    await rig.settler.stop()
                    await rig.dispatcher.stop(0)
                await rig.operations.close()
    finally:
        await store.close()


def answer(status: str, body: bytes = b"", /, **headers: str) -> bytes:
    fields = {"content-length": str(len(body)), **{name.replace("_", "-"): value for name, value in headers.items()}}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if not status.startswith("204"))
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


class Post:
    """A receiver that keeps what arrives, answers as told, and sees how many requests it has at once."""

    def __init__(self, answer: str = "204 No Content", **headers: str) -> None:
        self.answer = answer
        self.headers = headers
        self.requests: list[Arrived] = []
        self.now = 0
        #: How many requests were under way when each one had come.
        self.loads: list[int] = []
        #: Ids with a request under way, and those that were seen twice at once.
        self.open: Counter[str] = Counter()
        self.doubled: set[str] = set()
        #: Requests wait for this before they are answered.
        self.gate = asyncio.Event()
        self.gate.set()
        #: And for so long besides, so that requests overlap.
        self.work_s = 0.0

    @property
    def ids(self) -> list[str]:
        return [request.header("webhook-id") or "" for request in self.requests]

    async def __call__(self, peer: Peer) -> None:
        while True:
            request = await peer.request()
            self.requests.append(request)
            event_id = request.header("webhook-id") or ""
            self.now += 1
            self.loads.append(self.now)
            self.open[event_id] += 1
            if self.open[event_id] > 1:
                self.doubled.add(event_id)
            try:
                await self.gate.wait()
                await asyncio.sleep(self.work_s)
            finally:
                self.now -= 1
                self.open[event_id] -= 1
            await peer.write(answer(self.answer, **self.headers))
