"""Webhooks that failed verification: explained and kept, off the request's way and never more than a few.

A forger can send thousands a second. So each source has a small allowance for each reason, which refills slowly: what
is within it is explained, logged and kept, and what is beyond it is only counted, so that neither the disk nor the log
fills, and the rare failure of a real webhook is not lost among many of another kind. Explaining takes as long as some
dozen verifications; one thread does it, one failure after another, and the request has been answered by then.
"""

import asyncio
import logging
import re
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from hookbrook.core.failure import KEPT_PER_SOURCE, MAX_KEPT_BODY, MAX_KEPT_HEADERS, MAX_KEPT_QUERY, Failure
from hookbrook.core.ids import ID_BYTES, new_id
from hookbrook.core.received import HIDDEN
from hookbrook.errors import StoreError
from hookbrook.inbound.absent import masked_names
from hookbrook.inbound.case import Case, Finding
from hookbrook.inbound.explain import explain
from hookbrook.inbound.recipe import Row
from hookbrook.inbound.request import PRIVATE_HEADERS, Request
from hookbrook.store.base import Failures

log = logging.getLogger("hookbrook.ingest")

#: Failures of one source for one reason that are looked at in a row, and how often one more is.
BURST: Final = 5
REFILL_US: Final = 30 * 1_000_000
#: Allowances that are remembered: sources times reasons. Beyond it all are forgotten, which gives each its burst again.
MAX_ALLOWANCES: Final = 10_000
#: Failures that wait to be explained, and bytes of their bodies.
MAX_WAITING: Final = 64
MAX_WAITING_BYTES: Final = 16 * 1024 * 1024

_PRIVATE_WORD: Final = re.compile(r"auth|cookie|token|secret|password|credential|api-?_?key", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A failure as the door saw it."""

    source_id: str
    source: str
    case: Case
    #: Microseconds since the Unix epoch.
    arrived: int
    path: str
    address: str | None
    skipped: int


class FailureLog:
    """Args: `rows` are all providers; `random` gives so many random bytes."""

    def __init__(self, store: Failures, *, rows: Mapping[str, Row], random: Callable[[int], bytes]) -> None:
        self._store = store
        self._random = random
        self._masked = PRIVATE_HEADERS | masked_names(rows)
        self._allowances: dict[tuple[str, str], _Allowance] = {}
        self._waiting: deque[Failed] = deque()
        self._waiting_bytes = 0
        self._task: asyncio.Task[None] | None = None

    def allows(self, source_id: str, reason: str, now: int) -> int | None:
        """How many were passed over since the one before, if this one may be looked at; else None."""
        key = (source_id, reason)
        allowance = self._allowances.get(key)
        if allowance is None:
            if len(self._allowances) >= MAX_ALLOWANCES:
                self._allowances.clear()
            allowance = self._allowances[key] = _Allowance(now)
        return allowance.take(now)

    def keep(self, failed: Failed) -> None:
        """Explain it and keep it, soon; passed over if too many wait."""
        size = len(failed.case.request.body)
        if len(self._waiting) >= MAX_WAITING or self._waiting_bytes + size > MAX_WAITING_BYTES:
            return
        self._waiting.append(failed)
        self._waiting_bytes += size
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work(), name="hookbrook-failures")

    async def idle(self) -> None:
        """Wait until all that was handed in is kept."""
        if self._task is not None:
            await self._task

    async def close(self) -> None:
        """Keep what waits, unexplained if need be: an explanation under way is waited for."""
        await self.idle()

    async def _work(self) -> None:
        while self._waiting:
            failed = self._waiting.popleft()
            try:
                kept = await asyncio.to_thread(self._explained, failed)
                log.warning(
                    "explained: source=%s cause=%s%s: %s",
                    failed.source,
                    kept.cause,
                    "" if kept.proven else " (likely)",
                    kept.explanation,
                    extra={"source": failed.source, "cause": kept.cause, "proven": kept.proven, "failure": kept.id},
                )
                await self._store.keep_failures([kept], each=KEPT_PER_SOURCE)
            except StoreError as exc:
                log.warning("a failed webhook is not kept: %s", exc)
            except Exception:  # the boundary of this task: the next failure must be explained all the same
                log.exception("a failed webhook could not be explained")
            finally:
                self._waiting_bytes -= len(failed.case.request.body)

    def _explained(self, failed: Failed) -> Failure:
        return _record(failed, explain(failed.case), self._masked, self._random)


class _Allowance:
    """A bucket of `BURST` that refills by one every `REFILL_US`."""

    __slots__ = ("_at", "_left", "_skipped")

    def __init__(self, now: int) -> None:
        self._left = float(BURST)
        self._at = now
        self._skipped = 0

    def take(self, now: int) -> int | None:
        self._left = min(float(BURST), self._left + max(now - self._at, 0) / REFILL_US)
        self._at = now
        if self._left < 1:
            self._skipped += 1
            return None
        self._left -= 1
        skipped, self._skipped = self._skipped, 0
        return skipped


def _record(failed: Failed, finding: Finding, masked: frozenset[bytes], random: Callable[[int], bytes]) -> Failure:
    request, verdict = failed.case.request, failed.case.verdict
    query = request.query.decode("latin-1")
    return Failure(
        id=new_id("fail", failed.arrived, random(ID_BYTES)),
        source_id=failed.source_id,
        time=failed.arrived,
        reason=str(verdict.reason),
        detail=verdict.detail,
        cause=str(finding.cause),
        explanation=finding.sentence,
        proven=finding.proven,
        method=request.method,
        path=failed.path[:MAX_KEPT_QUERY],
        query=HIDDEN if _PRIVATE_WORD.search(query) else query[:MAX_KEPT_QUERY],
        headers=_headers(request, masked),
        address=failed.address,
        size=len(request.body),
        body=request.body[:MAX_KEPT_BODY],
        skipped=failed.skipped,
    )


def _headers(request: Request, masked: frozenset[bytes]) -> tuple[tuple[str, str], ...]:
    """As they came, up to `MAX_KEPT_HEADERS` characters; what may be a credential is hidden."""
    kept: list[tuple[str, str]] = []
    left = MAX_KEPT_HEADERS
    for name, value in request.headers:
        text = name.decode("latin-1")
        is_private = name.lower() in masked or _PRIVATE_WORD.search(text)
        shown = HIDDEN if is_private else value.decode("latin-1")
        left -= len(text) + len(shown)
        if left < 0:
            break
        kept.append((text, shown))
    return tuple(kept)
