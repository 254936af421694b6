"""`/v1/sources` and `/v1/providers`."""

from base64 import b64encode
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Body, Depends, Request, Response

from hookbrook.core.event import format_time, is_utf8
from hookbrook.core.failure import Failure
from hookbrook.core.ids import ID_BYTES, new_id
from hookbrook.core.signing import new_secret
from hookbrook.core.source import Source
from hookbrook.errors import Conflict, Invalid
from hookbrook.http.auth import Principal
from hookbrook.http.gateway import Gateway
from hookbrook.http.models import (
    FailedRequest,
    FailureList,
    FailureOut,
    ProviderList,
    ProviderOut,
    Received,
    SourceIn,
    SourceList,
    SourceMade,
    SourceOut,
)
from hookbrook.http.registration import check_source
from hookbrook.http.request import (
    DEFAULT_LIMIT,
    Limit,
    PageToken,
    admin_of,
    changeable,
    idempotent_id,
    location,
    merge,
    next_page,
    owned,
    page_after,
    principal_of,
)
from hookbrook.http.secrets import hint, restored
from hookbrook.http.tally import Outcome
from hookbrook.inbound.recipe import DEFAULT_DEDUPE_WINDOW_S, Row
from hookbrook.inbound.sample import load as load_samples

Admin = Annotated[Principal, Depends(admin_of)]

#: Providers that are programs of one's own, so that somebody has to make up a secret: we do.
SECRET_IS_OURS = frozenset({"standard-webhooks", "bearer"})


