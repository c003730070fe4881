# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each figure is what somebody else counts who reads the raw rows and the definitions, whatever has happened."""

from __future__ import annotations

import json
import shutil
import sqlite3
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.chain import append_history, append_journal
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.schema import schema
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.assets import save_rules
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.stock import StockRule
from ansible_collections.tidegate.release.plugins.plugin_utils.report.figures import Amount, FigureGroup
from ansible_collections.tidegate.release.plugins.plugin_utils.report.figures_facts import read_figures
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import rollout_to_dict
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
MONTHS = ("2026-09", "2026-10", "2026-11")
Row = dict[str, Any]
World = dict[str, list[Row]]

# --- what may have happened --------------------------------------------------------------------------------------------------------------

HOSTS: list[Row] = [
    {"name": "web1", "support_group": "web", "owned_by": "olga"},
    {"name": "web2", "support_group": "", "owned_by": "web"},
    {"name": "db1", "support_group": None, "owned_by": "dba"},
    {"name": "odd1", "support_group": " ", "owned_by": None},
]
NAMES = [str(host["name"]) for host in HOSTS]
STATES = ["activating", "held", "backing_out", "supporting", "completed", "completed", "backed_out", "cancelled"]
EVENTS = ["decided", "decided", "backing_out", "supporting", "completed", "backed_out", "held"]
KINDS = ["missing", "other_version", "unlicensed", "lost", "not_in_dsl", "untrusted"]
digests = {f"{number}.0": f"sha256:{number:064}" for number in range(1, 8)}
hours = st.integers(0, 24 * 110).map(lambda number: NOW - timedelta(hours=number))
later = st.integers(0, 96).map(lambda number: timedelta(hours=number))
numbers = st.sampled_from([f"CHG{number}" for number in range(9)])


@st.composite
def deployment_rows(draw: st.DrawFn) -> Row:
    start = draw(hours)
    version = draw(st.sampled_from(sorted(digests)))
    lines = draw(
        st.lists(st.tuples(st.sampled_from(EVENTS), later, st.sampled_from(["proceed", "hold", "back_out"])), min_size=1, max_size=6)
    )
    lines.sort(key=lambda one: one[1])
    back = next((place for place, one in enumerate(lines, 1) if one[0] == "backed_out"), len(lines))  # which is the end
    waves = draw(st.lists(st.tuples(later, st.none() | later), min_size=draw(st.sampled_from([0, 1, 1, 1])), max_size=3))
    return {
        "rfc": draw(numbers),
        "release": draw(st.sampled_from(["shop", "shop", "shop", "agent"])),
        "version": version,
        "digest": digests[version],
        "state": draw(st.sampled_from(STATES)),
        "started": draw(st.sampled_from([start] * 9 + [None])),
        "finished": start + draw(later),
        "lines": [(event, start + offset, word) for event, offset, word in lines[:back]],
        "waves": [(start + opened, None if decided is None else start + opened + decided) for opened, decided in waves],
        "hosts": draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=3)),
        "archived": draw(st.sampled_from([False] * 5 + [True])),
    }


changes = st.fixed_dictionaries(
    {
        "number": numbers,
        "type": st.sampled_from(["normal", "emergency"]),
        "start_date": hours,
        "length": st.integers(1, 24 * 60),
        "close_code": st.sampled_from(["", "successful", "unsuccessful"]),
        "requested_by": st.sampled_from(["", "rita"]),
    }
)
duties = st.fixed_dictionaries({"rfc": numbers, "duty": st.sampled_from(["review", "test"]), "due": hours, "settled": st.booleans()})
pieces = st.tuples(st.sampled_from(["test-result (PASSED)", "test-result (FAILED)", "scan (clean)"]), hours, st.sampled_from(["", "bad"]))
packages = st.fixed_dictionaries(
    {
        "release": st.sampled_from(["shop", "agent"]),
        "version": st.sampled_from(sorted(digests)),
        "same": st.sampled_from([True, True, True, False]),
        "at": hours,
        "pieces": st.lists(pieces, max_size=3),
    }
)
installs = st.fixed_dictionaries(
    {
        "at": hours,
        "ci": st.sampled_from([*NAMES, "gone"]),
        "event": st.sampled_from(["installed", "installed", "uninstalled"]),
        "release": st.sampled_from(["shop", "own"]),
        "deployment_id": st.none() | st.integers(1, 3),
    }
)
differences = st.tuples(st.sampled_from([*NAMES, None]), st.sampled_from(["shop", "own", None]), st.sampled_from(KINDS))
audits = st.fixed_dictionaries({"at": hours, "differences": st.lists(differences, max_size=6), "more": st.sampled_from([0, 0, 0, 7])})
worlds = st.fixed_dictionaries(
    {
        "deployments": st.lists(deployment_rows(), min_size=18, max_size=36) | st.lists(deployment_rows(), max_size=9),
        "changes": st.lists(changes, min_size=4, max_size=9, unique_by=lambda one: one["number"]),
        "duties": st.lists(duties, max_size=5, unique_by=lambda one: (one["rfc"], one["duty"])),
        "packages": st.lists(packages, min_size=5, max_size=14, unique_by=lambda one: (one["release"], one["version"])),
        "installs": st.lists(installs, max_size=6),
        "audits": st.lists(audits, max_size=4),
    }
)


