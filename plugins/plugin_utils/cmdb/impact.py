# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which CIs are hit by what happens to others, and over which relations."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from ..collector import uncollected
from .model import BOTH, SOURCE, TARGET, CiModel
from .schema import schema

with contextlib.suppress(ImportError):
    import sqlalchemy as sa

# From so many CIs at once on it is quicker to read all relations than to ask for those at each.
_CHUNK = 500
# A relation as it is followed: where it is come from, who is hit, and its kind. What is known of many is no more than their rows.
_Step = tuple[int, int, str]
# The steps that lead away from a CI, at its number; ``None`` where there are none. No dict, for each look-up would take longer.
_Ways = list["list[_Step] | None"]


class Hit(NamedTuple):
    """How a CI is hit: over so many relations, ``hops``, of which the last goes from ``source`` to ``target``; and how the CI at the other
    end of that is, ``None`` for one that was named."""

    hops: int
    source: str
    kind: str
    target: str
    before: Hit | None

    @property
    def chain(self) -> tuple[str, ...]:
        """All relations as sentences such as ``web1 runs_on vm1``, the first one at a CI that was named."""
        found: list[str] = []
        hit: Hit | None = self
        while hit is not None:
            found.append(f"{hit.source} {hit.kind} {hit.target}")
            hit = hit.before
        return tuple(reversed(found))


def impact(
    connection: sa.Connection, model: CiModel, names: Collection[str], *, hops: int | None = None, upstream: bool = False
) -> dict[str, Hit]:
    """The CIs that are hit by what happens to ``names``, each by the shortest chain; ``names`` themselves are not among them.

    ``hops``: how far at most. ``upstream``: those by which ``names`` are hit. A kind that the model does not have hits both ends.
    Names that the CMDB does not have hit nobody.
    """
    with uncollected():
        return _impact(connection, model, names, hops, upstream)


def _impact(connection: sa.Connection, model: CiModel, names: Collection[str], hops: int | None, upstream: bool) -> dict[str, Hit]:
    ci = schema().ci.c
    ids = sa.select(ci.id, ci.name)
    known: dict[int, str] = {}
    for chunk in _chunks(set(names)):
        known |= {row.id: row.name for row in connection.execute(ids.where(ci.name.in_(chunk)))}
    size = (connection.scalar(sa.select(sa.func.max(ci.id))) or 0) + 1
    relations = _Relations(connection, model, upstream, size)
    seen = bytearray(size)
    for number in known:
        seen[number] = 1
    steps: list[tuple[int, int, list[_Step]]] = []  # nearer ones first: hops, whether the relations lead there, and the last relations
    frontier, distance = sorted(known), 0
    while frontier and (hops is None or distance < hops):
        distance += 1
        reached: list[int] = []
        for along, ways in enumerate(relations.of(frontier)):
            taken: list[_Step] = []
            for here in frontier:
                for step in ways[here] or ():
                    if not seen[step[1]]:
                        seen[step[1]] = 1
                        taken.append(step)
            steps.append((distance, along, taken))
            reached += [step[1] for step in taken]
        frontier = sorted(reached)
    numbers = [step[1] for _distance, _along, taken in steps for step in taken]
    known.update(_rows(connection, ids if len(numbers) > _CHUNK else ids.where(ci.id.in_(numbers))))
    found: dict[str, Hit] = {}
    for distance, along, taken in steps:
        for from_number, to_number, kind in taken:
            begin, end = known[from_number], known[to_number]
            source, target = (begin, end) if along else (end, begin)
            found[end] = Hit(distance, source, kind, target, found.get(begin))
    return found


def _rows(connection: sa.Connection, query: sa.Select[Any]) -> list[Any]:
    """Rows as the database's own library has them: a hundred thousand of SQLAlchemy's take seconds."""
    result = connection.execute(query)
    rows = result.cursor.fetchall() if result.cursor is not None else []
    result.close()
    return list(rows)


class _Relations:
    """The relations over which something hits, by where they are come from; all are read when many are asked for."""

    def __init__(self, connection: sa.Connection, model: CiModel, upstream: bool, size: int) -> None:
        relation = schema().relation.c
        to_source, to_target = (TARGET, SOURCE) if upstream else (SOURCE, TARGET)
        self._connection, self._size = connection, size
        self._all: tuple[_Ways, _Ways] | None = None
        self._ways = []
        for here, there, end in ((relation.target_id, relation.source_id, to_source), (relation.source_id, relation.target_id, to_target)):
            unhurt = [name for name, kind in model.kinds.items() if kind.hits not in (end, BOTH)]
            self._ways.append((here, there, sa.select(here, there, relation.kind).where(relation.kind.not_in(unhurt))))

    def of(self, frontier: Sequence[int]) -> tuple[_Ways, _Ways]:
        """Those that lead away from each CI of ``frontier``, and perhaps from others: against the direction of their relations, from target
        to source, and along it."""
        if self._all is None and len(frontier) > _CHUNK:
            back, along = (self._read(columns) for _here, _there, columns in self._ways)
            self._all = back, along
        if self._all is not None:
            return self._all
        back, along = (self._read(columns.where(here.in_(frontier)).order_by(here, there, "kind")) for here, there, columns in self._ways)
        return back, along

    def _read(self, columns: sa.Select[Any]) -> _Ways:
        found: _Ways = [None] * self._size
        for row in _rows(self._connection, columns):
            known = found[row[0]]
            if known is None:
                found[row[0]] = [row]
            else:
                known.append(row)
        return found


def _chunks(entries: Iterable[str]) -> Iterator[list[str]]:
    listed = sorted(entries)
    return (listed[start : start + _CHUNK] for start in range(0, len(listed), _CHUNK))
