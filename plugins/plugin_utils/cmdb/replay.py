# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CIs, relations, installations and whatever else the CMDB has on record, as the history says that they were. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from .ci_changes import STATUS, STATUSES, WORDS

REPLAYED = (
    *("ci", "relation", "installation", "write_off", "host_set", "ci_model", "entitlement", "stock_rule", "asset", "release_status"),
    *("history", "journal", "chain"),
)
"""The tables whose rows are held against the history, and those that are the chain itself."""
NOT_REPLAYED: Mapping[str, str] = {
    **dict.fromkeys(("deployment", "wave", "deployment_host", "controller", "lock", "seat", "work_order"), "it moves with the journal"),
    **dict.fromkeys(("debt", "change", "change_ci"), "the RFC, its approvals and the journal are the truth"),
    "journal_archive": "its files are read, with the lines of the journal that they have",
    "library_seen": "it can be signed, and what the library has is held against it",
    "done_by_hand": "it ends without a line, with the next deployment there",
    "firmware_level": "it is the last one that a deployment left, and deployments are in the journal",
    "asset_firmware": "it is what units said last, and they are read again",
    **dict.fromkeys(("message", "message_thread"), "it says what people were told, and nothing else goes by it"),
}
"""Of each of the other tables, why they are not."""
_RELEASE = "release "  # events of releases: what becomes of one


@dataclass
class PastCmdb:
    """What the CMDB had at one moment, by the names of CIs.

    ``cis``: class, site, environment, attributes and whatever else the history says of each. ``relations``: source, target and kind.
    ``installations``: version, digest and deployment_id of each CI and release. ``write_offs``: since, by and reason.
    ``records``: everything else, by the CI that it is of, empty where it is of none, and what it is called, each with its columns.
    """

    cis: dict[str, dict[str, Any]] = field(default_factory=dict)
    relations: set[tuple[str, str, str]] = field(default_factory=set)
    installations: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    write_offs: dict[str, dict[str, str]] = field(default_factory=dict)
    records: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    def query_rows(self) -> list[dict[str, Any]]:
        """The CIs by name, as :meth:`.store.Cmdb.query` gives those of the present."""
        unsaid = dict.fromkeys(WORDS) | {"status": STATUS, "revision": 1}
        rows = {
            name: {"name": name, **unsaid, **ci, "installations": {}, "written_off": self.write_offs.get(name)}
            for name, ci in sorted(self.cis.items())
        }
        for (ci, release), found in sorted(self.installations.items()):
            rows[ci]["installations"][release] = {"version": found["version"], "digest": found["digest"]}
        return list(rows.values())

    def relation_rows(self) -> list[dict[str, str]]:
        """The relations, sorted, as :meth:`.store.Cmdb.relations` gives those of the present."""
        return [{"source": source, "target": target, "kind": kind} for source, target, kind in sorted(self.relations)]


def as_told(cis: Iterable[Mapping[str, Any]], relations: Iterable[Mapping[str, str]]) -> list[dict[str, Any]]:
    """The CIs as tasks are told of them, each with those of the relations that start or end there, and what its status is in ServiceNow,
    nothing of one that means nothing."""
    by_name: dict[str, dict[str, Any]] = {ci["name"]: {**ci, "relations": [], **_in_servicenow(ci["status"])} for ci in cis}
    for relation in relations:
        for end in dict.fromkeys((relation["source"], relation["target"])):
            if end in by_name:
                by_name[end]["relations"].append(relation)
    return list(by_name.values())


def _in_servicenow(status: str) -> dict[str, int | None]:
    if status not in STATUSES:
        return {"install_status": None, "operational_status": None}
    return {"install_status": STATUSES[status].install_status, "operational_status": STATUSES[status].operational_status}


def replay(lines: Iterable[Mapping[str, Any]]) -> PastCmdb:
    """What the lines of the history come to, in the order in which they were written; those that nobody could have written change nothing.

    What was said of a CI that is not there is left out: as clocks differ, the lines up to a moment may lack one that was written before.
    """
    run = _Run()
    for line in lines:
        change = (run.changes if line["ci"] is not None else run.records).get(line["event"])
        if change is None and line.get("asset") is not None:
            change = run.put_unit
        if change:
            with suppress(KeyError, TypeError, ValueError, AttributeError):
                change(line, line["data"])
                run.count(line["ci"], line["data"])
    return run.end()


def model_record() -> tuple[str, str]:
    """The key of the team's model of CIs among :attr:`PastCmdb.records`; the others are alike."""
    return ("", "the model of CIs")


