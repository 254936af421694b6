"""The clock by which retries come due."""

from hookbrook.outbound.clock import SteadyClock

from .rig import START_US, VirtualTime

SECOND = 1_000_000


def test_it_follows_the_wall_clock_and_a_clock_set_forward() -> None:
    time = VirtualTime()
    clock = SteadyClock(time.clock, time)
    assert clock.now() == START_US
    time.move(5)
    assert clock.now() == START_US + 5 * SECOND
    time.set_wall(3600)
    assert clock.now() == START_US + 3605 * SECOND


def test_a_clock_set_back_does_not_set_it_back_and_it_goes_on_at_the_same_pace() -> None:
    time = VirtualTime()
    clock = SteadyClock(time.clock, time)
    time.set_wall(-86_400)
    assert clock.now() == START_US
    time.move(5)
    assert clock.now() == START_US + 5 * SECOND
    time.set_wall(86_400)
    assert clock.now() == START_US + 5 * SECOND
