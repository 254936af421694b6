"""The port between a reader and the socket: how bytes leave, and how a slow client is noticed."""

from typing import Protocol


class Batch:
    """Frames that leave together, joined once for all readers who get them.

    Also their framing in HTTP/1.1 is worked out once: it is the same for all sockets, and a copy for each would cost
    more than the write.
    """

    __slots__ = ("chunked", "first", "last", "plain", "size")

    def __init__(self, plain: bytes, *, first: int, last: int) -> None:
        self.plain = plain
        #: The same as one chunk. Made at once: nearly all sockets want it, and a look-up is part of every delivery.
        self.chunked = chunk(plain)
        self.size = len(plain)
        #: The seqs of its first and its last event.
        self.first = first
        self.last = last


def chunk(data: bytes) -> bytes:
    """The data as one chunk (RFC 9112 section 7.1); it must not be empty, which would mean the end."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Direct(Protocol):
    """A socket that whoever has the same for many may write to past its sink."""

    @property
    def fd(self) -> int | None:
        """A file descriptor to which `Batch.chunked` may be written as it is, or None if that cannot be now.

        MUST be None while anything waits in the sink, which that would overtake, and MUST stay open until the reader's
        `gone` was called. It may be used until a write or `finish` has left something waiting, and the reader is not
        gone.
        """

    def finish(self, batch: Batch, taken: int) -> None:
        """Write what is left of a batch after so many bytes of it, chunked, that `fd` has taken.

        MUST cut the connection if it raises: what else is written would be taken for a part of the chunk that was
        begun, also an end, which the client must not get in its midst.
        """


class Sink(Protocol):
    """Where one reader's bytes go. Everything is called in the event loop and returns at once.

    MUST keep the order of what is written and shared. MUST call the reader's `resume` when it was `full` and no longer
    is, and its `gone` when the client has left or accepts nothing for too long; both never from within a write.
    """

    #: Bytes written so far. Whoever writes to `direct` adds what was in it.
    sent: int

    @property
    def full(self) -> bool:
        """More waits to be sent than a client that keeps up would leave waiting. A write is still taken."""

    @property
    def direct(self) -> Direct | None:
        """The same for as long as the sink is; None if there is no socket that takes chunks as they are."""

    def write(self, data: bytes) -> None:
        """What is for this reader alone."""

    def share(self, batch: Batch) -> None:
        """What others get as well: MUST NOT be copied or changed."""

    def close(self) -> None:
        """End the stream after what was written has been sent."""
