# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The YAML of a role as nodes with their lines: read as Ansible reads it, and in bounds whoever wrote it.

Nothing is constructed, so Ansible's tags, ``!vault`` and ``!unsafe``, mean nothing here. Aliases and ``<<`` are what roles are written
with; they are followed, and each step counts.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import yaml
from yaml.composer import Composer

LIMIT = 1 << 20
"""Bytes of a file of YAML."""
VAULT = b"$ANSIBLE_VAULT"
"""How a file begins that is encrypted as a whole."""

_WAYS = 200_000  # over which links and includes lead to the files of one role
_NODES = 300_000  # looked at in one role; some seconds, and ten times what the largest roles that people share have
_DEEPEST = 100
_MERGE = "tag:yaml.org,2002:merge"
NULL = "tag:yaml.org,2002:null"
"""The tag of nothing."""
_MAP = "tag:yaml.org,2002:map"
_START = yaml.Mark("", 0, 0, 0, None, 0)
# PyYAML may have been built without libyaml, which is many times as fast. Its own loader is a composer already.
_Parser = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Base = _Parser if issubclass(_Parser, Composer) else type("_Base", (Composer, _Parser), {})


class UnreadableError(Exception):
    """What is wrong with a file, in ``line``."""

    def __init__(self, what: str, line: int = 1) -> None:
        super().__init__(what)
        self.line = line


class TooMuchError(UnreadableError):
    """The role as a whole has more in it than is looked at."""


class Budget:
    """How much is still looked at."""

    def __init__(self) -> None:
        self._left = _NODES
        self._ways = _WAYS

    def spend(self, node: yaml.Node) -> None:
        """Count one node; raises :class:`TooMuchError` when there were too many."""
        self._left -= 1
        if self._left < 0:
            raise TooMuchError(f"the role has more than {_NODES:,} keys and values in its YAML", line_of(node))

    def spend_ways(self, ways: int) -> None:
        """Count files that a link or a path in a task may lead to; raises :class:`TooMuchError` when there were too many."""
        self._ways -= ways
        if self._ways < 0:
            raise TooMuchError(f"the links and includes of the role lead to its files in more than {_WAYS:,} ways")


class _NodeLoader(_Base):  # type: ignore[misc, valid-type]  # the base depends on how PyYAML was built
    """Composes nodes of the events of a parser, and none that holds itself or is nested without end."""

    def __init__(self, text: str, budget: Budget) -> None:
        # Both are bases, one of them by another name; they don't call each other.
        _Parser.__init__(self, text)  # pylint: disable=non-parent-init-called
        Composer.__init__(self)  # pylint: disable=non-parent-init-called
        self._budget = budget
        self._open: list[str | None] = []  # the anchors of what is being composed

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in self._open:
                raise UnreadableError("an alias (*) is a part of what it stands for", line)
            return Composer.compose_node(self, parent, index)
        if len(self._open) >= _DEEPEST:
            raise UnreadableError("it is nested too deeply", line)
        self._open.append(event.anchor)
        node = Composer.compose_node(self, parent, index)
        self._open.pop()
        if node is not None:
            self._budget.spend(node)
        return node


def read(content: bytes, budget: Budget) -> yaml.Node | None:
    """The document in a file, nothing when it is empty; raises :class:`UnreadableError`."""
    if len(content) > LIMIT:
        raise UnreadableError(f"the file is larger than {LIMIT >> 20} MiB")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableError("it is not UTF-8 text", content.count(b"\n", 0, error.start) + 1) from error
    try:
        return _compose(text, budget)
    except TooMuchError:
        raise
    except UnreadableError:
        # What is JSON is read as JSON by Ansible, with keys that are too long for YAML for one.
        with contextlib.suppress(ValueError, RecursionError):
            return _of_json(json.loads(text, object_pairs_hook=_mapping))
        raise


def _mapping(entries: list[tuple[str, Any]]) -> yaml.MappingNode:
    return yaml.MappingNode(_MAP, [(_of_json(key), _of_json(value)) for key, value in entries], _START, _START)


def _of_json(value: Any) -> yaml.Node:
    """What JSON says as nodes, all of them in the first line."""
    if isinstance(value, yaml.Node):
        return value
    if isinstance(value, list):
        return yaml.SequenceNode("tag:yaml.org,2002:seq", [_of_json(item) for item in value], _START, _START)
    return yaml.ScalarNode(NULL if value is None else "tag:yaml.org,2002:str", str(value), _START, _START)


def _compose(text: str, budget: Budget) -> yaml.Node | None:
    try:
        loader = _NodeLoader(text, budget)
        try:
            node: yaml.Node | None = loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise UnreadableError(f"it is not valid YAML: {error.problem or error.context}", mark.line + 1 if mark else 1) from error
    except yaml.reader.ReaderError as error:
        raise UnreadableError("it has a character in it that YAML does not allow", text.count("\n", 0, error.position) + 1) from error
    except (ValueError, OverflowError, RecursionError) as error:  # an escape beyond Unicode
        raise UnreadableError("it can't be read as YAML") from error
    return node


def pairs(node: yaml.MappingNode, budget: Budget, depth: int = 0) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
    """The keys of a mapping that are texts, each with its node and its value, those that ``<<`` merges into it included."""
    for key, value in node.value:
        budget.spend(key)
        if key.tag != _MERGE:
            if isinstance(key, yaml.ScalarNode):
                yield key.value, key, value
            continue
        for merged in value.value if isinstance(value, yaml.SequenceNode) else [value]:
            if isinstance(merged, yaml.MappingNode):
                if depth >= _DEEPEST:
                    raise UnreadableError("it is nested too deeply", line_of(merged))
                yield from pairs(merged, budget, depth + 1)


def repeated(node: yaml.Node, budget: Budget) -> Iterator[tuple[str, int]]:
    """Each key that a mapping, anywhere in a document, has twice, and its line."""
    seen: set[int] = set()
    waiting = [node]
    while waiting:
        here = waiting.pop()
        if id(here) in seen:
            continue
        seen.add(id(here))
        budget.spend(here)
        if isinstance(here, yaml.SequenceNode):
            waiting += here.value
        elif isinstance(here, yaml.MappingNode):
            keys: set[str] = set()
            for key, value in here.value:
                if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
                    if key.value in keys:
                        yield key.value, line_of(key)
                    keys.add(key.value)
                waiting += [key, value]


def text_of(node: yaml.Node | None) -> str | None:
    """What a node says, when it is a plain value; what is encrypted in place says what a template says, nothing that is known here."""
    if not isinstance(node, yaml.ScalarNode) or node.tag == NULL:
        return None
    return "{{ vault }}" if node.tag.startswith("!vault") else str(node.value)


def texts_of(node: yaml.Node | None, budget: Budget) -> Iterator[tuple[str, yaml.Node]]:
    """Every plain value in a node, keys left out."""
    if isinstance(node, yaml.MappingNode):
        for _key, _node, value in pairs(node, budget):
            yield from texts_of(value, budget)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from texts_of(item, budget)
    elif node is not None and (text := text_of(node)) is not None:
        budget.spend(node)
        yield text, node


def line_of(node: yaml.Node) -> int:
    """Where a node begins in its file."""
    return int(node.start_mark.line) + 1
