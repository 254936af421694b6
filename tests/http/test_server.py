"""Start, end and signals of the server, on real sockets and in real processes."""

import asyncio
import errno
import logging
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import pytest
import uvloop

from hookbrook.errors import ConfigError
from hookbrook.http.limits import Limits
from hookbrook.http.problems import App, Receive, Scope, Send
from hookbrook.http.server import Server, Signals, bind_error, run

if TYPE_CHECKING:
    from tests.http.conftest import Net

Eventually = Callable[[Callable[[], bool]], Awaitable[None]]

GET = b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Held:
    """An application that answers when it is told to."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        self.go_on = asyncio.Event()
        self.cancelled = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.arrived.set()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"done"})


# ---- start


async def test_port_0_takes_a_free_port_and_tells_it(net: "Net", echo: App) -> None:
    server = await net.serve(echo)
    assert server.port > 0
    assert (await net.ask(server, GET)).status == 200


async def test_a_name_with_several_addresses_is_served_on_all_of_them_at_one_port(net: "Net", echo: App) -> None:
    server = Server(echo, host="localhost", port=0)
    await server.start()
    net.servers.append(server)
    for address in {str(found[4][0]) for found in socket.getaddrinfo("localhost", None, type=socket.SOCK_STREAM)}:
        _, writer = await asyncio.open_connection(address, server.port)
        writer.close()
        await writer.wait_closed()


async def test_a_port_in_use_is_named_with_what_to_do(net: "Net", echo: App) -> None:
    server = await net.serve(echo)
    with pytest.raises(
        ConfigError, match=rf"^port: {server.port} on 127.0.0.1 is in use. End the other program"
    ) as info:
        await Server(echo, host="127.0.0.1", port=server.port).start()
    assert info.value.key == "port"


async def test_a_port_can_be_used_again_at_once(net: "Net", echo: App) -> None:
    first = await net.serve(echo)
    client = await net.connect(first)
    await client.send(GET)
    await client.response()
    await first.finish(5)
    second = Server(echo, host="127.0.0.1", port=first.port)
    await second.start()
    net.servers.append(second)
    assert (await net.ask(second, GET)).status == 200


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "a" * 70 + ".invalid", "1.2.3.4.5"])
async def test_a_host_that_is_not_ours_is_named(echo: App, host: str) -> None:
    with pytest.raises(ConfigError) as info:
        await Server(echo, host=host, port=0).start()
    assert info.value.key == "host"


@pytest.mark.parametrize("port", [-1, 70000])
async def test_a_port_that_is_none_is_named(echo: App, port: int) -> None:
    with pytest.raises(ConfigError, match="is no port"):
        await Server(echo, host="127.0.0.1", port=port).start()


def test_a_port_that_is_not_permitted_says_which_are() -> None:
    error = bind_error(PermissionError(errno.EACCES, "Permission denied"), "127.0.0.1", 80)
    assert str(error) == "port: 80 may not be used by this user. Choose one from 1024 on."


async def test_starting_leaves_the_logging_of_the_host_alone(net: "Net", echo: App) -> None:
    before = [
        (name, list(logging.getLogger(name).handlers), logging.getLogger(name).propagate) for name in UVICORN_LOGS
    ]
    await net.serve(echo)
    assert before == [
        (name, list(logging.getLogger(name).handlers), logging.getLogger(name).propagate) for name in UVICORN_LOGS
    ]


UVICORN_LOGS = ("uvicorn", "uvicorn.error", "uvicorn.access")


# ---- end


async def test_a_request_in_flight_is_answered_before_the_end(net: "Net") -> None:
    app = Held()
    server = await net.serve(app)
    idle, busy = await net.connect(server), await net.connect(server)
    await busy.send(GET)
    await app.arrived.wait()

    server.stop_accepting()
    assert await idle.until_closed() == b""
    with pytest.raises(ConnectionRefusedError):
        await net.connect(server)

    finishing = asyncio.create_task(server.finish(10))
    await asyncio.sleep(0.05)
    assert not finishing.done()
    app.go_on.set()
    response = await busy.response()
    assert (response.body, response.header("connection")) == (b"done", "close")
    async with asyncio.timeout(5):
        await finishing
    assert server.connections == 0


async def test_a_kept_alive_connection_without_a_request_is_closed_at_the_end(net: "Net", echo: App) -> None:
    server = await net.serve(echo)
    client = await net.connect(server)
    await client.send(GET)
    assert (await client.response()).header("connection") is None
    server.stop_accepting()
    assert await client.until_closed() == b""
    async with asyncio.timeout(5):
        await server.finish(60)


async def test_a_request_whose_head_is_under_way_at_the_end_is_answered_and_the_last(
    net: "Net", echo: App, eventually: Eventually
) -> None:
    server = await net.serve(echo)
    client = await net.connect(server)
    await client.send(GET[:-2] + b"X: y")
    state = server._state
    assert state is not None
    await eventually(lambda: any(getattr(each, "url", b"") for each in state.connections))
    server.stop_accepting()
    await client.send(b"\r\n\r\n")
    response = await client.response()
    assert (response.status, response.header("connection")) == (200, "close")
    assert await client.until_closed() == b""


async def test_pipelined_requests_that_have_arrived_are_all_answered_at_the_end(net: "Net") -> None:
    app = Held()
    server = await net.serve(app)
    client = await net.connect(server)
    await client.send(GET * 3)
    await app.arrived.wait()
    server.stop_accepting()
    app.go_on.set()
    connection = [(await client.response()).header("connection") for _ in range(3)]
    assert connection == [None, None, "close"]
    assert await client.until_closed() == b""


async def test_what_does_not_end_in_time_is_cancelled_and_told_so(net: "Net") -> None:
    app = Held()
    server = await net.serve(app)
    client = await net.connect(server)
    await client.send(GET)
    await app.arrived.wait()
    await server.finish(0.05)
    response = await client.response()
    assert response.status == 503
    assert response.json()["type"] == "urn:hookbrook:problem:shutting-down"
    assert app.cancelled
    assert server.connections == 0


async def test_a_connection_that_will_not_close_is_cut(net: "Net", echo: App) -> None:
    server = await net.serve(echo, limits=Limits(head_s=60))
    client = await net.connect(server)
    await client.send(b"GET /never-ends")
    await asyncio.sleep(0.05)
    async with asyncio.timeout(5):
        await server.finish(0.05)
    assert await client.until_closed() == b""


async def test_a_request_whose_client_left_is_still_done_to_its_end(net: "Net", eventually: Eventually) -> None:
    app = Held()
    server = await net.serve(app)
    client = await net.connect(server)
    await client.send(GET)
    await app.arrived.wait()
    client.reset()
    await eventually(lambda: server.connections == 0)
    finishing = asyncio.create_task(server.finish(10))
    await asyncio.sleep(0.05)
    assert not finishing.done()
    app.go_on.set()
    async with asyncio.timeout(5):
        await finishing
    assert not app.cancelled


async def test_finishing_twice_or_before_the_start_does_nothing(net: "Net", echo: App) -> None:
    server = Server(echo, host="127.0.0.1", port=0)
    server.stop_accepting()
    await server.finish(1)
    started = await net.serve(echo)
    await started.finish(1)
    started.stop_accepting()
    await started.finish(1)


# ---- out of file descriptors

EMFILE = """
    import asyncio, resource, socket
    from hookbrook.http.server import Server, run

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    async def main():
        server = Server(app, host="127.0.0.1", port=0)
        await server.start()
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        print(server.port, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, input)
        usage = resource.getrusage(resource.RUSAGE_SELF)
        print(usage.ru_utime + usage.ru_stime, flush=True)
        await server.finish(1)

    run(main())
