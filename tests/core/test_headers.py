import pytest

from hookbrook.core.headers import MAX_HEADERS, MAX_VALUE_LENGTH, check_headers
from hookbrook.errors import Invalid


def test_ordinary_headers_pass() -> None:
    check_headers({})
    check_headers(
        {"Authorization": "Bearer abc.def", "X-Empty": "", "Content-Type": "application/json", "X-Tab": "a\tb"}
    )


@pytest.mark.parametrize(
    "name",
    [
        "Host",
        "host",
        "Content-Length",
        "Transfer-Encoding",
        "CONNECTION",
        "Keep-Alive",
        "Upgrade",
        "Expect",
        "TE",
        "Trailer",
        "Content-Encoding",
        "Proxy-Authorization",
        "Proxy-Connection",
        "webhook-id",
        "Webhook-Signature",
        "svix-id",
        "hookbrook-hops",
    ],
)
def test_what_hookbrook_says_itself_cannot_be_set(name: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_headers({"X-Fine": "1", name: "x"})
    assert caught.value.errors[0].field == f"headers.{name}"


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a\r\nb", "ä", "a\x00", "x" * 129, "(a)"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(Invalid):
        check_headers({name: "x"})


@pytest.mark.parametrize(
    "value", ["a\r\nX: y", "a\nb", "a\rb", "a\x00b", "\x7f", " a", "a ", "ä", "a" * (MAX_VALUE_LENGTH + 1), "a\n"]
)
def test_a_value_that_would_change_the_message_is_refused_and_not_repeated(value: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_headers({"X-Secret": value}, "endpoint.headers")
    assert caught.value.errors[0].field == "endpoint.headers.X-Secret"
    assert value.strip() not in str(caught.value) or value.strip() == "a"


def test_a_name_counts_once_whatever_its_case() -> None:
    with pytest.raises(Invalid, match="twice"):
        check_headers({"X-A": "1", "x-a": "2"})


def test_number_and_total_length_are_bounded() -> None:
    with pytest.raises(Invalid):
        check_headers({f"x-{n}": "" for n in range(MAX_HEADERS + 1)})
    with pytest.raises(Invalid):
        check_headers({f"x-{n}": "a" * MAX_VALUE_LENGTH for n in range(2)})
