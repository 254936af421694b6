"""The asynchronous client, on aiohttp."""

import asyncio
import inspect
import os
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp

from hookbrook.client import exchange, subscription, upload
from hookbrook.client.chance import fresh_id, jitter
from hookbrook.client.errors import ConnectionFailed, Reset
from hookbrook.client.events import Event, NewEvent, Published, StreamReceipt
from hookbrook.client.exchange import Request, Response, Wait
from hookbrook.client.settings import (
    DEFAULT_BACKOFF_S,
    DEFAULT_IDLE_S,
    DEFAULT_RETRIES,
    DEFAULT_TIMEOUT_S,
    Settings,
    read_settings,
)
from hookbrook.client.subscription import Close, Open, Read, Subscription
from hookbrook.client.upload import Pull, Send, Upload

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
        self._wire = _Wire(self._settings)

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
    ) -> Published:
        """Publish one event; returns when it is on disk. See NewEvent for what `data` may be.

        Trying again after a lost answer is safe: the event has its id before it is sent.
        Raises ApiError if it is refused, ConnectionFailed if no answer came.
        """
        event = NewEvent(channel, data, type=type, id=id, channels=channels, time=time, content_type=content_type)
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
    ) -> StreamReceipt:
        """Publish the items, such as the tokens of a language model, one event each, as they come.

        It is one request, in which each item is sent as the iterator yields it, with the id `{id_prefix}-1`,
        `{id_prefix}-2` and so on. If the connection breaks, what the server has not confirmed is sent again, and the
        iterator notices nothing. The first item is awaited before the request begins.

        Raises ApiError if an event is refused (`error.problem` has `accepted`, `cursor` and `line`, counted in the
        last request), ConnectionFailed if the server stays away, and whatever the iterator raises; the events before
        stand.
        """
        lines = Upload(channel, type, id_prefix or fresh_id("evt"))
        source = _Source(items)

        async def perform(step: Any) -> Any:
            match step:
                case Pull():
                    await _pull(lines, source, lines.attempt)
                case Send(request=request):
                    return await self._wire.send(request, _body(lines, source))
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
        on_reset: Callable[[Reset], Awaitable[object] | object] | None = None,
    ) -> "AsyncStream":
        """Read the events of channels or patterns (`orders.*`) with `async for`, as they come, for ever.

        The stream resumes by itself behind the last event, whatever happens to the connection or the server; the
        iteration ends only when the channel is closed. Without a start it begins at now.

        Args:
            types: only these types or patterns.
            after: start behind this cursor, such as the `cursor` of the last event that you dealt with.
            since: start at this age (`2h`) or time.
            last: start at the last so many events.
            token: a stream token, instead of the client's key.
            on_reset: called (and awaited, if it is a coroutine function) when events may be missing. Without it, the
                iteration raises the Reset; iterating the same stream again goes on behind the gap.

        Raises ApiError while iterating if the server refuses (401, 403, 404, 422).
        """
        selection = subscription.select(channels, types, after, since, last, token)
        return AsyncStream(self._wire, Subscription(self._settings, selection, jitter), on_reset)

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


