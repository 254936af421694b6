"""The writer thread and its group commit.

All jobs that wait become one transaction, because the price of a commit is the disk's flush, and one flush can carry a
thousand events. Neighbouring appends are merged into a few statements of many rows; every other job runs in a savepoint
of its own, so that one that is refused does not spoil its neighbours. Nobody is answered before the commit.

What fails by its own fault makes the transaction fail, and then each job gets one of its own; what fails because the
disk does is told to all of the group.

Results go back to the event loop in one call per group: first the listeners see the events, then the waiting are woken.
"""

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

import msgspec

from hookbrook.core.event import Event
from hookbrook.errors import Problem, StoreUnavailable
from hookbrook.store.sqlite.connection import blames_file, blames_machine

logger = logging.getLogger("hookbrook.store")

T = TypeVar("T")

#: Jobs in one transaction: a bound on how long the first of them waits for the last.
MAX_GROUP = 1024
#: How long a transaction is left to fill at the most, see `Writer._gather`. Much of its price, the disk's flush, the
#: pages of three indexes and the threads' fight for the interpreter lock, is the same for one event as for fifty.
GATHER_S = 0.008
#: Bytes of event data that may wait for the writer. A disk that stalls must not fill the memory.
MAX_WAITING_BYTES = 256 * 1024 * 1024


@dataclass(slots=True, eq=False)
class Job:
    """Something to do inside a transaction. `run` raises a `Problem` to be refused alone."""

    run: Callable[[sqlite3.Connection], Any]
    future: asyncio.Future[Any]
    size: int = 0
    result: Any = None
    error: BaseException | None = None


class AppendJob(msgspec.Struct, eq=False):
    """An append; `batch` is what the `Merge` understands. A Struct, because one is made for every publish."""

    batch: Any
    future: asyncio.Future[Any]
    size: int = 0
    result: Any = None
    error: BaseException | None = None


@dataclass(slots=True, eq=False)
class Group:
    """What one transaction did."""

    jobs: Sequence[Job | AppendJob]
    events: list[Event] = field(default_factory=list)


#: Appends many batches at once: sets each job's `result` or `error`, and returns the new events in order.
Merge = Callable[[sqlite3.Connection, Sequence[AppendJob]], list[Event]]


class Memory(Protocol):
    """What is remembered between transactions; called in the writer thread."""

    def begin(self) -> None: ...
    def committed(self) -> None: ...
    def rolled_back(self) -> None: ...


