import asyncio
import time

from hookbrook.stream.pace import PAUSE_PER_TURN, LoadPace

from .conftest import until

#: A turn so long that the pause behind it is the longest one, whatever else the machine does.
LONG_TURN_S = 0.02
PAUSE_S = 0.05


class Door:
    """Notes when it was opened, and keeps the loop busy for as long as a test says."""

    def __init__(self, pace: LoadPace, turn_s: float = 0.0) -> None:
        self.times: list[float] = []
        self.turn_s = turn_s
        pace.start(self.leave)

    def leave(self) -> None:
        self.times.append(time.monotonic())
        time.sleep(self.turn_s)


async def test_at_rest_news_leaves_at_once() -> None:
    pace = LoadPace()
    door = Door(pace)
    pace.news()
    assert len(door.times) == 1


async def test_after_a_short_turn_nothing_waits() -> None:
    pace = LoadPace(max_pause_s=0)
    door = Door(pace)
    for count in range(1, 10):
        pace.news()
        assert len(door.times) == count
        await asyncio.sleep(0)
        await asyncio.sleep(0)


async def test_what_comes_after_a_long_turn_leaves_together_after_a_pause() -> None:
    pace = LoadPace(max_pause_s=PAUSE_S)
    door = Door(pace, LONG_TURN_S)
    pace.news()
    door.turn_s = 0
    for _ in range(100):
        pace.news()
    assert len(door.times) == 1
    await until(lambda: len(door.times) == 2)
    assert PAUSE_PER_TURN * LONG_TURN_S > PAUSE_S
    assert door.times[1] - door.times[0] >= LONG_TURN_S + PAUSE_S - 0.002
    await asyncio.sleep(2 * PAUSE_S)
    assert len(door.times) == 2
    pace.news()
    assert len(door.times) == 3


async def test_a_listener_that_fails_does_not_stop_what_comes_later() -> None:
    pace = LoadPace(max_pause_s=0)
    calls: list[int] = []

    def leave() -> None:
        calls.append(1)
        raise ValueError

    pace.start(leave)
    for _ in range(2):
        try:
            pace.news()
        except ValueError:
            await asyncio.sleep(0.01)
    assert len(calls) == 2
