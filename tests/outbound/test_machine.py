"""The delivery engine as a machine: people, receivers, the disk, the clock and death act on it in any order.

The store, the dispatcher and all between them are real; receivers answer through the `Fetch` port, and time is virtual.
After every step all is compared with what must be true of it, and at the end, when everything is well again, with what
must have become of it. `HOOKBROOK_SOAK=1` runs some minutes of it instead of some seconds.
"""

import asyncio
import os
import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hookbrook.core.delivery import TRANSITIONS, Attempt, Delivery, Happening, Outcome, State
from hookbrook.core.endpoint import Endpoint
from hookbrook.core.fetch import ConnectRefused, LocalFault, Request, Reset, Response, TimedOut, Timing
from hookbrook.core.retry import JITTER
from hookbrook.core.rotation import rotate
from hookbrook.core.signing import verify
from hookbrook.errors import Conflict, StoreFull
from hookbrook.outbound.ledger import MAX_PAUSE_S
from hookbrook.store.sqlite import SqliteStore

from .rig import DAY_S, SECRET, START_US, WORK, Rig, Troubled, VirtualTime

#: Delays of every endpoint here: short, so that whole lives of deliveries pass.
RETRY = (2.0, 10.0, 45.0)
TIMEOUT_S = 5.0
RETRY_AFTER_S = 7
LATE_S = 3.0
#: Longer than all of a delivery's life together, with the pauses of the breaker.
LONG_S = 600.0

MODES = ("ok", "ok", "slow", "late", "error", "busy", "reset", "hang", "refuse", "local", "gone")

_soak = bool(os.environ.get("HOOKBROOK_SOAK"))


@dataclass(slots=True)
class Try:
    """One request that reached a receiver, or tried to."""

    answered: bool = False
    accepted: bool = False


@dataclass(slots=True)
class Debt:
    """What must be known of one event owed to one endpoint."""

    tries: list[Try] = field(default_factory=list)
    resends: int = 0
    #: Tries whose outcome died with a process.
    lost: int = 0
    cancelled: bool = False
    #: Its due time was set by a person, directly or by enabling its endpoint.
    touched: bool = False
    state: State | None = None


class Receivers:
    """A `Fetch` to receivers that do as they are told."""

    def __init__(self, machine: "Deliveries") -> None:
        self.machine = machine
        self.modes: dict[str, str] = {}
        self.hanging = 0
        self.open: Counter[tuple[str, str]] = Counter()
        #: The world has ended; what still runs in it is heard by nobody.
        self.dead = False

    async def send(self, request: Request) -> Response:
        endpoint_id = request.url.rpartition("/")[2]
        key = (request.headers["webhook-id"], endpoint_id)
        mode = self.modes[endpoint_id]
        if mode == "local":
            raise LocalFault("no port")
        if self.dead:
            await asyncio.Event().wait()
        self.machine.check_signature(endpoint_id, request)
        this = Try()
        self.machine.debts[key].tries.append(this)
        self.open[key] += 1
        assert self.open[key] == 1, f"{key} is attempted twice at once"
        try:
            response = await self._answer(mode, request)
            this.accepted = response.status == 204
            return response
        finally:
            this.answered = True
            self.open[key] -= 1

    async def _answer(self, mode: str, request: Request) -> Response:
        match mode:
            case "slow":
                for _ in range(5):
                    await asyncio.sleep(0)
            case "late":
                await self._hang(LATE_S)
            case "reset":
                raise Reset("closed")
            case "refuse":
                raise ConnectRefused("refused")
            case "hang":
                await self._hang(request.total_timeout_s)
                raise TimedOut("too late")
        status = {"error": 500, "busy": 503, "gone": 410}.get(mode, 204)
        headers = (("retry-after", str(RETRY_AFTER_S)),) if mode == "busy" else ()
        return Response(status=status, headers=headers, body=b"", address="192.0.2.1:443", timing=Timing(total=1))

    async def _hang(self, seconds: float) -> None:
        over = asyncio.Event()

        def wake() -> None:
            # Here and not below, where it would count as hanging until its task has run.
            self.hanging -= 1
            over.set()

        timer = self.machine.time.call_later(seconds, wake)
        self.hanging += 1
        try:
            await over.wait()
        except asyncio.CancelledError:
            if not over.is_set():
                timer.cancel()
                self.hanging -= 1
            raise


