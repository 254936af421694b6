"""What arrived at a source, as it arrived: a stream of it, one of them, and one's raw body.

Original headers hold signatures, which a thief could use against another receiver with the same secret, and the
provider's addresses. So this needs the scope `ingest`, which API keys have and tokens of browsers never do; the right
to read channels does not matter here, since a source puts its events on any channel.
"""

from hookbrook.core.channel import check_patterns
from hookbrook.core.event import BINARY_TYPE, Event
from hookbrook.core.key import Scope
from hookbrook.core.received import body_of, to_wire
from hookbrook.core.source import Source
from hookbrook.errors import NotFound
from hookbrook.http.asked import read_beginning, wants_control
from hookbrook.http.auth import Principal
from hookbrook.http.gateway import Gateway
from hookbrook.http.ingest import UNVERIFIED_CHANNEL
from hookbrook.http.problems import Receive, Send
from hookbrook.http.problems import Scope as AsgiScope
from hookbrook.http.query import QueryString
from hookbrook.http.request import owned
from hookbrook.http.stream import Stream
from hookbrook.stream.subscription import Format, Subscription

_HEADERS = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]


class Requests:
    """ASGI. Raises `Problem`s for the boundary around the doors."""

    def __init__(self, gateway: Gateway, stream: Stream) -> None:
        self._gateway = gateway
        self._stream = stream

    async def stream(self, scope: AsgiScope, receive: Receive, send: Send, name: str) -> None:
        """`GET /v1/sources/{source}/requests`: the stream, with `after`, `since`, `last`, `type` and `control`.

        What failed verification and was kept all the same comes only with `unverified=1`.
        """
        principal, source = self._source(scope, name)
        query = QueryString(scope["query_string"])
        unverified = query.number("unverified", default=0, low=0, high=1) == 1
        subscription = Subscription(
            tenant=source.tenant,
            channels=("*", UNVERIFIED_CHANNEL + source.name) if unverified else ("*",),
            types=check_patterns("type", query.all("type")),
            source=source.name,
            format=Format.REQUEST,
            control=wants_control(query),
        )
        await self._stream.open(scope, receive, send, principal, subscription, read_beginning(query))

    async def one(self, scope: AsgiScope, send: Send, name: str, event_id: str) -> None:
        """`GET /v1/sources/{source}/requests/{event_id}`: what a frame of the stream would be."""
        event = await self._event(scope, name, event_id)
        await _send(send, scope, to_wire(event), b"application/json")

    async def body(self, scope: AsgiScope, send: Send, name: str, event_id: str) -> None:
        """`GET /v1/sources/{source}/requests/{event_id}/body`: the raw body, of all events that came with it."""
        event = await self._event(scope, name, event_id)
        # Labelled as bytes whatever it is: a page that a stranger has sent must not be shown as one of ours.
        await _send(send, scope, body_of(event), BINARY_TYPE.encode())

    def _source(self, scope: AsgiScope, name: str) -> tuple[Principal, Source]:
        principal = self._gateway.auth.authenticate(scope)
        principal.require(Scope.INGEST)
        return principal, owned(self._gateway.catalog.sources.get(name), principal, "source")

    async def _event(self, scope: AsgiScope, name: str, event_id: str) -> Event:
        _, source = self._source(scope, name)
        event = await self._gateway.store.event(source.tenant, event_id)
        if event is None or event.source != source.name:
            raise NotFound(f"There is no event {event_id} of this source, or it is no longer kept.")
        return event


async def _send(send: Send, scope: AsgiScope, body: bytes, content_type: bytes) -> None:
    headers = [*_HEADERS, (b"content-type", content_type), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
