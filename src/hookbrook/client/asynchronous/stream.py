"""A stream, read by asyncio."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Generic, Self, TypeVar, cast

import aiohttp

from hookbrook.client import subscription
from hookbrook.client.asynchronous.wire import Wire
from hookbrook.client.errors import ConnectionFailed, Reset
from hookbrook.client.events import Event
from hookbrook.client.exchange import Response, Wait
from hookbrook.client.subscription import Close, Open, Read, Subscription
from hookbrook.core.received import Webhook

#: `Event`, or `Webhook` of a source.
T = TypeVar("T")


class AsyncStream(Generic[T]):
    """The events of `AsyncHookbrook.stream`, or what `webhooks` yields.

    Iterate it; close it, or use it with `async with`, to leave early.

    A step that is cancelled, as by `asyncio.wait_for`, can be taken again; no event is lost by it.
    """

    def __init__(
        self,
        wire: Wire,
        steps: Subscription,
        on_reset: Callable[[Reset], Awaitable[object] | object] | None,
        on_place: Callable[[str, bool], object] | None = None,
    ) -> None:
        self._response: aiohttp.ClientResponse | None = None
        self._wire = wire
        self._steps = steps
        self._on_reset = on_reset
        self._on_place = on_place
        self._closed = False

    @property
    def cursor(self) -> str | None:
        """Where the stream stands; None before it is known."""
        return self._steps.cursor

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while not self._closed:
            step = self._steps.step()
            if isinstance(step, Event | Webhook):
                self._steps.taken()
                return cast("T", step)
            if isinstance(step, subscription.At):
                self._steps.taken()
                if self._on_place is not None:
                    self._on_place(step.cursor, step.live)
                continue
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
