"""When an endpoint is disabled, what becomes of what it is owed, and what people are told."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from hookbrook.core.delivery import State
from hookbrook.core.endpoint import Endpoint
from hookbrook.core.event import Appended, Event, NewEvent
from hookbrook.core.operational import DELIVERY_FAILED, ENDPOINT_DISABLED, ENDPOINT_FAILING, ENDPOINT_RECOVERED
from hookbrook.errors import StoreFull
from hookbrook.outbound.operations import Operations
from hookbrook.store.base import Query

from .conftest import Peer, Serve
from .rig import DAY_S, Post, Rig, answer, rig_on


async def told(rig: Rig) -> list[Event]:
    """The operational events in the log."""
    await rig.settled()
    query = Query(tenant=None, channels=("hookbrook.ops",), types=("hookbrook.*",))
    return (await rig.store.read(query, after=0, limit=1000)).events


def types(events: list[Event]) -> Counter[str]:
    return Counter(event.type for event in events)


async def fail_daily(rig: Rig, days: int, *, first: int = 0) -> None:
    """An event a day, each of which is tried once more a minute later."""
    for day in range(first, first + days):
        await rig.publish(f"evt_{day}")
        await rig.settled()
        await rig.advance(DAY_S)


async def now(rig: Rig, endpoint: Endpoint) -> Endpoint:
    found = await rig.store.get(Endpoint, endpoint.id)
    assert found is not None
    return found


# Gone.


async def test_gone_disables_the_endpoint_and_holds_what_else_it_is_owed(tmp_path: Path, serve: Serve) -> None:
    post = Post("410 Gone")
    async with rig_on(tmp_path / "a.db") as rig:
        await rig.start()
        endpoint = await rig.endpoint((await serve(post)).url, concurrency=1)
        await rig.publish("evt_1", "evt_2", "evt_3")
        await rig.settled()
        assert post.ids == ["evt_1"], "nothing more is sent to who said that he is gone"
        disabled = await now(rig, endpoint)
        assert (disabled.enabled, disabled.disabled_reason) == (False, "gone")
        assert disabled.revision == endpoint.revision + 1
        await rig.publish("evt_4")
        await rig.advance(3600)
        states = {row.event_id: row.state for row in await rig.rows(endpoint_id=endpoint.id)}
        assert states == {"evt_1": State.FAILED} | dict.fromkeys(("evt_2", "evt_3", "evt_4"), State.HELD)
        [failed, stopped] = await told(rig)
        assert (failed.type, stopped.type) == (DELIVERY_FAILED, ENDPOINT_DISABLED)
        assert json.loads(stopped.data)["reason"] == "gone"


async def test_enabling_again_sends_what_was_held_and_forgets_that_it_failed(tmp_path: Path, serve: Serve) -> None:
    post = Post("410 Gone")
    async with rig_on(tmp_path / "a.db") as rig:
        await rig.start()
        endpoint = await rig.endpoint((await serve(post)).url, concurrency=1)
        await rig.publish("evt_1", "evt_2", "evt_3")
        await rig.settled()
        assert await rig.store.failing([endpoint.id]) != {}
        post.answer = "204 No Content"
        await rig.change(await now(rig, endpoint), enabled=True, disabled_reason=None)
        assert await rig.store.failing([endpoint.id]) == {}
        await rig.settled()
    assert post.ids[0] == "evt_1"
    assert sorted(post.ids) == ["evt_1", "evt_2", "evt_3"]


async def test_a_change_by_its_owner_meanwhile_is_a_new_chance(tmp_path: Path, serve: Serve) -> None:
    gone, well = Post("410 Gone"), Post()
    gone.gate.clear()
    async with rig_on(tmp_path / "a.db") as rig:
        await rig.start()
        endpoint = await rig.endpoint((await serve(gone)).url, concurrency=1)
        await rig.publish("evt_1", "evt_2")
        # The registry knows of it, and this process's routes do not yet, as with several processes.
        changed = {"url": (await serve(well)).url, "revision": endpoint.revision + 1}
        await rig.store.save(
            Endpoint(**{name: getattr(endpoint, name) for name in endpoint.__struct_fields__} | changed)
        )
        gone.gate.set()
        await rig.settled()
        assert (await now(rig, endpoint)).enabled
        assert types(await told(rig)) == {DELIVERY_FAILED: 1}
    assert (gone.ids, well.ids) == (["evt_1"], ["evt_2"])


class Refusing:
    """A catalogue that cannot save so many times."""

    def __init__(self, rig: Rig, times: int) -> None:
        self.left = times
        self._catalog = rig.catalog

    async def save(self, record: Endpoint, /) -> Endpoint:
        if self.left:
            self.left -= 1
            raise StoreFull("There is no room on the disk.")
        return await self._catalog.save(record)

    async def refresh_routes(self) -> object:
        return await self._catalog.refresh_routes()


async def test_an_endpoint_that_cannot_be_disabled_yet_gets_nothing_meanwhile(tmp_path: Path, serve: Serve) -> None:
    post = Post("410 Gone")
    async with rig_on(tmp_path / "a.db") as rig:
        catalog = Refusing(rig, 2)
        rig.operations = Operations(
            catalog, rig.appender.append, now=rig.time.clock, disable_after_s=None, timers=rig.time
        )
        await rig.start()
        endpoint = await rig.endpoint((await serve(post)).url, concurrency=1)
        await rig.publish("evt_1", "evt_2")
        await rig.settled()
        await rig.advance(5)
        assert (catalog.left, (await now(rig, endpoint)).enabled) == (0, True)
        await rig.advance(5)
        assert not (await now(rig, endpoint)).enabled
    assert post.ids == ["evt_1"]


# Failing for days.


async def test_an_endpoint_that_fails_for_five_days_is_disabled_and_its_owner_was_warned_once(
    tmp_path: Path, serve: Serve
) -> None:
    post = Post("500 Oh No")
    async with rig_on(tmp_path / "a.db") as rig:
        await rig.start()
        endpoint = await rig.endpoint((await serve(post)).url, retry=(60.0,))
        began = rig.time.clock()
        await fail_daily(rig, 5)
        assert (await now(rig, endpoint)).enabled
        assert await rig.store.failing() == {endpoint.id: began}
        assert types(await told(rig)) == {DELIVERY_FAILED: 5, ENDPOINT_FAILING: 1}
        await fail_daily(rig, 1, first=5)
        disabled = await now(rig, endpoint)
        assert (disabled.enabled, disabled.disabled_reason) == (False, "failing")
        events = await told(rig)
        assert types(events)[ENDPOINT_DISABLED] == 1
        [warning] = [json.loads(event.data) for event in events if event.type == ENDPOINT_FAILING]
        assert warning["failing_since"] == "2026-11-23T16:20:00Z"
        assert warning["disabled_at"] == "2026-11-28T16:20:00Z"
        sent = len(post.requests)
        await fail_daily(rig, 1, first=6)
        assert len(post.requests) == sent


async def test_one_success_begins_the_five_days_anew(tmp_path: Path, serve: Serve) -> None:
    post = Post("500 Oh No")
    async with rig_on(tmp_path / "a.db") as rig:
        await rig.start()
        endpoint = await rig.endpoint((await serve(post)).url, retry=(60.0,))
        await fail_daily(rig, 4)
        post.answer = "204 No Content"
        await fail_daily(rig, 1, first=4)
        assert await rig.store.failing() == {}
        [relief] = [json.loads(event.data) for event in await told(rig) if event.type == ENDPOINT_RECOVERED]
        assert relief["failing_since"] == "2026-11-23T16:20:00Z"
        post.answer = "500 Oh No"
        await fail_daily(rig, 5, first=5)
        assert (await now(rig, endpoint)).enabled
        assert types(await told(rig))[ENDPOINT_FAILING] == 2


async def test_a_single_failure_after_a_long_silence_does_not_disable(tmp_path: Path, serve: Serve) -> None:
    post = Post("500 Oh No")
    async with rig_on(tmp_path / "a.db") as rig:
        await rig.start()
        endpoint = await rig.endpoint((await serve(post)).url, retry=(60.0,))
        await fail_daily(rig, 1)
        await rig.advance(10 * DAY_S)
        await rig.publish("late")
        await rig.settled()
        assert (await now(rig, endpoint)).enabled
        post.answer = "204 No Content"
        await rig.advance(100)
        assert await rig.store.failing() == {}


async def test_since_when_an_endpoint_fails_survives_a_restart(tmp_path: Path, serve: Serve) -> None:
    post = Post("500 Oh No")
    async with rig_on(tmp_path / "a.db") as rig:
        await rig.start()
        endpoint = await rig.endpoint((await serve(post)).url, retry=(60.0,))
        await fail_daily(rig, 4)
        time = rig.time
    async with rig_on(tmp_path / "a.db", time=time) as rig:
        await rig.start()
        await fail_daily(rig, 2, first=4)
        assert (await now(rig, endpoint)).disabled_reason == "failing"


async def test_our_own_errors_and_loops_are_not_charged_to_the_endpoint(
    tmp_path: Path, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async with rig_on(tmp_path / "a.db") as rig:
        await rig.start()
        url = (await serve(Post())).url
        await rig.endpoint(url, secrets=("not a secret",), channels=("broken",))
        await rig.endpoint(url, channels=("round",))
        with caplog.at_level(51, "hookbrook"):
            await rig.publish("evt_1", channels=("broken",))
            await rig.publish("evt_2", channels=("round",), request=b'{"headers": [["hookbrook-hops", "8"]]}')
            await rig.settled()
        assert {row.state for row in await rig.rows()} == {State.PENDING, State.FAILED}
        assert await rig.store.failing() == {}


# What is told.


async def test_a_failed_delivery_is_told_to_those_who_ask_for_it_by_name(tmp_path: Path, serve: Serve) -> None:
    broken, everything, by_type, by_both = Post("500 Oh No"), Post(), Post(), Post()
    async with rig_on(tmp_path / "a.db") as rig:
        await rig.start()
        failing = await rig.endpoint((await serve(broken)).url, channels=("a",), retry=())
        await rig.endpoint((await serve(everything)).url, channels=())
        await rig.endpoint((await serve(by_type)).url, channels=(), types=("hookbrook.delivery.failed",))
        await rig.endpoint((await serve(by_both)).url, channels=("hookbrook.*",), types=("hookbrook.*",))
        await rig.publish("evt_1", channels=("a",), type="order.paid")
        [event] = await told(rig)
        await rig.settled()
        [row] = await rig.rows(endpoint_id=failing.id)
    assert everything.ids == ["evt_1"]
    assert by_type.ids == by_both.ids == [event.id]
    assert json.loads(by_type.requests[0].body) == {
        "endpoint_id": failing.id,
        "description": "",
        "delivery_id": row.id,
        "event_id": "evt_1",
        "event_type": "order.paid",
        "channel": "a",
        "last_status": 500,
        "last_error": None,
        "message": "The receiver answered 500.",
    }


async def test_deliveries_of_operational_events_raise_none(tmp_path: Path, serve: Serve) -> None:
    async def refuse(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.write(answer("410 Gone"))

    async with rig_on(tmp_path / "a.db") as rig:
        await rig.start()
        url = (await serve(refuse)).url
        watchers = [await rig.endpoint(url, channels=(), types=("hookbrook.*",), retry=()) for _ in range(2)]
        await rig.endpoint(url, channels=("a",), retry=())
        await rig.publish("evt_1", channels=("a",))
        assert types(await told(rig)) == {DELIVERY_FAILED: 1, ENDPOINT_DISABLED: 1}
        assert [(await now(rig, each)).disabled_reason for each in watchers] == ["gone", "gone"]


async def test_what_is_told_names_no_url(tmp_path: Path, serve: Serve) -> None:
    async with rig_on(tmp_path / "a.db") as rig:
        await rig.start()
        url = (await serve(Post("410 Gone"))).url + "/T0/SECRET-PATH?token=SECRET"
        await rig.endpoint(url)
        await rig.publish("evt_1")
        assert not [event for event in await told(rig) if b"SECRET" in event.data]


async def test_events_wait_while_the_log_is_full_and_are_told_then(tmp_path: Path, serve: Serve) -> None:
    async with rig_on(tmp_path / "a.db") as rig:
        room = False

        async def append(events: Sequence[NewEvent]) -> list[Appended]:
            if not room:
                raise StoreFull("There is no room on the disk.")
            return await rig.appender.append(events)

        rig.operations = Operations(rig.catalog, append, now=rig.time.clock, disable_after_s=None, timers=rig.time)
        await rig.start()
        await rig.endpoint((await serve(Post("500 Oh No"))).url, retry=())
        await rig.publish("evt_1", "evt_2")
        await rig.advance(20)
        assert (
            types((await rig.store.read(Query(tenant=None, channels=("hookbrook.*",)), after=0, limit=9)).events) == {}
        )
        room = True
        await rig.advance(5)
        assert types(await told(rig)) == {DELIVERY_FAILED: 2}
