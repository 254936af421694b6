"""A program on the developer's machine: keeps each request as it came off the socket, and answers as it is told."""

import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from tests.served import PATIENCE_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One request, byte for byte."""

    line: str
    #: Names as they were written.
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


def ok(_seen: Seen) -> int | None:
    return 200


@dataclass
class Receiver:
    """`answers` gives the status; None hangs up without one."""

    answers: Callable[[Seen], int | None] = ok
    port: int = 0
    seen: list[Seen] = field(default_factory=list)
    more: threading.Condition = field(default_factory=threading.Condition)

    def __enter__(self) -> Self:
        self._server = socket.create_server(("127.0.0.1", self.port))
        self.port = self._server.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # Closing alone does not wake an accept.
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(PATIENCE_S)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def wait(self, count: int, patience_s: float = PATIENCE_S) -> list[Seen]:
        """Until so many have come."""
        with self.more:
            assert self.more.wait_for(lambda: len(self.seen) >= count, patience_s), len(self.seen)
        return self.seen

    def until(self, condition: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
        with self.more:
            assert self.more.wait_for(condition, patience_s), len(self.seen)

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(PATIENCE_S)
                self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as file:
            line = file.readline().decode("latin-1").strip()
            headers = []
            while (header := file.readline().strip(b"\r\n")) != b"":
                name, _, value = header.decode("latin-1").partition(": ")
                headers.append((name, value))
            length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
            seen = Seen(line=line, headers=tuple(headers), body=file.read(length))
        if not line:
            return
        status = self.answers(seen)
        with self.more:
            self.seen.append(seen)
            self.more.notify_all()
        if status is not None:
            connection.sendall(b"HTTP/1.1 %d Whatever\r\ncontent-length: 4\r\n\r\nsaid" % status)
