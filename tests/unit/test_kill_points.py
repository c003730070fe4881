# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""For each event of the journal there is a test that kills the controller at its write."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import DATA_EVENTS, DATA_FAILED, DeploymentState, HostState
from kills import POINTS, SAID_AT_ONCE

ROOT = Path(__file__).parents[2]
PLUGIN_UTILS = ROOT / "plugins" / "plugin_utils"
PACKAGE = "ansible_collections.tidegate.release.plugins.plugin_utils"
EVENT = 3  # which argument of _append it is, without self
NOTED = 1  # of Journal.note
# Functions that pass on an event which they were given: what it can be, or which argument of theirs it is.
PASSED_ON = {
    "_move": frozenset(map(str, DeploymentState)),
    "_move_host": frozenset(map(str, HostState)),
    "_move_data": frozenset(map(str, DATA_EVENTS)),
    "note": 1,
    "_say": 3,
}


def value(node: ast.expr, module: str) -> set[str] | None:
    """The events that an expression can be; ``None`` for a parameter."""
    if isinstance(node, ast.Constant):
        return {str(node.value)}
    if isinstance(node, ast.Name):
        known = vars(importlib.import_module(module))
        return {str(known[node.id])} if node.id in known else None
    if isinstance(node, ast.JoinedStr):
        parts = [value(part.value if isinstance(part, ast.FormattedValue) else part, module) or set() for part in node.values]
        return {"".join(next(iter(part)) for part in parts)}
    if isinstance(node, ast.IfExp):
        first, second = value(node.body, module), value(node.orelse, module)
        return None if first is None or second is None else first | second
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "DATA_FAILED":
        return set(DATA_FAILED.values())
    raise AssertionError(f"{module}: {ast.unparse(node)} is an event that this test can't read")


def calls(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    """Each call in a module, with the innermost function that it is in."""

    def walk(node: ast.AST, inside: str) -> Iterator[tuple[str, ast.Call]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Call):
                yield inside, child
            yield from walk(child, child.name if isinstance(child, ast.FunctionDef) else inside)

    yield from walk(tree, "")


def written(source: Path) -> set[str]:
    """The events that a file writes to the journal."""
    module = ".".join((PACKAGE, *source.relative_to(PLUGIN_UTILS).with_suffix("").parts))
    tree = ast.parse(source.read_text(encoding="utf-8"))
    found: set[str] = set()
    for row in (node for node in ast.walk(tree) if isinstance(node, ast.Dict)):
        line = {key.value: one for key, one in zip(row.keys, row.values, strict=True) if isinstance(key, ast.Constant)}
        if {"deployment_id", "event"} <= line.keys():
            found |= value(line["event"], module) or set()
    for inside, call in calls(tree):
        name = call.func.attr if isinstance(call.func, ast.Attribute) else call.func.id if isinstance(call.func, ast.Name) else ""
        given: list[ast.expr] = []
        if name == "_append" and len(call.args) > EVENT:
            given = [call.args[EVENT]]
        elif name == "note" and len(call.args) > NOTED + 1 and ast.unparse(call.func) in ("journal.note", "self.note"):
            given = [call.args[NOTED]]
        elif name == "_say" and "rollout" in module:
            given = [call.args[EVENT]]
        for one in given:
            events = value(one, module)
            if events is None:
                assert inside in PASSED_ON or inside == "_append", f"{module}: say in PASSED_ON which events {inside} writes"
                passed = PASSED_ON.get(inside)
                events = set(passed) if isinstance(passed, frozenset) else set()
            found |= events
    return found


@pytest.fixture(scope="module")
def events() -> set[str]:
    return set().union(*(written(path) for path in sorted(PLUGIN_UTILS.rglob("*.py"))))


def test_each_event_of_the_journal_is_one_at_which_a_test_kills(events: set[str]) -> None:
    assert events - POINTS.keys() - SAID_AT_ONCE.keys() == set()


def test_each_of_them_is_an_event(events: set[str]) -> None:
    assert (POINTS.keys() | SAID_AT_ONCE.keys()) - events == set()
    assert POINTS.keys() & SAID_AT_ONCE.keys() == set()


# Who is killed while an update's step is at work is no run of ours: of these events the test kills at all that they can be about.
OF_FIRMWARE = {"firmware_step", "firmware_read"}


def elements(node: ast.expr, lists: dict[str, ast.expr]) -> Iterator[ast.expr]:
    """The elements of a list as it is written, of which parts may have a name in the module."""
    if isinstance(node, ast.Name) and node.id in lists:
        yield from elements(lists[node.id], lists)
    elif isinstance(node, (ast.GeneratorExp, ast.ListComp)):
        yield from elements(node.generators[0].iter, lists)
    elif isinstance(node, ast.Call):  # pytest.param
        yield ast.Tuple(node.args)
    else:
        for element in node.elts if isinstance(node, (ast.List, ast.Tuple)) else ():
            if isinstance(element, (ast.Starred, ast.Call)):
                yield from elements(element.value if isinstance(element, ast.Starred) else element, lists)
            else:
                yield element


def given(function: ast.FunctionDef, name: str, lists: dict[str, ast.expr]) -> Iterator[ast.expr]:
    """What a parameter or the variable of a loop is in turn."""
    turns: list[tuple[list[str], ast.expr]] = []
    for mark in function.decorator_list:
        if isinstance(mark, ast.Call) and ast.unparse(mark.func).endswith("parametrize"):
            names = ast.literal_eval(mark.args[0])
            turns.append(([names] if isinstance(names, str) else list(names), mark.args[1]))
    for loop in ast.walk(function):
        if isinstance(loop, ast.For):
            parts = loop.target.elts if isinstance(loop.target, ast.Tuple) else [loop.target]
            turns.append(([ast.unparse(part) for part in parts], loop.iter))
    for names, values in turns:
        if name in names:
            for one in elements(values, lists):
                yield one.elts[names.index(name)] if isinstance(one, ast.Tuple) else one


def kills(function: ast.FunctionDef) -> Iterator[ast.expr]:
    """At which events a test kills: that of ``kill_at`` and ``killing``, and that at which it lets go of what a killed run has left."""
    called = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
    kills_itself = any(isinstance(call.func, ast.Attribute) and call.func.attr == "kill" for call in called)
    for call in called:
        name, arguments = ast.unparse(call.func), call.args
        if arguments and ast.unparse(arguments[0]) == "kill_at":  # which is passed on, to be called
            name, arguments = "kill_at", arguments[1:]
        if name in ("kill_at", "killing") or (kills_itself and name.endswith(".resume")):
            yield arguments[0 if name == "killing" else 1]


def killed(test: str) -> set[str]:
    """The events at which a file of tests/integration kills."""
    tree = ast.parse((ROOT / "tests" / "integration" / f"{test}.py").read_text(encoding="utf-8"))
    assigned = [node for node in tree.body if isinstance(node, ast.Assign)]
    lists = {ast.unparse(target): node.value for node in assigned for target in node.targets}
    found: set[str] = set()
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        for event in kills(function):
            values = given(function, event.id, lists) if isinstance(event, ast.Name) else [event]
            found |= {str(one.value) for one in values if isinstance(one, ast.Constant)}
        text = ast.unparse(function)
        if "in UpdateStep" in text and "os.kill(child, signal.SIGKILL)" in text:
            found |= OF_FIRMWARE
    return found


@pytest.mark.parametrize("test", sorted(set(POINTS.values())))
def test_where_the_controller_is_said_to_be_killed_it_is(test: str) -> None:
    assert {event for event, where in POINTS.items() if where == test} - killed(test) == set()
