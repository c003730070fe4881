# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report has the stock rules with what there is for each, and how many units have the firmware level of their model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.schema import schema
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.assets import move_units, save_rules, set_levels
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.stock import StockRule
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.units import MoveOrder
from ansible_collections.tidegate.release.plugins.plugin_utils.report.files import write_report
from ansible_collections.tidegate.release.plugins.plugin_utils.report.html import render_overview, render_stock
from ansible_collections.tidegate.release.plugins.plugin_utils.report.model import build_report
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.journal import Journal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout
from schemas import assert_schema

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOLDER = Holder("ann", "machine", 4711, 99, "feedbeef")
MODEL = "R750 <i>"


@pytest.fixture
def cmdb(cmdb_url: str) -> Iterator[Cmdb]:
    """Six units, three in use and three in stock; of each three one was read lately, one long ago, and one never."""
    with Cmdb.open(cmdb_url, create=True) as opened:
        opened.put_cis([{"name": f"srv{number}"} for number in range(3)], "test")
        journal = Journal(opened)
        package = {"name": "bios", "version": "2.0", "digest": "sha256:" + "1" * 64}
        run = journal.begin("CHG1", package, [["srv0"]], Rollout(), HOLDER, NOW)
        with opened.begin() as connection:
            new = [MoveOrder("receive", f"T{n}", "Contoso", f"S{n}", MODEL, stockroom="ams-1") for n in range(6)]
            move_units(connection, [*new, *(MoveOrder("install", f"T{n}", ci=f"srv{n}") for n in range(3))], "ann", NOW, True)
            set_levels(connection, run.deployment, "bios", [(MODEL, "BIOS", "2.0"), ("OLD", "BIOS", "1.0")], NOW)
            rules = [StockRule(MODEL, "ams-1", 1, 4, 2, "Contoso & Co."), StockRule("PSU", "ams-1", 0, 2)]
            save_rules(connection, rules, "ann", NOW, True)
            t = schema()
            for tag, days in (("T0", 1), ("T1", 100), ("T3", 1), ("T4", 100)):
                number = connection.scalar(sa.select(t.asset.c.id).where(t.asset.c.tag == tag))
                row = {"asset_id": number, "component": "BIOS", "version": "2.0", "at": NOW - timedelta(days)}
                connection.execute(sa.insert(t.asset_firmware), row)
        yield opened


def test_the_report_has_each_rule_with_its_figures_and_each_level_with_who_has_it(cmdb: Cmdb, tmp_path: Path) -> None:
    made = build_report(cmdb, NOW, read_days=90)
    assert_schema("report", made.overview)
    ((name, page),) = made.stock.items()
    assert_schema("report_stock", page)
    assert name == "stock/1"
    assert [(rule["model"], rule["usable"], rule["short"], rule["to_order"], rule["unfit"]) for rule in page["rules"]] == [
        ("PSU", 0, True, 2, {}),
        (MODEL, 1, True, 4, {"not at level": 2}),
    ]
    counts = {level["model"]: (level["in_use"], level["in_stock"]) for level in page["levels"]}
    one_of_three = {"units": 3, "at_level": 1}
    assert counts == {MODEL: (one_of_three, one_of_three), "OLD": ({"units": 0, "at_level": 0},) * 2}
    assert made.overview["stock"]["short"] == 2
    assert f"Stock is low: {MODEL} in ams-1: 1 usable, 0 reserved, 0 on the way, 2 not at level" in "".join(made.overview["attention"])
    assert build_report(cmdb, NOW, read_days=120).stock["stock/1"]["rules"][1]["usable"] == 2
    html = render_stock(page)
    assert "R750 &lt;i&gt;" in html
    assert "<i>" not in html
    assert "1 of 3" in html
    assert 'href="stock/1.html"' in render_overview(made.overview, made.deployments)
    # The page goes when there is nothing more to say.
    write_report(made, tmp_path, write=True)
    assert json.loads((tmp_path / "stock/1.json").read_text()) == page
    assert write_report(made, tmp_path, write=True) == []
    with cmdb.begin() as connection:
        connection.execute(sa.delete(schema().stock_rule))
        connection.execute(sa.delete(schema().firmware_level))
    without = build_report(cmdb, NOW)
    assert without.stock == {}
    write_report(without, tmp_path, write=True)
    assert not list((tmp_path / "stock").iterdir())


def test_many_rules_are_several_pages_and_a_few_sentences(cmdb: Cmdb) -> None:
    with cmdb.begin() as connection:
        save_rules(connection, [StockRule(f"M{number:04}", "fra-1", 1, 2) for number in range(700)], "ann", NOW, True)
    made = build_report(cmdb, NOW)
    assert [len(page["rules"]) for page in made.stock.values()] == [500, 202]
    assert len(made.overview["stock"]["pages"]) == 2
    low = [sentence for sentence in made.overview["attention"] if sentence.startswith("Stock is low")]
    assert len(low) == 21
    assert low[-1] == "Stock is low for 682 more rules."
    assert max(len(render_stock(page)) for page in made.stock.values()) < 500_000
