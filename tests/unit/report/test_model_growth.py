# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A report is as large, and as much work, as the fleet is, however much lies behind it; what waits for a person is never behind."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.audits import save_audit
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.chain import append_journal
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.schema import schema
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import NotFoundError
from ansible_collections.tidegate.release.plugins.plugin_utils.report.html import render_deployment, render_overview
from ansible_collections.tidegate.release.plugins.plugin_utils.report.model import NEWEST, Report, build_report
from past import HOSTS, START, history


@contextmanager
def cmdb(path: Path, deployments: int) -> Iterator[Cmdb]:
    with Cmdb.open(str(path), create=True) as made:
        made.put_cis([{"name": name, "site": "fra"} for name in HOSTS], "test")
        save_audit(made, 6, 6, [], "ann", START)
        with made.begin() as connection:
            for number in range(1, deployments + 1):
                history(connection, number)
        yield made


def work(made: Cmdb) -> tuple[Report, list[tuple[str, Any]], int]:
    """The report, the statements it takes, and how many rows they bring."""
    statements, rows = [], 0

    def before(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        statements.append((statement, parameters))

    def fetched(row: Any) -> Any:
        nonlocal rows
        rows += 1
        return row

    def after(_connection: Any, cursor: Any, *_: Any) -> None:
        cursor.row_factory = lambda _cursor, row: fetched(row)

    sa.event.listen(sa.Engine, "before_cursor_execute", before)
    sa.event.listen(sa.Engine, "after_cursor_execute", after)
    try:
        report = build_report(made, START)
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", before)
        sa.event.remove(sa.Engine, "after_cursor_execute", after)
    return report, statements, rows


def test_ten_times_the_history_is_no_more_work_and_no_more_to_read(tmp_path: Path) -> None:
    sizes, statements, rows = [], [], []
    for number in (40, 400):
        with cmdb(tmp_path / f"{number}.sqlite", number) as made:
            report, said, brought = work(made)
        assert report.overview["counts"] == {"deployments": {"completed": number}, "hosts": 6}
        assert [entry["id"] for entry in report.overview["deployments"]] == list(range(number - NEWEST + 1, number + 1))
        sizes.append(len(json.dumps([report.overview, report.deployments, report.hosts])))
        statements.append(len(said))
        rows.append(brought)
    assert statements[0] == statements[1]
    assert rows[0] == rows[1] > 0
    assert sizes[1] <= 1.05 * sizes[0]


def test_nothing_that_grows_with_age_is_read_from_end_to_end(tmp_path: Path) -> None:
    with cmdb(tmp_path / "cmdb.sqlite", 200) as made:
        _report, statements, _rows = work(made)
        with made.read() as connection:
            plans = [
                row[3]
                for said in statements
                if said[0].startswith("SELECT")
                for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {said[0]}", said[1])
            ]
    assert any("ix_deployment_host_trouble" in plan for plan in plans)
    # A partial index has only what is asked for, so it may be read as a whole.
    scans = [plan for plan in plans if re.match("SCAN (deployment_host|journal|history|change|change_ci|wave)\\b", plan)]
    assert [plan for plan in scans if "ix_deployment_host_trouble" not in plan] == []


def test_what_an_old_deployment_left_is_said_until_a_later_one_settles_it(tmp_path: Path) -> None:
    with cmdb(tmp_path / "cmdb.sqlite", 0) as made:
        with made.begin() as connection:
            history(connection, 1, host="failed", detail="503\nits log")
            history(connection, 2, host="backed_out", state="backed_out", detail="to be looked at: it was slow", release="other")
            history(connection, 3, "held", reason="a person is to look", release="third")
            history(connection, 4, host="backed_out", state="backed_out", detail="the gate said so", release="fourth")
            rows = [
                {"event": event, "data": data} for event, data in (("change_recorded", {}), ("change_not_recorded", {"problem": "down"}))
            ]
            append_journal(connection, [{"deployment_id": 4, "at": START, **row} for row in rows])
            for number in range(10, 10 + 2 * NEWEST):
                history(connection, number, release="fifth")
        names = ", ".join(HOSTS)
        report = build_report(made, START)
        assert report.overview["attention"] == [
            "CHG0000003, third 3.0 is held: a person is to look.",
            "The change of CHG0000004, fourth 4.0 is not up to date in its change system: down.",
            f"Failed, and went back to what they ran before: {names} (CHG0000001, shop 1.0: 503).",
            f"Backed out, but to be looked at: {names} (CHG0000002, other 2.0: it was slow).",
        ]
        assert report.overview["deployments"][0]["id"] == 3
        assert "a person is to look" in render_overview(report.overview, report.deployments)
        with made.begin() as connection:
            history(connection, 100, "cancelled", host="planned")
            history(connection, 101, "activating", host="staged")
            history(connection, 102, host="active", release="other")
            append_journal(connection, [{"deployment_id": 4, "at": START, "event": "change_recorded", "data": {}}])
        assert [sentence[:10] for sentence in build_report(made, START).overview["attention"]] == ["CHG0000003", "Failed, an"]
        with made.begin() as connection:
            history(connection, 103, "activating", host="activating")
        assert [sentence[:10] for sentence in build_report(made, START).overview["attention"]] == ["CHG0000003"]


def test_a_deployment_that_is_over_has_a_page_when_it_is_asked_for(tmp_path: Path) -> None:
    with cmdb(tmp_path / "cmdb.sqlite", 2 * NEWEST) as made:
        assert "deployments/7" not in build_report(made, START).deployments
        asked = build_report(made, START, ["CHG0000007", "CHG0000007"])
        assert [entry["id"] for entry in asked.overview["deployments"]] == [7, *range(NEWEST + 1, 2 * NEWEST + 1)]
        assert "shop 7.0" in render_deployment(asked.deployments["deployments/7"])
        with pytest.raises(NotFoundError, match="CHG9 has no deployment that the report could show"):
            build_report(made, START, ["CHG9"])


def test_hosts_with_as_many_reasons_share_a_sentence(tmp_path: Path) -> None:
    with cmdb(tmp_path / "cmdb.sqlite", 0) as made:
        with made.begin() as connection:
            history(connection, 1, host="lost")
            for host in HOSTS:
                table = schema().deployment_host
                connection.execute(table.update().where(table.c.host == host).values(detail=f"no route to {host}"))
        attention = build_report(made, START).overview["attention"]
    assert len(attention) == 6
    assert attention[-1] == "Lost while activating, what they run is not known: web5 (CHG0000001, shop 1.0: 1 other reasons)."


def test_a_host_s_releases_are_on_one_page_and_its_pages_are_of_one_site(tmp_path: Path) -> None:
    with Cmdb.open(str(tmp_path / "cmdb.sqlite"), create=True) as made:
        sites = ["fra", "ams", None]
        made.put_cis([{"name": f"web{number:04}", "site": sites[number % 3]} for number in range(900)], "test")
        rows = [
            {"ci": f"web{number:04}", "release": release, "version": "1.0", "digest": f"sha256:{1:064}"}
            for number in range(900)
            for release in ("shop", "agent")
        ]
        with made.begin() as connection:
            made.record_installations(connection, rows, "test", START)
        report = build_report(made, START)
    assert [(page["site"], page["hosts"]) for page in report.overview["hosts"]] == [
        ("ams", 250), ("ams", 50), ("fra", 250), ("fra", 50), (None, 250), (None, 50),
    ]  # fmt: skip
    names = [entry["name"] for page in report.hosts.values() for entry in page["hosts"]]
    assert len(names) == 1800
    assert report.overview["counts"]["hosts"] == len(set(names)) == 900
    assert report.overview["hosts"][1]["first"] > report.overview["hosts"][0]["last"]
