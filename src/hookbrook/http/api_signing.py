"""`/v1/endpoints/{id}/…`: what an endpoint's webhooks are signed and verified with, and how that is replaced.

The public keys are also a JSON Web Key Set that needs no credential, one for each endpoint. There is none of all
endpoints together: a receiver that trusted it would take a webhook that was signed for somebody else's endpoint, and
whoever owns that endpoint may have chosen its content.
"""

from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Depends, Request, Response

from hookbrook.core.endpoint import Endpoint
from hookbrook.core.event import format_time
from hookbrook.core.rotation import in_overlap, public_keys, rotate
from hookbrook.core.signing import SECRET_PREFIX
from hookbrook.errors import NotFound
from hookbrook.http.auth import Principal
from hookbrook.http.gateway import Gateway
from hookbrook.http.models import JwkSet, PublicKeyOut, PublicKeysOut, RotateIn, SecretOut
from hookbrook.http.request import admin_of, changeable, idempotent_id, owned

Admin = Annotated[Principal, Depends(admin_of)]

KEY_SET: Final = "/.well-known/hookbrook/{endpoint_id}/keys.json"
#: Far below the shortest overlap that anybody changes keys within, long enough that receivers need not ask each time.
KEY_SET_AGE_S: Final = 300


class Signing:
    """The routes, bound to a gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def router(self) -> APIRouter:
        router = APIRouter(tags=["endpoints"])
        one = "/v1/endpoints/{endpoint_id}"
        router.add_api_route(
            f"{one}/secret", self.secret, methods=["GET"], summary="Show what an endpoint verifies with"
        )
        router.add_api_route(
            f"{one}/rotate",
            self.rotate,
            methods=["POST"],
            summary="Replace what an endpoint's webhooks are signed with",
        )
        router.add_api_route(
            f"{one}/public-keys", self.public_keys, methods=["GET"], summary="Show an endpoint's public keys"
        )
        router.add_api_route(
            KEY_SET,
            self.key_set,
            methods=["GET"],
            summary="Show an endpoint's public keys as a JSON Web Key Set",
            operation_id="key_set_endpoints",
        )
        return router

    async def secret(self, response: Response, endpoint_id: str, admin: Admin) -> SecretOut:
        return self._secrets(response, await self._find(endpoint_id, admin))

    async def rotate(
        self, request: Request, response: Response, endpoint_id: str, admin: Admin, body: RotateIn | None = None
    ) -> SecretOut:
        """The old secret, and the old signing key, sign beside the new ones until the overlap is over."""
        endpoint = await self._find(endpoint_id, admin)
        changeable(endpoint.declared)
        repeatable = idempotent_id(request, admin, "rot", endpoint.id) or ""
        if not repeatable or repeatable != endpoint.last_rotation:
            endpoint = await self._rotated(endpoint, body or RotateIn(), repeatable)
        return self._secrets(response, endpoint)

    async def _rotated(self, endpoint: Endpoint, body: RotateIn, repeatable: str) -> Endpoint:
        now = self._gateway.clock()
        changed = rotate(
            endpoint,
            versions=body.signatures,
            overlap_s=body.overlap_s,
            secret=body.secret,
            now=now,
            random=self._gateway.random,
        )
        changed = msgspec.structs.replace(
            changed, last_rotation=repeatable, updated=now, revision=endpoint.revision + 1
        )
        self._gateway.check_endpoint(changed)
        return await self._gateway.catalog.save(changed)

    def _secrets(self, response: Response, endpoint: Endpoint) -> SecretOut:
        response.headers["Cache-Control"] = "no-store"
        old = [each.key for each in in_overlap(endpoint, self._gateway.clock())]
        shared = [key for key in old if key.startswith(SECRET_PREFIX)]
        return SecretOut(secret=endpoint.secrets[0], secrets=[*endpoint.secrets, *shared])

    async def public_keys(self, request: Request, endpoint_id: str, admin: Admin) -> PublicKeysOut:
        endpoint = await self._find(endpoint_id, admin)
        found = [
            PublicKeyOut(key=str(key), kid=key.id, expires_at=None if expires is None else format_time(expires))
            for key, expires in public_keys(endpoint, self._gateway.clock())
        ]
        prefix = request.scope.get("root_path", "")
        url = self._gateway.settings.base_url + prefix + KEY_SET.replace("{endpoint_id}", endpoint.id)
        return PublicKeysOut(data=found, url=url)

    async def key_set(self, response: Response, endpoint_id: str) -> JwkSet:
        """For everybody who knows the endpoint's id: public keys are no secret."""
        endpoint = self._gateway.catalog.routes.by_id.get(endpoint_id)
        keys = [] if endpoint is None else public_keys(endpoint, self._gateway.clock())
        if not keys:
            raise NotFound("There is no endpoint with public keys by this id.")
        response.headers["Cache-Control"] = f"public, max-age={KEY_SET_AGE_S}"
        # RFC 7517 section 8.5.1.
        response.headers["Content-Type"] = "application/jwk-set+json"
        return JwkSet.model_validate({"keys": [key.as_jwk() for key, _ in keys]})

    async def _find(self, endpoint_id: str, admin: Principal) -> Endpoint:
        return owned(await self._gateway.store.get(Endpoint, endpoint_id), admin, "endpoint")
