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


@pytest.mark.parametrize("event", sorted(POINTS))
def test_where_it_is_said_to_be_killed_it_is_named(event: str) -> None:
    text = (ROOT / "tests" / "integration" / f"{POINTS[event]}.py").read_text(encoding="utf-8")
    steps = {"firmware_step": "UpdateStep", "firmware_read": "UpdateStep", "drained": "drain", "restored": "restore"}
    assert steps.get(event, f'"{event}"') in text
