"""Several events in one request: each its own bytes, id and type; what is not of the form stays one event."""

from collections.abc import Mapping
from hashlib import sha256
from urllib.parse import urlencode

import pytest

from hookbrook.inbound.batch import MAX_EVENTS, dedupe_ids, split
from hookbrook.inbound.recipe import Row
from hookbrook.inbound.request import Request

FORM = [(b"Content-Type", b"application/x-www-form-urlencoded"), (b"x-other", b"1")]


def bodies(row: Row, request: Request) -> list[bytes] | None:
    events = split(row, request)
    return None if events is None else [event.body for event in events]


@pytest.mark.parametrize(
    ("provider", "body", "expected"),
    [
        ("sendgrid", b'[{"n":1E400}, {"n" : 2,"n":3}]', [b'{"n":1E400}', b'{"n" : 2,"n":3}']),
        ("sendgrid", b"[]", []),
        ("sendgrid", b"[1]", [b"1"]),
        ("gocardless", b'{"events":[{"id":"EV1"}],"meta":{}}', [b'{"id":"EV1"}']),
        ("okta", b'{"data":{"events":[{"uuid":"a"},{"uuid":"b"}]}}', [b'{"uuid":"a"}', b'{"uuid":"b"}']),
        ("line", b'{"destination":"x","events":[]}', []),
    ],
)
def test_each_element_keeps_its_bytes(
    rows: Mapping[str, Row], provider: str, body: bytes, expected: list[bytes]
) -> None:
    assert bodies(rows[provider], Request(method="POST", body=body)) == expected


def test_events_can_stand_in_a_field_of_a_form(rows: Mapping[str, Row]) -> None:
    body = urlencode({"mandrill_events": '[{"event":"open","x":"é"}]'}).encode()
    [event] = split(rows["mandrill"], Request(method="POST", headers=FORM, body=body)) or []
    assert event.body == '{"event":"open","x":"é"}'.encode()
    assert event.headers == [(b"x-other", b"1")], "an element is no form"
    assert rows["mandrill"].type.render(event.document) == "open"


@pytest.mark.parametrize(
    ("provider", "body"),
    [
        ("github", b"[1]"),
        ("sendgrid", b""),
        ("sendgrid", b'{"a":1}'),
        ("sendgrid", b"[1"),
        ("sendgrid", b"[" * 100_000),
        ("sendgrid", b"[" + b"1," * MAX_EVENTS + b"1]"),
        ("gocardless", b'{"event":[]}'),
        ("gocardless", b'{"events":{}}'),
        ("okta", b'{"data":[]}'),
        ("mandrill", b"mandrill_events=%5B%5D"),
    ],
)
def test_what_is_not_of_the_form_stays_one_event(rows: Mapping[str, Row], provider: str, body: bytes) -> None:
    assert split(rows[provider], Request(method="POST", body=body)) is None


def test_an_event_is_known_by_its_own_id_or_else_by_its_place_in_the_body(rows: Mapping[str, Row]) -> None:
    body = b'[{"sg_event_id":"a"},{"event":"open"},{"event":"open"}]'
    whole = Request(method="POST", body=body)
    events = split(rows["sendgrid"], whole)
    assert events is not None
    digest = sha256(body).hexdigest()
    assert dedupe_ids(rows["sendgrid"], whole, events) == ["a", f"sha256:{digest}.1", f"sha256:{digest}.2"]


def test_an_id_can_be_made_of_several_members(rows: Mapping[str, Row]) -> None:
    whole = Request(method="POST", body=b'[{"eventId":1,"subscriptionId":2,"occurredAt":3},{"eventId":1}]')
    events = split(rows["hubspot"], whole)
    assert events is not None
    first, second = dedupe_ids(rows["hubspot"], whole, events)
    assert first == "1:2:3"
    assert second.startswith("sha256:")
