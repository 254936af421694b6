"""The OpenAPI document: the routes of the framework, and by hand the hot doors that bypass it."""

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from hookbrook.http.models import ProblemOut

_PROBLEM: Final = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemOut"}}}
_METHODS: Final = frozenset({"get", "post", "patch", "delete", "options", "head"})
_EVENT: Final = {"$ref": "#/components/schemas/Event"}
_NEW_EVENT: Final = {"$ref": "#/components/schemas/NewEvent"}
_APPENDED: Final = {"$ref": "#/components/schemas/Appended"}

#: Statuses that any route may answer with, and what they mean there.
_REFUSALS: Final = {
    "400": "The request cannot be read.",
    "401": "No credential, or one that does not hold.",
    "403": "The credential does not grant this.",
    "404": "There is no such thing.",
    "409": "It contradicts what is there.",
    "413": "The body is over a limit.",
    "422": "A field is wrong; `errors` names each.",
    "503": "The store is not available; try again.",
}

_EVENT_FIELDS: Final[dict[str, Any]] = {
    "id": {"type": "string"},
    "channels": {"type": "array", "items": {"type": "string"}},
    "type": {"type": "string"},
    "tenant": {"type": "string"},
    "source": {"type": ["string", "null"]},
    "time": {"type": "string", "format": "date-time"},
    "content_type": {"type": "string"},
    "data": {"description": "The data as JSON, or text as a string."},
    "data_base64": {"type": "string", "description": "Data that is neither."},
    "cursor": {"type": "string", "examples": ["k3f9w2-1042"]},
    "close": {"type": "boolean", "description": "True for the last event of its channels; else absent."},
    "merge": {"type": "string", "description": "The text that it is a piece of, if it is one."},
}

_SCHEMAS: Final[dict[str, Any]] = {
    "Event": {"type": "object", "title": "Event", "properties": _EVENT_FIELDS},
    "Received": {
        "type": "object",
        "title": "Received",
        "properties": {
            **{name: _EVENT_FIELDS[name] for name in ("id", "cursor", "type", "channels", "time", "content_type")},
            "source": {"type": "string"},
            "request": {
                "type": "object",
                "description": "`method`, `path`, `query`, `headers` as pairs, `address`, `received_at`, `verified`.",
            },
            "size": {"type": "integer", "description": "Bytes of the body."},
            "body": {"type": "string", "description": "The body, if it is text."},
            "body_base64": {"type": "string", "description": "A body that is no text."},
        },
    },
    "NewEvent": {
        "type": "object",
        "title": "NewEvent",
        "required": ["data"],
        "properties": {
            "channel": {"type": "string", "description": "Either this or `channels`."},
            "channels": {"type": "array", "items": {"type": "string"}, "maxItems": 10},
            "data": {},
            "type": {"type": "string", "default": "message"},
            "id": {"type": "string", "description": "Sent again, it is the same event."},
            "time": {"type": "string", "format": "date-time"},
            "content_type": {"type": "string"},
            "close": {"type": "boolean", "description": "It is the last event of its channels.", "default": False},
            "merge": {"type": "string", "description": "Neighbours with the same key are pieces of one text."},
        },
    },
    "Appended": {
        "type": "object",
        "title": "Appended",
        "properties": {
            "id": {"type": "string"},
            "cursor": {"type": "string"},
            "duplicate": {"type": "boolean", "description": "The log had it already; this names the first."},
        },
    },
}

_SECURITY: Final[dict[str, Any]] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key (`hbk_…`) or a stream token."},
    "cookie": {"type": "apiKey", "in": "cookie", "name": "hookbrook_token", "description": "A stream token."},
    "query": {"type": "apiKey", "in": "query", "name": "token", "description": "A stream token."},
}


def operation_id(route: APIRoute) -> str:
    """`create_sources`: short, and the same in every version of the framework."""
    noun = route.path_format.removeprefix("/v1/").split("/")[0]
    return f"{route.name}_{noun}"


