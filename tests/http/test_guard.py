"""Who may call us from where: host and origin, over a real server."""

from typing import TYPE_CHECKING

import pytest

from hookbrook.errors import ConfigError, NotFound
from hookbrook.http.guard import MAX_KNOWN_HOSTS, Guard, Hosts, hosts_for, is_same_origin, origins_for, parse_host
from hookbrook.http.problems import App, Problems, Receive, Scope, Send
from hookbrook.http.server import Server

if TYPE_CHECKING:
    from tests.http.conftest import Net, Response

LOCAL = hosts_for("127.0.0.1", None, [])
APP = "https://app.example.com"


def request(method: str, path: str = "/v1/events", *headers: str, host: str | None = "localhost:4665") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", *headers]
    if host is not None:
        lines.append(f"Host: {host}")
    if method in ("POST", "PUT", "PATCH", "DELETE"):
        lines.append("Content-Length: 0")
    return "\r\n".join([*lines, "", ""]).encode()


async def guarded(net: "Net", app: App, *, origins: tuple[str, ...] = (APP,)) -> Server:
    return await net.serve(Guard(Problems(app), allowed_hosts=LOCAL, allowed_origins=origins))


def cors(response: "Response") -> dict[str, str]:
    return {name: value for name, value in response.headers if name.startswith("access-control-")}


# ---- hosts


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:4665", "[::1]:80", "localhost."])
async def test_the_names_of_this_machine_are_listed_when_bound_to_loopback(net: "Net", echo: App, host: str) -> None:
    assert (await net.ask(await guarded(net, echo), request("POST", host=host))).status == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.2", "a b", "", "localhost:x"])
async def test_an_unlisted_host_is_421(net: "Net", echo: App, host: str) -> None:
    response = await net.ask(await guarded(net, echo), request("GET", host=host))
    assert response.status == 421
    assert response.header("content-type") == "application/problem+json"


async def test_a_provider_may_use_any_host_and_origin(net: "Net", echo: App) -> None:
    server = await guarded(net, echo)
    hook = request("POST", "/in/stripe", "Origin: https://evil.example", host="abc.tunnel.example")
    assert (await net.ask(server, hook)).status == 200
    for path in ("/in", "/inbox", "/v1/in/x"):
        assert (await net.ask(server, request("POST", path, host="abc.tunnel.example"))).status == 421


@pytest.mark.parametrize("path", ["/v1/events", "/in/stripe"])
async def test_a_request_has_exactly_one_host(net: "Net", echo: App, path: str) -> None:
    server = await guarded(net, echo)
    assert (await net.ask(server, request("GET", path, host=None))).status == 400
    assert (await net.ask(server, request("GET", path, "Host: localhost"))).status == 400
    assert (await net.ask(server, f"GET {path} HTTP/1.0\r\n\r\n".encode())).status == 200


@pytest.mark.parametrize(
    ("entry", "host", "listed"),
    [
        ("hooks.example.com", "Hooks.Example.Com:99", True),
        ("hooks.example.com:99", "hooks.example.com:99", True),
        ("hooks.example.com:99", "hooks.example.com:98", False),
        ("hooks.example.com:99", "hooks.example.com", False),
        ("*.example.com", "a.example.com", True),
        ("*.example.com", "a.b.example.com:8", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "aexample.com", False),
        ("*.example.com:8", "a.example.com:9", False),
        ("*", "anything.example", True),
        ("*", "no host", False),
        ("[fd00::1]", "[FD00:0::1]:80", True),
        ("[fd00::1]", "[fd00::2]", False),
    ],
)
def test_an_entry_lists_names_ports_and_what_is_below(entry: str, host: str, listed: bool) -> None:
    hosts = Hosts([entry])
    assert [hosts.allow(host.encode()) for _ in range(2)] == [listed, listed]


