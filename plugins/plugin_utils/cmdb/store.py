# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The CMDB: which CIs there are, how they relate, what is installed on them, and all that ever happened to that.

Everything is written in bulk and leaves a line in the append-only history, in the same transaction.
"""

from __future__ import annotations

import contextlib
import zoneinfo
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any, Self, TypeVar

from ..collector import uncollected
from ..errors import ConflictError, DocumentError, LostConnectionError, NotFoundError, Problem, StateError, TidegateError
from . import ci_changes, presence, sqlite, upgrade
from . import engine as database
from . import model as rules
from .chain import append_history, heads, is_in_chain
from .ci_changes import PutResult, Triple, is_live
from .links import Head
from .model import AroundPut, CiModel
from .query import pick_rows
from .schema import schema
from .team_model import model_in, shipped_model

with contextlib.suppress(ImportError):
    import sqlalchemy as sa

# Names in one IN list: far below every database's limit on parameters.
_CHUNK = 500
_BETWEEN = 200  # lines of a CI's history that are looked at for who has written since
_SAID = 3  # of these, how many a message has
_T = TypeVar("_T")


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

    def change(self, work: Callable[[sa.Connection], _T]) -> _T:
        """Do in one transaction what comes to the same when it is done twice, and leaves a line wherever it changes something.

        It is done once more when the connection to the database was lost, unless what was written turns out to be there. When it is lost
        again :class:`LostConnectionError` says that nothing was written, or that it can't be known.
        """
        try:
            return self._change(work)
        except LostConnectionError as lost:
            try:
                return self._change(work)
            except TidegateError as error:
                # What the first one may have written could be what the second one stumbles over.
                if not lost.may_be_written and isinstance(error, DocumentError | ConflictError | NotFoundError | LostConnectionError):
                    raise
                raise lost from error

    def ask(self, work: Callable[[sa.Connection], _T]) -> _T:
        """What ``work`` gives that only reads, or would only look at what :meth:`change` would do."""
        with self.read() as connection:
            return work(connection)

    def _change(self, work: Callable[[sa.Connection], _T]) -> _T:
        ends: dict[str, Head] = {}
        try:
            with self.begin() as connection:
                found = work(connection)
                if self._address.path is None:  # a file does not go away
                    ends = heads(connection)
        except LostConnectionError as lost:
            if not lost.may_be_written:
                raise
            try:
                with self.read() as connection:
                    there = is_in_chain(connection, ends)
            except TidegateError as error:
                raise lost from error
            if not there:
                raise database.lost(self._address, lost.said, may_be_written=False) from lost
        return found

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
        """CIs by name: all, or those of ``names`` that exist.

        Keys: name, class, site, environment, status, owned_by, support_group, location, time_zone, attributes and revision.
        """
        columns = _ci_columns()
        with self._reading(connection) as reader:
            found = _by_name(reader, columns, names)
        return sorted(found, key=lambda row: str(row["name"]))

    def model(self, connection: sa.Connection | None = None) -> CiModel:
        """The model that CIs and relations are held against."""
        with self._reading(connection) as reader:
            return model_in(reader)

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
        return pick_rows(expression, list(everything.values()))

    def put_cis(
        self,
        rows: Sequence[Mapping[str, Any]],
        actor: str,
        *,
        dry_run: bool = False,
        connection: sa.Connection | None = None,
        merge: bool = False,
        note: Mapping[str, str] | None = None,
        copied: bool = False,
    ) -> PutResult:
        """Write CIs, new or known, in one transaction, the caller's if there is one.

        Keys of a row: name and, where they shall change, those of :meth:`cis` and relations (all that start here: a list of kind and
        target). ``revision`` is that which the CI has to have. Attributes are all of them, or with ``merge`` those that change, null for
        one that goes. ``note`` goes to the history with it: ``rfc`` and ``reason``. ``copied`` from another CMDB they are not held
        against the model.

        Raises :class:`DocumentError` with every fault of every row and all that is against the model, :class:`NotFoundError` when a
        relation's target doesn't exist, :class:`ConflictError` when somebody has written since the revision of a row, or when a
        CI that is in use would not be live any more.
        """
        wanted = ci_changes.checked(rows)

        def put(writer: sa.Connection) -> PutResult:
            current = self._current(writer, wanted)
            self._refuse_stale(writer, wanted, current)
            result = ci_changes.plan(current, wanted, merge=merge)
            targets = {entry["target"] for row in wanted for entry in row.get("relations", ())}
            self._ids(writer, targets - {row["name"] for row in wanted})
            if not copied:
                self._hold_against_model(writer, result)
            ending = [name for name, states in result.diffs.items() if _ends(*states)]
            reasons, installed = self._uses(writer, ending)
            if reasons:
                raise ConflictError(f"nothing was written, for a CI in use stays live: {_in_use(reasons)}")
            if not dry_run:
                self._uninstall(writer, installed, actor)
                self._write(writer, result, actor, note or {})
            return result

        with uncollected():  # of many CIs the collector would go through what is made of them again and again
            if not dry_run and connection is None:
                return self.change(put)
            with self._reading(connection) as reader:
                return put(reader)

    def remove_cis(self, names: Iterable[str], actor: str, *, dry_run: bool = False, note: Mapping[str, str] | None = None) -> list[str]:
        """Remove CIs and their relations in one transaction; returns the names that were there.

        Raises :class:`ConflictError`, removing none, when a deployment holds one of them, a unit of hardware is in use by it, or releases
        are installed on it. What is installed on a host that was written off is removed with it.
        """
        names = sorted(set(names))
        ci_changes.check_names(names)
        tables = schema()

        def remove(connection: sa.Connection) -> list[str]:
            found = {row["name"]: row for row in self.cis(names, connection)}
            reasons, installed = self._uses(connection, names)
            if reasons:
                raise ConflictError(f"no CI was removed: {_in_use(reasons)}")
            if found and not dry_run:
                relations = self.relations(found, connection)
                for row in found.values():
                    row["relations"] = [entry for entry in relations if row["name"] in (entry["source"], entry["target"])]
                ids = self._ids(connection, found)
                self._uninstall(connection, installed, actor)
                connection.execute(
                    sa.delete(tables.ci).where(tables.ci.c.id == sa.bindparam("gone")), [{"gone": one} for one in ids.values()]
                )
                _remember(connection, actor, "removed", ((name, {"before": row, **(note or {})}) for name, row in found.items()))
            return list(found)

        return self.ask(remove) if dry_run else self.change(remove)

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

    def relate(
        self, relations: Iterable[Triple], actor: str, *, dry_run: bool = False, note: Mapping[str, str] | None = None
    ) -> list[Triple]:
        """Add ``(source, target, kind)`` relations in one transaction; returns the new ones.

        Raises :class:`NotFoundError` naming missing CIs, :class:`DocumentError` with all that is against the model.
        """
        return self._relate(relations, actor, wanted=True, dry_run=dry_run, note=note or {})

    def unrelate(
        self, relations: Iterable[Triple], actor: str, *, dry_run: bool = False, note: Mapping[str, str] | None = None
    ) -> list[Triple]:
        """Remove ``(source, target, kind)`` relations in one transaction; returns those that were there."""
        return self._relate(relations, actor, wanted=False, dry_run=dry_run, note=note or {})

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

    def _uses(self, connection: sa.Connection, names: Sequence[str]) -> tuple[list[str], list[dict[str, Any]]]:
        """Why CIs have to stay, and what is installed on them, which on one that was written off is no reason."""
        tables = schema()
        if not names:
            return [], []
        gone = self.write_offs(names, connection)
        reasons = [f"{ci} is held by deployment {deployment}" for ci, deployment in self.locks(names, connection).items()]
        installed = self.installations(names, connection)
        reasons += [f"{row['ci']} has {row['release']} {row['version']} installed" for row in installed if row["ci"] not in gone]
        units = _by_name(connection, sa.select(tables.ci.c.name, tables.asset.c.tag).join_from(tables.asset, tables.ci), names)
        return reasons + [f"{row['name']} has the unit {row['tag']}" for row in units], installed

    def _uninstall(self, connection: sa.Connection, installed: Sequence[Mapping[str, Any]], actor: str) -> None:
        ids = self._ids(connection, {row["ci"] for row in installed})
        lines = [(row["ci"], {key: row[key] for key in ("release", "version", "digest")}) for row in installed]
        _write_installations(connection, [], [], [{"of_ci": ids[row["ci"]], "of_release": row["release"]} for row in installed])
        _remember(connection, actor, "uninstalled", lines)

    def _refuse_stale(
        self, connection: sa.Connection, wanted: Sequence[Mapping[str, Any]], current: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """Raise :class:`ConflictError`, naming who has written since, when a CI is not of the revision that a row gives."""
        stale = []
        for row in wanted:
            given = row.get("revision")
            there = current.get(row["name"])
            if given is not None and given != (there["revision"] if there else 0):
                there_is = f"is of revision {there['revision']}" if there else "is not in the CMDB"
                stale.append(f"{row['name']} {there_is} and not {given}{_since(connection, row['name'], given)}")
        if stale:
            raise ConflictError(
                "nothing was written, for somebody has written since it was read: "
                + "; ".join(stale)
                + "; read what is there now with tidegate.release.cmdb_ci_info and decide again"
            )

    def _hold_against_model(self, connection: sa.Connection, result: PutResult) -> None:
        """Raise :class:`DocumentError` with all that a put would bring in against the model; asks for no more than that needs."""
        if not result.diffs:
            return
        model = self.model(connection)
        new, gone = ci_changes.relation_changes(result)
        changed = rules.class_changes(result)
        kept = {(one["source"], one["target"], one["kind"]) for one in self.relations(changed, connection)} if changed else set()
        ends = {name for source, target, _kind in {*new, *kept} for name in (source, target)} - result.diffs.keys()
        ci = schema().ci.c
        names = connection.scalars(sa.select(ci.name)) if result.created else ()
        around = AroundPut(
            {name.casefold(): name for name in names},
            _having(connection, rules.needed_uniques(model, result)),
            {row["name"]: row["class"] for row in _by_name(connection, sa.select(ci.name, ci.class_.label("class")), ends)},
            kept,
            _reachable(connection, model, new) - gone,
        )
        problems = rules.faults_of_put(model, result, around) + [
            Problem(f"CI {name}", f"there is no time zone {ci_changes.shown(after['time_zone'])}", "write it like Europe/Berlin")
            for name, (_before, after) in result.diffs.items()
            if after["time_zone"] is not None and not _is_zone(after["time_zone"])
        ]
        if problems:
            raise DocumentError(problems)

    def _write(self, connection: sa.Connection, result: PutResult, actor: str, note: Mapping[str, str]) -> None:
        ci = schema().ci
        at = datetime.now(UTC)

        def columns(name: str) -> dict[str, Any]:
            after = result.diffs[name][1]
            words = {"class_" if key == "class" else key: after[key] for key in ci_changes.WORDS}
            return words | {"attributes": after["attributes"], "revision": result.revisions[name], "updated": at}

        if result.created:
            connection.execute(sa.insert(ci), [columns(name) | {"name": name, "created": at} for name in result.created])
        if result.updated:
            update = sa.update(ci).where(ci.c.name == sa.bindparam("of_name"))
            update = update.values({key: sa.bindparam(key) for key in columns(result.updated[0])})
            connection.execute(update, [columns(name) | {"of_name": name} for name in result.updated])
        self._change_relations(connection, *ci_changes.relation_changes(result))
        for event, names in (("created", result.created), ("updated", result.updated)):
            lines = ((name, ci_changes.difference(*result.diffs[name]) | {"revision": result.revisions[name], **note}) for name in names)
            _remember(connection, actor, event, lines, at)

    def _change_relations(self, connection: sa.Connection, new: set[Triple], gone: set[Triple]) -> None:
        relation = schema().relation
        ids = self._ids(connection, {name for source, target, _kind in new | gone for name in (source, target)})

        def columns(triples: set[Triple], prefix: str = "") -> list[dict[str, Any]]:
            return [
                {f"{prefix}source_id": ids[source], f"{prefix}target_id": ids[target], f"{prefix}kind": kind}
                for source, target, kind in sorted(triples)
            ]

        if gone:
            delete = sa.delete(relation).where(*(column == sa.bindparam(f"of_{column.name}") for column in relation.primary_key))
            connection.execute(delete, columns(gone, "of_"))
        if new:
            connection.execute(sa.insert(relation), columns(new))

    def _relate(self, relations: Iterable[Triple], actor: str, *, wanted: bool, dry_run: bool, note: Mapping[str, str]) -> list[Triple]:
        given = set(relations)
        ci_changes.check_relations(sorted(given, key=repr))
        ci = schema().ci.c

        def relate(connection: sa.Connection) -> list[Triple]:
            names = {name for source, target, _kind in given for name in (source, target)}
            self._ids(connection, names)
            there = self.relations({source for source, _target, _kind in given}, connection)
            known = {(row["source"], row["target"], row["kind"]) for row in there}
            touched = given - known if wanted else given & known
            if wanted and touched:
                model = self.model(connection)
                rows = _by_name(connection, sa.select(ci.name, ci.class_.label("class")), names)
                classes = {row["name"]: row["class"] for row in rows}
                if problems := rules.faults_of_relations(model, touched, classes, _reachable(connection, model, touched)):
                    raise DocumentError(problems)
            if touched and not dry_run:
                self._change_relations(connection, touched if wanted else set(), set() if wanted else touched)
                revisions = self._revise(connection, {source for source, _target, _kind in touched})
                lines = (
                    (source, {"target": target, "kind": kind, "revision": revisions[source], **note})
                    for source, target, kind in sorted(touched)
                )
                _remember(connection, actor, "related" if wanted else "unrelated", lines)
            return sorted(touched)

        return self.ask(relate) if dry_run else self.change(relate)

    def _revise(self, connection: sa.Connection, names: set[str]) -> dict[str, int]:
        """Count a change to CIs, whose relations are a part of them; returns their revisions."""
        ci = schema().ci
        update = sa.update(ci).where(ci.c.name == sa.bindparam("of_name")).values(revision=ci.c.revision + 1)
        connection.execute(update, [{"of_name": name} for name in sorted(names)])
        return {row["name"]: row["revision"] for row in _by_name(connection, sa.select(ci.c.name, ci.c.revision), names)}


def put_into_none(rows: Sequence[Mapping[str, Any]], *, merge: bool = False) -> PutResult:
    """What :meth:`Cmdb.put_cis` would do where there is no CMDB yet, so that every CI is new; raises what that would."""
    wanted = ci_changes.checked(rows)
    if stale := [row["name"] for row in wanted if row.get("revision")]:
        raise ConflictError(f"{', '.join(stale)} is not in the CMDB, and a revision of it was given; leave that out for a new CI")
    result = ci_changes.plan({}, wanted, merge=merge)
    targets = {entry["target"] for _before, after in result.diffs.values() for entry in after.get("relations", ())}
    if missing := sorted(targets - result.diffs.keys()):
        raise NotFoundError(f"the CMDB has no CI {', '.join(missing)}; put them there with tidegate.release.cmdb_ci")
    if problems := rules.faults_of_put(shipped_model(), result, AroundPut()):
        raise DocumentError(problems)
    return result


def _ci_columns() -> sa.Select[Any]:
    ci = schema().ci.c
    return sa.select(
        ci.name,
        ci.class_.label("class"),
        *(ci[name] for name in ci_changes.WORDS if name != "class"),
        ci.attributes,
        ci.revision,
    )


def _ends(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> bool:
    """Whether a CI that was live is so no more."""
    return before is not None and is_live(before) and not is_live(after)


def _in_use(reasons: Iterable[str]) -> str:
    return "; ".join(sorted(reasons)) + (
        "; finish or back out what uses them first, take units out with tidegate.release.dhs_asset, or write off, with "
        "tidegate.release.write_off, a host that will not come back"
    )


def _since(connection: sa.Connection, name: str, revision: int) -> str:
    """Who has written a CI since it was of ``revision``, as far as the history knows."""
    history = schema().history.c
    found = sa.select(history.at, history.actor, history.event, history.data).where(history.ci == name).order_by(history.seq.desc())
    said = []
    for row in connection.execute(found.limit(_BETWEEN)):
        number = row.data.get("revision") if isinstance(row.data, dict) else None
        if row.event != "removed" and (not isinstance(number, int) or number <= revision):
            continue
        under = f" under {row.data['rfc']}" if row.data.get("rfc") else ""
        said.append(f"{row.actor} at {row.at.isoformat(timespec='seconds')}{under} ({row.event})")
    return f": {', '.join(reversed(said[:_SAID]))}" if said else ""


def _having(connection: sa.Connection, attributes: Iterable[str]) -> list[dict[str, Any]]:
    """The CIs that have one of these attributes. A search of the text finds them all, and others, on any database."""
    text = sa.cast(schema().ci.c.attributes, sa.Text)
    wanted = [text.contains(f'"{name}"', autoescape=True) for name in sorted(attributes)]
    return _rows(connection.execute(_ci_columns().where(sa.or_(*wanted)))) if wanted else []


def _reachable(connection: sa.Connection, model: CiModel, new: Iterable[Triple]) -> set[Triple]:
    """The relations of acyclic kinds that can be reached from the targets of ``new`` ones of the same kind."""
    tables = schema()
    source, target = tables.ci.alias("source"), tables.ci.alias("target")
    columns = sa.select(source.c.name.label("source"), target.c.name.label("target"))
    columns = columns.join_from(tables.relation, source, source.c.id == tables.relation.c.source_id)
    columns = columns.join(target, target.c.id == tables.relation.c.target_id)
    found: set[Triple] = set()
    starts: dict[str, set[str]] = {}
    for _source, end, kind in new:
        if kind in model.kinds and model.kinds[kind].acyclic:
            starts.setdefault(kind, set()).add(end)
    for kind, ends in starts.items():
        frontier, seen = ends, set(ends)
        while frontier:
            rows = _by_name(connection, columns.where(tables.relation.c.kind == kind), frontier, source.c.name)
            found |= {(row["source"], row["target"], kind) for row in rows}
            frontier = {row["target"] for row in rows} - seen
            seen |= frontier
    return found


def _is_zone(name: str) -> bool:
    try:
        zoneinfo.ZoneInfo(name)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        return False
    return True


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
    append_history(connection, rows)


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
