"""A language engine that works in the background: it takes a question by webhook and calls back with the answer.

It knows nothing of Hookbrook. Its whole contract is: `POST /webhook`, signed as Standard Webhooks say, is answered
with 202 as soon as the question is on the disk; some time later signed webhooks go to the callback URL that it was
configured with, each repeated until it is answered with 2xx:

    {"type": "reply.accepted", "conversation": …, "reply": …, "engine": …, "webhook": …}   work has begun
    {"type": "reply.delta",    "conversation": …, "reply": …, "from": n, "tokens": […]}    a part (models only)
    {"type": "reply.finished", "conversation": …, "reply": …, "text": …}                   the whole reply

A webhook that comes twice is worked on once. The engine may be killed at any moment: it goes on where the file says.

    ENGINE_WEBHOOK_SECRET=whsec_… ENGINE_CALLBACK_SECRET=whsec_… \
        python engine.py --port 4666 --callback-url http://127.0.0.1:4665/in/engine --docs ../../docs

With OPENAI_BASE_URL and OPENAI_API_KEY set, a model (OPENAI_MODEL) answers instead of retrieval.
"""

import argparse
import asyncio
import json
import logging
import os
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import aiohttp
from aiohttp import web
from answers import Answerer, Model, Retrieval
from jobs import Callback, Jobs, Question
from retrieval import Library
from signature import BadSignature, sign, verify

log = logging.getLogger("engine")

#: A question is small; more than this is a mistake.
LARGEST_WEBHOOK = 64 * 1024

#: Questions worked on at the same time; the others wait in the file.
WORKERS = 8

#: Seconds between the tries of a callback: quick at first, and never slower than this.
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0

CALLBACK_TIMEOUT = aiohttp.ClientTimeout(total=10)


