"""A real `hookbrook serve`, and somebody who publishes to it all the time and must never notice anything."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

import pytest
from tests.served import PATIENCE_S, Served


class Bystander:
    """Publishes one event after the other on one connection, and notes whatever is not a 201."""

    def __init__(self, port: int) -> None:
        self.accepted: list[str] = []
        self.troubles: list[str] = []
        self.slowest_s = 0.0
        self._port = port
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join(PATIENCE_S)

    def _run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE_S)
        while not self._stopped.wait(0.01):
            started = time.monotonic()
            try:
                connection.request("POST", "/v1/channels/bystander", body=b"%d" % len(self.accepted))
                answer = connection.getresponse()
                document = json.loads(answer.read())
            except (OSError, http.client.HTTPException, ValueError) as exc:
                self.troubles.append(repr(exc))
                connection.close()
                continue
            self.slowest_s = max(self.slowest_s, time.monotonic() - started)
            if answer.status == 201:
                self.accepted.append(document["id"])
            else:
                self.troubles.append(f"{answer.status} {document}")
        connection.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def read_answer(client: socket.socket) -> Answer | None:
    """The response, or None if the server closed without one."""
    response = http.client.HTTPResponse(client)
    try:
        response.begin()
        body = response.read()
    except (http.client.BadStatusLine, ConnectionError):
        return None
    finally:
        response.close()
    return Answer(
        status=response.status, headers={name.lower(): value for name, value in response.getheaders()}, body=body
    )


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("serve"), "--dev") as process:
        yield process


@pytest.fixture(scope="module")
def bystander(served: Served) -> Iterator[Bystander]:
    with Bystander(served.port) as somebody:
        yield somebody


@pytest.fixture
def connect(served: Served) -> Iterator[Callable[[], socket.socket]]:
    clients: list[socket.socket] = []

    def connect() -> socket.socket:
        client = socket.create_connection(("127.0.0.1", served.port), timeout=PATIENCE_S)
        clients.append(client)
        return client

    yield connect
    for client in clients:
        client.close()


@pytest.fixture
def ask(connect: Callable[[], socket.socket]) -> Callable[[bytes], Answer | None]:
    """Send bytes on a connection of their own and read the answer, whatever becomes of the sending."""

    def ask(request: bytes) -> Answer | None:
        client = connect()
        # It may be refused before it is all sent; the answer then stands in our buffer.
        with suppress(ConnectionError):
            client.sendall(request)
        return read_answer(client)

    return ask


@pytest.fixture(scope="session")
def logged_errors() -> Callable[[str], list[str]]:
    def find(log: str) -> list[str]:
        return [line for line in log.splitlines() if " ERROR " in line or "Traceback" in line]

    return find
