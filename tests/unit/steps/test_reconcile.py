# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an audit found becomes the record, or is brought back, only under an RFC that allows it, and the past says who, why and by which."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.audits import save_audit
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.recorded_sets import record_sets, recorded_sets
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.schema import schema
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.model import CLOSED
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.audit import compare, compare_beside
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.audit_sets import digest_of
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.reconcile import Reconciled, Wish, reconcile
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.schedule import schedule
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.sources import Sources
from homes import NOW, Homes

OTHER = "sha256:" + "b" * 64
WHY = "brought by hand, see INC0012"


class Desk:
    """The homes, with an RFC in the register for web1 alone, and an audit of both hosts."""

    def __init__(self, homes: Homes) -> None:
        self.homes = homes
        self.rfc = self.write()
        self.enter()

    def write(self, **changes: Any) -> Path:
        release = {"name": "hello", "version": "1.0", "digest": self.homes.digest}
        return self.homes.write("rfc", **{"release": release, "scope": "[?name=='web1']", **changes})

    def enter(self) -> None:
        with self.cmdb() as cmdb:
            schedule(cmdb, [str(self.rfc)], [], NOW, write=True)

    def cmdb(self) -> Cmdb:
        return Cmdb.open(str(self.homes.cmdb))

    def live(self, digest: str | None = None) -> list[dict[str, Any]]:
        """What an audit of both hosts finds where hello 1.0 is live on them."""
        entry = {"name": "hello", "version": "1.0", "digest": digest or self.homes.digest, "changed": ["bin/a"], "extra": []}
        with self.cmdb() as cmdb:
            return compare({"web1": [entry], "db1": [entry]}, cmdb.installations(), {self.homes.digest}, {})

    def audit(self, differences: list[dict[str, Any]] | None = None) -> None:
        with self.cmdb() as cmdb:
            save_audit(cmdb, 2, 2, self.live() if differences is None else differences, "test", NOW - timedelta(minutes=1))

    def reconcile(self, *, restore: bool = False, write: bool = True, reason: str = WHY, **more: Any) -> Reconciled:
        with Sources(str(self.homes.dsl), str(self.homes.cmdb), None, NOW) as sources:
            return reconcile(sources, str(self.rfc), Wish(restore, reason, **more), None, write)

    def refused(self, *words: str, **more: Any) -> None:
        before = self.rows()
        with pytest.raises(TidegateError) as error:
            self.reconcile(**more)
        for word in words:
            assert word in str(error.value)
        assert self.rows() == before

    def rows(self) -> list[Any]:
        with self.cmdb() as cmdb, cmdb.read() as connection:
            tables = (schema().history, schema().installation, schema().ci)
            return [tuple(row) for table in tables for row in connection.execute(sa.select(table))]

    def installed(self) -> dict[str, str]:
        with self.cmdb() as cmdb:
            return {row["ci"]: row["version"] for row in cmdb.installations()}


@pytest.fixture
def desk(homes: Homes) -> Desk:
    desk = Desk(homes)
    desk.audit()
    return desk


def test_what_is_live_becomes_the_record_on_the_cis_of_the_rfc_and_a_second_audit_does_not_name_it(desk: Desk) -> None:
    before = desk.rows()
    assert [one["host"] for one in desk.reconcile(write=False, kinds=["uncontrolled"]).done] == ["web1"]
    assert desk.rows() == before
    done = desk.reconcile(kinds=["uncontrolled"])
    assert ([one["kind"] for one in done.done], done.left, done.changed) == (["uncontrolled"], [], True)
    assert desk.installed() == {"web1": "1.0"}
    assert [(one["host"], one["kind"]) for one in desk.live() if one["kind"] != "changed_files"] == [("db1", "uncontrolled")]
    with desk.cmdb() as cmdb, cmdb.read() as connection:
        rows = connection.execute(sa.select(schema().history).where(schema().history.c.event == "reconciled")).mappings().all()
    (line,) = rows
    assert (line["ci"], line["data"]["rfc"], line["data"]["reason"]) == ("web1", "CHG0030001", WHY)
    assert line["data"]["differences"][0]["recorded"] == "no hello"
    again = desk.reconcile(kinds=["uncontrolled"])
    assert (again.changed, len(again.done)) == (False, 1)


