"""`/hookbrook.js`: a small library for pages that want more than EventSource gives. Everything works without it."""

import hashlib
from importlib.resources import files
from typing import Any, Final

from fastapi import APIRouter, Request, Response

#: A page that comes back within an hour asks for nothing; after that it asks by ETag. A newer Hookbrook reaches all
#: pages within that time.
MAX_AGE_S: Final = 3600


class Page:
    """The route. It needs no credential: everybody may have the program."""

    def __init__(self) -> None:
        self._program = (files("hookbrook.http") / "page" / "hookbrook.min.js").read_bytes()
        self._headers = {
            "ETag": f'"{hashlib.sha256(self._program).hexdigest()[:20]}"',
            "Cache-Control": f"public, max-age={MAX_AGE_S}",
            # Pages that are isolated from other origins may load it as well.
            "Cross-Origin-Resource-Policy": "cross-origin",
            "X-Content-Type-Options": "nosniff",
        }

    def router(self) -> APIRouter:
        router = APIRouter(tags=["streams"])
        path = "/hookbrook.js"
        kinds: dict[int | str, dict[str, Any]] = {200: {"content": {"text/javascript": {}}}}
        router.add_api_route(path, self.program, summary="The library for pages", responses=kinds)
        router.add_api_route(path, self.program, methods=["HEAD"], include_in_schema=False)
        return router

    async def program(self, request: Request) -> Response:
        """A module that exports `Brook`. A copy with the same ETag is still good (304)."""
        known = request.headers.get("if-none-match", "")
        # RFC 9110 section 13.1.2: a list, compared weakly, or `*`.
        tags = {tag.strip().removeprefix("W/") for tag in known.split(",")}
        if self._headers["ETag"] in tags or "*" in tags:
            return Response(status_code=304, headers=self._headers)
        return Response(self._program, headers=self._headers, media_type="text/javascript")
