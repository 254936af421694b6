"""The asynchronous client, on aiohttp."""

import asyncio
import os
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar

from hookbrook.client import exchange, subscription, upload
from hookbrook.client.asynchronous.events import AsyncEvents
from hookbrook.client.asynchronous.lines import Source, body, pull
from hookbrook.client.asynchronous.stream import AsyncStream
from hookbrook.client.asynchronous.wire import Wire
from hookbrook.client.chance import fresh_id, jitter
from hookbrook.client.errors import ConnectionFailed, Reset
from hookbrook.client.events import Event, NewEvent, Published, StreamReceipt
from hookbrook.client.exchange import Request, Response, Wait
from hookbrook.client.place import Place, place_of
from hookbrook.client.settings import (
    DEFAULT_BACKOFF_S,
    DEFAULT_IDLE_S,
    DEFAULT_RETRIES,
    DEFAULT_TIMEOUT_S,
    read_settings,
)
from hookbrook.client.subscription import Subscription
from hookbrook.client.upload import Pull, Send, Upload
from hookbrook.core.received import Webhook

T = TypeVar("T")


class AsyncHookbrook:
    """`Hookbrook` for asyncio: the same methods, awaited. Use it in one event loop, and close it there.

    Args:
        url: of the server; else `HOOKBROOK_URL`, else http://127.0.0.1:4665.
        key: an API key; else `HOOKBROOK_KEY`, else none, as with `serve --dev`.
        timeout_s: for one try of a request.
        retries: tries after the first, where trying again is safe and may help.
        backoff_s: the first pause between tries; it doubles.
        idle_s: a stream that brings no byte for so long is dropped and resumed.

    Raises ConfigError for a URL or key that cannot be one.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        retries: int = DEFAULT_RETRIES,
        backoff_s: float = DEFAULT_BACKOFF_S,
        idle_s: float = DEFAULT_IDLE_S,
    ) -> None:
        self._settings = read_settings(
            url, key, os.environ, timeout_s=timeout_s, retries=retries, backoff_s=backoff_s, idle_s=idle_s
        )
        self._wire = Wire(self._settings)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._settings.url!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections, also those of streams."""
        await self._wire.close()

    async def publish(
        self,
        channel: str,
        data: Any,
        *,
        type: str = "message",
        id: str | None = None,
        channels: Sequence[str] | None = None,
        time: datetime | str | None = None,
        content_type: str | None = None,
        close: bool = False,
        merge: str | None = None,
    ) -> Published:
        """Publish one event; returns when it is on disk. See NewEvent for what `data` may be, and for the rest.

        Trying again after a lost answer is safe: the event has its id before it is sent.
        Raises ApiError if it is refused, ConnectionFailed if no answer came.
        """
        event = NewEvent(
            channel,
            data,
            type=type,
            id=id,
            channels=channels,
            time=time,
            content_type=content_type,
            close=close,
            merge=merge,
        )
        return await self._run(exchange.publish(self._settings, event, fresh_id("evt"), jitter))

    async def publish_many(self, events: Iterable[NewEvent | Mapping[str, Any]]) -> list[Published]:
        """Publish several events in one transaction: all or nothing, in this order."""
        pairs = [(event, fresh_id("evt")) for event in events]
        return await self._run(exchange.publish_many(self._settings, pairs, jitter))

    async def publish_stream(
        self,
        channel: str,
        items: AsyncIterable[Any] | Iterable[Any],
        *,
        type: str = "message",
        id_prefix: str | None = None,
        merge: str | None = None,
    ) -> StreamReceipt:
        """Publish the items, such as the tokens of a language model, one event each, as they come.

        It is one request, in which each item is sent as the iterator yields it, with the id `{id_prefix}-1`,
        `{id_prefix}-2` and so on, and all with the same `merge` key if one is given. If the connection breaks, what the
        server has not confirmed is sent again, and the iterator notices nothing. The first item is awaited before the
        request begins.

        Raises ApiError if an event is refused (`error.problem` has `accepted`, `cursor` and `line`, counted in the
        last request), ConnectionFailed if the server stays away, and whatever the iterator raises; the events before
        stand.
        """
        lines = Upload(channel, type, id_prefix or fresh_id("evt"), merge)
        source = Source(items)

        async def perform(step: Any) -> Any:
            match step:
                case Pull():
                    await pull(lines, source, lines.attempt)
                case Send(request=request):
                    return await self._wire.send(request, body(lines, source))
                case Wait(seconds=seconds):
                    await asyncio.sleep(seconds)
            return None

        try:
            return await _drive(upload.send(self._settings, lines, jitter), perform)
        finally:
            await source.close()

    def stream(
        self,
        *channels: str,
        types: Iterable[str] | str = (),
        after: str | None = None,
        since: str | None = None,
        last: int | None = None,
        token: str | None = None,
        merge: bool = False,
        on_reset: Callable[[Reset], Awaitable[object] | object] | None = None,
    ) -> AsyncStream[Event]:
        """Read the events of channels or patterns (`orders.*`) with `async for`, as they come, for ever.

        The stream resumes by itself behind the last event, whatever happens to the connection or the server; the
        iteration ends only when the channel is closed. Without a start it begins at now.

        Args:
            types: only these types or patterns.
            after: start behind this cursor, such as the `cursor` of the last event that you dealt with.
            since: start at this age (`2h`) or time.
            last: start at the last so many events.
            token: a stream token, instead of the client's key.
            merge: while catching up, neighbouring pieces of one text (published with the same `merge`) as one event.
            on_reset: called (and awaited, if it is a coroutine function) when events may be missing. Without it, the
                iteration raises the Reset; iterating the same stream again goes on behind the gap.

        Raises ApiError while iterating if the server refuses (401, 403, 404, 422).
        """
        selection = subscription.select(channels, types, after, since, last, token, merge)
        return AsyncStream(self._wire, Subscription(self._settings, selection, jitter), on_reset)

    def events(
        self,
        *channels: str,
        save: Place | str | os.PathLike[str],
        types: Iterable[str] | str = (),
        since: str | None = None,
        on_reset: Callable[[Reset], Awaitable[object] | object] | None = None,
    ) -> AsyncEvents:
        """Read events one after the other and remember how far that went: for a receiver without a public URL.

        An event counts as dealt with when the next one is asked for; its cursor is then saved. So after a crash
        an event may come twice, and none is missed.

        Args:
            save: a file for the cursor, or a Place of your own. Each consumer needs its own.
            types: only these types or patterns.
            since: where to begin as long as nothing was saved; absent, with what comes next.
            on_reset: called when events may be missing, because the saved cursor is older than what is kept, or of
                another log. Without it, the iteration raises the Reset; iterating again goes on behind the gap.
        """
        place = place_of(save)
        after = place.load()
        selection = subscription.select(
            channels, types, after, since if after is None else None, None, None, places=True
        )
        steps = Subscription(self._settings, selection, jitter)
        return AsyncEvents(AsyncStream(self._wire, steps, on_reset, lambda cursor, _live: place.save(cursor)), place)

    def webhooks(
        self,
        source: str,
        *,
        types: Iterable[str] | str = (),
        after: str | None = None,
        since: str | None = None,
        last: int | None = None,
        unverified: bool = False,
        on_reset: Callable[[Reset], Awaitable[object] | object] | None = None,
        on_place: Callable[[str, bool], object] | None = None,
    ) -> AsyncStream[Webhook]:
        """Read what arrives at a source as it arrived, with the original headers and the raw body.

        As `stream`, but for a key with the scope `ingest`. A body of more than 1 MiB is left out (`raw` is None); get
        it with `download(f"/v1/sources/{source}/requests/{id}/body")`.

        Args:
            unverified: also what failed verification and was kept all the same.
            on_place: called with a cursor up to which there was nothing more for this stream, and whether it has just
                caught up with the log. A cursor that is kept moves on by this, too.
        """
        selection = subscription.Selection(
            channels=(),
            types=(types,) if isinstance(types, str) else tuple(types),
            after=after,
            since=since,
            last=last,
            source=source,
            unverified=unverified,
            places=True,
        )
        return AsyncStream(self._wire, Subscription(self._settings, selection, jitter), on_reset, on_place)

    async def download(self, path: str) -> bytes:
        """The bytes at a path of the API, such as the raw body of a webhook."""
        return await self._run(exchange.download(self._settings, path, jitter))

    async def request(
        self, method: str, path: str, *, json: Any = None, params: Mapping[str, Any] | None = None
    ) -> Any:
        """Any request of the API (`"GET", "/v1/endpoints"`): the decoded JSON of the answer, None if it is empty."""
        key = fresh_id("req")
        return await self._run(
            exchange.api(self._settings, method, path, json=json, params=params, idempotency_key=key, jitter=jitter)
        )

    async def pages(self, path: str, params: Mapping[str, Any] | None = None) -> AsyncIterator[Any]:
        """All members of a list of the API, page after page."""
        page: str | None = None
        while True:
            answer = await self.request("GET", path, params={**(params or {}), **({"page": page} if page else {})})
            for member in answer["data"]:
                yield member
            page = answer.get("next")
            if page is None:
                return

    async def _run(self, steps: exchange.Exchange[T]) -> T:
        async def perform(step: Request | Wait) -> Response | None:
            if isinstance(step, Request):
                return await self._wire.send(step, step.body)
            await asyncio.sleep(step.seconds)
            return None

        return await _drive(steps, perform)


async def _drive(steps: Generator[Any, Any, T], perform: Callable[[Any], Awaitable[Any]]) -> T:
    try:
        step = next(steps)
        while True:
            try:
                answer = await perform(step)
            except ConnectionFailed as error:
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result
