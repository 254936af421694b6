"""A whole response at once, for the doors that know it at once.

ASGI sends a response as two messages, which are two system calls, and for the hot doors those are a good part of all
that a request costs. Our own connection takes both in one call (`exchange.RESPOND`); any other server gets the two
messages.
"""

from hookbrook.http.exchange import RESPOND
from hookbrook.http.problems import Scope, Send


async def answer(scope: Scope, send: Send, status: int, block: bytes, body: bytes) -> None:
    """Send the response.

    Args:
        block: the header lines but for `Content-Length`, names in lower case, each as `name: value` and CR LF. Whoever
            made them answers for it that no value holds a control character.
    """
    block = b"%bcontent-length: %d\r\n" % (block, len(body))
    extensions = scope.get("extensions")
    if extensions is not None and RESPOND in extensions and extensions[RESPOND](status, block, body):
        return
    headers = [tuple(line.split(b": ", 1)) for line in block.split(b"\r\n")[:-1]]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
