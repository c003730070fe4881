# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a plan says beside its waves: how much and how long, what is in the way, and who may decide."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.schema import schema
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.layout import OciLayout
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import load_package
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.outlook import outlook_lines, transfers
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.preview import preview
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.sources import Sources
from homes import NOW, Homes
from past import history
from seals import KEYS, pem


def shown(homes: Homes, policy: Path | None = None, **changes: Any) -> dict[str, Any]:
    release = {"name": "hello", "version": "1.0", "digest": homes.digest}
    rfc = homes.write("rfc", **{"release": release, "scope": "[?class=='server']", "approvals": [], **changes})
    with Sources(str(homes.dsl), str(homes.cmdb), policy and str(policy), NOW) as sources:
        return preview(sources, str(rfc))


def calendar(path: Path, summary: str, hours: int) -> None:
    start = NOW + timedelta(hours=hours)
    event = f"BEGIN:VEVENT\nUID:{summary}\nSUMMARY:{summary}\nDTSTART:{start:%Y%m%dT%H%M%SZ}\nDURATION:PT1H\nEND:VEVENT\n"
    path.write_text(f"BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:x\n{event}END:VCALENDAR\n")


def test_without_a_past_the_policy_says_how_long_it_takes(homes: Homes) -> None:
    document = shown(homes, homes.write("policy", rollout={"wave_minutes": 20}))
    estimate = document["estimate"]
    assert estimate["by"] == "no earlier deployment of hello to estimate from, so each wave is as long as the policy lets it be"
    assert estimate["seconds"] == 20 * 60 * len(document["waves"])
    assert estimate["waves"][0]["start"] == NOW.isoformat(timespec="minutes")
    assert estimate["waves"][1]["start"] == estimate["waves"][0]["end"]


def test_with_a_past_a_wave_takes_what_waves_took(homes: Homes) -> None:
    with Cmdb.open(str(homes.cmdb)) as cmdb, cmdb.begin() as connection:
        history(connection, 1, release="hello", rfc="CHG0000001")
        d = schema().deployment.c
        begun = connection.scalar(d.id.table.select().with_only_columns(d.created).where(d.id == 1))
        connection.execute(schema().deployment.update().where(d.id == 1).values(finished=begun + timedelta(minutes=20)))
    estimate = shown(homes, homes.write("policy", rollout={"wave_minutes": 60}))["estimate"]
    assert estimate["by"] == "by the last deployment of hello a wave takes about 10 min"
    assert estimate["seconds"] == 1200


def test_freezes_and_windows_of_its_time_are_named_and_others_not(homes: Homes) -> None:
    for name, hours in (("soon", 1), ("later", 400)):
        calendar(homes.path / f"{name}.ics", name, hours)
    policy = homes.write("policy", calendars={"freezes": ["soon.ics", "later.ics"]})
    document = shown(homes, policy)
    assert [(one["kind"], one["summary"]) for one in document["calendar"]] == [("freeze", "soon")]
    assert any(line.startswith("  freeze 'soon': ") for line in outlook_lines(document))


def test_it_says_what_a_gate_does_and_who_may_decide(homes: Homes) -> None:
    rollout = {"budget": {"wave": 1, "total": "10%"}, "on_failure": "hold"}
    people = {name: {"roles": ["change-manager"], "keys": [{"public": pem(KEYS[name])}]} for name in ("carl", "dora")}
    document = shown(homes, homes.write("policy", rollout=rollout, people=people, approvals={"normal": {"change-manager": 2}}))
    assert document["gates"][0] == (
        "after each wave: when more than 1 of its hosts, or more than 10% of all so far, are failed or lost, it holds, and a person decides"
    )
    asked = next(one for one in document["decide"] if one["what"] == "approve")
    assert (asked["role"], asked["count"]) == ("change-manager", 2)
    assert any(line.startswith("  to approve: 2 people as change-manager (carl, dora)") for line in outlook_lines(document))


def test_who_has_the_release_is_sent_nothing_and_who_has_none_all(homes: Homes) -> None:
    home = OciLayout.open(homes.dsl)
    package = load_package(home, homes.digest)
    sent = transfers(home, package, ["", homes.digest, "sha256:" + "0" * 64])
    assert sent[homes.digest].size == 0
    assert sent[""].size == sent["sha256:" + "0" * 64].size > 0
    document = shown(homes)
    assert {entry["bytes"] for wave in document["waves"] for entry in wave["hosts"]} == {sent[""].size}


def test_an_rfc_s_own_words_are_in_the_plan(homes: Homes) -> None:
    change = shown(homes, short_description="Say hello", backout_plan="Back to nothing.")["change"]
    assert (change["title"], change["backout_plan"]) == ("Say hello", "Back to nothing.")
    assert change["requested_by"]
