# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook approve, as people without a change system use it: what they sign is what is cleared, and nothing else is."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
import yaml
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.schema import schema
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.source import load_rfc
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.approve import load_decision_request, record_decision
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.clear import Wave, check_wave_start, refuse_commands
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.sources import Sources
from documents import EXAMPLES
from office import Office

NONE = "sha256:" + "0" * 64


def test_what_was_approved_is_cleared_until_it_is_something_else(office: Office) -> None:
    first = office.play("tidegate.release.clear")
    assert first.startswith("2 ")
    assert "0 of 1 approvals by the change-manager" in first
    assert "0 of 1 approvals by the service-owner" in first

    checked = office.approve("carl", "--check")
    assert "carl approved CHG0030001 as change-manager: hello 1.0 on 1 CI" in checked
    assert "0 of 1 approvals by the change-manager" in office.play("tidegate.release.clear")
    for name, role in (("carl", "change-manager"), ("dora", "service-owner")):
        said = office.approve(name)
        assert said.startswith("0 ")
        assert f"{name} approved CHG0030001 as {role}: hello 1.0 on 1 CI" in said
        assert "changed=1" in said
    assert "changed=0" in office.approve("dora")
    assert "CHG0030001 is cleared" in office.play("tidegate.release.clear")

    office.edit(state=-1, on_hold=False)  # where it stands is not what was approved
    assert "CHG0030001 is cleared" in office.play("tidegate.release.clear")
    with Cmdb.open(str(office.path / "cmdb.sqlite")) as cmdb:
        cmdb.put_cis([{"name": "web2", "class": "server", "site": "ams"}], "test")
    more = office.play("tidegate.release.clear")
    assert more.startswith("2 ")
    assert "the scope selects other CIs than were approved, now also 'web2'" in more
    assert "changed=1" in office.approve("carl")
    assert "changed=1" in office.approve("dora")
    assert "CHG0030001 is cleared" in office.play("tidegate.release.clear")
    office.edit(backout_plan="None, really.")
    assert "CHG0030001 was edited after it was approved" in office.play("tidegate.release.clear")


def test_one_rejection_stops_it_until_it_is_taken_back(office: Office) -> None:
    for name in ("carl", "dora"):
        assert office.approve(name).startswith("0 ")
    assert "rita rejected CHG0030001 as change-manager" in office.approve(
        "rita", tidegate_decision="rejected", tidegate_comment="'Not before the elections'"
    )
    stopped = office.play("tidegate.release.clear")
    assert stopped.startswith("2 ")
    assert "rejected by rita (change-manager)" in stopped
    office.edit(type="emergency")  # on which others decide, and she can still take it back
    assert "rejected by rita (change-manager)" in office.play("tidegate.release.clear")
    assert "the policy takes the approvals of emergency RFCs from the RFC itself" in office.approve("carl")
    assert office.approve("rita").startswith("0 ")
    assert "rejected by" not in office.play("tidegate.release.clear")


@pytest.mark.parametrize(
    ("name", "changes", "variables", "sentence"),
    [
        ("rita", {}, {}, "rita is the requester and can't approve CHG0030001; let somebody else decide who has the role change-manager"),
        ("mallory", {}, {}, "the policy gives this key to nobody, so what it signs counts for nothing"),
        ("dora", {}, {"tidegate_role": "change-manager"}, "and of those dora has service-owner; let others decide"),
        ("carl", {"scope": "[?site=='nowhere']"}, {}, "the scope of CHG0030001 selects no CI"),
        (
            "carl",
            {"release": {"name": "hello", "version": "1.0", "digest": f"sha256:{'0' * 64}"}},
            {},
            f"CHG0030001 names sha256:{'0' * 64}, but",
        ),
        ("carl", {"type": "emergency"}, {}, "the policy takes the approvals of emergency RFCs from the RFC itself"),
    ],
)
def test_what_would_count_for_nothing_is_not_signed(
    office: Office, name: str, changes: dict[str, Any], variables: dict[str, str], sentence: str
) -> None:
    office.edit(**changes)
    said = office.approve(name, **variables)
    assert said.startswith("2 ")
    assert sentence in said
    assert "Traceback" not in said


