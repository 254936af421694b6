"""What the events in the feed's memory have done to their channels.

A reader that takes its events from there learns by it which of them are no longer to be shown, and whether its channels
have ended. Whoever is further behind learns that from the store's pages.
"""

from collections.abc import Mapping, Sequence

from hookbrook.core.channel import matches_any
from hookbrook.core.event import Event
from hookbrook.store.base import Lost
from hookbrook.stream.subscription import Entry, Subscription

#: A tenant and a channel's name.
Name = tuple[str, str]


class Effects:
    def __init__(self) -> None:
        #: Channels that were closed and not opened again, and those that were deleted, with the event that did it.
        self._ends: dict[Name, int] = {}
        self._floors: dict[Name, int] = {}

    def __bool__(self) -> bool:
        return bool(self._ends or self._floors)

    def note(self, event: Event) -> None:
        for channel in event.channels:
            name = (event.tenant, channel)
            if event.effect == "close":
                self._ends[name] = event.seq
            elif event.effect == "delete":
                self._floors[name] = event.seq
                self._ends.pop(name, None)

    def forget(self, before: int) -> None:
        """What events did that are no longer in memory."""
        self._ends = {name: seq for name, seq in self._ends.items() if seq >= before}
        self._floors = {name: seq for name, seq in self._floors.items() if seq >= before}

    def shown(self, entries: Sequence[Entry], subscription: Subscription) -> Sequence[Entry]:
        """Of those that the subscription wants, the ones that are still shown on a channel for which it does."""
        if not self._floors:
            return entries
        return [entry for entry in entries if self._is_shown(entry.event, subscription)]

    def _is_shown(self, event: Event, subscription: Subscription) -> bool:
        return any(
            matches_any(subscription.channels, channel) and self._floors.get((event.tenant, channel), 0) < event.seq
            for channel in event.channels
        )

    def lost(self, subscription: Subscription, after: int) -> Lost | None:
        """The newest deletion after that seq of a channel that the subscription matches."""
        if subscription.is_exact:
            floors = (self._floors.get((subscription.tenant, channel), 0) for channel in subscription.channels)
        else:
            floors = (
                floor
                for (tenant, channel), floor in self._floors.items()
                if tenant == subscription.tenant and matches_any(subscription.channels, channel)
            )
        newest = max(floors, default=0)
        return Lost(seq=newest, why="deleted") if newest > after else None

    def closed(self, subscription: Subscription) -> dict[str, int]:
        """Those of its channels that an event in memory has closed, with the seq of that event."""
        found = ((channel, self._ends.get((subscription.tenant, channel))) for channel in subscription.channels)
        return {channel: end for channel, end in found if end is not None} if self._ends else {}

    def still_closed(self, tenant: str, known: Mapping[str, int]) -> dict[str, int]:
        """Those of the ends that a reader knows of which no deletion has undone."""
        return {channel: end for channel, end in known.items() if self._floors.get((tenant, channel), 0) < end}

    def end(self, subscription: Subscription, known: Mapping[str, int]) -> int | None:
        """The seq with which the last of a subscription's channels was closed, or None if one of them is open.

        Args:
            known: ends that the reader had learned of earlier.
        """
        ends = []
        for channel in subscription.channels:
            name, before = (subscription.tenant, channel), known.get(channel)
            end = self._ends.get(name, before)
            if end is None or self._floors.get(name, 0) > end:
                return None
            ends.append(end)
        return max(ends)
