"""The blocking client, on urllib3."""

import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar

import urllib3

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

#: Connections that are kept for reuse; more may be open at once, by threads and streams.
_KEPT_CONNECTIONS = 10

#: What one read of a stream may bring.
_READ_BYTES = 64 * 1024


class Hookbrook:
    """A client of one Hookbrook server; safe to share between threads.

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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections, also those of streams."""
        self._wire.close()

    def publish(
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
        return self._run(exchange.publish(self._settings, event, fresh_id("evt"), jitter))

    def publish_many(self, events: Iterable[NewEvent | Mapping[str, Any]]) -> list[Published]:
        """Publish several events in one transaction: all or nothing, in this order."""
        pairs = [(event, fresh_id("evt")) for event in events]
        return self._run(exchange.publish_many(self._settings, pairs, jitter))

    def publish_stream(
        self, channel: str, items: Iterable[Any], *, type: str = "message", id_prefix: str | None = None
    ) -> StreamReceipt:
        """Publish the items, such as the tokens of a language model, one event each, as they come.

        It is one request, in which each item is sent as the iterator yields it, with the id `{id_prefix}-1`,
        `{id_prefix}-2` and so on. If the connection breaks, what the server has not confirmed is sent again; a break
        is noticed when the next item is sent. The first item is awaited before the request begins.

        Raises ApiError if an event is refused (`error.problem` has `accepted`, `cursor` and `line`, counted in the
        last request), ConnectionFailed if the server stays away, and whatever the iterator raises; the events before
        stand.
        """
        lines = Upload(channel, type, id_prefix or fresh_id("evt"))
        source = iter(items)

        def perform(step: Any) -> Any:
            match step:
                case Pull():
                    _pull(lines, source)
                case Send(request=request):
                    return self._wire.send(request, _body(lines, source))
                case Wait(seconds=seconds):
                    time.sleep(seconds)
            return None

        return _drive(upload.send(self._settings, lines, jitter), perform)

    def stream(
        self,
        *channels: str,
        types: Iterable[str] | str = (),
        after: str | None = None,
        since: str | None = None,
        last: int | None = None,
        token: str | None = None,
        on_reset: Callable[[Reset], object] | None = None,
    ) -> "Stream":
        """Read the events of channels or patterns (`orders.*`), as they come, for ever.

        The stream resumes by itself behind the last event, whatever happens to the connection or the server; the
        iteration ends only when the channel is closed. Without a start it begins at now.

        Args:
            types: only these types or patterns.
            after: start behind this cursor, such as the `cursor` of the last event that you dealt with.
            since: start at this age (`2h`) or time.
            last: start at the last so many events.
            token: a stream token, instead of the client's key.
            on_reset: called when events may be missing. Without it, the iteration raises the Reset; iterating the
                same stream again goes on behind the gap.

        Raises ApiError while iterating if the server refuses (401, 403, 404, 422).
        """
        selection = subscription.select(channels, types, after, since, last, token)
        return Stream(self._wire, Subscription(self._settings, selection, jitter), on_reset)

    def request(self, method: str, path: str, *, json: Any = None, params: Mapping[str, Any] | None = None) -> Any:
        """Any request of the API (`"GET", "/v1/endpoints"`): the decoded JSON of the answer, None if it is empty."""
        key = fresh_id("req")
        return self._run(
            exchange.api(self._settings, method, path, json=json, params=params, idempotency_key=key, jitter=jitter)
        )

    def pages(self, path: str, params: Mapping[str, Any] | None = None) -> Iterator[Any]:
        """All members of a list of the API, page after page."""
        page: str | None = None
        while True:
            answer = self.request("GET", path, params={**(params or {}), **({"page": page} if page else {})})
            yield from answer["data"]
            page = answer.get("next")
            if page is None:
                return

    def _run(self, steps: exchange.Exchange[T]) -> T:
        def perform(step: Request | Wait) -> Response | None:
            if isinstance(step, Request):
                return self._wire.send(step, step.body)
            time.sleep(step.seconds)
            return None

        return _drive(steps, perform)


class Stream:
    """The events of `Hookbrook.stream`: iterate it; close it, or use it with `with`, to leave early.

    For one thread.
    """

    def __init__(self, wire: "_Wire", steps: Subscription, on_reset: Callable[[Reset], object] | None) -> None:
        self._response: urllib3.BaseHTTPResponse | None = None
        self._wire = wire
        self._steps = steps
        self._on_reset = on_reset
        self._closed = False

    @property
    def cursor(self) -> str | None:
        """Where the stream stands; None before it is known."""
        return self._steps.cursor

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        while not self._closed:
            step = self._steps.step()
            if isinstance(step, Event):
                self._steps.taken()
                return step
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


class _Wire:
    """Requests on urllib3; everything that means "no answer" becomes ConnectionFailed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pool = urllib3.PoolManager(maxsize=_KEPT_CONNECTIONS)
        self._streams: set[urllib3.BaseHTTPResponse] = set()
        self._closed = False

    def close(self) -> None:
        self._closed = True
        for response in tuple(self._streams):
            self.hang_up(response)
        self._pool.clear()

    def send(self, request: Request, body: bytes | Iterable[bytes]) -> Response:
        response = self._request(request, body, timeout_s=self._settings.timeout_s, preload_content=True)
        return _response(response, response.data)

    def open(self, request: Request) -> tuple[Response, urllib3.BaseHTTPResponse | None]:
        """The answer, and the open response if it is an event stream."""
        response = self._request(request, b"", timeout_s=self._settings.idle_s, preload_content=False)
        answer = _response(response, b"")
        if subscription.is_event_stream(answer):
            self._streams.add(response)
            return answer, response
        try:
            return _response(response, response.data), None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._failed(error) from error
        finally:
            response.close()

    def read(self, response: urllib3.BaseHTTPResponse) -> bytes:
        try:
            return response.read1(_READ_BYTES)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._failed(error) from error

    def hang_up(self, response: urllib3.BaseHTTPResponse) -> None:
        self._streams.discard(response)
        response.close()

    def _request(
        self, request: Request, body: bytes | Iterable[bytes], *, timeout_s: float, preload_content: bool
    ) -> urllib3.BaseHTTPResponse:
        if self._closed:
            raise RuntimeError("the client is closed")
        try:
            return self._pool.request(
                request.method,
                self._settings.url + request.target,
                headers=request.headers,
                body=body or None,
                timeout=urllib3.Timeout(connect=self._settings.timeout_s, read=timeout_s),
                retries=False,
                # A redirect would carry the key to another server.
                redirect=False,
                preload_content=preload_content,
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> ConnectionFailed:
        return ConnectionFailed(f"no answer from {self._settings.url}: {error}")


def _response(response: urllib3.BaseHTTPResponse, body: bytes) -> Response:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Response(status=response.status, headers=headers, body=body)


def _drive(steps: Generator[Any, Any, T], perform: Callable[[Any], Any]) -> T:
    try:
        step = next(steps)
        while True:
            try:
                answer = perform(step)
            except ConnectionFailed as error:
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result


def _pull(lines: Upload, source: Iterator[Any]) -> bytes | None:
    for item in source:
        return lines.add(item)
    lines.exhausted = True
    return None


def _body(lines: Upload, source: Iterator[Any]) -> Iterator[bytes]:
    yield from tuple(lines.unacknowledged)
    while not (lines.full or lines.exhausted):
        try:
            line = _pull(lines, source)
        except Exception as error:
            # The source is the user's and may raise anything; kept aside, because the HTTP client would take an OSError
            # of the source for one of the connection.
            lines.fault = error
            raise ConnectionFailed("the source of the upload failed") from error
        if line is not None:
            yield line
    lines.sent_all = True
