# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CIs, relations and installations as the history says that they were. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from .ci_changes import STATUS, STATUSES, WORDS


@dataclass
class PastCmdb:
    """What the CMDB had at one moment, by the names of CIs.

    ``cis``: class, site, environment, attributes and whatever else the history says of each. ``relations``: source, target and kind.
    ``installations``: version, digest and deployment_id of each CI and release. ``write_offs``: since, by and reason.
    """

    cis: dict[str, dict[str, Any]] = field(default_factory=dict)
    relations: set[tuple[str, str, str]] = field(default_factory=set)
    installations: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    write_offs: dict[str, dict[str, str]] = field(default_factory=dict)

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
    """What the lines of the history come to, in the order in which they were written; those that are about no CI change nothing, nor do
    those that nobody could have written.

    What was said of a CI that is not there is left out: as clocks differ, the lines up to a moment may lack one that was written before.
    """
    run = _Run()
    for line in lines:
        if line["ci"] is not None and (change := run.changes.get(line["event"])):
            with suppress(KeyError, TypeError, ValueError, AttributeError):
                change(line, line["data"])
                run.count(line["ci"], line["data"])
    return run.end()


class _Run:
    """A replay that is under way."""

    def __init__(self) -> None:
        self._past = PastCmdb()
        self._relations: dict[str, set[tuple[str, str, str]]] = {}
        """By each of the two CIs."""
        self._releases: dict[str, set[str]] = {}
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
        }

    def end(self) -> PastCmdb:
        past, there = self._past, self._past.cis
        past.relations = {one for one in past.relations if one[0] in there and one[1] in there}
        past.installations = {key: found for key, found in past.installations.items() if key[0] in there}
        past.write_offs = {name: found for name, found in past.write_offs.items() if name in there}
        return past

    def count(self, name: str, data: Mapping[str, Any]) -> None:
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