def document(api: FastAPI) -> None:
    """Let `api.openapi()` show the hot doors, the credentials and the refusals too."""

    def openapi() -> dict[str, Any]:
        if api.openapi_schema is None:
            api.openapi_schema = _complete(
                get_openapi(title=api.title, version=api.version, description=api.description, routes=api.routes)
            )
        return api.openapi_schema

    # FastAPI's documented way to extend the document ("Extending OpenAPI").
    api.openapi = openapi  # type: ignore[method-assign]


def _complete(schema: dict[str, Any]) -> dict[str, Any]:
    components = schema.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["ProblemOut"] = ProblemOut.model_json_schema()
    schemas.update(_SCHEMAS)
    components["securitySchemes"] = _SECURITY
    schema["paths"].update(_hot_paths())
    for path, operations in schema["paths"].items():
        for method in _METHODS & operations.keys():
            _add_refusals(operations[method], open_to_all=not path.startswith("/v1/"))
    return schema


def _add_refusals(operation: dict[str, Any], *, open_to_all: bool) -> None:
    if not open_to_all:
        operation["security"] = [{name: []} for name in _SECURITY]
    responses = operation["responses"]
    responses.pop("422", None)
    for status, meaning in _REFUSALS.items():
        responses.setdefault(status, {"description": meaning, "content": _PROBLEM})


