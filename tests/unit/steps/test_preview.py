# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan before anybody runs it: what it shows, and what it says when it can't know."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import NotFoundError, TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.journal import Journal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout, Together
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.outlook import outlook_lines
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.plan import Reach, RunRequest, plan
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.preview import host_sentence, preview, preview_lines
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.sources import Sources
from homes import NOW, Homes


def shown(homes: Homes, policy: Path | None = None, **changes: Any) -> dict[str, Any]:
    release = {"name": "hello", "version": "1.0", "digest": homes.digest}
    rfc = homes.write("rfc", **{"release": release, "scope": "[?class=='server']", "approvals": [], **changes})
    with Sources(str(homes.dsl), str(homes.cmdb), policy and str(policy), NOW) as sources:
        return preview(sources, str(rfc))


def test_it_needs_no_approval_and_says_of_each_host_why(homes: Homes) -> None:
    document = shown(homes, homes.write("policy", rollout={"order_by": "site"}))
    assert list(preview_lines(document)) == [
        "CHG0030001: hello 1.0 to 2 hosts in 2 waves (1, 1)",
        "  not fewer than 2 waves: the canary and each of the steps (25%, 50%, 100%) end a wave, and 2 values of site come one by one",
        "  wave 1/2: web1: nothing -> 1.0; the canary, the first in order",
        "  wave 2/2: db1: nothing -> 1.0; site ams comes first",
        *outlook_lines(document),
    ]
    assert host_sentence(document, "db1") == "db1 is in wave 2 of 2, alone: site ams comes first; nothing -> 1.0"
    with pytest.raises(NotFoundError, match="web9 is not in the plan"):
        host_sentence(document, "web9")


def test_a_wave_waits_for_the_window_of_its_site(homes: Homes) -> None:
    windows = homes.path / "windows.ics"
    start = NOW + timedelta(minutes=30)
    event = f"BEGIN:VEVENT\nUID:1\nSUMMARY:night\nDTSTART:{start:%Y%m%dT%H%M%SZ}\nDURATION:PT2H\nEND:VEVENT\n"
    windows.write_text(f"BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:x\n{event}END:VCALENDAR\n")
    policy = homes.write("policy", rollout={"wave_minutes": 20}, calendars={"windows": ["windows.ics"]})
    starts = [wave["not_before"] for wave in shown(homes, policy)["waves"]]
    assert starts == [(start + timedelta(minutes=20 * number)).isoformat(timespec="minutes") for number in range(2)]
    windows.write_text("BEGIN:VCALENDAR\n")
    document = shown(homes, policy)
    assert [wave["not_before"] for wave in document["waves"]] == [None, None]
    assert any(line.startswith("it is not known when a wave can begin: ") and "windows.ics" in line for line in document["warnings"])


def test_the_instant_of_the_rfc_is_that_of_the_last_wave(homes: Homes) -> None:
    policy = homes.write("policy", rollout={"together": {}})
    instant = NOW + timedelta(hours=1)
    document = shown(homes, policy, instant=instant.isoformat())
    assert [wave["instant"] for wave in document["waves"]] == [None, instant.isoformat()]
    assert any(line.startswith(f"  wave 2/2, at the instant {instant.isoformat()}: ") for line in preview_lines(document))
    document = shown(homes, policy, instant=(NOW + timedelta(minutes=1)).isoformat())
    assert any("is before wave 2 can begin" in line for line in document["warnings"])
    with pytest.raises(TidegateError, match=r"is switched host by host; add it to rollout\.together\.releases"):
        shown(homes, homes.write("policy"), instant=instant.isoformat())


def test_a_quorum_that_the_budget_contradicts_is_no_plan(homes: Homes) -> None:
    rollout = {"canary": 2, "steps": [100], "order_by": None, "together": {"quorum": 1}}
    with pytest.raises(TidegateError, match=r"lets wave 1 switch without 1 of its 2 hosts, and rollout\.budget lets 0 of them fail"):
        shown(homes, homes.write("policy", rollout={**rollout, "budget": {"wave": 0, "total": 0}}))
    assert shown(homes, homes.write("policy", rollout={**rollout, "budget": {"wave": 1, "total": 1}}))["waves"]