def test_a_control_is_waived_by_who_may_for_a_reason_and_a_time(office: Office) -> None:
    path = office.path / "policy.yml"
    policy = yaml.safe_load(path.read_text()) | {
        "documentation": {"minor": ["*operations*"]},
        "waivers": {"documentation": {"role": "service-owner"}, "rehearsal": {"role": "service-owner"}},
        "approvals": {"normal": 0},
    }
    path.write_text(yaml.safe_dump(policy))
    assert "documentation: no documentation with something in it is named *operations*" in office.play("tidegate.release.clear")
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat(timespec="seconds")
    waiver = {"tidegate_control": "documentation", "tidegate_reason": "'They know.'", "tidegate_expires": tomorrow}

    def waive(name: str, **changes: str) -> str:
        return office.play("tidegate.release.waive", tidegate_key=office.path / f"{name}.pem", **{**waiver, **changes})

    for name, changes, sentence in (
        ("carl", {}, "documentation is waived by people with the role service-owner, which is not carl's"),
        (
            "dora",
            {"tidegate_control": "digest"},
            "the policy lets nobody waive 'digest' of a normal RFC; controls that can be waived are documentation",
        ),
        ("dora", {"tidegate_control": "rehearsal"}, "lets nobody waive 'rehearsal' of a normal RFC"),
        ("dora", {"tidegate_expires": "2020-01-01T00:00:00Z"}, "has expired already; give a time to come"),
        ("dora", {"tidegate_expires": "tomorrow"}, "expires is 'tomorrow'; write it like 2026-03-01T22:00:00+01:00"),
        ("dora", {"tidegate_reason": "' '"}, "a waiver without a reason counts for nothing"),
    ):
        said = waive(name, **changes)
        assert said.startswith("2 ")
        assert sentence in said
    assert "changed=1" in waive("dora")
    assert "changed=0" in waive("dora")
    cleared = office.play("tidegate.release.clear")
    assert cleared.startswith("0 ")
    assert "waived documentation" in cleared
    assert "waived by dora until" in cleared


def test_who_built_it_signs_no_approval_or_waiver_that_would_not_count(office: Office) -> None:
    path = office.path / "policy.yml"
    policy = yaml.safe_load(path.read_text()) | {"waivers": {"documentation": {"role": "change-manager"}}}
    path.write_text(yaml.safe_dump({**policy, "separate": ["builder", "approver"]}))
    built = office.play(
        "tidegate.release.archive", tidegate_release=EXAMPLES / "hello", tidegate_key=office.path / "carl.pem", tidegate_examine="false"
    )
    assert built.startswith("0 "), built
    said = office.approve("carl")
    assert said.startswith("2 ")
    assert "carl is who signed the package and can't approve CHG0030001; let somebody else decide who has the role change-manager" in said
    waiver = {"tidegate_control": "documentation", "tidegate_reason": "x", "tidegate_expires": "2999-01-01T00:00:00Z"}
    assert "carl is who signed the package and can't waive" in office.play(
        "tidegate.release.waive", tidegate_key=office.path / "carl.pem", **waiver
    )
    assert office.approve("carl", tidegate_decision="rejected").startswith("0 ")
    assert "rejected by carl (change-manager)" in office.play("tidegate.release.clear")
    assert office.approve("carl").startswith("0 ")  # which takes that back, and no more
    assert "0 of 1 approvals by the change-manager" in office.play("tidegate.release.clear")
    assert office.approve("rita").startswith("0 ")  # whom nothing keeps from it here, though she is the requester
    assert "approvals by the change-manager" not in office.play("tidegate.release.clear")  # only the service-owner's is lacking


def test_a_rule_s_approval_is_given_by_who_has_its_role(office: Office) -> None:
    path = office.path / "policy.yml"
    policy = yaml.safe_load(path.read_text())
    policy["approvals"]["normal"] = {"change-manager": 1}
    path.write_text(yaml.safe_dump(policy))
    assert "dora has none of them" in office.approve("dora")
    path.write_text(yaml.safe_dump({**policy, "rules": [{"when": {"release": ["minor"], "risk": [4]}, "approvals": {"service-owner": 1}}]}))
    assert office.approve("carl").startswith("0 ")
    assert "0 of 1 approvals by the service-owner" in office.play("tidegate.release.clear")
    assert "dora approved CHG0030001 as service-owner" in office.approve("dora")
    assert "CHG0030001 is cleared" in office.play("tidegate.release.clear")