class Sources:
    """The routes, bound to a gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._catalog = gateway.catalog

    def router(self) -> APIRouter:
        router = APIRouter(tags=["sources"])
        router.add_api_route("/v1/sources", self.create, methods=["POST"], status_code=201, summary="Create a source")
        router.add_api_route("/v1/sources", self.list, methods=["GET"], summary="List the sources")
        router.add_api_route("/v1/sources/{source_id}", self.read, methods=["GET"], summary="Read a source")
        router.add_api_route("/v1/sources/{source_id}", self.change, methods=["PATCH"], summary="Change a source")
        router.add_api_route(
            "/v1/sources/{source_id}", self.delete, methods=["DELETE"], status_code=204, summary="Delete a source"
        )
        router.add_api_route(
            "/v1/sources/{source_id}/failures",
            self.failures,
            methods=["GET"],
            summary="List a source's failures, with the likely mistakes",
        )
        router.add_api_route("/v1/providers", self.providers, methods=["GET"], summary="List the known providers")
        return router

    async def create(self, request: Request, response: Response, body: SourceIn, admin: Admin) -> SourceMade:
        tenant = body.tenant or admin.tenant
        now = self._gateway.clock()
        repeatable = idempotent_id(request, admin, "src", tenant)
        made = new_secret(self._gateway.random) if body.provider in SECRET_IS_OURS and not body.secrets else None
        source = Source(
            id=repeatable or new_id("src", now, self._gateway.random(ID_BYTES)),
            **_fields(body, tenant, (made,) if made else tuple(body.secrets)),
            created=now,
            updated=now,
        )
        check_source(source, self._gateway.providers)
        try:
            source = await self._catalog.save(source)
        except Conflict:
            first = await self._gateway.store.get(Source, repeatable) if repeatable else None
            if first is None:
                raise
            source = _same_as_first(source, first, secret_was_made=made is not None)
        response.headers["Location"] = location(request, f"/v1/sources/{source.id}")
        shown = self._shown(source, request)
        return SourceMade(**shown.model_dump(), secret=source.secrets[0] if made else None)

    async def list(
        self, request: Request, admin: Admin, limit: Limit = DEFAULT_LIMIT, page: PageToken = None
    ) -> SourceList:
        found = await self._gateway.store.records(Source, tenant=admin.view, after_id=page_after(page), limit=limit + 1)
        sources, following = next_page(found, limit)
        return SourceList(data=[self._shown(source, request) for source in sources], next=following)

    async def read(self, request: Request, source_id: str, admin: Admin) -> SourceOut:
        return self._shown(await self._find(source_id, admin), request)

    async def change(self, request: Request, source_id: str, admin: Admin, patch: Annotated[Any, Body()]) -> SourceOut:
        """A merge patch (RFC 7396): what is absent stays, null clears to the default."""
        source = await self._find(source_id, admin)
        changeable(source.declared)
        body = merge(_as_input(source), patch, SourceIn)
        if body.tenant not in (None, source.tenant):
            raise Invalid.of("tenant", "cannot be changed; create another source")
        changed = msgspec.structs.replace(
            source,
            **_fields(body, source.tenant, restored(body.secrets, source.secrets)),
            updated=self._gateway.clock(),
            revision=source.revision + 1,
        )
        check_source(changed, self._gateway.providers)
        return self._shown(await self._catalog.save(changed), request)

    async def delete(self, source_id: str, admin: Admin) -> None:
        source = await self._find(source_id, admin)
        changeable(source.declared)
        owned(await self._catalog.delete(Source, source.id), admin, "source")
        self._gateway.tally.forget(source.id)

    async def failures(
        self, source_id: str, admin: Admin, limit: Limit = DEFAULT_LIMIT, page: PageToken = None
    ) -> FailureList:
        """The newest webhooks that could not be verified, and what is probably wrong. The last 50 are kept."""
        source = await self._find(source_id, admin)
        found = await self._gateway.store.failures(source.id, before_id=page_after(page) or None, limit=limit + 1)
        failures, following = next_page(found, limit)
        return FailureList(data=[_failure(each) for each in failures], next=following)

    async def providers(self, _asking: Annotated[Principal, Depends(principal_of)]) -> ProviderList:
        rows = sorted(self._gateway.providers.values(), key=lambda row: row.id)
        samples = load_samples()
        return ProviderList(
            data=[
                ProviderOut(
                    id=row.id,
                    title=row.title,
                    samples=list(samples.get(row.id, {})),
                    covers=list(row.covers),
                    challenge=bool(row.challenges),
                    retries=row.retries,
                    deadline_s=row.deadline_s,
                    source_url=row.source_url,
                    checked_on=row.checked_on.isoformat() if row.checked_on else None,
                )
                for row in rows
            ],
            next=None,
        )

    async def _find(self, source_id: str, admin: Principal) -> Source:
        """By its id, or by its name, which is what people know it by."""
        found = await self._gateway.store.get(Source, source_id) or self._catalog.sources.get(source_id)
        return owned(found, admin, "source")

    def _shown(self, source: Source, request: Request) -> SourceOut:
        here = f"{request.url.scheme}://{request.url.netloc}"
        base = source.public_url or self._gateway.settings.public_url or here
        row = self._gateway.providers.get(source.provider)
        return SourceOut(
            id=source.id,
            name=source.name,
            provider=source.provider,
            tenant=source.tenant,
            url=base + location(request, f"/in/{source.name}"),
            secrets=[hint(secret) for secret in source.secrets],
            channel=source.channel,
            type=source.type,
            dedupe=source.dedupe,
            dedupe_window_s=_window_of(source, row),
            networks=list(source.networks),
            public_url=source.public_url,
            enforce=source.enforce,
            enabled=source.enabled,
            description=source.description,
            declared=source.declared,
            received=_received(self._gateway.tally.of(source.id)),
            created_at=format_time(source.created),
            updated_at=format_time(source.updated),
        )


def _window_of(source: Source, row: Row | None) -> float:
    if source.dedupe_window_s is not None:
        return source.dedupe_window_s
    return DEFAULT_DEDUPE_WINDOW_S if row is None else row.dedupe_window_s


def _received(counts: Mapping[Outcome, int]) -> Received:
    return Received(
        accepted=counts["accepted"],
        duplicate=counts["duplicate"],
        unverified=counts["unverified"],
        refused=counts["refused"],
        challenge=counts["challenge"],
    )


def _failure(failure: Failure) -> FailureOut:
    is_text = is_utf8(failure.body) or (failure.size > len(failure.body) and is_utf8(failure.body[:-3]))
    return FailureOut(
        id=failure.id,
        received_at=format_time(failure.time),
        reason=failure.reason,
        detail=failure.detail,
        cause=failure.cause,
        explanation=failure.explanation,
        proven=failure.proven,
        skipped=failure.skipped,
        request=FailedRequest(
            method=failure.method,
            path=failure.path,
            query=failure.query,
            headers=[list(pair) for pair in failure.headers],
            address=failure.address,
            size=failure.size,
            body=failure.body.decode(errors="ignore") if is_text else None,
            body_base64=None if is_text else b64encode(failure.body).decode(),
        ),
    )


def _fields(body: SourceIn, tenant: str, secrets: tuple[str, ...]) -> dict[str, Any]:
    networks = tuple(body.networks)
    public_url = None if body.public_url is None else body.public_url.strip().rstrip("/")
    return {**body.model_dump(), "tenant": tenant, "secrets": secrets, "networks": networks, "public_url": public_url}


def _as_input(source: Source) -> dict[str, Any]:
    """The source as a client would have written it."""
    fields = {name: getattr(source, name) for name in SourceIn.model_fields}
    hints = [hint(secret) for secret in source.secrets]
    return {**fields, "secrets": hints, "networks": list(source.networks)}


def _same_as_first(repeat: Source, first: Source, *, secret_was_made: bool) -> Source:
    comparable = msgspec.structs.replace(repeat, created=first.created, updated=first.updated)
    if secret_was_made:
        comparable = msgspec.structs.replace(comparable, secrets=first.secrets)
    if comparable != first:
        raise Conflict("This Idempotency-Key was used for another source, or the source was changed since.")
    return first
