# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Expressions of an inventory over many hosts, with Ansible's results: compiled once, and the plain ones without its engine.

ansible-core compiles an expression anew for each host and wraps all of the host's variables for it. What is plain, such as
``site | default('none')`` or ``os == 'debian' and 'web' in roles`` over text, numbers and the like, comes to the same in Jinja alone, at
a twentieth of the cost. Whatever is not, in the expression or in a value, is Ansible's, and so is every error.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ansible.template import Templar, is_trusted_as_template

with suppress(ImportError):
    import jinja2
    from jinja2 import nodes
    from jinja2.environment import TemplateExpression
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

_Lookup = Callable[[str], Any]
# What ansible-core calls for an expression and its options, whatever the host; where it is not there, each host has its compilation.
COMPILES = "_compile_expression"

_SCALARS = frozenset({str, int, float, bool, type(None)})
_RESULTS = frozenset({str, bool, type(None)})  # others would bear a mark of where the expression stands
_OPERATORS = ("And", "Or", "Not", "Compare", "Operand", "Concat", "CondExpr")
_NAMED = {"Filter": frozenset({"default", "d"}), "Test": frozenset({"defined", "undefined"})}
# Of a name behind a dot: a dictionary's methods come before its keys.
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_METHODS = frozenset(dir(dict))
_MISSING = object()


class _NotPlainError(Exception):
    """The expression, or a value in it, is for Ansible."""


class CompilingTemplar(Templar):
    """Ansible's templar, for expressions that are evaluated for many hosts."""

    def __init__(self, loader: Any = None, variables: Any = None) -> None:
        super().__init__(loader=loader, variables=variables)
        engine: Any = getattr(self, "_engine", None)
        if compile_expression := getattr(engine, COMPILES, None):
            setattr(engine, COMPILES, _compiled_once(compile_expression))
        self._functions: Any = getattr(getattr(engine, "environment", None), "globals", None)

    def evaluate_expression(
        self, expression: str, *, local_variables: dict[str, Any] | None = None, escape_backslashes: bool = True
    ) -> Any:
        """As Ansible's."""
        if not local_variables:
            with suppress(_NotPlainError):
                return self._plain(expression)
        return super().evaluate_expression(expression, local_variables=local_variables, escape_backslashes=escape_backslashes)

    def evaluate_conditional(self, conditional: str | bool) -> bool:
        """As Ansible's."""
        with suppress(_NotPlainError):
            result = self._plain(conditional)
            if result is True or result is False:
                return result
        return bool(super().evaluate_conditional(conditional))

    def _plain(self, expression: object) -> Any:
        if not isinstance(expression, str) or not is_trusted_as_template(expression):
            raise _NotPlainError
        evaluate = _plain(expression)
        if evaluate is None:
            raise _NotPlainError
        return evaluate(self._lookup)

    def _lookup(self, name: str) -> Any:
        """The variable of this name, or :data:`_MISSING`."""
        variables = self.available_variables
        if name in variables:
            return variables[name]
        if self._functions is None or name in self._functions:
            raise _NotPlainError
        return _MISSING


def _compiled_once(compile_expression: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    compiled: dict[tuple[str, bool], Any] = {}

    def once(expression: str, options: Any) -> Any:
        key = (expression, options.escape_backslashes)
        if key not in compiled:
            compiled[key] = compile_expression(expression, options)
        return compiled[key]

    return once


@functools.cache
def _environment() -> Any:
    return ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined)


@functools.lru_cache(maxsize=1000)
def _plain(expression: str) -> Callable[[_Lookup], Any] | None:
    """What evaluates an expression with a host's variables, and raises :class:`_NotPlainError`; ``None`` for one that is not plain."""
    if "\\" in expression:  # Ansible reads it in another way
        return None
    try:
        parser = Parser(_environment(), expression, state="variable")
        node = parser.parse_expression()
        if not parser.stream.eos:
            return None
        if path := _path(node):
            return functools.partial(_looked_up, path)
        paths: list[tuple[tuple[str, ...], bool]] = []
        node = _without_paths(node, paths)
    except (jinja2.TemplateError, RecursionError, _NotPlainError):
        return None
    body = [nodes.Assign(nodes.Name("result", "store"), node, lineno=1)]
    compiled = TemplateExpression(_environment().from_string(nodes.Template(body, lineno=1)), undefined_to_none=False)
    return functools.partial(_evaluated, compiled, [(f"value{n}", path, whole) for n, (path, whole) in enumerate(paths)])


