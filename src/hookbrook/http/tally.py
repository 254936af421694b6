"""What became of the webhooks that arrived since the start of this process: by source, and altogether."""

from collections import Counter
from collections.abc import Mapping
from typing import Final, Literal

Outcome = Literal["accepted", "duplicate", "unverified", "refused", "challenge"]
OUTCOMES: Final[tuple[Outcome, ...]] = ("accepted", "duplicate", "unverified", "refused", "challenge")


class Tally:
    """Counts events, or requests where there is none. What a batch repeats of itself counts as a duplicate too."""

    def __init__(self) -> None:
        self._of_source: dict[str, Counter[str]] = {}
        self._total: Counter[str] = Counter()

    def count(self, source_id: str, outcome: Outcome, number: int = 1) -> None:
        counts = self._of_source.get(source_id)
        if counts is None:
            counts = self._of_source[source_id] = Counter()
        counts[outcome] += number
        self._total[outcome] += number

    def of(self, source_id: str) -> Mapping[Outcome, int]:
        counts = self._of_source.get(source_id, Counter())
        return {outcome: counts[outcome] for outcome in OUTCOMES}

    def total(self) -> Mapping[Outcome, int]:
        """Without the sources' names: metrics are read by people who may not know them."""
        return {outcome: self._total[outcome] for outcome in OUTCOMES}

    def forget(self, source_id: str) -> None:
        """Its counts by source; the total stays."""
        self._of_source.pop(source_id, None)
