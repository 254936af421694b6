"""The pace of a body on a virtual clock."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from hookbrook.http.limits import Limits
from hookbrook.http.pace import Flow, Pace
from hookbrook.http.problems import Headers

LIMITS = Limits(body_rate=100.0, body_grace_s=10.0, body_idle_s=60.0)
NDJSON: Headers = [(b"content-type", b"application/x-ndjson")]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def flow(clock: Clock) -> AsyncIterator[Flow]:
    ours, theirs = socket.socketpair()
    with theirs:
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
        yield Flow(transport, clock)
        transport.close()


async def test_a_silent_body_is_due_after_its_grace(flow: Flow) -> None:
    assert Pace(LIMITS, flow, [], 1000.0).due() == 1010.0


async def test_each_byte_buys_time_up_to_the_longest_pause(flow: Flow) -> None:
    pace = Pace(LIMITS, flow, [], 1000.0)
    pace.arrived(500, 1004.0)
    assert pace.due() == 1015.0
    pace.arrived(1_000_000, 1005.0)
    assert pace.due() == 1065.0


async def test_a_live_body_is_due_only_after_the_longest_pause(flow: Flow) -> None:
    pace = Pace(LIMITS, flow, NDJSON, 1000.0)
    assert pace.due() == 1060.0
    pace.arrived(1, 1050.0)
    assert pace.due() == 1110.0


async def test_a_pause_of_ours_between_two_looks_does_not_count(flow: Flow, clock: Clock) -> None:
    paces = [Pace(LIMITS, flow, headers, 1000.0) for headers in ([], NDJSON)]
    for pace in paces:
        pace.arrived(1000, 1001.0)
    clock.now = 1002.0
    flow.pause_reading()
    clock.now = 1058.0
    flow.resume_reading()
    assert [pace.look(1061.0, uninvited=False) for pace in paces] == [1000.0 + 56.0 + 10.0 + 10.0, 1118.0]


async def test_while_we_do_not_read_nothing_is_due_and_afterwards_all_the_grace_is_there(flow: Flow) -> None:
    pace = Pace(LIMITS, flow, [], 1000.0)
    flow.pause_reading()
    assert pace.look(1010.0, uninvited=False) == 1020.0
    flow.resume_reading()
    assert pace.look(1020.0, uninvited=False) == 1030.0
    assert pace.look(1030.0, uninvited=False) == 1030.0


async def test_who_waits_for_100_continue_is_not_late(flow: Flow) -> None:
    pace = Pace(LIMITS, flow, [], 1000.0)
    assert pace.look(1010.0, uninvited=True) == 1020.0
    assert pace.look(1020.0, uninvited=False) == 1030.0
