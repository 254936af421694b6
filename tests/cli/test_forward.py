"""What a program gets: the same bytes, and the same headers in the same order."""

import socket

import pytest
from tests.cli.receiver import Receiver

from hookbrook.cli.forward import Outgoing, Target, Unanswered
from hookbrook.errors import HookbrookError


def target(url: str, timeout_s: float = 5) -> Target:
    return Target(url, timeout_s=timeout_s)


def test_bytes_and_headers_arrive_as_they_are_in_their_order_and_repeated() -> None:
    headers = (
        ("host", "hooks.example.com"),
        ("X-B", "2"),
        ("x-a", "\xe9 ä".encode().decode("latin-1")),
        ("content-length", "3"),
        ("x-b", "1"),
        ("accept-encoding", "br"),
    )
    body = bytes(range(256))
    with Receiver() as program:
        answer = target(program.url).send(Outgoing(headers=headers, body=body, query="a=1&a=%20"))
        [seen] = program.seen
        assert (answer.status, answer.reason, answer.text, answer.ok) == (200, "Whatever", "said", True)
        assert seen.line == "POST /hook?a=1&a=%20 HTTP/1.1"
        expected = [("host", f"127.0.0.1:{program.port}"), *headers[1:3], ("content-length", "256"), *headers[4:]]
        assert list(seen.headers) == expected
        assert seen.body == body


def test_headers_of_one_hop_and_hidden_ones_are_left_out() -> None:
    headers = (
        ("connection", "close, X-Hop"),
        ("x-hop", "1"),
        ("te", "trailers"),
        ("transfer-encoding", "chunked"),
        ("expect", "100-continue"),
        ("authorization", "***"),
        ("x-kept", "1"),
        ("content-length", "9"),
        ("content-length", "9"),
    )
    sent = target("http://localhost:3000/").headers(Outgoing(headers=headers, body=b"12"))
    assert sent == [("host", "localhost:3000"), ("x-kept", "1"), ("content-length", "2")]


@pytest.mark.parametrize(
    ("given", "query", "url", "path"),
    [
        ("3000", "", "http://localhost:3000/", "/"),
        ("3000/hook", "a=1", "http://localhost:3000/hook?a=1", "/hook?a=1"),
        ("localhost:3000/hook", "a=1", "http://localhost:3000/hook?a=1", "/hook?a=1"),
        ("http://[::1]:3000/hook?b=2", "a=1", "http://[::1]:3000/hook?b=2&a=1", "/hook?b=2&a=1"),
        ("https://app.test", "", "https://app.test", "/"),
    ],
)
def test_a_target_may_be_written_short_and_keeps_its_own_query(given: str, query: str, url: str, path: str) -> None:
    assert (target(given).full(query).removesuffix("/"), target(given).path(query)) == (url.removesuffix("/"), path)


@pytest.mark.parametrize(
    "url", ["ftp://localhost/", "http://", "http://localhost:99999/", "http://u:p@localhost/", "", "http://["]
)
def test_what_is_no_target_is_told(url: str) -> None:
    with pytest.raises(HookbrookError):
        target(url)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_a_program_that_is_not_there_or_hangs_up_may_be_there_soon() -> None:
    with pytest.raises(Unanswered, match="nothing listens") as refused:
        target(f"http://127.0.0.1:{free_port()}/").send(Outgoing())
    with Receiver(lambda _: None) as program, pytest.raises(Unanswered, match="the connection broke") as lost:
        target(program.url).send(Outgoing())
    assert refused.value.again
    assert lost.value.again


def test_a_program_that_takes_too_long_and_a_request_that_cannot_be_written_are_not_tried_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(Unanswered, match="no answer within") as late:
            target(f"http://127.0.0.1:{port}/", 0.05).send(Outgoing())
        with pytest.raises(Unanswered, match="cannot be sent") as illegal:
            target(f"http://127.0.0.1:{port}/").send(Outgoing(query="a b"))
        with pytest.raises(Unanswered, match="cannot be sent") as header:
            target(f"http://127.0.0.1:{port}/").send(Outgoing(headers=(("x", "a\r\nb: c"),)))
    assert not late.value.again
    assert not illegal.value.again
    assert not header.value.again
