"""Where a request comes from, as far as it can be believed."""

import pytest

from hookbrook.core.addresses import parse_rules
from hookbrook.http.proxies import MAX_HOPS, Proxies

TRUSTED = ["127.0.0.1/32", "10.0.0.0/8", "2001:db8::/32"]


def client_of(peer: str | None, *forwarded: str, trusted: list[str] = TRUSTED) -> str:
    headers = [(b"x-forwarded-for", value.encode("latin-1")) for value in forwarded]
    return Proxies(parse_rules(trusted)).client_of(
        {"client": None if peer is None else (peer, 1), "headers": [(b"host", b"x"), *headers]}
    )


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("127.0.0.1", ["192.0.2.7"], "192.0.2.7"),
        ("127.0.0.1", ["6.6.6.6, 192.0.2.7"], "192.0.2.7"),
        ("127.0.0.1", ["6.6.6.6", "192.0.2.7, 10.1.1.1"], "192.0.2.7"),
        ("127.0.0.1", ["192.0.2.7:50000"], "192.0.2.7"),
        ("127.0.0.1", ["[2001:4860::1]:443"], "2001:4860::1"),
        ("127.0.0.1", ["2001:4860::1"], "2001:4860::1"),
        ("::ffff:127.0.0.1", ["192.0.2.7"], "192.0.2.7"),
        ("2001:db8::5", ["192.0.2.7"], "192.0.2.7"),
        # All of them are proxies: the farthest is the best that is known.
        ("127.0.0.1", ["10.2.2.2, 10.1.1.1"], "10.2.2.2"),
        # Somebody who is no proxy says what he likes.
        ("203.0.113.9", ["192.0.2.7"], "203.0.113.9"),
        ("127.0.0.1", ["nonsense"], "127.0.0.1"),
        ("127.0.0.1", ["192.0.2.7, unknown"], "127.0.0.1"),
        ("127.0.0.1", [""], "127.0.0.1"),
        ("127.0.0.1", [], "127.0.0.1"),
        (None, ["192.0.2.7"], ""),
        ("127.0.0.1", [", ".join(["10.0.0.1"] * 1000)], "10.0.0.1"),
    ],
)
def test_the_list_is_believed_from_its_end_as_far_as_proxies_wrote_it(
    peer: str | None, forwarded: list[str], expected: str
) -> None:
    assert client_of(peer, *forwarded) == expected


def test_without_trusted_proxies_the_header_is_not_looked_at() -> None:
    assert client_of("127.0.0.1", "192.0.2.7", trusted=[]) == "127.0.0.1"


def test_no_more_hops_are_looked_at_than_a_real_chain_has() -> None:
    assert client_of("127.0.0.1", "192.0.2.7, " + ", ".join(["10.0.0.1"] * MAX_HOPS)) == "10.0.0.1"


FORWARDED = [
    (["for=192.0.2.7;proto=https;host=a.example"], "192.0.2.7", "https://a.example"),
    (["for=6.6.6.6;host=evil.example;proto=http, for=192.0.2.7;proto=https;host=a.example:444"], "192.0.2.7",
     "https://a.example:444"),
    (['For="[2001:4860::1]:443";Proto=HTTPS;Host="a.example"'], "2001:4860::1", "https://a.example"),
    (["for=_hidden;proto=https;host=a.example"], "127.0.0.1", "https://a.example"),
    (["for=6.6.6.6", "for=192.0.2.7"], "192.0.2.7", None),
    (["proto=gopher;host=a.example"], "127.0.0.1", None),
    (['proto=https;host="a.example/x?"'], "127.0.0.1", None),
    (["\xff;=,,"], "127.0.0.1", None),
    ([], "127.0.0.1", None),
]  # fmt: skip


@pytest.mark.parametrize(("values", "client", "base"), FORWARDED)
def test_the_standard_header_says_the_same(values: list[str], client: str, base: str | None) -> None:
    headers = [(b"forwarded", value.encode("latin-1")) for value in values]
    scope = {"client": ("127.0.0.1", 1), "headers": [*headers, (b"x-forwarded-for", b"7.7.7.7")]}
    proxies = Proxies(parse_rules(TRUSTED), standard=True)
    assert (proxies.client_of(scope), proxies.base_of(scope)) == (client, base)
    # Who does not say so is not asked; neither is a stranger.
    assert Proxies(parse_rules(TRUSTED)).base_of(scope) is None
    assert proxies.base_of({**scope, "client": ("192.0.2.9", 1)}) is None
    assert proxies.client_of({**scope, "client": ("192.0.2.9", 1)}) == "192.0.2.9"


def test_a_trusted_proxy_says_how_it_was_called() -> None:
    def base(peer: str | None, **said: str) -> str | None:
        headers = [(name.replace("_", "-").encode(), value.encode()) for name, value in said.items()]
        scope = {"client": None if peer is None else (peer, 1), "headers": headers}
        return Proxies(parse_rules(TRUSTED)).base_of(scope)

    called = {"x_forwarded_proto": "https", "x_forwarded_host": "evil.example, a.example"}
    assert base("127.0.0.1", **called) == "https://a.example"
    assert base("192.0.2.7", **called) is None
    assert base(None, **called) is None
    assert base("127.0.0.1", x_forwarded_proto="https") is None
    assert base("127.0.0.1", x_forwarded_proto="https", x_forwarded_host="a b") is None