def test_changed_files_are_never_put_on_record_and_the_others_are(desk: Desk) -> None:
    done = desk.reconcile()
    assert [one["kind"] for one in done.done] == ["uncontrolled"]
    (left,) = done.left
    assert left.startswith("web1: changed_files is nothing that can be put on record: 1 file of hello 1.0")


def test_what_the_rfc_does_not_name_is_left(desk: Desk) -> None:
    named = {"found": {"version": "1.0", "digest": OTHER}}
    desk.audit([{**one, **named} if one["kind"] == "uncontrolled" else one for one in desk.live()])
    done = desk.reconcile(kinds=["uncontrolled"])
    assert (done.done, desk.installed()) == ([], {})
    assert "hello 1.0 is live there, and CHG0030001 is about hello 1.0, sha256:" in done.left[0]


def test_what_the_library_does_not_hold_or_nobody_trusts_is_left(desk: Desk) -> None:
    desk.audit(desk.live(OTHER))
    assert desk.reconcile(kinds=["uncontrolled"]).done == []
    bad = next(one for one in desk.live() if one["host"] == "web1")
    desk.audit([*desk.live(), {**bad, "kind": "untrusted", "detail": "nobody signed it"}])
    done = desk.reconcile(kinds=["uncontrolled"])
    assert (done.done, done.left) == ([], ["web1: nobody signed it"])


def test_what_was_deployed_since_the_audit_is_left(desk: Desk) -> None:
    with desk.cmdb() as cmdb, cmdb.begin() as connection:
        cmdb.record_installations(connection, [{"ci": "web1", "release": "hello", "version": "2.0", "digest": OTHER}], "test", NOW)
    done = desk.reconcile(kinds=["uncontrolled"])
    assert (done.done, done.left) == ([], ["web1: what is on record of hello has changed since the audit; audit again"])
    assert desk.installed() == {"web1": "2.0"}


def test_firmware_that_a_device_says_it_runs_becomes_the_record(desk: Desk) -> None:
    with desk.cmdb() as cmdb:
        cmdb.put_cis([{"name": "web1", "attributes": {"firmware": {"BIOS": "1.0", "NIC": "7"}}}], "test", merge=True)
    base: Mapping[str, Any] = {"host": "web1", "unit": "T1", "release": None, "kind": "other_firmware", "detail": "x", "remedy": "y"}
    desk.audit([{**base, "recorded": "", "found": {"BIOS": "1.1"}}])
    assert desk.reconcile().changed
    with desk.cmdb() as cmdb:
        (ci,) = cmdb.cis(["web1"])
    assert ci["attributes"]["firmware"] == {"BIOS": "1.1", "NIC": "7"}
    desk.audit([{**base, "recorded": "", "found": None}])
    assert desk.reconcile().done == [], "a release brought it"


def test_what_is_neither_a_release_nor_firmware_is_left(desk: Desk) -> None:
    base: Mapping[str, Any] = {"host": "web1", "unit": None, "release": "hello", "kind": "copies", "detail": "x", "remedy": "y"}
    desk.audit([{**base, "recorded": "", "found": {"version": "1.0", "digest": desk.homes.digest}}])
    assert desk.reconcile().left == ["web1: copies is nothing that can be put on record: x; y"]


def test_what_a_host_has_besides_releases_becomes_the_record_it_is_compared_with(desk: Desk) -> None:
    before, now = {"bash:amd64": "5.2", "old:all": "1"}, {"bash:amd64": "5.3", "new:all": "2"}
    with desk.cmdb() as cmdb, cmdb.begin() as connection:
        record_sets(connection, "web1", {"packages": (digest_of(before), before)}, "ann", "first", NOW)
    answer = {"sets": {"packages": {"sha256": digest_of(now), "entries": now}}}
    found: dict[str, Any] = {"web1": []}

    def differences() -> list[dict[str, Any]]:
        with desk.cmdb() as cmdb, cmdb.read() as connection:
            return [one for one in compare_beside({"web1": answer}, found, recorded_sets(connection, ["web1"])) if "other" in one["kind"]]

    (named,) = differences()
    assert (named["kind"], named["recorded"]) == ("other_packages", "what ann put on record")
    desk.audit([named])
    done = desk.reconcile()
    assert (done.done, done.left, done.changed) == ([named], [], True)
    assert differences() == []
    assert not desk.reconcile().changed
    with desk.cmdb() as cmdb, cmdb.begin() as connection:
        record_sets(connection, "web1", {"packages": (digest_of({"zsh:all": "1"}), {"zsh:all": "1"})}, "ann", "another", NOW)
    assert desk.reconcile().left == ["web1: what is on record of its packages has changed since the audit; audit again"]