@pytest.mark.parametrize(
    "entry", ["", "a/b", "https://a", "a:b", "a:99999", "a*b", "*.", "*.*.a", "[zz]", "bücher.example"]
)
def test_an_entry_that_is_no_host_stops_the_start(entry: str) -> None:
    with pytest.raises(ConfigError, match=r"^allowed_hosts: "):
        Hosts([entry])


def test_a_wildcard_does_not_let_anybody_fill_memory() -> None:
    hosts = Hosts(["*"])
    assert all(hosts.allow(b"h%d.example" % number) for number in range(3 * MAX_KNOWN_HOSTS))
    assert len(hosts._known) == MAX_KNOWN_HOSTS


@pytest.mark.parametrize(
    ("bound", "hosts"),
    [
        ("127.0.0.1", ("localhost", "127.0.0.1", "[::1]", "hooks.example.com:8443", "x.y")),
        ("0.0.0.0", ("localhost", "127.0.0.1", "[::1]", "hooks.example.com:8443", "x.y")),
        ("192.168.1.5", ("192.168.1.5", "hooks.example.com:8443", "x.y")),
        ("::1", ("localhost", "127.0.0.1", "[::1]", "hooks.example.com:8443", "x.y")),
        ("fd00::1", ("[fd00::1]", "hooks.example.com:8443", "x.y")),
    ],
)
def test_the_hosts_follow_from_address_public_url_and_setting(bound: str, hosts: tuple[str, ...]) -> None:
    assert hosts_for(bound, "https://hooks.example.com:8443/", ["x.y"]) == hosts


@pytest.mark.parametrize("url", ["hooks.example.com", "ftp://a", "https://", "https://user@a", "https://a:b"])
def test_a_public_url_that_is_none_stops_the_start(url: str) -> None:
    with pytest.raises(ConfigError, match=r"^public_url: "):
        hosts_for("::1", url, [])
    with pytest.raises(ConfigError, match=r"^public_url: "):
        origins_for(url, [])


@pytest.mark.parametrize("value", ["", ":80", "a:b:c", "[::1", "[::1]x", "[::1]80", "a@b", "a:123456"])
def test_what_is_no_host_is_not_parsed(value: str) -> None:
    with pytest.raises(ValueError, match=r"^"):
        parse_host(value)


# ---- origins


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "PROPFIND"])
@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost:3000", "https://localhost:4665", ""]
)
async def test_a_foreign_origin_may_not_do_anything(net: "Net", echo: App, method: str, origin: str) -> None:
    response = await net.ask(await guarded(net, echo), request(method, "/v1/events", f"Origin: {origin}"))
    assert response.status == 403
    assert cors(response) == {}


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
async def test_a_foreign_origin_may_ask_but_its_page_cannot_read(net: "Net", echo: App, method: str) -> None:
    response = await net.ask(await guarded(net, echo), request(method, "/", "Origin: https://evil.example"))
    assert response.status == 200
    assert cors(response) == {}
    assert response.header("vary") == "origin"


async def test_our_own_pages_may_post(net: "Net", echo: App) -> None:
    server = await guarded(net, echo, origins=origins_for("https://hooks.example.com", []))
    own = request("POST", "/", "Origin: http://localhost:4665", "Sec-Fetch-Site: same-origin")
    assert (await net.ask(server, own)).status == 200
    through_proxy = request("POST", "/", "Origin: https://hooks.example.com")
    assert (await net.ask(server, through_proxy)).status == 200


async def test_two_origins_are_a_foreign_one(net: "Net", echo: App) -> None:
    twice = request("POST", "/", f"Origin: {APP}", f"Origin: {APP}")
    assert (await net.ask(await guarded(net, echo), twice)).status == 403


