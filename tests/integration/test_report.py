# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report out of a real CMDB, and the playbook that writes it."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import forked
import pytest
import sqlalchemy as sa
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.chain import append_journal, heads_document
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.schema import schema
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.report.model import build_report
from schemas import assert_schema

START = datetime(2026, 3, 1, 10, tzinfo=UTC)
Wave = tuple[str | None, dict[str, tuple[str, str]]]


def deployment(cmdb: Cmdb, number: int, version: str, state: str, waves: list[Wave]) -> None:
    tables = schema()
    at = START + timedelta(hours=number)
    with cmdb.begin() as connection:
        connection.execute(
            sa.insert(tables.deployment),
            {
                "id": number,
                "rfc": f"CHG000{number}",
                "release": "shop",
                "version": version,
                "digest": f"sha256:{number:064}",
                "state": state,
                "options": {"password": "hunter2"},
                "holder": "alice@ctl",
                "token": 1,
                "lease_until": None,
                "reason": "because",
                "created": at,
                "started": at,
                "finished": at + timedelta(seconds=90) if state in ("completed", "backed_out") else None,
            },
        )
        for wave, (gate, hosts) in enumerate(waves, start=1):
            connection.execute(
                sa.insert(tables.wave),
                {
                    "deployment_id": number,
                    "number": wave,
                    "state": "decided" if gate else "closed",
                    "decision": gate,
                    "reason": "counted",
                    "opened": at if gate else None,
                    "decided": at + timedelta(seconds=1.5) if gate else None,
                },
            )
            rows = [
                {"deployment_id": number, "host": host, "wave": wave, "position": position, "state": state, "detail": detail, "updated": at}
                for position, (host, (state, detail)) in enumerate(hosts.items())
            ]
            connection.execute(sa.insert(tables.deployment_host), rows)


@pytest.fixture
def cmdb(tmp_path: Path) -> Cmdb:
    cmdb = Cmdb.open(str(tmp_path / "cmdb.sqlite"), create=True)
    cmdb.put_cis([{"name": name, "site": "fra", "environment": "prod", "class": "web"} for name in ("web1", "web2", "web3")], "test")
    with cmdb.begin() as connection:
        row = {"release": "shop", "version": "1.0", "digest": f"sha256:{1:064}"}
        cmdb.record_installations(
            connection, [{"ci": "web1", **row}, {"ci": "web1", **row, "release": "agent"}, {"ci": "web2", **row}], "test", START
        )
    return cmdb


def test_the_report_has_deployments_by_wave_and_hosts_by_release(cmdb: Cmdb) -> None:
    deployment(cmdb, 1, "1.0", "completed", [("proceed", {"web2": ("active", "")}), ("proceed", {"web1": ("active", "warm")})])
    made = build_report(cmdb, START)
    report = made.overview
    assert_schema("report", report)
    assert set(report) == {"generated", "attention", "counts", "deployments", "debts", "hosts", "stock", "audit", "heads"}
    with cmdb.read() as connection:
        assert report["heads"] == heads_document(connection)
    assert report["heads"]["history"]["seq"] == 6
    assert report["generated"] == "2026-03-01T10:00:00.000Z"
    assert report["counts"] == {"deployments": {"completed": 1}, "hosts": 3}
    only = made.deployments["deployments/1"]
    assert_schema("report_deployment", only)
    (entry,) = report["deployments"]
    pages = {"page": "deployments/1.html", "data": "deployments/1.json"}
    on_its_page = ("data_changes", "work_orders")
    about = {key: value for key, value in only.items() if key not in on_its_page}
    assert entry == {**about, **pages, "waves": 2, "decided": 2, "hosts": {"active": 2}}
    assert only | {"waves": None} == {
        "id": 1,
        "rfc": "CHG0001",
        "release": "shop",
        "version": "1.0",
        "digest": f"sha256:{1:064}",
        "state": "completed",
        "reason": "because",
        "started": "2026-03-01T11:00:00.000Z",
        "finished": "2026-03-01T11:01:30.000Z",
        "close_code": "",
        "objectives": [],
        "data_changes": [],
        "work_orders": [],
        "unrecorded": "",
        "waves": None,
    }
    assert only["waves"][1] == {
        "number": 2,
        "state": "decided",
        "hosts": ["web1"],
        "gate": "proceed",
        "reason": "counted",
        "results": {"web1": {"state": "active", "detail": "warm", "previous_version": None}},
        "opened": "2026-03-01T11:00:00.000Z",
        "decided": "2026-03-01T11:00:01.500Z",
    }
    ((name, hosts),) = made.hosts.items()
    assert_schema("report_hosts", hosts)
    entry = {"site": "fra", "first": "web1", "last": "web3", "hosts": 3, "page": f"{name}.html", "data": f"{name}.json"}
    assert report["hosts"] == [entry]
    assert [(host["name"], host["release"], host["version"]) for host in hosts["hosts"]] == [
        ("web1", "agent", "1.0"),
        ("web1", "shop", "1.0"),
        ("web2", "shop", "1.0"),
        ("web3", None, None),
    ]
    assert hosts["hosts"][0]["since"] == "2026-03-01T10:00:00.000Z"
    assert report["attention"] == ["Active, but to be looked at: web1 (CHG0001, shop 1.0: warm)."]
    text = json.dumps([report, made.deployments, made.hosts])
    assert "hunter2" not in text
    assert "alice" not in text


