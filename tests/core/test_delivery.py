import json
from itertools import product

import pytest

from hookbrook.core.delivery import (
    TRANSITIONS,
    Attempt,
    Delivery,
    Happening,
    State,
    after,
    sources_of,
)
from hookbrook.errors import Conflict


def test_the_table_has_a_row_for_every_state_and_names_only_states() -> None:
    assert set(TRANSITIONS) == set(State)
    assert {following for row in TRANSITIONS.values() for following in row.values()} == set(State)


def test_everything_that_can_happen_happens_somewhere() -> None:
    assert {happening for row in TRANSITIONS.values() for happening in row} == set(Happening)


@pytest.mark.parametrize(("state", "happening"), list(product(State, Happening)))
def test_what_the_table_lists_happens_and_all_else_is_a_conflict(state: State, happening: Happening) -> None:
    if happening in TRANSITIONS[state]:
        assert after(state, happening) is TRANSITIONS[state][happening]
        assert state in sources_of(happening)
    else:
        assert state not in sources_of(happening)
        with pytest.raises(Conflict, match=f"{state} cannot be {happening}"):
            after(state, happening)


def test_whatever_ended_can_be_sent_again_and_nothing_else_happens_to_it() -> None:
    for state in (State.SUCCEEDED, State.FAILED, State.CANCELLED):
        assert TRANSITIONS[state] == {Happening.RESENT: State.PENDING}


def test_only_a_pending_delivery_is_attempted_and_only_its_success_counts_once_it_was_held() -> None:
    for happening in (Happening.REFUSED, Happening.EXHAUSTED):
        assert sources_of(happening) == (State.PENDING,)
    assert sources_of(Happening.ACCEPTED) == (State.PENDING, State.HELD)


@pytest.mark.parametrize("happening", [Happening.HELD, Happening.RELEASED])
def test_holding_and_releasing_undo_each_other(happening: Happening) -> None:
    (source,) = sources_of(happening)
    back = Happening.RELEASED if happening is Happening.HELD else Happening.HELD
    assert after(after(source, happening), back) is source


def test_a_delivery_and_an_attempt_are_shown_as_json() -> None:
    delivery = Delivery(
        id="dlv_1", tenant="default", seq=7, event_id="evt_1", event_type="paid", endpoint_id="ep_1",
        state=State.PENDING, attempts=1, next_at=1_500_000, created=0, updated=1_000_000, last_status=500,
    )  # fmt: skip
    shown = json.loads(json.dumps(delivery.as_json()))
    assert (shown["status"], shown["next_attempt_at"]) == ("pending", "1970-01-01T00:00:01.500Z")
    attempt = Attempt(
        id="att_1", delivery_id="dlv_1", started=0, duration=1234, status=500,
        response_headers=(("a", "b"), ("a", "c")), response_body=b"\xffno", truncated=True,
    )  # fmt: skip
    shown = json.loads(json.dumps(attempt.as_json()))
    assert shown["duration_ms"] == 1.234
    assert shown["response"] == {"headers": [["a", "b"], ["a", "c"]], "body": "\ufffdno", "truncated": True}
