"""What a real `hookbrook serve` makes of requests that are wrong in every way, while somebody else publishes.

Each gets a clear problem or a clean close, nothing of it is applied, and nobody else notices.
"""

import hashlib
import hmac
import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.e2e.conftest import Answer, Bystander, read_answer
from tests.served import PATIENCE_S, Served

Ask = Callable[[bytes], Answer | None]
Connect = Callable[[], socket.socket]

DEEP = b"[" * 100_000 + b"]" * 100_000
DEEP_OBJECT = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
SECRET = "It's a Secret to Everybody"


@pytest.fixture(scope="module", autouse=True)
def loiterers(served: Served) -> Iterator[list[tuple[str, socket.socket]]]:
    """Connections that never finish what they begin; opened first, judged last."""
    beginnings = {
        "says nothing": b"",
        "stops in the request line": b"POST /v1/chan",
        "stops in the head": b"POST /v1/channels/x HTTP/1.1\r\nhost: 127.0.0.1\r\nx: ",
        "stops in the body": b"POST /v1/channels/x HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 10\r\n\r\n12345",
        "stops in a chunk": b"POST /v1/channels/x HTTP/1.1\r\nhost: [::1]\r\ntransfer-encoding: chunked\r\n\r\nff\r\n1",
    }
    opened = []
    for name, beginning in beginnings.items():
        for _ in range(10):
            client = socket.create_connection(("127.0.0.1", served.port), timeout=PATIENCE_S)
            client.sendall(beginning)
            opened.append((name, client))
    yield opened
    for _, client in opened:
        client.close()


@pytest.fixture(autouse=True)
def undisturbed(served: Served, bystander: Bystander, logged_errors: Callable[[str], list[str]]) -> Iterator[None]:
    before = len(bystander.accepted)
    yield
    wait_for(lambda: len(bystander.accepted) > before, "the bystander's next event")
    assert bystander.troubles == []
    assert served.running
    assert logged_errors(served.log) == []


def wait_for(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.01)


def get(served: Served, target: str) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=PATIENCE_S)
    connection.request("GET", target)
    answer = connection.getresponse()
    document = json.loads(answer.read())
    connection.close()
    return document


def number_of(served: Served, channel: str) -> int:
    return len(get(served, f"/v1/channels/{channel}?limit=1000")["data"])


def post(target: str, body: bytes = b"x", *lines: bytes, host: bytes = b"127.0.0.1", method: bytes = b"POST") -> bytes:
    head = b"%b %b HTTP/1.1\r\nhost: %b\r\nconnection: close\r\n" % (method, target.encode("latin-1"), host)
    return head + b"".join(line + b"\r\n" for line in lines) + b"content-length: %d\r\n\r\n" % len(body) + body


def problem(answer: Answer | None, *statuses: int) -> Any:
    assert answer is not None, "closed without an answer"
    assert answer.status in statuses, (answer.status, answer.body[:500])
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["status"] == answer.status
    assert document["title"]
    assert document["type"].startswith("urn:hookbrook:problem:")
    return document


JSON = b"content-type: application/json"
EVENTS = "/v1/events"