def build(cmdb: Cmdb, world: World) -> None:
    """Write what has happened, as those who write it do."""
    t, about = schema(), {"version": "1.0", "digest": digests["1.0"]}
    with cmdb.begin() as connection:
        for number, one in enumerate(world["deployments"], 1):
            row = {key: one[key] for key in ("rfc", "release", "version", "digest", "state", "started", "finished")}
            row |= {"id": number, "options": rollout_to_dict(Rollout()), "holder": "ctl", "token": number, "created": NOW}
            connection.execute(sa.insert(t.deployment), row)
            if one["archived"]:
                note = {"file": "f", "sha256": "0" * 64, "at": NOW, "actor": "ann", "reason": "old"}
                connection.execute(sa.insert(t.journal_archive), {"deployment_id": number, **note})
                continue
            for wave, (opened, decided) in enumerate(one["waves"], 1):
                values = {"state": "decided" if decided else "open", "opened": opened, "decided": decided}
                connection.execute(sa.insert(t.wave), {"deployment_id": number, "number": wave, **values})
            for place, host in enumerate(one["hosts"]):
                values = {"host": host, "wave": 1, "position": place, "state": "active", "updated": NOW}
                connection.execute(sa.insert(t.deployment_host), {"deployment_id": number, **values})
            lines = [
                {"deployment_id": number, "at": at, "event": event, "data": {"decision": word} if event == "decided" else {}}
                for event, at, word in one["lines"]
            ]
            # A host says words of its own, which are not about the deployment.
            append_journal(connection, [*lines, {"deployment_id": number, "at": NOW, "event": "backed_out", "host": "web1", "data": {}}])
        for one in world["changes"]:
            row = {key: one[key] for key in ("number", "type", "start_date", "close_code", "requested_by")}
            row |= {"release": "shop", **about, "fingerprint": "f", "short_description": "", "assigned_to": "", "state": 0, "risk": 4}
            row |= {"end_date": one["start_date"] + timedelta(hours=one["length"]), "updated": NOW}
            connection.execute(sa.insert(t.change), row)
        for one in world["duties"]:
            row = {"rfc": one["rfc"], "duty": one["duty"], "release": "shop", **about, "incurred": one["due"], "due": one["due"]}
            connection.execute(sa.insert(t.debt), row | {"settled": NOW if one["settled"] else None})
        for one in world["packages"]:
            evidence = {
                f"sha256:{place:064x}": {"what": what, "seen": at.isoformat(), **({"retired": retired} if retired else {})}
                for place, (what, at, retired) in enumerate(one["pieces"], 500)
            }
            row = {"digest": digests[one["version"]] if one["same"] else f"sha256:{9:064}", "envelope": ""}
            row |= {"document": {"number": 1, "seen": one["at"].isoformat(), "evidence": evidence}}
            connection.execute(sa.insert(t.library_seen), row | {"release": one["release"], "version": one["version"]})
        lines = [
            {**{key: one[key] for key in ("at", "ci", "event")}, "actor": "ann"}
            | {"data": {"release": one["release"], "version": "1.0", "deployment_id": one["deployment_id"]}}
            for one in world["installs"]
        ]
        for one in world["audits"]:
            found = [{"host": host, "release": release, "kind": kind} for host, release, kind in one["differences"]]
            data = {"compared": 4, "hosts": 4, "count": len(found) + one["more"], "differences": found}
            lines.append({"at": one["at"], "actor": "ann", "event": "audited", "data": data})
        append_history(connection, lines)


