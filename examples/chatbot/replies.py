"""Replies on their way from the engine to the readers of a conversation.

The engine's callbacks arrive as events of the channel `engine.replies`; what they say leaves as events of the
conversation's channel, word by word. Every event that is published has an id made from the reply and the word's
number, so publishing a reply once more, after whatever went wrong, neither loses a word nor doubles one. That makes
one rule enough to survive `kill -9`: *remember a callback only when its whole reply has been published.*
"""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hookbrook import Event


@dataclass(eq=False, slots=True, kw_only=True)
class Reply:
    """One reply, while it arrives and is published."""

    id: str
    conversation: str
    words: list[str] = field(default_factory=list)
    #: What the stream tells about the way that the reply took.
    steps: dict[str, Mapping[str, str]] = field(default_factory=dict)
    complete: bool = False
    published: bool = False
    _paced: int = 0
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def channel(self) -> str:
        return f"chat.{self.conversation}"

    def receive(self, event: Event) -> None:
        """Take in one callback of the engine; one that comes again changes nothing."""
        callback = {"callback": event.id, "cursor": event.cursor}
        match event.type, event.data:
            case "reply.accepted", {"webhook": str(webhook), "engine": str(engine)}:
                self.steps["accepted"] = {"webhook": webhook, "engine": engine, **callback}
            case "reply.delta", {"from": int(first), "tokens": [*tokens]}:
                self.steps.setdefault("verified", callback)
                self.words += tokens[max(0, len(self.words) - (first - 1)) :]
            case "reply.finished", {"text": str(text)}:
                self.steps.setdefault("verified", callback)
                self.words += split_words(text[len("".join(self.words)) :])
                self.complete = True
        self._news.set()

    async def step(self, name: str) -> Mapping[str, str] | None:
        """What is known of a step; None once it is clear that it was left out."""
        while not {name, "verified"} & self.steps.keys():
            await self._wait()
        return self.steps.get(name)

    async def deltas(self, pace: float) -> AsyncIterator[dict[str, object]]:
        """The words as data for events, at a readable pace: `pace` seconds each."""
        told = 0
        while told < len(self.words) or not self.complete:
            if told == len(self.words):
                await self._wait()
                continue
            told += 1
            yield {"reply": self.id, "n": told, "text": self.words[told - 1]}
            if told > self._paced:  # a repetition hurries to where it was interrupted
                self._paced = told
                await asyncio.sleep(pace)

    async def _wait(self) -> None:
        self._news.clear()
        await self._news.wait()


class Bookmark:
    """The place up to which every reply has been published, in a file."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._passed: list[tuple[str, Reply]] = []

    def read(self) -> str | None:
        return self._file.read_text().strip() if self._file.exists() else None

    def passing(self, cursor: str, reply: Reply) -> None:
        """A callback at `cursor` was read, and belongs to `reply`."""
        self._passed.append((cursor, reply))

    def advance(self) -> None:
        """Move past the callbacks of published replies, as far as no reply is cut in two.

        A reply of which only the last callbacks were read again could not be published again.
        """
        last_of = {reply.id: index for index, (_, reply) in enumerate(self._passed)}
        passable, reach = 0, 0
        for index, (_, reply) in enumerate(self._passed):
            if not reply.published:
                break
            reach = max(reach, last_of[reply.id])
            if index == reach:
                passable = index + 1
        if passable:
            self._write(self._passed[passable - 1][0])
            del self._passed[:passable]

    def _write(self, cursor: str) -> None:
        draft = self._file.with_suffix(".new")
        draft.write_text(cursor)
        draft.replace(self._file)


def split_words(text: str) -> list[str]:
    """Words with the white space after them, so that joining them gives the text again."""
    return re.findall(r"\s*\S+\s*", text)
