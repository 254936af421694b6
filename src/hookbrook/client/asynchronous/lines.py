"""The body of an upload, made of the user's items as they come."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import Any

from hookbrook.client.errors import ConnectionFailed
from hookbrook.client.upload import Upload


class Source:
    """The user's items, pulled so that a broken connection does not break the source.

    The HTTP client reads the body in a task of its own and cancels it when the connection breaks. An asynchronous
    generator that is cancelled while it waits for its next item is finished for good, and the rest would be missing
    without a word. So each item is pulled in another task, which the next request finds and goes on waiting for.
    """

    def __init__(self, items: AsyncIterable[Any] | Iterable[Any]) -> None:
        self._items = aiter(items) if isinstance(items, AsyncIterable) else _from_blocking(items)
        self._task: asyncio.Task[tuple[Any] | None] | None = None

    async def ready(self) -> None:
        """Wait until `take` has something; cancelling this loses nothing."""
        if self._task is None:
            self._task = asyncio.create_task(self._next())
        await asyncio.wait([self._task])

    def take(self) -> tuple[Any] | None:
        """One item, or None at the end. Raises what the source raised."""
        task, self._task = self._task, None
        assert task is not None
        return task.result()

    async def close(self) -> None:
        """Let go of an item that is still awaited."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _next(self) -> tuple[Any] | None:
        try:
            return (await anext(self._items),)
        except StopAsyncIteration:
            return None


async def _from_blocking(items: Iterable[Any]) -> AsyncIterator[Any]:
    for item in items:
        yield item


async def pull(lines: Upload, source: Source, attempt: int) -> bytes | None:
    await source.ready()
    if attempt != lines.attempt:
        # The next request has begun; the item is its.
        return None
    item = source.take()
    if item is None:
        lines.exhausted = True
        return None
    return lines.add(item[0])


async def body(lines: Upload, source: Source) -> AsyncIterator[bytes]:
    attempt = lines.attempt
    for line in tuple(lines.unacknowledged):
        yield line
    while attempt == lines.attempt and not (lines.full or lines.exhausted):
        try:
            new = await pull(lines, source, attempt)
        except Exception as error:
            # The source is the user's and may raise anything; kept aside, because the HTTP client would take it for
            # a failure of the connection.
            lines.fault = error
            raise ConnectionFailed("the source of the upload failed") from error
        if new is not None:
            yield new
    lines.sent_all = attempt == lines.attempt
