"""Who is connected: the open streams, and how many each subject, address and channel has.

The counts are kept as streams come and go, since limits ask for them at each new stream; a list is made when somebody
looks.
"""

import heapq
from collections.abc import Callable, Hashable, Iterator
from typing import TypeVar

from hookbrook.stream.connection import Connection
from hookbrook.stream.control import expired
from hookbrook.stream.reader import Reader

#: Connections that a browser opens to one origin over HTTP/1.1, for all tabs together; Chromium, Firefox and Safari
#: agree on it. What comes next waits in the browser, without a word to anybody.
BROWSER_CONNECTIONS = 6

K = TypeVar("K", bound=Hashable)


class Connections:
    """The open streams, by their connections' ids."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[Connection, Reader]] = {}
        self._of_owner: dict[str, int] = {}
        self._at_address: dict[str, int] = {}
        self._of_browser: dict[int, int] = {}
        #: tenant -> channel or pattern -> readers
        self._on_channel: dict[str, dict[str, int]] = {}

    def __len__(self) -> int:
        return len(self._open)

    def of_owner(self, name: str) -> int:
        return self._of_owner.get(name, 0)

    def at_address(self, address: str) -> int:
        return self._at_address.get(address, 0)

    def of_browser(self, browser: int) -> int:
        return self._of_browser.get(browser, 0)

    def add(self, connection: Connection, reader: Reader) -> None:
        self._open[connection.id] = (connection, reader)
        self._count(connection, reader, 1)

    def remove(self, connection: Connection) -> None:
        found = self._open.pop(connection.id, None)
        if found is not None:
            self._count(*found, -1)

    def _count(self, connection: Connection, reader: Reader, change: int) -> None:
        _add(self._of_owner, connection.owner, change)
        _add(self._at_address, connection.address, change)
        if connection.browser is not None:
            _add(self._of_browser, connection.browser, change)
        channels = self._on_channel.setdefault(connection.tenant, {})
        for channel in reader.subscription.channels:
            _add(channels, channel, change)
        if not channels:
            del self._on_channel[connection.tenant]

    def get(self, connection_id: str) -> tuple[Connection, Reader] | None:
        return self._open.get(connection_id)

    def page(
        self, wanted: Callable[[Connection, Reader], bool], *, after: str, limit: int
    ) -> list[tuple[Connection, Reader]]:
        """The first so many after the id, in the order of their ids, which is that of their beginning."""
        found = (pair for name, pair in self._open.items() if name > after and wanted(*pair))
        return heapq.nsmallest(limit, found, key=lambda pair: pair[0].id)

    def channels(self, tenant: str | None, *, after: tuple[str, str], limit: int) -> list[tuple[str, str, int]]:
        """Channel or pattern, tenant and number of readers, in the order of their names; None: of all tenants."""
        return heapq.nsmallest(limit, (row for row in self._channel_rows(tenant) if row[:2] > after))

    def _channel_rows(self, tenant: str | None) -> Iterator[tuple[str, str, int]]:
        for name, channels in self._on_channel.items():
            if tenant in (None, name):
                yield from ((channel, name, count) for channel, count in channels.items())

    def end(self, wanted: Callable[[Connection], bool], last_words: bytes = b"") -> int:
        """End those that are wanted, and return how many there were."""
        ended = [reader for connection, reader in self._open.values() if wanted(connection)]
        for reader in ended:
            reader.end(last_words)
        return len(ended)

    def revoke(self, wanted: Callable[[Connection], bool]) -> int:
        """As `end`, and say that the right to listen has ended."""
        return self.end(wanted, expired("revoked"))


def _add(counts: dict[K, int], key: K, change: int) -> None:
    """A plain dictionary: this is a part of what it costs to accept a stream, and a Counter asks twice as long."""
    count = counts.get(key, 0) + change
    if count:
        counts[key] = count
    else:
        del counts[key]
