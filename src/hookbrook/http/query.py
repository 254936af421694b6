"""The query of a hot door's URL: decoded once, read by name, every refusal naming its parameter."""

from urllib.parse import parse_qsl

from hookbrook.errors import BadRequest, Invalid

#: A stream may name a hundred channels; nothing has more parameters.
MAX_PARAMETERS = 300


class QueryString:
    """Parameters by name. A parameter that may occur once and occurs twice is refused: nobody could say which holds."""

    __slots__ = ("_values",)

    def __init__(self, raw: bytes) -> None:
        self._values: dict[str, list[str]] = {}
        if not raw:
            return
        try:
            pairs = parse_qsl(
                raw.decode("ascii"), keep_blank_values=True, max_num_fields=MAX_PARAMETERS, errors="strict"
            )
        except ValueError as exc:
            raise BadRequest("The query cannot be read: it must be percent-encoded UTF-8.") from exc
        for name, value in pairs:
            self._values.setdefault(name, []).append(value)

    def check_names(self, known: frozenset[str]) -> None:
        """Raises `Invalid` naming the first parameter that is none of these."""
        for name in self._values:
            if name not in known:
                raise Invalid.of(name[:50], f"is not a parameter here; there are {', '.join(sorted(known))}")

    def all(self, name: str) -> list[str]:
        return self._values.get(name, [])

    def one(self, name: str) -> str | None:
        values = self._values.get(name)
        if values is None:
            return None
        if len(values) > 1:
            raise Invalid.of(name, "must be given once")
        return values[0]

    def number(self, name: str, *, default: int, low: int, high: int) -> int:
        text = self.one(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit() and len(text) <= 12 and low <= int(text) <= high):
            raise Invalid.of(name, f"must be a whole number from {low} to {high}")
        return int(text)
