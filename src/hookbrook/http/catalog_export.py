"""The catalogue as other tools read it: OpenAPI 3.1 `webhooks`, and AsyncAPI 3.0.

A schema's references are pointers into itself. So that they stay that within a larger document, each schema that has
any is given an id of its own (JSON Schema 2020-12 core, section 8.2.1: an `$id` begins a resource, whose root is `#`).
"""

import re
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any, Final
from urllib.parse import quote

import msgspec

from hookbrook.core.eventtype import EventType

_TITLE: Final = "Events"
#: The headers of Standard Webhooks 1.0, and ours.
_HEADERS: Final = {
    "webhook-id": "The event's id; the same for every attempt.",
    "webhook-timestamp": "Seconds since 1970 of this attempt.",
    "webhook-signature": "Signatures, separated by spaces; see Standard Webhooks 1.0.",
    "hookbrook-type": "The event's type.",
}
# AsyncAPI 3.0: keys of a Components Object match `^[\w\d\.\-_]+$`.
_UNFIT_IN_KEYS = re.compile(r"[^A-Za-z0-9._-]")


def as_openapi(types: Iterable[EventType]) -> dict[str, Any]:
    return {
        "openapi": "3.1.0",
        "info": {"title": _TITLE, "version": version("hookbrook")},
        "webhooks": {each.name: {"post": _operation(each)} for each in types},
    }


def _operation(type: EventType) -> dict[str, Any]:
    content: dict[str, Any] = {} if type.schema is None else {"schema": _embedded(type)}
    if type.example is not None:
        content["example"] = type.example
    operation: dict[str, Any] = {
        "summary": type.name,
        "parameters": [
            {"name": name, "in": "header", "required": True, "description": about, "schema": {"type": "string"}}
            for name, about in _HEADERS.items()
        ],
        "requestBody": {"required": True, "content": {"application/json": content}},
        "responses": {"2XX": {"description": "Received. Anything else is a failure, and is tried again."}},
    }
    if type.description:
        operation["description"] = type.description
    if type.deprecated:
        operation["deprecated"] = True
    return operation


def as_asyncapi(types: Iterable[EventType]) -> dict[str, Any]:
    messages = {key_of(each): _message(each) for each in types}
    channel = {"$ref": "#/channels/events"}
    return {
        "asyncapi": "3.0.0",
        "info": {"title": _TITLE, "version": version("hookbrook")},
        "defaultContentType": "application/json",
        "channels": {
            "events": {
                "address": None,
                "description": "Webhooks to an endpoint, and streams; where they come from is each receiver's own.",
                "messages": {key: {"$ref": f"#/components/messages/{key}"} for key in messages},
            }
        },
        "operations": {"receive": {"action": "receive", "channel": channel}},
        "components": {"messages": messages},
    }


def key_of(type: EventType) -> str:
    """A key that such a document may have; two names that differ only in what is not allowed there stay apart."""
    fit = _UNFIT_IN_KEYS.sub("_", type.name)
    return fit if fit == type.name else f"{fit}-{type.id[-6:]}"


def _message(type: EventType) -> dict[str, Any]:
    message: dict[str, Any] = {"name": type.name, "title": type.name, "contentType": "application/json"}
    if type.description:
        message["description"] = type.description
    if type.schema is not None:
        schema_format = "application/schema+json;version=draft-2020-12"
        message["payload"] = {"schemaFormat": schema_format, "schema": _embedded(type)}
    if type.example is not None:
        payload = type.example if isinstance(type.example, dict) else {"value": type.example}
        message["examples"] = [{"payload": payload}]
    if type.deprecated:
        message["tags"] = [{"name": "deprecated"}]
    return message


def _embedded(type: EventType) -> Any:
    if not isinstance(type.schema, dict) or "$id" in type.schema or b'"$ref"' not in msgspec.json.encode(type.schema):
        return type.schema
    return {"$id": f"urn:hookbrook:type:{quote(type.name, safe='')}", **type.schema}
