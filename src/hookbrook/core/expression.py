"""JMESPath with a budget: the one expression language of source templates, endpoint filters and reshaping.

The language has no loops, and yet a short text can cost much. `[@,@]|[@,@]|…` doubles at each bar: it stays small in
memory, where both halves are the same list, and becomes 2ⁿ as soon as it is printed or compared; `join` and
`to_string` print in the middle of an evaluation. A limit on time would need a thread to interrupt. So work is counted
instead, before it is done:

- each visit of a node of the expression is one step, which covers every projection, filter and `map`;
- whatever touches a whole value at once (a comparison, a slice, a function) first pays for its size, counted by a walk
  that itself stops at the budget;
- the result is measured in the same way before it is handed out.

An evaluation therefore ends after a bounded number of small operations, whatever the expression and the document.
Errors are `hookbrook.errors.Invalid`; what a path does not find is None, as the language has it.
"""

import json
import re
from collections.abc import Iterable
from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.functions import Functions
from jmespath.parser import ParsedResult
from jmespath.visitor import Options, TreeInterpreter

from hookbrook.errors import Invalid

#: Longer than any filter that a person reads; bounds the parser's work, which grows with the text.
MAX_LENGTH = 1_000

#: Nested nodes of the parsed expression. Evaluation recurses by it, at four Python frames a level.
MAX_DEPTH = 40

#: Steps of one evaluation, about 30 ms on a slow core. A filter of ten terms over a list of 1,000 needs a third of it.
MAX_STEPS = 50_000

#: Size of a result (characters of text, plus one for each value): as large as the largest published event.
MAX_OUTPUT = 1_000_000

#: Characters of text that cost one step, where text is scanned or copied whole; a copy is faster than a visit.
CHARS_PER_STEP = 64

_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|`(?:[^`\\]|\\.)*`""", re.DOTALL)
_BRACKET = re.compile(r"[(\[{}\])]")

#: What evaluation raises for values that an expression does not fit: `'a' < 1`, `ceil` of infinity, an average of
#: integers too large for a float, a comparison of values nested beyond the interpreter's recursion.
_MISFITS = (JMESPathError, TypeError, ValueError, ArithmeticError, AttributeError, LookupError, RecursionError)


class Meter:
    """Adds up the steps of several evaluations."""

    __slots__ = ("steps",)

    def __init__(self) -> None:
        self.steps = 0


class Expression:
    """A compiled expression. Immutable, and shared by threads; `text` is what it was compiled from."""

    __slots__ = ("_parsed", "text")

    def __init__(self, text: str, parsed: ParsedResult) -> None:
        self.text = text
        self._parsed = parsed

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"

    @classmethod
    def compile(cls, text: str, *, field: str = "expression") -> "Expression":
        """Reads `text`; raises `Invalid`, naming `field`, for a syntax error or one that is too long or too deep."""
        if len(text) > MAX_LENGTH:
            raise Invalid.of(field, f"an expression has at most {MAX_LENGTH} characters, this one {len(text)}")
        try:
            _check_text(text)
            parsed = jmespath.compile(text)
            depth = _depth(parsed.parsed)
        except _MISFITS as exc:
            raise Invalid.of(field, f"not a JMESPath expression: {_first_line(exc)}") from exc
        if depth > MAX_DEPTH:
            raise Invalid.of(field, f"an expression nests at most {MAX_DEPTH} deep, this one {depth}")
        return cls(text, parsed)

    def evaluate(
        self,
        document: object,
        *,
        max_steps: int = MAX_STEPS,
        max_output: int = MAX_OUTPUT,
        field: str = "expression",
        meter: Meter | None = None,
    ) -> Any:
        """The value found in `document` (decoded JSON), or None.

        It may share parts with `document`, so treat it as read-only. Raises `Invalid`, naming `field`, if the values
        do not fit the expression or a budget is spent. `meter` is told how many steps it took.
        """
        interpreter = _Counting(max_steps)
        try:
            result = interpreter.visit(self._parsed.parsed, document)
            size = measure(result, max_output)
        except _OverBudget as exc:
            raise Invalid.of(field, f"the expression takes more than {max_steps} steps on this document") from exc
        except _MISFITS as exc:
            raise Invalid.of(field, f"the expression does not fit this document: {_first_line(exc)}") from exc
        finally:
            if meter is not None:
                meter.steps += interpreter.spent
        if size > max_output:
            raise Invalid.of(field, f"the expression's result is larger than {max_output}")
        return result


def measure(value: object, limit: int, *, chars: int = 1) -> int:
    """The size of a JSON value: one for each value in it, plus one for every `chars` characters of a text.

    Counting stops soon after `limit`, so that a value which is small in memory and huge on paper is no burden.

    Raises TypeError for what is not JSON, such as an unapplied `&expression`.
    """
    size = 0
    pending: list[Iterable[object]] = [(value,)]
    while pending and size <= limit:
        for item in pending.pop():
            size += 1
            if isinstance(item, str):
                size += len(item) // chars
            elif isinstance(item, dict):
                pending += ((key for key in item), item.values())
            elif isinstance(item, list):
                pending.append(item)
            elif not (item is None or isinstance(item, int | float)):
                raise TypeError("an expression reference is not a value")
            if size > limit:
                break
    return size


def _check_text(text: str) -> None:
    """Refuses what the parser would accept with a warning, or follow by recursion; raises ValueError."""
    for literal in _QUOTED.finditer(text):
        if literal.group().startswith("`") and not _is_json(literal.group()[1:-1].replace("\\`", "`")):
            raise ValueError("what stands between backticks is JSON; write a text as 'text'")
    depth = deepest = 0
    for bracket in _BRACKET.findall(_QUOTED.sub("", text)):
        depth += 1 if bracket in "([{" else -1
        deepest = max(deepest, depth)
    if deepest > MAX_DEPTH:
        raise ValueError(f"brackets nest at most {MAX_DEPTH} deep, here {deepest}")


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _depth(node: Any) -> int:
    """Levels of nodes, counted without recursion; a slice's children are numbers and have none."""
    depth = 0
    level = [node]
    while level:
        depth += 1
        level = [child for node in level for child in node.get("children", ()) if isinstance(child, dict)]
    return depth