@contextmanager
def copied(empty: Path) -> Iterator[tuple[Path, Cmdb]]:
    """A CMDB of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(shutil.copy(empty, folder))
        with Cmdb.open(str(path)) as cmdb:
            yield path, cmdb


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CMDB in which nothing has happened yet, to be copied."""
    path = tmp_path_factory.mktemp("figures") / "cmdb.sqlite"
    with Cmdb.open(str(path), create=True) as cmdb:
        cmdb.put_cis([{"name": name} for name in NAMES], "test")
        with cmdb.begin() as connection:
            for host in HOSTS:
                ci = schema().ci
                values = {"support_group": host["support_group"], "owned_by": host["owned_by"]}
                connection.execute(ci.update().where(ci.c.name == host["name"]).values(values))
    with sqlite3.connect(path) as raw:
        raw.execute("PRAGMA journal_mode=DELETE")
    return path


# --- somebody else, who counts by the definitions ----------------------------------------------------------------------------------------


def time_of(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def rows_of(path: Path, select: str) -> list[Row]:
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    try:
        return [dict(row) for row in connection.execute(select)]
    finally:
        connection.close()


class Naive:
    """Counts one row after the other, as often as that takes."""

    def __init__(self, path: Path) -> None:
        self.deployments = rows_of(path, "SELECT * FROM deployment WHERE started IS NOT NULL ORDER BY started, id")
        self.journal = rows_of(path, "SELECT * FROM journal WHERE host IS NULL ORDER BY seq")
        self.waves = rows_of(path, "SELECT * FROM wave")
        self.hosts = rows_of(path, "SELECT * FROM deployment_host")
        self.cis = {row["name"]: row for row in rows_of(path, "SELECT * FROM ci")}
        self.changes = {row["number"]: row for row in rows_of(path, "SELECT * FROM change")}
        self.archived = [row["deployment_id"] for row in rows_of(path, "SELECT * FROM journal_archive")]
        self.seen = rows_of(path, "SELECT * FROM library_seen")
        self.debts = rows_of(path, "SELECT * FROM debt WHERE settled IS NULL")
        self.begun = rows_of(path, "SELECT rfc FROM deployment WHERE state <> 'cancelled'")
        self.history = rows_of(path, "SELECT * FROM history ORDER BY seq")

    def team_of(self, host: str | None) -> str:
        row = self.cis.get(host or "", {})
        return str(row.get("support_group") or row.get("owned_by") or "").strip()

    def teams_of(self, deployment: Row) -> set[str]:
        found = {self.team_of(row["host"]) for row in self.hosts if row["deployment_id"] == deployment["id"]} - {""}
        return found or {self.changes.get(deployment["rfc"], {}).get("requested_by", "")} - {""}

    def moments(self, deployment: Row, *events: str) -> list[datetime]:
        lines = [row for row in self.journal if row["deployment_id"] == deployment["id"]]
        found = [row for row in lines if row["event"] in events]
        if "against" in events:
            found += [row for row in lines if row["event"] == "decided" and json.loads(row["data"])["decision"] != "proceed"]
        return sorted(time_of(row["at"]) for row in found)

    def live(self, deployment: Row) -> datetime | None:
        if deployment["id"] in self.archived:
            return time_of(deployment["finished"]) if deployment["state"] == "completed" else None
        return min(self.moments(deployment, "supporting", "completed"), default=None)

    def lead(self, deployment: Row) -> float | None:
        live = self.live(deployment)
        rivals = [
            (at, one["id"])
            for one in self.deployments
            if (one["release"], one["digest"]) == (deployment["release"], deployment["digest"]) and (at := self.live(one))
        ]
        if live is None or min(rivals) != (live, deployment["id"]):
            return None
        for row in self.seen:
            if all(row[key] == deployment[key] for key in ("release", "version", "digest")):
                document = json.loads(row["document"])
                seen = [document["seen"], *(piece["seen"] for piece in document["evidence"].values())]
                return max(0.0, (live - min(datetime.fromisoformat(text) for text in seen)).total_seconds())
        return None

    def failed(self, deployment: Row) -> bool | None:
        if deployment["id"] in self.archived:
            return None
        return bool(self.moments(deployment, "against", "backing_out")) or deployment["state"] in ("backing_out", "backed_out")

    def recovery(self, deployment: Row) -> float | None:
        bad = self.moments(deployment, "against", "backing_out")
        for at in self.moments(deployment, "supporting", "completed", "backed_out"):
            if bad and at >= bad[0]:
                return (at - bad[0]).total_seconds()
        return None

    def rework(self, deployment: Row) -> bool | None:
        change = self.changes.get(deployment["rfc"])
        if change is None:
            return None
        place = self.deployments.index(deployment)
        before = [row for row in self.deployments[:place] if row["release"] == deployment["release"] and row["rfc"] != deployment["rfc"]]
        return change["type"] == "emergency" and bool(before)

    def successful(self, deployment: Row) -> bool | None:
        if deployment["state"] not in ("completed", "backed_out", "cancelled"):
            return None
        closed = self.changes.get(deployment["rfc"], {}).get("close_code")
        return deployment["state"] == "completed" and closed != "unsuccessful"

    def emergency(self, deployment: Row) -> bool | None:
        change = self.changes.get(deployment["rfc"])
        return None if change is None else change["type"] == "emergency"

    def outside(self, deployment: Row) -> bool | None:
        change = self.changes.get(deployment["rfc"])
        waves = [row for row in self.waves if row["deployment_id"] == deployment["id"]]
        if change is None or not waves:
            return None
        start, end = time_of(change["start_date"]), time_of(change["end_date"])
        return any(
            not start <= time_of(row["opened"]) <= end or (row["decided"] is not None and time_of(row["decided"]) > end) for row in waves
        )

    def rehearsed(self, deployment: Row) -> bool:
        for row in self.seen:
            if all(row[key] == deployment[key] for key in ("release", "version", "digest")):
                for piece in json.loads(row["document"])["evidence"].values():
                    good = piece["what"] == "test-result (PASSED)" and not piece.get("retired")
                    if good and datetime.fromisoformat(piece["seen"]) <= time_of(deployment["started"]):
                        return True
        return False

    def audited(self, months: tuple[str, ...], mine: Callable[[Row], bool], kinds: Callable[[str], bool]) -> Amount:
        lines = [row for row in self.history if row["event"] == "audited" and row["at"][:7] in months]
        if not lines:
            return Amount(None, 0, "not known")
        data = json.loads(max(lines, key=lambda row: row["at"])["data"])
        if data["count"] != len(data["differences"]):
            return Amount(None, len(lines), "not known")
        return Amount(sum(kinds(one["kind"]) and mine(one) for one in data["differences"]), len(lines))

    def figures(self, months: tuple[str, ...], release: str | None = None, team: str | None = None) -> Mapping[str, Amount]:
        def of_teams(teams: set[str], of: str) -> bool:
            return (release is None or of == release) and (team is None or team in teams)

        mine = [one for one in self.deployments if one["started"][:7] in months and of_teams(self.teams_of(one), one["release"])]

        def share(which: Callable[[Row], bool | None]) -> Amount:
            said = [answer for one in mine if (answer := which(one)) is not None]
            return Amount(said.count(True) / len(said), len(said)) if len(said) > 4 else Amount(None, len(said), "too few")

        def middle(of: Callable[[Row], float | None]) -> Amount:
            said = [answer for one in mine if (answer := of(one)) is not None]
            return Amount(statistics.median(said), len(said)) if len(said) > 4 else Amount(None, len(said), "too few")

        def is_mine(difference: Row) -> bool:
            return of_teams({self.team_of(difference["host"])}, difference["release"] or "")

        first = min([one["started"][:7] for one in self.deployments], default=months[-1])
        begins = max(months[0], min(first, months[-1]))
        days = [datetime(2026, 9, 1, tzinfo=UTC) + timedelta(days=number) for number in range(80)]
        over = sum(begins <= f"{day:%Y-%m}" <= months[-1] for day in days) + (1 if months[-1] == "2026-11" else 0)
        unruled = [
            row
            for row in self.history
            if row["event"] == "installed" and row["at"][:7] in months and json.loads(row["data"])["deployment_id"] is None
        ]
        unruled = [row for row in unruled if of_teams({self.team_of(row["ci"])}, json.loads(row["data"])["release"])]
        owed = [row for row in self.debts if row["rfc"] in [one["rfc"] for one in self.begun]]
        owed = [row for row in owed if len(months) > 1 or row["due"][:7] in months]
        owed = [
            row
            for row in owed
            if of_teams({name for one in self.deployments if one["rfc"] == row["rfc"] for name in self.teams_of(one)}, row["release"])
        ]
        library = ("lost", "not_in_dsl", "untrusted")
        return {
            "deployment_frequency": Amount(len(mine) / over * 30, len(mine)),
            "change_lead_time": middle(self.lead),
            "change_fail_rate": share(self.failed),
            "failed_deployment_recovery_time": middle(self.recovery),
            "deployment_rework_rate": share(self.rework),
            "successful": share(self.successful),
            "backed_out": share(lambda one: one["state"] in ("backing_out", "backed_out")),
            "emergency": share(self.emergency),
            "out_of_window": share(self.outside),
            "without_rfc": Amount(len(unruled), len(unruled)),
            "overdue_duties": Amount(len(owed), len(owed)),
            "rehearsed": share(self.rehearsed),
            "drift_found": self.audited(months, is_mine, lambda kind: kind not in (*library, "unlicensed")),
            "unlicensed": self.audited(months, is_mine, lambda kind: kind == "unlicensed"),
            "library_faults": self.audited(months, is_mine, lambda kind: kind in library),
        }


def same(group: FigureGroup, naive: Callable[[tuple[str, ...]], Mapping[str, Amount]], label: str) -> None:
    assert {name: group.whole[name] for name in group.months} == naive(MONTHS), label
    for place, month in enumerate(MONTHS):
        assert {name: each[place] for name, each in group.months.items()} == naive((month,)), f"{label} in {month}"


# To make an example smaller takes minutes; a sentence says where the two differ.
@settings(max_examples=settings().max_examples // 4, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(worlds)
def test_each_figure_is_what_the_raw_rows_say(empty: Path, world: World) -> None:
    with copied(empty) as (path, cmdb):
        build(cmdb, world)
        figures = read_figures(cmdb, NOW, 3, 30)
        naive = Naive(path)
        assert figures.months == MONTHS
        same(figures.everything, naive.figures, "all")
        for release in ("shop", "agent", "own"):
            if release in figures.releases:
                same(figures.releases[release], lambda months, of=release: naive.figures(months, release=of), release)  # type: ignore[misc]
        for team in ("web", "dba", "rita"):
            if team in figures.teams:
                same(figures.teams[team], lambda months, of=team: naive.figures(months, team=of), team)  # type: ignore[misc]
        there = {one["release"] for one in naive.deployments if one["started"][:7] in MONTHS}
        assert there <= figures.releases.keys() <= {"shop", "agent", "own"}
        assert {name for one in naive.deployments if one["started"][:7] in MONTHS for name in naive.teams_of(one)} <= figures.teams.keys()
        assert "" not in figures.teams.keys() | figures.releases.keys()


def test_the_spares_are_those_of_now(empty: Path) -> None:
    with copied(empty) as (_path, cmdb):
        assert read_figures(cmdb, NOW, 3, 30).everything.whole["spares_short"] == Amount(None, 0, "not known")
        with cmdb.begin() as connection:
            save_rules(connection, [StockRule("PSU", "ams", 1, 3), StockRule("PSU", "fra", 0, 1)], "ann", NOW, write=True)
        assert read_figures(cmdb, NOW, 3, 30).everything.whole["spares_short"] == Amount(2, 2)


def test_what_cannot_be_read_of_the_library_is_not_known(empty: Path) -> None:
    with copied(empty) as (_path, cmdb):
        with cmdb.begin() as connection:
            row = {"release": "shop", "version": "1.0", "digest": digests["1.0"], "document": {"number": "many"}}
            connection.execute(sa.insert(schema().library_seen), row)
        assert read_figures(cmdb, NOW, 3, 30).everything.whole["change_lead_time"] == Amount(None, 0, "too few")


def test_a_package_is_there_since_the_first_piece_about_it_was_seen(empty: Path) -> None:
    piece = {"what": "scan (clean)", "seen": (NOW - timedelta(hours=50)).isoformat()}
    with copied(empty) as (_path, cmdb):
        with cmdb.begin() as connection:
            for number, version in enumerate(digests, 1):
                row = {"release": "shop", "version": version, "digest": digests[version]}
                seen = {"number": 2, "seen": NOW.isoformat(), "evidence": {digests[version]: piece}}
                connection.execute(sa.insert(schema().library_seen), row | {"document": seen})
                started = NOW - timedelta(hours=30)
                about = {"id": number, "rfc": "CHG1", "state": "completed", "started": started, "options": {}, "holder": "", "token": 1}
                connection.execute(sa.insert(schema().deployment), row | about | {"created": started})
                live = {"deployment_id": number, "at": NOW - timedelta(hours=number), "event": "completed", "data": {}}
                append_journal(connection, [live])
        assert read_figures(cmdb, NOW, 3, 30).everything.whole["change_lead_time"] == Amount(46 * 3600, 7)
