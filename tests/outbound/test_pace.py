"""How fast an endpoint is sent to: the rules by themselves, then with real receivers and a virtual clock."""

from itertools import pairwise
from pathlib import Path

import pytest

from hookbrook.core.delivery import State
from hookbrook.core.endpoint import Endpoint
from hookbrook.outbound.pace import (
    BREAK_AFTER,
    BURST_S,
    FIRST_PAUSE_S,
    MAX_PAUSE_S,
    MAX_SLOW_PAUSE_S,
    SLOW_PAUSE_S,
    Pace,
)

from .conftest import Serve, until
from .rig import SECRET, Post, rig_on


def endpoint(**fields: object) -> Endpoint:
    values: dict[str, object] = {"id": "ep_1", "url": "http://x", "secrets": (SECRET,), "created": 0, "updated": 0}
    return Endpoint(**{**values, **fields})  # type: ignore[arg-type]


def broken(now: float = 0.0) -> Pace:
    pace = Pace(endpoint(concurrency=8))
    for _ in range(BREAK_AFTER):
        pace.failed(now)
    return pace


# The rules.


@pytest.mark.parametrize("rate", [0.5, 1.0, 7.0, 300.0])
def test_no_second_has_more_requests_than_the_rate_and_a_tenth_at_once(rate: float) -> None:
    pace, now, begun = Pace(endpoint(rate_limit=rate)), 100.0, []
    while now < 130.0:
        if (wait := pace.wait(now)) > 0:
            now += wait
            continue
        pace.begin(now)
        begun.append(now)
    for first in begun:
        assert sum(first <= each < first + 1.0 for each in begun) <= rate * (1 + BURST_S) + 1
    assert len(begun) >= 30 * rate - 1


def test_a_time_without_requests_is_not_saved_up() -> None:
    pace = Pace(endpoint(rate_limit=2.0))
    pace.begin(0.0)
    assert pace.wait(1000.0) <= 0
    pace.begin(1000.0)
    assert pace.wait(1000.0) == pytest.approx(0.5 - BURST_S)


def test_the_breaker_opens_after_failures_in_a_row_and_its_pauses_double_up_to_a_minute() -> None:
    pace = Pace(endpoint(concurrency=8))
    for _ in range(BREAK_AFTER - 1):
        pace.failed(0.0)
    assert (pace.room, pace.wait(0.0)) == (8, 0.0)
    now, waits = 0.0, []
    for _ in range(10):
        pace.failed(now)
        assert pace.room == 1
        waits.append(pace.wait(now))
        now += waits[-1]
    assert waits[0] == FIRST_PAUSE_S
    assert all(b == min(2 * a, MAX_PAUSE_S) for a, b in pairwise(waits))
    assert waits[-1] == MAX_PAUSE_S


def test_those_that_were_in_flight_when_it_opened_do_not_lengthen_the_pause() -> None:
    pace = broken()
    for _ in range(100):
        pace.failed(0.5)
    assert pace.wait(0.0) == FIRST_PAUSE_S


def test_after_the_first_success_room_grows_one_by_one() -> None:
    pace = broken()
    rooms = []
    for _ in range(10):
        pace.arrived()
        rooms.append(pace.room)
    assert rooms == [2, 3, 4, 5, 6, 7, 8, 8, 8, 8]


def test_one_success_between_failures_keeps_the_breaker_closed() -> None:
    pace = Pace(endpoint(concurrency=8))
    for _ in range(5 * BREAK_AFTER):
        for _ in range(BREAK_AFTER - 1):
            pace.failed(0.0)
        pace.arrived()
    assert (pace.room, pace.wait(0.0)) == (8, 0.0)


def test_answers_to_requests_of_one_moment_halve_the_room_once() -> None:
    pace = Pace(endpoint(concurrency=8))
    for _ in range(8):
        pace.slow_down(1.0, 2.0, None)
    assert (pace.room, pace.wait(2.0)) == (4, SLOW_PAUSE_S)
    pace.slow_down(3.0, 3.0, 30.0)
    assert (pace.room, pace.wait(3.0)) == (2, 30.0)
    for moment in range(4, 20):
        pace.slow_down(moment, moment, 0.0)
    assert pace.room == 1


def test_the_longest_wait_that_was_asked_for_counts_up_to_an_hour() -> None:
    pace = Pace(endpoint(concurrency=8))
    for asked in (5.0, 90.0, 10.0, None):
        pace.slow_down(0.0, 1.0, asked)
    assert pace.wait(1.0) == 90.0
    pace.slow_down(0.0, 1.0, 86_400.0)
    assert pace.wait(1.0) == MAX_SLOW_PAUSE_S


def test_a_change_by_its_owner_is_a_new_chance_with_the_new_limits() -> None:
    pace = broken()
    pace.slow_down(1.0, 1.0, 60.0)
    pace.change(endpoint(concurrency=3, rate_limit=1.0))
    assert (pace.room, pace.wait(1.0) <= 0) == (3, True)


def test_what_is_at_rest_need_not_be_remembered() -> None:
    pace = Pace(endpoint(rate_limit=1.0))
    assert pace.at_rest(5.0)
    pace.begin(5.0)
    assert (pace.at_rest(5.5), pace.at_rest(6.0)) == (False, True)
    pace.failed(6.0)
    assert not pace.at_rest(100.0)
    pace.arrived()
    assert pace.at_rest(100.0)


# With receivers.


