"""Requests and what to do about their answers, without any I/O.

An exchange is a generator: it yields a `Request` and gets its `Response` (or has `ConnectionFailed` thrown in), yields
a `Wait` and gets nothing, and returns the result. The blocking and the asynchronous client drive the same exchanges.
"""

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from typing import Any, TypeVar
from urllib.parse import urlencode

import msgspec

from hookbrook.client.errors import ApiError, ConnectionFailed
from hookbrook.client.events import NewEvent, Published, with_id
from hookbrook.client.settings import Jitter, Settings, pause_s
from hookbrook.errors import FieldError

#: Answers after which the same request may succeed: too slow, too many, and a server that starts, stops or is full.
RETRIED_STATUSES = frozenset({408, 429, 502, 503, 504, 507})

#: A server that asks for a longer pause than a caller would sit through is told to the caller instead.
MAX_RETRY_AFTER_S = 60.0

#: Of an answer that is not ours, this much is shown.
_EXCERPT_CHARACTERS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    method: str
    #: With the query, from the first slash.
    target: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    status: int
    #: Names in lower case.
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    seconds: float


T = TypeVar("T")
Exchange = Generator[Request | Wait, Response, T]


def call(settings: Settings, request: Request, jitter: Jitter) -> Exchange[Response]:
    """One request until it is answered with success. Raises ApiError or ConnectionFailed when patience ends.

    It may be done more than once, when no answer came: events carry their ids, and every other POST a key.
    """
    failures = 0
    unanswered = False
    while True:
        least_s = 0.0
        try:
            response = yield request
        except ConnectionFailed as error:
            failure: Exception = error
            unanswered = True
        else:
            if 200 <= response.status < 300:
                return response
            if request.method == "DELETE" and response.status == 404 and unanswered:
                # The try before, whose answer was lost, did it.
                return Response(status=204, headers={})
            failure = api_error(response)
            least_s = retry_after_s(response)
        failures += 1
        if failures > settings.retries or is_final(failure, least_s):
            raise failure
        yield Wait(seconds=max(least_s, pause_s(settings.backoff_s, failures, jitter)))


def is_final(failure: Exception, retry_after_s: float) -> bool:
    """Whether trying again is hopeless, or further off than a caller would wait."""
    refused = isinstance(failure, ApiError) and failure.status not in RETRIED_STATUSES
    return refused or retry_after_s > MAX_RETRY_AFTER_S


def publish(settings: Settings, event: NewEvent, new_id: str, jitter: Jitter) -> Exchange[Published]:
    """One event. It carries its id in every try, so that the server knows a repeat."""
    body = msgspec.json.encode(with_id(event, new_id))
    response = yield from call(settings, _post_events(settings, body), jitter)
    return decode(response, Published)


def publish_many(
    settings: Settings, events: Iterable[tuple[NewEvent | Mapping[str, Any], str]], jitter: Jitter
) -> Exchange[list[Published]]:
    """Pairs of an event and an id for it, all or nothing."""
    documents = [with_id(event, new_id) for event, new_id in events]
    if not documents:
        return []
    response = yield from call(settings, _post_events(settings, msgspec.json.encode(documents)), jitter)
    return decode(response, list[Published])


def api(
    settings: Settings,
    method: str,
    path: str,
    *,
    json: Any,
    params: Mapping[str, Any] | None,
    idempotency_key: str,
    jitter: Jitter,
) -> Exchange[Any]:
    """Any request of the management API; its decoded answer, or None if there is no content."""
    headers = base_headers(settings)
    body = b""
    if json is not None:
        headers["Content-Type"] = "application/json"
        body = msgspec.json.encode(json)
    if method == "POST":
        headers["Idempotency-Key"] = idempotency_key
    request = Request(method=method, target=target(path, params), headers=headers, body=body)
    response = yield from call(settings, request, jitter)
    answer: Any = decode(response, object) if response.body else None
    return answer


def download(settings: Settings, path: str, jitter: Jitter) -> Exchange[bytes]:
    """The bytes at a path of the API."""
    request = Request(method="GET", target=path, headers={**base_headers(settings), "Accept": "*/*"})
    return (yield from call(settings, request, jitter)).body


def target(path: str, params: Mapping[str, Any] | None) -> str:
    """Path and query: a list becomes a repeated parameter, None is left out, True is `true`."""
    if not path.startswith("/"):
        raise ValueError(f"a path starts with a slash, not {path!r}")
    pairs = [
        (name, str(value).lower() if isinstance(value, bool) else value)
        for name, given in (params or {}).items()
        for value in (given if isinstance(given, list | tuple) else [given])
        if value is not None
    ]
    return f"{path}?{urlencode(pairs)}" if pairs else path


def base_headers(settings: Settings, token: str | None = None) -> dict[str, str]:
    """What every request carries; the credential is the token, or else the key."""
    headers = {"Accept": "application/json", "User-Agent": _user_agent()}
    if (credential := token or settings.key) is not None:
        headers["Authorization"] = f"Bearer {credential}"
    return headers


@cache
def _user_agent() -> str:
    return f"hookbrook-python/{version('hookbrook')}"


def _post_events(settings: Settings, body: bytes) -> Request:
    headers = {**base_headers(settings), "Content-Type": "application/json"}
    return Request(method="POST", target="/v1/events", headers=headers, body=body)


def retry_after_s(response: Response) -> float:
    """Seconds, or 0 if the server did not say (RFC 9110 section 10.2.3; the form with a date needs a clock that
    agrees with the server's, and is left to our own pauses)."""
    value = response.headers.get("retry-after", "")
    return float(value) if value.isascii() and value.isdigit() else 0.0


def api_error(response: Response) -> ApiError:
    """The refusal that a response stands for."""
    problem = _problem(response)
    if problem is None:
        excerpt = response.body.decode(errors="replace").strip()[:_EXCERPT_CHARACTERS]
        return ApiError(response.status, "Not an answer of Hookbrook", excerpt)
    errors = problem.get("errors")
    return ApiError(
        response.status,
        str(problem.get("title", "Refused")),
        str(problem.get("detail", "")),
        tuple(
            FieldError(str(error.get("field", "")), str(error.get("message", "")))
            for error in (errors if isinstance(errors, list) else [])
            if isinstance(error, dict)
        ),
        problem,
    )


def _problem(response: Response) -> dict[str, Any] | None:
    try:
        problem = msgspec.json.decode(response.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return problem if isinstance(problem, dict) else None


def decode(response: Response, shape: type[T]) -> T:
    """The answer as this type. Raises ApiError if it is something else, as from a proxy on the way."""
    try:
        return msgspec.json.decode(response.body, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        excerpt = response.body.decode(errors="replace")[:_EXCERPT_CHARACTERS]
        raise ApiError(response.status, "Not an answer of Hookbrook", excerpt) from error
