"""The lazy timer of a connection."""

import asyncio

from hookbrook.http.deadline import Deadline


async def test_it_fires_once_when_its_time_has_come_and_not_when_that_was_moved() -> None:
    loop = asyncio.get_running_loop()
    passed: list[float] = []
    deadline = Deadline(loop, passed.append)
    begin = loop.time()
    deadline.set(begin + 0.01)
    deadline.set(begin + 0.05)
    async with asyncio.timeout(5):
        while not passed:  # noqa: ASYNC110 - the loop's own time is what is tested
            await asyncio.sleep(0.002)
    assert passed[0] >= begin + 0.05
    await asyncio.sleep(0.02)
    assert len(passed) == 1


async def test_an_earlier_deadline_is_not_missed() -> None:
    loop = asyncio.get_running_loop()
    passed: list[float] = []
    deadline = Deadline(loop, passed.append)
    deadline.set(loop.time() + 3600)
    deadline.set(loop.time() + 0.01)
    async with asyncio.timeout(5):
        while not passed:  # noqa: ASYNC110 - likewise
            await asyncio.sleep(0.002)
    deadline.end()


async def test_a_cleared_or_ended_one_never_fires_and_only_the_cleared_one_can_be_set_again() -> None:
    loop = asyncio.get_running_loop()
    passed: list[float] = []
    cleared, ended = Deadline(loop, passed.append), Deadline(loop, passed.append)
    cleared.set(loop.time() + 0.005)
    cleared.clear()
    ended.set(loop.time() + 0.005)
    ended.end()
    await asyncio.sleep(0.03)
    assert not passed
    for each in (cleared, ended):
        each.set(loop.time())
    await asyncio.sleep(0.01)
    assert len(passed) == 1
