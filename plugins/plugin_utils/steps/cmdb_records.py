# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The records of a CMDB as one JSON document, which another CMDB takes: what is so now, and not what led to it.

Journals, changes, seats and reservations belong to deployments, whose truth is the database in which they ran.
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

from ..cmdb.schema import schema
from ..cmdb.store import Cmdb
from ..dhs.assets import enter_units, list_rules, list_units, save_rules
from ..dhs.stock import StockRule
from ..dhs.units import AVAILABLE, RESERVED, Unit, UnitState
from ..documents import parse_time
from ..errors import ConflictError, DocumentError, Problem, TidegateError
from ..files import write_atomically
from ..licence.entitlements import entitlements, save
from ..licence.seats import Entitlement
from ..strict_json import read_object

with contextlib.suppress(ImportError):
    import sqlalchemy as sa

VERSION = 1
PARTS = ("cis", "installations", "write_offs", "entitlements", "units", "stock_rules")
_SCHEMA = Path(__file__).parent.parent / "schemas" / "cmdb_records.schema.json"
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
        "cis": [_ci(ci) | {"relations": relations.get(ci["name"], [])} for ci in cmdb.cis(connection=connection)],
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
        for fault, _number in zip(_validator().iter_errors(records), range(_SHOWN), strict=False)
    ]
    if problems:
        raise DocumentError(problems)
    return records


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
    cmdb.put_cis(records["cis"], actor, connection=connection, copied=True)
    rows = [row | {"since": parse_time(row["since"])} for row in records["installations"]]
    cmdb.record_installations(connection, rows, actor, now)
    t = schema()
    if rows:
        ids = {row.name: row.id for row in connection.execute(sa.select(t.ci.c.name, t.ci.c.id))}
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
def _validator() -> Any:
    import jsonschema  # noqa: PLC0415 - slow to import

    return jsonschema.Draft202012Validator(json.loads(_SCHEMA.read_text(encoding="utf-8")))