COMPARING = {"minutes": 1, "metrics": [{"name": "latency", "query": "x", "compare": {"kind": "values"}}]}


def test_a_canary_too_small_to_compare_is_a_warning(homes: Homes) -> None:
    """With the size that could, when there is one; a run says it, too."""
    hosts = [f"h{number:02}" for number in range(20)]
    with Cmdb.open(str(homes.cmdb)) as cmdb:
        cmdb.put_cis([{"name": host, "class": "host"} for host in hosts], "test")
        rows = [{"ci": host, "release": "hello", "version": "0.9", "digest": "sha256:" + "a" * 64} for host in hosts]
        with cmdb.begin() as connection:
            cmdb.record_installations(connection, rows, "test", NOW)
    prometheus = {"address": {"environment": "PROMETHEUS_URL"}}
    for canary, said in ((1, ["can't give p below 0.05 whatever is measured; 2 of them could"]), (2, [])):
        policy = homes.write("policy", approvals={"normal": 1}, rollout={"canary": canary, "canary_bake": COMPARING}, prometheus=prometheus)
        warnings = shown(homes, policy, scope="[?class=='host']")["warnings"]
        assert [line.partition(f"{canary} against {20 - canary} hosts ")[2] for line in warnings if "compared" in line] == said
        with Sources(str(homes.dsl), str(homes.cmdb), str(policy), NOW) as sources:
            rfc = homes.write("rfc", release={"name": "hello", "version": "1.0", "digest": homes.digest}, scope="[?class=='host']")
            begun = plan(sources, RunRequest(str(rfc), Reach(hosts), False, lambda: ""))
        assert [line for line in begun.get("warnings", []) if "compared" in line] == [line for line in warnings if "compared" in line]


def test_what_would_not_be_cleared_is_a_warning_and_what_no_plan_can_keep_an_error(homes: Homes) -> None:
    with Cmdb.open(str(homes.cmdb)) as cmdb:
        cmdb.relate([("web1", "db1", "depends_on"), ("db1", "web1", "depends_on")], "test")
    with pytest.raises(TidegateError) as refused:
        shown(homes, homes.write("policy", rollout={"stay_up": {"groups": {"clusters": 1}}, "canary_hosts": ["web9"]}))
    assert str(refused.value).splitlines() == [
        "no host of the CMDB has clusters; correct rollout.stay_up.groups, or the CMDB",
        "the canary web9 is not among the hosts that get the release; correct rollout.canary_hosts, or the scope",
    ]
    with pytest.raises(NotFoundError, match="selects no CI, so there is nothing to plan"):
        shown(homes, scope="[?class=='mainframe']")


def test_the_instant_of_a_deployment_that_has_begun_is_asked_for_when_it_is_cleared_again(homes: Homes) -> None:
    policy, instant = homes.write("policy", rollout={"together": {}}), (NOW + timedelta(minutes=1)).isoformat()
    package = {"name": "hello", "version": "1.0", "digest": homes.digest}

    def said(control: str, rollout: Rollout) -> str:
        with Cmdb.open(str(homes.cmdb)) as cmdb:
            journal = Journal(cmdb)
            run = journal.begin("CHG0030001", package, [["web1"], ["db1"]], rollout, Holder.this_run(), NOW)
        found = homes.clear(policy, instant=instant).clearance.controls
        with Cmdb.open(str(homes.cmdb)) as cmdb:
            Journal(cmdb).order_backout(run, "because", NOW)
        return next(one.reason for one in found if one.name == control)

    assert "can't begin before" in said("window", Rollout(together=Together()))
    assert "is switched host by host" in said("plan", Rollout())
