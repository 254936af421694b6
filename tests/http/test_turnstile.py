import asyncio

from hookbrook.http.turnstile import Turnstile


async def test_few_enter_without_waiting_for_a_turn() -> None:
    turnstile = Turnstile(per_turn=3)
    for _ in range(3):
        # A coroutine that never waits ends at its first step.
        try:
            turnstile.enter().send(None)
        except StopIteration:
            continue
        raise AssertionError("it waited")


async def test_a_herd_enters_in_turns_and_in_order() -> None:
    turnstile = Turnstile(per_turn=3)
    entered: list[int] = []

    async def enter(number: int) -> None:
        await turnstile.enter()
        entered.append(number)

    tasks = [asyncio.create_task(enter(number)) for number in range(10)]
    most = before = 0
    while len(entered) < 10:
        await asyncio.sleep(0)
        most, before = max(most, len(entered) - before), len(entered)
    assert entered == list(range(10))
    assert most == 3
    await asyncio.gather(*tasks)


async def test_whoever_comes_later_does_not_overtake_those_who_wait() -> None:
    turnstile = Turnstile(per_turn=1)
    entered: list[str] = []

    async def enter(name: str) -> None:
        await turnstile.enter()
        entered.append(name)

    tasks = [asyncio.create_task(enter(name)) for name in "abc"]
    while len(entered) < 2:  # noqa: ASYNC110 - turns are what is counted
        await asyncio.sleep(0)
    tasks.append(asyncio.create_task(enter("late")))
    await asyncio.gather(*tasks)
    assert entered == ["a", "b", "c", "late"]


async def test_whoever_leaves_the_queue_takes_nobodys_place() -> None:
    turnstile = Turnstile(per_turn=1)
    first, leaver, last = (asyncio.create_task(turnstile.enter()) for _ in range(3))
    await first
    leaver.cancel()
    await asyncio.wait_for(last, 5)
    assert leaver.cancelled() or leaver.done()


async def test_calls_and_coroutines_wait_in_one_queue() -> None:
    turnstile = Turnstile(per_turn=1)
    entered: list[str] = []

    def call(name: str, takes_place: bool = True) -> None:
        def enter() -> bool:
            entered.append(name)
            return takes_place

        turnstile.admit(enter)

    async def enter(name: str) -> None:
        await turnstile.enter()
        entered.append(name)

    call("first")
    assert entered == ["first"]
    tasks = [asyncio.create_task(enter("second"))]
    await asyncio.sleep(0)
    call("gone", takes_place=False)
    call("third")
    await asyncio.wait_for(asyncio.gather(*tasks), 5)
    while len(entered) < 4:  # noqa: ASYNC110 - turns are what is counted
        await asyncio.sleep(0)
    assert entered == ["first", "second", "gone", "third"]


async def test_a_call_that_fails_keeps_nobody_waiting_behind_it() -> None:
    turnstile = Turnstile(per_turn=1)
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
    turnstile.admit(lambda: True)
    turnstile.admit(lambda: 1 // 0 == 0)
    await asyncio.wait_for(turnstile.enter(), 5)