class Writer:
    """Owns the writing connection. `submit` and `append` are called in the event loop.

    Args:
        announce: called in the event loop with the events of each transaction, before their appends return.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        merge: Merge,
        memory: Memory,
        explain: Callable[[sqlite3.Error], Problem],
        announce: Callable[[Sequence[Event]], None],
    ) -> None:
        self._connection = connection
        self._merge = merge
        self._memory = memory
        self._explain = explain
        self._announce = announce
        self._loop = asyncio.get_running_loop()
        #: What has come and was not yet handed over.
        self._handed: list[Job | AppendJob] = []
        #: None ends the thread.
        self._queue: SimpleQueue[list[Job | AppendJob] | None] = SimpleQueue()
        #: What is to run while no transaction is under way.
        self._between: SimpleQueue[Job] = SimpleQueue()
        self._waiting_bytes = 0
        self._closed = False
        #: How many of them the last look found, and when the first of them came.
        self._gathered = 0
        self._gathering_since = 0.0
        #: Looks in a row that found no more than the one before.
        self._quiet = 0
        #: Jobs that are not done, and how many those were when the last transaction was.
        self._open = 0
        self._usual = 0
        #: The last group's failure, or None after one that succeeded.
        self.trouble: Problem | None = None
        self._thread = threading.Thread(target=self._work, name="hookbrook-writer", daemon=True)
        self._thread.start()

    async def submit(self, run: Callable[[sqlite3.Connection], Any]) -> Any:
        """Run something in a transaction of the writer, and return its result once that is durable."""
        return await self._put(Job(run, self._loop.create_future()))

    async def between(self, run: Callable[[sqlite3.Connection], T]) -> T:
        """Run something on the writing connection as soon as no transaction is under way, and return its result.

        Raises `StoreUnavailable`, or what `explain` makes of SQLite's error.
        """
        if self._closed:
            raise StoreUnavailable("The store is closed.")
        job = Job(run, self._loop.create_future())
        self._open += 1
        self._between.put(job)
        self._queue.put([])  # wakes the thread
        result: T = await job.future
        return result

    def append(self, batch: Any, size: int) -> asyncio.Future[Any]:
        return self._put(AppendJob(batch, self._loop.create_future(), size))

    def _put(self, job: Job | AppendJob) -> asyncio.Future[Any]:
        if self._closed:
            raise StoreUnavailable("The store is closed.")
        if job.size and self._waiting_bytes + job.size > max(MAX_WAITING_BYTES, job.size):
            raise StoreUnavailable(
                f"More than {MAX_WAITING_BYTES} bytes wait for the disk.", headers={"Retry-After": "1"}
            )
        self._waiting_bytes += job.size
        if not self._handed:
            self._gathered = self._quiet = 0
            self._gathering_since = self._loop.time()
            self._loop.call_soon(self._gather)
        self._handed.append(job)
        self._open += 1
        return job.future

    def _gather(self) -> None:
        """Hand over what the turns of the loop have brought, or wait while at least every other brings more.

        While the writer is at work, waiting costs nothing. If it is not, half of all those who publish at once are
        enough: the others are read while it works, else loop and disk would wait for each other in turn.
        """
        before, self._gathered = self._gathered, len(self._handed)
        # What arrived in a turn is taken in the next one (`http.express`), so one look without more says nothing yet.
        self._quiet = 0 if before < self._gathered else self._quiet + 1
        is_growing = self._quiet < 2 and self._gathered < MAX_GROUP
        is_small = self._open > self._gathered or 2 * self._gathered < self._usual
        if is_growing and is_small and self._loop.time() < self._gathering_since + GATHER_S:
            self._loop.call_soon(self._gather)
        else:
            self._hand_over()

    def _hand_over(self) -> None:
        """Give the writer thread what has come, all at once.

        Each hand-over wakes the thread, which then fights the loop for the interpreter lock: one for every job would
        cost more than the job.
        """
        jobs, self._handed = self._handed, []
        if jobs:
            self._queue.put(jobs)

    async def close(self) -> None:
        """Finish what was accepted and end the thread."""
        if self._closed:
            return
        self._closed = True
        self._hand_over()
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    # Everything below runs in the writer thread, except `_wake`.

    def _work(self) -> None:
        running = True
        while running:
            jobs: list[Job | AppendJob] = []
            running = self._collect(jobs)
            for start in range(0, len(jobs), MAX_GROUP):
                group = Group(jobs[start : start + MAX_GROUP])
                self._commit(group)
                self._loop.call_soon_threadsafe(self._wake, group)
            while not self._between.empty():
                self._run_between(self._between.get())

    def _run_between(self, job: Job) -> None:
        try:
            job.result = job.run(self._connection)
        except sqlite3.Error as exc:
            job.error = self._explain(exc)
        except Exception as exc:  # as in `_commit`
            logger.exception("what was to run between transactions failed")
            job.error = exc
        self._loop.call_soon_threadsafe(self._wake, Group([job]))

    def _collect(self, jobs: list[Job | AppendJob]) -> bool:
        """Wait for something to do and take all jobs that wait; False if these are the last."""
        while True:
            handed = self._queue.get()
            if handed is None:
                return False
            jobs += handed
            if len(jobs) >= MAX_GROUP or self._queue.empty():
                return True

    def _commit(self, group: Group) -> None:
        try:
            self._transaction(group)
            self.trouble = None
        except Exception as exc:  # whatever one job did wrong must not end the only thread that can write
            self._roll_back(group)
            if isinstance(exc, sqlite3.Error) and blames_machine(exc):
                self._fail(group, exc)
            elif len(group.jobs) > 1:
                self._separate(group)
            elif isinstance(exc, sqlite3.Error) and blames_file(exc):
                self._fail(group, exc)
            else:
                logger.exception("a transaction failed")
                group.jobs[0].error = exc

    def _fail(self, group: Group, error: sqlite3.Error) -> None:
        """Tell all of them the same, whatever each was told before: that was judged against what is now undone."""
        self.trouble = self._explain(error)
        for job in group.jobs:
            job.error = self._explain(error)

    def _separate(self, group: Group) -> None:
        """One job made the transaction fail: give each a transaction of its own, so that only that one is refused."""
        for job in group.jobs:
            job.error = None
            alone = Group([job])
            self._commit(alone)
            group.events += alone.events

    def _transaction(self, group: Group) -> None:
        connection = self._connection
        self._memory.begin()
        connection.execute("BEGIN IMMEDIATE")
        for kind, run in groupby(group.jobs, key=type):
            if kind is AppendJob:
                group.events += self._merge(connection, [job for job in run if isinstance(job, AppendJob)])
            else:
                for job in run:
                    assert isinstance(job, Job)
                    self._alone(connection, job)
        connection.execute("COMMIT")
        self._memory.committed()

    def _alone(self, connection: sqlite3.Connection, job: Job) -> None:
        connection.execute("SAVEPOINT job")
        try:
            job.result = job.run(connection)
        except (Problem, sqlite3.IntegrityError) as exc:
            connection.execute("ROLLBACK TO job")
            job.error = exc
        connection.execute("RELEASE job")

    def _roll_back(self, group: Group) -> None:
        # On a failing disk even this may fail; SQLite then has rolled back by itself.
        with suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        self._memory.rolled_back()
        group.events.clear()

    def _wake(self, group: Group) -> None:
        self._waiting_bytes -= sum(job.size for job in group.jobs)
        self._usual = self._open
        self._open -= len(group.jobs)
        if group.events:
            try:
                self._announce(group.events)
            except Exception:  # a listener's mistake must not leave those waiting for whom the commit was made
                logger.exception("a listener of the log failed")
        for job in group.jobs:
            if job.future.done():  # the caller was cancelled; what it asked for is done all the same
                continue
            if job.error is not None:
                job.future.set_exception(job.error)
            else:
                job.future.set_result(job.result)
