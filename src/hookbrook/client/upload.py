"""A token stream as one request, and as few more as the network forces (NDJSON, one event a line).

The server appends each line as it arrives, but says so only at the end of the request. So every line is kept until
then, and sent again when the connection breaks: the ids, which are numbered, make that safe. What is kept is bounded;
at the bound the request is ended, its answer awaited, and the rest goes into a new one.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import msgspec

from hookbrook.client.errors import ConnectionFailed
from hookbrook.client.events import StreamReceipt, data_members
from hookbrook.client.exchange import (
    Request,
    Response,
    Wait,
    api_error,
    base_headers,
    decode,
    is_final,
    retry_after_s,
)
from hookbrook.client.settings import Jitter, Settings, pause_s

#: Lines and bytes that may wait for the server's word. A long chat reply has some thousand tokens of 150 bytes each.
MAX_UNACKNOWLEDGED_LINES = 10_000
MAX_UNACKNOWLEDGED_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Pull:
    """Take one item from the source into the upload, or mark the upload as exhausted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """Send this request, its body being the upload's lines: the unacknowledged, then new ones while there is room."""

    request: Request


class _Reply(msgspec.Struct):
    cursor: str | None = None


class Upload:
    """The lines of one token stream: what was made of the source, and what the server has not yet confirmed."""

    def __init__(self, channel: str, type: str, id_prefix: str, merge: str | None = None) -> None:
        self._event: dict[str, Any] = {"channels": [channel], "type": type}
        if merge is not None:
            self._event["merge"] = merge
        self._id_prefix = id_prefix
        self._cursor: str | None = None
        self._unacknowledged_bytes = 0
        self.unacknowledged: list[bytes] = []
        self.made = 0
        #: Numbers the requests, so that what is left of an older one can see that it is over.
        self.attempt = 0
        #: All lines of the current request went out; its answer confirms them.
        self.sent_all = False
        #: The source has no more items.
        self.exhausted = False
        #: What the source raised while a request was under way; it ends the upload.
        self.fault: Exception | None = None

    @property
    def full(self) -> bool:
        return (
            len(self.unacknowledged) >= MAX_UNACKNOWLEDGED_LINES
            or self._unacknowledged_bytes >= MAX_UNACKNOWLEDGED_BYTES
        )

    def add(self, item: Any) -> bytes:
        """The next line, with the id `PREFIX-N`, N counting from 1. Raises TypeError if the item has no JSON."""
        event = {"id": f"{self._id_prefix}-{self.made + 1}", **self._event, **data_members(item)}
        line = msgspec.json.encode(event) + b"\n"
        self.made += 1
        self.unacknowledged.append(line)
        self._unacknowledged_bytes += len(line)
        return line

    def begin(self) -> None:
        self.attempt += 1
        self.sent_all = False

    def acknowledge(self, response: Response) -> None:
        self._cursor = decode(response, _Reply).cursor
        self._unacknowledged_bytes = 0
        self.unacknowledged.clear()

    def receipt(self) -> StreamReceipt:
        return StreamReceipt(accepted=self.made, cursor=self._cursor)


def send(settings: Settings, upload: Upload, jitter: Jitter) -> Generator[Pull | Send | Wait, Response, StreamReceipt]:
    """The whole upload. Raises ApiError, ConnectionFailed, or what the source raised.

    Failures are counted since the last request that took new items from the source, so that an upload of hours
    outlives any number of short breaks.
    """
    headers = {**base_headers(settings), "Content-Type": "application/x-ndjson"}
    request = Request(method="POST", target="/v1/events", headers=headers)
    failures = 0
    while True:
        if not upload.unacknowledged:
            # No connection is opened before there is something to say; an empty request would be refused.
            if not upload.exhausted:
                yield Pull()
            if not upload.unacknowledged:
                return upload.receipt()
        made = upload.made
        upload.begin()
        least_s = 0.0
        try:
            response = yield Send(request=request)
        except ConnectionFailed as error:
            failure: Exception = error
        else:
            if response.status == 200 and upload.sent_all:
                upload.acknowledge(response)
                failures = 0
                continue
            failure = _failure(response)
            least_s = retry_after_s(response)
        if upload.fault is not None:
            raise upload.fault
        failures = 1 if upload.made > made else failures + 1
        if failures > settings.retries or is_final(failure, least_s):
            raise failure
        yield Wait(seconds=max(least_s, pause_s(settings.backoff_s, failures, jitter)))


def _failure(response: Response) -> Exception:
    if response.status == 200:
        return ConnectionFailed("the server ended the request before all of it was sent")
    return api_error(response)