@pytest.mark.parametrize(
    ("request_bytes", "statuses"),
    [
        pytest.param(post("/v1/channels/bad", b"x" * 1_048_577), (413,), id="a body over the limit"),
        pytest.param(post("/v1/channels/bad", b"{", JSON), (400,), id="bad JSON"),
        pytest.param(post(EVENTS, b"{", JSON), (400,), id="a bad event"),
        pytest.param(post(EVENTS, b"<a/>", b"content-type: text/xml"), (415,), id="a wrong content type"),
        pytest.param(post(EVENTS, b'{"channel":"bad","data":1,"id":"a\\u0000b"}', JSON), (422,), id="NUL in an id"),
        pytest.param(post(EVENTS, b'{"channel":"bad","data":1,"type":"a\\rb"}', JSON), (422,), id="CR in a type"),
        pytest.param(post(EVENTS, b'{"channel":"bad","data":"\\ud800"}', JSON), (400, 422), id="half a surrogate pair"),
        pytest.param(
            post(EVENTS, b'{"channel":"bad","data":1,"id":"\\udfff"}', JSON), (400, 422), id="half of one in an id"
        ),
        pytest.param(
            post(EVENTS, json.dumps({"channel": "bad", "data": 1, "id": "x" * 10_000}).encode(), JSON),
            (422,),
            id="a long id",
        ),
        pytest.param(
            post(EVENTS, json.dumps({"channels": ["bad"] + [f"c{n}" for n in range(2000)], "data": 1}).encode(), JSON),
            (422,),
            id="two thousand channels",
        ),
        pytest.param(post("/v1/channels/bad%00", b"x"), (422,), id="NUL in a path"),
        pytest.param(post("/v1/channels/b%C3%A4d", b"x"), (422,), id="a channel of unknown characters"),
        pytest.param(post("/v1/channels/bad\xe4", b"x"), (400, 422), id="a path that is not ASCII"),
        pytest.param(
            post("/v1/channels/bad", b"x", b"idempotency-key: \xff\xfe"), (422,), id="a header that is not UTF-8"
        ),
        pytest.param(
            post("/v1/channels/bad", b"x", b"authorization: Bearer \xff"), (401,), id="a credential that is none"
        ),
        pytest.param(
            post("/v1/channels/bad", b"x", b"cookie: hookbrook_token=\xff"), (401, 403), id="a cookie that is none"
        ),
        pytest.param(post("/v1/channels/bad?type=%ff", b"x"), (400,), id="a query that is not UTF-8"),
        pytest.param(post("/v1/channels/bad?" + "a" * 9000, b"x"), (414,), id="a huge query"),
        pytest.param(
            post("/v1/channels/bad?" + "&".join(f"a{n}" for n in range(1500)), b"x"), (400,), id="many parameters"
        ),
        pytest.param(
            post("/v1/channels/bad", b"x", *[b"a%d: b" % n for n in range(10_000)]), (431,), id="10,000 headers"
        ),
        pytest.param(post("/v1/channels/bad", b"x", b"a: " + b"x" * 40_000), (431,), id="one huge header"),
        pytest.param(post("/v1/channels/bad", b"x", host=b"evil.example"), (421,), id="a foreign Host"),
        pytest.param(
            post("/v1/channels/bad", b"x", host=b"127.0.0.1.evil.example"), (421,), id="a Host that looks like ours"
        ),
        pytest.param(post("/v1/channels/bad", b"x", b"host: localhost"), (400,), id="two Hosts"),
        pytest.param(post("/v1/channels/bad", b"x", b"origin: https://evil.example"), (403,), id="a foreign Origin"),
        pytest.param(post("/v1/channels/bad", b"x", b"origin: null"), (403,), id="an Origin of null"),
        pytest.param(post("/v1/channels/bad", b"x", b"origin: http://localhost:1"), (403,), id="another port's Origin"),
        pytest.param(post("/v1/channels/bad", b"x", b"sec-fetch-site: cross-site"), (403,), id="a cross-site request"),
        pytest.param(
            post("/v1/keys", b'{"scopes":["admin"]}', b"origin: https://evil.example"), (403,), id="keys from a page"
        ),
        pytest.param(post("/v1/channels/bad", b"x", method=b"BREW"), (400, 405), id="an unknown method"),
        pytest.param(post("/v1/channels/bad", b"x", method=b"CONNECT"), (400, 405), id="CONNECT"),
        pytest.param(post("/v1/channels/bad", b"x", b"content-length: 5"), (400,), id="two lengths"),
        pytest.param(post("/v1/channels/bad", b"x", b"transfer-encoding: chunked"), (400,), id="a length and chunks"),
        pytest.param(
            post("/v1/channels/bad", b"x", b"transfer-encoding: gzip, chunked"), (400, 501), id="an unknown coding"
        ),
        pytest.param(post("/v1/channels/bad", b"x", b"a b: c"), (400,), id="a space in a header's name"),
        pytest.param(post("/v1/channels/bad", b"x", b"a: b\rc: d"), (400,), id="a bare CR in a header"),
        pytest.param(post("/v1/channels/bad", b"x", b"a: b\x00"), (400,), id="NUL in a header"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 50, (400,), id="TLS"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400, 405, 505), id="HTTP/2"),
        pytest.param(post("/v1/events?limit=-1", b"", method=b"GET"), (422,), id="a negative limit"),
        pytest.param(post("/v1/events?limit=" + "9" * 4000, b"", method=b"GET"), (422,), id="a huge limit"),
        pytest.param(
            post("/v1/channels/bad?last=-5", b"", b"accept: text/event-stream", method=b"GET"), (422,), id="last -5"
        ),
        pytest.param(
            post("/v1/channels/bad?after=x", b"", b"accept: text/event-stream", method=b"GET"), (422,), id="no cursor"
        ),
        pytest.param(post("/v1/channels/bad?after=zzzz-1", b"", method=b"GET"), (410,), id="a foreign cursor"),
        pytest.param(post("/v1/events/%00", b"", method=b"GET"), (404,), id="NUL in an id in a path"),
        pytest.param(post("/v1/sources/%00", b"", method=b"GET"), (404,), id="NUL in a source's name"),
        pytest.param(post("/v1/deliveries?page=%00%ff", b"", method=b"GET"), (400, 422), id="a page that is none"),
        pytest.param(
            post("/v1/endpoints?limit=99999999999999999999", b"", method=b"GET"), (422,), id="a limit over 64 bits"
        ),
        pytest.param(post("/in/%00%ff", b"x"), (401, 404), id="a source that cannot be"),
        pytest.param(post("/in/" + "x" * 4000, b"x"), (401, 404), id="a source with a long name"),
        pytest.param(
            post("/v1/sources", b'{"name":"\\ud800","provider":"github"}', JSON), (400, 422), id="half a pair in a name"
        ),
        pytest.param(
            post("/v1/endpoints", b'{"url":"http://169.254.169.254/"}', JSON), (422,), id="a link-local endpoint"
        ),
        pytest.param(
            post("/v1/endpoints", b'{"url":"https://a\\r\\nb/"}', JSON), (422,), id="a CR in an endpoint's URL"
        ),
        pytest.param(
            post("/v1/tokens", b'{"subscribe":["*"],"lifetime_s":1e400}', JSON), (400, 422), id="an endless token"
        ),
        pytest.param(
            post("/v1/tokens", b'{"subscribe":["*"],"lifetime_s":-1}', JSON), (422,), id="a token of the past"
        ),
        pytest.param(
            post("/v1/keys", b'{"scopes":[' + b'"x",' * 9000 + b'"x"]}', JSON), (422,), id="9,001 scopes that are none"
        ),
    ],
)
def test_a_request_that_is_wrong_gets_a_problem(
    served: Served, bystander: Bystander, ask: Ask, request_bytes: bytes, statuses: tuple[int, ...]
) -> None:
    problem(ask(request_bytes), *statuses)
    assert number_of(served, "bad") == 0