class AsyncStream:
    """The events of `AsyncHookbrook.stream`: iterate it; close it, or use it with `async with`, to leave early.

    A step that is cancelled, as by `asyncio.wait_for`, can be taken again; no event is lost by it.
    """

    def __init__(
        self,
        wire: "_Wire",
        steps: Subscription,
        on_reset: Callable[[Reset], Awaitable[object] | object] | None,
    ) -> None:
        self._response: aiohttp.ClientResponse | None = None
        self._wire = wire
        self._steps = steps
        self._on_reset = on_reset
        self._closed = False

    @property
    def cursor(self) -> str | None:
        """Where the stream stands; None before it is known."""
        return self._steps.cursor

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._closed:
            step = self._steps.step()
            if isinstance(step, Event):
                self._steps.taken()
                return step
            if isinstance(step, Reset):
                self._steps.taken()
                await self._tell(step)
            elif isinstance(step, subscription.End):
                await self.close()
            else:
                await self._do(step)
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection and end the iteration."""
        self._closed = True
        self._hang_up()

    def __del__(self) -> None:
        # `async for event in brook.stream(…): break` leaves nobody else who could hang up.
        if self._response is not None:
            self._wire.hang_up_from_anywhere(self._response)

    async def _tell(self, reset: Reset) -> None:
        if self._on_reset is None:
            raise reset
        told = self._on_reset(reset)
        if inspect.isawaitable(told):
            await told

    async def _do(self, step: Open | Read | Close | Wait) -> None:
        try:
            answer = await self._perform(step)
        except ConnectionFailed as error:
            self._steps.fail(error)
            return
        try:
            self._steps.answer(answer)
        except BaseException:
            # The steps have ended with it, so that nobody else will ask for the connection to be closed.
            self._hang_up()
            raise

    async def _perform(self, step: Open | Read | Close | Wait) -> Response | bytes | None:
        match step:
            case Open(request=request):
                self._hang_up()
                response, self._response = await self._wire.open(request)
                return response
            case Read():
                if self._response is None:
                    raise ConnectionFailed("the stream's connection was closed")
                return await self._wire.read(self._response)
            case Close():
                self._hang_up()
            case Wait(seconds=seconds):
                await asyncio.sleep(seconds)
        return None

    def _hang_up(self) -> None:
        if self._response is not None:
            self._wire.hang_up(self._response)
            self._response = None


class _Wire:
    """Requests on aiohttp; everything that means "no answer" becomes ConnectionFailed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._streams: set[aiohttp.ClientResponse] = set()
        self._closed = False

    async def close(self) -> None:
        self._closed = True
        for response in tuple(self._streams):
            self.hang_up(response)
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def send(self, request: Request, body: bytes | AsyncIterator[bytes]) -> Response:
        # An upload takes as long as its source; aiohttp counts the time to the answer from the end of the body.
        limits = aiohttp.ClientTimeout(sock_connect=self._settings.timeout_s, sock_read=self._settings.timeout_s)
        try:
            async with self._ask(request, body, limits) as response:
                return _response(response, await response.read())
        except (aiohttp.ClientError, OSError) as error:
            raise self._failed(error) from error

    async def open(self, request: Request) -> tuple[Response, aiohttp.ClientResponse | None]:
        """The answer, and the open response if it is an event stream."""
        limits = aiohttp.ClientTimeout(sock_connect=self._settings.timeout_s, sock_read=self._settings.idle_s)
        try:
            response = await self._ask(request, b"", limits)
            answer = _response(response, b"")
            if subscription.is_event_stream(answer):
                self._streams.add(response)
                return answer, response
            async with response:
                return _response(response, await response.read()), None
        except (aiohttp.ClientError, OSError) as error:
            raise self._failed(error) from error

    async def read(self, response: aiohttp.ClientResponse) -> bytes:
        try:
            return await response.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise self._failed(error) from error

    def hang_up(self, response: aiohttp.ClientResponse) -> None:
        self._streams.discard(response)
        response.close()

    def hang_up_from_anywhere(self, response: aiohttp.ClientResponse) -> None:
        """For finalizers, which run in whichever thread collects the garbage."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.hang_up, response)

    def _ask(
        self, request: Request, body: bytes | AsyncIterator[bytes], limits: aiohttp.ClientTimeout
    ) -> "aiohttp.client._RequestContextManager":
        if self._closed:
            raise RuntimeError("the client is closed")
        if self._session is None:
            self._loop = asyncio.get_running_loop()
            # No cookies: the key is the only credential, and an answer must not add another.
            self._session = aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(), connector=aiohttp.TCPConnector(limit=0)
            )
        return self._session.request(
            request.method,
            self._settings.url + request.target,
            headers=request.headers,
            data=body or None,
            timeout=limits,
            # A redirect would carry the key to another server.
            allow_redirects=False,
        )

    def _failed(self, error: Exception) -> ConnectionFailed:
        # asyncio's timeouts have no text.
        return ConnectionFailed(f"no answer from {self._settings.url}: {str(error) or type(error).__name__}")


class _Source:
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


async def _pull(lines: Upload, source: _Source, attempt: int) -> bytes | None:
    await source.ready()
    if attempt != lines.attempt:
        # The next request has begun; the item is its.
        return None
    item = source.take()
    if item is None:
        lines.exhausted = True
        return None
    return lines.add(item[0])


async def _body(lines: Upload, source: _Source) -> AsyncIterator[bytes]:
    attempt = lines.attempt
    for line in tuple(lines.unacknowledged):
        yield line
    while attempt == lines.attempt and not (lines.full or lines.exhausted):
        try:
            new = await _pull(lines, source, attempt)
        except Exception as error:
            # The source is the user's and may raise anything; kept aside, because the HTTP client would take it for
            # a failure of the connection.
            lines.fault = error
            raise ConnectionFailed("the source of the upload failed") from error
        if new is not None:
            yield new
    lines.sent_all = attempt == lines.attempt


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


def _response(response: aiohttp.ClientResponse, body: bytes) -> Response:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Response(status=response.status, headers=headers, body=body)
