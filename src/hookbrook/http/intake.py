"""A source as the door uses it: its row, secrets and templates worked out once, and asked for every request.

Judging takes time in proportion to the body and touches nothing but its arguments, so that a thread can do it for a
large one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from typing import Final

import msgspec

from hookbrook.core import received
from hookbrook.core.channel import DEFAULT_TYPE
from hookbrook.core.event import (
    BINARY_TYPE,
    JSON_TYPE,
    MAX_CONTENT_TYPE_LENGTH,
    Kind,
    NewEvent,
    format_time,
    is_json,
    is_json_type,
    is_utf8,
)
from hookbrook.core.ids import ID_BYTES, new_id
from hookbrook.core.received import HIDDEN
from hookbrook.core.registration import parse_networks
from hookbrook.core.source import Source
from hookbrook.inbound.batch import dedupe_ids, split
from hookbrook.inbound.certificate import address
from hookbrook.inbound.challenge import Reply, answer
from hookbrook.inbound.place import HeaderPlace, QueryPlace
from hookbrook.inbound.recipe import Certificate, Row, Token
from hookbrook.inbound.request import PRIVATE_HEADERS, Request
from hookbrook.inbound.template import MISSING, Template
from hookbrook.inbound.verdict import Reason, Verdict
from hookbrook.inbound.verify import Verifier, dedupe_id, shown_id

#: Our own channel of what was kept although it failed verification.
UNVERIFIED_CHANNEL: Final = "hookbrook.unverified."
#: Content types that are remembered with what they are; there are a dozen in use.
MAX_LABELS: Final = 256


# Structs: one of each is made for every request, and a frozen dataclass costs five times as much.
class Arrival(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is known of a request beside its bytes."""

    #: Microseconds since the Unix epoch.
    at: int
    path: str
    #: The client's address, as far as it can be believed.
    address: str | None
    #: Whether we have sent it ourselves, for an administrator; then no address is asked for.
    is_ours: bool = False


