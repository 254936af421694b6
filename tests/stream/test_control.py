"""What a stream says on its own account."""

import json
from random import Random

import pytest

from hookbrook.core.sse import Parser
from hookbrook.stream import control
from hookbrook.stream.control import BUSY_RETRY_MS, DRAIN_RETRY_MS

from .conftest import CONTROL, START_US

RNG = Random(1)
FRAMES = [
    control.reset("foreign", oldest="abcd-1", newest="abcd-9"),
    control.drain(RNG),
    control.busy("rate", RNG),
    control.expiring(START_US),
    control.expired(),
    control.closed(["a"], "abcd-9"),
    control.live("abcd-9"),
    control.checkpoint("abcd-9"),
    control.ping(),
]


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: frame.split(b"\n")[0].decode())
def test_each_is_one_named_event_with_data_and_its_id_if_any_is_last(frame: bytes) -> None:
    [parsed] = Parser().feed(frame)
    assert parsed.type in CONTROL
    # Some clients do not advance on an id without data.
    assert isinstance(json.loads(parsed.data), dict)
    lines = frame.rstrip(b"\n").split(b"\n")
    assert all(not line.startswith(b"id:") for line in lines[:-1])


def test_every_control_event_is_tried_here() -> None:
    assert {Parser().feed(frame)[0].type for frame in FRAMES} == CONTROL


def test_what_ends_a_stream_for_a_while_says_when_to_come_back_and_not_the_same_to_all() -> None:
    drained = {Parser().feed(control.drain(RNG))[0].retry_ms for _ in range(200)}
    turned_away = {Parser().feed(control.busy("rate", RNG, least_ms=2000))[0].retry_ms for _ in range(200)}
    assert len(drained) > 100
    assert len(turned_away) > 100
    assert all(DRAIN_RETRY_MS[0] <= (retry or 0) <= DRAIN_RETRY_MS[1] for retry in drained)
    assert all(BUSY_RETRY_MS[0] + 2000 <= (retry or 0) <= BUSY_RETRY_MS[1] + 2000 for retry in turned_away)


def test_the_wait_that_is_told_in_the_data_is_the_one_of_the_retry() -> None:
    for frame in (control.drain(RNG), control.busy("rate", RNG)):
        [parsed] = Parser().feed(frame)
        assert json.loads(parsed.data)["retry_ms"] == parsed.retry_ms


def test_only_what_moves_the_place_has_an_id() -> None:
    with_id = {Parser().feed(frame)[0].type for frame in FRAMES if b"\nid: " in frame}
    assert with_id == {f"hookbrook.{word}" for word in ("reset", "closed", "live", "checkpoint")}
