# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which CIs are hit by what happens to others, and over which relations."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from .model import BOTH, SOURCE, TARGET, CiModel
from .schema import schema

with contextlib.suppress(ImportError):
    import sqlalchemy as sa

# From so many CIs at once on it is quicker to read all relations than to ask for those at each.
_CHUNK = 500
# A relation as it is followed: where it is come from, who is hit, and its kind. What is known of many is no more than their rows.
_Step = tuple[int, int, str]
# The steps that lead against the direction of their relations, from its target to its source, and those that lead along, by their start.
_Ways = tuple[Mapping[int, Sequence[_Step]], Mapping[int, Sequence[_Step]]]


class Hit(NamedTuple):
    """How a CI is hit: over so many relations, of which the last is a sentence such as ``web1 runs_on vm1``; and how the CI at the other
    end of that is, ``None`` for one that was named."""

    hops: int
    relation: str
    before: Hit | None

    @property
    def chain(self) -> tuple[str, ...]:
        """All relations, the first one at a CI that was named."""
        found: list[str] = []
        hit: Hit | None = self
        while hit is not None:
            found.append(hit.relation)
            hit = hit.before
        return tuple(reversed(found))


def impact(
    connection: sa.Connection, model: CiModel, names: Collection[str], *, hops: int | None = None, upstream: bool = False
) -> dict[str, Hit]:
    """The CIs that are hit by what happens to ``names``, each by the shortest chain; ``names`` themselves are not among them.

    ``hops``: how far at most. ``upstream``: those by which ``names`` are hit. A kind that the model does not have hits both ends.
    Names that the CMDB does not have hit nobody.
    """
    ci = schema().ci.c
    ids = sa.select(ci.id, ci.name)
    known: dict[int, str] = {}
    for chunk in _chunks(set(names)):
        known |= {row.id: row.name for row in connection.execute(ids.where(ci.name.in_(chunk)))}
    relations = _Relations(connection, model, upstream)
    steps: dict[int, tuple[int, _Step, bool]] = {}  # by number, nearer ones first: hops, the last relation, and whether that leads there
    frontier, seen, distance = sorted(known), set(known), 0
    while frontier and (hops is None or distance < hops):
        distance += 1
        reached = []
        for along, ways in enumerate(relations.of(frontier)):
            for here in frontier:
                for step in ways.get(here, ()):
                    if step[1] not in seen:
                        seen.add(step[1])
                        steps[step[1]] = (distance, step, bool(along))
                        reached.append(step[1])
        frontier = sorted(reached)
    wanted = ids if len(steps) > _CHUNK else ids.where(ci.id.in_(list(steps)))
    known.update(_tuples(connection.execute(wanted)))
    found: dict[int, Hit] = {}
    for number, (distance, (here, there, kind), along_) in steps.items():
        sentence = f"{known[here]} {kind} {known[there]}" if along_ else f"{known[there]} {kind} {known[here]}"
        found[number] = Hit(distance, sentence, found.get(here))
    return {known[number]: hit for number, hit in found.items()}


def _tuples(result: sa.CursorResult[Any]) -> list[Any]:
    """Rows as the database's own library has them: a hundred thousand of SQLAlchemy's take seconds."""
    rows = result.cursor.fetchall() if result.cursor is not None else []
    result.close()
    return list(rows)


class _Relations:
    """The relations over which something hits, by where they are come from; all are read when many are asked for."""

    def __init__(self, connection: sa.Connection, model: CiModel, upstream: bool) -> None:
        relation = schema().relation.c
        to_source, to_target = (TARGET, SOURCE) if upstream else (SOURCE, TARGET)
        self._connection = connection
        self._all: _Ways | None = None
        self._ways = []
        for here, there, end in ((relation.target_id, relation.source_id, to_source), (relation.source_id, relation.target_id, to_target)):
            unhurt = [name for name, kind in model.kinds.items() if kind.hits not in (end, BOTH)]
            self._ways.append((here, there, sa.select(here, there, relation.kind).where(relation.kind.not_in(unhurt))))

    def of(self, frontier: Sequence[int]) -> _Ways:
        """Those that lead away from each CI of ``frontier``, and perhaps from others."""
        if self._all is None and len(frontier) > _CHUNK:
            back, along = (self._read(columns) for _here, _there, columns in self._ways)
            self._all = back, along
        if self._all is not None:
            return self._all
        back, along = (self._read(columns.where(here.in_(frontier)).order_by(here, there, "kind")) for here, there, columns in self._ways)
        return back, along

    def _read(self, columns: sa.Select[Any]) -> Mapping[int, Sequence[_Step]]:
        found: dict[int, list[_Step]] = defaultdict(list)
        for row in _tuples(self._connection.execute(columns)):
            found[row[0]].append(row)
        return found


def _chunks(entries: Iterable[str]) -> Iterator[list[str]]:
    listed = sorted(entries)
    return (listed[start : start + _CHUNK] for start in range(0, len(listed), _CHUNK))
