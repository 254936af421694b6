"""The engine as a black box: signed webhooks go in, signed callbacks come out. `standardwebhooks` signs and judges."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from standardwebhooks import Webhook

if TYPE_CHECKING:
    from tests.examples.conftest import Program

Until = Callable[[Callable[[], Any], str], Awaitable[Any]]
StartEngine = Callable[..., Awaitable["Program"]]


class Receiver:
    """Where the engine calls back: it believes only what `standardwebhooks` verifies."""

    def __init__(self, secret: str) -> None:
        self.url = ""
        self.secret = secret
        self.refuse_next = 0
        self.tries: list[str] = []
        self.callbacks: list[dict[str, Any]] = []
        self.ids: list[str] = []

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        callback = Webhook(self.secret).verify(body, dict(request.headers))
        webhook_id = request.headers["webhook-id"]
        self.tries.append(webhook_id)
        if self.refuse_next > 0:
            self.refuse_next -= 1
            return web.Response(status=503)
        if webhook_id not in self.ids:
            self.ids.append(webhook_id)
            self.callbacks.append(callback)
        return web.Response(status=204)

    def of(self, type: str) -> list[dict[str, Any]]:
        return [callback for callback in self.callbacks if callback["type"] == type]


async def serve(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> TestServer:
    app = web.Application()
    app.router.add_post("/{path:.*}", handler)
    server = TestServer(app)
    await server.start_server()
    return server


@pytest.fixture
async def receiver(secrets: dict[str, str]) -> AsyncIterator[Receiver]:
    receiver = Receiver(secrets["ENGINE_CALLBACK_SECRET"])
    server = await serve(receiver.handle)
    receiver.url = str(server.make_url("/in/engine"))
    yield receiver
    await server.close()


@pytest.fixture
def start_engine(
    run: Callable[..., Any], receiver: Receiver, secrets: dict[str, str], docs: Path, tmp_path: Path
) -> StartEngine:
    async def start(*, work_seconds: float = 0.0, callback_url: str = "", **environment: str) -> "Program":
        arguments = ("--data", str(tmp_path / "engine.db"), "--docs", str(docs), "--work-seconds", str(work_seconds))
        url = callback_url or receiver.url
        program: Program = await run("engine.py", *arguments, "--callback-url", url, **secrets, **environment)
        return program

    return start


async def ask(
    engine: "Program", secret: str, text: str = "What is Hookbrook?", *, webhook: str = "evt_1", **changed: str
) -> int:
    """Send a question as `standardwebhooks` signs it; the status that came back."""
    data = {"role": "user", "text": text, "conversation": "c1", "reply": f"{webhook}-reply"}
    body = json.dumps(data)
    now = datetime.now(UTC)
    headers = {
        "content-type": "application/json",
        "webhook-id": webhook,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign(webhook, now, body),
        **changed,
    }
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{engine.url}/webhook", data=body, headers=headers) as answer,
    ):
        return answer.status


async def test_a_question_is_accepted_at_once_and_answered_by_callbacks(
    start_engine: StartEngine, receiver: Receiver, secrets: dict[str, str], until: Until
) -> None:
    engine = await start_engine(work_seconds=0.5)
    asked = asyncio.get_running_loop().time()
    assert await ask(engine, secrets["ENGINE_WEBHOOK_SECRET"]) == 202
    assert asyncio.get_running_loop().time() - asked < 0.5
    assert receiver.of("reply.finished") == []

    await until(lambda: receiver.of("reply.finished"), "the reply")
    accepted, finished = receiver.callbacks
    assert accepted == {
        "type": "reply.accepted",
        "conversation": "c1",
        "reply": "evt_1-reply",
        "engine": "by retrieval from Hookbrook's docs",
        "webhook": "evt_1",
    }
    assert (finished["type"], finished["conversation"], finished["reply"]) == ("reply.finished", "c1", "evt_1-reply")
    assert "self-hosted event gateway" in finished["text"]
    assert len(finished["text"].split()) >= 40


async def test_a_repeated_webhook_is_accepted_and_not_worked_on_twice(
    start_engine: StartEngine, receiver: Receiver, secrets: dict[str, str], until: Until
) -> None:
    engine = await start_engine(work_seconds=0.1)
    for _ in range(3):
        assert await ask(engine, secrets["ENGINE_WEBHOOK_SECRET"]) == 202
    await until(lambda: receiver.of("reply.finished"), "the reply")
    assert await ask(engine, secrets["ENGINE_WEBHOOK_SECRET"]) == 202

    # Another question is answered after whatever the repeats could still have caused.
    assert await ask(engine, secrets["ENGINE_WEBHOOK_SECRET"], webhook="evt_2") == 202
    await until(lambda: len(receiver.of("reply.finished")) == 2, "the second reply")
    assert receiver.tries == ["evt_1-accepted", "evt_1-finished", "evt_2-accepted", "evt_2-finished"]


async def test_a_refused_callback_is_sent_again_under_the_same_id_until_it_is_taken(
    start_engine: StartEngine, receiver: Receiver, secrets: dict[str, str], until: Until
) -> None:
    receiver.refuse_next = 2
    engine = await start_engine()
    await ask(engine, secrets["ENGINE_WEBHOOK_SECRET"])
    await until(lambda: receiver.of("reply.finished"), "the reply")
    assert receiver.tries == ["evt_1-accepted"] * 3 + ["evt_1-finished"]


async def test_an_engine_killed_while_it_works_finishes_exactly_that_job_after_a_restart(
    start_engine: StartEngine, receiver: Receiver, secrets: dict[str, str], until: Until
) -> None:
    engine = await start_engine(work_seconds=0.7)
    await ask(engine, secrets["ENGINE_WEBHOOK_SECRET"])
    await until(lambda: receiver.of("reply.accepted"), "the beginning of the work")
    await engine.kill()
    assert receiver.of("reply.finished") == []

    await engine.start()
    await until(lambda: receiver.of("reply.finished"), "the reply")
    assert receiver.ids == ["evt_1-accepted", "evt_1-finished"]


async def test_an_engine_killed_before_it_could_call_back_does_so_after_a_restart(
    start_engine: StartEngine, receiver: Receiver, secrets: dict[str, str], until: Until
) -> None:
    receiver.refuse_next = 1_000_000
    engine = await start_engine()
    await ask(engine, secrets["ENGINE_WEBHOOK_SECRET"])
    await until(lambda: receiver.tries, "a try")
    await engine.kill()
    receiver.refuse_next = 0

    await engine.start()
    await until(lambda: receiver.of("reply.finished"), "the reply")
    assert receiver.ids == ["evt_1-accepted", "evt_1-finished"]


async def test_what_was_finished_before_a_kill_is_not_sent_again(
    start_engine: StartEngine, receiver: Receiver, secrets: dict[str, str], until: Until
) -> None:
    engine = await start_engine()
    await ask(engine, secrets["ENGINE_WEBHOOK_SECRET"])
    await until(lambda: "evt_1 finished" in engine.log, "the end of the job")
    await engine.kill()
    await engine.start()
    await ask(engine, secrets["ENGINE_WEBHOOK_SECRET"], webhook="evt_2")
    await until(lambda: len(receiver.of("reply.finished")) == 2, "the second reply")
    assert receiver.tries == ["evt_1-accepted", "evt_1-finished", "evt_2-accepted", "evt_2-finished"]


async def test_an_engine_stops_within_seconds_when_asked_to(
    start_engine: StartEngine, receiver: Receiver, secrets: dict[str, str], until: Until
) -> None:
    engine = await start_engine(work_seconds=60)
    await ask(engine, secrets["ENGINE_WEBHOOK_SECRET"])
    await until(lambda: receiver.of("reply.accepted"), "the beginning of the work")
    assert await asyncio.wait_for(engine.stop(), 5) == 0


NOT_OURS = (
    {"webhook-signature": "v1,AAAA"},
    {"webhook-signature": ""},
    {"webhook-signature": "v2,é"},
    {"webhook-id": "evt_other"},
    {"webhook-id": ""},
    {"webhook-timestamp": "1700000000"},
    {"webhook-timestamp": str(int((datetime.now(UTC) + timedelta(hours=1)).timestamp()))},
    {"webhook-timestamp": "now"},
)


async def test_webhooks_that_do_not_verify_are_refused_and_not_worked_on(
    start_engine: StartEngine, receiver: Receiver, secrets: dict[str, str], until: Until
) -> None:
    engine = await start_engine()
    secret = secrets["ENGINE_WEBHOOK_SECRET"]
    statuses = [await ask(engine, secret, webhook="evt_bad", **changed) for changed in NOT_OURS]
    assert statuses == [401] * len(NOT_OURS)
    assert await ask(engine, secret, webhook="evt_good") == 202
    await until(lambda: receiver.of("reply.finished"), "the reply")
    assert receiver.ids == ["evt_good-accepted", "evt_good-finished"]


async def test_another_secret_is_refused(start_engine: StartEngine, make_secret: Callable[[], str]) -> None:
    engine = await start_engine()
    assert await ask(engine, make_secret()) == 401
    assert "refused a webhook" in engine.log


async def test_signed_bodies_that_ask_nothing_are_bad_requests(
    start_engine: StartEngine, secrets: dict[str, str]
) -> None:
    engine = await start_engine()
    now = datetime.now(UTC)
    async with aiohttp.ClientSession() as http:
        for body in ("", "[]", "{}", '{"text": 1, "conversation": "c", "reply": "r"}', "[" * 10_000):
            signature = Webhook(secrets["ENGINE_WEBHOOK_SECRET"]).sign("evt_1", now, body)
            timestamp = str(int(now.timestamp()))
            headers = {"webhook-id": "evt_1", "webhook-timestamp": timestamp, "webhook-signature": signature}
            async with http.post(f"{engine.url}/webhook", data=body, headers=headers) as answer:
                assert answer.status == 400, body[:60]


class FakeModel:
    """A server with the chat completions API that streams the given words, and breaks off where it is told to."""

    def __init__(self, words: list[str], break_after: int | None = None, *, down: bool = False) -> None:
        self.words = words
        self.break_after = break_after
        self.down = down
        self.requests: list[dict[str, Any]] = []
        self.authorization = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.authorization = request.headers["Authorization"]
        asked = await request.json()
        self.requests.append(asked)
        if self.down:
            return web.Response(status=500)
        so_far = "".join(message["content"] for message in asked["messages"] if message["role"] == "assistant")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await self._send(response, {"choices": [{"delta": {"role": "assistant"}}]})
        rest = self.words[:]
        while so_far and rest:
            so_far = so_far.removeprefix(rest.pop(0))
        for number, word in enumerate(rest):
            if number == self.break_after:
                self.break_after = None
                assert request.transport is not None
                request.transport.abort()
                return response
            await self._send(response, {"choices": [{"delta": {"content": word}}]})
            await asyncio.sleep(0.05)
        await response.write(b"data: [DONE]\n\n")
        return response

    async def _send(self, response: web.StreamResponse, chunk: dict[str, Any]) -> None:
        await response.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")


@pytest.fixture
async def start_with_model(start_engine: StartEngine) -> AsyncIterator[Callable[[FakeModel], Awaitable["Program"]]]:
    servers = []

    async def start(model: FakeModel) -> "Program":
        server = await serve(model.handle)
        servers.append(server)
        url = str(server.make_url("/v1"))
        return await start_engine(OPENAI_BASE_URL=url, OPENAI_API_KEY="sk-test", OPENAI_MODEL="fake-1")

    yield start
    for server in servers:
        await server.close()


def tokens_of(receiver: Receiver) -> list[str]:
    """All tokens of the deltas, whose numbers must go on without a gap."""
    tokens: list[str] = []
    for delta in receiver.of("reply.delta"):
        assert delta["from"] == len(tokens) + 1
        tokens += delta["tokens"]
    return tokens


WORDS = [f"word{number} " for number in range(20)]


async def test_tokens_of_a_model_pass_through_while_they_come(
    start_with_model: Callable[[FakeModel], Awaitable["Program"]],
    receiver: Receiver,
    secrets: dict[str, str],
    until: Until,
) -> None:
    model = FakeModel(WORDS)
    engine = await start_with_model(model)
    await ask(engine, secrets["ENGINE_WEBHOOK_SECRET"])
    await until(lambda: len(receiver.of("reply.delta")) >= 3, "some tokens")
    assert receiver.of("reply.finished") == []

    await until(lambda: receiver.of("reply.finished"), "the reply")
    assert tokens_of(receiver) == WORDS
    assert receiver.of("reply.finished")[0]["text"] == "".join(WORDS)
    assert receiver.of("reply.accepted")[0]["engine"].startswith("by fake-1 at 127.0.0.1:")
    assert model.authorization == "Bearer sk-test"
    asked = model.requests[0]
    assert (asked["model"], asked["stream"]) == ("fake-1", True)
    assert "docs/start.md" in asked["messages"][0]["content"]
    assert asked["messages"][1] == {"role": "user", "content": "What is Hookbrook?"}


async def test_a_model_that_breaks_off_is_asked_to_go_on_where_it_stopped(
    start_with_model: Callable[[FakeModel], Awaitable["Program"]],
    receiver: Receiver,
    secrets: dict[str, str],
    until: Until,
) -> None:
    model = FakeModel(WORDS, break_after=7)
    engine = await start_with_model(model)
    await ask(engine, secrets["ENGINE_WEBHOOK_SECRET"])
    finished = (await until(lambda: receiver.of("reply.finished"), "the reply"))[0]
    assert tokens_of(receiver) == WORDS
    assert finished["text"] == "".join(WORDS)
    assert len(model.requests) == 2


async def test_an_engine_killed_between_two_tokens_goes_on_with_the_next(
    start_with_model: Callable[[FakeModel], Awaitable["Program"]],
    receiver: Receiver,
    secrets: dict[str, str],
    until: Until,
) -> None:
    engine = await start_with_model(FakeModel(WORDS))
    await ask(engine, secrets["ENGINE_WEBHOOK_SECRET"])
    await until(lambda: len(receiver.of("reply.delta")) >= 2, "some tokens")
    await engine.kill()
    assert receiver.of("reply.finished") == []

    await engine.start()
    finished = (await until(lambda: receiver.of("reply.finished"), "the reply"))[0]
    assert tokens_of(receiver) == WORDS
    assert finished["text"] == "".join(WORDS)


async def test_a_model_that_stays_away_ends_the_reply_with_a_sentence_that_says_so(
    start_with_model: Callable[[FakeModel], Awaitable["Program"]],
    receiver: Receiver,
    secrets: dict[str, str],
    until: Until,
) -> None:
    model = FakeModel(WORDS, down=True)
    engine = await start_with_model(model)
    await ask(engine, secrets["ENGINE_WEBHOOK_SECRET"])
    finished = (await until(lambda: receiver.of("reply.finished"), "the reply"))[0]
    assert finished["text"] == "[The reply ends here: fake-1 could not be reached or failed: it answered 500]"
    assert "".join(tokens_of(receiver)) == finished["text"]
    assert len(model.requests) == 3
