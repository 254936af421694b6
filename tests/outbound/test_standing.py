"""Since when endpoints fail, by the order of their outcomes."""

import pytest

from hookbrook.core.delivery import Attempt, Happening, Outcome
from hookbrook.outbound.message import TooManyHops
from hookbrook.outbound.standing import Standing
from hookbrook.outbound.verdict import INTERNAL


def outcome(happening: Happening, started: int, error: str | None = None) -> Outcome:
    attempt = Attempt(id="att_1", delivery_id="dlv_1", started=started, duration=1, error=error)
    return Outcome(attempt=attempt, happening=happening)


def failed(started: int) -> tuple[str, Outcome]:
    return "ep_1", outcome(Happening.REFUSED, started)


def arrived(started: int) -> tuple[str, Outcome]:
    return "ep_1", outcome(Happening.ACCEPTED, started)


@pytest.mark.parametrize(
    ("before", "outcomes", "changes"),
    [
        ({}, [failed(1), failed(2)], {"ep_1": 1}),
        ({"ep_1": 1}, [failed(2)], {}),
        ({"ep_1": 1}, [failed(2), arrived(3)], {"ep_1": None}),
        ({"ep_1": 1}, [arrived(2), failed(3), failed(4)], {"ep_1": 3}),
        ({}, [arrived(1)], {}),
        ({}, [failed(1), arrived(2)], {"ep_1": None}),
        ({}, [("ep_1", outcome(Happening.EXHAUSTED, 1, error)) for error in (INTERNAL, TooManyHops.code)], {}),
        ({"ep_2": 1}, [("ep_2", outcome(Happening.ACCEPTED, 2)), failed(3)], {"ep_2": None, "ep_1": 3}),
    ],
)
def test_only_the_first_failure_and_the_first_success_change_anything(
    before: dict[str, int], outcomes: list[tuple[str, Outcome]], changes: dict[str, int | None]
) -> None:
    standing = Standing()
    standing.load(before)
    assert standing.changes(outcomes) == changes
    assert {endpoint_id: standing.since(endpoint_id) for endpoint_id in before} == before, "nothing is applied yet"


def test_its_owner_is_warned_once_until_it_ceases_to_fail() -> None:
    standing = Standing()
    assert [standing.warn_once("ep_1"), standing.warn_once("ep_1")] == [True, False]
    standing.forget("ep_1")
    assert standing.warn_once("ep_1")


def test_what_was_applied_is_what_the_next_outcomes_are_judged_by() -> None:
    standing = Standing()
    standing.apply(standing.changes([failed(1)]))
    assert standing.since("ep_1") == 1
    assert standing.changes([failed(2)]) == {}
    standing.apply(standing.changes([arrived(3)]))
    assert standing.since("ep_1") is None
