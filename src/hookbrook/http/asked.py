"""What the URL of a stream asks for, read once for all who ask for the same.

Thousands of readers open the same URL, above all after a restart, and taking it apart costs as much as opening the
stream. Nothing here depends on what the reader may do: that is judged by whoever calls, for each of them.
"""

from dataclasses import dataclass

from hookbrook.core.channel import check_patterns
from hookbrook.errors import Invalid
from hookbrook.http.query import QueryString
from hookbrook.stream.position import MAX_LAST
from hookbrook.stream.subscription import Format, Subscription

#: What may be asked for by name; the provider's request has a door of its own.
FORMATS = tuple(kind for kind in Format if kind is not Format.REQUEST)
#: URLs that are remembered, and the longest query of them: a few megabytes at most.
MAX_REMEMBERED = 1024
MAX_REMEMBERED_BYTES = 512
#: Polyfills that cannot set the header `Last-Event-ID` say it in the query.
_SPELLINGS = ("lastEventId", "last-event-id", "last_event_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """Where in the log the URL says to begin: one of these, or with what comes next."""

    #: A cursor that was received before, as a `Last-Event-ID` would say it.
    seen: str | None = None
    after: str | None = None
    since: str | None = None
    last: int | None = None


#: With what comes next.
NOW = Beginning()


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    #: As for a reader who may know of all of an event's channels.
    subscription: Subscription
    #: `NOW` itself, if that is where it begins.
    beginning: Beginning


class Asking:
    """Callable: whose events, the path's channel if it names one, and the raw query. Raises `Invalid`, `BadRequest`.

    Args:
        max_channels: of one stream.
    """

    def __init__(self, max_channels: int) -> None:
        self._max_channels = max_channels
        self._remembered: dict[tuple[str, str | None, bytes], Asked] = {}

    def __call__(self, tenant: str, channel: str | None, raw: bytes) -> Asked:
        key = (tenant, channel, raw)
        asked = self._remembered.get(key)
        if asked is None:
            query = QueryString(raw)
            asked = self._read(tenant, channel, query)
            # Nobody else has the same token or cursor, and a token is nothing to keep.
            if asked.beginning is NOW and not query.all("token") and len(raw) <= MAX_REMEMBERED_BYTES:
                self._remember(key, asked)
        return asked

    def _remember(self, key: tuple[str, str | None, bytes], asked: Asked) -> None:
        if len(self._remembered) >= MAX_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[key] = asked

    def _read(self, tenant: str, channel: str | None, query: QueryString) -> Asked:
        named = query.all("channel") if channel is None else [channel]
        return Asked(
            subscription=Subscription(
                tenant=tenant,
                channels=check_patterns("channel", named, limit=self._max_channels),
                types=check_patterns("type", query.all("type")),
                format=_format(query),
                control=wants_control(query),
                merge=query.number("merge", default=0, low=0, high=1) == 1,
            ),
            beginning=read_beginning(query),
        )


def read_beginning(query: QueryString) -> Beginning:
    given = [name for name in ("after", "since", "last") if query.one(name) is not None]
    if len(given) > 1:
        raise Invalid.of(given[1], f"cannot be combined with {given[0]}")
    seen = next((text for name in _SPELLINGS if (text := query.one(name))), None)
    if seen is not None:
        return Beginning(seen=seen)
    if not given:
        return NOW
    if given == ["last"]:
        return Beginning(last=query.number("last", default=0, low=0, high=MAX_LAST))
    return Beginning(after=query.one("after"), since=query.one("since"))


def wants_control(query: QueryString) -> bool:
    """Whether the routine control events are asked for too."""
    return query.number("control", default=0, low=0, high=1) == 1


def _format(query: QueryString) -> Format:
    name = query.one("format") or Format.DATA.value
    if name not in FORMATS:
        raise Invalid.of("format", f"must be one of {', '.join(FORMATS)}")
    return Format(name)