def set_record(ci: str, name: str) -> tuple[str, str]:
    """That of a set of a host, such as its packages."""
    return (ci, f"the record of {name} of {ci}")


def entitlement_record(name: str) -> tuple[str, str]:
    """That of an entitlement."""
    return ("", f"the entitlement {name}")


def rule_record(model: str, stockroom: str) -> tuple[str, str]:
    """That of a stock rule."""
    return ("", f"the stock rule for {model} in {stockroom}")


def unit_record(tag: str) -> tuple[str, str]:
    """That of a unit of the hardware storage."""
    return ("", f"the unit {tag}")


def release_record(name: str, version: str) -> tuple[str, str]:
    """That of what became of a release."""
    return ("", f"what became of {name} {version}")


def as_recorded(row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a record in one form, whether they come out of a table or out of the history: moments are in UTC."""
    return {key: value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value for key, value in row.items()}


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


class _Run:
    """A replay that is under way."""

    def __init__(self) -> None:
        self._past = PastCmdb()
        self._relations: dict[str, set[tuple[str, str, str]]] = {}
        """By each of the two CIs."""
        self._releases: dict[str, set[str]] = {}
        self._sets: dict[str, set[tuple[str, str]]] = {}
        self.changes: Mapping[str, Callable[[Mapping[str, Any], Mapping[str, Any]], None]] = {
            "created": self._put,
            "updated": self._put,
            "removed": self._remove,
            "related": lambda line, data: self._relate((line["ci"], data["target"], data["kind"])),
            "unrelated": lambda line, data: self._unrelate((line["ci"], data["target"], data["kind"])),
            "installed": self._install,
            "uninstalled": lambda line, data: self._uninstall(line["ci"], data["release"]),
            "written off": self._write_off,
            "no longer written off": lambda line, _data: self._end_write_off(line["ci"]),
            "set recorded": self._record_set,
        }
        self.records: Mapping[str, Callable[[Mapping[str, Any], Mapping[str, Any]], None]] = {
            "model set": lambda _line, data: self._record(model_record(), {"document": data["after"]}),
            "entitlement entered": self._record_entitlement,
            "entitlement changed": self._record_entitlement,
            "entitlement removed": lambda _line, data: self._forget(entitlement_record(data["name"])),
            "stock rule": self._record_rule,
            "release retired": self._record_release,
            "release purged": self._record_release,
            "release archived": lambda _line, data: self._forget(release_record(data["release"], data["version"])),
        }

    def end(self) -> PastCmdb:
        past, there = self._past, self._past.cis
        past.relations = {one for one in past.relations if one[0] in there and one[1] in there}
        past.installations = {key: found for key, found in past.installations.items() if key[0] in there}
        past.write_offs = {name: found for name, found in past.write_offs.items() if name in there}
        past.records = {key: found for key, found in past.records.items() if not key[0] or key[0] in there}
        return past

    def count(self, name: str | None, data: Mapping[str, Any]) -> None:
        """A CI has the revision that the last line about it says, one of its relations, too."""
        if name in self._past.cis and isinstance(data.get("revision"), int):
            self._past.cis[name]["revision"] = data["revision"]

    def _put(self, line: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        name, after = line["ci"], dict(data["after"])
        related = after.pop("relations", None)
        if not isinstance(after.get("attributes", {}), dict):
            return
        self._past.cis.setdefault(name, {}).update(after)
        if related is not None:
            for one in [one for one in self._relations.get(name, ()) if one[0] == name]:
                self._unrelate(one)
            for entry in related:
                self._relate((name, entry["target"], entry["kind"]))

    def _remove(self, line: Mapping[str, Any], _data: Mapping[str, Any]) -> None:
        name = line["ci"]
        self._past.cis.pop(name, None)
        self._end_write_off(name)
        for one in tuple(self._relations.get(name, ())):
            self._unrelate(one)
        for release in tuple(self._releases.get(name, ())):
            self._uninstall(name, release)
        for key in self._sets.pop(name, ()):
            self._past.records.pop(key, None)

    def _install(self, line: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        said = {key: data.get(key) for key in ("version", "digest", "deployment_id")}
        self._past.installations[line["ci"], data["release"]] = said
        self._releases.setdefault(line["ci"], set()).add(data["release"])

    def _uninstall(self, name: str, release: str) -> None:
        self._past.installations.pop((name, release), None)
        self._releases.get(name, set()).discard(release)

    def _write_off(self, line: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        since = line["at"].isoformat(timespec="seconds")
        self._past.write_offs[line["ci"]] = {"since": since, "by": line["actor"], "reason": data["reason"]}

    def _end_write_off(self, name: str) -> None:
        self._past.write_offs.pop(name, None)

    def put_unit(self, line: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        """A unit is what the last line about it says."""
        self._record(unit_record(line["asset"]), dict(data["after"]))

    def _record(self, key: tuple[str, str], row: Mapping[str, Any]) -> None:
        self._past.records[key] = as_recorded(row)

    def _forget(self, key: tuple[str, str]) -> None:
        self._past.records.pop(key, None)

    def _record_set(self, line: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        key, said = set_record(line["ci"], data["set"]), data["sha256"]
        self._record(key, {"sha256": said, "entries": said, "actor": line["actor"], "reason": data["reason"], "at": line["at"]})
        self._sets.setdefault(line["ci"], set()).add(key)

    def _record_entitlement(self, _line: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        limits = {key: _moment(data[key]) for key in ("valid_from", "valid_until")}
        self._record(entitlement_record(data["name"]), {**data, **limits})

    def _record_rule(self, _line: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        before, after = data["before"], data["after"]
        of = after or before
        key = rule_record(of["model"], of["stockroom"])
        if after is None:
            self._forget(key)
        else:
            self._record(key, after)

    def _record_release(self, line: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        state = str(line["event"]).removeprefix(_RELEASE)
        row = {"digest": data["digest"], "state": state, "reason": data["reason"], "actor": line["actor"], "at": line["at"]}
        self._record(release_record(data["release"], data["version"]), row)

    def _relate(self, one: tuple[str, str, str]) -> None:
        self._past.relations.add(one)
        for end in one[:2]:
            self._relations.setdefault(end, set()).add(one)

    def _unrelate(self, one: tuple[str, str, str]) -> None:
        self._past.relations.discard(one)
        for end in one[:2]:
            self._relations.get(end, set()).discard(one)


def differences(past: PastCmdb, present: PastCmdb) -> list[tuple[str, str]]:
    """Where the rows, ``present``, are not what the history says: the CI's name and a sentence for each, by name.

    Of a CI only what the history speaks of is compared: a column that an upgrade added has a value that nobody wrote. What is installed on
    a CI that only one of the two has is not named besides.
    """
    found: list[tuple[str, str]] = []
    alone = past.cis.keys() ^ present.cis.keys()
    for name in past.cis.keys() | present.cis.keys():
        was, row = past.cis.get(name), present.cis.get(name)
        if was is None or row is None:
            found.append((name, _only(f"the CI {name}", was is not None)))
        else:
            found += [(name, _unlike(f"{what} of {name}", *values)) for what, values in _changed(was, row)]
    for one in past.relations ^ present.relations:
        found.append((one[0], _only(f"the relation {one[0]} {one[2]} {one[1]}", one in past.relations)))
    for ci, release in past.installations.keys() | present.installations.keys():
        was, row = past.installations.get((ci, release)), present.installations.get((ci, release))
        if (was is None or row is None) and ci not in alone:
            found.append((ci, _only(f"{release} on {ci}", was is not None)))
        elif was is not None and row is not None:
            found += [(ci, _unlike(f"{key} of {release} on {ci}", was[key], row.get(key))) for key in was if was[key] != row.get(key)]
    for key in past.records.keys() | present.records.keys():
        was, row = past.records.get(key), present.records.get(key)
        if was is None or row is None:
            found.append((key[0], _only(key[1], was is not None)))
        else:
            found += [
                (key[0], _unlike(f"{name} of {key[1]}", was[name], row[name])) for name in was.keys() & row.keys() if was[name] != row[name]
            ]
    for name in past.write_offs.keys() | present.write_offs.keys():
        off = past.write_offs.get(name), present.write_offs.get(name)
        if off[0] != off[1]:
            found.append((name, _unlike(f"the write-off of {name}", *off)))
    return sorted(found)


def _changed(was: Mapping[str, Any], row: Mapping[str, Any]) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """What of a CI is not what it was, its attributes one by one, each with what it was and is."""
    for key, value in was.items():
        if key != "attributes":
            if value != row.get(key):
                yield key, (value, row.get(key))
            continue
        now = row.get(key)
        now = now if isinstance(now, Mapping) else {}
        for name in value.keys() | now.keys():
            if name not in value or name not in now or value[name] != now[name]:
                yield f"the attribute {name}", (value.get(name), now.get(name))


def _only(what: str, in_history: bool) -> str:
    having, lacking = ("history", "CMDB") if in_history else ("CMDB", "history")
    return f"{what} is in the {having}, and not in the {lacking}"


def _unlike(what: str, was: object, row: object) -> str:
    return f"{what} is {row!a:.80} in the CMDB, and the history says {was!a:.80}"
