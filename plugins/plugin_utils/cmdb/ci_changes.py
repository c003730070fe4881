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
WORDS = ("class", "site", "environment", "status", "owned_by", "support_group", "location", "time_zone")
STATUS = "installed"  # of a CI that is written without one
RETIRED = "retired"
_LIMIT = 64 << 10  # bytes of an attribute, as JSON
_LIMIT_OF_ALL = 1 << 20  # bytes of a CI's attributes

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,253}")
# Inventory groups that always exist: as a host's name they would select every host.
_GROUPS = frozenset({"all", "ungrouped"})
_KEYS = frozenset({"name", *WORDS, "attributes", "relations", "revision"})
# As JSON has them in a text; a backslash that is one itself is written twice.
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")

Triple = tuple[str, str, str]
"""A relation: source, target and kind."""


@dataclass(frozen=True)
class CiStatus:
    """What a status means: whether such a CI is live, and which values ServiceNow has for it."""

    live: bool
    install_status: int
    operational_status: int


STATUSES: Mapping[str, CiStatus] = {
    "planned": CiStatus(live=False, install_status=4, operational_status=2),
    "in_stock": CiStatus(live=False, install_status=6, operational_status=2),
    "installed": CiStatus(live=True, install_status=1, operational_status=1),
    "maintenance": CiStatus(live=True, install_status=3, operational_status=3),
    "retired": CiStatus(live=False, install_status=7, operational_status=6),
}


def is_live(ci: Mapping[str, Any]) -> bool:
    """Whether a CI is in use; so is one whose status means nothing, for nobody may lose a host by that."""
    known = STATUSES.get(ci.get("status", STATUS))
    return known is None or known.live


@dataclass
class PutResult:
    """What a put did, or would do: names by outcome, and for each changed CI its state before (``None``: new) and after."""

    created: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    diffs: dict[str, tuple[dict[str, Any] | None, dict[str, Any]]] = field(default_factory=dict)
    revisions: dict[str, int] = field(default_factory=dict)


def is_name(text: object) -> bool:
    """Whether ``text`` can be a CI's name, which is also its host name in the inventory."""
    return isinstance(text, str) and _NAME.fullmatch(text) is not None and text not in _GROUPS


def check_names(names: Iterable[object]) -> None:
    """Raise :class:`DocumentError` with every name that can't be a CI's."""
    problems = [_bad_name("CI", name) for name in names if not is_name(name)]
    if problems:
        raise DocumentError(problems)


def note_of(rfc: str, reason: str) -> dict[str, str]:
    """What goes into the history with a change: the number of its RFC, and why it was made; each only if it is given.

    Raises :class:`DocumentError` for what is no line of text.
    """
    problems: list[Problem] = []
    words = {key: _word("the change", key, value, problems) for key, value in (("rfc", rfc), ("reason", reason))}
    if problems:
        raise DocumentError(problems)
    return {key: word for key, word in words.items() if word}


def check_relations(relations: Iterable[Sequence[object]]) -> None:
    """Raise :class:`DocumentError` with every fault of ``(source, target, kind)`` triples."""
    problems = []
    for source, target, kind in relations:
        where = f"relation {shown(source)} -> {shown(target)}"
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
    result = [_checked(f"cis[{index}] {shown(row.get('name'))}", row, problems) for index, row in enumerate(rows)]
    problems += [
        Problem(f"CI {shown(name)}", f"given {count} times", "say everything about one CI in one place")
        for name, count in seen.items()
        if count > 1
    ]
    if problems:
        raise DocumentError(problems)
    return result


def plan(current: Mapping[str, Mapping[str, Any]], rows: Iterable[Mapping[str, Any]], *, merge: bool = False) -> PutResult:
    """What putting checked ``rows`` changes, given the ``current`` state of those CIs that exist, by name.

    With ``merge`` attributes that a row does not name stay as they are, and one that is null is taken away; without, a row has them all.
    Raises :class:`DocumentError` for CIs that would get too large.
    """
    result = PutResult()
    problems = []
    for row in rows:
        name = row["name"]
        wanted = {key: value for key, value in row.items() if key not in ("name", "revision")}
        before = current.get(name)
        if merge and "attributes" in wanted:
            merged = {**(before["attributes"] if before else {}), **wanted["attributes"]}
            wanted["attributes"] = {key: value for key, value in merged.items() if value is not None or key not in wanted["attributes"]}
        result.revisions[name] = before.get("revision", 1) if before else 1
        if before is None:
            after = dict.fromkeys(WORDS) | {"status": STATUS, "attributes": {}} | wanted
            result.created.append(name)
            result.diffs[name] = (None, after)
        elif all(before.get(key) == value for key, value in wanted.items()):
            result.unchanged.append(name)
            continue
        else:
            old = {key: value for key, value in before.items() if key not in ("name", "revision")}
            result.updated.append(name)
            result.revisions[name] += 1
            result.diffs[name] = (old, old | wanted)
        size = len(json.dumps(result.diffs[name][1]["attributes"])) if "attributes" in wanted else 0
        if size > _LIMIT_OF_ALL and (before is None or size > len(json.dumps(before["attributes"]))):
            problems.append(
                Problem(f"CI {name}", "its attributes are larger than 1 MB", "keep what is large elsewhere, and its address here")
            )
    if problems:
        raise DocumentError(problems)
    return result


