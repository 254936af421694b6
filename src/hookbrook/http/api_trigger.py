"""`POST /v1/sources/{source}/trigger`: a sample webhook, signed by the source's own secret, through the source's door.

Secrets cannot be read back, so whoever wants to see a webhook arrive without its provider lets the server sign. It goes
the whole way, through verification, dedupe and the commit, and is kept with a header that says who sent it. It stands
for the provider's word, so only administrators may.
"""

from typing import Annotated, Final

from fastapi import APIRouter, Depends
from pydantic import Field

from hookbrook.core.source import Source
from hookbrook.errors import Conflict, Invalid
from hookbrook.http.auth import Principal
from hookbrook.http.gateway import Gateway
from hookbrook.http.ingest import OURS, PREFIX
from hookbrook.http.models import Model
from hookbrook.http.problems import App, Message, Problems
from hookbrook.http.request import admin_of, owned
from hookbrook.inbound import sample
from hookbrook.inbound.recipe import VERIFY_TOKEN, PublicKey, Row, Unsigned
from hookbrook.inbound.request import Request
from hookbrook.inbound.sign import sign

#: Says in the log that this one did not come from the provider, and whose doing it was.
TRIGGERED_BY: Final = b"hookbrook-triggered-by"
#: Bytes that make a sample unlike every other.
SEED_BYTES: Final = 16

Admin = Annotated[Principal, Depends(admin_of)]


class TriggerIn(Model):
    """A sample of ours, or a webhook of your own."""

    type: str | None = Field(default=None, description="A sample's type.", examples=["invoice.paid"])
    headers: dict[str, str] = Field(default={}, description="With `body`: its headers, without a signature.")
    body: str | None = Field(default=None, description="The raw body, as text.")


class TriggerOut(Model):
    """What the source's door has answered."""

    status: int
    body: str


class Trigger:
    def __init__(self, gateway: Gateway, ingest: App) -> None:
        """`ingest` is the door that providers come through."""
        self._gateway = gateway
        self._ingest = ingest
        self._samples = sample.load()

    def router(self) -> APIRouter:
        router = APIRouter(tags=["sources"])
        router.add_api_route(
            "/v1/sources/{source_id}/trigger", self.trigger, methods=["POST"], summary="Send a sample to a source"
        )
        return router

    async def trigger(self, source_id: str, admin: Admin, body: TriggerIn) -> TriggerOut:
        """Answers with what the source's door has answered."""
        source, row = await self._find(source_id, admin)
        now = self._gateway.clock() / 1_000_000
        request = self._request(body, row, self._url(source), now)
        id_ = f"msg_{self._gateway.random(12).hex()}"
        signed = sign(row, _secret(source, row), request, now=now, id_=id_)
        return await self._send(source, signed, admin)

    async def _find(self, source_id: str, admin: Principal) -> tuple[Source, Row]:
        found = await self._gateway.store.get(Source, source_id) or self._gateway.catalog.sources.get(source_id)
        source = owned(found, admin, "source")
        if not source.enabled:
            raise Conflict("This source is disabled.")
        row = self._gateway.providers.get(source.provider)
        if row is None:
            raise Conflict(f"Its provider {source.provider} is no longer declared.")
        return source, row

    def _url(self, source: Source) -> str:
        base = source.public_url or self._gateway.settings.base_url
        return f"{base}{PREFIX}{source.name}"

    def _request(self, body: TriggerIn, row: Row, url: str, now: float) -> Request:
        if (body.type is None) == (body.body is None):
            raise Invalid.of("type", "give either the type of a sample, or a body")
        if body.body is not None:
            headers = [_header(name, value) for name, value in body.headers.items()]
            return Request(method="POST", url=url, headers=headers, body=body.body.encode("utf-8", "replace"))
        known = self._samples.get(row.id, {})
        if body.type is None or body.type not in known:
            there = f"there are {', '.join(known)}" if known else "there is none of this provider; give a body"
            raise Invalid.of("type", f"no sample has this name; {there}")
        return sample.request_of(known[body.type], url=url, now=now, seed=self._gateway.random(SEED_BYTES))

    async def _send(self, source: Source, request: Request, admin: Principal) -> TriggerOut:
        path = PREFIX + source.name
        by = f"{admin.kind} {admin.subject}".encode("latin-1", "replace")
        length = b"%d" % len(request.body)
        scope = {
            "type": "http",
            "method": request.method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": request.query,
            "headers": [
                *((name.lower(), value) for name, value in request.headers),
                (b"content-length", length),
                (TRIGGERED_BY, by),
            ],
            "client": None,
            OURS: True,
        }
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": request.body, "more_body": False}

        async def send(message: Message) -> None:
            sent.append(message)

        await Problems(self._ingest)(scope, receive, send)
        answer = b"".join(message.get("body", b"") for message in sent)
        return TriggerOut(status=sent[0]["status"], body=answer.decode("utf-8", "replace"))


def _secret(source: Source, row: Row) -> str:
    if isinstance(row.verify, Unsigned):
        return ""
    if isinstance(row.verify, PublicKey):
        raise Conflict(
            f"{row.title} signs by a private key, and a source holds only its public half. Sign by your own."
        )
    usable = [secret for secret in source.secrets if not secret.startswith(VERIFY_TOKEN)]
    if not usable:
        raise Conflict("This source has no secret to sign by.")
    return usable[0]


def _header(name: str, value: str) -> tuple[bytes, bytes]:
    try:
        pair = name.lower().encode("ascii"), value.strip().encode("latin-1")
    except UnicodeEncodeError:
        raise Invalid.of(f"headers.{name[:100]}", "has characters that a header cannot have") from None
    if not name or not all(character.isalnum() or character in "-_." for character in name):
        raise Invalid.of(f"headers.{name[:100]}", "is no header name")
    if any(byte < 0x20 and byte != 0x09 for byte in pair[1]):
        raise Invalid.of(f"headers.{name[:100]}", "has characters that a header cannot have")
    return pair
