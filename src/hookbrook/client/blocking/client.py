"""The blocking client, on urllib3."""

import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar

from hookbrook.client import exchange, subscription, upload
from hookbrook.client.blocking.events import Events
from hookbrook.client.blocking.lines import body, pull
from hookbrook.client.blocking.stream import Stream
from hookbrook.client.blocking.wire import Wire
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
        self._wire = Wire(self._settings)

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
        return self._run(exchange.publish(self._settings, event, fresh_id("evt"), jitter))

    def publish_many(self, events: Iterable[NewEvent | Mapping[str, Any]]) -> list[Published]:
        """Publish several events in one transaction: all or nothing, in this order."""
        pairs = [(event, fresh_id("evt")) for event in events]
        return self._run(exchange.publish_many(self._settings, pairs, jitter))

    def publish_stream(
        self,
        channel: str,
        items: Iterable[Any],
        *,
        type: str = "message",
        id_prefix: str | None = None,
        merge: str | None = None,
    ) -> StreamReceipt:
        """Publish the items, such as the tokens of a language model, one event each, as they come.

        It is one request, in which each item is sent as the iterator yields it, with the id `{id_prefix}-1`,
        `{id_prefix}-2` and so on, and all with the same `merge` key if one is given. If the connection breaks, what the
        server has not confirmed is sent again; a break is noticed when the next item is sent. The first item is awaited
        before the request begins.

        Raises ApiError if an event is refused (`error.problem` has `accepted`, `cursor` and `line`, counted in the
        last request), ConnectionFailed if the server stays away, and whatever the iterator raises; the events before
        stand.
        """
        lines = Upload(channel, type, id_prefix or fresh_id("evt"), merge)
        source = iter(items)

        def perform(step: Any) -> Any:
            match step:
                case Pull():
                    pull(lines, source)
                case Send(request=request):
                    return self._wire.send(request, body(lines, source))
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
        merge: bool = False,
        on_reset: Callable[[Reset], object] | None = None,
    ) -> Stream[Event]:
        """Read the events of channels or patterns (`orders.*`), as they come, for ever.

        The stream resumes by itself behind the last event, whatever happens to the connection or the server; the
        iteration ends only when the channel is closed. Without a start it begins at now.

        Args:
            types: only these types or patterns.
            after: start behind this cursor, such as the `cursor` of the last event that you dealt with.
            since: start at this age (`2h`) or time.
            last: start at the last so many events.
            token: a stream token, instead of the client's key.
            merge: while catching up, neighbouring pieces of one text (published with the same `merge`) as one event.
            on_reset: called when events may be missing. Without it, the iteration raises the Reset; iterating the
                same stream again goes on behind the gap.

        Raises ApiError while iterating if the server refuses (401, 403, 404, 422).
        """
        selection = subscription.select(channels, types, after, since, last, token, merge)
        return Stream(self._wire, Subscription(self._settings, selection, jitter), on_reset)

    def events(
        self,
        *channels: str,
        save: Place | str | os.PathLike[str],
        types: Iterable[str] | str = (),
        since: str | None = None,
        on_reset: Callable[[Reset], object] | None = None,
    ) -> Events:
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
        return Events(Stream(self._wire, steps, on_reset, lambda cursor, _live: place.save(cursor)), place)

    def webhooks(
        self,
        source: str,
        *,
        types: Iterable[str] | str = (),
        after: str | None = None,
        since: str | None = None,
        last: int | None = None,
        unverified: bool = False,
        on_reset: Callable[[Reset], object] | None = None,
        on_place: Callable[[str, bool], object] | None = None,
    ) -> Stream[Webhook]:
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
        return Stream(self._wire, Subscription(self._settings, selection, jitter), on_reset, on_place)

    def download(self, path: str) -> bytes:
        """The bytes at a path of the API, such as the raw body of a webhook."""
        return self._run(exchange.download(self._settings, path, jitter))

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
