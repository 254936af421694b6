"""What the routes of the management API have in common: the door before them, pages, merge patches, repeats."""

import binascii
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import quote

import msgspec
from fastapi import Query, Request
from pydantic import BaseModel, ValidationError

from hookbrook.core.declared import stable_id
from hookbrook.core.event import parse_time
from hookbrook.core.key import Scope
from hookbrook.core.units import parse_duration
from hookbrook.errors import BadRequest, Conflict, FieldError, Invalid, NotFound
from hookbrook.http.auth import Principal
from hookbrook.http.body import read_body
from hookbrook.http.gateway import Gateway
from hookbrook.http.problems import App, Message, Receive, Send
from hookbrook.http.problems import Scope as AsgiScope

#: An endpoint with all its headers and metadata has less than 40 KB.
MAX_BODY_BYTES: Final = 256 * 1024
#: A list's page: enough for a screen, and what a client may ask for at most.
DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 200
MAX_IDEMPOTENCY_KEY: Final = 255

#: Where the door leaves the principal for the routes.
_PRINCIPAL: Final = "hookbrook.principal"
_NO_PAGE: Final = "is not what an earlier page's `next` said"
_ID = re.compile(r"[a-z]{2,5}_[0-9a-z]{26}\Z")

Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Entries a page.")]
PageToken = Annotated[str | None, Query(description="`next` of the page before.")]
M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")


class Door:
    """ASGI in front of the framework: who asks is known before a byte of the body is read, and the body is bounded.

    A body must be one JSON value, whatever its label says (`curl -d` labels everything as a form).
    """

    def __init__(self, app: App, gateway: Gateway) -> None:
        self._app = app
        self._auth = gateway.auth

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["path"].removeprefix(scope.get("root_path", "")).startswith("/v1/"):
            scope[_PRINCIPAL] = await self._auth.identify(scope)
        if scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        body = await read_body(receive, scope["headers"], limit=MAX_BODY_BYTES, limit_name="MAX_BODY_BYTES")
        if body:
            _check_json(body)
        labelled = [pair for pair in scope["headers"] if pair[0] != b"content-type"]
        scope["headers"] = [*labelled, (b"content-type", b"application/json")]
        await self._app(scope, _replay(body, receive), send)


def _check_json(body: bytes) -> None:
    # The framework's parser takes NaN and half a surrogate pair, which nothing further on can write.
    try:
        msgspec.json.decode(body)
    except (ValueError, RecursionError) as exc:
        sentence = "it nests too deep" if isinstance(exc, RecursionError) else str(exc)
        raise BadRequest(f"The body is not JSON: {sentence}.") from exc


def _replay(body: bytes, receive: Receive) -> Receive:
    told = False

    async def replaying() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replaying


def principal_of(request: Request) -> Principal:
    """Whoever asks, as the door found out."""
    principal: Principal = request.scope[_PRINCIPAL]
    return principal


def admin_of(request: Request) -> Principal:
    """As `principal_of`, for what only administrators may do; raises `Unauthorized` or `Forbidden`."""
    principal = principal_of(request)
    principal.require(Scope.ADMIN)
    return principal


def page_after(token: str | None) -> str:
    """The id that the page before ended with, or "" for the first page; raises `Invalid` for a token that is none."""
    record_id = page_text(token)
    if record_id and not _ID.match(record_id):
        raise Invalid.of("page", _NO_PAGE)
    return record_id


def page_text(token: str | None) -> str:
    """What `page_token` was given, or "" for the first page; raises `Invalid` for a token that is none."""
    if token is None:
        return ""
    try:
        text = urlsafe_b64decode(token.encode() + b"=" * (-len(token) % 4)).decode("ascii")
    except (ValueError, binascii.Error):
        text = ""
    if not text:
        raise Invalid.of("page", _NO_PAGE)
    return text


def page_token(text: str) -> str:
    """What a client sends back as `page=` to go on after this."""
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


