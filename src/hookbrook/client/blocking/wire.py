"""Requests on urllib3."""

from collections.abc import Iterable

import urllib3

from hookbrook.client import subscription
from hookbrook.client.errors import ConnectionFailed
from hookbrook.client.exchange import Request, Response
from hookbrook.client.settings import Settings

#: Connections that are kept for reuse; more may be open at once, by threads and streams.
_KEPT_CONNECTIONS = 10

#: What one read of a stream may bring.
_READ_BYTES = 64 * 1024


class Wire:
    """One server's connections; everything that means "no answer" becomes ConnectionFailed."""

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
        return ConnectionFailed(f"no answer from {self._settings.url}: {_reason(error)}")


def _reason(error: BaseException) -> str:
    """What happened, without the objects it happened to: urllib3 wraps the system's error several times."""
    while (inner := getattr(error, "reason", None) or error.__cause__) and isinstance(inner, BaseException):
        error = inner
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


def _response(response: urllib3.BaseHTTPResponse, body: bytes) -> Response:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Response(status=response.status, headers=headers, body=body)
