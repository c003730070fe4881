# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole site of a thousand deployments, each of a thousand hosts: how much work it is, and that a browser shows each of its pages."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import sqlalchemy as sa
from aged_cmdb import NOW, Age, build_aged
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.policy import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.schema import schema
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.report.figures_facts import read_figures
from ansible_collections.tidegate.release.plugins.plugin_utils.report.figures_page import REPORTED, write_figures_pages
from ansible_collections.tidegate.release.plugins.plugin_utils.report.files import write_report
from ansible_collections.tidegate.release.plugins.plugin_utils.report.model import build_report
from ansible_collections.tidegate.release.plugins.plugin_utils.report.site import with_library, with_site
from effort import cpu_seconds

_MANY = 1000


def _everywhere(connection: sa.Connection) -> None:
    """Have each deployment go to all hosts, and each release be on all of them, without what the journal says of each host."""
    t = schema()
    d, ci = t.deployment.c, t.ci.c
    connection.execute(t.deployment_host.delete())
    rows = sa.select(d.id, ci.name, sa.literal(2), ci.id, sa.literal("active"), sa.literal(""), d.finished).select_from(
        sa.join(t.deployment, t.ci, sa.true())
    )
    columns = ["deployment_id", "host", "wave", "position", "state", "detail", "updated"]
    connection.execute(t.deployment_host.insert().from_select(columns, rows, include_defaults=False))
    connection.execute(t.installation.delete())
    last = sa.select(sa.func.max(d.id).label("id")).group_by(d.release).subquery()
    live = sa.select(ci.id, d.release, d.version, d.digest, sa.literal("active"), d.id, d.finished).select_from(
        sa.join(t.deployment, last, last.c.id == d.id).join(t.ci, sa.true())
    )
    columns = ["ci_id", "release", "version", "digest", "state", "deployment_id", "since"]
    connection.execute(t.installation.insert().from_select(columns, live, include_defaults=False))


@pytest.mark.thorough
@pytest.mark.parametrize("releases", [3, 30])
def test_a_thousand_deployments_of_a_thousand_hosts_are_three_seconds_of_work(releases: int, tmp_path: Path) -> None:
    """With so many releases on each host, and with the page of figures: all that the report's module does without a library."""
    url, folder, policy = str(tmp_path / "cmdb.sqlite"), tmp_path / "report", load_policy(None)
    build_aged(url, Age(deployments=_MANY, cis=_MANY, hosts=10, releases=releases, planned=100))
    with Cmdb.open(url) as cmdb, cmdb.begin() as connection:
        _everywhere(connection)

    def work() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        with Cmdb.open(url) as cmdb, cmdb.at_one_moment() as moment:
            made = with_site(build_report(moment, NOW, past=True), moment, policy, NOW)
            figures = read_figures(moment, NOW, REPORTED, policy.spares.read_days)
        write_report(with_library(made, None, policy, NOW), folder, write=True)
        write_figures_pages(figures, folder, write=True)

    assert cpu_seconds(work) < 3
    pages = list(folder.rglob("*.html"))
    assert len(pages) > 100
    assert max(page.stat().st_size for page in pages) <= 500_000
    assert sum(page.read_text().count("<li><strong>app") for page in (folder / "hosts").glob("*.html")) == releases * _MANY
