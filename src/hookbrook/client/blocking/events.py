"""The blocking consumer: a stream that remembers between runs how far it was dealt with."""

from types import TracebackType
from typing import Self

from hookbrook.client.blocking.stream import Stream
from hookbrook.client.events import Event
from hookbrook.client.place import Place


class Events:
    """The events of `Hookbrook.events`. Iterate it; close it, or use it with `with`, to leave early.

    An event counts as dealt with when the next one is asked for.
    """

    def __init__(self, stream: Stream[Event], place: Place) -> None:
        self._stream = stream
        self._place = place
        self._handed: str | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        if self._handed is not None:
            self._place.save(self._handed)
            self._handed = None
        event = next(self._stream)
        self._handed = event.cursor
        return event

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection and end the iteration. An event that was being dealt with will come again."""
        self._stream.close()
