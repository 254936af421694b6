"""The port between a reader and the socket: how bytes leave, and how a slow client is noticed."""

from typing import Protocol


class Sink(Protocol):
    """Where one reader's bytes go. Everything is called in the event loop and returns at once.

    MUST keep the order of the chunks. MUST call the reader's `resume` when it was `full` and no longer is, and its
    `gone` when the client has left or accepts nothing for too long; both never from within `write`.
    """

    @property
    def full(self) -> bool:
        """More waits to be sent than a client that keeps up would leave waiting. A write is still taken."""

    def write(self, chunk: bytes) -> None: ...

    def close(self) -> None:
        """End the stream after what was written has been sent."""