def test_to_restore_is_left_to_a_deployment_of_the_very_package_that_is_on_record(desk: Desk) -> None:
    desk.reconcile(kinds=["uncontrolled"])
    desk.audit()
    before = desk.rows()
    done = desk.reconcile(restore=True)
    assert ([(one["host"], one["kind"]) for one in done.done], done.changed) == ([("web1", "changed_files")], False)
    assert desk.rows() == before
    with desk.cmdb() as cmdb, cmdb.begin() as connection:
        cmdb.record_installations(connection, [{"ci": "web1", "release": "hello", "version": "2.0", "digest": OTHER}], "test", NOW)
    done = desk.reconcile(restore=True)
    assert done.done == []
    assert done.left[0].endswith(f"and on record is hello 2.0, {OTHER}")


def test_without_a_reason_an_audit_or_a_difference_it_is_refused(desk: Desk, homes: Homes) -> None:
    desk.refused("no reason is given", reason=" ")
    desk.refused("has named no such difference on the CIs of CHG0030001", kinds=["missing"])
    with desk.cmdb() as cmdb:
        save_audit(cmdb, 2, 2, [], "test", NOW)
    desk.refused("has named no such difference")


def test_an_rfc_of_other_cis_is_refused(desk: Desk) -> None:
    desk.refused("CHG0030001 is not about db1; take an RFC that has these CIs in its scope", hosts=["db1", "web1"])
    desk.audit([one for one in desk.live() if one["host"] == "db1"])
    desk.refused("has named no such difference on the CIs of CHG0030001")


def test_an_rfc_that_is_not_in_the_register_as_it_reads_is_refused(desk: Desk) -> None:
    desk.rfc = desk.write(number="CHG0030077")
    desk.refused("CHG0030077, as it reads, is not in the register")
    desk.rfc = desk.write(short_description="something else")
    desk.refused("CHG0030001, as it reads, is not in the register")


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"state": -3}, "is Authorize; bring it to Scheduled"),
        ({"state": CLOSED}, "is Closed"),
        ({"on_hold": True}, "is on hold"),
        ({"approvals": []}, "approvals"),
    ],
)
def test_an_rfc_that_is_closed_on_hold_or_not_approved_is_refused(desk: Desk, changes: dict[str, Any], word: str) -> None:
    desk.rfc = desk.write(**changes)
    desk.refused("CHG0030001 allows nothing to be reconciled: ", word)


def test_an_rfc_whose_window_is_not_open_is_refused(desk: Desk) -> None:
    desk.rfc = desk.write(start_date=(NOW + timedelta(hours=1)).isoformat(), end_date=(NOW + timedelta(hours=2)).isoformat())
    desk.enter()
    desk.refused("CHG0030001 allows nothing to be reconciled: ", "window")


def test_an_rfc_that_is_done_by_the_register_is_refused_whatever_it_says_itself(desk: Desk) -> None:
    with desk.cmdb() as cmdb, cmdb.begin() as connection:
        connection.execute(schema().change.update().values(work_end=NOW))
    desk.refused("CHG0030001 is over, so it allows nothing more")


def test_a_host_that_a_deployment_has_locked_is_left_alone(desk: Desk) -> None:
    run = {"rfc": "CHG9", "release": "x", "version": "1", "digest": "x", "state": "activating", "options": {}, "holder": "x", "token": 1}
    with desk.cmdb() as cmdb, cmdb.begin() as connection:
        connection.execute(schema().deployment.insert().values(id=1, **run, created=NOW, started=NOW))
        connection.execute(schema().lock.insert().values(ci="web1", deployment_id=1))
    desk.refused("a deployment is under way on web1")