@pytest.mark.parametrize(
    ("site", "status"), [("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)]
)
async def test_without_an_origin_the_fetch_metadata_decide(net: "Net", echo: App, site: str, status: int) -> None:
    server = await guarded(net, echo)
    assert (await net.ask(server, request("POST", "/", f"Sec-Fetch-Site: {site}"))).status == status
    assert (await net.ask(server, request("GET", "/", f"Sec-Fetch-Site: {site}"))).status == 200


@pytest.mark.parametrize(
    ("origin", "host", "same"),
    [
        (b"http://localhost:4665", b"localhost:4665", True),
        (b"http://localhost", b"localhost:80", True),
        (b"http://localhost:80", b"LOCALHOST", True),
        (b"http://localhost", b"localhost:4665", False),
        (b"https://localhost:4665", b"localhost:4665", False),
        (b"http://localhost.evil", b"localhost", False),
        (b"null", b"null", False),
        (b"http://\xff", b"localhost", False),
    ],
)
def test_an_origin_is_scheme_name_and_port(origin: bytes, host: bytes, same: bool) -> None:
    assert is_same_origin(origin, "http", host) is same


@pytest.mark.parametrize(
    "origin", ["*", "null", "app.example.com", "https://a/", "https://*.a", "ftp://a", "https://a:b"]
)
def test_an_allowed_origin_that_is_none_stops_the_start(echo: App, origin: str) -> None:
    with pytest.raises(ConfigError, match=r"^allowed_origins: "):
        origins_for(None, [origin])
    with pytest.raises(ConfigError, match=r"^allowed_origins: "):
        Guard(echo, allowed_hosts=["*"], allowed_origins=[origin])


def test_an_allowed_origin_is_written_as_a_browser_does() -> None:
    assert origins_for("https://H.example:443/path", ["http://A:80", "http://a:81"]) == (
        "https://h.example",
        "http://a",
        "http://a:81",
    )


# ---- CORS


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_listed_page_may_ask_and_read(net: "Net", echo: App, method: str) -> None:
    response = await net.ask(await guarded(net, echo), request(method, "/v1/events", f"Origin: {APP}"))
    assert response.status == 200
    assert response.header("vary") == "origin"
    assert cors(response) == {
        "access-control-allow-origin": APP,
        "access-control-allow-credentials": "true",
        "access-control-expose-headers": "location, retry-after",
    }


async def test_a_listed_page_can_read_a_refusal_too(net: "Net") -> None:
    async def refuses(scope: Scope, receive: Receive, send: Send) -> None:
        raise NotFound("no such event")

    response = await net.ask(await guarded(net, refuses), request("GET", "/", f"Origin: {APP}"))
    assert (response.status, cors(response)["access-control-allow-origin"]) == (404, APP)


async def test_a_preflight_of_a_listed_page_is_answered(net: "Net", echo: App) -> None:
    preflight = request("OPTIONS", "/v1/events", f"Origin: {APP}", "Access-Control-Request-Method: POST")
    response = await net.ask(await guarded(net, echo), preflight)
    assert response.status == 204
    assert cors(response) == {
        "access-control-allow-origin": APP,
        "access-control-allow-credentials": "true",
        "access-control-allow-methods": "GET, HEAD, POST, PUT, PATCH, DELETE",
        "access-control-allow-headers": "authorization, content-type, idempotency-key, last-event-id",
        "access-control-max-age": "600",
    }


async def test_a_preflight_of_a_foreign_page_allows_nothing(net: "Net", echo: App) -> None:
    preflight = request("OPTIONS", "/", "Origin: https://evil.example", "Access-Control-Request-Method: POST")
    response = await net.ask(await guarded(net, echo), preflight)
    assert (response.status, cors(response)) == (204, {})


async def test_a_preflight_below_the_exempt_prefix_is_the_doors_own(net: "Net", echo: App) -> None:
    preflight = request("OPTIONS", "/in/x", f"Origin: {APP}", "Access-Control-Request-Method: POST")
    assert (await net.ask(await guarded(net, echo), preflight)).status == 200


async def test_the_answer_to_nobody_in_particular_still_varies_by_origin(net: "Net", echo: App) -> None:
    assert (await net.ask(await guarded(net, echo), request("GET"))).header("vary") == "origin"
    assert (await net.ask(await guarded(net, echo, origins=()), request("GET"))).header("vary") is None
