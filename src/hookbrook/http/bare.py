"""uvicorn's httptools protocol without what ours has no use for.

Its own constructor asks for loggers, timeouts and the library for WebSockets, and its start asks the kernel for both
ends of the connection through two Python sockets: a third of what it costs to take a connection in. After a restart
thousands come at once.
"""

import asyncio
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from hookbrook.http.head import address_of
from hookbrook.http.pace import Flow
from hookbrook.http.state import State


class Bare(HttpToolsProtocol):
    """A connection's parser and what it parses into; the parser's callbacks for URL and headers are uvicorn's."""

    flow: Flow
    server_state: State

    def __init__(  # it sets what uvicorn's would, as far as anything here reads it
        self,
        config: Config,
        server_state: State,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.app = config.loaded_app
        self.app_state = app_state
        self.loop = _loop or asyncio.get_running_loop()
        self.server_state = server_state
        self.connections = server_state.connections
        self.tasks = server_state.tasks
        self.parser = new_parser(self)
        self.cycle = None  # type: ignore[assignment]
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.connections.add(self)
        self.transport = transport
        self.flow = Flow(transport, self.loop.time)
        self.server = address_of(transport.get_extra_info("sockname"))
        self.client = address_of(transport.get_extra_info("peername"))
        self.scheme = "https" if transport.get_extra_info("sslcontext") else "http"

    def let_go(self) -> None:
        """Drop what points back here in circles and would stay until the collector looks: kilobytes for each stream."""
        self.cycle = self.parser = None  # type: ignore[assignment]


def new_parser(protocol: HttpToolsProtocol) -> httptools.HttpRequestParser:
    parser = httptools.HttpRequestParser(protocol)
    # Pipelined requests behind a `Connection: close` are parsed, and then not answered.
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser
