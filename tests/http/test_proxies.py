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
