"""The asynchronous consumer: a stream that remembers between runs how far it was dealt with."""

import asyncio
from types import TracebackType
from typing import Self

from hookbrook.client.asynchronous.stream import AsyncStream
from hookbrook.client.events import Event
from hookbrook.client.place import Place


class AsyncEvents:
    """`Events` for asyncio. The cursor is saved in a thread, since that waits for the disk."""

    def __init__(self, stream: AsyncStream[Event], place: Place) -> None:
        self._stream = stream
        self._place = place
        self._handed: str | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        if self._handed is not None:
            await asyncio.to_thread(self._place.save, self._handed)
            self._handed = None
        event = await anext(self._stream)
        self._handed = event.cursor
        return event

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection and end the iteration. An event that was being dealt with will come again."""
        await self._stream.close()