class Engine:
    """Works on every unfinished job of the file, and on each new one."""

    def __init__(
        self, jobs: Jobs, answerer: Answerer, http: aiohttp.ClientSession, callback_url: str, callback_secret: str
    ) -> None:
        self._jobs = jobs
        self._answerer = answerer
        self._http = http
        self._callback_url = callback_url
        self._callback_secret = callback_secret
        self._slots = asyncio.Semaphore(WORKERS)
        self._tasks: set[asyncio.Task[None]] = set()

    def resume(self) -> None:
        for job in self._jobs.unfinished():
            log.info("%s is unfinished: going on with it", job)
            self._begin(job)

    def accept(self, job: str, question: Question) -> None:
        """Keep a question and begin to work on it; nothing happens if it is known already."""
        if self._jobs.accept(job, question):
            log.info("%s accepted: %r", job, question.text)
            self._begin(job)
        else:
            log.info("%s came again and is known already", job)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, job: str) -> None:
        task = asyncio.create_task(self._work(job), name=job)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self, job: str) -> None:
        try:
            async with self._slots, asyncio.TaskGroup() as both:
                news = asyncio.Event()
                both.create_task(self._write(job, news))
                both.create_task(self._send(job, news))
        except Exception:  # one job's fault must not end the others; the file still has it at the next start
            log.exception("%s could not be finished", job)

    async def _write(self, job: str, news: asyncio.Event) -> None:
        """Find the answer, and write down every callback that it takes."""
        if self._jobs.is_finished(job):
            return
        question = self._jobs.question(job)
        common = {"conversation": question.conversation, "reply": question.reply}
        accepted = {"type": "reply.accepted", **common, "engine": self._answerer.name, "webhook": job}
        self._jobs.owe(job, f"{job}-accepted", accepted)
        news.set()

        told = [token for callback in self._jobs.callbacks(job) for token in callback.get("tokens", ())]

        def tell(tokens: Sequence[str]) -> None:
            delta = {"type": "reply.delta", **common, "from": len(told) + 1, "tokens": list(tokens)}
            self._jobs.owe(job, f"{job}-{len(told) + 1}", delta)
            told.extend(tokens)
            news.set()

        text = await self._answerer.answer(question.text, "".join(told), tell)
        self._jobs.owe(job, f"{job}-finished", {"type": "reply.finished", **common, "text": text}, last=True)
        news.set()

    async def _send(self, job: str, news: asyncio.Event) -> None:
        """Send what is owed, in order, until the job is finished and nothing is."""
        while True:
            if callback := self._jobs.next_owed(job):
                await self._call_back(callback)
                self._jobs.mark_sent(callback.id)
            elif self._jobs.is_finished(job):
                log.info("%s finished", job)
                return
            else:
                await news.wait()
                news.clear()

    async def _call_back(self, callback: Callback) -> None:
        pause = FIRST_PAUSE
        while (outcome := await self._try_callback(callback)) != "":
            log.warning("callback %s: %s; again in %.1f s", callback.id, outcome, pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _try_callback(self, callback: Callback) -> str:
        """One try; empty if it succeeded, else what went wrong."""
        body, now = callback.body.encode(), int(time.time())
        headers = {
            "content-type": "application/json",
            "webhook-id": callback.id,
            "webhook-timestamp": str(now),
            "webhook-signature": sign(self._callback_secret, callback.id, now, body),
        }
        try:
            async with self._http.post(
                self._callback_url, data=body, headers=headers, timeout=CALLBACK_TIMEOUT, allow_redirects=False
            ) as response:
                refusal = "" if response.ok else (await response.content.read(300)).decode(errors="replace")
                return "" if response.ok else f"answered {response.status} {refusal}"
        except (aiohttp.ClientError, TimeoutError) as error:
            return str(error) or type(error).__name__


def read_question(body: bytes) -> Question:
    """The question in a webhook's body; raises ValueError if there is none."""
    try:
        document = json.loads(body)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    match document:
        case {"conversation": str(conversation), "reply": str(reply), "text": str(text)}:
            return Question(conversation=conversation, reply=reply, text=text)
    raise ValueError("expected an object with conversation, reply and text")


def make_app(options: argparse.Namespace) -> web.Application:
    app = web.Application(client_max_size=LARGEST_WEBHOOK)
    engine_key = web.AppKey("engine", Engine)
    name_key = web.AppKey("name", str)
    webhook_secret = os.environ["ENGINE_WEBHOOK_SECRET"]

    async def running(app: web.Application) -> AsyncIterator[None]:
        jobs = Jobs(options.data)
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
            answerer = choose_answerer(Library.read(options.docs), http, options.work_seconds)
            callback_secret = os.environ["ENGINE_CALLBACK_SECRET"]
            engine = app[engine_key] = Engine(jobs, answerer, http, options.callback_url, callback_secret)
            app[name_key] = answerer.name
            log.info("answering %s, calling back to %s", answerer.name, options.callback_url)
            engine.resume()
            yield
            await engine.stop()
        jobs.close()

    async def receive(request: web.Request) -> web.Response:
        body = await request.read()
        try:
            job = verify(webhook_secret, request.headers, body, time.time())
            question = read_question(body)
        except BadSignature as error:
            log.warning("refused a webhook: %s", error)
            return web.json_response({"error": str(error)}, status=401)
        except ValueError as error:
            return web.json_response({"error": str(error)}, status=400)
        request.app[engine_key].accept(job, question)
        return web.json_response({"accepted": job}, status=202)

    async def healthz(request: web.Request) -> web.Response:
        return web.json_response({"engine": request.app[name_key]})

    app.cleanup_ctx.append(running)
    app.add_routes([web.post("/webhook", receive), web.get("/healthz", healthz)])
    return app


def choose_answerer(library: Library, http: aiohttp.ClientSession, work_seconds: float) -> Answerer:
    base_url, key = os.environ.get("OPENAI_BASE_URL"), os.environ.get("OPENAI_API_KEY")
    if base_url and key:
        return Model(library, http, base_url, key, os.environ.get("OPENAI_MODEL", "gpt-4o-mini"))
    return Retrieval(library, work_seconds)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A language engine with a webhook for questions and answers.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=4666)
    parser.add_argument("--data", type=Path, default=Path("engine.db"), help="the file that remembers all jobs")
    parser.add_argument("--callback-url", required=True, help="where finished replies are posted")
    parser.add_argument("--docs", type=Path, nargs="+", default=[], help="Markdown files, or folders of them")
    parser.add_argument("--work-seconds", type=float, default=1.2, help="how long retrieval takes its time")
    missing = [name for name in ("ENGINE_WEBHOOK_SECRET", "ENGINE_CALLBACK_SECRET") if not os.environ.get(name)]
    if missing:
        parser.error(f"set {' and '.join(missing)}, written whsec_ and base64")
    return parser.parse_args()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s engine %(levelname)s %(message)s")
    chosen = read_options()
    web.run_app(make_app(chosen), host=chosen.host, port=chosen.port, shutdown_timeout=1, access_log=None, print=None)
