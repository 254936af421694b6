"""Which door a request goes to: the hot ones directly, everything else to the management API."""

from collections.abc import Awaitable
from urllib.parse import unquote

from hookbrook.errors import MethodNotAllowed
from hookbrook.http.channels import Channels
from hookbrook.http.history import History, accept
from hookbrook.http.ingest import Ingest
from hookbrook.http.problems import App, Receive, Scope, Send
from hookbrook.http.publish import CHANNELS, EVENTS, Publish
from hookbrook.http.requests import Requests
from hookbrook.http.stream import Stream

STREAM = "/v1/stream"
INGEST = "/in/"
SOURCES = "/v1/sources/"
REQUESTS = "/requests"

_READ = ("GET", "HEAD")


class Doors:
    """Compares prefixes instead of walking a list of routes: a framework's router costs more than the whole publish."""

    def __init__(
        self,
        *,
        publish: Publish,
        channels: Channels,
        history: History,
        stream: Stream,
        ingest: Ingest,
        requests: Requests,
        api: App,
    ) -> None:
        self._publish = publish
        self._channels = channels
        self._history = history
        self._stream = stream
        self._ingest = ingest
        self._requests = requests
        self._api = api

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """What the door returns: a coroutine of our own around it would only hand on what it hands on."""
        # Below a host program's own path, ASGI's `path` begins with that.
        path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        if path.startswith(CHANNELS) and len(path) > len(CHANNELS):
            return self._channel(scope, receive, send, path[len(CHANNELS) :])
        if path == EVENTS:
            return self._events(scope, receive, send)
        if path == STREAM:
            if scope["method"] == "OPTIONS":
                return _options(send, *_READ)
            _check_method(scope, *_READ)
            return self._stream(scope, receive, send)
        if path.startswith(INGEST):
            return self._ingest(scope, receive, send)
        if path.startswith(EVENTS + "/") and (event_id := _last_segment(scope, EVENTS + "/")):
            _check_method(scope, *_READ)
            return self._history.event(scope, send, event_id)
        if path.startswith(SOURCES) and REQUESTS in path:
            return self._received(scope, receive, send, path)
        return self._api(scope, receive, send)

    def _received(self, scope: Scope, receive: Receive, send: Send, path: str) -> Awaitable[None]:
        """`/v1/sources/{source}/requests`, and below it `/{event_id}` and `/{event_id}/body`."""
        match path.removeprefix(SOURCES).split("/"):
            case [source, "requests"]:
                _check_method(scope, *_READ)
                return self._requests.stream(scope, receive, send, source)
            case [source, "requests", event_id]:
                _check_method(scope, *_READ)
                return self._requests.one(scope, send, source, event_id)
            case [source, "requests", event_id, "body"]:
                _check_method(scope, *_READ)
                return self._requests.body(scope, send, source, event_id)
            case _:
                return self._api(scope, receive, send)

    def _channel(self, scope: Scope, receive: Receive, send: Send, channel: str) -> Awaitable[None]:
        if scope["method"] == "POST":
            return self._publish.channel(scope, receive, send, channel)
        if scope["method"] == "OPTIONS":
            return _options(send, *_READ, "POST", "DELETE")
        _check_method(scope, *_READ, "POST", "DELETE")
        if scope["method"] == "DELETE":
            return self._channels.delete(scope, send, channel)
        if "text/event-stream" in accept(scope):
            return self._stream(scope, receive, send, channel)
        return self._history.page(scope, send, channel)

    def _events(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["method"] == "POST":
            return self._publish.events(scope, receive, send)
        if scope["method"] == "OPTIONS":
            return _options(send, *_READ, "POST")
        _check_method(scope, *_READ, "POST")
        return self._history.page(scope, send)


def _last_segment(scope: Scope, prefix: str) -> str:
    """What follows the prefix if it is one segment, decoded; "" otherwise. An id may hold an escaped slash."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    _, found, segment = raw.decode("latin-1").partition(prefix)
    return unquote(segment) if found and "/" not in segment else ""


async def _options(send: Send, *allowed: str) -> None:
    """RFC 9110 section 9.3.7: what is possible here. A browser's preflight was answered before (`guard`)."""
    allow = ", ".join((*allowed, "OPTIONS")).encode()
    await send({"type": "http.response.start", "status": 204, "headers": [(b"allow", allow)]})
    await send({"type": "http.response.body", "body": b""})


def _check_method(scope: Scope, *allowed: str) -> None:
    if scope["method"] not in allowed:
        raise MethodNotAllowed(
            f"{scope['method']} is not possible here; {', '.join(allowed)} are.", headers={"Allow": ", ".join(allowed)}
        )
