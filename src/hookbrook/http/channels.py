"""`DELETE /v1/channels/{channel}`: nothing of it is shown any more, and it is open again.

The deletion is an event of the reserved type `hookbrook.deleted` on the channel, so that it has its place in the log:
streams that are open learn of it in order, readers who come back later are told, and endpoints that ask for the type by
name get it. It hides itself with all that stands before it.
"""

import msgspec

from hookbrook.core.channel import RESERVED, check_name
from hookbrook.core.event import JSON_TYPE, NewEvent
from hookbrook.core.ids import ID_BYTES, new_id
from hookbrook.core.key import Scope as KeyScope
from hookbrook.errors import NotFound
from hookbrook.http.gateway import Gateway
from hookbrook.http.problems import Scope, Send
from hookbrook.store.base import Query

DELETED = "hookbrook.deleted"


class Channels:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def delete(self, scope: Scope, send: Send, channel: str) -> None:
        """Raises `NotFound` for a channel without events that is not closed either."""
        gateway = self._gateway
        principal = gateway.auth.authenticate(scope)
        principal.require(KeyScope.ADMIN)
        check_name("channel", channel)
        if not await self._exists(principal.tenant, channel):
            raise NotFound(f"There is no channel {channel}, or nothing of it is kept.")
        await gateway.appender.append([self._deletion(principal.tenant, channel)])
        await send({"type": "http.response.start", "status": 204, "headers": [(b"cache-control", b"no-store")]})
        await send({"type": "http.response.body", "body": b""})

    async def _exists(self, tenant: str, channel: str) -> bool:
        # Also what has to be asked for by name is part of it.
        query = Query(tenant=tenant, channels=(channel,), types=("*", f"{RESERVED}*"))
        page = await self._gateway.store.read(query, after=0, limit=1)
        return bool(page.events or page.standing.closed)

    def _deletion(self, tenant: str, channel: str) -> NewEvent:
        now = self._gateway.clock()
        event_id = new_id("evt", now, self._gateway.random(ID_BYTES))
        return NewEvent(
            id=event_id,
            channels=(channel,),
            type=DELETED,
            tenant=tenant,
            time=now,
            content_type=JSON_TYPE,
            kind="json",
            data=msgspec.json.encode({"channel": channel}),
            dedupe_id=event_id,
            effect="delete",
        )
