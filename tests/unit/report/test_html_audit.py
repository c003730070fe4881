# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the newest audit came to is in the report, until another one is made."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.audits import save_audit
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.report.html import render_overview
from ansible_collections.tidegate.release.plugins.plugin_utils.report.model import build_report

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def difference(host: str | None, kind: str = "missing") -> dict[str, Any]:
    return {"host": host, "release": "hello", "kind": kind, "detail": "it is <b>gone</b>", "remedy": "find it"}


def test_the_newest_audit_is_in_the_report(tmp_path: Path) -> None:
    with Cmdb.open(str(tmp_path / "cmdb.sqlite"), create=True) as cmdb:
        before = build_report(cmdb, NOW).overview
        assert before["audit"] is None
        assert "No audit yet" in render_overview(before, {})
        found = [difference("web1"), difference("web2"), difference(None), difference("old1", "written_off")]
        save_audit(cmdb, 3, 4, found, "ann", NOW)
        named = build_report(cmdb, NOW).overview
        assert named["audit"] == {
            "at": "2026-03-01T12:00:00.000Z",
            "by": "ann",
            "compared": 3,
            "hosts": 4,
            "count": 4,
            "differences": found,
        }
        assert "The audit of 2026-03-01T12:00:00.000Z found 3 differences between hosts, CMDB and DSL." in named["attention"]
        page = render_overview(named, {})
        assert "3 of 4 hosts compared with the CMDB and the DSL by ann" in page
        assert "web1, web2, DSL, old1: it is &lt;b&gt;gone&lt;/b&gt;; find it" in page
        save_audit(cmdb, 4, 4, [], "ann", NOW + timedelta(hours=1))
        clean = build_report(cmdb, NOW).overview
        assert clean["attention"] == []
        assert "4 of 4 hosts compared with the CMDB and the DSL by ann, 2026-03-01 13:00:00 UTC: no differences" in render_overview(
            clean, {}
        )


def test_an_audit_of_a_fleet_that_is_all_wrong_stays_small(tmp_path: Path) -> None:
    with Cmdb.open(str(tmp_path / "cmdb.sqlite"), create=True) as cmdb:
        save_audit(cmdb, 0, 30_000, [difference(f"web{number}") for number in range(30_000)], "ann", NOW)
        audit = build_report(cmdb, NOW).overview["audit"]
    assert audit["count"] == 30_000
    assert len(audit["differences"]) == 200
