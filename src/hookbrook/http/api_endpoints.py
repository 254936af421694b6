"""`/v1/endpoints`."""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Body, Depends, Request, Response

from hookbrook.core.credential import Credential
from hookbrook.core.endpoint import Endpoint, Retired
from hookbrook.core.event import format_time
from hookbrook.core.ids import ID_BYTES, new_id
from hookbrook.core.retry import parse_schedule
from hookbrook.core.rotation import in_overlap, with_signing_key
from hookbrook.core.signing import SECRET_PREFIX, new_secret, parse_signer
from hookbrook.errors import Conflict, Invalid
from hookbrook.http.auth import Principal
from hookbrook.http.gateway import Gateway
from hookbrook.http.models import EndpointIn, EndpointList, EndpointMade, EndpointOut, ExpiringKey
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
)
from hookbrook.http.secrets import (
    HIDDEN,
    hint,
    restored_credential,
    restored_headers,
    shown_credential,
    shown_headers,
)

Admin = Annotated[Principal, Depends(admin_of)]


class Endpoints:
    """The routes, bound to a gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._catalog = gateway.catalog

    def router(self) -> APIRouter:
        router = APIRouter(tags=["endpoints"])
        one = "/v1/endpoints/{endpoint_id}"
        router.add_api_route(
            "/v1/endpoints", self.create, methods=["POST"], status_code=201, summary="Create an endpoint"
        )
        router.add_api_route("/v1/endpoints", self.list, methods=["GET"], summary="List the endpoints")
        router.add_api_route(one, self.read, methods=["GET"], summary="Read an endpoint")
        router.add_api_route(one, self.change, methods=["PATCH"], summary="Change an endpoint")
        router.add_api_route(one, self.delete, methods=["DELETE"], status_code=204, summary="Delete an endpoint")
        return router

    async def create(self, request: Request, response: Response, body: EndpointIn, admin: Admin) -> EndpointMade:
        tenant = body.tenant or admin.tenant
        now = self._gateway.clock()
        repeatable = idempotent_id(request, admin, "ep", tenant)
        endpoint = Endpoint(
            id=repeatable or new_id("ep", now, self._gateway.random(ID_BYTES)),
            **_fields(body, tenant),
            secrets=(body.secret or new_secret(self._gateway.random),),
            created=now,
            updated=now,
        )
        self._gateway.check_endpoint(endpoint)
        endpoint = with_signing_key(endpoint, self._gateway.random)
        try:
            endpoint = await self._catalog.save(endpoint)
        except Conflict:
            first = await self._gateway.store.get(Endpoint, repeatable) if repeatable else None
            if first is None:
                raise
            endpoint = _same_as_first(endpoint, first, secret_was_made=body.secret is None)
        response.headers["Location"] = location(request, f"/v1/endpoints/{endpoint.id}")
        return EndpointMade(**self._shown(endpoint, None).model_dump(), secret=endpoint.secrets[0])

    async def list(self, admin: Admin, limit: Limit = DEFAULT_LIMIT, page: PageToken = None) -> EndpointList:
        found = await self._gateway.store.records(
            Endpoint, tenant=admin.view, after_id=page_after(page), limit=limit + 1
        )
        endpoints, following = next_page(found, limit)
        failing = await self._gateway.store.failing([endpoint.id for endpoint in endpoints])
        shown = [self._shown(endpoint, failing.get(endpoint.id)) for endpoint in endpoints]
        return EndpointList(data=shown, next=following)

    async def read(self, endpoint_id: str, admin: Admin) -> EndpointOut:
        return await self._seen(await self._find(endpoint_id, admin))

    async def change(self, endpoint_id: str, admin: Admin, patch: Annotated[Any, Body()]) -> EndpointOut:
        """A merge patch (RFC 7396): what is absent stays, null clears to the default. A null secret makes a new one.

        `headers` and `metadata` are merged name by name.
        """
        endpoint = await self._find(endpoint_id, admin)
        changeable(endpoint.declared)
        body = merge(_as_input(endpoint, patch), patch, EndpointIn)
        if body.tenant not in (None, endpoint.tenant):
            raise Invalid.of("tenant", "cannot be changed; create another endpoint")
        changed = msgspec.structs.replace(
            endpoint,
            **_fields(body, endpoint.tenant),
            updated=self._gateway.clock(),
            revision=endpoint.revision + 1,
        )
        if changed.enabled or endpoint.enabled:
            # Enabled, or disabled by a person now.
            changed = msgspec.structs.replace(changed, disabled_reason=None)
        if "secret" in patch:
            secret = body.secret or new_secret(self._gateway.random)
            # At once: what a rotation let sign beside the old one ends with it.
            changed = msgspec.structs.replace(changed, secrets=(secret,), retired=_without_secrets(changed.retired))
        changed = msgspec.structs.replace(
            changed,
            headers=restored_headers(changed.headers, endpoint.headers),
            secret_headers=restored_headers(changed.secret_headers, endpoint.secret_headers),
            auth=restored_credential(changed.auth, endpoint.auth),
        )
        self._gateway.check_endpoint(changed)
        saved = await self._catalog.save(with_signing_key(changed, self._gateway.random))
        # What was held while it was disabled is due now.
        self._gateway.dispatcher_poke(saved.id)
        return await self._seen(saved)

    async def delete(self, endpoint_id: str, admin: Admin) -> None:
        endpoint = await self._find(endpoint_id, admin)
        changeable(endpoint.declared)
        owned(await self._catalog.delete(Endpoint, endpoint_id), admin, "endpoint")

    async def _find(self, endpoint_id: str, admin: Principal) -> Endpoint:
        return owned(await self._gateway.store.get(Endpoint, endpoint_id), admin, "endpoint")

    async def _seen(self, endpoint: Endpoint) -> EndpointOut:
        failing = await self._gateway.store.failing([endpoint.id])
        return self._shown(endpoint, failing.get(endpoint.id))

    def _shown(self, endpoint: Endpoint, failing_since: int | None) -> EndpointOut:
        expiring = [
            ExpiringKey(
                hint=hint(each.key), signature=parse_signer(each.key).version, expires_at=format_time(each.expires)
            )
            for each in in_overlap(endpoint, self._gateway.clock())
        ]
        return EndpointOut(
            **{
                **_as_input(endpoint),
                "id": endpoint.id,
                "secrets": [hint(secret) for secret in endpoint.secrets],
                "expiring": expiring,
                "headers": shown_headers(endpoint.headers),
                "secret_headers": dict.fromkeys(endpoint.secret_headers, HIDDEN),
                "auth": shown_credential(endpoint.auth),
                "disabled_reason": endpoint.disabled_reason,
                "failing_since": None if failing_since is None else format_time(failing_since),
                "declared": endpoint.declared,
                "created_at": format_time(endpoint.created),
                "updated_at": format_time(endpoint.updated),
            }
        )


def _fields(body: EndpointIn, tenant: str) -> dict[str, Any]:
    """What a body says of an endpoint, as the core's record has it; raises `Invalid` for a retry that is none."""
    return {
        **body.model_dump(exclude={"secret"}),
        "tenant": tenant,
        "types": tuple(body.types),
        "channels": tuple(body.channels),
        "signatures": tuple(body.signatures),
        "auth": msgspec.convert(None if body.auth is None else body.auth.model_dump(), Credential | None),
        "retry": None if body.retry is None else parse_schedule(body.retry).delays_s,
    }


