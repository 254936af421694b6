"""A stream, read by blocking."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Generic, Self, TypeVar, cast

import urllib3

from hookbrook.client import subscription
from hookbrook.client.blocking.wire import Wire
from hookbrook.client.errors import ConnectionFailed, Reset
from hookbrook.client.events import Event
from hookbrook.client.exchange import Response, Wait
from hookbrook.client.subscription import Close, Open, Read, Subscription
from hookbrook.core.received import Webhook

#: `Event`, or `Webhook` of a source.
T = TypeVar("T")


class Stream(Generic[T]):
    """The events of `Hookbrook.stream`, or what `webhooks` yields.

    Iterate it; close it, or use it with `with`, to leave early.

    For one thread.
    """

    def __init__(
        self,
        wire: Wire,
        steps: Subscription,
        on_reset: Callable[[Reset], object] | None,
        on_place: Callable[[str, bool], object] | None = None,
    ) -> None:
        self._response: urllib3.BaseHTTPResponse | None = None
        self._wire = wire
        self._steps = steps
        self._on_reset = on_reset
        self._on_place = on_place
        self._closed = False

    @property
    def cursor(self) -> str | None:
        """Where the stream stands; None before it is known."""
        return self._steps.cursor

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
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
                if self._on_reset is None:
                    raise step
                self._on_reset(step)
            elif isinstance(step, subscription.End):
                self.close()
            else:
                self._do(step)
        raise StopIteration

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection and end the iteration."""
        self._closed = True
        self._hang_up()

    def __del__(self) -> None:
        # `for event in brook.stream(…): break` leaves nobody else who could hang up.
        self._hang_up()

    def _do(self, step: Open | Read | Close | Wait) -> None:
        try:
            answer = self._perform(step)
        except ConnectionFailed as error:
            self._steps.fail(error)
            return
        try:
            self._steps.answer(answer)
        except BaseException:
            # The steps have ended with it, so that nobody else will ask for the connection to be closed.
            self._hang_up()
            raise

    def _perform(self, step: Open | Read | Close | Wait) -> Response | bytes | None:
        match step:
            case Open(request=request):
                self._hang_up()
                response, self._response = self._wire.open(request)
                return response
            case Read():
                assert self._response is not None
                return self._wire.read(self._response)
            case Close():
                self._hang_up()
            case Wait(seconds=seconds):
                time.sleep(seconds)
        return None

    def _hang_up(self) -> None:
        if self._response is not None:
            self._wire.hang_up(self._response)
            self._response = None