def test_a_freeze_that_was_waived_stops_neither_the_clearance_nor_the_gate_until_the_waiver_expires(office: Office) -> None:
    path, now = office.path / "policy.yml", datetime.now(UTC).replace(microsecond=0)
    event = f"UID:1\nSUMMARY:sale\nDTSTART:{now - timedelta(hours=1):%Y%m%dT%H%M%SZ}\nDURATION:PT9H"
    (office.path / "sale.ics").write_text(f"BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:x\nBEGIN:VEVENT\n{event}\nEND:VEVENT\nEND:VCALENDAR\n")
    policy = yaml.safe_load(path.read_text()) | {"calendars": {"freezes": ["*.ics"]}, "approvals": {"normal": 0}}
    path.write_text(yaml.safe_dump(policy | {"waivers": {"freeze": {"role": "service-owner"}}}))

    def gate(at: datetime) -> str:
        with Sources(str(office.path / "dsl"), str(office.path / "cmdb.sqlite"), str(path), at) as sources:
            return check_wave_start(sources, load_rfc(office.path / "rfc.yml"), Wave(("web1",))).stop

    assert "freeze: frozen by 'sale' (sale.ics) from" in office.play("tidegate.release.clear")
    assert "frozen by 'sale'" in gate(now)
    expires = now + timedelta(minutes=30)
    given = {"tidegate_control": "freeze", "tidegate_reason": "'It sells nothing.'", "tidegate_expires": expires.isoformat()}
    assert "changed=1" in office.play("tidegate.release.waive", tidegate_key=office.path / "dora.pem", **given)
    assert "waived freeze: frozen by" in office.play("tidegate.release.clear")
    assert gate(datetime.now(UTC)) == ""
    assert "frozen by 'sale'" in gate(expires)


def test_a_command_of_an_rfc_runs_only_as_it_was_signed(office: Office) -> None:
    command = {"name": "backed up", "command": ["true"], "timeout": 5}
    office.edit(objectives=[command])
    homes = (str(office.path / "dsl"), str(office.path / "cmdb.sqlite"), str(office.path / "policy.yml"))

    def run(**changes: Any) -> None:
        rfc = load_rfc(office.path / "rfc.yml")
        with Sources(*homes, datetime.now(UTC)) as sources:
            refuse_commands(sources, replace(rfc, **changes), ["web1"])

    office.approve("carl")
    office.approve("dora")
    said = office.play("tidegate.release.clear")
    assert said.startswith("2 ")
    assert "the policy lets no RFC run a command on the controller, as the objective 'backed up' is" in said
    with pytest.raises(TidegateError, match="the policy lets no RFC run a command"):
        run()
    policy = office.path / "policy.yml"
    policy.write_text(yaml.safe_dump(yaml.safe_load(policy.read_text()) | {"objectives": {"commands": True}}))
    assert office.play("tidegate.release.clear").startswith("0 ")
    run()
    with pytest.raises(TidegateError, match="0 of 1 approvals"):
        run(fingerprint="of an RFC with another command")
    policy.unlink()
    with pytest.raises(TidegateError, match="the policy could not be read"):
        run()


def test_the_history_says_who_decided_and_whether_that_was_all(office: Office) -> None:
    for name in ("carl", "dora", "dora"):
        assert office.approve(name).startswith("0 ")
    # What has all approvals gets no further one that says so: that would be a word to rules to begin again.
    question = load_decision_request(
        str(office.path / "rfc.yml"), str(office.path / "dsl"), str(office.path / "cmdb.sqlite"), str(office.path / "policy.yml")
    )
    record_decision(str(office.path / "cmdb.sqlite"), question, ("zoe", "change-manager", "approved"), datetime.now(UTC), new=True)
    assert office.approve("rita", tidegate_decision="rejected").startswith("0 ")
    lines = [
        ("carl", "rfc approved", False),
        ("dora", "rfc approved", True),
        ("zoe", "rfc approved", False),
        ("rita", "rfc rejected", False),
    ]
    url = str(office.path / "cmdb.sqlite")
    assert _decisions(url) == lines

    # As if it had been killed when carl had signed, and run again.
    question = load_decision_request(str(office.path / "rfc.yml"), str(office.path / "dsl"), url, str(office.path / "policy.yml"))
    for name, added in (("carl", []), ("someone", [("someone", "rfc approved", False)]), ("someone", [])):
        lines += added
        assert record_decision(url, question, (name, "change-manager", "approved"), datetime.now(UTC), new=False) == []
        assert _decisions(url) == lines


def _decisions(url: str) -> list[tuple[str, str, bool]]:
    of = schema().history.c
    with Cmdb.open(url) as cmdb, cmdb.read() as connection:
        rows = connection.execute(sa.select(of.actor, of.event, of.data).where(of.event.startswith("rfc ")).order_by(of.seq)).all()
    assert all(row.data["rfc"] == "CHG0030001" for row in rows)
    return [(row.actor, row.event, row.data["complete"]) for row in rows]