class Judged(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a request turned out to be: a handshake with its reply, or events; neither if it is refused."""

    verdict: Verdict
    reply: Reply | None = None
    events: Sequence[NewEvent] | None = None
    #: The events came as a list, of which there may also be one, or none.
    batch: bool = False


class Intake:
    """Immutable. `random` gives so many random bytes."""

    def __init__(self, source: Source, row: Row, random: Callable[[int], bytes]) -> None:
        self.source = source
        self.row = row
        self._random = random
        self._verifier = Verifier(row, source.secrets)
        #: What the record of a request says that has passed.
        self._judged = self._judgement(self._verifier.reason, row.covers)
        self._networks = parse_networks(source.networks)
        self._channel = _template(source.channel, MISSING)
        self._type = _template(source.type, DEFAULT_TYPE)
        self._dedupe = _template(source.dedupe, MISSING)
        seconds = row.dedupe_window_s if source.dedupe_window_s is None else source.dedupe_window_s
        self._window_us = round(seconds * 1_000_000)
        self.needs_certificate = isinstance(row.verify, Certificate)
        #: Whether its provider wants a 204, which has no length.
        self.answers_nothing = row.acknowledge is not None and row.acknowledge.status == 204
        #: Whether the address by which the provider knows us is a part of what it signs.
        self.needs_url = "url" in row.covers
        #: Names of the body's members that are looked at on the way in; None: all of it.
        self.members = _members(row, [self._channel, self._type, self._dedupe])
        self._private, self._private_parameters = _private(row)

    def certificate_address(self, request: Request) -> str | None:
        """Where the certificate lies that the request names, if its provider signs by one."""
        recipe = self.row.verify
        return address(recipe, self.source.secrets, request) if isinstance(recipe, Certificate) else None

    def judge(self, request: Request, arrival: Arrival, certificate: bytes | None) -> Judged:
        row, source = self.row, self.source
        verdict = self._verifier.verify(request, now=arrival.at / 1_000_000, certificate=certificate)
        # After the signature, so that an address outside is told from a bad signature by nothing.
        if verdict.ok and self._networks and not arrival.is_ours and not self._is_within(arrival.address):
            verdict = Verdict(ok=False, reason=Reason.NETWORK, detail="No signature matches.")
        reply = answer(row, source.secrets, request, verdict) if row.challenges else None
        if reply is not None:
            return Judged(verdict=verdict, reply=reply)
        if not verdict.ok and source.enforce:
            return Judged(verdict=verdict)
        record = self._record(request, verdict, arrival)
        events = split(row, request) if row.split and verdict.ok else None
        if events is None:
            id_ = self._known_by(request) or verdict.dedupe_id or dedupe_id(row, request)
            type_ = verdict.event_type or row.type.name_for(request)
            return Judged(verdict=verdict, events=[self._event(request, verdict, arrival, record, id_, type_)])
        made = [
            self._event(event, verdict, arrival, record, self._known_by(event) or id_, row.type.name_for(event))
            for event, id_ in zip(events, dedupe_ids(row, request, events), strict=True)
        ]
        records = received.in_batch(record, [event.id for event in made], request.body)
        placed = [msgspec.structs.replace(event, request=each) for event, each in zip(made, records, strict=True)]
        return Judged(verdict=verdict, events=placed, batch=True)

    def _is_within(self, text: str | None) -> bool:
        try:
            found = ip_address(text or "")
        except ValueError:
            return False  # a socket without an address is no network's
        mapped = getattr(found, "ipv4_mapped", None) or found
        return any(mapped in network for network in self._networks)

    def _known_by(self, request: Request) -> str | None:
        if self._dedupe is None:
            return None
        text = self._dedupe.text_of(request.document_of(self._dedupe.reads))
        return None if text is None else shown_id(text.encode("utf-8", "replace"))

    def _event(
        self, request: Request, verdict: Verdict, arrival: Arrival, record: bytes, id_: str, type_: str
    ) -> NewEvent:
        source = self.source
        label = _label_of(request)
        if self._type is not None:
            type_ = self._type.name_for(request)
        if not verdict.ok:
            channel = UNVERIFIED_CHANNEL + source.name
        elif self._channel is not None:
            channel = self._channel.name_for(request)
        else:
            channel = source.name
        event_id = new_id("evt", arrival.at, self._random(ID_BYTES))
        return NewEvent(
            id=event_id,
            channels=(channel,),
            type=type_,
            tenant=source.tenant,
            source=source.name,
            time=arrival.at,
            content_type=label.text,
            kind=_kind(label, request),
            data=request.body,
            request=record,
            scope=source.id if verdict.ok else f"{source.id}:unverified",
            dedupe_id=id_ if self._window_us else event_id,
            window_us=self._window_us,
            fresh=not self._window_us,
        )

    def _record(self, request: Request, verdict: Verdict, arrival: Arrival) -> bytes:
        """The request as it is kept beside the body; header values as received, but for credentials."""
        query = request.query.decode("latin-1")
        if self._private_parameters and self._private_parameters & request.query_fields.keys():
            query = HIDDEN
        return received.record(
            (request.method, arrival.path, query),
            received.headers_json(request.headers, self._private, request.distinct),
            address=arrival.address,
            received_at=_moment(arrival.at),
            judged=self._judged if verdict.ok else self._judgement(verdict.reason, ()),
        )

    def _judgement(self, reason: Reason, covers: Sequence[str]) -> bytes:
        return received.judgement(
            verified=reason is Reason.VERIFIED, reason=str(reason), covers=covers, provider=self.row.id
        )


def _moment(time_us: int) -> str:
    """As `format_time`, whose greater part is the same for a second."""
    second, rest = divmod(time_us, 1_000_000)
    if not rest % 1000:
        return format_time(time_us)
    # Sliced, since asking for leading zeros costs three times as much.
    return f"{_second(second)}.{str(rest + 1_000_000)[1:]}Z"


@lru_cache(4)
def _second(second: int) -> str:
    return format_time(second * 1_000_000).removesuffix("Z")


def _template(text: str | None, missing: str) -> Template | None:
    return None if text is None else Template.compile(text, missing=missing)


def _members(row: Row, templates: Sequence[Template | None]) -> frozenset[str] | None:
    names = row.members
    for template in templates:
        if template is not None:
            found = template.reads.body
            names = None if names is None or found is None else names | found
    return names


def _private(row: Row) -> tuple[frozenset[bytes], frozenset[str]]:
    """Headers and parameters that show the source's secret as it is."""
    if not isinstance(row.verify, Token):
        return PRIVATE_HEADERS, frozenset()
    places = row.verify.places
    return (
        PRIVATE_HEADERS | {place.key for place in places if isinstance(place, HeaderPlace)},
        frozenset(place.name for place in places if isinstance(place, QueryPlace)),
    )


@dataclass(frozen=True, slots=True)
class _Label:
    """A content type, and whether it stands for JSON."""

    text: str
    is_json: bool


_JSON: Final = _Label(JSON_TYPE, is_json=True)
_BINARY: Final = _Label(BINARY_TYPE, is_json=False)


def _label_of(request: Request) -> _Label:
    """The label as received, if it is one; unlabelled bytes are looked at."""
    values = request.header(b"content-type")
    return (_label(values[0]) if values else None) or (_JSON if is_json(request.body) else _BINARY)


@lru_cache(MAX_LABELS)
def _label(value: bytes) -> _Label | None:
    text = value.decode("latin-1")
    if not text or len(text) > MAX_CONTENT_TYPE_LENGTH or not (text.isascii() and text.isprintable()):
        return None
    return _Label(text, is_json_type(text))


def _kind(label: _Label, request: Request) -> Kind:
    """As `core.event.kind_of`; a body that was already walked over from end to end is not walked over again."""
    if not is_utf8(request.body):
        return "binary"
    if label.is_json and (request.is_walked or is_json(request.body)):
        return "json"
    return "text"
