# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The records of a CMDB as one JSON document, which another CMDB takes: what is so now, and not what led to it.

Journals, changes, seats and reservations belong to deployments, whose truth is the database in which they ran.
Which tables a document has, and why it does not have the others, is in :data:`EXPORTED` and :data:`NOT_EXPORTED`.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from ..cmdb.recorded_sets import all_sets, enter_sets
from ..cmdb.schema import schema
from ..cmdb.store import Cmdb
from ..cmdb.team_model import own_document, set_model
from ..dhs.assets import enter_units, list_rules, list_units, save_rules
from ..dhs.stock import StockRule
from ..dhs.units import AVAILABLE, RESERVED, Unit, UnitState
from ..documents import parse_time
from ..errors import ConflictError, DocumentError, Problem, TidegateError
from ..evidence.library import enter_seen, seen_rows
from ..files import write_atomically
from ..licence.entitlements import entitlements, save
from ..licence.seats import Entitlement
from ..strict_json import read_object
from .audit_sets import digest_of
from .retire import ReleaseState, Retirement, enter_status, statuses

with contextlib.suppress(ImportError):
    import sqlalchemy as sa

VERSION = 1
EXPORTED: Mapping[str, tuple[str, ...]] = {
    "model": ("ci_model",),
    "cis": ("ci", "relation"),
    "host_sets": ("host_set",),
    "installations": ("installation",),
    "write_offs": ("write_off",),
    "entitlements": ("entitlement",),
    "units": ("asset",),
    "stock_rules": ("stock_rule",),
    "releases": ("release_status",),
    "library": ("library_seen",),
}
"""The tables that each part of a document is of."""
_DEPLOYMENT = "it is a deployment's, whose truth is the database in which it ran"
NOT_EXPORTED: Mapping[str, str] = {
    **dict.fromkeys(("deployment", "wave", "deployment_host", "controller", "lock", "seat", "work_order", "done_by_hand"), _DEPLOYMENT),
    **dict.fromkeys(("history", "journal", "journal_archive", "chain"), "it is what was written to one database, in its order"),
    **dict.fromkeys(("change", "change_ci", "debt"), "it is the register's, whose changes name deployments"),
    **dict.fromkeys(("message", "message_thread"), "it was told, or is to be, to channels of one place"),
    **dict.fromkeys(("firmware_level", "asset_firmware"), "a deployment sets the level, and units are read for it again"),
}
"""Of each of the other tables, why a document does not have it."""
PARTS = tuple(EXPORTED)
_SCHEMAS = Path(__file__).parent.parent / "schemas"
_REMEDY = "correct it, or export again"
_SHOWN = 20  # faults of one file


def export_records(cmdb: Cmdb, connection: sa.Connection) -> dict[str, Any]:
    """The records at the moment of ``connection``, as the schema ``cmdb_records`` has them."""
    relations: dict[str, list[dict[str, str]]] = {}
    for one in cmdb.relations(connection=connection):
        relations.setdefault(one["source"], []).append({"kind": one["kind"], "target": one["target"]})
    for listed in relations.values():
        listed.sort(key=lambda one: (one["kind"], one["target"]))
    installed = cmdb.installations(connection=connection)
    gone = cmdb.write_offs(connection=connection)
    return {
        "schema": VERSION,
        "model": [{"document": own}] if (own := own_document(connection)) else [],
        "cis": [_ci(ci) | {"relations": relations.get(ci["name"], [])} for ci in cmdb.cis(connection=connection)],
        "host_sets": [_set(row) for row in all_sets(connection)],
        "installations": [
            {**{key: row[key] for key in ("ci", "release", "version", "digest")}, "since": row["since"].isoformat()} for row in installed
        ],
        "write_offs": [{"ci": name, **gone[name]} for name in sorted(gone)],
        "entitlements": [
            {key: value.isoformat() if isinstance(value, datetime) else value for key, value in asdict(one).items()}
            for one in entitlements(connection)
        ],
        "units": [_unit(unit) for unit in list_units(connection)],
        "stock_rules": [asdict(rule) | {"substitutes": list(rule.substitutes)} for rule in list_rules(connection)],
        "releases": [
            {"release": of[0], "version": of[1], "digest": one.digest, "state": str(one.state), "reason": one.reason}
            | {"by": one.actor, "at": one.at.isoformat()}
            for of, one in sorted(statuses(connection).items())
        ],
        "library": seen_rows(connection),
    }