def test_what_waits_for_a_person_is_said_first_and_in_words(cmdb: Cmdb) -> None:
    deployment(
        cmdb, 1, "1.0", "backing_out", [("back_out", {"web1": ("owed", "no route"), "web2": ("stuck", ""), "web3": ("backed_out", "")})]
    )
    assert build_report(cmdb, START).overview["attention"] == [
        "CHG0001, shop 1.0 is not backed out yet: because.",
        "Still to be backed out: web1 (CHG0001, shop 1.0: no route).",
        "Stuck, could neither activate the release nor go back: web2 (CHG0001, shop 1.0).",
    ]


def test_a_later_deployment_that_reached_a_host_settles_what_an_earlier_one_left(cmdb: Cmdb) -> None:
    deployment(cmdb, 1, "1.0", "completed", [("proceed", {"web1": ("failed", ""), "web2": ("lost", "")})])
    deployment(cmdb, 2, "1.1", "held", [("hold", {"web1": ("active", ""), "web2": ("staged", "")})])
    assert build_report(cmdb, START).overview["attention"] == [
        "CHG0002, shop 1.1 is held: because.",
        "Lost while activating, what they run is not known: web2 (CHG0001, shop 1.0).",
    ]


def test_many_hosts_with_one_trouble_are_one_sentence(cmdb: Cmdb) -> None:
    deployment(cmdb, 1, "1.0", "completed", [("proceed", {f"h{number:02}": ("failed", "503") for number in range(30)})])
    (sentence,) = build_report(cmdb, START).overview["attention"]
    assert "h19 and 10 more (CHG0001, shop 1.0: 503)." in sentence


def run(tmp_path: Path, *options: str, **variables: Any) -> subprocess.CompletedProcess[str]:
    given = {"tidegate_cmdb": str(tmp_path / "cmdb.sqlite"), "tidegate_report": str(tmp_path / "out"), **variables}
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "ANSIBLE_COLLECTIONS_PATH", "PYTHONPATH") if name in os.environ}
    command = ["ansible-playbook", "tidegate.release.report", "-i", "localhost,", "-e", json.dumps(given), *options]
    environment = kept | {"LANG": "C.UTF-8", "ANSIBLE_STDOUT_CALLBACK": "default"}  # whose recap says what changed
    return forked.run(command, environment, apart=True)


def test_the_playbook_writes_both_files_once(cmdb: Cmdb, tmp_path: Path) -> None:
    deployment(cmdb, 1, "1.0", "completed", [("proceed", {"web1": ("active", "")})])
    assert "changed=1" in run(tmp_path, "--check").stdout
    assert not (tmp_path / "out").exists()
    first = run(tmp_path, report_extra={"probe": {"requests": 10, "retries": 1, "failed": 0}})
    assert "changed=1" in first.stdout, first.stdout + first.stderr
    data = json.loads((tmp_path / "out/report.json").read_text())
    assert_schema("report", data)
    assert data["probe"] == {"requests": 10, "retries": 1, "failed": 0}
    assert "10 requests, 1 retries, 0 failed" in (tmp_path / "out/index.html").read_text()
    assert "changed=0" in run(tmp_path, report_extra={"probe": data["probe"]}).stdout


def test_a_missing_cmdb_is_one_sentence_and_no_file(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stdout + done.stderr
    assert "cmdb.sqlite" in done.stdout
    assert not (tmp_path / "out").exists()


def test_how_a_change_was_closed_and_what_its_change_system_lacks_is_in_the_report(cmdb: Cmdb) -> None:
    for number, events in ((1, ["change_not_recorded", "change_recorded"]), (2, ["objectives", "change_recorded", "change_not_recorded"])):
        deployment(cmdb, number, f"{number}.0", "completed", [("proceed", {"web1": ("active", "")})])
        data = {
            "objectives": {"results": [{"name": "sings", "met": False, "detail": "it is silent"}]},
            "change_not_recorded": {"problem": "it is down"},
        }
        with cmdb.begin() as connection:
            for event in events:
                values = {"deployment_id": number, "at": START, "event": event, "data": data.get(event, {})}
                append_journal(connection, [values])
    report = build_report(cmdb, START).overview
    assert_schema("report", report)
    first, second = report["deployments"]
    assert (first["objectives"], first["unrecorded"]) == ([], "")
    assert (second["objectives"][0]["name"], second["unrecorded"]) == ("sings", "it is down")
    attention = build_report(cmdb, START).overview["attention"]
    assert attention == ["The change of CHG0002, shop 2.0 is not up to date in its change system: it is down."]
