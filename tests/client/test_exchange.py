"""Decisions of the exchanges, without a socket: how long they wait, and when they give up."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookbrook import ApiError, ConnectionFailed, Reset, StreamReceipt
from hookbrook.client import exchange, upload
from hookbrook.client.exchange import Request, Response, Wait
from hookbrook.client.settings import MAX_BACKOFF_S, Settings, pause_s, read_settings
from hookbrook.client.subscription import Close, End, Open, Read, Selection, Subscription
from hookbrook.client.upload import Pull, Send, Upload
from hookbrook.core import sse
from hookbrook.errors import ConfigError

OK = Response(status=200, headers={}, body=b'{"accepted":1,"cursor":"k3f9-1"}')
SETTINGS = Settings(url="http://127.0.0.1:4665", key=None, retries=3, backoff_s=0.5)
GET = Request(method="GET", target="/v1/events")
CUT = ConnectionFailed("cut")


def no_jitter() -> float:
    return 0.0


def pauses(steps: Generator[Any, Any, Any], answers: list[Response | ConnectionFailed]) -> list[float]:
    """Feeds the answers, one for each request, and returns how long was waited in between."""
    waited = []
    step = next(steps)
    for answer in answers:
        assert isinstance(step, Request)
        step = steps.throw(answer) if isinstance(answer, ConnectionFailed) else steps.send(answer)
        assert isinstance(step, Wait)
        waited.append(step.seconds)
        step = next(steps)
    return waited


def trouble(status: int = 503, **headers: str) -> Response:
    return Response(status=status, headers={name.replace("_", "-"): value for name, value in headers.items()})


def test_the_pause_doubles() -> None:
    assert pauses(exchange.call(SETTINGS, GET, no_jitter), [CUT, trouble(), CUT]) == [0.5, 1.0, 2.0]


def test_retry_after_is_waited_for_if_it_is_longer() -> None:
    steps = exchange.call(SETTINGS, GET, no_jitter)
    assert pauses(steps, [trouble(retry_after="7"), trouble(retry_after="0")]) == [7.0, 1.0]


@pytest.mark.parametrize("value", ["Wed, 21 Oct 2026 07:28:00 GMT", "-5", "x", "", "٣"])
def test_a_retry_after_that_cannot_be_read_is_no_reason_to_hurry_or_to_stop(value: str) -> None:
    assert pauses(exchange.call(SETTINGS, GET, no_jitter), [trouble(retry_after=value)]) == [0.5]


def test_a_retry_after_that_nobody_would_sit_through_is_raised() -> None:
    steps = exchange.call(SETTINGS, GET, no_jitter)
    next(steps)
    with pytest.raises(ApiError):
        steps.send(trouble(429, retry_after="3600"))


def test_patience_ends_after_the_retries() -> None:
    steps = exchange.call(SETTINGS, GET, no_jitter)
    assert len(pauses(steps, [CUT] * 3)) == 3
    with pytest.raises(ConnectionFailed):
        steps.throw(CUT)


@given(st.floats(0.001, 100), st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_a_pause_is_never_shorter_than_asked_and_never_unbounded(base_s: float, failures: int, chance: float) -> None:
    pause = pause_s(base_s, failures, lambda: chance)
    assert base_s <= pause <= max(base_s, MAX_BACKOFF_S) * 1.5


def read(url: str | None = None, key: str | None = None, **environment: str) -> Settings:
    return read_settings(url, key, environment, timeout_s=1, retries=1, backoff_s=1, idle_s=1)


def test_arguments_win_over_the_environment_and_that_over_the_defaults() -> None:
    environment = {"HOOKBROOK_URL": "http://b.example/", "HOOKBROOK_KEY": "hbk_b"}
    assert (read().url, read().key) == ("http://127.0.0.1:4665", None)
    assert (read(**environment).url, read(**environment).key) == ("http://b.example", "hbk_b")
    chosen = read("https://a.example", "hbk_a", **environment)
    assert (chosen.url, chosen.key) == ("https://a.example", "hbk_a")


def test_empty_settings_are_absent_ones() -> None:
    assert (read(HOOKBROOK_URL="", HOOKBROOK_KEY="").url, read(HOOKBROOK_KEY="").key) == (read().url, None)


def test_a_bad_url_in_the_environment_is_named() -> None:
    with pytest.raises(ConfigError, match="HOOKBROOK_URL"):
        read(HOOKBROOK_URL="localhost")


# --- a subscription ----------------------------------------------------------------------------------------------

STREAM = Response(status=200, headers={"content-type": "text/event-stream"})


def subscribe() -> Subscription:
    return Subscription(SETTINGS, Selection(channels=("a",)), no_jitter)


def pause_of(steps: Subscription) -> float:
    step = steps.step()
    assert isinstance(step, Wait)
    return step.seconds


def connect(steps: Subscription, answer: Response | ConnectionFailed) -> None:
    assert isinstance(steps.step(), Open)
    if isinstance(answer, ConnectionFailed):
        steps.fail(answer)
    else:
        steps.answer(answer)


def lose(steps: Subscription, *chunks: bytes) -> None:
    """Read these from an open stream, then lose it."""
    for chunk in (*chunks, b""):
        assert isinstance(steps.step(), Read)
        steps.answer(chunk)
    assert isinstance(steps.step(), Close)
    steps.answer(None)


def test_a_step_is_the_same_until_it_is_answered() -> None:
    steps = subscribe()
    assert steps.step() is steps.step()


def test_a_lost_stream_is_resumed_soon_and_a_dead_server_asked_ever_more_seldom() -> None:
    steps = subscribe()
    connect(steps, STREAM)
    lose(steps, sse.HEARTBEAT)
    waited = [pause_of(steps)]
    for _ in range(7):
        steps.answer(None)
        connect(steps, CUT)
        waited.append(pause_of(steps))
    assert waited == [0.5, 0.5, 1.0, 2.0, 4.0, 8.0, MAX_BACKOFF_S, MAX_BACKOFF_S]


def test_a_server_that_hangs_up_without_a_byte_is_asked_ever_more_seldom() -> None:
    steps = subscribe()
    waited = []
    for _ in range(3):
        connect(steps, STREAM)
        lose(steps)
        waited.append(pause_of(steps))
        steps.answer(None)
    assert waited == [0.5, 1.0, 2.0]


def test_the_servers_retry_is_honoured_also_when_it_comes_alone() -> None:
    steps = subscribe()
    connect(steps, STREAM)
    lose(steps, b"retry: 2500\n\n")
    assert pause_of(steps) == 2.5
    steps.answer(None)
    connect(steps, CUT)
    assert pause_of(steps) == 2.5
    steps.answer(None)
    connect(steps, CUT)
    assert pause_of(steps) == 5.0


def test_a_retry_of_nothing_resumes_at_once_but_does_not_hammer_a_dead_server() -> None:
    steps = subscribe()
    connect(steps, STREAM)
    lose(steps, b"retry: 0\n\n")
    assert pause_of(steps) == 0
    steps.answer(None)
    connect(steps, CUT)
    assert pause_of(steps) == 0.5


def test_retry_after_is_honoured_up_to_a_bound() -> None:
    steps = subscribe()
    connect(steps, trouble(429, retry_after="120"))
    assert pause_of(steps) == 120
    steps.answer(None)
    connect(steps, trouble(503, retry_after="999999"))
    assert pause_of(steps) == 300


def test_after_a_reset_the_next_step_is_to_read_on() -> None:
    steps = subscribe()
    connect(steps, STREAM)
    steps.answer(sse.control("hookbrook.reset", {"reason": "foreign"}))
    assert isinstance(steps.step(), Reset)
    steps.taken()
    assert isinstance(steps.step(), Read)


def test_an_ended_subscription_stays_ended() -> None:
    steps = subscribe()
    connect(steps, Response(status=204, headers={}))
    assert steps.step() == End()
    steps.taken()
    assert steps.step() == End()


# --- an upload ---------------------------------------------------------------------------------------------------


def test_an_answer_before_all_is_sent_confirms_nothing() -> None:
    lines = Upload("a", "message", "r")
    steps = upload.send(SETTINGS, lines, no_jitter)
    assert next(steps) == Pull()
    lines.add(1)
    assert isinstance(next(steps), Send)
    lines.add(2)
    assert steps.send(OK) == Wait(seconds=0.5)
    assert isinstance(next(steps), Send)
    assert len(lines.unacknowledged) == 2
    lines.sent_all = lines.exhausted = True
    with pytest.raises(StopIteration) as end:
        steps.send(OK)
    assert end.value.value == StreamReceipt(accepted=2, cursor="k3f9-1")


def test_a_source_that_has_ended_is_not_asked_again() -> None:
    lines = Upload("a", "message", "r")
    steps = upload.send(SETTINGS, lines, no_jitter)
    next(steps)
    lines.add(1)
    next(steps)
    lines.sent_all = lines.exhausted = True
    with pytest.raises(StopIteration):
        steps.send(OK)
