# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What CIs there can be: their classes, their states, how they relate, and what of a change is against that. Pure."""

from __future__ import annotations

import difflib
import functools
import unicodedata
from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import Problem
from .ci_changes import RETIRED, WORDS, PutResult, Triple, relation_changes, shown

MODULE = "tidegate.release.cmdb_model"
SOURCE, TARGET, BOTH, NONE = "source", "target", "both", "none"
_NAMED = 20  # members of a circle that a message names


@dataclass(frozen=True)
class CiClass:
    """A class: whether its CIs are hosts, what they have to have, and which attributes no two CIs have alike."""

    host: bool
    required: tuple[str, ...] = ()
    unique: frozenset[str] = frozenset()


@dataclass(frozen=True)
class RelationKind:
    """A kind of relation: classes that may be at its ends, empty for any; whether it may go round in a circle; and who is ``hit`` by what
    happens to the other end, :data:`SOURCE`, :data:`TARGET`, :data:`BOTH` or :data:`NONE`."""

    sources: frozenset[str] = frozenset()
    targets: frozenset[str] = frozenset()
    acyclic: bool = False
    hits: str = NONE


@dataclass(frozen=True)
class CiModel:
    """Classes and kinds of relations by name, and the attributes that no two CIs have alike, of whatever class."""

    classes: Mapping[str, CiClass]
    kinds: Mapping[str, RelationKind]
    unique: frozenset[str]

    def of(self, name: str | None) -> CiClass | None:
        """The class of that name, in whatever case and spelling; ``None`` for no class and for one that the model does not have."""
        return self.classes.get(class_key(name))

    def unique_of(self, name: str | None) -> frozenset[str]:
        """The attributes of which a CI of this class has a value that no other has."""
        known = self.of(name)
        return self.unique if known is None else self.unique | known.unique


@dataclass(frozen=True)
class AroundPut:
    """What the CMDB has besides the CIs that are written: ``names`` of all CIs by their case-folded name, ``others`` that have an attribute
    which is unique, the ``classes`` of those that relations lead to, ``relations`` of CIs whose class changes, and the ``edges`` of acyclic
    kinds that can be reached from new ones."""

    names: Mapping[str, str] = field(default_factory=dict)
    others: Collection[Mapping[str, Any]] = ()
    classes: Mapping[str, str | None] = field(default_factory=dict)
    relations: Collection[Triple] = ()
    edges: Collection[Triple] = ()


@functools.lru_cache(4096)
def class_key(name: str | None) -> str:
    """What a class is known by: as ServiceNow's tables have it (``cmdb_ci_rack``), and two words with any sign between, are the same."""
    return "_".join((name or "").casefold().removeprefix("cmdb_ci_").replace("-", " ").replace("_", " ").split())


def build_model(*documents: Mapping[str, Any]) -> CiModel:
    """The model that the documents make, each on top of those before: a key that a later one gives of a class or a kind replaces theirs."""
    classes: dict[str, dict[str, Any]] = {}
    kinds: dict[str, dict[str, Any]] = {}
    unique: frozenset[str] = frozenset()
    for document in documents:
        for name, given in document.get("classes", {}).items():
            key = class_key(name)
            classes[key] = classes.get(key, {}) | given
        for name, given in document.get("relations", {}).items():
            kinds[name] = kinds.get(name, {}) | given
        unique = frozenset(document.get("unique", unique))
    return CiModel(
        {
            key: CiClass(one.get("host", True), tuple(one.get("required", ())), frozenset(one.get("unique", ())))
            for key, one in classes.items()
        },
        {
            name: RelationKind(
                frozenset(map(class_key, one.get("from", ()))),
                frozenset(map(class_key, one.get("to", ()))),
                one.get("acyclic", False),
                one.get("hits", NONE),
            )
            for name, one in kinds.items()
        },
        unique,
    )


def needed_uniques(model: CiModel, result: PutResult) -> set[str]:
    """The attributes that other CIs have to be asked for, before it is known whether a put is right."""
    return {attribute for _name, after, changed in _claims(model, result) for attribute in changed if values_of(after, attribute)}


def class_changes(result: PutResult) -> list[str]:
    """The CIs that are there and get another class."""
    return [name for name, (before, after) in result.diffs.items() if before is not None and before["class"] != after["class"]]


