"""Problems on the wire (RFC 9457), and the boundary where errors become them."""

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect

from hookbrook.errors import HookbrookError, Problem, Refused

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

log = logging.getLogger("hookbrook.http")


class RequestTimeout(Refused):
    status = 408
    slug = "request-timeout"
    title = "Request timeout"


class UrlTooLong(Refused):
    status = 414
    slug = "url-too-long"
    title = "URL too long"


class HeadersTooLarge(Refused):
    status = 431
    slug = "headers-too-large"
    title = "Header fields too large"


class NotImplementedHere(Problem):
    status = 501
    slug = "not-implemented"
    title = "Not implemented"


class ShuttingDown(Problem):
    status = 503
    slug = "shutting-down"
    title = "Shutting down"


class VersionNotSupported(Problem):
    status = 505
    slug = "http-version-not-supported"
    title = "HTTP version not supported"


class ClientGone(HookbrookError):
    """The client went away in the middle of its request: there is nobody left to tell."""


def problem_response(problem: Problem) -> tuple[int, Headers, bytes]:
    """Status, headers (names in lower case) and body of a problem's response."""
    body = msgspec.json.encode(problem.as_json())
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    headers += [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in problem.headers.items()]
    return problem.status, headers, body


async def send_problem(send: Send, problem: Problem, *, head: bool = False) -> None:
    """Answer with `problem`; the body stays away for a HEAD request (RFC 9110 section 9.3.2)."""
    status, headers, body = problem_response(problem)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else body, "more_body": False})


class Problems:
    """The boundary around the doors: what they raise becomes a response, as long as none has begun.

    A `Problem` is answered as it stands. Anything else unexpected is logged with its traceback and answered as a bare
    500, since an error's text may hold a secret. Once a response has begun, the error is passed on to the server,
    which cuts the connection: an error in the middle must not look like an end.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def noting_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, noting_send)
        except ClientDisconnect:
            return
        except ClientGone:
            if started:
                # So that the server cuts the connection, if that still stands.
                raise
        except Problem as problem:
            if started:
                raise
            if problem.status >= 500:
                log.warning("%s %s: %s: %s", scope["method"], scope["path"], type(problem).__name__, problem)
            await send_problem(send, problem, head=scope["method"] == "HEAD")
        except Exception:  # the boundary of a request: whatever a door did not foresee ends here, not in the server
            if started:
                raise
            log.exception("%s %s failed", scope["method"], scope["path"])
            await send_problem(send, Problem(), head=scope["method"] == "HEAD")