def next_page(found: list[T], limit: int) -> tuple[list[T], str | None]:
    """What was found by asking for one more than `limit`: this page, and the token of the next."""
    if len(found) <= limit:
        return found, None
    last: Any = found[limit - 1]
    return found[:limit], page_token(last.id)


def owned(record: T | None, principal: Principal, what: str) -> T:
    """The record, or `NotFound` if there is none that this principal may see."""
    tenant: Any = getattr(record, "tenant", None)
    if record is None or (principal.view is not None and tenant != principal.view):
        raise NotFound(f"There is no such {what}.")
    return record


def moment_of(field: str, text: str | None, now: int) -> int | None:
    """Microseconds since 1970 of an RFC 3339 time, or of how long ago it was (`2h`). Raises `Invalid`."""
    if text is None:
        return None
    if text[:1].isdigit() and text[-1:].isalpha() and "T" not in text.upper():
        try:
            return now - round(parse_duration(text) * 1_000_000)
        except ValueError as exc:
            raise Invalid.of(field, str(exc)) from exc
    return parse_time(text, field)


def changeable(declared: bool) -> None:
    """Raises `Conflict` for what hookbrook.toml declares."""
    if declared:
        raise Conflict("This is declared in hookbrook.toml; change it there and restart.")


def merge(current: Mapping[str, Any], patch: Any, model: type[M]) -> M:
    """The model after a merge patch (RFC 7396): absent leaves, null clears to the default. Raises `Invalid`."""
    if not isinstance(patch, dict):
        raise Invalid("A merge patch is a JSON object.", [FieldError("", "must be an object")])
    known = {field.alias or name for name, field in model.model_fields.items()}
    for name in patch:
        if name not in known:
            raise Invalid.of(name, "is unknown")
    try:
        return model.model_validate(_merged(current, patch))
    except ValidationError as exc:
        raise invalid_from(exc.errors()) from exc


def _merged(current: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    result = dict(current) if isinstance(current, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merged(result.get(name), value)
    return result


def location(request: Request, path: str) -> str:
    """A path of ours as the client must ask for it: below where a host program has mounted us."""
    root: str = request.scope.get("root_path", "")
    return quote(root) + path


def idempotent_id(request: Request, principal: Principal, prefix: str, tenant: str) -> str | None:
    """An id that follows from `Idempotency-Key` and whoever sent it, or None without one.

    The record that a repeat would make has then the id of the first, so that the store itself finds the repeat; and
    nothing needs to be remembered beside it.
    """
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if not 1 <= len(key) <= MAX_IDEMPOTENCY_KEY:
        raise Invalid.of("Idempotency-Key", f"has 1 to {MAX_IDEMPOTENCY_KEY} characters")
    return stable_id(prefix, "idempotency", principal.kind, principal.subject, tenant, key)


#: pydantic's words, which are about Python, in ours; what is not listed is taken as it is.
_MESSAGES: Final[Mapping[str, str]] = {
    "missing": "is required",
    "extra_forbidden": "is unknown",
    "string_type": "must be a text",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_attributes_type": "must be an object",
    "model_type": "must be an object",
}


def invalid_from(errors: Any) -> Invalid:
    """pydantic's errors as ours. What was sent is not repeated, since it may be a secret."""
    found = [FieldError(_field(error["loc"]), _message(error)) for error in errors]
    if len(found) == 1:
        name = found[0].field or "the body"
        return Invalid(f"{name}: {found[0].message}", found)
    return Invalid("Several fields are wrong.", found)


def _message(error: Mapping[str, Any]) -> str:
    known = _MESSAGES.get(error["type"])
    return known or str(error["msg"]).replace("Input should be", "must be")


def _field(location: tuple[str | int, ...]) -> str:
    """`("body", "types", 0)` is `types[0]`; a parameter that is repeated has no places."""
    if location[:1] == ("query",):
        return str(location[1])
    parts = location[1:] if location and location[0] in ("body", "query", "path", "header") else location
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return text.removeprefix(".")
