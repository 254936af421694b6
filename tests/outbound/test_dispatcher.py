"""Each promise of the dispatcher, with the real store, the real client and receivers on loopback."""

import asyncio
import logging
from base64 import b64encode
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from random import Random
from time import time_ns

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from hookbrook.core.delivery import Happening, NewDelivery, Outcome, State
from hookbrook.core.endpoint import Endpoint
from hookbrook.core.event import Appended, NewEvent
from hookbrook.core.fetch import LocalFault, Request, Response, Timing
from hookbrook.core.retry import DEFAULT_DELAYS_S, JITTER
from hookbrook.errors import StoreFull
from hookbrook.outbound.lane import MAX_QUEUED, OVERHEAD
from hookbrook.store.base import DeliveryQuery

from .conftest import Peer, Serve, until
from .rig import DAY_S, SECRET, START_US, Post, Rig, Troubled, VirtualTime, answer, nothing, rig_on

#: How late a retry may be.
MOMENT_S = 0.01

OTHER_SECRET = "whsec_" + b64encode(b"another secret of 32 bytes......").decode()


def full(outcomes: Sequence[Outcome]) -> None:
    raise StoreFull("There is no room on the disk.")


class Bank:
    """A `Fetch` of the test's own, for what cannot be provoked on a socket."""

    def __init__(self) -> None:
        self.sent: list[Request] = []
        self.fault: Exception | None = None

    async def send(self, request: Request) -> Response:
        self.sent.append(request)
        if self.fault is not None:
            raise self.fault
        return Response(status=200, headers=(), body=b"", address="192.0.2.1:443", timing=Timing(total=1))


# What is sent.