def faults_of_put(model: CiModel, result: PutResult, around: AroundPut) -> list[Problem]:
    """Everything that a put would bring into the CMDB against the model. What was wrong before it, and is left as it is, is none."""
    problems = [problem for name, (before, after) in result.diffs.items() for problem in _own_faults(model, name, before, after)]
    names = dict(around.names)
    for name in result.created:
        other = names.setdefault(name.casefold(), name)
        if other != name:
            problems.append(
                Problem(
                    f"CI {name}",
                    f"{other} is a CI too, and they differ in case only",
                    f"write {other} if it is the same, or give another name",
                )
            )
    problems += _duplicates(model, result, around.others)
    classes = {**around.classes, **{name: after["class"] for name, (_before, after) in result.diffs.items()}}
    new, gone = relation_changes(result)
    kept = {triple for triple in around.relations if triple not in gone and triple[2] in model.kinds}
    return problems + faults_of_relations(model, new, classes, around.edges, kept)


def faults_of_relations(
    model: CiModel,
    new: Collection[Triple],
    classes: Mapping[str, str | None],
    edges: Collection[Triple] = (),
    kept: Collection[Triple] = (),
) -> list[Problem]:
    """What is against the model of ``new`` relations, between CIs of these ``classes``.

    ``edges``: others of acyclic kinds, which may close a circle. ``kept``: relations that are there; only their ends are looked at.
    """
    problems = []
    for triple in sorted({*new, *kept}):
        source, target, kind = triple
        where = f"relation {source} {kind} {target}"
        known = model.kinds.get(kind)
        if source == target:
            problems.append(Problem(where, f"{source} is related to itself", "name two CIs"))
        elif known is None:
            problems.append(Problem(where, f"the model has no kind {shown(kind)}", _advice(kind, model.kinds, "kinds")))
        else:
            problems += _bad_ends(where, model, known, (source, classes.get(source)), (target, classes.get(target)))
    for kind in sorted({kind for _source, _target, kind in new if kind in model.kinds and model.kinds[kind].acyclic}):
        lines = {(one, other) for one, other, of in (*new, *edges) if of == kind and one != other}
        problems += _circles(kind, sorted((one, other) for one, other, of in new if of == kind and one != other), lines)
    return problems


def values_of(ci: Mapping[str, Any], attribute: str) -> set[str]:
    """What a CI has of a unique attribute, as it is compared: without case and outer spaces, each entry of a list."""
    value = ci["attributes"].get(attribute)
    entries = value if isinstance(value, list) else [value]
    plain = (str(entry) for entry in entries if isinstance(entry, str | int | float) and not isinstance(entry, bool))
    return {text for text in (unicodedata.normalize("NFKC", one).casefold().strip() for one in plain) if text}


