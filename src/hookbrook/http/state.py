"""What the connections of one server share."""

import asyncio

from uvicorn.server import ServerState


class State(ServerState):
    """What the connections of one server share."""

    def __init__(self) -> None:
        super().__init__()
        #: Set once the server no longer accepts: every response from then on closes its connection.
        self.stopping = False
        #: Set whenever the last connection has gone.
        self.emptied = asyncio.Event()
        #: Header lines that every response begins with.
        self.preamble = b""
