# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which CIs are hit by what happens to others, and over which relations."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from .model import BOTH, SOURCE, TARGET, CiModel
from .schema import schema

with contextlib.suppress(ImportError):
    import sqlalchemy as sa

_CHUNK = 2000  # numbers in one statement


@dataclass(frozen=True)
class Hit:
    """How a CI is hit: over so many relations, which are sentences such as ``web1 runs_on vm1``, the first one at the CI that was named."""

    hops: int
    chain: tuple[str, ...]


def impact(
    connection: sa.Connection, model: CiModel, names: Collection[str], *, hops: int | None = None, upstream: bool = False
) -> dict[str, Hit]:
    """The CIs that are hit by what happens to ``names``, each by the shortest chain; ``names`` themselves are not among them.

    ``hops``: how far at most. ``upstream``: those by which ``names`` are hit. A kind that the model does not have hits both ends.
    Names that the CMDB does not have hit nobody.
    """
    ci = schema().ci.c
    wanted = set(names)
    known = {
        row.id: row.name for chunk in _chunks(wanted) for row in connection.execute(sa.select(ci.id, ci.name).where(ci.name.in_(chunk)))
    }
    hits: dict[int, tuple[int, int, str, bool]] = {}  # by number: hops, whence, over which kind, and whether that relation leads there
    frontier: set[int] = set(known)
    seen, distance = set(frontier), 0
    while frontier and (hops is None or distance < hops):
        distance += 1
        reached: dict[int, tuple[int, int, str, bool]] = {}
        for here, there, kind, onward in _steps(connection, model, frontier, upstream):
            if there not in seen and (there not in reached or (here, kind) < (reached[there][1], reached[there][2])):
                reached[there] = (distance, here, kind, onward)
        hits |= reached
        seen |= reached.keys()
        frontier = set(reached)
    for chunk in _chunks(hits):
        known |= {row.id: row.name for row in connection.execute(_numbered(sa.select(ci.id, ci.name), ci.id), {"ids": chunk})}
    found: dict[int, Hit] = {}
    for number, (distance, whence, kind, onward) in hits.items():  # nearer ones first
        ends = (known[whence], known[number]) if onward else (known[number], known[whence])
        before = found[whence].chain if whence in found else ()
        found[number] = Hit(distance, (*before, f"{ends[0]} {kind} {ends[1]}"))
    return {known[number]: hit for number, hit in found.items()}


def _steps(connection: sa.Connection, model: CiModel, frontier: Collection[int], upstream: bool) -> Iterator[tuple[int, int, str, bool]]:
    """From each CI of ``frontier``: it, who is hit, the kind, and whether the relation leads from the former to the latter."""
    relation = schema().relation.c
    to_target = defaultdict(lambda: True, {name: kind.hits in (SOURCE if upstream else TARGET, BOTH) for name, kind in model.kinds.items()})
    to_source = defaultdict(lambda: True, {name: kind.hits in (TARGET if upstream else SOURCE, BOTH) for name, kind in model.kinds.items()})
    columns = sa.select(relation.source_id, relation.target_id, relation.kind)
    for chunk in _chunks(frontier):
        for source, target, kind in connection.execute(_numbered(columns, relation.source_id), {"ids": chunk}):
            if to_target[kind]:
                yield source, target, kind, True
        for source, target, kind in connection.execute(_numbered(columns, relation.target_id), {"ids": chunk}):
            if to_source[kind]:
                yield target, source, kind, False


def _numbered(select: sa.Select[Any], column: sa.ColumnElement[int]) -> sa.Select[Any]:
    return select.where(column.in_(sa.bindparam("ids", expanding=True, literal_execute=True)))


def _chunks(entries: Iterable[Any]) -> Iterator[list[Any]]:
    listed = sorted(entries)
    return (listed[start : start + _CHUNK] for start in range(0, len(listed), _CHUNK))
