"""`/v1/types`: the catalogue of events, and its exports as OpenAPI and AsyncAPI."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Body, Depends, Request, Response

from hookbrook.core.declared import type_id
from hookbrook.core.event import format_time
from hookbrook.core.eventtype import EVERYBODY, EventType
from hookbrook.errors import Conflict, Invalid
from hookbrook.http.auth import Principal
from hookbrook.http.catalog_export import as_asyncapi, as_openapi
from hookbrook.http.gateway import Gateway
from hookbrook.http.request import (
    DEFAULT_LIMIT,
    Limit,
    PageToken,
    admin_of,
    changeable,
    location,
    merge,
    next_page,
    owned,
    page_after,
    principal_of,
)
from hookbrook.http.schemas import check_compiled
from hookbrook.http.type_models import TypeIn, TypeList, TypeOut

Admin = Annotated[Principal, Depends(admin_of)]
Anybody = Annotated[Principal, Depends(principal_of)]

#: Types of an installation, all tenants' together: they are held in memory, some KB each.
MAX_TYPES = 5000


class Types:
    """The routes, bound to a gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._catalog = gateway.catalog

    def router(self) -> APIRouter:
        router = APIRouter(tags=["types"])
        one, add = "/v1/types/{type_id}", router.add_api_route
        add("/v1/types", self.create, methods=["POST"], status_code=201, summary="Add a type to the catalogue")
        add("/v1/types", self.list, methods=["GET"], summary="List the types")
        add(one, self.read, methods=["GET"], summary="Read a type")
        add(one, self.change, methods=["PATCH"], summary="Change a type")
        add(one, self.delete, methods=["DELETE"], status_code=204, summary="Remove a type from the catalogue")
        add("/v1/catalog/openapi.json", self.openapi, methods=["GET"], summary="The catalogue as OpenAPI webhooks")
        add("/v1/catalog/asyncapi.json", self.asyncapi, methods=["GET"], summary="The catalogue as AsyncAPI")
        return router

    async def create(self, request: Request, response: Response, body: TypeIn, admin: Admin) -> TypeOut:
        now, tenant = self._gateway.clock(), body.tenant or admin.tenant
        if len(self._catalog.types) >= MAX_TYPES:
            raise Conflict(f"There are {MAX_TYPES} types already (MAX_TYPES).")
        made = EventType(id=type_id(tenant, body.name), **_fields(body, tenant), created=now, updated=now)
        check_compiled(made)
        saved = await self._catalog.save(made)
        response.headers["Location"] = location(request, f"/v1/types/{saved.id}")
        return _shown(saved)

    async def list(self, asking: Anybody, limit: Limit = DEFAULT_LIMIT, page: PageToken = None) -> TypeList:
        """Those of the tenant and those of everybody; an administrator who names no tenant sees all."""
        after, seen = page_after(page), _view(asking)
        found = sorted((each for each in self._catalog.types.values() if seen(each) and each.id > after), key=_id_of)
        types, following = next_page(found[: limit + 1], limit)
        return TypeList(data=[_shown(each) for each in types], next=following)

    async def read(self, type_id: str, asking: Anybody) -> TypeOut:
        found = await self._gateway.store.get(EventType, type_id)
        return _shown(owned(found if found is not None and _view(asking)(found) else None, asking, "type"))

    async def change(self, type_id: str, admin: Admin, patch: Annotated[Any, Body()]) -> TypeOut:
        """A merge patch (RFC 7396), but for `schema` and `example`, which are replaced whole."""
        kept = await self._find(type_id, admin)
        changeable(kept.declared)
        whole = {name: patch[name] for name in ("schema", "example") if isinstance(patch, dict) and name in patch}
        rest = {name: value for name, value in patch.items() if name not in whole} if isinstance(patch, dict) else patch
        body = merge({**_as_input(kept), **whole}, rest, TypeIn)
        if body.tenant not in (None, kept.tenant) or body.name != kept.name:
            raise Invalid.of("name", "name and tenant cannot be changed; add another type")
        changed = msgspec.structs.replace(
            kept, **_fields(body, kept.tenant), updated=self._gateway.clock(), revision=kept.revision + 1
        )
        check_compiled(changed)
        return _shown(await self._catalog.save(changed))

    async def delete(self, type_id: str, admin: Admin) -> None:
        """Events of this type can still be published, unchecked."""
        changeable((await self._find(type_id, admin)).declared)
        await self._catalog.delete(EventType, type_id)

    async def openapi(self, asking: Anybody) -> dict[str, Any]:
        """OpenAPI 3.1: each type is a webhook, as an endpoint of the tenant receives it."""
        return as_openapi(self._shown_to(asking))

    async def asyncapi(self, asking: Anybody) -> dict[str, Any]:
        """AsyncAPI 3.0: each type is a message."""
        return as_asyncapi(self._shown_to(asking))

    def _shown_to(self, asking: Principal) -> Sequence[EventType]:
        """What is not archived; of two types of a name the tenant's own."""
        types = {each.name: each for each in self._catalog.types.values() if each.tenant == EVERYBODY}
        types |= {each.name: each for each in self._catalog.types.values() if each.tenant == asking.tenant}
        return [types[name] for name in sorted(types) if not types[name].archived]

    async def _find(self, type_id: str, admin: Principal) -> EventType:
        return owned(await self._gateway.store.get(EventType, type_id), admin, "type")


def _view(asking: Principal) -> Callable[[EventType], bool]:
    return lambda each: asking.view is None or each.tenant in (asking.view, EVERYBODY)


def _id_of(type: EventType) -> str:
    return type.id


def _fields(body: TypeIn, tenant: str) -> dict[str, Any]:
    return {
        "name": body.name,
        "tenant": tenant,
        "description": body.description,
        "schema": body.json_schema,
        "example": body.example,
        "validate": body.check_data,
        "deprecated": body.deprecated,
        "archived": body.archived,
    }


def _as_input(type: EventType) -> Mapping[str, Any]:
    names = ("name", "tenant", "description", "schema", "example", "validate", "deprecated", "archived")
    return {name: getattr(type, name) for name in names}


def _shown(type: EventType) -> TypeOut:
    return TypeOut.model_validate(
        {
            **_as_input(type),
            "id": type.id,
            "declared": type.declared,
            "created_at": format_time(type.created),
            "updated_at": format_time(type.updated),
        }
    )