def relation_changes(result: PutResult) -> tuple[set[Triple], set[Triple]]:
    """The relations that a put adds, and those that it takes away."""
    new: set[Triple] = set()
    gone: set[Triple] = set()
    for name, (before, after) in result.diffs.items():
        if "relations" in after:
            old = {(name, entry["target"], entry["kind"]) for entry in (before or {}).get("relations", ())}
            now = {(name, entry["target"], entry["kind"]) for entry in after["relations"]}
            new |= now - old
            gone |= old - now
    return new, gone


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
        Problem(where, f"{shown(key)} is not a part of a CI", f"use {', '.join(sorted(_KEYS))}, or put it in attributes")
        for key in sorted(set(row) - _KEYS, key=str)
    ]
    plain: dict[str, Any] = {"name": str(row.get("name"))}
    for key in WORDS:
        if key in row:
            plain[key] = _word(where, key, row[key], problems)
    if row.get("revision") is not None:
        plain["revision"] = row["revision"]
        if isinstance(row["revision"], bool) or not isinstance(row["revision"], int):
            problems.append(Problem(where, f"revision is {shown(row['revision'])}", "give the number that cmdb_ci_info has"))
    if row.get("attributes") is not None:
        plain["attributes"] = _attributes(where, row["attributes"], problems)
    if row.get("relations") is not None:
        plain["relations"] = _relations(where, row["relations"], problems)
    return plain


def _word(where: str, key: str, value: object, problems: list[Problem]) -> str | None:
    if key == "status" and value not in STATUSES:
        problems.append(Problem(where, f"status is {shown(value)}", f"it is one of {', '.join(STATUSES)}"))
        return None
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > 254 or not value.isprintable():
        problems.append(Problem(where, f"{key} is {shown(value)}", "write it as one line of at most 254 printable characters"))
        return None
    return str(value)


def _attributes(where: str, value: object, problems: list[Problem]) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        problems.append(Problem(where, "attributes is not a mapping", "write it as keys and values"))
        return {}
    problems += [
        Problem(
            where,
            f"attribute {shown(key)} can't be a host variable",
            "use letters, digits and _, and neither a keyword of Python nor tidegate_ci",
        )
        for key in value
        if not isinstance(key, str) or not key.isascii() or not key.isidentifier() or keyword.iskeyword(key) or key == "tidegate_ci"
    ]
    try:
        # There and back, so that it compares equal to what the database returns, whatever subclasses came in.
        whole = json.dumps(value, allow_nan=False, skipkeys=False)
        plain: dict[str, Any] = json.loads(whole)
    except (TypeError, ValueError, RecursionError) as error:
        # The type only: the value may be a secret.
        reason = "has a value JSON can't hold" if isinstance(error, TypeError) else "has a number or a nesting JSON can't hold"
        problems.append(Problem(where, f"attributes {reason}", "use strings, finite numbers, booleans, null, lists and mappings"))
        return {}
    if len(whole) <= _LIMIT and not ("\\u0000" in whole or "\\ud" in whole):
        return plain
    for key, one in plain.items():
        text = json.dumps(one)
        if len(text) > _LIMIT:
            problems.append(Problem(where, f"attribute {shown(key)} is larger than 64 kB", "keep it elsewhere, and its address here"))
        elif _NUL.search(text) or not _is_unicode(one):
            remedy = "take NUL and half surrogate pairs out of it"
            problems.append(Problem(where, f"attribute {shown(key)} has a character that no text has", remedy))
    return plain


def _is_unicode(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


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


def shown(value: object) -> str:
    """A value as a message can have it: on one line, and not too long."""
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _bad_name(where: str, name: object) -> Problem:
    return Problem(
        where,
        f"{shown(name)} can't be the name of a CI",
        "use at most 254 letters, digits, _, . and -, the first a letter, digit or _, and neither all nor ungrouped",
    )


def _bad_kind(where: str, kind: object) -> Problem:
    return Problem(where, f"{shown(kind)} can't be a kind of relation", "use a word such as runs_on")
