import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from replies import Bookmark, Reply, split_words

from hookbrook import Event


def callback(type: str, number: int = 1, **data: Any) -> Event:
    return Event(
        id=f"job-{number}",
        channels=("engine.replies",),
        type=type,
        tenant="default",
        source="engine",
        time=datetime(2026, 11, 23, tzinfo=UTC),
        content_type="application/json",
        data={"reply": "r", "conversation": "c", **data},
        cursor=f"k-{number}",
    )


def finished(text: str, number: int = 9) -> Event:
    return callback("reply.finished", number, text=text)


def delta(first: int, *tokens: str) -> Event:
    return callback("reply.delta", first, **{"from": first, "tokens": list(tokens)})


def new_reply() -> Reply:
    return Reply(id="r", conversation="c")


async def texts(deltas: AsyncIterator[dict[str, object]]) -> list[object]:
    return [each["text"] async for each in deltas]


@pytest.mark.parametrize("text", ["", "one", "one two", "a\n\nb  c ", "  leading `code` here.\n", "日本語 text"])
def test_words_join_to_the_text_again(text: str) -> None:
    assert "".join(split_words(text)) == text


def test_every_word_has_something_to_see() -> None:
    assert split_words(" one two\n\nthree") == [" one ", "two\n\n", "three"]


async def test_a_finished_reply_is_told_word_by_word_with_numbers() -> None:
    reply = new_reply()
    reply.receive(finished("Hello big world"))
    assert [each async for each in reply.deltas(0)] == [
        {"reply": "r", "n": 1, "text": "Hello "},
        {"reply": "r", "n": 2, "text": "big "},
        {"reply": "r", "n": 3, "text": "world"},
    ]


async def test_tokens_are_told_as_they_come_and_the_rest_of_the_text_follows() -> None:
    reply = new_reply()
    telling = reply.deltas(0)
    first = asyncio.ensure_future(anext(telling))
    reply.receive(delta(1, "Hel", "lo "))
    assert (await first)["text"] == "Hel"
    reply.receive(delta(3, "wor"))
    reply.receive(finished("Hello world and all"))
    assert await texts(telling) == ["lo ", "wor", "ld ", "and ", "all"]


async def test_callbacks_that_come_again_change_nothing() -> None:
    reply = new_reply()
    for each in [delta(1, "a ", "b "), delta(1, "a ", "b "), delta(2, "b ", "c"), finished("a b c"), finished("a b c")]:
        reply.receive(each)
    assert await texts(reply.deltas(0)) == ["a ", "b ", "c"]


async def test_a_reply_that_is_told_again_has_the_same_words_and_does_not_wait_again() -> None:
    reply = new_reply()
    reply.receive(finished("a b c"))
    once = await texts(reply.deltas(0.001))
    again = await asyncio.wait_for(texts(reply.deltas(3600)), 10)
    assert again == once


async def test_the_steps_tell_the_way_of_the_callbacks() -> None:
    reply = new_reply()
    step = asyncio.ensure_future(reply.step("accepted"))
    reply.receive(callback("reply.accepted", 4, webhook="evt_1", engine="by hand"))
    assert await step == {"webhook": "evt_1", "engine": "by hand", "callback": "job-4", "cursor": "k-4"}
    reply.receive(delta(5, "a"))
    reply.receive(finished("a"))
    assert await reply.step("verified") == {"callback": "job-5", "cursor": "k-5"}


async def test_a_step_that_was_left_out_is_not_waited_for() -> None:
    reply = new_reply()
    step = asyncio.ensure_future(reply.step("accepted"))
    reply.receive(finished("a"))
    assert await step is None


def test_an_absent_bookmark_is_no_place(tmp_path: Path) -> None:
    assert Bookmark(tmp_path / "cursor").read() is None


def test_the_bookmark_moves_only_past_published_replies_and_never_into_the_middle_of_one(tmp_path: Path) -> None:
    bookmark = Bookmark(tmp_path / "cursor")
    one, two, three = (Reply(id=str(number), conversation="c") for number in range(3))
    for cursor, reply in [("k-1", one), ("k-2", two), ("k-3", one), ("k-4", two), ("k-5", three)]:
        bookmark.passing(cursor, reply)

    one.published = True
    bookmark.advance()
    assert bookmark.read() is None

    two.published = True
    bookmark.advance()
    assert bookmark.read() == "k-4"

    three.published = True
    bookmark.advance()
    assert Bookmark(tmp_path / "cursor").read() == "k-5"
