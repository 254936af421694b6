"""Which door a request goes to: the hot ones directly, everything else to the management API."""

from urllib.parse import unquote

from hookbrook.errors import MethodNotAllowed
from hookbrook.http.history import History, accept
from hookbrook.http.ingest import Ingest
from hookbrook.http.problems import App, Receive, Scope, Send
from hookbrook.http.publish import Publish
from hookbrook.http.requests import Requests
from hookbrook.http.stream import Stream

CHANNELS = "/v1/channels/"
EVENTS = "/v1/events"
STREAM = "/v1/stream"
INGEST = "/in/"
SOURCES = "/v1/sources/"
REQUESTS = "/requests"

_READ = ("GET", "HEAD")


class Doors:
    """Compares prefixes instead of walking a list of routes: a framework's router costs more than the whole publish."""

    def __init__(
        self, *, publish: Publish, history: History, stream: Stream, ingest: Ingest, requests: Requests, api: App
    ) -> None:
        self._publish = publish
        self._history = history
        self._stream = stream
        self._ingest = ingest
        self._requests = requests
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Below a host program's own path, ASGI's `path` begins with that.
        path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        if path.startswith(CHANNELS) and len(path) > len(CHANNELS):
            await self._channel(scope, receive, send, path[len(CHANNELS) :])
        elif path == EVENTS:
            await self._events(scope, receive, send)
        elif path == STREAM:
            _check_method(scope, *_READ)
            await self._stream(scope, receive, send)
        elif path.startswith(INGEST):
            await self._ingest(scope, receive, send)
        elif path.startswith(EVENTS + "/") and (event_id := _last_segment(scope, EVENTS + "/")):
            _check_method(scope, *_READ)
            await self._history.event(scope, send, event_id)
        elif path.startswith(SOURCES) and REQUESTS in path:
            await self._received(scope, receive, send, path)
        else:
            await self._api(scope, receive, send)

    async def _received(self, scope: Scope, receive: Receive, send: Send, path: str) -> None:
        """`/v1/sources/{source}/requests`, and below it `/{event_id}` and `/{event_id}/body`."""
        match path.removeprefix(SOURCES).split("/"):
            case [source, "requests"]:
                _check_method(scope, *_READ)
                await self._requests.stream(scope, receive, send, source)
            case [source, "requests", event_id]:
                _check_method(scope, *_READ)
                await self._requests.one(scope, send, source, event_id)
            case [source, "requests", event_id, "body"]:
                _check_method(scope, *_READ)
                await self._requests.body(scope, send, source, event_id)
            case _:
                await self._api(scope, receive, send)

    async def _channel(self, scope: Scope, receive: Receive, send: Send, channel: str) -> None:
        _check_method(scope, *_READ, "POST")
        if scope["method"] == "POST":
            await self._publish.channel(scope, receive, send, channel)
        elif "text/event-stream" in accept(scope):
            await self._stream(scope, receive, send, channel)
        else:
            await self._history.page(scope, send, channel)

    async def _events(self, scope: Scope, receive: Receive, send: Send) -> None:
        _check_method(scope, *_READ, "POST")
        if scope["method"] == "POST":
            await self._publish.events(scope, receive, send)
        else:
            await self._history.page(scope, send)


def _last_segment(scope: Scope, prefix: str) -> str:
    """What follows the prefix if it is one segment, decoded; "" otherwise. An id may hold an escaped slash."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    _, found, segment = raw.decode("latin-1").partition(prefix)
    return unquote(segment) if found and "/" not in segment else ""


def _check_method(scope: Scope, *allowed: str) -> None:
    if scope["method"] not in allowed:
        raise MethodNotAllowed(
            f"{scope['method']} is not possible here; {', '.join(allowed)} are.", headers={"Allow": ", ".join(allowed)}
        )
