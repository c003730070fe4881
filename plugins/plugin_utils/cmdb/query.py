# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Queries over CIs: JMESPath that comes to an end. Pure.

An expression of a line can double what it has again and again, and nothing can interrupt a library. So the interpreter counts what it
looks at and what it makes, and stops at a limit. A count is the same on every machine; a time is not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from ..errors import TidegateError

with contextlib.suppress(ImportError):
    import jmespath
    from jmespath.functions import Functions
    from jmespath.visitor import TreeInterpreter

STEPS = (1_000_000, 1_000)
"""What a query may take, and for each CI besides. A condition of three comparisons takes forty for each CI."""

_VISIT = 4  # steps for a part of the expression that is evaluated; each value that is made is one
_LETTERS = 16  # letters of a text, or entries of what is handed to a function, that are one step
_MAKERS = frozenset({"multi_select_list", "multi_select_dict"})


class QueryError(TidegateError):
    """An expression that can't be evaluated; the message says why, and the caller which expression."""


def check_query(expression: str) -> None:
    """Raise :class:`QueryError` unless ``expression`` is JMESPath."""
    _compile(expression)


def search(expression: str, documents: list[dict[str, Any]]) -> Any:
    """What ``expression`` makes of ``documents``; raises :class:`QueryError`, also when that takes more than :data:`STEPS`."""
    return _evaluate(expression, [documents], len(documents))[0]


def search_each(expression: str, documents: list[dict[str, Any]]) -> list[Any]:
    """What ``expression`` makes of each of ``documents`` by itself; raises :class:`QueryError` as :func:`search` does."""
    return _evaluate(expression, documents, len(documents))


def pick(expression: str, documents: list[dict[str, Any]]) -> Iterator[str]:
    """The names of CIs that an expression over ``documents`` gives; raises :class:`TidegateError` when it gives anything else."""
    shape = "write one that gives CIs or their names, such as [?site=='fra']"
    shown = f"the query {expression!r:.200}"
    try:
        found = search(expression, documents)
    except QueryError as error:
        raise TidegateError(f"{shown} can't be used: {error}; {shape}") from None
    if not isinstance(found, list):
        raise TidegateError(f"{shown} doesn't give a list; {shape}")
    for entry in found:
        name = entry.get("name") if isinstance(entry, dict) else entry
        if not isinstance(name, str):
            raise TidegateError(f"{shown} gives something that is not a CI; {shape}")
        yield name


def pick_rows(expression: str | None, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of ``rows``, CIs by name, that an expression over them picks; all without one. Raises :class:`TidegateError` as :func:`pick`
    does, and for names that no row has."""
    if expression is None:
        return rows
    by_name = {row["name"]: row for row in rows}
    picked = set(pick(expression, rows))
    if strangers := picked - by_name.keys():
        raise TidegateError(
            f"the query {expression!r:.200} gives {', '.join(sorted(strangers)):.300}, which the CMDB doesn't have; "
            "let it pick CIs or their names"
        )
    return [row for name, row in by_name.items() if name in picked]


def _evaluate(expression: str, values: Sequence[Any], count: int) -> list[Any]:
    """What ``expression`` makes of each of ``values``, which are ``count`` CIs in all."""
    parsed = _compile(expression)
    interpreter = _interpreter(STEPS[0] + STEPS[1] * count, _repeats(parsed))
    try:
        return [interpreter.visit(parsed, value) for value in values]
    except QueryError:
        raise
    except RecursionError:
        raise _too_deep() from None
    except Exception as error:  # the library lets some of Python's own through, of a text that is compared with a number for one
        raise _wrong(error) from error


def _compile(expression: str) -> Any:
    try:
        return jmespath.compile(expression).parsed
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:  # as the library's own are, and Python's for a number of thousands of digits
        raise _wrong(error) from error


def _wrong(error: Exception) -> QueryError:
    lines = str(error).splitlines()  # behind the first one it repeats the expression
    return QueryError(f"{lines[0].rstrip(':') if lines else type(error).__name__:.300}")


def _too_deep() -> QueryError:
    return QueryError("it is nested too deeply")


def _repeats(parsed: Any) -> bool:
    """Whether the expression can put one value into another more than once, so that little memory is much to go through."""
    parts = [parsed]
    while parts:
        part = parts.pop()
        if isinstance(part, dict):  # the bounds of a slice are numbers
            if part["type"] in _MAKERS or (part["type"] == "literal" and isinstance(part["value"], list | dict)):
                return True
            parts.extend(part["children"])
    return False


def _interpreter(limit: int, repeats: bool) -> Any:
    """The library's interpreter, with a count of its steps."""

    functions: Any = Functions()

    class Counting(TreeInterpreter):
        def __init__(self) -> None:
            super().__init__()
            self._left = limit

        def visit(self, node: Any, *args: Any, **kwargs: Any) -> Any:
            self._count(_VISIT)
            return super().visit(node, *args, **kwargs)

        def visit_multi_select_list(self, node: Any, value: Any) -> Any:
            return self._weighed(super().visit_multi_select_list(node, value))

        def visit_multi_select_dict(self, node: Any, value: Any) -> Any:
            return self._weighed(super().visit_multi_select_dict(node, value))

        def visit_flatten(self, node: Any, value: Any) -> Any:
            return self._weighed(super().visit_flatten(node, value))

        def visit_projection(self, node: Any, value: Any) -> Any:
            return self._weighed(super().visit_projection(node, value))

        def visit_value_projection(self, node: Any, value: Any) -> Any:
            return self._weighed(super().visit_value_projection(node, value))

        def visit_filter_projection(self, node: Any, value: Any) -> Any:
            return self._weighed(super().visit_filter_projection(node, value))

        def visit_function_expression(self, node: Any, value: Any) -> Any:
            arguments = []
            for child in node["children"]:
                argument = self.visit(child, value)
                if isinstance(argument, str | list | dict):
                    self._count(len(argument) // _LETTERS)
                arguments.append(argument)
            return self._weighed(functions.call_function(node["value"], arguments))

        def _count(self, steps: int) -> None:
            self._left -= steps
            if self._left < 0:
                raise QueryError(f"it takes more than {limit:,} steps")

        def _weighed(self, made: Any) -> Any:
            """``made``, counted, and with all that is in it where the same can be in it many times."""
            parts = [made]
            while parts:
                part = parts.pop()
                if isinstance(part, str):
                    self._count(len(part) // _LETTERS)
                elif isinstance(part, list | dict):
                    self._count(len(part))
                    if repeats:
                        parts.extend(part.values() if isinstance(part, dict) else part)
            return made

    return Counting()