def _is_exactly(value: object, kind: type) -> bool:
    """Whether a value is of this type, and not of one that Ansible, or somebody else, has derived from it."""
    return type(value) in (kind,)


def _looked_up(path: tuple[str, ...], lookup: _Lookup) -> Any:
    value = _value(path, lookup)
    if _is_exactly(value, list):
        if not all(_is_plain(part) and _is_exactly(part, str) for part in value):
            raise _NotPlainError
        return list(value)
    return _result(value)


def _evaluated(compiled: Any, paths: list[tuple[str, tuple[str, ...], bool]], lookup: _Lookup) -> Any:
    values = {}
    for name, path, whole in paths:
        value = _value(path, lookup)
        if value is _MISSING:
            continue
        if not _is_plain(value) and not (whole and type(value) in (list, dict) and all(map(_is_plain, value))):
            raise _NotPlainError
        values[name] = value
    try:
        result = compiled(values)
    except Exception:  # whatever it is, Ansible has its own words for it
        raise _NotPlainError from None
    return _result(result)


def _value(path: tuple[str, ...], lookup: _Lookup) -> Any:
    """What is at ``path``; :data:`_MISSING` where Ansible finds nothing either."""
    value = lookup(path[0])
    for key in path[1:]:
        if value is _MISSING:
            break
        if not _is_exactly(value, dict):
            raise _NotPlainError
        value = value.get(key, _MISSING)
    return value


def _is_plain(value: object) -> bool:
    """Whether Ansible takes a value as it is. Text that looks like a template is never one here, but Ansible can be told to say so."""
    kind = type(value)
    return kind in _SCALARS and not (kind is str and ("{" in value or value.startswith("#")))  # type: ignore[operator, attr-defined]


def _result(value: Any) -> Any:
    if type(value) not in _RESULTS or not _is_plain(value):
        raise _NotPlainError
    return value


def _path(node: Any) -> tuple[str, ...] | None:
    """The keys of ``a.b['c']``; ``None`` for any other expression."""
    if isinstance(node, nodes.Name):
        return (node.name,)
    if isinstance(node, nodes.Getattr):
        key = node.attr
        if key in _METHODS or not _KEY.fullmatch(key):
            return None
    elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str):
        key = node.arg.value
        if not _KEY.fullmatch(key) or key in _METHODS:
            return None
    else:
        return None
    before = _path(node.node)
    return (*before, key) if before else None


def _without_paths(node: Any, paths: list[tuple[tuple[str, ...], bool]], whole: bool = False) -> Any:
    """The expression with a name in place of each path; ``whole`` is one in which something is looked for.

    Raises :class:`_NotPlainError` for anything that is not plain.
    """
    if path := _path(node):
        paths.append((path, whole))
        return nodes.Name(f"value{len(paths) - 1}", "load", lineno=1)
    kind = type(node).__name__
    constants = node.items if whole and kind in ("List", "Tuple") else [node]
    if all(isinstance(one, nodes.Const) and _is_plain(one.value) for one in constants):
        return node
    if kind in _NAMED:
        if node.name not in _NAMED[kind] or node.kwargs or node.dyn_args or node.dyn_kwargs:
            raise _NotPlainError
    elif kind not in _OPERATORS:
        raise _NotPlainError
    within = kind == "Operand" and node.op in ("in", "notin")
    for field, value in node.iter_fields():
        if isinstance(value, list):
            setattr(node, field, [_without_paths(part, paths) for part in value])
        elif isinstance(value, nodes.Node):
            setattr(node, field, _without_paths(value, paths, within))
    return node
