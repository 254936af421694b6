"""What the connections of one server share."""

import asyncio
from typing import Any

from uvicorn.server import ServerState


class State(ServerState):
    """What the connections of one server share."""

    def __init__(self) -> None:
        super().__init__()
        #: Each is an `asyncio.Protocol` that has a `transport` and can `shutdown`.
        self.connections: set[Any] = set()
        #: Set once the server no longer accepts: every response from then on closes its connection.
        self.stopping = False
        #: Set whenever the last connection has gone.
        self.emptied = asyncio.Event()
        #: Header lines that every response begins with.
        self.preamble = b""

    def leave(self, connection: Any) -> None:
        """It is no longer one of the server's; anything else is ignored."""
        self.connections.discard(connection)
        if not self.connections:
            self.emptied.set()
