"""The webhook itself: the request that carries one event to one endpoint (Standard Webhooks 1.0).

Headers, all in lower case:

    webhook-id          the event's id; the same for every attempt and every endpoint
    webhook-timestamp   seconds since 1970 of this attempt
    webhook-signature   `v1,BASE64` or `v1a,BASE64`, once for each key of the endpoint's that is valid now, separated by
                        spaces
    svix-id, …          the same three under their older names, where the endpoint asks for them
    content-type        the event's
    user-agent          hookbrook/VERSION
    hookbrook-type      the event's type, which a receiver of raw bytes could not know otherwise
    hookbrook-attempt   the id of this attempt, by which the delivery's history shows it
    hookbrook-hops      how many times the event has left a Hookbrook; stops loops through `/in/`

The body is the event's data, byte for byte, unless the endpoint asks for another (`body`); what is signed is what is
sent.
"""

from binascii import b2a_base64
from importlib.metadata import version
from typing import Final

import msgspec

from hookbrook.core.credential import authorization
from hookbrook.core.endpoint import Endpoint
from hookbrook.core.event import Event
from hookbrook.core.fetch import Request
from hookbrook.core.rotation import keys_of
from hookbrook.outbound.body import Unfit, body_of

HOPS_HEADER: Final = "hookbrook-hops"
TYPE_HEADER: Final = "hookbrook-type"
ATTEMPT_HEADER: Final = "hookbrook-attempt"
USER_AGENT: Final = f"hookbrook/{version('hookbrook')}"

#: Nobody chains more gateways than this on purpose, and a loop is caught before it has done much harm.
MAX_HOPS: Final = 8

_US: Final = 1_000_000


class TooManyHops(Unfit):
    """The event has been through so many gateways that it must be going round in a circle."""

    code = "loop"

    def __init__(self, hops: int) -> None:
        super().__init__(
            f"The event has already left a gateway {hops} times; more than {MAX_HOPS} is taken for a loop."
        )


class Letterhead:
    """What all webhooks to one endpoint have in common, made once: its keys, URL, own headers and limits.

    Raises `Invalid` if a secret is none.
    """

    __slots__ = ("_endpoint", "_headers", "_keys")

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._keys = keys_of(endpoint)
        # Lower case, so that ours, which are added last, replace the endpoint's whatever their case.
        own = {**endpoint.headers, **endpoint.secret_headers}
        self._headers = {name.lower(): value for name, value in own.items()}
        if endpoint.auth is not None:
            self._headers["authorization"] = authorization(endpoint.auth)
        self._headers["user-agent"] = USER_AGENT

    def request(self, event: Event, sent_at: int, attempt_id: str) -> Request:
        """The request of an attempt at `sent_at`, in seconds since 1970. Raises `Unfit`."""
        hops = hops_of(event) + 1
        if hops > MAX_HOPS:
            raise TooManyHops(hops - 1)
        body = body_of(event, self._endpoint)
        signature = self._signature(event.id, body.content, sent_at)
        headers = {
            **self._headers,
            "content-type": body.content_type,
            **body.headers,
            "webhook-id": event.id,
            "webhook-timestamp": str(sent_at),
            "webhook-signature": signature,
        }
        if self._endpoint.svix_headers:
            headers |= {"svix-id": event.id, "svix-timestamp": str(sent_at), "svix-signature": signature}
        headers[TYPE_HEADER] = event.type
        headers[ATTEMPT_HEADER] = attempt_id
        headers[HOPS_HEADER] = str(hops)
        return Request(
            url=self._endpoint.url,
            headers=headers,
            body=body.content,
            connect_timeout_s=self._endpoint.connect_timeout_s,
            total_timeout_s=self._endpoint.timeout_s,
        )

    def _signature(self, event_id: str, body: bytes, sent_at: int) -> str:
        # Standard Webhooks 1.0, "Signature scheme": the signed content is `{id}.{timestamp}.{body}`.
        signed = b"%b.%d.%b" % (event_id.encode(), sent_at, body)
        now = sent_at * _US
        return " ".join(
            [
                f"{key.signer.version},{b2a_base64(key.signer.sign(signed), newline=False).decode()}"
                for key in self._keys
                if key.signs_at(now)
            ]
        )


class _Received(msgspec.Struct):
    """As much of a source's `request` document as is needed here; its headers may be pairs or an object."""

    headers: list[tuple[str, str]] | dict[str, str | list[str]] = []


_received = msgspec.json.Decoder(_Received)


def hops_of(event: Event) -> int:
    """How often the event had left a gateway before it arrived at ours; 0 if nothing says so.

    Only what a source received can tell; a header that is no number was not written by a Hookbrook and counts as 0.
    """
    if event.request is None:
        return 0
    try:
        headers = _received.decode(event.request).headers
    except msgspec.DecodeError:
        return 0
    pairs = headers.items() if isinstance(headers, dict) else headers
    counts = [_count(value) for name, value in pairs if name.lower() == HOPS_HEADER]
    return max(counts, default=0)


def _count(value: str | list[str]) -> int:
    if isinstance(value, list):
        return max(map(_count, value), default=0)
    # The length keeps `int` away from endless digits; anything that long is over the limit.
    return int(value[:9]) if value.isascii() and value.isdigit() else 0
