"""A chat application on Hookbrook: what you would write yourself, with `pip install hookbrook`.

    browser ──POST /chat/messages──► app ──publish──► Hookbrook ──signed webhook──► engine
       ▲                                                  ▲                           │ works for a while
       └──EventSource /chat/stream── app ◄──SSE── chat.… ─┤ ◄──signed callback to /in/engine
                                      └─ words, as NDJSON ┘

Three things happen here. A message that the browser posts is published on the conversation's channel. The engine's
replies, which Hookbrook verified and appended to `engine.replies`, are published word by word on that channel. And
the channel's stream is passed on to the browser, as it is.

    HOOKBROOK_URL=http://127.0.0.1:4665 python app.py --port 4667
"""

import argparse
import asyncio
import hashlib
import json
import logging
import os
import re
import secrets
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
from aiohttp import web
from aiohttp.typedefs import Handler
from replies import Bookmark, Reply

from hookbrook import ApiError, AsyncHookbrook, AsyncStream, ConnectionFailed, Event, HookbrookError

log = logging.getLogger("app")

PAGE = Path(__file__).parent / "page"
COOKIE = "chat_session"
LONGEST_MESSAGE = 2000

#: The engine's events; others on its channel are not for us.
CALLBACKS = frozenset({"reply.accepted", "reply.delta", "reply.finished"})

#: What a page that was just opened shows of the conversation.
HISTORY = 1000

#: Seconds until Hookbrook is tried again while it is away.
PAUSE = 0.5

