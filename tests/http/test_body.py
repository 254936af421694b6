"""Reading a body within a limit."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from hookbrook.errors import BadRequest, TooLarge
from hookbrook.http.body import read_body


def arriving(*pieces: bytes, ends: bool = True) -> tuple[Callable[[], Awaitable[dict[str, Any]]], list[bytes]]:
    """A `receive` of these pieces, and those of them that are not yet received."""
    waiting = list(pieces)

    async def receive() -> dict[str, Any]:
        if not waiting:
            return {"type": "http.disconnect"}
        piece = waiting.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(waiting) or not ends}

    return receive, waiting


async def read(receive: Any, *, length: bytes | None = None, limit: int = 10) -> bytes:
    headers = [(b"host", b"x")] + ([(b"content-length", length)] if length is not None else [])
    return await read_body(receive, headers, limit=limit, limit_name="max_things")


@pytest.mark.parametrize("pieces", [(b"",), (b"0123456789",), (b"01234", b"56789"), (b"0", b"", b"1", b"")])
async def test_a_body_within_the_limit_is_returned_whole(pieces: tuple[bytes, ...]) -> None:
    receive, _ = arriving(*pieces)
    assert await read(receive) == b"".join(pieces)


async def test_a_body_of_one_piece_is_not_copied() -> None:
    piece = b"0123456789"
    receive, _ = arriving(piece)
    assert await read(receive) is piece


@pytest.mark.parametrize("length", [b"11", b"9" * 18, b"9" * 5000])
async def test_a_length_over_the_limit_is_refused_before_anything_is_received(length: bytes) -> None:
    receive, waiting = arriving(b"x")
    with pytest.raises(TooLarge, match="max_things") as refusal:
        await read(receive, length=length)
    assert waiting == [b"x"]
    assert refusal.value.extra == {"limit": 10}


@pytest.mark.parametrize("length", [b"x", b"-1", b"", b"1.0", b"\xb2"])
async def test_a_length_that_is_no_number_is_refused(length: bytes) -> None:
    receive, _ = arriving(b"x")
    with pytest.raises(BadRequest):
        await read(receive, length=length)


@pytest.mark.parametrize("pieces", [(b"x" * 11,), (b"x" * 6, b"x" * 5), (b"x" * 6, b"x" * 5, b"never received")])
async def test_a_body_is_cut_off_as_soon_as_it_is_too_long_whatever_its_length_says(pieces: tuple[bytes, ...]) -> None:
    receive, waiting = arriving(*pieces)
    with pytest.raises(TooLarge):
        await read(receive, length=b"5")
    assert waiting == list(pieces[2:])


@pytest.mark.parametrize("pieces", [(), (b"half",), (b"ha", b"lf")])
async def test_a_client_that_goes_away_in_the_middle_is_told_apart_from_one_that_is_done(
    pieces: tuple[bytes, ...],
) -> None:
    receive, _ = arriving(*pieces, ends=False)
    with pytest.raises(BadRequest, match="went away"):
        await read(receive)
