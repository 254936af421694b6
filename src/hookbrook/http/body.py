"""Reading a request's body within a named limit.

The limit counts the bytes as they arrive, so that a body without a length, or with a lying one, is cut off as soon as
it is too long. Nothing is inflated: a body that travels with `Content-Encoding: gzip` is kept and signed as it was
sent.
"""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from hookbrook.errors import BadRequest, TooLarge

#: ASGI 3.0: one message of the connection.
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


async def read_body(receive: Receive, headers: Iterable[tuple[bytes, bytes]], *, limit: int, limit_name: str) -> bytes:
    """The whole body, at most `limit` bytes.

    Args:
        headers: as ASGI has them, names in lower case.
        limit_name: the setting that says the limit, for the sentence in the refusal.

    Raises `TooLarge`, at once if `Content-Length` already says so (before `100 Continue` invites the body), and
    `BadRequest` for a length that is no number or a client that went away in the middle.
    """
    for name, value in headers:
        if name == b"content-length":
            # uvicorn's parser has refused a length that is no number; another server's may not have.
            if not value.isdigit():
                raise BadRequest("Content-Length is not a number.")
            if len(value) > 18 or int(value) > limit:
                raise too_large(limit, limit_name)
    message = await receive()
    if message["type"] != "http.request":
        raise BadRequest("The client went away before its request was complete.")
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        # Nearly every body arrives in one piece, and then it is not copied.
        if len(body) > limit:
            raise too_large(limit, limit_name)
        return body
    return await _read_rest(receive, bytearray(body), limit, limit_name)


async def _read_rest(receive: Receive, body: bytearray, limit: int, limit_name: str) -> bytes:
    while len(body) <= limit:
        message = await receive()
        if message["type"] != "http.request":
            raise BadRequest("The client went away before its request was complete.")
        body += message.get("body", b"")
        if not message.get("more_body", False) and len(body) <= limit:
            return bytes(body)
    raise too_large(limit, limit_name)


def too_large(limit: int, limit_name: str) -> TooLarge:
    """The refusal that names the limit and the setting behind it."""
    return TooLarge(f"The body has more than {limit} bytes ({limit_name}).", extra={"limit": limit})