class World(Rig):
    """One process's life."""

    fetch: Receivers

    def __init__(self, store: SqliteStore, machine: "Deliveries") -> None:
        super().__init__(store, machine.time, Receivers(machine), Random(machine.seed + machine.lives))
        self.troubled = Troubled(store)

    async def settled(self) -> None:
        """Nothing moves any more but time: attempts may hang, and outcomes may wait for the disk."""

        def quiet() -> bool:
            assert self.dispatcher is not None
            names = Counter(task.get_name() for task in asyncio.all_tasks())
            at_work = sum(names[name] for name in WORK if name != "hookbrook attempts")
            return not at_work and names["hookbrook attempts"] <= self.fetch.hanging and self.idle()

        async with asyncio.timeout(20):
            while not quiet():  # noqa: ASYNC110 - many things must come to rest, and none of them knows of the others
                await asyncio.sleep(0.0002)

    def idle(self) -> bool:
        assert self.dispatcher is not None
        return self.disk_full or not self.dispatcher.stats().unrecorded

    @property
    def disk_full(self) -> bool:
        return self.troubled.trouble is full


def full(_: Sequence[Outcome]) -> None:
    raise StoreFull("There is no room left.")


def well(_: Sequence[Outcome]) -> None: ...


_endpoints = st.integers(0, 2)


