# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The CMDB: which CIs there are, how they relate, what is installed on them, and all that ever happened to that.

Everything is written in bulk and leaves a line in the append-only history, in the same transaction.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any, Self

from ..errors import ConflictError, NotFoundError, StateError, TidegateError
from . import ci_changes, presence, sqlite, upgrade
from . import engine as database
from .ci_changes import PutResult
from .query import pick
from .schema import schema

with contextlib.suppress(ImportError):
    import sqlalchemy as sa

# Names in one IN list: far below every database's limit on parameters.
_CHUNK = 500


class Cmdb:
    """An open CMDB. Holds no connection between calls, but in a worker, so that workers may use one that their parent opened."""

    def __init__(
        self, address: database.DatabaseAddress, source: sa.Engine, moment: sa.Connection | None = None, rehearsed: bool = False
    ) -> None:
        self._address = address
        self._source = source
        self._moment = moment
        self._rehearsed = rehearsed

    @classmethod
    def open(cls, url: str, create: bool = False) -> Cmdb:
        """Open the CMDB at ``url``, the path of an SQLite file or an SQLAlchemy URL.

        With ``create`` one is made where none is. Raises :class:`NotFoundError` when there is none, :class:`TidegateError` when it
        isn't a CMDB, is older or newer than this code, or can't be reached; no message has a password in it.
        """
        address = database.DatabaseAddress.parse(url)
        source = database.engine(address)
        cmdb = cls(address, source)
        try:
            upgrade.make_ready(address, source, create=create)
        except BaseException:  # nobody gets it, who would close what it has open
            cmdb.__exit__()
            raise
        return cmdb

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._address.path is not None:
            sqlite.end(self._address.path)

    @property
    def label(self) -> str:
        """What to call this CMDB in a message; has no password in it."""
        return self._address.label

    def is_there(self, mark: Mapping[str, Any], connection: sa.Connection) -> bool | None:
        """Whether the run that a ``mark`` is of is there still; ``None`` when that can't be said from here. See :mod:`.presence`."""
        return presence.is_there(self._address, connection, mark)

    def begin(self) -> AbstractContextManager[sa.Connection]:
        """A transaction that may write: committed at the end, undone by an exception.

        Writers take turns, so what it read stays true until it ends. Keep it short, and don't begin another inside:
        that one would wait for this one. :class:`ConflictError` when its turn doesn't come in half a minute.
        """
        if self._rehearsed and self._moment is not None:
            return database.reading_within(self._address, self._moment)
        if self._moment is not None:  # the writer would wait for this very reader on an SQLite file without a write-ahead log
            raise StateError("nothing is written to a CMDB as it is at one moment; write to the CMDB itself when the moment is over")
        return database.writing(self._address, self._source)

    def read(self) -> AbstractContextManager[sa.Connection]:
        """A connection whose reads all see the same moment, whoever writes meanwhile."""
        if self._moment is not None:
            return database.reading_within(self._address, self._moment)
        return database.reading(self._address, self._source)

    @contextlib.contextmanager
    def at_one_moment(self) -> Iterator[Cmdb]:
        """This CMDB, to be read only: whatever is asked of it sees the same moment, that of the first question.

        It holds a connection until the end, so don't fork meanwhile, and don't wait for people or networks longer than necessary.
        """
        with self.read() as connection:
            try:
                yield Cmdb(self._address, self._source, connection)
            finally:
                connection.rollback()  # of a connection that was lost, too, there is nothing to be said any more

    @contextlib.contextmanager
    def rehearsal(self) -> Iterator[Cmdb]:
        """This CMDB, in which nothing stays: all that is written to it is one transaction, which is undone.

        A process that is about to fork many which do the same has the statements compiled by it, and they inherit that. Writers wait.
        """
        with self.begin() as connection:
            try:
                yield Cmdb(self._address, self._source, connection, rehearsed=True)
            finally:
                connection.rollback()

    def marker(self, connection: sa.Connection | None = None) -> str:
        """A short text that is another one after every change to CIs, relations or installations."""
        history = schema().history
        with self._reading(connection) as reader:
            row = reader.execute(sa.select(history.c.seq, history.c.at).order_by(history.c.seq.desc()).limit(1)).first()
        return f"{row.seq} {row.at.isoformat()}" if row else ""

    def cis(self, names: Iterable[str] | None = None, connection: sa.Connection | None = None) -> list[dict[str, Any]]:
        """CIs by name: all, or those of ``names`` that exist. Keys: name, class, site, environment, attributes."""
        ci = schema().ci
        columns = sa.select(ci.c.name, ci.c.class_.label("class"), ci.c.site, ci.c.environment, ci.c.attributes)
        with self._reading(connection) as reader:
            found = _by_name(reader, columns, names)
        return sorted(found, key=lambda row: str(row["name"]))

    def sites(self) -> list[str]:
        """The sites of CIs, each once, sorted."""
        ci = schema().ci
        with self.read() as connection:
            return sorted(connection.scalars(sa.select(ci.c.site).distinct().where(ci.c.site.is_not(None))))

    def releases(self) -> list[str]:
        """The releases that CIs have, each once, sorted."""
        installation = schema().installation
        with self.read() as connection:
            return sorted(connection.scalars(sa.select(installation.c.release).distinct()))

    def query(self, expression: str | None = None, connection: sa.Connection | None = None) -> list[dict[str, Any]]:
        """CIs that a JMESPath expression over the list of all CIs picks, by name; all without one.

        A CI has the keys that :meth:`cis` gives, ``installations``, by release, each with version and digest, and ``written_off``,
        ``None`` or what :meth:`write_offs` says of it. The expression may give CIs or their names, as ``[?site=='fra']`` and
        ``[?class=='web'].name`` do; anything else is a :class:`TidegateError`.
        """
        with self._reading(connection) as reader:
            gone = self.write_offs(connection=reader)
            everything = {
                row["name"]: row | {"installations": {}, "written_off": gone.get(row["name"])} for row in self.cis(connection=reader)
            }
            for row in self.installations(connection=reader):
                everything[row["ci"]]["installations"][row["release"]] = {"version": row["version"], "digest": row["digest"]}
        if expression is None:
            return list(everything.values())
        picked = set(pick(expression, list(everything.values())))
        if strangers := picked - everything.keys():
            raise TidegateError(
                f"the query {expression!r:.200} gives {', '.join(sorted(strangers)):.300}, which the CMDB doesn't have; "
                "let it pick CIs or their names"
            )
        return [everything[name] for name in everything if name in picked]

    def put_cis(
        self, rows: Sequence[Mapping[str, Any]], actor: str, *, dry_run: bool = False, connection: sa.Connection | None = None
    ) -> PutResult:
        """Write CIs, new or known, in one transaction, the caller's if there is one.

        Keys of a row: name and, where they shall change, class, site, environment, attributes (all of them) and relations (all that start
        here: a list of kind and target).

        Raises :class:`DocumentError` with every fault of every row, :class:`NotFoundError` when a relation's target doesn't exist.
        """
        wanted = ci_changes.checked(rows)
        with self._reading(connection) if dry_run or connection is not None else self.begin() as writer:
            result = ci_changes.plan(self._current(writer, wanted), wanted)
            targets = {entry["target"] for row in wanted for entry in row.get("relations", ())}
            self._ids(writer, targets - {row["name"] for row in wanted})
            if not dry_run:
                self._write(writer, result, actor)
        return result

    def remove_cis(self, names: Iterable[str], actor: str, *, dry_run: bool = False) -> list[str]:
        """Remove CIs and their relations in one transaction; returns the names that were there.

        Raises :class:`ConflictError`, removing none, when a deployment holds one of them, a unit of hardware is in use by it, or releases
        are installed on it. What is installed on a host that was written off is removed with it.
        """
        names = sorted(set(names))
        ci_changes.check_names(names)
        tables = schema()
        with self.read() if dry_run else self.begin() as connection:
            found = {row["name"]: row for row in self.cis(names, connection)}
            gone = self.write_offs(names, connection)
            holds = self.locks(names, connection)
            reasons = [f"{ci} is held by deployment {deployment}" for ci, deployment in holds.items()]
            installed = self.installations(names, connection)
            reasons += [f"{row['ci']} has {row['release']} {row['version']} installed" for row in installed if row["ci"] not in gone]
            units = _by_name(connection, sa.select(tables.ci.c.name, tables.asset.c.tag).join_from(tables.asset, tables.ci), names)
            reasons += [f"{row['name']} has the unit {row['tag']}" for row in units]
            if reasons:
                raise ConflictError(
                    "no CI was removed: " + "; ".join(sorted(reasons)) + "; finish or back out what uses them first, take units out with "
                    "tidegate.release.dhs_asset, or write off, with tidegate.release.write_off, a host that will not come back"
                )
            if found and not dry_run:
                relations = self.relations(found, connection)
                for row in found.values():
                    row["relations"] = [entry for entry in relations if row["name"] in (entry["source"], entry["target"])]
                ids = self._ids(connection, found)
                lines = [(row["ci"], {key: row[key] for key in ("release", "version", "digest")}) for row in installed]
                _write_installations(connection, [], [], [{"of_ci": ids[row["ci"]], "of_release": row["release"]} for row in installed])
                _remember(connection, actor, "uninstalled", lines)
                connection.execute(
                    sa.delete(tables.ci).where(tables.ci.c.id == sa.bindparam("gone")), [{"gone": one} for one in ids.values()]
                )
                _remember(connection, actor, "removed", ((name, {"before": row}) for name, row in found.items()))
        return list(found)

    def relations(self, names: Iterable[str] | None = None, connection: sa.Connection | None = None) -> list[dict[str, str]]:
        """Relations, all or those that start or end at ``names``, sorted. Keys: source, target, kind."""
        tables = schema()
        source, target = tables.ci.alias("source"), tables.ci.alias("target")
        columns = sa.select(source.c.name.label("source"), target.c.name.label("target"), tables.relation.c.kind)
        columns = columns.join_from(tables.relation, source, source.c.id == tables.relation.c.source_id)
        columns = columns.join(target, target.c.id == tables.relation.c.target_id)
        with self._reading(connection) as reader:
            found = _by_name(reader, columns, names, source.c.name)
            if names is not None:
                found += _by_name(reader, columns, names, target.c.name)
        unique = {(row["source"], row["target"], row["kind"]) for row in found}
        return [{"source": one, "target": other, "kind": kind} for one, other, kind in sorted(unique)]

    def relate(self, relations: Iterable[tuple[str, str, str]], actor: str) -> list[tuple[str, str, str]]:
        """Add ``(source, target, kind)`` relations in one transaction; returns the new ones. :class:`NotFoundError` names missing CIs."""
        return self._relate(relations, actor, wanted=True)

    def unrelate(self, relations: Iterable[tuple[str, str, str]], actor: str) -> list[tuple[str, str, str]]:
        """Remove ``(source, target, kind)`` relations in one transaction; returns those that were there."""
        return self._relate(relations, actor, wanted=False)

    def installations(self, names: Iterable[str] | None = None, connection: sa.Connection | None = None) -> list[dict[str, Any]]:
        """Installations on all CIs or on ``names``, by CI and release. Keys: ci, release, version, digest, state, deployment_id, since."""
        tables = schema()
        of = tables.installation.c
        columns = sa.select(tables.ci.c.name.label("ci"), of.release, of.version, of.digest, of.state, of.deployment_id, of.since)
        columns = columns.join_from(tables.installation, tables.ci)
        with self._reading(connection) as reader:
            found = _by_name(reader, columns, names)
        return sorted(found, key=lambda row: (str(row["ci"]), str(row["release"])))

    def record_installations(self, connection: sa.Connection, rows: Sequence[Mapping[str, Any]], actor: str, at: datetime) -> int:
        """Record what is installed, in the caller's transaction; returns how many installations changed.

        Keys of a row: ci, release, version, digest and optionally deployment_id. A version of ``None`` means that the release
        was removed from the CI. Raises :class:`NotFoundError` naming the CIs that don't exist.
        """
        keys = [(str(row["ci"]), str(row["release"])) for row in rows]
        if len(set(keys)) < len(keys):
            raise TidegateError("the same release is given twice for one CI; record each installation once")
        names = {ci for ci, _release in keys}
        ids = self._ids(connection, names)
        known = {(row["ci"], row["release"]): row for row in self.installations(names, connection)}
        new, changed, gone, history = [], [], [], []
        for key, row in zip(keys, rows, strict=True):
            before = known.get(key)
            address = {"of_ci": ids[key[0]], "of_release": key[1]}
            said = {name: row.get(name) for name in ("version", "digest", "deployment_id")}
            if before is not None and all(before[name] == value for name, value in said.items()):
                continue
            if said["version"] is None:
                if before is None:
                    continue
                gone.append(address)
            elif before is None:
                new.append(address | said | {"on": at})
            else:
                same = (before["version"], before["digest"]) == (said["version"], said["digest"])
                changed.append(address | said | {"on": before["since"] if same else at})
            was = {"previous_version": before["version"], "previous_digest": before["digest"]} if before else {}
            history.append(("uninstalled" if said["version"] is None else "installed", key[0], {"release": key[1]} | said | was))
        _write_installations(connection, new, changed, gone)
        _overtake(connection, {(ids[str(row["ci"])], str(row["release"])): row.get("deployment_id") for row in rows})
        for event in ("installed", "uninstalled"):
            _remember(connection, actor, event, ((ci, data) for kind, ci, data in history if kind == event), at)
        return len(history)

    def locks(self, names: Iterable[str], connection: sa.Connection | None = None) -> dict[str, int]:
        """Those of the CIs ``names`` that a deployment holds, each with the id of that."""
        lock = schema().lock
        with self._reading(connection) as reader:
            found = _by_name(reader, sa.select(lock.c.ci, lock.c.deployment_id), names, lock.c.ci)
        return {row["ci"]: row["deployment_id"] for row in found}

    def write_offs(self, names: Iterable[str] | None = None, connection: sa.Connection | None = None) -> dict[str, dict[str, str]]:
        """The hosts that a person has written off, all or those of ``names``: ``since`` (RFC 3339, UTC), ``by`` and ``reason`` by name."""
        tables = schema()
        of = tables.write_off.c
        with self._reading(connection) as reader:
            found = _by_name(
                reader, sa.select(tables.ci.c.name, of.since, of.actor, of.reason).join_from(tables.write_off, tables.ci), names
            )
        return {
            row["name"]: {"since": row["since"].isoformat(timespec="seconds"), "by": row["actor"], "reason": row["reason"]} for row in found
        }

    def write_off(self, connection: sa.Connection, name: str, reason: str, actor: str, at: datetime, more: Mapping[str, Any]) -> None:
        """Note, in the caller's transaction, that a host will not come back; ``more`` goes to the history with it.

        Raises :class:`NotFoundError` when the CMDB does not have it.
        """
        ci_id = self._ids(connection, [name])[name]
        connection.execute(sa.insert(schema().write_off), {"ci_id": ci_id, "actor": actor, "reason": reason, "since": at})
        _remember(connection, actor, "written off", [(name, {"reason": reason, **more})], at)

    def end_write_offs(self, connection: sa.Connection, names: Iterable[str], why: str, actor: str, at: datetime) -> list[str]:
        """Note, in the caller's transaction, that hosts are there again; returns those that were written off, sorted."""
        ended = self.write_offs(names, connection)
        ids = self._ids(connection, ended)
        table = schema().write_off
        for name in sorted(ended):
            connection.execute(sa.delete(table).where(table.c.ci_id == ids[name]))
        _remember(connection, actor, "no longer written off", ((name, {"why": why, "was": ended[name]}) for name in sorted(ended)), at)
        return sorted(ended)

    def done_by_hand(self, connection: sa.Connection | None = None) -> list[dict[str, Any]]:
        """What persons say to have brought back by hand, and no deployment has changed since.

        Each with ``ci``, ``release``, ``version`` (``None`` for none), ``since`` (RFC 3339, UTC), ``by`` and ``reason``; by CI and release.
        """
        tables = schema()
        of = tables.done_by_hand.c
        columns = sa.select(tables.ci.c.name.label("ci"), of.release, of.version, of.since, of.actor.label("by"), of.reason)
        with self._reading(connection) as reader:
            found = _rows(reader.execute(columns.join_from(tables.done_by_hand, tables.ci).order_by(tables.ci.c.name, of.release)))
        return [row | {"since": row["since"].isoformat(timespec="seconds")} for row in found]

    def note_done_by_hand(self, connection: sa.Connection, row: Mapping[str, Any], at: datetime, more: Mapping[str, Any]) -> None:
        """Note, in the caller's transaction, that a person brought a release back on a CI by hand; ``more`` goes to the history with it.

        ``row``: ``ci``, ``release``, ``version`` (``None`` for none), ``deployment_id``, ``actor`` and ``reason``.
        """
        ci_id = self._ids(connection, [row["ci"]])[row["ci"]]
        table = schema().done_by_hand
        connection.execute(sa.delete(table).where(table.c.ci_id == ci_id, table.c.release == row["release"]))
        values = {name: row[name] for name in ("release", "version", "deployment_id", "actor", "reason")}
        connection.execute(sa.insert(table), {"ci_id": ci_id, "since": at, **values})
        data = {name: row[name] for name in ("release", "version", "deployment_id", "reason")}
        _remember(connection, row["actor"], "done by hand", [(row["ci"], {**data, **more})], at)

    def _reading(self, connection: sa.Connection | None) -> AbstractContextManager[sa.Connection]:
        return self.read() if connection is None else contextlib.nullcontext(connection)

    def _ids(self, connection: sa.Connection, names: Iterable[str]) -> dict[str, int]:
        """The ids of CIs that must exist."""
        ci = schema().ci
        wanted = set(names)
        found = {row["name"]: row["id"] for row in _by_name(connection, sa.select(ci.c.name, ci.c.id), wanted)}
        if missing := sorted(wanted - found.keys()):
            raise NotFoundError(f"the CMDB {self.label} has no CI {', '.join(missing)}; put them there with tidegate.release.cmdb_ci")
        return found

    def _current(self, connection: sa.Connection, wanted: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """The state of those wanted CIs that exist; with their relations where a row speaks of relations."""
        current = {row["name"]: row for row in self.cis([row["name"] for row in wanted], connection)}
        speaking = {row["name"] for row in wanted if "relations" in row and row["name"] in current}
        for name in speaking:
            current[name]["relations"] = []
        for relation in self.relations(speaking, connection):
            if relation["source"] in speaking:
                current[relation["source"]]["relations"].append({"kind": relation["kind"], "target": relation["target"]})
        for name in speaking:
            current[name]["relations"].sort(key=lambda entry: (entry["kind"], entry["target"]))
        return current

    def _write(self, connection: sa.Connection, result: PutResult, actor: str) -> None:
        ci = schema().ci
        at = datetime.now(UTC)

        def columns(name: str) -> dict[str, Any]:
            after = result.diffs[name][1]
            return {"class_": after["class"], "updated": at} | {key: after[key] for key in ("site", "environment", "attributes")}

        if result.created:
            connection.execute(sa.insert(ci), [columns(name) | {"name": name, "created": at} for name in result.created])
        if result.updated:
            update = sa.update(ci).where(ci.c.name == sa.bindparam("of_name"))
            update = update.values({key: sa.bindparam(key) for key in columns(result.updated[0])})
            connection.execute(update, [columns(name) | {"of_name": name} for name in result.updated])
        self._write_relations(connection, result)
        for event, names in (("created", result.created), ("updated", result.updated)):
            _remember(connection, actor, event, ((name, ci_changes.difference(*result.diffs[name])) for name in names), at)

    def _write_relations(self, connection: sa.Connection, result: PutResult) -> None:
        new, gone = set(), set()
        for name, (before, after) in result.diffs.items():
            if "relations" in after:
                old = {(name, entry["target"], entry["kind"]) for entry in (before or {}).get("relations", ())}
                now = {(name, entry["target"], entry["kind"]) for entry in after["relations"]}
                new |= now - old
                gone |= old - now
        self._change_relations(connection, new, gone)

    def _change_relations(self, connection: sa.Connection, new: set[tuple[str, str, str]], gone: set[tuple[str, str, str]]) -> None:
        relation = schema().relation
        ids = self._ids(connection, {name for source, target, _kind in new | gone for name in (source, target)})

        def columns(triples: set[tuple[str, str, str]], prefix: str = "") -> list[dict[str, Any]]:
            return [
                {f"{prefix}source_id": ids[source], f"{prefix}target_id": ids[target], f"{prefix}kind": kind}
                for source, target, kind in sorted(triples)
            ]

        if gone:
            delete = sa.delete(relation).where(*(column == sa.bindparam(f"of_{column.name}") for column in relation.primary_key))
            connection.execute(delete, columns(gone, "of_"))
        if new:
            connection.execute(sa.insert(relation), columns(new))

    def _relate(self, relations: Iterable[tuple[str, str, str]], actor: str, *, wanted: bool) -> list[tuple[str, str, str]]:
        given = set(relations)
        ci_changes.check_relations(sorted(given, key=repr))
        with self.begin() as connection:
            self._ids(connection, {name for source, target, _kind in given for name in (source, target)})
            there = self.relations({source for source, _target, _kind in given}, connection)
            known = {(row["source"], row["target"], row["kind"]) for row in there}
            touched = given - known if wanted else given & known
            self._change_relations(connection, touched if wanted else set(), set() if wanted else touched)
            lines = ((source, {"target": target, "kind": kind}) for source, target, kind in sorted(touched))
            _remember(connection, actor, "related" if wanted else "unrelated", lines)
        return sorted(touched)


def _by_name(
    connection: sa.Connection, select: sa.Select[Any], names: Iterable[str] | None, column: sa.ColumnElement[str] | None = None
) -> list[dict[str, Any]]:
    """The rows of ``select``, all of them or in chunks those whose ``column`` (the CI's name by default) is one of ``names``."""
    if names is None:
        return _rows(connection.execute(select))
    column = schema().ci.c.name if column is None else column
    select = select.where(column.in_(sa.bindparam("names", expanding=True)))
    wanted = list(dict.fromkeys(names))
    chunks = (wanted[start : start + _CHUNK] for start in range(0, len(wanted), _CHUNK))
    return [row for chunk in chunks for row in _rows(connection.execute(select, {"names": chunk}))]


def _rows(result: sa.Result[Any]) -> list[dict[str, Any]]:
    keys = tuple(result.keys())
    return [dict(zip(keys, row, strict=True)) for row in result]


def _remember(
    connection: sa.Connection, actor: str, event: str, lines: Iterable[tuple[str, Mapping[str, Any]]], at: datetime | None = None
) -> None:
    """Append to the history: one line for each CI's name and data."""
    moment = at or datetime.now(UTC)
    rows = [{"at": moment, "actor": actor, "ci": name, "event": event, "data": data} for name, data in lines]
    if rows:
        connection.execute(sa.insert(schema().history), rows)


def _write_installations(connection: sa.Connection, new: list[Any], changed: list[Any], gone: list[Any]) -> None:
    installation = schema().installation
    this = (installation.c.ci_id == sa.bindparam("of_ci"), installation.c.release == sa.bindparam("of_release"))
    values: dict[str, Any] = {
        "version": sa.bindparam("version"),
        "digest": sa.bindparam("digest"),
        "deployment_id": sa.bindparam("deployment_id"),
    }
    since = {"since": sa.bindparam("on"), "state": "active"}
    if gone:
        connection.execute(sa.delete(installation).where(*this), gone)
    if changed:
        connection.execute(sa.update(installation).where(*this).values(values | since), changed)
    if new:
        place: dict[str, Any] = {"ci_id": sa.bindparam("of_ci"), "release": sa.bindparam("of_release")}
        connection.execute(sa.insert(installation).values(values | since | place), new)


def _overtake(connection: sa.Connection, recorded: Mapping[tuple[int, str], int | None]) -> None:
    """What persons said to have done by hand has been overtaken where another deployment, by its number, has ``recorded`` something."""
    table = schema().done_by_hand
    for row in connection.execute(sa.select(table.c.ci_id, table.c.release, table.c.deployment_id)).all():
        if recorded.get((row.ci_id, row.release)) not in (None, row.deployment_id):
            connection.execute(sa.delete(table).where(table.c.ci_id == row.ci_id, table.c.release == row.release))
