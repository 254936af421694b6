"""Why an event did not go to an endpoint: the first question of routing whose answer is no."""

import pytest

from hookbrook.core.delivery import Delivery, State
from hookbrook.core.endpoint import Endpoint
from hookbrook.core.event import Event
from hookbrook.core.explanation import Reason, explain, explain_owed
from hookbrook.core.routing import Routes, wants


def event(**fields: object) -> Event:
    values: dict[str, object] = {
        "seq": 1, "epoch": "aaaa", "id": "e", "channels": ("orders.1",), "type": "paid", "tenant": "t", "source": None,
        "time": 0, "appended": 100, "content_type": "text/plain", "kind": "text", "data": b"", **fields,
    }  # fmt: skip
    return Event(**values)  # type: ignore[arg-type]


def endpoint(**fields: object) -> Endpoint:
    values: dict[str, object] = {
        "id": "ep", "url": "https://x", "tenant": "t", "secrets": (), "created": 1, "updated": 1, **fields,
    }  # fmt: skip
    return Endpoint(**values)  # type: ignore[arg-type]


CASES = [
    (event(), endpoint(created=101, updated=101), Reason.CREATED_AFTER),
    (event(), endpoint(types=("sent", "pa")), Reason.TYPE),
    (event(), endpoint(channels=("chat.*",)), Reason.CHANNEL),
    (event(type="hookbrook.delivery.failed", channels=("hookbrook.ops",)), endpoint(), Reason.RESERVED),
    (event(channels=("hookbrook.unverified.x",)), endpoint(types=("paid",)), Reason.RESERVED),
    (event(), endpoint(updated=200), Reason.CHANGED),
]


@pytest.mark.parametrize(("happened", "asked", "reason"), CASES)
def test_the_first_no_is_named(happened: Event, asked: Endpoint, reason: Reason) -> None:
    told = explain(happened, asked)
    assert told.reason is reason
    assert told.why.endswith(".")
    assert told.changed_since == (asked.updated == 200)
    # And routing would say the same.
    owed = Routes(1, [asked]).owed(happened.tenant, happened.channels, happened.type)
    assert bool(owed) == wants(asked, happened) == (reason in (Reason.CREATED_AFTER, Reason.CHANGED))


@pytest.mark.parametrize("state", State)
def test_what_became_of_a_delivery_is_a_sentence(state: State) -> None:
    delivery = Delivery(
        id="d", tenant="t", seq=1, event_id="e", event_type="paid", endpoint_id="ep", state=state, attempts=1,
        next_at=0 if state is State.PENDING else None, created=0, updated=0, last_error="The receiver answered 500.",
    )  # fmt: skip
    told = explain_owed(delivery, endpoint())
    assert told.reason is Reason.OWED
    assert told.why[0].isupper()
    assert told.why.endswith(".")
    assert "deleted" in explain_owed(delivery, None).why or state is not State.CANCELLED