def write_records(path: Path, records: Mapping[str, Any], dry_run: bool) -> bool:
    """Write the document to a file, whole or not at all; whether it was another one. Raises :class:`OSError`."""
    new = b"".join(written(records))
    with contextlib.suppress(FileNotFoundError):
        if path.read_bytes() == new:
            return False
    if not dry_run:
        write_atomically(path, new)
    return True


def written(records: Mapping[str, Any]) -> Iterator[bytes]:
    """The document, a record a line, so that two of them can be compared."""
    yield f'{{"schema": {records["schema"]}'.encode()
    for part in PARTS:
        yield f',\n"{part}": ['.encode()
        for number, record in enumerate(records[part]):
            yield (",\n" if number else "\n").encode() + json.dumps(record, ensure_ascii=True, sort_keys=True).encode()
        yield b"\n]"
    yield b"}\n"


def read_records(path: Path) -> dict[str, Any]:
    """The document in a file; :class:`TidegateError` names what is wrong with it, as that it was cut."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TidegateError(f"{path} can't be read: {error.strerror}; name a file that tidegate.release.cmdb_export wrote") from error
    try:
        records = read_object(content, str(path))
    except TidegateError as error:
        raise TidegateError(f"{error}, or it was cut; nothing was imported, export again with tidegate.release.cmdb_export") from error
    version = records.get("schema")
    if isinstance(version, int) and version > VERSION:
        raise TidegateError(
            f"{path} is of the format {version}, and this collection reads {VERSION}; upgrade the collection tidegate.release"
        )
    problems = [
        Problem(f"{path} {'.'.join(map(str, fault.absolute_path)) or 'as a whole'}", _said(fault), _REMEDY)
        for fault, _number in zip(_validator("cmdb_records").iter_errors(records), range(_SHOWN), strict=False)
    ]
    if problems:
        raise DocumentError(problems)
    if where := next(_texts_with_nul(records, "records"), None):
        raise DocumentError([Problem(f"{path} {where}", "it has a NUL", "take that out of it")])
    return records


def _texts_with_nul(value: object, where: str) -> Iterator[str]:
    """Where a text, or a key, has what PostgreSQL takes in none."""
    if isinstance(value, str):
        if "\0" in value:
            yield where
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from _texts_with_nul(key, f"{where}, a key")
            yield from _texts_with_nul(one, f"{where}.{ascii(key)[1:-1]:.40}")
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from _texts_with_nul(one, f"{where}[{number}]")


def import_records(cmdb: Cmdb, connection: sa.Connection, records: Mapping[str, Any], actor: str, now: datetime) -> bool:
    """Enter the records in a CMDB that has none, in the caller's transaction; whether anything changed.

    A CMDB that has just these stays as it is. Raises :class:`ConflictError` for one that has others, and :class:`TidegateError` for a
    record that can't be.
    """
    there = export_records(cmdb, connection)
    if json.dumps(there, sort_keys=True) == json.dumps({key: value for key, value in records.items() if key != "$schema"}, sort_keys=True):
        return False
    if held := [f"{len(there[part])} {part}" for part in PARTS if there[part]]:
        raise ConflictError(
            f"the CMDB {cmdb.label} has {', '.join(held)}, and records are imported into an empty one; give the path or URL of a new CMDB, "
            "or change single CIs with tidegate.release.cmdb_ci"
        )
    try:
        _enter(cmdb, connection, records, actor, now)
    except sa.exc.IntegrityError as error:
        raise TidegateError(f"the records contradict each other, as a unit in two places would ({error.orig}); {_REMEDY}") from error
    except (ValueError, OverflowError, TypeError) as error:
        raise TidegateError(f"a record can't be entered: {error}; {_REMEDY}") from error
    return True


def _enter(cmdb: Cmdb, connection: sa.Connection, records: Mapping[str, Any], actor: str, now: datetime) -> None:
    for one in records["model"]:
        if fault := next(_validator("model").iter_errors({"schema": 1, **one["document"]}), None):
            raise TidegateError(f"the model of CIs can't be one: {fault.message:.200}; {_REMEDY}")
        set_model(connection, one["document"], actor, now, {})
        cmdb.model(connection)
    cmdb.put_cis(records["cis"], actor, connection=connection, copied=True)
    rows = [row | {"since": parse_time(row["since"])} for row in records["installations"]]
    cmdb.record_installations(connection, rows, actor, now)
    t = schema()
    ids = {str(row.name): int(row.id) for row in connection.execute(sa.select(t.ci.c.name, t.ci.c.id))}
    enter_sets(connection, [_read_set(row, ids) for row in records["host_sets"]], ids)
    if rows:
        this = (t.installation.c.ci_id == sa.bindparam("of_ci"), t.installation.c.release == sa.bindparam("of_release"))
        since = [{"of_ci": ids[row["ci"]], "of_release": row["release"], "on": row["since"]} for row in rows]
        connection.execute(sa.update(t.installation).where(*this).values(since=sa.bindparam("on")), since)
    for one in records["write_offs"]:
        cmdb.write_off(connection, one["ci"], one["reason"], one["by"], parse_time(one["since"]), {"imported": True})
    for one in records["entitlements"]:
        limits = {key: parse_time(one[key]) if one[key] else None for key in ("valid_from", "valid_until")}
        save(connection, Entitlement(**{**one, **limits}), actor, now, True)
    enter_units(connection, [Unit(**{**one, "state": UnitState(one["state"])}) for one in records["units"]], actor, now)
    rules = [StockRule(**{**one, "substitutes": tuple(one["substitutes"])}) for one in records["stock_rules"]]
    save_rules(connection, rules, actor, now, True)
    for one in records["releases"]:
        said = Retirement(one["release"], one["version"], one["digest"], one["reason"], one["by"], parse_time(one["at"]))
        enter_status(connection, said, ReleaseState(one["state"]))
    enter_seen(connection, records["library"])


def _set(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: row[key] for key in ("ci", "name", "sha256", "entries", "reason")} | {"by": row["actor"], "at": row["at"].isoformat()}


def _read_set(row: Mapping[str, Any], cis: Mapping[str, int]) -> dict[str, Any]:
    """A set as the database has it; raises :class:`TidegateError` for one that no host could have said."""
    if row["ci"] not in cis:
        raise TidegateError(f"{row['name']!a:.80} is a record of {row['ci']!a:.80}, which is none of the CIs; {_REMEDY}")
    if digest_of(row["entries"]) != row["sha256"]:
        raise TidegateError(f"the entries of {row['name']!a:.80} of {row['ci']} are not those of its sha256; {_REMEDY}")
    return {key: row[key] for key in ("ci", "name", "sha256", "entries", "reason")} | {"actor": row["by"], "at": parse_time(row["at"])}


def _ci(ci: Mapping[str, Any]) -> dict[str, Any]:
    """A CI without its revision, which counts what was written in one database."""
    return {key: value for key, value in ci.items() if key != "revision"}


def _unit(unit: Unit) -> dict[str, Any]:
    """A unit without its reservation, which is a deployment's."""
    row = {key: value for key, value in asdict(unit).items() if key != "deployment"} | {"state": str(unit.state)}
    return row | ({"substate": AVAILABLE} if unit.substate == RESERVED else {})


def _said(fault: Any) -> str:
    return f"it is not what the format has there: {fault.message:.200}"


@functools.cache
def _validator(name: str) -> Any:
    import jsonschema  # noqa: PLC0415 - slow to import

    return jsonschema.Draft202012Validator(json.loads((_SCHEMAS / f"{name}.schema.json").read_text(encoding="utf-8")))
