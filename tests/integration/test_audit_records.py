# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What somebody did to the CMDB is named once by the audit, or by the verification of the CMDB, or by each, and nothing else is."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from fleet import SECOND, Fleet

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="isolated lab hosts need root")


def audited(fleet: Fleet, *options: str) -> tuple[int, list[tuple[str, str]], dict[str, str]]:
    """How the audit ended, what it named by host and kind, and the last sentence by host."""
    done = fleet.play("tidegate.release.audit", {}, *options)
    assert "Traceback" not in done.stdout, done.stdout
    ((data,),) = fleet.rows("select data from history where event = 'audited' order by seq desc limit 1")
    found: list[dict[str, Any]] = json.loads(data)["differences"]
    return done.returncode, sorted((one["host"], one["kind"]) for one in found), {one["host"]: one["detail"] for one in found}


def verified(fleet: Fleet) -> tuple[int, str]:
    done = fleet.play("tidegate.release.cmdb_verify", {})
    assert "Traceback" not in done.stdout, done.stdout
    return done.returncode, done.stdout


def by_sql(fleet: Fleet, *statements: str) -> None:
    connection = sqlite3.connect(fleet.path / "cmdb.sqlite")
    try:
        for statement in statements:
            assert connection.execute(statement).rowcount == 1, statement
        connection.commit()
    finally:
        connection.close()


def test_each_thing_that_was_done_to_the_cmdb_is_named_once_and_nothing_else(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, count=5, first=SECOND, policy={"rollout": {"canary": 5, "steps": [100]}})
    try:
        fleet.up()
        deployed = fleet.deploy("CHG0001", "1.0")
        assert deployed.returncode == 0, deployed.stdout
        with Cmdb.open(fleet.environment["TIDEGATE_CMDB"]) as cmdb:
            cmdb.put_cis([{"name": "rack1", "class": "rack"}], "carl")
        assert audited(fleet) == (0, [], {}), "a rack is nobody's host"
        assert verified(fleet)[0] == 0

        # A host that does not exist, a CI whose host lives on without it, a host that is a rack by now, and another release on record.
        address = f"127.0.1.{SECOND + 19}"
        with Cmdb.open(fleet.environment["TIDEGATE_CMDB"]) as cmdb:
            cmdb.put_cis([{"name": "ghost", "class": "server", "attributes": {"ansible_host": address, "ansible_port": 2022}}], "carl")
        by_sql(
            fleet,
            "delete from ci where name = 'web2'",
            "update ci set class = 'rack' where name = 'web3'",
            "update installation set version = '0.9' where ci_id = (select id from ci where name = 'web4')",
        )
        for _time in range(2):
            status, named, details = audited(fleet)
            assert status == 2
            assert named == [("ghost", "unreachable"), ("web3", "not_in_inventory"), ("web4", "other_version")], details
            assert "a release is installed on web3 (rack), but no such CI is a host" in details["web3"]
            assert "hello 1.0 is live, but the CMDB says 0.9" in details["web4"]
        status, said = verified(fleet)
        assert status == 2
        for sentence in (
            "the CI web2 is in the history, and not in the CMDB",
            "class of web3 is 'rack' in the CMDB, and the history says 'server'",
            "version of hello on web4 is '0.9' in the CMDB, and the history says '1.0'",
        ):
            assert said.count(sentence) == 1, said
        assert said.count("in the CMDB, and the history says") + said.count("in the history, and not in the CMDB") == 3, said
        # Whoever has another list of hosts sees the host without a CI, too.
        status, named, details = audited(fleet, "-i", str(fleet.path / "lab" / "inventory.yml"))
        assert status == 2
        assert {("web2", "not_in_cmdb"), ("web2", "uncontrolled")} <= {*named}
        assert not {"rack1", "web1", "web5"} & details.keys()
    finally:
        fleet.down()