class Deliveries(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = TemporaryDirectory()
        self.time = VirtualTime()
        self.seed = 0
        self.generation = 0
        self.lives = 0
        self.events = 0
        self.jumped_back_s = 0.0
        self.jumped = False
        self.has_steady_clock = True
        self.debts: dict[tuple[str, str], Debt] = {}
        self.endpoints: list[Endpoint] = []
        self.modes: dict[str, str] = {}
        #: Happenings that this step may have caused, beside what attempts do; by endpoint or delivery.
        self.caused: dict[str, set[Happening]] = {}

    def run(self, coroutine: Any) -> Any:
        async def settled() -> Any:
            result = await coroutine
            await self.world.settled()
            return result

        self.caused = {}
        return self.runner.run(settled())

    @property
    def path(self) -> Path:
        return Path(self.folder.name) / f"{self.generation}.db"

    async def begin(self) -> None:
        self.lives += 1
        store = SqliteStore(self.path, clock=self.time.clock)
        await store.open()
        self.world = World(store, self)
        self.world.fetch.modes = self.modes
        await self.world.start(self.world.troubled)

    async def end(self) -> None:
        """The old world's last moments change nothing that counts."""
        world = self.world
        assert world.dispatcher is not None
        world.fetch.dead = True
        world.troubled.trouble = well
        await world.dispatcher.stop(0)
        await world.operations.close()
        await world.store.close()

    # What happens.

    @initialize(
        seed=st.integers(0, 1 << 16),
        orderings=st.lists(st.sampled_from(["none", "none", "channel", "all"]), min_size=3, max_size=3),
        modes=st.lists(st.sampled_from(MODES), min_size=3, max_size=3),
        has_steady_clock=st.booleans(),
    )
    def start(self, seed: int, orderings: list[str], modes: list[str], has_steady_clock: bool) -> None:
        self.seed = seed
        self.has_steady_clock = has_steady_clock

        async def start() -> None:
            await self.begin()
            for number in range(3):
                endpoint_id = f"ep_{number}"
                self.modes[endpoint_id] = modes[number]
                endpoint = Endpoint(
                    id=endpoint_id,
                    url=f"https://receiver.test/{endpoint_id}",
                    secrets=(SECRET,),
                    channels=("*",),
                    retry=RETRY,
                    ordering=orderings[number],  # type: ignore[arg-type]
                    timeout_s=TIMEOUT_S,
                    concurrency=3,
                    created=START_US,
                    updated=START_US,
                )
                self.endpoints.append(await self.world.catalog.save(endpoint))
            await self.publish(3, "orders.1")

        self.run(start())

    def known(self, number: int) -> Endpoint | None:
        return self.world.catalog.routes.by_id.get(f"ep_{number}")

    async def publish(self, count: int, channel: str) -> None:
        ids = [f"evt_{self.events + number:04}" for number in range(count)]
        self.events += count
        for endpoint_id in self.world.catalog.routes.by_id:
            self.debts |= {(event_id, endpoint_id): Debt() for event_id in ids}
        await self.world.publish(*ids, channels=(channel,))

    @rule(count=st.integers(1, 5), channel=st.sampled_from(["orders.1", "orders.2"]))
    def publishes(self, count: int, channel: str) -> None:
        self.run(self.publish(count, channel))

    @rule(number=_endpoints, mode=st.sampled_from(MODES))
    def receiver_becomes(self, number: int, mode: str) -> None:
        self.modes[f"ep_{number}"] = mode

    @rule(number=_endpoints)
    def person_disables_or_enables(self, number: int) -> None:
        self.run(self.toggle(number))

    async def toggle(self, number: int) -> None:
        endpoint = self.known(number)
        if endpoint is None:
            return
        self.caused[endpoint.id] = {Happening.RELEASED if not endpoint.enabled else Happening.HELD}
        if not endpoint.enabled:
            self.touch(endpoint.id)
        await self.world.change(endpoint, enabled=not endpoint.enabled, disabled_reason=None)

    def touch(self, endpoint_id: str) -> None:
        for (_, each), debt in self.debts.items():
            debt.touched |= each == endpoint_id

    @precondition(lambda self: self.events > 10)
    @rule(number=_endpoints)
    def person_deletes(self, number: int) -> None:
        endpoint = self.known(number)
        if endpoint is not None:
            self.run(self.world.catalog.delete(Endpoint, endpoint.id))
            self.caused = {endpoint.id: {Happening.CANCELLED}}

    @rule(number=_endpoints)
    def person_rotates(self, number: int) -> None:
        endpoint = self.known(number)
        if endpoint is not None:
            self.run(self.rotate(endpoint))

    async def rotate(self, endpoint: Endpoint) -> None:
        now = self.time.clock()
        try:
            rotated = rotate(endpoint, versions=None, overlap_s=60, secret=None, now=now, random=Random(now).randbytes)
        except Conflict:  # too many overlap
            return
        await self.world.change(rotated)

    @rule(chance=st.randoms(use_true_random=False))
    def person_resends(self, chance: Random) -> None:
        self.run(self.act(Happening.RESENT, chance))

    @rule(chance=st.randoms(use_true_random=False))
    def person_cancels(self, chance: Random) -> None:
        self.run(self.act(Happening.CANCELLED, chance))

    async def act(self, happening: Happening, chance: Random) -> None:
        rows = await self.world.rows()
        if not rows:
            return
        row = chance.choice(sorted(rows, key=lambda row: (row.event_id, row.endpoint_id)))
        debt = self.debts[row.event_id, row.endpoint_id]
        try:
            await self.world.store.change(row.id, happening, now=self.time.clock())
        except Conflict:
            gone = row.endpoint_id not in self.world.catalog.routes.by_id
            assert happening not in TRANSITIONS[row.state] or gone
            return
        assert happening in TRANSITIONS[row.state]
        assert self.world.dispatcher is not None
        # Resent to a disabled endpoint, it is held.
        self.caused[row.id] = {happening, Happening.HELD}
        debt.touched = True
        if happening is Happening.RESENT:
            debt.resends += 1
            self.world.dispatcher.poke(row.endpoint_id)
        else:
            debt.cancelled = True
            self.world.dispatcher.forget(row.endpoint_id, row.id)

    @rule(seconds=st.sampled_from([0.3, 1.0, 2.5, 6.0, 13.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        self.run(self.world.advance(seconds))

    @precondition(lambda self: not self.has_steady_clock)
    @rule(days=st.sampled_from([-1.0, 1.0, -0.01]))
    def clock_is_set(self, days: float) -> None:
        self.jumped = True
        self.jumped_back_s = max(0.0, self.jumped_back_s - days * DAY_S)
        self.time.set_wall(days * DAY_S)

    @precondition(lambda self: not self.world.disk_full)
    @rule()
    def disk_fills(self) -> None:
        self.world.troubled.trouble = full

    @precondition(lambda self: self.world.disk_full)
    @rule()
    def disk_has_room_again(self) -> None:
        self.run(self.heal_disk())

    async def heal_disk(self) -> None:
        self.world.troubled.trouble = well
        # At once, since nothing settles before the ledger's pause is over.
        self.time.move(MAX_PAUSE_S)

    @rule(count=st.integers(0, 4), turns=st.integers(0, 30))
    def process_is_killed(self, count: int, turns: int) -> None:
        """In the middle of something, perhaps."""
        self.run(self.kill(count, turns))
        self.note_losses()

    async def kill(self, count: int, turns: int) -> None:
        if count:
            await self.publish(count, "orders.1")
            for _ in range(turns):
                await asyncio.sleep(0)
        # What has been committed is in the copy, and nothing else: what the old process still does, nobody will know.
        before = self.path
        self.generation += 1
        self.world.fetch.dead = True
        await asyncio.to_thread(copy, before, self.path)
        await self.end()
        await self.begin()

    @rule()
    def process_is_stopped_and_started(self) -> None:
        self.run(self.restart())
        self.note_losses()

    async def restart(self) -> None:
        await self.end()
        await self.begin()

    def note_losses(self) -> None:
        """Tries whose outcomes the new process cannot know of."""
        rows = self.runner.run(self.world.rows())
        for row in rows:
            debt = self.debts[row.event_id, row.endpoint_id]
            under_way = self.world.fetch.open[row.event_id, row.endpoint_id]
            debt.lost = max(debt.lost, len(debt.tries) - row.attempts - under_way)
            # Any of the states between may have been passed unseen.
            debt.state = None

    # What must be true.

    def check_signature(self, endpoint_id: str, request: Request) -> None:
        endpoint = self.world.catalog.routes.by_id[endpoint_id]
        verified = verify(endpoint.secrets, request.headers, request.body, now=self.time.clock() / 1_000_000)
        assert verified.id == request.headers["webhook-id"]

    @invariant()
    def nothing_is_lost_and_nothing_has_happened_that_cannot(self) -> None:
        if not self.endpoints:
            return
        rows = self.runner.run(self.world.rows())
        assert {(row.event_id, row.endpoint_id) for row in rows} == set(self.debts)
        assert len(rows) == len(self.debts)
        for row in rows:
            self.check(row, self.debts[row.event_id, row.endpoint_id])

    def check(self, row: Delivery, debt: Debt) -> None:
        endpoint = self.world.catalog.routes.by_id.get(row.endpoint_id)
        if row.state is State.PENDING:
            assert endpoint is not None
            assert endpoint.enabled
        if row.state is State.HELD:
            assert endpoint is not None
            assert not endpoint.enabled
        self.check_transition(row, debt)
        under_way = self.world.fetch.open[row.event_id, row.endpoint_id]
        if not self.world.disk_full:
            assert len(debt.tries) == row.attempts + debt.lost + under_way
        accepted = sum(each.accepted for each in debt.tries)
        assert accepted <= 1 + debt.resends + debt.lost
        if row.state is State.SUCCEEDED:
            assert accepted
        if accepted and not (debt.resends or debt.lost or debt.cancelled or self.world.disk_full):
            # Accepted once its endpoint was deleted, it stays cancelled.
            assert row.state is State.SUCCEEDED or endpoint is None
        if not self.jumped and not debt.touched and not debt.lost and row.attempts:
            attempts = self.runner.run(self.world.store.attempts(row.id))
            assert len(attempts) == row.attempts
            self.check_schedule(row, attempts)

    def check_transition(self, row: Delivery, debt: Debt) -> None:
        before, debt.state = debt.state, row.state
        if before is None:
            return
        caused = self.caused.get(row.id, set()) | self.caused.get(row.endpoint_id, set())
        possible = {Happening.ACCEPTED, Happening.REFUSED, Happening.EXHAUSTED} | caused
        if row.endpoint_id not in self.world.catalog.routes.by_id:
            possible.add(Happening.CANCELLED)
        elif not self.world.catalog.routes.by_id[row.endpoint_id].enabled:
            possible.add(Happening.HELD)  # it was 410
        reached = {before}
        while (
            more := {after for state in reached for what, after in TRANSITIONS[state].items() if what in possible}
            - reached
        ):
            reached |= more
        assert row.state in reached, f"{before} became {row.state} by {possible}"

    def check_schedule(self, row: Delivery, attempts: Sequence[Attempt]) -> None:
        for number, attempt in enumerate(attempts):
            ended = attempt.started + attempt.duration
            last = number == len(attempts) - 1
            if attempt.status == 204 or attempt.status == 410:
                assert last
                assert row.state is not State.PENDING
                continue
            if number == len(RETRY):
                assert last
                assert row.state in (State.FAILED, State.CANCELLED)
                continue
            low = RETRY[number] * (1 - JITTER)
            high = RETRY[number] * (1 + JITTER)
            if attempt.status == 503:
                low, high = max(low, RETRY_AFTER_S), max(high, RETRY_AFTER_S * (1 + JITTER))
            if not last:
                assert attempts[number + 1].started - ended >= low * 1_000_000 - 2
            elif row.state is State.PENDING and row.next_at is not None:
                assert low * 1_000_000 - 2 <= row.next_at - ended <= high * 1_000_000 + 2

    # The end: everything becomes well, and all that is owed ends.

    def teardown(self) -> None:
        try:
            if self.endpoints:
                self.run(self.heal())
                self.check_end()
            if hasattr(self, "world"):
                self.runner.run(self.end())
        finally:
            self.runner.close()
            self.folder.cleanup()

    async def heal(self) -> None:
        for endpoint_id in self.modes:
            self.modes[endpoint_id] = "ok"
        # A restart while the clock was a day behind leaves what was due then a day away.
        self.time.set_wall(self.jumped_back_s)
        await self.heal_disk()
        for number in range(3):
            endpoint = self.known(number)
            if endpoint is not None and not endpoint.enabled:
                await self.toggle(number)
        await self.world.settled()
        await self.world.advance(LONG_S)

    def check_end(self) -> None:
        for row in self.runner.run(self.world.rows()):
            debt = self.debts[row.event_id, row.endpoint_id]
            if row.endpoint_id not in self.world.catalog.routes.by_id or debt.cancelled:
                assert row.state in (State.SUCCEEDED, State.FAILED, State.CANCELLED)
            else:
                assert row.state in (State.SUCCEEDED, State.FAILED)
                # What a kill kept from the table was sent again, and may have met a receiver that no longer takes it.
                accepted = any(each.accepted for each in debt.tries)
                assert row.state is State.SUCCEEDED or not accepted or debt.resends or debt.lost
        assert self.world.dispatcher is not None
        stats = self.world.dispatcher.stats()
        assert (stats.lanes, stats.in_flight, stats.queued, stats.queued_bytes, stats.unrecorded) == (0, 0, 0, 0, 0)
        assert (stats.internal_errors, stats.set_aside) == (0, 0)


def copy(source: Path, target: Path) -> None:
    """As the disk would be found: what was committed."""
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)


Deliveries.TestCase.settings = settings(
    max_examples=400 if _soak else 6,
    stateful_step_count=60 if _soak else 25,
    # Shrinking runs the machine hundreds of times: for somebody who looks for the reason, not for a suite.
    phases=list(Phase) if _soak else [Phase.explicit, Phase.reuse, Phase.generate],
    report_multiple_bugs=False,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.timeout(3600 if _soak else 120)
class TestDeliveries(Deliveries.TestCase):  # type: ignore[misc,valid-type]
    """The machine above, by hypothesis."""