@pytest.mark.parametrize("deep", [DEEP, DEEP_OBJECT], ids=["arrays", "objects"])
@pytest.mark.parametrize(
    ("target", "wrap", "content_type"),
    [
        ("/v1/channels/deep", b"%b", b"application/json"),
        (EVENTS, b"%b", b"application/json"),
        (EVENTS, b'{"channel":"deep","data":%b}', b"application/json"),
        (EVENTS, b'[{"channel":"deep","data":%b}]', b"application/json"),
        (EVENTS, b'{"channel":"deep","data":%b}\n', b"application/x-ndjson"),
        (
            EVENTS,
            b'{"specversion":"1.0","id":"1","source":"a","type":"b","subject":"deep","data":%b}',
            b"application/cloudevents+json",
        ),
        (
            EVENTS,
            b'{"specversion":"1.0","id":"1","source":"a","type":"b","subject":"deep","x":%b}',
            b"application/cloudevents+json",
        ),
        ("/v1/sources", b"%b", b"application/json"),
        ("/v1/endpoints", b'{"url":"https://example.com","metadata":%b}', b"application/json"),
        ("/v1/keys", b'{"scopes":%b}', b"application/json"),
        ("/v1/tokens", b'{"subscribe":%b}', b"application/json"),
    ],
)
def test_json_nested_without_end_is_refused_at_every_door(
    served: Served, bystander: Bystander, ask: Ask, target: str, wrap: bytes, content_type: bytes, deep: bytes
) -> None:
    problem(ask(post(target, wrap.replace(b"%b", deep), b"content-type: " + content_type)), 400, 413, 422)
    assert number_of(served, "deep") == 0


