"""Requests that wait to be written together."""

import asyncio

import pytest

from hookbrook.outbound.attempt import Attempt
from hookbrook.outbound.outbox import MAX_WAITING, Outbox
from hookbrook.outbound.wire import Dropped, NotHttp, Wire

from .conftest import Serve, until

HEAD = b"POST /hook HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\n"


async def test_what_comes_in_one_turn_of_the_loop_is_written_at_its_end_in_order() -> None:
    outbox, written = Outbox(), list[int]()
    for number in range(3):
        outbox.put(lambda number=number: written.append(number))  # type: ignore[misc]
    assert written == []
    await asyncio.sleep(0)
    assert written == [0, 1, 2]


async def test_no_more_than_some_wait() -> None:
    outbox, written = Outbox(), list[int]()
    for number in range(MAX_WAITING + 1):
        outbox.put(lambda number=number: written.append(number))  # type: ignore[misc]
    assert written == list(range(MAX_WAITING))
    await asyncio.sleep(0)
    assert written == list(range(MAX_WAITING + 1))


async def connected(port: int, outbox: Outbox | None = None) -> Wire:
    loop = asyncio.get_running_loop()
    outbox = outbox or Outbox()
    _, wire = await loop.create_connection(
        lambda: Wire(outbox, released=lambda _: None, lost=lambda _: None), "127.0.0.1", port
    )
    return wire


@pytest.mark.parametrize(("reused", "error"), [(True, Dropped), (False, NotHttp)])
async def test_what_comes_before_a_request_has_left_is_not_taken_for_its_answer(
    serve: Serve, reused: bool, error: type[Exception]
) -> None:
    receiver = await serve()
    wire = await connected(receiver.port)
    attempt = Attempt("POST", 100, secure=False)
    attempt.reused = reused
    answer = wire.send(HEAD, b"x", attempt, attempt.started + 5)
    wire.data_received(b"HTTP/1.1 204 No Content\r\n\r\n")
    with pytest.raises(error):
        await answer
    assert attempt.status is None
    assert attempt.died_unheard is reused
    await until(lambda: receiver.ended == 1)
    assert receiver.requests == []


async def test_a_request_that_is_broken_off_before_it_has_left_does_not_leave(serve: Serve) -> None:
    receiver = await serve()
    wire = await connected(receiver.port)
    attempt = Attempt("POST", 100, secure=False)
    answer = wire.send(HEAD, b"x", attempt, attempt.started + 5)
    wire.abort()
    with pytest.raises(Dropped):
        await answer
    await until(lambda: receiver.ended == 1)
    assert receiver.requests == []


async def test_a_request_that_cannot_be_written_fails_alone(serve: Serve) -> None:
    receiver = await serve()
    outbox = Outbox()
    bad, good = await connected(receiver.port, outbox), await connected(receiver.port, outbox)
    attempts = [Attempt("POST", 100, secure=False) for _ in range(2)]
    broken = bad.send("no bytes", b"x", attempts[0], attempts[0].started + 5)  # type: ignore[arg-type]
    answer = good.send(HEAD, b"x", attempts[1], attempts[1].started + 5)
    with pytest.raises(TypeError):
        await broken
    await answer
    assert attempts[1].status == 200
    good.close()
    await until(lambda: receiver.ended == 2)