def _hot_paths() -> dict[str, Any]:
    channel = {
        "name": "channel",
        "in": "path",
        "required": True,
        "description": "1 to 200 characters of `A-Za-z0-9._:@/-`; it is the whole rest of the path.",
        "schema": {"type": "string"},
    }
    source = {"name": "source", "in": "path", "required": True, "schema": {"type": "string"}}
    event = {"name": "event_id", "in": "path", "required": True, "schema": {"type": "string"}}
    challenge = {"description": "The provider's challenge, answered.", "content": {"text/plain": {}}}
    return {
        "/v1/channels/{channel}": {
            "parameters": [channel],
            "post": _operation(
                "publish",
                "Publish the body to a channel",
                "The raw body is the data: JSON if it parses, else text.",
                parameters=[
                    _query("type", "The event's type."),
                    _query("merge", "Neighbours with the same key are pieces of one text."),
                    _query("close", "1: it is the channel's last event."),
                ],
                body={"*/*": {}},
                responses={"201": _json("Appended.", _APPENDED), "200": _json("Known already.", _APPENDED)},
            ),
            "get": _operation(
                "read_channel",
                "Stream a channel, or read its history",
                "With `Accept: text/event-stream` a stream, otherwise a page of history.",
                parameters=[*_stream_parameters(), _query("merge", "1: catch up with pieces of a text as one event.")],
                responses={
                    "200": _json("Events.", _page_of_events()),
                    "204": {"description": "A stream that would bring nothing any more: the channel is closed."},
                },
            ),
            "delete": _operation(
                "delete_channel",
                "Delete a channel",
                "Nothing of it is shown any more, and it is open again. Needs the scope `admin`.",
                responses={"204": {"description": "Deleted."}},
            ),
        },
        "/v1/stream": {
            "get": _operation(
                "stream",
                "Stream several channels or patterns",
                "Always a stream. `Last-Event-ID` wins over every parameter.",
                parameters=[
                    _query("channel", "Channel or pattern; may be repeated.", many=True),
                    *_stream_parameters(),
                    _query("merge", "1: catch up with pieces of a text as one event."),
                ],
                responses={
                    "200": {"description": "Server-Sent Events.", "content": {"text/event-stream": {}}},
                    "204": {"description": "Nothing will come any more: all channels are closed."},
                },
            )
        },
        "/v1/events": {
            "post": _operation(
                "publish_events",
                "Publish one event, an array, NDJSON or a CloudEvent",
                "An array is appended whole or not at all; NDJSON line by line as the lines arrive.",
                body={
                    "application/json": {"schema": {"anyOf": [_NEW_EVENT, {"type": "array", "items": _NEW_EVENT}]}},
                    "application/x-ndjson": {"schema": {"type": "string"}},
                    "application/cloudevents+json": {"schema": {"type": "object"}},
                },
                responses={"201": _json("Appended.", _APPENDED), "200": _json("Known already.", _APPENDED)},
            ),
            "get": _operation(
                "history",
                "Read the history",
                "A page of events in the order of the log.",
                parameters=[
                    *_stream_parameters(),
                    _query("deliveries", "`none` (owed to nobody), `undelivered`, or a delivery's status; for admins."),
                ],
                responses={"200": _json("Events.", _page_of_events())},
            ),
        },
        "/v1/events/{event_id}": {
            "parameters": [{"name": "event_id", "in": "path", "required": True, "schema": {"type": "string"}}],
            "get": _operation("read_event", "Read an event", "", responses={"200": _json("The event.", _EVENT)}),
        },
        "/v1/sources/{source}/requests": {
            "parameters": [source],
            "get": _operation(
                "stream_requests",
                "Stream what arrives at a source",
                "Each request with its original headers and raw body. Needs the scope `ingest`.",
                parameters=[
                    *_stream_parameters(history=False),
                    _query("unverified", "1: also what failed verification and was kept all the same."),
                ],
                responses={"200": {"description": "Server-Sent Events.", "content": {"text/event-stream": {}}}},
            ),
        },
        "/v1/sources/{source}/requests/{event_id}": {
            "parameters": [source, event],
            "get": _operation(
                "read_request",
                "Read one request that arrived at a source",
                "Needs the scope `ingest`.",
                responses={"200": _json("The request.", {"$ref": "#/components/schemas/Received"})},
            ),
        },
        "/v1/sources/{source}/requests/{event_id}/body": {
            "parameters": [source, event],
            "get": _operation(
                "read_request_body",
                "Read the raw body of a request that arrived at a source",
                "Byte for byte, also of a request with several events. Needs the scope `ingest`.",
                responses={"200": {"description": "The bytes.", "content": {"application/octet-stream": {}}}},
            ),
        },
        "/in/{source}": {
            "parameters": [source],
            "post": _operation(
                "ingest",
                "Receive a provider's webhook",
                "Verified by the source's provider; 2xx once it is durable, also for a repeat.",
                body={"*/*": {}},
                responses={"200": _json("Kept, or kept before.", _APPENDED)},
            ),
            "get": _operation("challenge", "Answer a provider's challenge", "", responses={"200": challenge}),
            "options": _operation("handshake", "Answer a provider's handshake", "", responses={"204": challenge}),
        },
    }


def _operation(
    name: str,
    summary: str,
    description: str,
    *,
    parameters: list[dict[str, Any]] | None = None,
    body: dict[str, Any] | None = None,
    responses: dict[str, Any],
) -> dict[str, Any]:
    operation: dict[str, Any] = {"operationId": name, "summary": summary, "tags": ["events"], "responses": responses}
    if description:
        operation["description"] = description
    if parameters:
        operation["parameters"] = parameters
    if body:
        operation["requestBody"] = {"required": True, "content": body}
    return operation


def _query(name: str, description: str, *, many: bool = False) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "array", "items": {"type": "string"}} if many else {"type": "string"}
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


def _stream_parameters(*, history: bool = True) -> list[dict[str, Any]]:
    return [
        _query("type", "Only these types; may be repeated.", many=True),
        _query("after", "Begin just after this cursor."),
        _query("since", "Begin with what was appended at or after this time, or this long ago (`2h`)."),
        _query("last", "Begin with the last so many events."),
        *([_query("limit", "Events a page (history).")] if history else ()),
    ]


def _json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _page_of_events() -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"data": {"type": "array", "items": _EVENT}, "next": {"type": ["string", "null"]}},
    }