async def test_the_reference_library_verifies_what_is_sent(tmp_path: Path, serve: Serve) -> None:
    post = Post()
    # The library compares with the real time, and takes no other.
    async with rig_on(tmp_path / "a.db", time=VirtualTime(time_ns() // 1000)) as rig:
        await rig.start()
        await rig.endpoint((await serve(post)).url, secrets=(OTHER_SECRET, SECRET))
        await rig.publish("evt_1", data=b'{"a": 1E400,\n "a": 2}')
        await rig.settled()
    [request] = post.requests
    for secret in (SECRET, OTHER_SECRET):
        Webhook(secret).verify(request.body, dict(request.headers))
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(request.body + b" ", dict(request.headers))
    assert request.body == b'{"a": 1E400,\n "a": 2}'


async def test_the_headers_say_what_was_published_and_the_endpoints_own_come_along(
    tmp_path: Path, serve: Serve
) -> None:
    post = Post()
    async with rig_on(tmp_path / "a.db") as rig:
        await rig.start()
        own = {"X-Tenant": "7", "Webhook-Id": "forged", "User-Agent": "forged", "Content-Type": "forged/forged"}
        await rig.endpoint((await serve(post)).url, headers=own)
        await rig.publish("evt_1", data=b"\x00\xff", type="order.paid", content_type="image/png", kind="binary")
        await rig.settled()
        [attempt] = await rig.store.attempts((await rig.row("evt_1")).id)
    [request] = post.requests
    headers = {name.lower(): value for name, value in request.headers}
    assert request.body == b"\x00\xff"
    assert headers["webhook-id"] == "evt_1"
    assert headers["webhook-timestamp"] == str(START_US // 1_000_000)
    assert headers["content-type"] == "image/png"
    assert headers["hookbrook-type"] == "order.paid"
    assert headers["hookbrook-hops"] == "1"
    assert headers["hookbrook-attempt"] == attempt.id
    assert None not in (attempt.connect, attempt.wait)
    assert attempt.tls is None
    assert headers["user-agent"].startswith("hookbrook/")
    assert headers["x-tenant"] == "7"
    assert "forged" not in str(request.headers)


async def test_an_event_that_goes_round_in_a_circle_is_given_up_with_a_clear_error(
    tmp_path: Path, serve: Serve
) -> None:
    post = Post()
    async with rig_on(tmp_path / "a.db") as rig:
        await rig.start()
        await rig.endpoint((await serve(post)).url)
        for hops in (7, 8):
            await rig.publish(f"evt_{hops}", request=b'{"headers": [["Hookbrook-Hops", "%d"]]}' % hops)
        await rig.settled()
        assert await rig.states() == {"evt_7": State.SUCCEEDED, "evt_8": State.FAILED}
        [attempt] = await rig.store.attempts((await rig.row("evt_8")).id)
    assert [request.header("hookbrook-hops") for request in post.requests] == ["8"]
    assert attempt.error == "loop"
    assert attempt.message is not None
    assert "loop" in attempt.message


# What the answers mean.


async def test_what_the_receiver_said_is_kept(tmp_path: Path, serve: Serve) -> None:
    async def broken(peer: Peer) -> None:
        await peer.request()
        await peer.write(answer("500 Oh No", b"x" * 100_000, x_trace="abc"))

    async with rig_on(tmp_path / "a.db") as rig:
        await rig.start()
        receiver = await serve(broken)
        await rig.endpoint(receiver.url)
        await rig.publish("evt_1")
        await rig.settled()
        row = await rig.row("evt_1")
        [attempt] = await rig.store.attempts(row.id)
    assert (row.state, row.attempts, row.last_status) == (State.PENDING, 1, 500)
    assert (attempt.status, attempt.error, attempt.address) == (500, None, f"127.0.0.1:{receiver.port}")
    assert attempt.message == "The receiver answered 500."
    assert ("x-trace", "abc") in attempt.response_headers
    assert attempt.truncated
    assert 1000 < len(attempt.response_body) < 100_000


async def test_a_receiver_that_always_fails_is_tried_by_the_default_schedule_and_then_given_up(
    tmp_path: Path, serve: Serve
) -> None:
    post = Post("500 Oh No")
    async with rig_on(tmp_path / "a.db") as rig:
        await rig.start()
        await rig.endpoint((await serve(post)).url)
        await rig.publish("evt_1")
        await rig.settled()
        for made in range(1, len(DEFAULT_DELAYS_S) + 1):
            next_at = (await rig.row("evt_1")).next_at
            assert next_at is not None
            await rig.advance((next_at - rig.time.clock() - 1) / 1_000_000)
            assert len(post.requests) == made
            await rig.advance(MOMENT_S)
            assert len(post.requests) == made + 1
        row = await rig.row("evt_1")
        attempts = await rig.store.attempts(row.id)
        await rig.advance(3600)
    assert (row.state, row.attempts) == (State.FAILED, len(DEFAULT_DELAYS_S) + 1)
    gaps = [(b.started - a.started) / 1_000_000 for a, b in pairwise(attempts)]
    factors = [gap / delay for gap, delay in zip(gaps, DEFAULT_DELAYS_S, strict=True)]
    assert all(1 - JITTER <= factor <= 1 + JITTER for factor in factors), factors
    assert len({round(factor, 3) for factor in factors}) > 5
    assert len(post.requests) == len(attempts)


async def test_an_endpoints_own_schedule_is_kept_to_the_moment_without_waiting_for_a_sweep(
    tmp_path: Path, serve: Serve
) -> None:
    post = Post("500 Oh No")
    async with rig_on(tmp_path / "a.db") as rig:
        await rig.start()
        await rig.endpoint((await serve(post)).url, retry=(5.0, 20.0, 90.0))
        await rig.publish("evt_1")
        await rig.settled()
        due = []
        for longest_s in (6, 24, 108):
            due.append((await rig.row("evt_1")).next_at)
            await rig.advance(longest_s)
        attempts = await rig.store.attempts((await rig.row("evt_1")).id)
    for attempt, at in zip(attempts[1:], due, strict=True):
        assert at is not None
        assert 0 <= attempt.started - at <= MOMENT_S * 1_000_000


@pytest.mark.parametrize("status", ["429 Slow Down", "503 Busy"])
async def test_retry_after_is_honoured(tmp_path: Path, serve: Serve, status: str) -> None:
    post = Post(status, retry_after="30")
    async with rig_on(tmp_path / "a.db") as rig:
        await rig.start()
        await rig.endpoint((await serve(post)).url)
        await rig.publish("evt_1")
        await rig.settled()
        next_at = (await rig.row("evt_1")).next_at
    assert next_at is not None
    assert 30 <= (next_at - START_US) / 1_000_000 <= 36


async def test_gone_ends_the_delivery_at_once(tmp_path: Path, serve: Serve) -> None:
    post = Post("410 Gone")
    async with rig_on(tmp_path / "a.db") as rig:
        await rig.start()
        await rig.endpoint((await serve(post)).url)
        await rig.publish("evt_1")
        await rig.settled()
        assert await rig.states() == {"evt_1": State.FAILED}
    assert post.ids == ["evt_1"]


async def test_a_redirect_is_a_refusal_and_is_not_followed(tmp_path: Path, serve: Serve) -> None:
    elsewhere = await serve()
    post = Post("302 Found", location=elsewhere.url)
    async with rig_on(tmp_path / "a.db") as rig:
        await rig.start()
        await rig.endpoint((await serve(post)).url)
        await rig.publish("evt_1")
        await rig.settled()
        row = await rig.row("evt_1")
    assert (row.state, row.last_status) == (State.PENDING, 302)
    assert elsewhere.requests == []


# One harms nobody else.


async def test_a_hanging_receiver_holds_only_its_own_slots(tmp_path: Path, serve: Serve) -> None:
    hanging, healthy = Post(), Post()
    hanging.gate.clear()
    ids = [f"evt_{n:03}" for n in range(200)]
    async with rig_on(tmp_path / "a.db") as rig:
        dispatcher = await rig.start()
        await rig.endpoint((await serve(hanging)).url, concurrency=3)
        await rig.endpoint((await serve(healthy)).url, concurrency=3)
        await rig.publish(*ids)
        await until(lambda: len(healthy.requests) == 200 and dispatcher.stats().unrecorded == 0)
        assert len(hanging.requests) == 3
        assert dispatcher.stats().in_flight == 3
        hanging.gate.set()
        await rig.settled()
    assert sorted(hanging.ids) == sorted(healthy.ids) == ids


async def test_an_endpoints_concurrency_is_used_and_never_exceeded(tmp_path: Path, serve: Serve) -> None:
    post = Post()
    post.work_s = 0.005
    post.gate.clear()
    async with rig_on(tmp_path / "a.db") as rig:
        await rig.start()
        endpoint = await rig.endpoint((await serve(post)).url, concurrency=4)
        await rig.publish(*(f"evt_{n}" for n in range(100)))
        await until(lambda: post.now == 4)
        await rig.change(endpoint, concurrency=2)
        post.gate.set()
        await rig.settled()
    assert post.loads[:4] == [1, 2, 3, 4]
    assert set(post.loads[4:]) <= {1, 2}
    assert len(post.loads) == 100


async def test_hanging_endpoints_leave_room_for_others_however_many_they_are(tmp_path: Path, serve: Serve) -> None:
    hanging, healthy = Post(), Post()
    hanging.gate.clear()
    async with rig_on(tmp_path / "a.db") as rig:
        dispatcher = await rig.start(max_in_flight=12)
        url = (await serve(hanging)).url
        for _ in range(8):
            await rig.endpoint(url, channels=("hang",))
        await rig.endpoint((await serve(healthy)).url, channels=("well",))
        await rig.publish(*(f"evt_{n}" for n in range(20)), channels=("hang",))
        await until(lambda: dispatcher.stats().in_flight >= 8)
        await rig.publish(*(f"well_{n}" for n in range(20)), channels=("well",))
        await until(lambda: len(healthy.requests) == 20)
        assert hanging.now < 12
        hanging.gate.set()
        await rig.settled()
    assert len(hanging.requests) == 8 * 20


async def test_lanes_beyond_the_last_slot_take_turns(tmp_path: Path, serve: Serve) -> None:
    post = Post()
    post.work_s = 0.001
    async with rig_on(tmp_path / "a.db") as rig:
        dispatcher = await rig.start(max_in_flight=2)
        url = (await serve(post)).url
        for n in range(10):
            await rig.endpoint(url, headers={"x-endpoint": str(n)})
        await rig.publish(*(f"evt_{n}" for n in range(20)))
        await rig.settled()
        assert dispatcher.stats().outcomes == {Happening.ACCEPTED: 200}
    assert max(post.loads) <= 2
    order = [request.header("x-endpoint") for request in post.requests]
    assert set(order[:30]) == {str(n) for n in range(10)}


async def test_a_slot_is_free_again_before_the_disk_has_the_outcome(tmp_path: Path, serve: Serve) -> None:
    post = Post()
    async with rig_on(tmp_path / "a.db") as rig:
        table = Troubled(rig.store)
        await rig.start(table, max_in_flight=1)
        url = (await serve(post)).url
        for _ in range(5):
            await rig.endpoint(url)
        table.trouble = full
        await rig.publish("evt_1")
        await until(lambda: len(post.requests) == 5)
        assert await rig.states() == {"evt_1": State.PENDING}


async def test_an_error_of_our_own_ends_that_attempt_alone(
    tmp_path: Path, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    post = Post()
    async with rig_on(tmp_path / "a.db") as rig:
        dispatcher = await rig.start()
        bad = await rig.endpoint((await serve(post)).url, secrets=("not a secret",))
        await rig.endpoint((await serve(post)).url)
        with caplog.at_level(logging.CRITICAL + 1, "hookbrook"):
            await rig.publish("evt_1")
            await rig.settled()
        assert dispatcher.stats().internal_errors == 1
        [row] = await rig.rows(endpoint_id=bad.id)
        [attempt] = await rig.store.attempts(row.id)
        assert (row.state, row.attempts, attempt.error) == (State.PENDING, 1, "internal")
        assert "secret" not in (attempt.message or "")
        await rig.change(bad, secrets=(SECRET,))
        await rig.advance(6.1)
        assert {row.state for row in await rig.rows()} == {State.SUCCEEDED}


async def test_a_fault_of_our_own_machine_is_not_charged_to_the_endpoint(tmp_path: Path) -> None:
    bank = Bank()
    bank.fault = LocalFault("no file is left")
    async with rig_on(tmp_path / "a.db", fetch=bank) as rig:
        await rig.start()
        await rig.endpoint("https://receiver.example/", concurrency=2)
        await rig.publish(*(f"evt_{n}" for n in range(10)))
        await rig.settled()
        assert len(bank.sent) == 2
        # After a second, and then after two more.
        await rig.advance(3)
        assert len(bank.sent) == 6
        bank.fault = None
        await rig.advance(4)
        assert Counter((row.state, row.attempts) for row in await rig.rows()) == {(State.SUCCEEDED, 1): 10}


# Nothing twice, nothing forgotten.


async def test_a_resend_replaces_the_scheduled_attempt(tmp_path: Path, serve: Serve) -> None:
    post = Post("500 Oh No")
    async with rig_on(tmp_path / "a.db") as rig:
        dispatcher = await rig.start()
        endpoint = await rig.endpoint((await serve(post)).url)
        await rig.publish("evt_1")
        await rig.settled()
        row = await rig.row("evt_1")
        post.answer = "204 No Content"
        await rig.store.change(row.id, Happening.RESENT, now=rig.time.clock())
        dispatcher.poke(endpoint.id)
        await rig.settled()
        assert len(post.requests) == 2
        await rig.advance(120)
        assert await rig.states() == {"evt_1": State.SUCCEEDED}
    assert post.ids == ["evt_1", "evt_1"]


async def test_a_resend_of_what_is_just_being_recorded_is_not_lost(tmp_path: Path, serve: Serve) -> None:
    post = Post()
    async with rig_on(tmp_path / "a.db") as rig:
        table = Troubled(rig.store)
        dispatcher = await rig.start(table)
        endpoint = await rig.endpoint((await serve(post)).url)

        async def resend(outcomes: Sequence[Outcome]) -> None:
            table.recorded = nothing
            await rig.store.change(outcomes[0].attempt.delivery_id, Happening.RESENT, now=rig.time.clock())
            dispatcher.poke(endpoint.id)
            # The dispatcher reads, and finds its own claim, before it hears that the outcome is recorded.
            await until(lambda: not any(task.get_name() == "hookbrook pager" for task in asyncio.all_tasks()))

        table.recorded = resend
        await rig.publish("evt_1")
        await rig.settled()
        assert post.ids == ["evt_1", "evt_1"]
        assert await rig.states() == {"evt_1": State.SUCCEEDED}


async def test_what_was_read_before_it_was_offered_is_sent_once(tmp_path: Path, serve: Serve) -> None:
    post = Post()
    post.gate.clear()
    async with rig_on(tmp_path / "a.db") as rig:
        dispatcher = await rig.start()
        endpoint = await rig.endpoint((await serve(post)).url)
        late: list[tuple[NewEvent, Appended, Sequence[NewDelivery]]] = []
        rig.appender.on_owed(lambda *offer: late.append(offer))
        await rig.publish("evt_1")
        dispatcher.poke(endpoint.id)
        await until(lambda: post.now == 1)
        dispatcher.offer(*late[0])
        post.gate.set()
        await rig.settled()
    assert post.ids == ["evt_1"]


async def test_what_was_offered_and_done_while_it_was_being_read_is_sent_once(tmp_path: Path, serve: Serve) -> None:
    post = Post()
    async with rig_on(tmp_path / "a.db") as rig:
        table = Troubled(rig.store)
        dispatcher = await rig.start(table)
        endpoint = await rig.endpoint((await serve(post)).url)

        async def publish() -> None:
            table.before_due = nothing
            post.gate.clear()
            await rig.publish("evt_1")
            await until(lambda: post.now == 1)

        async def finish() -> None:
            table.after_due = nothing
            post.gate.set()
            await until(lambda: dispatcher.stats().in_flight == dispatcher.stats().unrecorded == 0)

        table.before_due, table.after_due = publish, finish
        dispatcher.poke(endpoint.id)
        await rig.settled()
        assert table.after_due is nothing
    assert post.ids == ["evt_1"]


async def test_a_page_that_was_being_read_when_its_endpoint_was_disabled_is_not_sent(
    tmp_path: Path, serve: Serve
) -> None:
    post = Post()
    async with rig_on(tmp_path / "a.db") as rig:
        table = Troubled(rig.store)
        dispatcher = await rig.start(table)
        endpoint = await rig.endpoint((await serve(post)).url)
        rig.appender.on_owed(lambda *_: None)
        await rig.publish("evt_1")

        async def disable() -> None:
            table.after_due = nothing
            await rig.change(endpoint, enabled=False)

        table.after_due = disable
        dispatcher.poke(endpoint.id)
        await rig.settled()
        assert table.after_due is nothing
        assert await rig.states() == {"evt_1": State.HELD}
        assert dispatcher.stats().lanes == 0
    assert post.ids == []


async def test_a_start_sends_what_an_earlier_process_left(tmp_path: Path, serve: Serve) -> None:
    post = Post()
    time = VirtualTime()
    ids = [f"evt_{n:03}" for n in range(300)]
    async with rig_on(tmp_path / "a.db", time=time) as rig:
        await rig.catalog.load()
        await rig.endpoint((await serve(post)).url)
        await rig.publish(*ids)
        assert post.requests == []
    async with rig_on(tmp_path / "a.db", time=time) as rig:
        await rig.start()
        await rig.advance(0)
        assert sorted(post.ids) == ids
        assert set((await rig.states()).values()) == {State.SUCCEEDED}


async def test_a_start_keeps_to_the_schedule_that_an_earlier_process_made(tmp_path: Path, serve: Serve) -> None:
    post = Post("500 Oh No")
    time = VirtualTime()
    async with rig_on(tmp_path / "a.db", time=time) as rig:
        await rig.start()
        await rig.endpoint((await serve(post)).url, retry=(200.0, 1.0))
        await rig.publish("evt_1")
        await rig.settled()
        due = (await rig.row("evt_1")).next_at
    async with rig_on(tmp_path / "a.db", time=time) as rig:
        await rig.start()
        await rig.advance(159)
        assert len(post.requests) == 1
        await rig.advance(82)
        attempts = await rig.store.attempts((await rig.row("evt_1")).id)
        assert due is not None
        assert 0 <= attempts[1].started - due <= MOMENT_S * 1_000_000
        assert len(attempts) == 3


async def test_what_memory_has_no_room_for_is_paged_in_from_the_table(tmp_path: Path, serve: Serve) -> None:
    post = Post()
    post.gate.clear()
    total = 3 * MAX_QUEUED
    async with rig_on(tmp_path / "a.db") as rig:
        dispatcher = await rig.start()
        await rig.endpoint((await serve(post)).url, concurrency=8)
        for n in range(0, total, 500):
            await rig.publish(*(f"evt_{n + i:05}" for i in range(500)))
            assert dispatcher.stats().queued <= MAX_QUEUED
        assert dispatcher.stats().queued == MAX_QUEUED
        post.gate.set()
        await rig.settled()
        assert set((await rig.states()).values()) == {State.SUCCEEDED}
    assert sorted(post.ids) == [f"evt_{n:05}" for n in range(total)]


async def test_the_bytes_held_in_queues_are_bounded(tmp_path: Path, serve: Serve) -> None:
    post = Post()
    post.gate.clear()
    async with rig_on(tmp_path / "a.db") as rig:
        dispatcher = await rig.start(max_queued_bytes=100_000)
        url = (await serve(post)).url
        for _ in range(4):
            await rig.endpoint(url, concurrency=1)
        for n in range(40):
            await rig.publish(f"evt_{n}", data=b"x" * 9000, kind="text")
            assert dispatcher.stats().queued_bytes <= 100_000
        await rig.publish("huge", data=b"x" * 200_000, kind="text")
        assert 50_000 < dispatcher.stats().queued_bytes <= 100_000
        post.gate.set()
        await rig.settled()
        assert dispatcher.stats().queued_bytes == 0
    assert Counter(post.ids) == {**{f"evt_{n}": 4 for n in range(40)}, "huge": 4}


async def test_small_events_in_queues_are_counted_with_all_that_they_take(tmp_path: Path, serve: Serve) -> None:
    post = Post()
    post.gate.clear()
    async with rig_on(tmp_path / "a.db") as rig:
        dispatcher = await rig.start(max_queued_bytes=100 * OVERHEAD)
        url = (await serve(post)).url
        for _ in range(4):
            await rig.endpoint(url, concurrency=1)
        for n in range(0, 200, 50):
            await rig.publish(*(f"evt_{n + i:03}" for i in range(50)))
            assert dispatcher.stats().queued < 100
        post.gate.set()
        await rig.settled()
    assert Counter(post.ids) == {f"evt_{n:03}": 4 for n in range(200)}


async def test_while_outcomes_cannot_be_recorded_nothing_is_lost_or_sent_twice(tmp_path: Path, serve: Serve) -> None:
    post, other = Post(), Post()
    ids = [f"evt_{n:03}" for n in range(200)]

    async with rig_on(tmp_path / "a.db") as rig:
        table = Troubled(rig.store)
        dispatcher = await rig.start(table, max_unrecorded=50)
        await rig.endpoint((await serve(post)).url, channels=("orders.*",), concurrency=5)
        await rig.endpoint((await serve(other)).url, channels=("other",))
        table.trouble = full
        await rig.publish(*ids)
        await until(lambda: dispatcher.stats().unrecorded >= 50 and dispatcher.stats().in_flight == 0)
        for failures in range(2, 8):
            rig.time.move(30)
            await until(lambda: dispatcher.stats().record_failures == failures)  # noqa: B023 - awaited at once
        assert 50 <= len(post.requests) < 55
        await rig.publish("other", channels=("other",))
        assert dispatcher.stats().in_flight == 0
        # They have all arrived, and a start would know of none of it.
        assert dispatcher.stats().repeatable == len(post.requests)
        assert set((await rig.states()).values()) == {State.PENDING}
        table.trouble = lambda _: None
        rig.time.move(30)
        await rig.settled()
        assert set((await rig.states()).values()) == {State.SUCCEEDED}
    assert sorted(post.ids) == ids
    assert other.ids == ["other"]


async def test_who_waited_only_for_the_disk_goes_on_by_itself(tmp_path: Path, serve: Serve) -> None:
    post, other = Post(), Post()
    async with rig_on(tmp_path / "a.db") as rig:
        table = Troubled(rig.store)
        dispatcher = await rig.start(table, max_unrecorded=5)
        await rig.endpoint((await serve(post)).url, channels=("orders.*",))
        await rig.endpoint((await serve(other)).url, channels=("other",))
        table.trouble = full
        await rig.publish(*(f"evt_{n}" for n in range(5)))
        await until(lambda: dispatcher.stats().unrecorded == 5)
        await rig.publish("other", channels=("other",))
        table.trouble = lambda _: None
        rig.time.move(30)
        await until(lambda: other.ids == ["other"])
        await rig.settled()


async def test_an_outcome_that_cannot_be_written_does_not_keep_the_others_from_the_table(
    tmp_path: Path, serve: Serve
) -> None:
    post = Post()

    def choosy(outcomes: Sequence[Outcome]) -> None:
        if any(outcome.attempt.delivery_id == bad for outcome in outcomes):
            raise ValueError("this one cannot be written")

    async with rig_on(tmp_path / "a.db") as rig:
        table = Troubled(rig.store)
        dispatcher = await rig.start(table)
        await rig.endpoint((await serve(post)).url, concurrency=50)
        post.gate.clear()
        await rig.publish(*(f"evt_{n}" for n in range(50)))
        bad = (await rig.row("evt_17")).id
        table.trouble = choosy
        await until(lambda: post.now == 50)
        logging.disable(logging.CRITICAL)
        try:
            post.gate.set()
            await rig.settled()
        finally:
            logging.disable(logging.NOTSET)
        assert dispatcher.stats().set_aside == 1
        states = await rig.states()
        assert states.pop("evt_17") is State.PENDING
        assert set(states.values()) == {State.SUCCEEDED}
        await rig.advance(200)
    assert Counter(post.ids)["evt_17"] == 1


async def test_a_busy_endpoint_still_gets_its_retries_in_time(tmp_path: Path, serve: Serve) -> None:
    post = Post("500 Oh No")
    slow = Post()
    async with rig_on(tmp_path / "a.db") as rig:
        dispatcher = await rig.start()
        endpoint = await rig.endpoint((await serve(post)).url, retry=(5.0, 5.0, 5.0), concurrency=2)
        await rig.publish("evt_1", "evt_2")
        await rig.settled()
        slow.gate.clear()
        await rig.change(endpoint, url=(await serve(slow)).url)
        await rig.publish("evt_3")
        await until(lambda: slow.ids == ["evt_3"])
        for _ in range(12):
            rig.time.move(1)
            await until(lambda: not any(task.get_name() == "hookbrook pager" for task in asyncio.all_tasks()))
        # The one other slot is taken by the first retry; the second waits for it in memory.
        await until(lambda: len(slow.requests) == 2)
        assert dispatcher.stats().queued == 1
        slow.gate.set()
        await rig.settled()
        assert set((await rig.states()).values()) == {State.SUCCEEDED}


@pytest.mark.parametrize("jump_s", [DAY_S, -DAY_S])
async def test_a_clock_set_by_a_day_neither_loses_nor_stalls_a_delivery(
    tmp_path: Path, serve: Serve, jump_s: float
) -> None:
    post = Post("500 Oh No")
    async with rig_on(tmp_path / "a.db") as rig:
        await rig.start()
        await rig.endpoint((await serve(post)).url, retry=(300.0, 300.0, 300.0))
        await rig.publish("evt_1")
        await rig.settled()
        rig.time.set_wall(jump_s)
        await rig.publish("evt_2")
        await rig.settled()
        await rig.advance(361)
        times = Counter(post.ids)
        # A clock set forward makes the first retry due at once, and the sweep finds it within a minute; then the second
        # may be due by now as well.
        early = times["evt_1"] - 2
        assert early in ((0, 1) if jump_s > 0 else (0,))
        assert times["evt_2"] == 2
        post.answer = "204 No Content"
        await rig.advance(361)
        assert set((await rig.states()).values()) == {State.SUCCEEDED}
        assert Counter(post.ids) == {"evt_1": 3 + early, "evt_2": 3}
    stamps = [int(request.header("webhook-timestamp") or 0) for request in post.requests]
    assert abs(stamps[-1] - (rig.time.clock() // 1_000_000)) <= 722


# Endpoints change.


async def test_a_disabled_endpoint_gets_nothing_until_it_is_enabled(tmp_path: Path, serve: Serve) -> None:
    post = Post()
    post.gate.clear()
    async with rig_on(tmp_path / "a.db") as rig:
        dispatcher = await rig.start()
        endpoint = await rig.endpoint((await serve(post)).url, concurrency=2)
        await rig.publish(*(f"evt_{n}" for n in range(20)))
        await until(lambda: post.now == 2)
        endpoint = await rig.change(endpoint, enabled=False)
        assert dispatcher.stats().queued == 0
        await rig.publish("later")
        post.gate.set()
        await rig.settled()
        await rig.advance(200)
        assert len(post.requests) == 2
        assert dispatcher.stats().lanes == 0
        await rig.change(endpoint, enabled=True)
        await rig.settled()
        assert set((await rig.states()).values()) == {State.SUCCEEDED}
    assert set(post.ids) == {*(f"evt_{n}" for n in range(20)), "later"}
    # Those two were under way when they were held; what is held is released and sent again.
    assert len(post.ids) <= 23


async def test_a_deleted_endpoint_gets_nothing_more(tmp_path: Path, serve: Serve) -> None:
    post = Post()
    post.gate.clear()
    async with rig_on(tmp_path / "a.db") as rig:
        dispatcher = await rig.start()
        endpoint = await rig.endpoint((await serve(post)).url, concurrency=1)
        await rig.publish("evt_1", "evt_2", "evt_3")
        await until(lambda: post.now == 1)
        await rig.catalog.delete(Endpoint, endpoint.id)
        post.gate.set()
        await rig.settled()
        await rig.publish("evt_4")
        await rig.advance(200)
        assert dispatcher.stats().lanes == 0
    assert post.ids == ["evt_1"]


async def test_a_changed_endpoint_applies_from_the_next_attempt_on(tmp_path: Path, serve: Serve) -> None:
    before, after = Post("500 Oh No"), Post()
    async with rig_on(tmp_path / "a.db", time=VirtualTime(time_ns() // 1000)) as rig:
        await rig.start()
        endpoint = await rig.endpoint((await serve(before)).url)
        await rig.publish("evt_1")
        await rig.settled()
        await rig.change(endpoint, url=(await serve(after)).url, secrets=(OTHER_SECRET,))
        await rig.advance(6.1)
    assert before.ids == after.ids == ["evt_1"]
    Webhook(OTHER_SECRET).verify(after.requests[0].body, dict(after.requests[0].headers))


async def test_a_cancelled_delivery_is_not_begun_any_more(tmp_path: Path, serve: Serve) -> None:
    post = Post()
    post.gate.clear()
    async with rig_on(tmp_path / "a.db") as rig:
        dispatcher = await rig.start()
        endpoint = await rig.endpoint((await serve(post)).url, concurrency=1)
        await rig.publish("evt_1", "evt_2", "evt_3")
        await until(lambda: post.now == 1)
        row = await rig.row("evt_2")
        await rig.store.change(row.id, Happening.CANCELLED, now=rig.time.clock())
        dispatcher.forget(endpoint.id, row.id)
        post.gate.set()
        await rig.settled()
        assert (await rig.row("evt_2")).state is State.CANCELLED
    assert post.ids == ["evt_1", "evt_3"]


# Rest, and the end.


async def test_an_endpoint_at_rest_costs_no_task_no_timer_and_no_lane(tmp_path: Path, serve: Serve) -> None:
    post = Post()
    async with rig_on(tmp_path / "a.db") as rig:
        dispatcher = await rig.start()
        for _ in range(20):
            await rig.endpoint((await serve(post)).url)
        await rig.publish("evt_1", "evt_2")
        await rig.settled()
        assert dispatcher.stats().lanes == 0
        assert [task for task in asyncio.all_tasks() if task.get_name() == "hookbrook attempts"] == []
        # Only the sweep is planned.
        assert rig.time.planned == 1


async def test_a_stop_lets_attempts_end_within_its_grace_and_records_them(tmp_path: Path, serve: Serve) -> None:
    post = Post()
    post.gate.clear()
    async with rig_on(tmp_path / "a.db") as rig:
        dispatcher = await rig.start()
        await rig.endpoint((await serve(post)).url, concurrency=3)
        await rig.publish(*(f"evt_{n}" for n in range(10)))
        await until(lambda: post.now == 3)
        stopping = asyncio.create_task(dispatcher.stop(5))
        await asyncio.sleep(0)
        post.gate.set()
        await stopping
        await rig.publish("late")
        assert Counter((await rig.states()).values()) == {State.SUCCEEDED: 3, State.PENDING: 8}
    assert len(post.requests) == 3


async def test_a_stop_breaks_off_what_does_not_end_and_the_next_start_sends_it(tmp_path: Path, serve: Serve) -> None:
    post = Post()
    post.gate.clear()
    time = VirtualTime()
    async with rig_on(tmp_path / "a.db", time=time) as rig:
        dispatcher = await rig.start()
        await rig.endpoint((await serve(post)).url, concurrency=3)
        await rig.publish("evt_1", "evt_2")
        await until(lambda: post.now == 2)
        await dispatcher.stop(0.05)
        assert set((await rig.states()).values()) == {State.PENDING}
    post.gate.set()
    async with rig_on(tmp_path / "a.db", time=time) as rig:
        await rig.start()
        await rig.advance(0)
        assert set((await rig.states()).values()) == {State.SUCCEEDED}
    assert Counter(post.ids) == {"evt_1": 2, "evt_2": 2}


async def test_a_stop_ends_although_nothing_can_be_recorded(tmp_path: Path, serve: Serve) -> None:
    post = Post()

    async with rig_on(tmp_path / "a.db") as rig:
        table = Troubled(rig.store)
        dispatcher = await rig.start(table)
        await rig.endpoint((await serve(post)).url)
        table.trouble = full
        await rig.publish("evt_1")
        await until(lambda: dispatcher.stats().record_failures == 1)
        await asyncio.wait_for(dispatcher.stop(5), 3)
        assert await rig.states() == {"evt_1": State.PENDING}


async def test_a_stop_records_what_a_full_disk_had_refused(tmp_path: Path, serve: Serve) -> None:
    post = Post()
    async with rig_on(tmp_path / "a.db") as rig:
        table = Troubled(rig.store)
        dispatcher = await rig.start(table)
        await rig.endpoint((await serve(post)).url)
        table.trouble = full
        await rig.publish("evt_1")
        await until(lambda: dispatcher.stats().record_failures == 1)
        table.trouble = lambda _: None
        await dispatcher.stop(5)
        assert await rig.states() == {"evt_1": State.SUCCEEDED}


# All of it at once.


@pytest.mark.parametrize("seed", range(2))
async def test_through_failures_resends_changes_and_restarts_all_is_delivered_and_nothing_twice_at_once(
    tmp_path: Path, serve: Serve, seed: int
) -> None:
    rng = Random(seed)
    time = VirtualTime()
    receivers = [Fickle(rng), Fickle(rng), Fickle(rng)]
    urls = [(await serve(receiver)).url for receiver in receivers]
    published: list[str] = []
    for round_ in range(3):
        async with rig_on(tmp_path / "a.db", time=time) as rig:
            dispatcher = await rig.start(max_in_flight=9, max_queued_bytes=15 * OVERHEAD, max_unrecorded=20)
            if round_ == 0:
                for url in urls:
                    await rig.endpoint(url, concurrency=4, retry=tuple([3.0] * 40))
            for _ in range(25):
                ids = [f"evt_{len(published) + n:04}" for n in range(rng.randrange(1, 30))]
                published += ids
                await rig.publish(*ids)
                await disturb(rig, rng)
                time.move(rng.choice([0, 0, 1, 4, 61]))
                await asyncio.sleep(0.002)
            if round_ < 2:
                await dispatcher.stop(rng.choice([0, 0.02]))
                continue
            for receiver in receivers:
                receiver.kind = True
            for endpoint in list(rig.catalog.routes.by_id.values()):
                if not endpoint.enabled:
                    await rig.change(endpoint, enabled=True)
            await rig.settled()
            await rig.advance(200)
            assert Counter(row.state for row in await rig.rows()) == {State.SUCCEEDED: 3 * len(published)}
            assert dispatcher.stats().lanes == 0
            assert dispatcher.stats().internal_errors == 0
    for receiver in receivers:
        assert receiver.doubled == set()
        assert set(receiver.ids) == set(published)


class Fickle(Post):
    """A receiver that is slow, or fails, or breaks the connection, as chance has it, until it is told to be kind."""

    def __init__(self, rng: Random) -> None:
        super().__init__()
        self.rng = rng
        self.kind = False

    async def __call__(self, peer: Peer) -> None:
        while True:
            request = await peer.request()
            event_id = request.header("webhook-id") or ""
            self.requests.append(request)
            self.open[event_id] += 1
            if self.open[event_id] > 1:
                self.doubled.add(event_id)
            mood = 1.0 if self.kind else self.rng.random()
            if mood < 0.2:
                await asyncio.sleep(mood / 20)
            self.open[event_id] -= 1
            if 0.2 < mood < 0.3:
                peer.reset()
                return
            await peer.write(answer("500 Oh No" if mood < 0.5 else "204 No Content"))


async def disturb(rig: Rig, rng: Random) -> None:
    """A person does something."""
    assert rig.dispatcher is not None
    endpoint = rng.choice(list(rig.catalog.routes.by_id.values()))
    match rng.randrange(8):
        case 0:
            await rig.change(endpoint, enabled=not endpoint.enabled)
        case 1:
            await rig.change(endpoint, concurrency=rng.randrange(1, 6))
        case 2:
            rows = await rig.store.deliveries(DeliveryQuery(states=(State.PENDING,), limit=5))
            for row in rows:
                # It may have ended meanwhile; then it is sent once more, which is what a resend is for.
                await rig.store.change(row.id, Happening.RESENT, now=rig.time.clock())
                rig.dispatcher.poke(row.endpoint_id)
        case _:
            pass


class Unlucky(Random):
    """A source of chance that fails, as nothing should, once an attempt has been made."""

    def uniform(self, a: float, b: float) -> float:
        raise RuntimeError("no luck")


async def test_what_was_sent_but_could_not_be_concluded_is_not_sent_again_at_once(
    tmp_path: Path, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    post = Post("500 Oh No")
    async with rig_on(tmp_path / "a.db", rng=Unlucky(7)) as rig:
        dispatcher = await rig.start()
        await rig.endpoint((await serve(post)).url)
        await rig.publish("a")
        await rig.settled()
        assert post.ids == ["a"]
        await rig.advance(10)
        assert 2 <= len(post.ids) <= 11
        assert dispatcher.stats().in_flight == 0
        assert (await rig.row("a")).state is State.PENDING
    assert "no luck" in caplog.text