SECURITY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
EVENT_STREAM = {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class Chat:
    """The application. `hb` publishes and follows; `http` passes streams on as bytes."""

    def __init__(self, hb: AsyncHookbrook, http: aiohttp.ClientSession, options: argparse.Namespace) -> None:
        self._hb = hb
        self._http = http
        self._url: str = options.hookbrook
        self._key: str | None = options.key
        self._engine: str = options.engine
        self._pace: float = options.pace
        self._bookmark = Bookmark(options.data)
        self._replies: dict[str, Reply] = {}

    async def send_message(self, request: web.Request) -> web.Response:
        """Publish what the user typed. The page chose the id, so a double click or a retry changes nothing."""
        try:
            body = await request.json()
            message, text = str(body["id"]), str(body["text"]).strip()
        except (ValueError, KeyError, TypeError):
            raise web.HTTPBadRequest(text="expected JSON with id and text") from None
        if request.content_type != "application/json" or not re.fullmatch(r"[0-9A-Za-z]{1,64}", message):
            raise web.HTTPBadRequest(text="expected application/json, and an id of 1 to 64 letters and digits")
        if not 0 < len(text) <= LONGEST_MESSAGE:
            raise web.HTTPBadRequest(text=f"a message has 1 to {LONGEST_MESSAGE} characters")
        conversation = conversation_of(request)
        event_id = f"{conversation}-{message}"
        reply = f"{event_id}-reply"
        data = {"role": "user", "text": text, "message": message, "conversation": conversation, "reply": reply}
        try:
            published = await self._hb.publish(f"chat.{conversation}", data, type="chat.message", id=event_id)
        except HookbrookError as error:
            log.warning("could not publish: %s", error)
            raise web.HTTPServiceUnavailable(text="Hookbrook does not answer; send it again") from error
        return web.json_response({"id": published.id, "cursor": published.cursor}, status=201)

    async def follow_engine(self) -> None:
        """Publish every reply of the engine, several at a time; begin where the bookmark lies."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                try:
                    async for event in self._engine_events():
                        if reply := self._find_reply(event, tasks):
                            self._bookmark.passing(event.cursor, reply)
                            reply.receive(event)
                except HookbrookError as error:
                    log.warning("engine.replies cannot be followed: %s", error)
                await asyncio.sleep(PAUSE)

    def _find_reply(self, event: Event, tasks: asyncio.TaskGroup) -> Reply | None:
        """The reply that a callback belongs to; its publishing begins with the first."""
        match event.type, event.data:
            case str(type), {"reply": str(reply_id), "conversation": str(conversation)} if type in CALLBACKS:
                if reply_id not in self._replies:
                    self._replies[reply_id] = Reply(id=reply_id, conversation=conversation)
                    tasks.create_task(self._publish_reply(self._replies[reply_id]))
                return self._replies[reply_id]
        return None

    def _engine_events(self) -> AsyncStream[Event]:
        cursor = self._bookmark.read()
        last = None if cursor else HISTORY
        return self._hb.stream(
            "engine.replies", after=cursor, last=last, on_reset=lambda reset: log.warning("%s", reset)
        )

    async def _publish_reply(self, reply: Reply) -> None:
        while not reply.published:
            try:
                await self._try_to_publish(reply)
                reply.published = True
            except ConnectionFailed as error:
                # All ids stay the same, so starting again adds only what is missing.
                log.warning("publishing %s was interrupted (%s); starting it again", reply.id, error)
                await asyncio.sleep(PAUSE)
            except ApiError as error:
                log.warning("publishing %s was refused: %s", reply.id, error)
                reply.published = error.status < 500
                await asyncio.sleep(PAUSE)
        del self._replies[reply.id]
        self._bookmark.advance()

    async def _try_to_publish(self, reply: Reply) -> None:
        for step in ("accepted", "verified"):
            if facts := await reply.step(step):
                data = {"reply": reply.id, "step": step, **facts}
                await self._hb.publish(reply.channel, data, type="chat.step", id=f"{reply.id}-{step}")
        words = reply.deltas(self._pace)
        await self._hb.publish_stream(reply.channel, words, type="chat.delta", id_prefix=reply.id)
        done = {"reply": reply.id, "words": len(reply.words)}
        await self._hb.publish(reply.channel, done, type="chat.done", id=f"{reply.id}-done")

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Pass the conversation's stream on, byte by byte, on the page's own origin.

        The frames keep Hookbrook's cursors as their ids, so a browser that comes back resumes at the right word. An
        EventSource gives up for good on any other status than 200; while Hookbrook is away it is told to wait.
        """
        response = web.StreamResponse(headers=EVENT_STREAM)
        await response.prepare(request)
        channel = f"chat.{conversation_of(request)}"
        about = {"engine": self._engine, "channel": channel, "hookbrook": self._url}
        await response.write(f"event: chat.about\nretry: 1000\ndata: {json.dumps(about)}\n\n".encode())
        while not await self._pass_on(channel, request, response):
            await response.write(b"event: chat.waiting\ndata: {}\n\n")
            await asyncio.sleep(PAUSE)
        return response

    async def _pass_on(self, channel: str, request: web.Request, response: web.StreamResponse) -> bool:
        """Copy Hookbrook's stream until it ends or the browser goes; False if it could not be opened."""
        params = {"channel": channel, "last": str(HISTORY)}
        headers = {"Accept": "text/event-stream"}
        if cursor := request.headers.get("Last-Event-ID"):
            headers["Last-Event-ID"] = cursor
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        opened = False
        try:
            async with self._http.get(f"{self._url}/v1/stream", params=params, headers=headers) as upstream:
                opened = upstream.status == 200
                if opened:
                    await response.write(b"event: chat.live\ndata: {}\n\n")
                while opened and (chunk := await upstream.content.readany()):
                    await response.write(chunk)
        except (aiohttp.ClientError, TimeoutError) as error:
            # Half a frame may have been passed on. The browser drops it when this response ends, and comes back.
            log.info("a stream broke off or could not be opened: %s", error)
        return opened


@web.middleware
async def name_session(request: web.Request, handler: Handler) -> web.StreamResponse:
    request["session"] = request.cookies.get(COOKIE) or secrets.token_urlsafe(16)
    return await handler(request)


async def set_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(SECURITY)
    if COOKIE not in request.cookies:
        # aiohttp has written the response's own cookies by now, so this one is a header.
        attributes = "Path=/; Max-Age=2592000; HttpOnly; SameSite=Lax"
        response.headers.add("Set-Cookie", f"{COOKIE}={request['session']}; {attributes}")


def conversation_of(request: web.Request) -> str:
    """The conversation's public name. The session itself stays in its cookie, out of channels and events."""
    return hashlib.sha256(request["session"].encode()).hexdigest()[:12]


async def show_page(request: web.Request) -> web.FileResponse:
    name = request.match_info.get("file", "index.html")
    return web.FileResponse(PAGE / name, headers={"Cache-Control": "no-cache"})


async def healthz(request: web.Request) -> web.Response:  # noqa: ARG001 - a handler takes a request
    return web.json_response({"ok": True})


def end_if_failed(task: asyncio.Task[None]) -> None:
    """An application that no longer follows the engine is of no use; whoever started it starts it again."""
    if not task.cancelled() and (error := task.exception()):
        log.critical("following the engine failed", exc_info=error)
        signal.raise_signal(signal.SIGTERM)


async def make_app(options: argparse.Namespace) -> web.Application:
    hb = AsyncHookbrook(options.hookbrook, options.key)
    # A stream is open for as long as it likes; Hookbrook's heartbeats tell that it is alive.
    http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=60))
    chat = Chat(hb, http, options)

    async def running(app: web.Application) -> AsyncIterator[None]:  # noqa: ARG001 - as aiohttp calls it
        async with hb, http:
            following = asyncio.create_task(chat.follow_engine())
            following.add_done_callback(end_if_failed)
            yield
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    app = web.Application(middlewares=[name_session], client_max_size=16 * 1024)
    app.cleanup_ctx.append(running)
    app.on_response_prepare.append(set_headers)
    files = "|".join(file.name for file in PAGE.iterdir())
    app.add_routes(
        [
            web.get("/", show_page),
            web.get(f"/{{file:{files}}}", show_page),
            web.get("/healthz", healthz),
            web.post("/chat/messages", chat.send_message),
            web.get("/chat/stream", chat.stream),
        ]
    )
    return app


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A chat application on Hookbrook.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=4667)
    parser.add_argument("--data", type=Path, default=Path("app.cursor"), help="the file that remembers the cursor")
    parser.add_argument("--engine", default="by an engine", help="how the page introduces the engine")
    parser.add_argument("--pace", type=float, default=0.045, help="seconds between two words")
    parser.set_defaults(
        hookbrook=os.environ.get("HOOKBROOK_URL", "http://127.0.0.1:4665"), key=os.environ.get("HOOKBROOK_KEY")
    )
    return parser.parse_args()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s app %(levelname)s %(message)s")
    chosen = read_options()
    web.run_app(make_app(chosen), host=chosen.host, port=chosen.port, shutdown_timeout=1, access_log=None, print=None)