def test_deep_json_without_a_label_is_text(served: Served, bystander: Bystander, ask: Ask) -> None:
    answer = ask(post("/v1/channels/deep-text", DEEP))
    assert answer is not None
    assert answer.status == 201
    assert get(served, "/v1/channels/deep-text")["data"][0]["content_type"].startswith("text/plain")


@pytest.mark.parametrize("provider", ["github", "stripe", "zoom", "slack", "standard-webhooks"])
def test_a_webhook_of_deep_json_is_refused_or_kept_and_never_an_error(
    served: Served, bystander: Bystander, ask: Ask, provider: str
) -> None:
    name = f"deep-{provider}"
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" if provider in ("stripe", "standard-webhooks") else SECRET
    source = {"name": name, "provider": provider, "secrets": [secret]}
    made = ask(post("/v1/sources", json.dumps(source).encode(), JSON))
    assert made is not None
    assert made.status == 201, made.body
    problem(ask(post(f"/in/{name}", DEEP_OBJECT, JSON)), 400, 401, 422)
    if provider == "github":
        signature = hmac.new(SECRET.encode(), DEEP_OBJECT, hashlib.sha256).hexdigest().encode()
        headers = (JSON, b"x-hub-signature-256: sha256=" + signature, b"x-github-event: push", b"x-github-delivery: 1")
        answer = ask(post(f"/in/{name}", DEEP_OBJECT, *headers))
        assert answer is not None
        assert answer.status in (200, 202)


def test_the_same_id_with_other_content_is_a_conflict(served: Served, bystander: Bystander, ask: Ask) -> None:
    first = ask(post("/v1/channels/conflict", b"one", b"idempotency-key: same"))
    assert first is not None
    assert first.status == 201
    problem(ask(post("/v1/channels/conflict", b"two", b"idempotency-key: same")), 409)
    assert number_of(served, "conflict") == 1


def test_an_endless_body_without_a_length_is_cut_off(served: Served, bystander: Bystander, connect: Connect) -> None:
    client = connect()
    client.sendall(b"POST /v1/channels/endless HTTP/1.1\r\nhost: 127.0.0.1\r\ntransfer-encoding: chunked\r\n\r\n")
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    sent = 0
    # The refusal stands in our buffer while we still write; a client that reads late must find it there.
    while sent < 20 * 2**20 and not readable(client):
        client.sendall(chunk)
        sent += len(chunk)
    assert sent < 20 * 2**20
    assert problem(read_answer(client), 413)["limit"] == 1_048_576
    assert number_of(served, "endless") == 0


