"""The failure: a webhook that could not be verified, kept for a while so that its operator can see why."""

import msgspec

#: Bytes of a body that are kept: enough to see what was sent, and too little for a flood to fill a disk.
MAX_KEPT_BODY = 4 * 1024
#: Characters of all header names and values that are kept, and of the query. Providers send 1 to 2 KB.
MAX_KEPT_HEADERS = 8 * 1024
MAX_KEPT_QUERY = 1024
#: The newest failures of one source are kept, and no more: a screen of them shows what is wrong.
KEPT_PER_SOURCE = 50


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    source_id: str
    #: When it arrived; microseconds since the Unix epoch.
    time: int
    #: A word of `inbound.verdict.Reason`, and the sentence that the caller was told.
    reason: str
    detail: str
    #: A word of `inbound.explain.Cause`, and the sentence for the operator.
    cause: str
    explanation: str
    #: Whether the signature was found to hold once that mistake is undone.
    proven: bool
    method: str
    path: str
    query: str
    #: Values that are credentials are hidden already.
    headers: tuple[tuple[str, str], ...]
    address: str | None
    #: Bytes of the whole body, and its beginning.
    size: int
    body: bytes
    #: Not kept since the one before, because there were too many.
    skipped: int = 0
