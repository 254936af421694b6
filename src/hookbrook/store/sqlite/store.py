"""The asynchronous face of the SQLite store: writes go to the writer thread, reads to a few reading threads."""

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Concatenate, ParamSpec, TypeVar

from hookbrook.core.cursor import Epochs, new_epoch
from hookbrook.core.delivery import Attempt, Delivery, Happening, NewDelivery, Outcome, State
from hookbrook.core.endpoint import Endpoint
from hookbrook.core.event import Appended, Event, NewEvent
from hookbrook.core.failure import Failure
from hookbrook.core.job import Job
from hookbrook.errors import StoreError, StoreUnavailable
from hookbrook.store.base import (
    NO_CHANGES,
    SEEN_WINDOW_US,
    Advanced,
    Bounds,
    ChannelTrim,
    DeliveryQuery,
    Due,
    Erased,
    Expired,
    Health,
    Listener,
    Page,
    Piece,
    Query,
    R,
    Reroutes,
    Standing,
)
from hookbrook.store.sqlite import (
    channels,
    deliveries,
    erasing,
    failures,
    jobs,
    lines,
    log,
    reading,
    registry,
    settling,
)
from hookbrook.store.sqlite.connection import blames_file, connect, explain, hold, open_writer
from hookbrook.store.sqlite.journal import Journal
from hookbrook.store.sqlite.sql import sql
from hookbrook.store.sqlite.sweeping import Sweeper
from hookbrook.store.sqlite.trimming import Trimmer
from hookbrook.store.sqlite.writer import Writer

P = ParamSpec("P")
T = TypeVar("T")

#: Reading threads. SQLite reads run beside the writer; more than this only compete for the interpreter lock.
READERS = 2
#: Reads that are under way or whose result nobody has taken yet, one more than there are threads so that none waits for
#: the loop. A result may have megabytes, and without a bound as many would pile up as there are readers of streams
#: whenever the loop is busy.
MAX_READS = READERS + 1
#: What is written to see whether there is room: more pages than an append of one small event touches.
PROBE_BYTES = 32 * 1024
#: Rough bytes of an event beside its data: headers, names, objects.
EVENT_OVERHEAD = 512


def system_clock() -> int:
    return time.time_ns() // 1000


