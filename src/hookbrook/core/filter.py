"""Content filters: JMESPath over the event, which decides whether an endpoint is owed it.

A filter is evaluated once, when the event is matched, before it is appended. What cannot be evaluated (the budget is
spent, `contains` was given null) neither matches nor is dropped: the delivery is kept as failed, with the reason, so
that a person sees it and can have it sent.
"""

from functools import lru_cache
from typing import Any, Final

from hookbrook.core.document import document_of
from hookbrook.core.event import Event, NewEvent
from hookbrook.core.expression import CHARS_PER_STEP, Expression, Meter
from hookbrook.errors import Invalid

#: Steps of one filter, about 12 ms on a slow core. Less than an expression may take elsewhere, because it is evaluated
#: for each event, and for each endpoint that has another one.
MAX_STEPS: Final = 20_000
#: Filters that are kept compiled, some KB each; compiling one costs as much as evaluating it ten times.
_COMPILED: Final = 4096


@lru_cache(maxsize=_COMPILED)
def compiled(text: str, field: str) -> Expression:
    """As `Expression.compile`."""
    return Expression.compile(text, field=field)


class Sieve:
    """One event and the filters that are asked about it, each only once however many endpoints have it."""

    def __init__(self, event: Event | NewEvent) -> None:
        self._event = event
        self._document: dict[str, Any] | None = None
        self._verdicts: dict[str, bool | Invalid] = {}
        #: Work done so far.
        self.meter = Meter()

    def passes(self, text: str) -> bool:
        """Whether the event passes the filter. Raises `Invalid` if that cannot be said."""
        verdict = self._verdicts.get(text)
        if verdict is None:
            verdict = self._verdicts[text] = self._judge(text)
        if isinstance(verdict, Invalid):
            raise verdict
        return verdict

    def _judge(self, text: str) -> bool | Invalid:
        try:
            if self._document is None:
                self.meter.steps += len(self._event.data) // CHARS_PER_STEP
                self._document = document_of(self._event, "filter")
            value = compiled(text, "filter").evaluate(
                self._document, max_steps=MAX_STEPS, field="filter", meter=self.meter
            )
        except Invalid as exc:
            return exc
        return is_true(value)


def is_true(value: Any) -> bool:
    """JMESPath's own truth: false, null, and the empty text, list and object are false; every number is true."""
    return not (value is None or value is False or (isinstance(value, str | list | dict) and not value))