def _first_line(error: BaseException) -> str:
    # jmespath draws a caret under the text on further lines, and quotes values of the document after a colon.
    if isinstance(error, RecursionError):
        return "it nests too deep"
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__


class _OverBudget(Exception):
    """The steps are spent; the next would be one too many."""


class _Counting(TreeInterpreter):
    """Evaluates as jmespath does, and pays for each step before taking it."""

    def __init__(self, max_steps: int) -> None:
        super().__init__(Options(custom_functions=_CountingFunctions(self)))
        self._max = self._left = max_steps

    @property
    def spent(self) -> int:
        return self._max - max(0, self._left)

    def pay(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise _OverBudget

    def pay_for(self, *values: object) -> None:
        """The price of touching the whole of each value."""
        for value in values:
            self.pay(measure(value, self._left, chars=CHARS_PER_STEP))

    def visit(self, node: Any, *args: Any, **kwargs: Any) -> Any:
        self._left -= 1
        if self._left < 0:
            raise _OverBudget
        return super().visit(node, *args, **kwargs)

    def visit_comparator(self, node: Any, value: Any) -> Any:
        # Two equal values built apart share nothing, so that comparing them follows every path through them.
        sides = [self.visit(child, value) for child in node["children"]]
        self.pay_for(*sides)
        return super().visit_comparator(_with_results(node, sides), value)

    def visit_flatten(self, node: Any, value: Any) -> Any:
        # A list that holds the same long list many times is small until it is flattened.
        lists = self.visit(node["children"][0], value)
        if isinstance(lists, list):
            self.pay(sum(len(item) for item in lists if isinstance(item, list)))
        return super().visit_flatten(_with_results(node, [lists]), value)


def _with_results(node: Any, results: list[Any]) -> Any:
    """The node with its children replaced by what they evaluated to, so that they are not evaluated again."""
    return {**node, "children": [{"type": "literal", "value": result, "children": []} for result in results]}


class _CountingFunctions(Functions):
    """The language's functions, each paid for by the size of its arguments and, for `join`, of its result."""

    def __init__(self, interpreter: _Counting) -> None:
        self._interpreter = interpreter

    def call_function(self, function_name: str, resolved_args: Iterable[Any]) -> Any:
        arguments = list(resolved_args)
        containers = [argument for argument in arguments if isinstance(argument, str | list | dict)]
        if function_name in _SHALLOW:
            self._interpreter.pay(sum(len(argument) for argument in containers))
        elif function_name not in _CONSTANT:
            self._interpreter.pay_for(*containers)
        if function_name == "join" and len(arguments) == 2 and isinstance(arguments[1], list):
            separators = len(str(arguments[0])) * len(arguments[1])
            self._interpreter.pay(separators // CHARS_PER_STEP)
        return super().call_function(function_name, arguments)


#: Functions that do not look inside their arguments.
_CONSTANT = frozenset(("length", "not_null", "to_array", "type"))

#: Functions that touch each element once and do not look into it, or apply an expression to it, which is counted.
_SHALLOW = frozenset(("keys", "map", "max_by", "merge", "min_by", "sort_by", "values"))
