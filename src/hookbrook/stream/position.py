"""Where a stream begins: a cursor, a time in the past, the last few events, or now."""

from dataclasses import dataclass

from hookbrook.core.cursor import Cursor
from hookbrook.errors import Invalid
from hookbrook.store.base import Bounds, Log, Query, Standing
from hookbrook.stream.control import reset
from hookbrook.stream.reader import NOTHING_KNOWN

#: A page of `last=` that looks further back than this gives what it has found: a pattern that matches nothing must not
#: read the whole log.
MAX_LAST_SCAN = 200_000
MAX_LAST = 10_000
#: Events that one of those pages counts: a moment's reading, so that whoever leaves stops it soon.
PAGE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    #: Begin just after this seq; None: with what comes next.
    after: int | None = None
    #: A `hookbrook.reset` frame that must be the stream's first, or nothing.
    reset: bytes = b""
    #: What is known of the channels; its loss was told, or need not be.
    standing: Standing = NOTHING_KNOWN


def intact(bounds: Bounds, text: str) -> int | None:
    """The seq of a cursor of this log behind which nothing was lost; None for any other, of which `resume` knows more.

    Raises `Invalid` for what is no cursor at all.
    """
    cursor = Cursor.parse(text)
    is_intact = bounds.epochs.contains(cursor, bounds.tail) and cursor.seq >= max(bounds.oldest - 1, bounds.floor)
    return cursor.seq if is_intact else None


async def resume(log: Log, query: Query, text: str, *, lenient: bool) -> Start:
    """After a cursor. One that is foreign or trimmed yields a reset.

    A foreign reader goes on with what comes next, since nothing says how the log it knew relates to this one; a
    trimmed one goes on with the oldest event there is. What single channels have lost after the cursor is told too.

    Args:
        lenient: the text comes from a `Last-Event-ID`, where an answer of 4xx would end an EventSource for good: what
            is no cursor at all counts as foreign. Otherwise it raises `Invalid`.
    """
    bounds = await log.bounds()
    try:
        cursor = Cursor.parse(text)
    except Invalid:
        if not lenient:
            raise
        cursor = None
    if cursor is None or not bounds.epochs.contains(cursor, bounds.tail):
        return Start(after=bounds.tail, reset=_told("foreign", bounds, bounds.oldest - 1, at=bounds.tail))
    return await _after(log, query, bounds, cursor.seq, trimmed=cursor.seq < bounds.oldest - 1)


async def since(log: Log, query: Query, time_us: int) -> Start:
    """With the first event appended at or after the time; if some of those were trimmed, with a reset."""
    # In this order: what is trimmed in between is told.
    seq = await log.seq_at(time_us)
    bounds = await log.bounds()
    return await _after(log, query, bounds, seq, trimmed=bool(bounds.trimmed) and bounds.trimmed >= time_us)


async def _after(log: Log, query: Query, bounds: Bounds, seq: int, *, trimmed: bool) -> Start:
    """After the seq, or what is left after it. `trimmed`: the log as a whole has lost what followed."""
    after = max(seq, bounds.oldest - 1)
    standing = await log.standing(query, after=after) if bounds.floor > after else NOTHING_KNOWN
    if trimmed:
        return Start(after=after, reset=_told("trimmed", bounds, after, at=after), standing=standing)
    if standing.lost is None:
        return Start(after=after, standing=standing)
    lost = standing.lost
    if query.is_single:
        # Of a single channel nothing is left up to there; of several, the others go on from here.
        after = lost.seq
    return Start(after=after, reset=_told(lost.why, bounds, lost.seq, at=after), standing=standing)


def _told(reason: str, bounds: Bounds, oldest: int, *, at: int) -> bytes:
    cursors = (str(bounds.epochs.cursor(seq)) for seq in (oldest, bounds.tail, at))
    return reset(reason, **dict(zip(("oldest", "newest", "at"), cursors, strict=True)))


async def last(log: Log, query: Query, count: int) -> Start:
    """With the last `count` events that match. What was lost before is no gap: fewer are left to be the last."""
    bounds = await log.bounds()
    # Known before anything is read, so that what is lost from here on is told.
    standing = await log.standing(query, after=bounds.oldest - 1) if bounds.floor else NOTHING_KNOWN
    if count == 0:
        return Start(after=bounds.tail, standing=standing)
    # If none matches, nothing between here and the log's beginning is missed, nor told if it is trimmed meanwhile.
    after = bounds.tail
    before, scanned, found = bounds.tail + 1, 0, 0
    while found < count and before > bounds.oldest and scanned < MAX_LAST_SCAN:
        seen, first, scanned_to = await _look_back(log, query, before=before, limit=min(PAGE, count - found))
        if seen:
            found, after = found + seen, first - 1
        scanned += before - scanned_to
        if scanned_to >= before:
            break
        before = scanned_to
    return Start(after=after, standing=standing)


async def _look_back(log: Log, query: Query, *, before: int, limit: int) -> tuple[int, int, int]:
    """How many events a page backwards has, the seq of its first one (0: it has none), and how far it looked.

    Numbers only: whoever waits for the next page must not hold on to the last.
    """
    page = await log.read_back(query, before=before, limit=limit, bare=True)
    return len(page.events), page.events[-1].seq if page.events else 0, page.scanned_to