"""


def spawn(program: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


async def test_running_out_of_file_descriptors_neither_ends_the_server_nor_makes_it_spin() -> None:
    process = spawn(EMFILE)
    try:
        port = int(await asyncio.to_thread(first_line, process))
        crowd = [socket.create_connection(("127.0.0.1", port)) for _ in range(200)]
        await asyncio.sleep(1.0)
        for one in crowd:
            one.close()
        for _ in range(100):
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(GET)
                answer = await reader.read(100)
                writer.close()
                if answer.startswith(b"HTTP/1.1 200"):
                    break
            except ConnectionError:
                pass
            await asyncio.sleep(0.05)
        else:
            pytest.fail("the server did not recover")
        out, err = await asyncio.to_thread(process.communicate, "\n", 10)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, err
    assert float(out) < 1.5


# ---- signals

TWO_SIGNALS = """
    import asyncio
    from hookbrook.http.server import Signals, run

    async def main():
        with Signals() as signals:
            print("ready", flush=True)
            print((await signals.first()).name, flush=True)
            await asyncio.sleep(60)

    run(main())
"""


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_the_first_signal_is_told_and_the_second_ends_the_process_at_once(second: signal.Signals) -> None:
    process = spawn(TWO_SIGNALS)
    try:
        assert await asyncio.to_thread(first_line, process) == "ready"
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(first_line, process) == "SIGTERM"
        process.send_signal(second)
        _, err = await asyncio.to_thread(process.communicate, None, 10)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 128 + second
    assert err == ""


async def test_a_signal_before_anybody_waits_is_not_lost_and_handlers_come_back() -> None:
    before = [signal.getsignal(number) for number in Signals.HANDLED]
    with Signals() as signals:
        assert signals.installed
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.05)
        async with asyncio.timeout(5):
            assert await signals.first() is signal.SIGTERM
            assert await signals.first() is signal.SIGTERM
    assert [signal.getsignal(number) for number in Signals.HANDLED] == before


async def test_waiting_in_vain_loses_no_signal() -> None:
    with Signals() as signals:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await signals.first()
        os.kill(os.getpid(), signal.SIGINT)
        async with asyncio.timeout(5):
            assert await signals.first() is signal.SIGINT


def test_in_another_thread_signals_are_left_alone_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "hookbrook.http")
    before = [signal.getsignal(number) for number in Signals.HANDLED]
    installed: list[bool] = []

    async def enter() -> None:
        with Signals() as signals:
            installed.append(signals.installed)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await signals.first()

    thread = threading.Thread(target=lambda: run(enter()))
    thread.start()
    thread.join(10)
    assert installed == [False]
    assert [signal.getsignal(number) for number in Signals.HANDLED] == before
    assert "left to the host program" in caplog.text


def test_run_uses_uvloop() -> None:
    async def loop() -> bool:
        return isinstance(asyncio.get_running_loop(), uvloop.Loop)

    assert run(loop())
