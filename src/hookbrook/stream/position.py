"""Where a stream begins: a cursor, a time in the past, the last few events, or now."""

from dataclasses import dataclass

from hookbrook.core.cursor import Cursor
from hookbrook.errors import Invalid
from hookbrook.store.base import Log, Query
from hookbrook.stream.control import reset

#: A page of `last=` that looks further back than this gives what it has found: a pattern that matches nothing must not
#: read the whole log.
MAX_LAST_SCAN = 200_000
MAX_LAST = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    #: Begin just after this seq; None: with what comes next.
    after: int | None = None
    #: A `hookbrook.reset` frame that must be the stream's first, or nothing.
    reset: bytes = b""


async def resume(log: Log, text: str, *, lenient: bool) -> Start:
    """After a cursor. One that is foreign or trimmed yields a reset.

    A foreign reader goes on with what comes next, since nothing says how the log it knew relates to this one; a
    trimmed one goes on with the oldest event there is.

    Args:
        lenient: the text comes from a `Last-Event-ID`, where an answer of 4xx would end an EventSource for good: what
            is no cursor at all counts as foreign. Otherwise it raises `Invalid`.
    """
    bounds = await log.bounds()
    oldest, newest = bounds.epochs.cursor(bounds.oldest - 1), bounds.epochs.cursor(bounds.tail)
    try:
        cursor = Cursor.parse(text)
    except Invalid:
        if not lenient:
            raise
        cursor = None
    if cursor is None or not bounds.epochs.contains(cursor, bounds.tail):
        told = reset("foreign", oldest=str(oldest), newest=str(newest), at=str(newest))
        return Start(after=bounds.tail, reset=told)
    if cursor.seq < bounds.oldest - 1:
        return Start(after=bounds.oldest - 1, reset=reset("trimmed", oldest=str(oldest), newest=str(newest)))
    return Start(after=cursor.seq)


async def since(log: Log, time_us: int) -> Start:
    """With the first event appended at or after the time; if some of those were trimmed, with a reset."""
    # In this order: what is trimmed in between is told.
    seq = await log.seq_at(time_us)
    bounds = await log.bounds()
    if bounds.trimmed and bounds.trimmed >= time_us:
        oldest, newest = bounds.epochs.cursor(bounds.oldest - 1), bounds.epochs.cursor(bounds.tail)
        return Start(after=bounds.oldest - 1, reset=reset("trimmed", oldest=str(oldest), newest=str(newest)))
    return Start(after=max(seq, bounds.oldest - 1))


async def last(log: Log, query: Query, count: int) -> Start:
    """With the last `count` events that match."""
    bounds = await log.bounds()
    before, scanned, found = bounds.tail + 1, 0, 0
    if count == 0:
        return Start(after=bounds.tail)
    while before > bounds.oldest and scanned < MAX_LAST_SCAN:
        seen, first, scanned_to = await _look_back(log, query, before=before, limit=count - found)
        found += seen
        if found >= count:
            return Start(after=first - 1)
        scanned += before - scanned_to
        if scanned_to >= before:
            break
        before = scanned_to
    return Start(after=before - 1)


async def _look_back(log: Log, query: Query, *, before: int, limit: int) -> tuple[int, int, int]:
    """How many events a page backwards has, the seq of its first one (0: it has none), and how far it looked.

    Numbers only: a page has megabytes, and whoever waits for the next one must not hold on to the last.
    """
    page = await log.read_back(query, before=before, limit=limit)
    return len(page.events), page.events[-1].seq if page.events else 0, page.scanned_to