def _as_input(endpoint: Endpoint, patch: Any = None) -> dict[str, Any]:
    """The endpoint as a client would have written it, but for its secret.

    A patch that names another type of `auth` replaces it: the fields of the one do not fit the other.
    """
    fields = {name: getattr(endpoint, name) for name in EndpointIn.model_fields if name != "secret"}
    retry = None if endpoint.retry is None else list(endpoint.retry)
    lists = {name: list(fields[name]) for name in ("types", "channels", "signatures")}
    auth = msgspec.to_builtins(endpoint.auth)
    wanted = patch.get("auth") if isinstance(patch, dict) else None
    if auth is not None and isinstance(wanted, dict) and wanted.get("type", auth["type"]) != auth["type"]:
        auth = None
    return {**fields, **lists, "retry": retry, "auth": auth}


def _without_secrets(retired: Sequence[Retired]) -> tuple[Retired, ...]:
    return tuple(each for each in retired if not each.key.startswith(SECRET_PREFIX))


def _same_as_first(repeat: Endpoint, first: Endpoint, *, secret_was_made: bool) -> Endpoint:
    comparable = msgspec.structs.replace(repeat, created=first.created, updated=first.updated)
    if secret_was_made:
        comparable = msgspec.structs.replace(comparable, secrets=first.secrets)
    comparable = msgspec.structs.replace(comparable, signing_key=first.signing_key)
    if comparable != first:
        raise Conflict("This Idempotency-Key was used for another endpoint, or the endpoint was changed since.")
    return first
