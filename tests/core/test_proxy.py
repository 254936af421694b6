"""How a proxy's URL is read."""

import pytest

from hookbrook.core.proxy import Proxy, parse_proxy


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://proxy.internal:3128", Proxy(host="proxy.internal", port=3128)),
        ("http://10.0.0.1:80/", Proxy(host="10.0.0.1", port=80)),
        ("http://[::1]:3128", Proxy(host="::1", port=3128)),
        ("http://a:b@p:1", Proxy(host="p", port=1, authorization="Basic YTpi")),
        ("http://a:p%40ss%3a@p:1", Proxy(host="p", port=1, authorization="Basic YTpwQHNzOg==")),
        ("http://a@p:1", Proxy(host="p", port=1, authorization="Basic YTo=")),
    ],
)
def test_a_proxy_is_read(url: str, proxy: Proxy) -> None:
    assert parse_proxy(url) == proxy


@pytest.mark.parametrize(
    "url",
    [
        "",
        "proxy:3128",
        "http://proxy",
        "https://proxy:3128",
        "socks5://proxy:1080",
        "http://proxy:0",
        "http://proxy:99999",
        "http://proxy:3128/path",
        "http://proxy:3128?x",
        "http://pro xy:1",
        "http://proxy\r\nx:1",
        "http://pröxy:1",
        "http://[::1:1",
    ],
)
def test_what_is_no_proxy_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ValueError, match="must be http://HOST:PORT") as caught:
        parse_proxy(url)
    assert not url or url not in str(caught.value)


def test_a_password_does_not_show() -> None:
    assert "Ym9i" not in repr(parse_proxy("http://bob:x@p:1"))
