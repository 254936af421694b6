"""The peers in Python, as their own pages show them: one queue for each reader, and a generator that yields from it.

`stream_peers.py PORT sse-starlette` or `stream_peers.py PORT fastapi`, on uvicorn with uvloop. `GET /` listens, and
what is sent with `POST /` is put into every queue.
"""

import asyncio
import sys
from collections.abc import AsyncIterator

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

queues: set[asyncio.Queue[str]] = set()
app = FastAPI()


async def news() -> AsyncIterator[str]:
    queue: asyncio.Queue[str] = asyncio.Queue()
    queues.add(queue)
    try:
        while True:
            yield await queue.get()
    finally:
        queues.discard(queue)


@app.post("/", status_code=201)
async def publish(request: Request) -> Response:
    text = (await request.body()).decode()
    for queue in queues:
        queue.put_nowait(text)
    return Response(status_code=201)


async def fastapi_stream() -> AsyncIterator[ServerSentEvent]:
    # A comment first, so that the head of the answer leaves.
    yield ServerSentEvent(comment="")
    async for text in news():
        yield ServerSentEvent(raw_data=text)


async def starlette_stream() -> Response:
    # Here, because FastAPI's own is measured also where this is not installed.
    from sse_starlette import EventSourceResponse as Sse
    from sse_starlette import ServerSentEvent as Event

    async def events() -> AsyncIterator[Event]:
        async for text in news():
            yield Event(data=text)

    # Without the package, as on CI, its types are unknown.
    response: Response = Sse(events())
    return response


if __name__ == "__main__":
    if sys.argv[2] == "fastapi":
        app.get("/", response_class=EventSourceResponse)(fastapi_stream)
    else:
        app.get("/")(starlette_stream)
    # A herd of readers connects at once; nothing is to be written for each of them.
    uvicorn.run(app, port=int(sys.argv[1]), loop="uvloop", http="httptools", log_level="error", backlog=4096)