def test_a_hundred_megabytes_of_headers_are_refused_within_bounded_memory(
    served: Served, bystander: Bystander, connect: Connect
) -> None:
    before = served.resident_bytes()
    for line in (b"a: " + b"x" * 1000 + b"\r\n", b"x" * 1000):
        client = connect()
        client.sendall(b"POST /v1/channels/bad HTTP/1.1\r\nhost: 127.0.0.1\r\n")
        try:
            for _ in range(100):
                client.sendall(line * 1000)
        except ConnectionError:
            # Cut off after a while of not listening, which is as it should be.
            continue
        answer = read_answer(client)
        assert answer is None or problem(answer, 400, 431)
    assert served.resident_bytes() - before < 30 * 2**20


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"TLS/1.3, HTTP/2.0"])
def test_an_upgrade_of_a_post_is_ignored_and_its_body_kept(
    served: Served, bystander: Bystander, ask: Ask, protocol: bytes
) -> None:
    headers = (
        b"connection: upgrade, http2-settings",
        b"upgrade: " + protocol,
        b"http2-settings: AAMAAABkAARAAAAAAAIAAAAA",
    )
    request = post(f"/v1/channels/upgrade-{len(protocol)}", b"the body", *headers).replace(
        b"connection: close\r\n", b"", 1
    )
    answer = ask(request.replace(b"connection: upgrade", b"connection: close, upgrade"))
    assert answer is not None
    assert answer.status == 201
    assert get(served, f"/v1/channels/upgrade-{len(protocol)}")["data"][0]["data"] == "the body"


def test_a_page_elsewhere_can_neither_read_nor_write_in_dev(served: Served, bystander: Bystander, ask: Ask) -> None:
    origin = b"origin: https://evil.example"
    preflight = (origin, b"access-control-request-method: POST", b"access-control-request-headers: content-type")
    answer = ask(post(EVENTS, b"", *preflight, method=b"OPTIONS"))
    assert answer is not None
    assert "access-control-allow-origin" not in answer.headers
    read_by_page = ask(post(EVENTS, b"", origin, method=b"GET"))
    assert read_by_page is not None
    assert "access-control-allow-origin" not in read_by_page.headers
    same = ask(
        post("/v1/channels/own", b"x", b"origin: http://127.0.0.1:%d" % served.port, host=b"127.0.0.1:%d" % served.port)
    )
    assert same is not None
    assert same.status == 201


def test_a_foreign_host_gets_in_only_where_webhooks_arrive(served: Served, bystander: Bystander, ask: Ask) -> None:
    for target in ("/v1/events", "/healthz", "/metrics", "/docs", "/openapi.json", "/", "/v1/stream?channel=*"):
        problem(ask(post(target, b"", method=b"GET", host=b"evil.example")), 421)
    problem(ask(post("/in/none", b"x", host=b"tunnel.example")), 401)


def test_a_client_that_leaves_at_any_byte_leaves_nothing_half_done(
    served: Served, bystander: Bystander, connect: Connect
) -> None:
    body = b'[{"channel":"left","data":1},{"channel":"left","data":2}]'
    request = post(EVENTS, body, JSON)
    for length in range(1, len(request), 7):
        client = connect()
        client.sendall(request[:length])
        client.close()
    assert number_of(served, "left") == 0


def test_who_never_finishes_is_sent_away_and_holds_up_nobody(
    served: Served, bystander: Bystander, loiterers: list[tuple[str, socket.socket]]
) -> None:
    """The last test of this file: by now they have had most of their ten seconds."""
    for name, client in loiterers:
        answer = read_answer(client)
        if name == "says nothing":
            assert answer is None
        else:
            problem(answer, 408)
    assert number_of(served, "x") == 0
    # Somebody is served within a second even on a busy machine, whatever the others did.
    assert bystander.slowest_s < 5


def test_every_event_that_was_acknowledged_meanwhile_is_there(served: Served, bystander: Bystander) -> None:
    accepted = list(bystander.accepted)
    found: list[str] = []
    target = "/v1/channels/bystander?limit=1000"
    following: str | None = ""
    while following is not None:
        page = get(served, f"{target}&page={following}" if following else target)
        found += [event["id"] for event in page["data"]]
        following = page["next"]
    assert found[: len(accepted)] == accepted


def readable(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return bool(client.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False
    finally:
        client.settimeout(PATIENCE_S)
