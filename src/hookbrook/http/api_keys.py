"""`/v1/keys` and `/v1/tokens`."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from hookbrook.core.declared import stable_id
from hookbrook.core.event import format_time, parse_time
from hookbrook.core.issuer import MAX_TEXT
from hookbrook.core.key import ApiKey, Scope
from hookbrook.core.registration import check_all, check_description, check_tenant
from hookbrook.core.revocation import Revocation, kept_until
from hookbrook.errors import Conflict, Invalid
from hookbrook.http.auth import Principal, TokenRequest, new_key
from hookbrook.http.gateway import Gateway
from hookbrook.http.models import Ended, KeyIn, KeyList, KeyMade, KeyOut, ScopeName, TokenIn, TokenOut
from hookbrook.http.request import (
    DEFAULT_LIMIT,
    Limit,
    PageToken,
    admin_of,
    idempotent_id,
    location,
    next_page,
    owned,
    page_after,
    principal_of,
)
from hookbrook.stream.connection import Connection

Admin = Annotated[Principal, Depends(admin_of)]
Subject = Annotated[str, Query(min_length=1, max_length=MAX_TEXT, description="The tokens' `sub`.")]
TokenId = Annotated[str, Path(min_length=1, max_length=MAX_TEXT, description="The token's `jti`.")]
#: Expired revocations that are removed for each new one, so that they never pile up.
SWEPT = 5


class Keys:
    """The routes, bound to a gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._catalog = gateway.catalog

    def router(self) -> APIRouter:
        router = APIRouter()
        add = router.add_api_route
        add("/v1/keys", self.create, methods=["POST"], status_code=201, summary="Create an API key", tags=["keys"])
        add("/v1/keys", self.list, methods=["GET"], summary="List the API keys", tags=["keys"])
        add("/v1/keys/{key_id}", self.read, methods=["GET"], summary="Read an API key", tags=["keys"])
        add(
            "/v1/keys/{key_id}",
            self.delete,
            methods=["DELETE"],
            status_code=204,
            summary="Delete an API key",
            tags=["keys"],
        )
        add("/v1/tokens", self.mint, methods=["POST"], summary="Mint a stream token", tags=["tokens"])
        add(
            "/v1/tokens",
            self.revoke_subject,
            methods=["DELETE"],
            summary="Revoke all tokens of a subject",
            tags=["tokens"],
        )
        add(
            "/v1/tokens/{token_id}",
            self.revoke_token,
            methods=["DELETE"],
            summary="Revoke a stream token",
            tags=["tokens"],
        )
        return router

    async def create(self, request: Request, response: Response, body: KeyIn, admin: Admin) -> KeyMade:
        """The key is shown in this answer and never again."""
        tenant = body.tenant or admin.tenant
        now = self._gateway.clock()
        check_all(
            lambda: check_tenant("tenant", tenant),
            lambda: check_description("description", body.description),
            lambda: _expiry(body.expires_at, now),
        )
        repeatable = idempotent_id(request, admin, "key", tenant)
        text, key = new_key(
            id=repeatable or "",
            tenant=tenant,
            scopes=[Scope(scope) for scope in dict.fromkeys(body.scopes)],
            now=now,
            description=body.description,
            expires=_expiry(body.expires_at, now),
        )
        try:
            saved = await self._catalog.save(key)
        except Conflict as exc:
            # Only its hash is kept, so the first answer cannot be given again.
            raise Conflict(
                f"This Idempotency-Key has made {key.id} before, and a key is shown once. Delete it and make another."
            ) from exc
        response.headers["Location"] = location(request, f"/v1/keys/{saved.id}")
        response.headers["Cache-Control"] = "no-store"
        return KeyMade(**_shown(saved).model_dump(), key=text)

    async def list(self, admin: Admin, limit: Limit = DEFAULT_LIMIT, page: PageToken = None) -> KeyList:
        found = await self._gateway.store.records(ApiKey, tenant=admin.view, after_id=page_after(page), limit=limit + 1)
        keys, following = next_page(found, limit)
        return KeyList(data=[_shown(key) for key in keys], next=following)

    async def read(self, key_id: str, admin: Admin) -> KeyOut:
        return _shown(await self._find(key_id, admin))

    async def delete(self, key_id: str, admin: Admin) -> None:
        """From the moment of the answer the key is refused."""
        await self._find(key_id, admin)
        owned(await self._catalog.delete(ApiKey, key_id), admin, "key")

    async def mint(
        self, response: Response, body: TokenIn, asking: Annotated[Principal, Depends(principal_of)]
    ) -> TokenOut:
        """A token grants at most what the key that asks for it may do, and lasts no longer."""
        minted = self._gateway.auth.mint(
            asking,
            TokenRequest(
                sub=body.sub,
                tenant=body.tenant,
                subscribe=tuple(body.subscribe),
                publish=tuple(body.publish),
                lifetime_s=body.lifetime_s,
            ),
        )
        response.headers["Cache-Control"] = "no-store"
        return TokenOut(id=minted.id, token=minted.token, expires_at=format_time(minted.expires))

    async def revoke_token(self, token_id: TokenId, admin: Admin) -> Ended:
        """From the moment of the answer the token with this `jti` is refused, and its streams have ended."""
        await self._revoke(admin, token=token_id)
        return self._end(admin, lambda each: token_id in each.rests_on)

    async def revoke_subject(self, subject: Subject, admin: Admin) -> Ended:
        """As above, for all tokens of the subject that were issued up to now. Later ones are good."""
        await self._revoke(admin, subject=subject)
        return self._end(admin, lambda each: each.subject == subject)

    def _end(self, admin: Principal, wanted: Callable[[Connection], bool]) -> Ended:
        def concerned(each: Connection) -> bool:
            return each.kind == "token" and each.tenant == admin.tenant and wanted(each)

        return Ended(ended=self._gateway.connections.revoke(concerned))

    async def _revoke(self, admin: Principal, *, token: str = "", subject: str = "") -> None:
        now = self._gateway.clock()
        before = self._catalog.revocation(admin.tenant, token=token, subject=subject)
        await self._catalog.save(
            Revocation(
                id=stable_id("rev", admin.tenant, token, subject),
                tenant=admin.tenant,
                token=token,
                subject=subject,
                expires=kept_until(now, self._gateway.auth.longest_token_s),
                created=now if before is None else before.created,
                updated=now,
                revision=1 if before is None else before.revision + 1,
            )
        )
        for expired in self._catalog.expired_revocations(now, SWEPT):
            await self._catalog.delete(Revocation, expired.id)

    async def _find(self, key_id: str, admin: Principal) -> ApiKey:
        return owned(await self._gateway.store.get(ApiKey, key_id), admin, "key")


def _expiry(text: str | None, now: int) -> int | None:
    if text is None:
        return None
    expires = parse_time(text, "expires_at")
    if expires <= now:
        raise Invalid.of("expires_at", "lies in the past")
    return expires


def _shown(key: ApiKey) -> KeyOut:
    scopes: list[ScopeName] = [scope.value for scope in key.scopes]
    return KeyOut(
        id=key.id,
        hint=key.hint,
        scopes=scopes,
        tenant=key.tenant,
        description=key.description,
        expires_at=None if key.expires is None else format_time(key.expires),
        created_at=format_time(key.created),
    )
