"""`/v1/connections` and `/v1/channels`: who is listening, and to what."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from hookbrook.core.channel import check_pattern, matches
from hookbrook.core.event import format_time
from hookbrook.errors import Invalid, NotFound
from hookbrook.http.auth import Principal
from hookbrook.http.gateway import Gateway
from hookbrook.http.models import ChannelList, ChannelOut, ConnectionList, ConnectionOut, Ended
from hookbrook.http.request import (
    DEFAULT_LIMIT,
    Limit,
    PageToken,
    admin_of,
    page_after,
    page_text,
    page_token,
)
from hookbrook.stream.connection import Connection
from hookbrook.stream.reader import Mode, Reader

Admin = Annotated[Principal, Depends(admin_of)]
Subject = Annotated[str | None, Query(description="Only those of this key's id or token's `sub`.")]
Channel = Annotated[str | None, Query(description="Only those that read this channel, by name or by a pattern.")]
Whose = Annotated[str, Query(min_length=1, description="The key's id, or the token's `sub`.")]
#: Between a channel and its tenant in a page's token; neither can contain it.
_BETWEEN = " "


class Connections:
    """The routes, bound to a gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._connections = gateway.connections
        self._clock = gateway.clock

    def router(self) -> APIRouter:
        router = APIRouter(tags=["streams"])
        add, one = router.add_api_route, "/v1/connections/{connection_id}"
        add("/v1/connections", self.list, methods=["GET"], summary="List the open streams")
        add("/v1/connections", self.end_all, methods=["DELETE"], summary="End all streams of a subject")
        add(one, self.read, methods=["GET"], summary="Read an open stream")
        add(one, self.end, methods=["DELETE"], status_code=204, summary="End a stream")
        add("/v1/channels", self.channels, methods=["GET"], summary="List the channels that are read")
        return router

    async def list(
        self,
        admin: Admin,
        subject: Subject = None,
        channel: Channel = None,
        limit: Limit = DEFAULT_LIMIT,
        page: PageToken = None,
    ) -> ConnectionList:
        """In the order in which they were opened. Streams of this process; each has an id of its own."""
        if channel is not None:
            check_pattern("channel", channel)

        def wanted(connection: Connection, reader: Reader) -> bool:
            return (
                admin.view in (None, connection.tenant)
                and subject in (None, connection.subject)
                and (channel is None or any(matches(each, channel) for each in reader.subscription.channels))
            )

        found = self._connections.page(wanted, after=page_after(page), limit=limit + 1)
        following = page_token(found[limit - 1][0].id) if len(found) > limit else None
        return ConnectionList(data=[await self._shown(*pair) for pair in found[:limit]], next=following)

    async def read(self, connection_id: str, admin: Admin) -> ConnectionOut:
        return await self._shown(*self._find(connection_id, admin))

    async def end(self, connection_id: str, admin: Admin) -> None:
        """The client may come back at once, if its key or token still holds."""
        _, reader = self._find(connection_id, admin)
        reader.end()

    async def end_all(self, subject: Whose, admin: Admin) -> Ended:
        """Of one tenant: an administrator's own, or `tenant=`. To keep them away, revoke the subject's tokens."""
        ended = self._connections.end(lambda each: each.tenant == admin.tenant and each.subject == subject)
        return Ended(ended=ended)

    async def channels(self, admin: Admin, limit: Limit = DEFAULT_LIMIT, page: PageToken = None) -> ChannelList:
        """Channels and patterns as the readers named them, in the order of their names."""
        channel, between, tenant = page_text(page).partition(_BETWEEN)
        if page is not None and not between:
            raise Invalid.of("page", "is not what an earlier page's `next` said")
        found = self._connections.channels(admin.view, after=(channel, tenant), limit=limit + 1)
        following = page_token(_BETWEEN.join(found[limit - 1][:2])) if len(found) > limit else None
        rows = [ChannelOut(channel=name, tenant=whose, readers=readers) for name, whose, readers in found[:limit]]
        return ChannelList(data=rows, next=following)

    def _find(self, connection_id: str, admin: Principal) -> tuple[Connection, Reader]:
        found = self._connections.get(connection_id)
        if found is None or admin.view not in (None, found[0].tenant):
            raise NotFound("There is no such connection.")
        return found

    async def _shown(self, connection: Connection, reader: Reader) -> ConnectionOut:
        lag, missing = reader.lag, None
        if lag:
            missing = await reader.next_missing()
        return ConnectionOut(
            id=connection.id,
            tenant=connection.tenant,
            credential=connection.kind,
            subject=connection.subject or None,
            address=connection.address,
            channels=list(reader.subscription.channels),
            types=list(reader.subscription.types),
            since=format_time(connection.since),
            state="live" if reader.mode is Mode.LIVE else "catching up",
            lag_events=lag,
            lag_s=0.0 if missing is None else max(0.0, (self._clock() - missing.appended) / 1_000_000),
            bytes=reader.sent,
        )