class SqliteStore:
    """`Store` on one SQLite file. See `hookbrook.store.base` for what each method promises."""

    def __init__(self, path: Path, *, clock: Callable[[], int] = system_clock) -> None:
        self._path = path
        self._clock = clock
        self._listeners: list[Listener] = []
        self._lock: IO[bytes] | None = None
        self._writer: Writer | None = None
        self._readers: ThreadPoolExecutor | None = None
        self._local = threading.local()
        self._reading: list[sqlite3.Connection] = []
        self._is_open = False
        #: The bounds that were asked for last, and what of the writer's memory they were made of.
        self._known: tuple[log.Kept, Bounds] | None = None
        self._reads = asyncio.Semaphore(MAX_READS)
        #: The damage that a read has met last.
        self._damage = ""

    async def open(self) -> None:
        self._lock = hold(self._path)
        try:
            self._log = log.Log(await asyncio.to_thread(self._load), self._clock)
            self._trimmer = Trimmer(self._log)
            self._expirer = erasing.Expirer(self._log)
            self._sweeper = Sweeper(self._log)
        except BaseException:
            self._lock.close()
            raise
        self._writer = Writer(
            self._connection,
            merge=self._log.merge,
            memory=self._log,
            explain=self._explain,
            announce=self._announce,
        )
        self._journal = Journal(self._writer.between)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="hookbrook-reader")
        # What listeners know; the writer thread's own state may be a commit ahead of it.
        self._announced = self._log.state.tail
        self._is_open = True

    def _load(self) -> log.LogState:
        connection = open_writer(self._path)
        try:
            connection.execute("BEGIN IMMEDIATE")
            state = log.load_state(connection, new_epoch=new_epoch(os.urandom(6)), now=self._clock())
            connection.execute("COMMIT")
        except sqlite3.Error as exc:
            connection.close()
            raise self._explain(exc) from exc
        self._connection = connection
        return state

    def _explain(self, exc: sqlite3.Error) -> StoreError:
        return explain(exc, self._path)

    async def close(self) -> None:
        if not self._is_open or self._writer is None or self._readers is None:
            return
        self._is_open = False
        await self._writer.close()
        await asyncio.to_thread(self._disconnect, self._readers)

    def _disconnect(self, readers: ThreadPoolExecutor) -> None:
        """In a thread, because the last connection to close moves the write-ahead log into the database.

        The one that writes is the last, see `journal`.
        """
        readers.shutdown()
        for connection in self._reading:
            connection.close()
        self._reading.clear()
        self._connection.close()
        if self._lock is not None:
            self._lock.close()

    async def health(self) -> Health:
        try:
            if self._writing().trouble is not None:
                # Perhaps there is room again, and nobody has published since.
                await self._write(lambda connection: connection.execute(sql("put_meta"), ("probe", bytes(PROBE_BYTES))))
        except StoreError as exc:
            return Health(ok=False, reason=str(exc))
        return Health(ok=True, reason=self._damage)

    # The log

    def append(
        self, events: Sequence[NewEvent], owed: Sequence[Sequence[NewDelivery]], routing_version: int
    ) -> asyncio.Future[list[Appended]]:
        batch = log.Batch(events=events, owed=owed, routing_version=routing_version)
        size = EVENT_OVERHEAD * len(events)
        for event in events:
            size += len(event.data)
        try:
            return self._writing().append(batch, size)
        except StoreUnavailable as exc:
            refused: asyncio.Future[list[Appended]] = asyncio.get_running_loop().create_future()
            refused.set_exception(exc)
            return refused

    def follow(self, listener: Listener) -> Bounds:
        bounds = self.known_bounds()
        self._listeners.append(listener)
        return bounds

    def unfollow(self, listener: Listener) -> None:
        self._listeners.remove(listener)

    def _announce(self, events: Sequence[Event]) -> None:
        self._announced = events[-1].seq
        for listener in tuple(self._listeners):
            listener(events)

    async def bounds(self) -> Bounds:
        return self.known_bounds()

    def known_bounds(self) -> Bounds:
        epochs, kept, known = self._epochs, self._log.kept, self._known
        if known is None or known[0] is not kept or known[1].tail != self._announced:
            bounds = Bounds(
                oldest=kept.oldest,
                tail=self._announced,
                epochs=epochs,
                trimmed=kept.trimmed,
                floor=kept.floor,
                closings=kept.closings,
            )
            known = self._known = (kept, bounds)
        return known[1]

    @property
    def _epochs(self) -> Epochs:
        self._writing()
        return self._log.state.epochs

    async def read(self, query: Query, *, after: int, limit: int) -> Page:
        return await self._read(reading.read, query, after=after, limit=limit, epochs=self._epochs)

    async def read_back(self, query: Query, *, before: int, limit: int, bare: bool = False) -> Page:
        return await self._read(reading.read_back, query, before=before, limit=limit, bare=bare, epochs=self._epochs)

    async def seq_at(self, time_us: int) -> int:
        return await self._read(reading.seq_at, time_us)

    async def event(self, tenant: str, event_id: str) -> Event | None:
        return await self._read(reading.find, tenant, event_id, self._epochs)

    async def standing(self, query: Query, *, after: int) -> Standing:
        return await self._read(channels.standing, query, after=after)

    async def trim(
        self,
        *,
        appended_before: int | None,
        keep: int | None,
        limit: int,
        channels: Sequence[ChannelTrim] = (),
    ) -> int:
        seen_before = self._clock() - SEEN_WINDOW_US

        def run(connection: sqlite3.Connection) -> int:
            done = self._trimmer.step(
                connection, appended_before=appended_before, keep=keep, seen_before=seen_before, limit=limit
            )
            return max(done, self._sweeper.step(connection, channels, seen_before=seen_before, limit=limit))

        return await self._write(run)

    async def erase(self, tenant: str, event_id: str, *, now: int) -> Erased | None:
        erased = await self._write(lambda connection: erasing.erase(connection, tenant, event_id, now=now))
        if erased is not None:
            await self._journal.cut()
        return erased

    async def expire(self, *, appended_before: int, limit: int) -> Expired:
        expired = await self._write(
            lambda connection: self._expirer.step(connection, appended_before=appended_before, limit=limit)
        )
        if 0 < expired.done < limit:
            await self._journal.cut()
        return expired

    # Deliveries

    async def due(self, endpoint_id: str, *, now: int, first: int, retries: int, excluding: Sequence[str]) -> list[Due]:
        return await self._read(
            deliveries.due,
            endpoint_id,
            now=now,
            first=first,
            retries=retries,
            excluding=tuple(excluding),
            epochs=self._epochs,
        )

    async def next_due(self) -> dict[str, int]:
        return await self._read(deliveries.next_due)

    async def next_due_of(self, endpoint_id: str) -> int | None:
        return await self._read(deliveries.next_due_of, endpoint_id)

    async def record(
        self, outcomes: Sequence[Outcome], *, now: int, failing: Mapping[str, int | None] = NO_CHANGES
    ) -> None:
        await self._write(lambda connection: deliveries.record(connection, outcomes, now=now, failing=failing))

    async def failing(self, endpoint_ids: Sequence[str] | None = None) -> dict[str, int]:
        return await self._read(deliveries.failing_since, endpoint_ids)

    async def change(self, delivery_id: str, happening: Happening, *, now: int) -> Delivery:
        return await self._write(lambda connection: deliveries.change(connection, delivery_id, happening, now=now))

    async def settle(self, *, behind: str = "", limit: int, now: int) -> str | None:
        return await self._write(lambda connection: settling.settle(connection, behind=behind, limit=limit, now=now))

    async def counts(self) -> dict[State, int]:
        return await self._read(deliveries.counts)

    async def delivery(self, delivery_id: str) -> Delivery | None:
        return await self._read(deliveries.find, delivery_id)

    async def waits_for(self, delivery_id: str) -> str | None:
        return await self._read(lines.waits_for, delivery_id)

    async def deliveries(self, query: DeliveryQuery) -> list[Delivery]:
        return await self._read(deliveries.search, query)

    async def owed(self, seq: int, *, after_endpoint_id: str, limit: int) -> list[Delivery]:
        return await self._read(deliveries.owed, seq, after_endpoint_id, limit)

    async def attempts(self, delivery_id: str) -> list[Attempt]:
        return await self._read(deliveries.attempts_of, delivery_id)

    # Jobs

    async def advance(self, piece: Piece, *, now: int) -> Advanced:
        return await self._write(lambda connection: jobs.advance(connection, piece, now=now))

    async def erase_tenant(self, job: Job, *, limit: int, now: int) -> Advanced:
        done = await self._write(lambda connection: erasing.erase_tenant(connection, job, limit=limit, now=now))
        if done.job.state is not job.state:
            await self._journal.cut()
        return done

    # The registry

    async def save(self, record: R) -> R:
        def run(connection: sqlite3.Connection) -> R:
            saved = registry.save(connection, record, now=self._clock())
            self._reroute(connection, saved)
            return saved

        return await self._write(run)

    async def delete(self, kind: type[R], record_id: str) -> R | None:
        def run(connection: sqlite3.Connection) -> R | None:
            deleted = registry.delete(connection, kind, record_id, now=self._clock())
            self._reroute(connection, deleted)
            return deleted

        return await self._write(run)

    def _reroute(self, connection: sqlite3.Connection, changed: object) -> None:
        if isinstance(changed, Endpoint):
            self._log.state.routing_version = registry.reroute(connection, changed.id)

    async def get(self, kind: type[R], record_id: str) -> R | None:
        return await self._read(registry.get, kind, record_id)

    async def records(
        self, kind: type[R], *, tenant: str | None = None, after_id: str = "", limit: int = 1000
    ) -> list[R]:
        return await self._read(registry.records, kind, tenant=tenant, after_id=after_id, limit=limit)

    async def routes(self) -> tuple[int, list[Endpoint]]:
        return await self._read(registry.routes)

    async def rerouted(self, since: int) -> Reroutes | None:
        return await self._read(registry.rerouted, since)

    async def secret(self, name: str, fresh: bytes) -> bytes:
        return await self._write(lambda connection: registry.secret(connection, name, fresh))

    # Failures

    async def keep_failures(self, kept: Sequence[Failure], *, each: int) -> None:
        await self._write(lambda connection: failures.keep(connection, kept, each=each))

    async def failures(self, source_id: str, *, before_id: str | None = None, limit: int = 50) -> list[Failure]:
        return await self._read(failures.of_source, source_id, before_id=before_id, limit=limit)

    # Threads

    def _writing(self) -> Writer:
        if self._writer is None or not self._is_open:
            raise StoreUnavailable("The store is closed.")
        return self._writer

    async def _write(self, run: Callable[[sqlite3.Connection], T]) -> T:
        result: T = await self._writing().submit(run)
        return result

    async def _read(self, run: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        def work() -> T:
            try:
                connection = self._reader()
                # One snapshot for all statements of a read; it ends before anybody awaits anything.
                connection.execute("BEGIN")
                try:
                    return run(connection, *args, **kwargs)
                finally:
                    connection.execute("ROLLBACK")
            except sqlite3.Error as exc:
                if blames_file(exc):
                    self._damage = str(self._explain(exc))
                raise self._explain(exc) from exc

        async with self._reads:
            if self._readers is None or not self._is_open:
                raise StoreUnavailable("The store is closed.")
            return await asyncio.get_running_loop().run_in_executor(self._readers, work)

    def _reader(self) -> sqlite3.Connection:
        """The reading connection of this thread."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = connect(self._path, read_only=True)
            self._reading.append(connection)
        return connection