def _own_faults(model: CiModel, name: str, before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> Iterator[Problem]:
    where = f"CI {name}"
    new_class = before is None or class_key(before["class"]) != class_key(after["class"])
    known = model.of(after["class"])
    if after["class"] and known is None and new_class:
        yield Problem(
            where, f"the model has no class {shown(after['class'])}", _advice(class_key(after["class"]), model.classes, "classes")
        )
    for key in known.required if known else ():
        had = before is not None and not new_class and not _has(before, key)
        if not had and not _has(after, key):
            yield Problem(where, f"it has no {key}, which each {after['class']} has to have", f"give {key}")


def _has(ci: Mapping[str, Any], key: str) -> bool:
    return (ci.get(key) if key in WORDS else ci["attributes"].get(key)) not in (None, "", [], {})


def _claims(model: CiModel, result: PutResult) -> Iterator[tuple[str, Mapping[str, Any], set[str]]]:
    """CIs with the attributes of which a put gives them a value anew."""
    every = model.unique.union(*(one.unique for one in model.classes.values()))
    for name, (before, after) in result.diffs.items():
        if after["status"] == RETIRED:
            continue
        anew = before is None or before["status"] == RETIRED or before["class"] != after["class"]
        changed = {one for one in every if before is None or anew or values_of(before, one) != values_of(after, one)}
        yield name, after, changed


def _duplicates(model: CiModel, result: PutResult, others: Collection[Mapping[str, Any]]) -> Iterator[Problem]:
    claims = list(_claims(model, result))
    wanted = {attribute for _name, _after, changed in claims for attribute in changed}
    holders: dict[tuple[str, str], list[tuple[str, str | None]]] = defaultdict(list)
    written = ((name, after) for name, (_before, after) in result.diffs.items())
    there = ((ci["name"], ci) for ci in others if ci["name"] not in result.diffs)
    for name, ci in (*there, *written):
        if ci["status"] != RETIRED:
            for attribute in wanted:
                for value in values_of(ci, attribute):
                    holders[attribute, value].append((name, ci["class"]))
    said = set()
    for name, after, changed in claims:
        for attribute in sorted(changed):
            for value in sorted(values_of(after, attribute)):
                for other, of_class in holders[attribute, value]:
                    pair = (attribute, *sorted((name, other)))
                    alike = attribute in model.unique_of(after["class"]) or attribute in model.unique_of(of_class)
                    if other != name and alike and pair not in said:
                        said.add(pair)
                        yield Problem(
                            f"CI {name}",
                            f"its {attribute} is that of {other} too, {shown(value)}",
                            f"correct one of them, write {other} if they are the same, or set its status to retired if it is gone",
                        )


def _bad_ends(
    where: str, model: CiModel, kind: RelationKind, source: tuple[str, str | None], target: tuple[str, str | None]
) -> Iterator[Problem]:
    for (name, of_class), allowed, end in ((source, kind.sources, "begin"), (target, kind.targets, "end")):
        if allowed and model.of(of_class) is not None and class_key(of_class) not in allowed:
            yield Problem(where, f"it can't {end} at {name}, a {of_class}", f"it may at one of {', '.join(sorted(allowed))}")


def _circles(kind: str, new: Iterable[tuple[str, str]], lines: Collection[tuple[str, str]]) -> Iterator[Problem]:
    onward: dict[str, list[str]] = defaultdict(list)
    for one, other in sorted(lines):
        onward[one].append(other)
    circular = _circular(onward)
    said: set[frozenset[str]] = set()
    for source, target in new:
        if circular.get(source) is not None and circular.get(source) == circular.get(target):
            path = _path(onward, target, source)
            if frozenset(path) not in said:
                said.add(frozenset(path))
                chain = [source, *path]
                text = " -> ".join(chain if len(chain) <= _NAMED else [*chain[: _NAMED - 1], "...", chain[-1]])
                yield Problem(f"relation {source} {kind} {target}", f"it closes a circle, {text}", "leave out one of these relations")


def _circular(onward: Mapping[str, list[str]]) -> dict[str, int]:
    """A number for each CI, that of the circles it is in: two with the same one reach each other. Those in none are left out."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    path: list[str] = []
    on_path: set[str] = set()
    found: dict[str, int] = {}
    for start in onward:
        if start in order:
            continue
        work = [(start, iter(onward[start]))]
        order[start] = low[start] = len(order)
        path.append(start)
        on_path.add(start)
        while work:
            name, rest = work[-1]
            for following in rest:
                if following not in order:
                    order[following] = low[following] = len(order)
                    path.append(following)
                    on_path.add(following)
                    work.append((following, iter(onward.get(following, ()))))
                    break
                if following in on_path:
                    low[name] = min(low[name], order[following])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[name])
                if low[name] == order[name]:
                    members: list[str] = []
                    while not members or members[-1] != name:
                        members.append(path.pop())
                        on_path.discard(members[-1])
                    if len(members) > 1:
                        found |= dict.fromkeys(members, order[name])
    return found


def _path(onward: Mapping[str, list[str]], start: str, end: str) -> list[str]:
    """The shortest way from ``start`` to ``end``, both in it; there is one."""
    came: dict[str, str] = {start: start}
    waiting = deque([start])
    while end not in came:
        name = waiting.popleft()
        for following in onward.get(name, ()):
            if following not in came:
                came[following] = name
                waiting.append(following)
    way = [end]
    while way[-1] != start:
        way.append(came[way[-1]])
    return way[::-1]


def _advice(given: str, known: Iterable[str], what: str) -> str:
    close = difflib.get_close_matches(given[:64], list(known), 1, 0.7)
    add = f"add it to the {what} of the team's model with {MODULE}"
    return f"did you mean {close[0]}? If not, {add}" if close else add
