"""Since when endpoints fail: what the table says, and what becomes of it with each attempt.

An endpoint begins to fail with the first attempt that fails after one that did not, and ceases with the first that
arrives. Only these two moments are written, in the transaction of the outcomes that they follow from.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from hookbrook.core.delivery import Happening, Outcome
from hookbrook.outbound.body import NotReshaped, TooLarge
from hookbrook.outbound.message import TooManyHops
from hookbrook.outbound.verdict import INTERNAL

#: What says nothing about the receiver.
NOT_ITS_FAULT: Final = frozenset({INTERNAL, TooManyHops.code, NotReshaped.code, TooLarge.code})


class Standing:
    """By endpoint id; times are microseconds since 1970. Endpoints that do not fail are not here."""

    def __init__(self) -> None:
        self._since: dict[str, int] = {}
        #: Those whose owner was warned.
        self._warned: set[str] = set()

    def load(self, since: Mapping[str, int]) -> None:
        self._since.update(since)

    def since(self, endpoint_id: str) -> int | None:
        return self._since.get(endpoint_id)

    def changes(self, outcomes: Iterable[tuple[str, Outcome]]) -> dict[str, int | None]:
        """What these outcomes, each with its endpoint's id, change: since when it fails, or None if no longer."""
        changes: dict[str, int | None] = {}
        for endpoint_id, outcome in outcomes:
            if outcome.attempt.error in NOT_ITS_FAULT:
                continue
            since = changes[endpoint_id] if endpoint_id in changes else self._since.get(endpoint_id)
            if outcome.happening is Happening.ACCEPTED:
                if since is not None:
                    changes[endpoint_id] = None
            elif since is None:
                changes[endpoint_id] = outcome.attempt.started
        return changes

    def apply(self, changes: Mapping[str, int | None]) -> None:
        for endpoint_id, since in changes.items():
            if since is None:
                self.forget(endpoint_id)
            else:
                self._since[endpoint_id] = since

    def forget(self, endpoint_id: str) -> None:
        """The endpoint was enabled anew, or deleted."""
        self._since.pop(endpoint_id, None)
        self._warned.discard(endpoint_id)

    def warn_once(self, endpoint_id: str) -> bool:
        """Whether its owner is to be warned now; true only once until it ceases to fail."""
        if endpoint_id in self._warned:
            return False
        self._warned.add(endpoint_id)
        return True
