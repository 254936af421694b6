"""The listening server, its end, and the signals that bring it about.

uvicorn gives the configuration, the connections' common state and the protocol. Its own `Server` is not used: it
takes the signals for itself, ends the process with the signal when it is done, skips whatever follows `serve()`, and
its main loop wakes up ten times a second. Here the order of the end belongs to the caller: `stop_accepting`, whatever
has to be drained, `finish`.
"""

import asyncio
import contextlib
import errno
import functools
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Coroutine
from email.utils import formatdate
from typing import Any, Final, Self, TypeVar

import uvloop
from uvicorn.config import Config

from hookbrook.errors import ConfigError
from hookbrook.http.exchange import Shortcut
from hookbrook.http.limits import DEFAULT_LIMITS, Limits
from hookbrook.http.newcomer import Lobby, Newcomer
from hookbrook.http.problems import App
from hookbrook.http.protocol import Protocol
from hookbrook.http.state import State

log = logging.getLogger("hookbrook.http")

#: Connections that the kernel completes while we are busy. A burst of reconnecting browsers after a restart is larger
#: than the usual 128; the kernel caps this at `net.core.somaxconn`.
BACKLOG: Final = 4096
#: What the kernel may take of an answer before it can send it: it would otherwise swallow megabytes for a client that
#: reads nothing.
UNSENT_BYTES: Final = 16 * 1024
#: What cancelled requests get to say so and to flush it.
CANCEL_S: Final = 1.0

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` on a uvloop of its own, as `asyncio.run` does."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


class Server:
    """Serves one ASGI application on one address, in the running loop; `app` gets no lifespan events."""

    def __init__(
        self, app: App, *, host: str, port: int, limits: Limits = DEFAULT_LIMITS, shortcut: Shortcut | None = None
    ) -> None:
        self._app = app
        self._shortcut = shortcut
        self._host = host
        self._port = port
        self._limits = limits
        self._state: State | None = None
        self._sockets: list[socket.socket] = []
        self._listeners: list[asyncio.Server] = []
        self._clock: asyncio.TimerHandle | None = None

    @property
    def port(self) -> int:
        """The port that is listened on; the real one, if 0 was asked for."""
        return self._port

    @property
    def connections(self) -> int:
        """Connections that are open now."""
        return len(self._state.connections) if self._state else 0

    async def bind(self) -> None:
        """Take the address; connections wait in the kernel until `start`.

        Raises `ConfigError`, of `port` or `host`, with a sentence that says what to do.
        """
        self._sockets = await self._bind()

    def unbind(self) -> None:
        """Give the address back, when there is nothing to start after all."""
        for bound in self._sockets:
            bound.close()
        self._sockets = []

    async def start(self) -> None:
        """Serve; binds first if that was not done. Raises what `bind` raises."""
        if not self._sockets:
            await self.bind()
        sockets, self._sockets = self._sockets, []
        self._state = State()
        self._tick()
        loop = asyncio.get_running_loop()
        factory = self._factory(self._state, loop)
        for listening in sockets:
            self._listeners.append(await loop.create_server(factory, sock=listening, backlog=BACKLOG))

    def stop_accepting(self) -> None:
        """Close the listening sockets and all idle connections; each further response closes its connection."""
        if self._state is None or self._state.stopping:
            return
        self._state.stopping = True
        for listener in self._listeners:
            listener.close()
        for connection in list(self._state.connections):
            connection.shutdown()

    async def finish(self, timeout_s: float) -> None:
        """Wait for the requests in flight, `timeout_s` at most; then cancel what remains and close."""
        self.stop_accepting()
        if self._state is None:
            return
        try:
            async with asyncio.timeout(timeout_s):
                await self._emptied(self._state)
        except TimeoutError:
            await self._cut(self._state)
        for listener in self._listeners:
            await listener.wait_closed()
        if self._clock is not None:
            self._clock.cancel()

    async def _emptied(self, state: State) -> None:
        # A request outlives its connection if its client has left, and what it does must still be done to its end.
        while state.connections or state.tasks:
            if state.tasks:
                await asyncio.wait(state.tasks)
            else:
                state.emptied.clear()
                await state.emptied.wait()

    async def _cut(self, state: State) -> None:
        log.warning("%d requests did not end in time and are cancelled", len(state.tasks))
        for task in state.tasks:
            task.cancel()
        try:
            async with asyncio.timeout(CANCEL_S):
                await self._emptied(state)
        except TimeoutError:
            for connection in list(state.connections):
                if isinstance(connection, Protocol | Newcomer):
                    connection.transport.abort()

    def _factory(self, state: State, loop: asyncio.AbstractEventLoop) -> Callable[[], asyncio.Protocol]:
        """What makes the protocol of a connection."""
        ordinary = functools.partial(
            Protocol, _config(self._app), state, {}, loop, limits=self._limits, shortcut=self._shortcut
        )
        if self._shortcut is None:
            return ordinary
        lobby = Lobby(state, limits=self._limits, shortcut=self._shortcut, ordinary=ordinary, loop=loop)
        return functools.partial(Newcomer, lobby)

    def _tick(self) -> None:
        """Write the second into the head of all responses (RFC 9110 section 6.6.1: a server with a clock must)."""
        if self._state is not None:
            self._state.preamble = f"date: {formatdate(usegmt=True)}\r\n".encode()
            self._clock = asyncio.get_running_loop().call_later(1.0, self._tick)

    async def _bind(self) -> list[socket.socket]:
        addresses = await self._resolve()
        sockets: list[socket.socket] = []
        try:
            for family, address in addresses:
                sockets.append(self._bind_one(family, address))
                # All addresses of one name get the same port, also where the first was given a free one.
                self._port = sockets[0].getsockname()[1]
        except BaseException:
            for bound in sockets:
                bound.close()
            raise
        return sockets

    async def _resolve(self) -> list[tuple[int, str]]:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(self._host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except (OSError, UnicodeError) as exc:
            raise ConfigError("host", f"{self._host!r} is no address or name of this machine.") from exc
        return list(dict.fromkeys((int(family), str(address[0])) for family, _, _, _, address in found))

    def _bind_one(self, family: int, address: str) -> socket.socket:
        bound = socket.socket(family, socket.SOCK_STREAM)
        try:
            # A restart must not wait for the old connections' TIME_WAIT. SO_REUSEPORT stays off: two servers on one
            # port would each get a part of the requests, and nobody would notice.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            _bound_unsent(bound)
            bound.bind((address, self._port))
            # Listening already here, since a port that is bound by another but not listened on passes `bind`.
            bound.listen(BACKLOG)
            bound.setblocking(False)
        except (OSError, OverflowError) as exc:
            bound.close()
            raise bind_error(exc, self._host, self._port) from exc
        return bound


def _bound_unsent(listening: socket.socket) -> None:
    """For all connections that will come: they inherit the option, and asking for it on each costs 3 µs."""
    # Not every system knows it.
    with contextlib.suppress(OSError, AttributeError):
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)


def bind_error(error: OSError | OverflowError, host: str, port: int) -> ConfigError:
    """What to do about an address that cannot be listened on."""
    code = error.errno if isinstance(error, OSError) else None
    if code == errno.EADDRINUSE:
        return ConfigError(
            "port", f"{port} on {host} is in use. End the other program, or choose another port (0 takes a free one)."
        )
    if code in (errno.EACCES, errno.EPERM):
        return ConfigError("port", f"{port} may not be used by this user. Choose one from 1024 on.")
    if isinstance(error, OverflowError):
        return ConfigError("port", f"{port} is no port. Choose one from 0 (a free one) to 65535.")
    if code == errno.EADDRNOTAVAIL:
        return ConfigError("host", f"{host} is no address of this machine. Use 127.0.0.1, or 0.0.0.0 for all.")
    return ConfigError("host", f"{host} cannot be listened on: {error.strerror}.")


def _config(app: App) -> Config:
    """uvicorn's configuration, with nothing taken from the environment and the host's logging left alone."""
    config = Config(
        app,
        http=Protocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        proxy_headers=False,
        forwarded_allow_ips="",
        server_header=False,
        workers=1,
    )
    config.load()
    return config


class Signals:
    """While entered, SIGTERM and SIGINT do not end the process: the first is handed to `first`, the second ends it.

    Signals reach only a process's main thread. Elsewhere this does nothing, says so in the log, and `installed` is
    False; the host program then decides when to stop.
    """

    HANDLED: Final = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self.installed = False
        self._first: asyncio.Future[signal.Signals] | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._first = loop.create_future()
        if threading.current_thread() is not threading.main_thread():
            log.info("signals are left to the host program: this is not its main thread")
            return self
        for number in self.HANDLED:
            self._before[number] = signal.getsignal(number)
            loop.add_signal_handler(number, self._received, number)
        self.installed = True
        return self

    def __exit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        for number, handler in self._before.items():
            loop.remove_signal_handler(number)
            if handler is not None:  # None: set by C code, which Python cannot name
                signal.signal(number, handler)
        self._before.clear()
        self.installed = False

    async def first(self) -> signal.Signals:
        """Wait for the first signal; cancelled waiting loses none."""
        if self._first is None:
            raise RuntimeError("Signals is not entered")
        return await asyncio.shield(self._first)

    def _received(self, number: signal.Signals) -> None:
        if self._first is not None and not self._first.done():
            self._first.set_result(number)
        else:
            # The user has asked twice. Nothing that could block or raise may stand between that and the end.
            os._exit(128 + number)
