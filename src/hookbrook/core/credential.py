"""What an endpoint's receiver wants to see before it takes a webhook: HTTP basic or bearer authentication."""

import re
from base64 import b64encode
from typing import Final

import msgspec

from hookbrook.core.headers import MAX_VALUE_LENGTH
from hookbrook.errors import Invalid

MAX_PART_LENGTH: Final = 1024

# RFC 7617 section 2: neither part may hold control characters.
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# RFC 6750 section 2.1 has fewer characters; issuers have more, and a header can carry all of these.
_TOKEN = re.compile(r"[\x21-\x7e]+", re.ASCII)


class Basic(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="basic"):
    """RFC 7617."""

    username: str
    password: str


class Bearer(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="bearer"):
    """RFC 6750."""

    token: str


Credential = Basic | Bearer


def check_credential(credential: Credential, field: str = "auth") -> None:
    """Raises `Invalid`, which never repeats a value."""
    if isinstance(credential, Bearer):
        # With the scheme before it.
        if len(credential.token) > MAX_VALUE_LENGTH - len("Bearer "):
            raise Invalid.of(f"{field}.token", f"may have at most {MAX_VALUE_LENGTH - len('Bearer ')} characters")
        if not _TOKEN.fullmatch(credential.token):
            raise Invalid.of(f"{field}.token", "must be visible ASCII characters without spaces")
        return
    for name, text in (("username", credential.username), ("password", credential.password)):
        if len(text) > MAX_PART_LENGTH:
            raise Invalid.of(f"{field}.{name}", f"may have at most {MAX_PART_LENGTH} characters")
        if _CONTROL.search(text) or not text.isprintable():
            raise Invalid.of(f"{field}.{name}", "may contain no control characters")
    # RFC 7617 section 2: the first colon ends the user's name.
    if ":" in credential.username:
        raise Invalid.of(f"{field}.username", "may contain no colon")


def authorization(credential: Credential) -> str:
    """The value of the `Authorization` header."""
    if isinstance(credential, Bearer):
        return f"Bearer {credential.token}"
    # RFC 7617 section 2.1: UTF-8 is what receivers expect today.
    pair = f"{credential.username}:{credential.password}".encode()
    return f"Basic {b64encode(pair).decode()}"
