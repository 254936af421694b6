"""What one reader asked for, and what its frames look like."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from hookbrook.core.channel import matches_any
from hookbrook.core.cloudevent import to_structured
from hookbrook.core.event import Event, to_json
from hookbrook.core.merge import merged
from hookbrook.core.received import to_wire
from hookbrook.core.sse import encode
from hookbrook.store.base import Query
from hookbrook.stream.control import erased
from hookbrook.stream.sink import Batch

#: What a reader whose client stops may have been given beyond its limit: so much, or one larger event.
MAX_BATCH_BYTES = 32 * 1024


class Format(StrEnum):
    # A frame is looked up per delivery, and Enum's own hash is a call of Python code.
    __hash__ = str.__hash__

    #: The type as the event's name and the data as published.
    DATA = "data"
    #: The whole event as JSON, without a name, so that `onmessage` sees everything.
    EVENT = "event"
    #: Likewise, as a structured CloudEvent.
    CLOUDEVENT = "cloudevent"
    #: Likewise, what arrived at a source: the provider's request with its raw body. Only for readers of a source.
    REQUEST = "request"


def sees_all(_channel: str) -> bool:
    """For readers who may know every channel, or are shown none."""
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    tenant: str
    #: Channel patterns, at least one.
    channels: tuple[str, ...]
    #: Type patterns; empty means every type that is not reserved.
    types: tuple[str, ...] = ()
    #: Only what arrived at the source of this name.
    source: str | None = None
    format: Format = Format.DATA
    #: Send the routine control events too: `hookbrook.live` and `hookbrook.checkpoint`.
    control: bool = False
    #: Neighbouring pieces of one text come as one event while the reader catches up.
    merge: bool = False
    #: Whether the reader may know that an event is also on this channel.
    may_see: Callable[[str], bool] = sees_all

    @property
    def query(self) -> Query:
        return Query(tenant=self.tenant, channels=self.channels, types=self.types, source=self.source)

    @property
    def asked(self) -> Hashable:
        """Equal for readers who want the same events."""
        return (self.tenant, self.channels, self.types, self.source)

    @property
    def is_exact(self) -> bool:
        """Whether it asks for nothing but channels by name, and so may come to an end."""
        return self.source is None and self.query.is_exact

    @property
    def audience(self) -> Hashable:
        """Equal for readers whose live events are the same bytes."""
        if self.format is Format.DATA:
            return self.asked
        # These name the event's channels, and who may know of which differs.
        return (self.asked, self.format, self.may_see)

    def wants_type(self, name: str) -> bool:
        return matches_any(self.types, name)

    def wants(self, event: Event) -> bool:
        return (
            event.tenant == self.tenant
            and self.source in (None, event.source)
            and self.wants_type(event.type)
            and any(matches_any(self.channels, channel) for channel in event.channels)
        )

    def visible(self, event: Event) -> tuple[str, ...]:
        """The event's channels that this reader may know of; at least the one by which it was found."""
        if len(event.channels) == 1:
            return event.channels
        return tuple(
            channel for channel in event.channels if self.may_see(channel) or matches_any(self.channels, channel)
        )


class Entry:
    """An event in memory with its frames, each encoded at most once and shared by all readers."""

    __slots__ = ("_frames", "event", "seq")

    def __init__(self, event: Event) -> None:
        self.event = event
        self.seq = event.seq
        #: Made when the first reader wants one: most events of a busy log have no reader.
        self._frames: dict[Format, bytes] | None = None

    def frame(self, subscription: Subscription) -> bytes:
        kind = subscription.format
        if kind is not Format.DATA and len(self.event.channels) > 1:
            visible = subscription.visible(self.event)
            if visible != self.event.channels:
                return _frame(self.event, kind, visible)
        if self._frames is None:
            self._frames = {}
        frame = self._frames.get(kind)
        if frame is None:
            frame = self._frames[kind] = _frame(self.event, kind, self.event.channels)
        return frame


def merged_entries(entries: Iterable[Entry]) -> Iterator[Entry]:
    """The entries with neighbouring pieces of one text joined; one that stays alone keeps its frames."""
    known: dict[int, Entry] = {}

    def events() -> Iterator[Event]:
        for entry in entries:
            known[entry.seq] = entry
            yield entry.event

    for event in merged(events()):
        entry = known.get(event.seq)
        yield entry if entry is not None and entry.event is event else Entry(event)


def batches(entries: Iterable[Entry], subscription: Subscription) -> Iterator[Batch]:
    """The entries' frames in order, joined up to `MAX_BATCH_BYTES`; a larger event is a batch of its own."""
    frames: list[bytes] = []
    size = first = last = 0
    for entry in entries:
        frame = entry.frame(subscription)
        if frames and size + len(frame) > MAX_BATCH_BYTES:
            yield Batch(b"".join(frames), first=first, last=last)
            frames, size = [], 0
        if not frames:
            first = entry.seq
        frames.append(frame)
        size += len(frame)
        last = entry.seq
    if frames:
        yield Batch(b"".join(frames), first=first, last=last)


def _frame(event: Event, kind: Format, channels: tuple[str, ...]) -> bytes:
    if event.kind == "erased" and kind in (Format.DATA, Format.REQUEST):
        return erased(event.id, event.type, event.cursor)
    if kind is Format.DATA:
        return encode(type=event.type, data=event.data, kind=event.kind, id=event.cursor)
    return encode(type="message", data=_WHOLE[kind](event, channels=channels), kind="json", id=event.cursor)


_WHOLE: Mapping[Format, Callable[..., bytes]] = {
    Format.EVENT: to_json,
    Format.CLOUDEVENT: to_structured,
    Format.REQUEST: to_wire,
}
