# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What may be written about CIs, and what a write would change. Pure: no database, no clock."""

from __future__ import annotations

import json
import keyword
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import DocumentError, Problem

# The columns of a CI that are plain words; its other parts are attributes and, where given, relations.
WORDS = ("class", "site", "environment")

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,253}")
# Inventory groups that always exist: as a host's name they would select every host.
_GROUPS = frozenset({"all", "ungrouped"})
_KEYS = frozenset({"name", *WORDS, "attributes", "relations"})


@dataclass
class PutResult:
    """What a put did, or would do: names by outcome, and for each changed CI its state before (``None``: new) and after."""

    created: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    diffs: dict[str, tuple[dict[str, Any] | None, dict[str, Any]]] = field(default_factory=dict)


def is_name(text: object) -> bool:
    """Whether ``text`` can be a CI's name, which is also its host name in the inventory."""
    return isinstance(text, str) and _NAME.fullmatch(text) is not None and text not in _GROUPS


def check_names(names: Iterable[object]) -> None:
    """Raise :class:`DocumentError` with every name that can't be a CI's."""
    problems = [_bad_name("CI", name) for name in names if not is_name(name)]
    if problems:
        raise DocumentError(problems)


def check_relations(relations: Iterable[Sequence[object]]) -> None:
    """Raise :class:`DocumentError` with every fault of ``(source, target, kind)`` triples."""
    problems = []
    for source, target, kind in relations:
        where = f"relation {_shown(source)} -> {_shown(target)}"
        problems += [_bad_name(where, name) for name in (source, target) if not is_name(name)]
        if not is_name(kind):
            problems.append(_bad_kind(where, kind))
    if problems:
        raise DocumentError(problems)


def checked(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a put in plain types: words stripped of emptiness, attributes as JSON has them, relations sorted.

    A key that is left out stays what it is; an empty or null word is taken away. Raises :class:`DocumentError` with every
    fault of every row.
    """
    problems: list[Problem] = []
    seen = Counter(row.get("name") for row in rows if isinstance(row.get("name"), str))
    result = [_checked(f"cis[{index}] {_shown(row.get('name'))}", row, problems) for index, row in enumerate(rows)]
    problems += [
        Problem(f"CI {_shown(name)}", f"given {count} times", "say everything about one CI in one place")
        for name, count in seen.items()
        if count > 1
    ]
    if problems:
        raise DocumentError(problems)
    return result


def plan(current: Mapping[str, Mapping[str, Any]], rows: Iterable[Mapping[str, Any]]) -> PutResult:
    """What putting checked ``rows`` changes, given the ``current`` state of those CIs that exist, by name."""
    result = PutResult()
    for row in rows:
        name = row["name"]
        wanted = {key: value for key, value in row.items() if key != "name"}
        before = current.get(name)
        if before is None:
            after = dict.fromkeys(WORDS) | {"attributes": {}} | wanted
            result.created.append(name)
            result.diffs[name] = (None, after)
        elif all(before.get(key) == value for key, value in wanted.items()):
            result.unchanged.append(name)
        else:
            old = {key: value for key, value in before.items() if key != "name"}
            result.updated.append(name)
            result.diffs[name] = (old, old | wanted)
    return result


def difference(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> dict[str, Any]:
    """What the history keeps of a change: only the keys that differ, with their values before and after."""
    if before is None:
        return {"after": dict(after)}
    keys = [key for key in after if before.get(key) != after[key]]
    return {"before": {key: before.get(key) for key in keys}, "after": {key: after[key] for key in keys}}


def _checked(where: str, row: Mapping[str, Any], problems: list[Problem]) -> dict[str, Any]:
    if not is_name(row.get("name")):
        problems.append(_bad_name(where, row.get("name")))
    problems += [
        Problem(where, f"{_shown(key)} is not a part of a CI", f"use {', '.join(sorted(_KEYS))}, or put it in attributes")
        for key in sorted(set(row) - _KEYS, key=str)
    ]
    plain: dict[str, Any] = {"name": str(row.get("name"))}
    for key in WORDS:
        if key in row:
            plain[key] = _word(where, key, row[key], problems)
    if row.get("attributes") is not None:
        plain["attributes"] = _attributes(where, row["attributes"], problems)
    if row.get("relations") is not None:
        plain["relations"] = _relations(where, row["relations"], problems)
    return plain


def _word(where: str, key: str, value: object, problems: list[Problem]) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > 254 or not value.isprintable():
        problems.append(Problem(where, f"{key} is {_shown(value)}", "write it as one line of at most 254 printable characters"))
        return None
    return str(value)


def _attributes(where: str, value: object, problems: list[Problem]) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        problems.append(Problem(where, "attributes is not a mapping", "write it as keys and values"))
        return {}
    problems += [
        Problem(
            where,
            f"attribute {_shown(key)} can't be a host variable",
            "use letters, digits and _, and neither a keyword of Python nor tidegate_ci",
        )
        for key in value
        if not isinstance(key, str) or not key.isascii() or not key.isidentifier() or keyword.iskeyword(key) or key == "tidegate_ci"
    ]
    try:
        # There and back, so that it compares equal to what the database returns, whatever subclasses came in.
        plain: dict[str, Any] = json.loads(json.dumps(value, allow_nan=False, skipkeys=False))
    except (TypeError, ValueError, RecursionError) as error:
        # The type only: the value may be a secret.
        reason = "has a value JSON can't hold" if isinstance(error, TypeError) else "has a number or a nesting JSON can't hold"
        problems.append(Problem(where, f"attributes {reason}", "use strings, finite numbers, booleans, null, lists and mappings"))
        return {}
    return plain


def _relations(where: str, value: object, problems: list[Problem]) -> list[dict[str, str]]:
    found: set[tuple[str, str]] = set()
    for entry in value if isinstance(value, list) else [value]:
        if not isinstance(entry, Mapping) or set(entry) != {"kind", "target"}:
            problems.append(Problem(where, "a relation is not a kind and a target", "write it as {kind: runs_on, target: NAME}"))
            continue
        if not is_name(entry["target"]):
            problems.append(_bad_name(f"{where} relation target", entry["target"]))
        elif not is_name(entry["kind"]):
            problems.append(_bad_kind(where, entry["kind"]))
        else:
            found.add((str(entry["kind"]), str(entry["target"])))
    return [{"kind": kind, "target": target} for kind, target in sorted(found)]


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _bad_name(where: str, name: object) -> Problem:
    return Problem(
        where,
        f"{_shown(name)} can't be the name of a CI",
        "use at most 254 letters, digits, _, . and -, the first a letter, digit or _, and neither all nor ungrouped",
    )


def _bad_kind(where: str, kind: object) -> Problem:
    return Problem(where, f"{_shown(kind)} can't be a kind of relation", "use a word such as runs_on")