async def test_an_endpoint_gets_no_more_requests_a_second_than_it_asked_for(tmp_path: Path, serve: Serve) -> None:
    slow, fast = Post(), Post()
    async with rig_on(tmp_path / "a.db") as rig:
        await rig.start()
        await rig.endpoint((await serve(slow)).url, rate_limit=5.0)
        await rig.endpoint((await serve(fast)).url)
        await rig.publish(*(f"evt_{n:02}" for n in range(30)))
        counts = []
        for _ in range(8):
            await rig.settled()
            counts.append(len(slow.requests))
            await rig.advance(1.0)
        assert len(fast.requests) == 30
        assert {row.state for row in await rig.rows()} == {State.SUCCEEDED}
    assert counts[0] <= 2
    assert all(b - a <= 5 for a, b in pairwise(counts))
    assert counts[-1] == 30


async def test_the_rate_holds_though_the_endpoint_comes_to_rest_between_events(tmp_path: Path, serve: Serve) -> None:
    post = Post()
    async with rig_on(tmp_path / "a.db") as rig:
        dispatcher = await rig.start()
        await rig.endpoint((await serve(post)).url, rate_limit=0.1)
        await rig.publish("evt_1")
        await rig.settled()
        assert dispatcher.stats().lanes == 0
        await rig.publish("evt_2")
        await rig.advance(9.0)
        assert post.ids == ["evt_1"]
        await rig.advance(1.0)
        assert post.ids == ["evt_1", "evt_2"]
        await rig.advance(130)
        assert dispatcher.stats().lanes == 0


async def test_a_receiver_that_is_down_is_probed_by_one_request_at_a_time_and_the_rest_lose_no_attempt(
    tmp_path: Path, serve: Serve
) -> None:
    post = Post("500 Oh No")
    async with rig_on(tmp_path / "a.db") as rig:
        await rig.start()
        await rig.endpoint((await serve(post)).url, concurrency=5, retry=(3600.0,))
        await rig.publish(*(f"evt_{n:03}" for n in range(200)))
        await rig.settled()
        first = len(post.requests)
        assert BREAK_AFTER <= first < BREAK_AFTER + 5
        counts = []
        for _ in range(31):
            await rig.advance(1.01)
            counts.append(len(post.requests) - first)
        # After 1, 2, 4, 8 and 16 seconds.
        assert counts == [1] * 2 + [2] * 4 + [3] * 8 + [4] * 16 + [5]
        post.answer = "204 No Content"
        await rig.advance(40)
        assert len(post.requests) == 200
        rows = await rig.rows()
        assert {row.attempts for row in rows} == {1}
        assert sum(row.state is State.SUCCEEDED for row in rows) == 200 - first - 5


async def test_a_receiver_that_comes_back_is_not_met_by_everything_at_once(tmp_path: Path, serve: Serve) -> None:
    post = Post("500 Oh No")
    async with rig_on(tmp_path / "a.db") as rig:
        await rig.start()
        await rig.endpoint((await serve(post)).url, concurrency=100, retry=(3600.0,))
        await rig.publish(*(f"evt_{n:03}" for n in range(300)))
        await rig.settled()
        refused = len(post.requests)
        post.answer = "204 No Content"
        post.work_s = 0.002
        await rig.advance(1.1)
        assert max(post.loads[refused : refused + 10]) <= 11
        assert post.loads[refused] == 1
        assert len(post.requests) == 300


@pytest.mark.parametrize("status", ["429 Slow Down", "502 Bad", "503 Busy", "504 Late"])
async def test_a_receiver_that_asks_for_time_gets_it_for_all_of_its_deliveries(
    tmp_path: Path, serve: Serve, status: str
) -> None:
    busy, other = Post(status, retry_after="30"), Post()
    async with rig_on(tmp_path / "a.db") as rig:
        await rig.start()
        await rig.endpoint((await serve(busy)).url, concurrency=1)
        await rig.endpoint((await serve(other)).url, concurrency=1)
        await rig.publish("evt_1", "evt_2", "evt_3")
        await until(lambda: len(other.requests) == 3)
        busy.answer, busy.headers = "204 No Content", {}
        await rig.publish("evt_4")
        await rig.advance(29)
        assert busy.ids == ["evt_1"]
        await rig.advance(10)
        assert sorted(busy.ids) == ["evt_1", "evt_1", "evt_2", "evt_3", "evt_4"]
    assert len(other.requests) == 4


async def test_an_owner_s_change_ends_the_wait(tmp_path: Path, serve: Serve) -> None:
    post = Post("503 Busy", retry_after="3000")
    async with rig_on(tmp_path / "a.db") as rig:
        await rig.start()
        endpoint = await rig.endpoint((await serve(post)).url, concurrency=1)
        await rig.publish("evt_1", "evt_2")
        await rig.advance(60)
        assert post.ids == ["evt_1"]
        post.answer, post.headers = "204 No Content", {}
        await rig.change(endpoint, description="mended")
        await rig.settled()
        assert post.ids == ["evt_1", "evt_2"]


async def test_an_owner_s_change_holds_although_only_the_pace_of_the_endpoint_was_remembered(
    tmp_path: Path, serve: Serve
) -> None:
    post = Post()
    async with rig_on(tmp_path / "a.db") as rig:
        dispatcher = await rig.start()
        endpoint = await rig.endpoint((await serve(post)).url, rate_limit=0.001)
        await rig.publish("evt_1")
        await rig.settled()
        assert dispatcher.stats().lanes == 0
        await rig.change(endpoint, rate_limit=None)
        await rig.publish("evt_2", "evt_3")
        await rig.settled()
        assert post.ids == ["evt_1", "evt_2", "evt_3"]
