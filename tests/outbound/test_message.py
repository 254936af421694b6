"""The request that carries an event, where the dispatcher's tests do not reach."""

import pytest

from hookbrook.core.credential import Basic, Bearer, authorization
from hookbrook.core.endpoint import Endpoint
from hookbrook.core.event import Appended, Event, NewEvent, as_event
from hookbrook.errors import Invalid
from hookbrook.outbound.message import MAX_HOPS, Letterhead, TooManyHops, hops_of

from .rig import SECRET


def event(request: bytes | None) -> Event:
    new = NewEvent(
        id="evt_1",
        channels=("a",),
        time=0,
        content_type="text/plain",
        kind="text",
        data=b"",
        request=request,
        dedupe_id="evt_1",
    )
    return as_event(new, Appended(id="evt_1", seq=1, epoch="e"), 0)


def endpoint(**settings: object) -> Endpoint:
    fields: dict[str, object] = {"secrets": (SECRET,), **settings}
    return Endpoint(id="ep_1", url="https://receiver.example/", created=0, updated=0, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("request_json", "hops"),
    [
        (None, 0),
        (b"{}", 0),
        (b'{"headers": []}', 0),
        (b'{"headers": [["a", "1"], ["hookbrook-hops", "3"]]}', 3),
        (b'{"headers": [["HookBrook-Hops", "3"], ["hookbrook-hops", "2"]]}', 3),
        (b'{"headers": {"hookbrook-hops": "4"}}', 4),
        (b'{"headers": {"hookbrook-hops": ["4", "5"]}}', 5),
        (b'{"headers": [["hookbrook-hops", "-1"]]}', 0),
        (b'{"headers": [["hookbrook-hops", "many"]]}', 0),
        ('{"headers": [["hookbrook-hops", "²"]]}'.encode(), 0),
        (b'{"headers": 7}', 0),
        (b"not JSON", 0),
    ],
)
def test_the_hops_are_read_however_a_source_wrote_its_headers(request_json: bytes | None, hops: int) -> None:
    assert hops_of(event(request_json)) == hops


def test_a_number_of_hops_without_end_is_a_loop_and_costs_nothing() -> None:
    request = b'{"headers": [["hookbrook-hops", "%s"]]}' % (b"9" * 100_000)
    with pytest.raises(TooManyHops):
        Letterhead(endpoint()).request(event(request), 0, "att_1")


def test_the_last_hop_that_is_allowed_is_sent() -> None:
    request = b'{"headers": [["hookbrook-hops", "%d"]]}' % (MAX_HOPS - 1)
    assert Letterhead(endpoint()).request(event(request), 0, "att_1").headers["hookbrook-hops"] == str(MAX_HOPS)


def test_a_secret_that_is_none_is_told_without_showing_it() -> None:
    with pytest.raises(Invalid) as caught:
        Letterhead(endpoint(secrets=("whsec_top!secret",)))
    assert "top!secret" not in str(caught.value)


def test_the_endpoints_timeout_and_url_are_the_requests() -> None:
    request = Letterhead(endpoint(timeout_s=3.5)).request(event(None), 0, "att_1")
    assert (request.method, request.url, request.total_timeout_s) == ("POST", "https://receiver.example/", 3.5)


def test_the_endpoints_own_headers_never_stand_beside_ours() -> None:
    own = {"Webhook-ID": "forged", "Content-Type": "a/b", "HookBrook-Hops": "0", "X-Own": "kept"}
    headers = Letterhead(endpoint(headers=own)).request(event(None), 0, "att_1").headers
    names = [name.lower() for name in headers]
    assert len(set(names)) == len(names)
    assert (headers["webhook-id"], headers["x-own"]) == ("evt_1", "kept")


def test_secret_headers_and_the_credential_are_sent() -> None:
    asked = endpoint(secret_headers={"X-Key": "k"}, auth=Basic(username="Aladdin", password="open sesame"))
    headers = Letterhead(asked).request(event(None), 0, "att_1").headers
    # The example of RFC 7617 section 2.
    assert (headers["x-key"], headers["authorization"]) == ("k", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")
    # And that of section 2.1, of a password beyond ASCII.
    assert authorization(Basic(username="test", password="123\u00a3")) == "Basic dGVzdDoxMjPCow=="
    assert (
        Letterhead(endpoint(auth=Bearer(token="mF_9.B5f-4.1JqM")))
        .request(event(None), 0, "att_1")
        .headers["authorization"]
        == "Bearer mF_9.B5f-4.1JqM"
    )
