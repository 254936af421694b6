"""Requests on aiohttp."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp

from hookbrook.client import subscription
from hookbrook.client.errors import ConnectionFailed
from hookbrook.client.exchange import Request, Response
from hookbrook.client.settings import Settings


class Wire:
    """One server's connections; everything that means "no answer" becomes ConnectionFailed."""

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


def _response(response: aiohttp.ClientResponse, body: bytes) -> Response:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Response(status=response.status, headers=headers, body=body)
