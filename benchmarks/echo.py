"""The limit of publishing: a plain ASGI application that answers with the body, on the same server."""

import asyncio
import sys

from hookbrook.http.problems import Receive, Scope, Send
from hookbrook.http.server import Server, Signals, run


async def echo(_scope: Scope, receive: Receive, send: Send) -> None:
    body = (await receive())["body"]
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def main(port: int) -> None:
    server = Server(echo, host="127.0.0.1", port=port)
    with Signals() as signals:
        await server.start()
        await asyncio.wait_for(signals.first(), 600)
        await server.finish(1.0)


if __name__ == "__main__":
    run(main(int(sys.argv[1])))
