"""Hookbrook: a self-hosted event gateway.

    import hookbrook

    with hookbrook.Hookbrook() as brook:
        brook.publish("chat.42", {"text": "Hello from the server!"})
        for event in brook.stream("chat.*", last=1):
            print(event.data)

The names below are the public surface. Each is loaded when it is first asked for, so that a program which only
verifies webhooks does not wait for an HTTP client.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hookbrook.client.asynchronous.client import AsyncHookbrook
    from hookbrook.client.asynchronous.events import AsyncEvents
    from hookbrook.client.asynchronous.stream import AsyncStream
    from hookbrook.client.blocking.client import Hookbrook
    from hookbrook.client.blocking.events import Events
    from hookbrook.client.blocking.stream import Stream
    from hookbrook.client.errors import ApiError, ConnectionFailed, Reset
    from hookbrook.client.events import Event, NewEvent, Published, StreamReceipt
    from hookbrook.client.place import CursorFile, Place
    from hookbrook.client.webhook import SignatureError, Verified, verify
    from hookbrook.core.received import Webhook
    from hookbrook.errors import HookbrookError

    __version__: str

__all__ = [
    "ApiError",
    "AsyncEvents",
    "AsyncHookbrook",
    "AsyncStream",
    "ConnectionFailed",
    "CursorFile",
    "Event",
    "Events",
    "Hookbrook",
    "HookbrookError",
    "NewEvent",
    "Place",
    "Published",
    "Reset",
    "SignatureError",
    "Stream",
    "StreamReceipt",
    "Verified",
    "Webhook",
    "__version__",
    "verify",
]

_HOMES = {
    "hookbrook.client.asynchronous.client": ("AsyncHookbrook",),
    "hookbrook.client.asynchronous.events": ("AsyncEvents",),
    "hookbrook.client.asynchronous.stream": ("AsyncStream",),
    "hookbrook.client.blocking.client": ("Hookbrook",),
    "hookbrook.client.blocking.events": ("Events",),
    "hookbrook.client.place": ("CursorFile", "Place"),
    "hookbrook.client.blocking.stream": ("Stream",),
    "hookbrook.client.errors": ("ApiError", "ConnectionFailed", "Reset"),
    "hookbrook.client.events": ("Event", "NewEvent", "Published", "StreamReceipt"),
    "hookbrook.client.webhook": ("SignatureError", "Verified", "verify"),
    "hookbrook.core.received": ("Webhook",),
    "hookbrook.errors": ("HookbrookError",),
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("hookbrook")
    for module, names in _HOMES.items():
        if name in names:
            value = getattr(import_module(module), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
