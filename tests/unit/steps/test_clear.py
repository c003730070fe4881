# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts are gathered from real homes; a source that can't be read, or was tampered with, never lets an RFC pass."""

from __future__ import annotations

import json
import shutil
import tarfile
from datetime import timedelta
from pathlib import Path

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.chain import heads
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.layout import OciLayout
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import archive, load_package
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.journal import Journal
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.clear import Clearing
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.cmdb_verify import heads_in
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.plan import Reach, RunRequest, plan
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.sources import Sources, matter_of
from homes import HELLO, NOW, Homes, Write
from releases import write_release, write_role_release


def blocking(clearing: Clearing) -> dict[str, str]:
    assert not clearing.clearance.granted
    return {control.name: str(control.result) for control in clearing.clearance.controls if control.blocks}


SIGNED = ("signatures", "malware", "evidence", "verification", "rehearsal", "opinions")
PACKAGE = ("digest", "payload_archived", "payload_intact", "compatibility", "licences", "spares", "baseline", "data_host", "no_return")
UNSEEN = {"compatibility": "inconclusive", "licences": "inconclusive"}  # without a package that can be looked at


def test_an_rfc_in_order_is_cleared_with_the_cis_of_its_scope(homes: Homes) -> None:
    clearing = homes.clear()
    assert clearing.clearance.granted, clearing.clearance.text()
    assert [ci["name"] for ci in clearing.cis] == ["db1", "web1"]
    assert clearing.cis[0]["site"] == "fra"
    assert [ci["name"] for ci in homes.clear(scope="[?site=='ams'].name").cis] == ["web1"]


def test_what_is_signed_of_a_clearance_says_where_the_history_ended_then(homes: Homes) -> None:
    for name in ("web8", "web9"):
        with Cmdb.open(str(homes.cmdb)) as cmdb:
            cmdb.put_cis([{"name": name}], "test")
            with cmdb.read() as connection:
                seen = heads(connection)
        assert heads_in(homes.clear().summary(None, str(homes.dsl), "f" * 64)) == seen


def test_a_host_that_was_written_off_is_left_out_and_the_rfc_stays_what_people_decided_on(homes: Homes) -> None:
    before = homes.clear()

    def write_off(host: str) -> None:
        with Cmdb.open(str(homes.cmdb)) as cmdb, cmdb.begin() as connection:
            cmdb.write_off(connection, host, "its disk died", "carl", NOW, {})

    write_off("db1")
    clearing = homes.clear()
    assert clearing.clearance.granted, clearing.clearance.text()
    assert ("db1" in str(before.waves), clearing.waves, clearing.left_out) == (True, (("web1",),), ["db1"])
    assert [ci["name"] for ci in clearing.cis] == ["db1", "web1"]
    assert "1 written off and left out: db1" in str(clearing.document()["about"])
    assert clearing.rfc is not None
    assert before.rfc is not None
    assert matter_of(clearing.rfc, clearing.cis) == matter_of(before.rfc, before.cis)

    write_off("web1")
    clearing = homes.clear()
    assert blocking(clearing)["scope"] == "inconclusive"
    assert "every CI that the scope selects is written off" in clearing.clearance.text()


def test_an_rfc_for_another_digest_is_not_cleared(homes: Homes) -> None:
    other = {"name": "hello", "version": "1.0", "digest": "sha256:" + "0" * 64}
    assert blocking(homes.clear(release=other)) == {"digest": "fail"}


def test_a_version_that_is_not_archived_is_not_cleared(homes: Homes) -> None:
    found = blocking(homes.clear(release={"name": "hello", "version": "1.1", "digest": homes.digest}))
    assert found == {"digest": "inconclusive", "payload_archived": "fail", "payload_intact": "inconclusive", **UNSEEN}


def test_a_damaged_blob_is_not_cleared_and_named(homes: Homes) -> None:
    payload = json.loads(homes.blob(homes.digest).read_bytes())["layers"][0]["digest"]
    blob = homes.blob(payload)
    blob.write_bytes(blob.read_bytes()[::-1])
    clearing = homes.clear()
    assert blocking(clearing) == {"payload_intact": "fail", **UNSEEN}
    assert payload in clearing.clearance.text()


def test_a_missing_blob_is_not_cleared(homes: Homes) -> None:
    homes.blob(json.loads(homes.blob(homes.digest).read_bytes())["layers"][0]["digest"]).unlink()
    assert blocking(homes.clear()) == {"payload_intact": "fail", **UNSEEN}


def test_a_package_kept_under_the_name_of_another_release_is_not_cleared(homes: Homes) -> None:
    """As when an index is edited by hand: the digest that the RFC names is there, but it is something else."""
    index = homes.dsl / "index.json"
    index.write_text(index.read_text().replace('"hello:1.0"', '"hello:2.0"'))
    clearing = homes.clear(release={"name": "hello", "version": "2.0", "digest": homes.digest})
    assert blocking(clearing) == {"payload_intact": "fail", **UNSEEN}
    assert "what the DSL keeps as hello 2.0 is the package of hello 1.0" in clearing.clearance.text()


@pytest.mark.parametrize("swap", ["tag moved", "index swapped", "entries swapped"])
def test_a_tag_that_was_moved_behind_the_librarys_back_is_not_cleared(homes: Homes, tmp_path: Path, swap: str) -> None:
    """Both packages are whole and of this release; still it is not the one that was approved."""
    other = tmp_path / "other"
    shutil.copytree(HELLO, other)
    (other / "payload" / "new").write_text("new")
    if swap == "index swapped":  # for that of another library, which has this version with another content
        archive(other, OciLayout.create(tmp_path / "theirs"))
        shutil.copytree(tmp_path / "theirs", homes.dsl, dirs_exist_ok=True)
    else:
        manifest = other / "release.yml"
        manifest.write_text(manifest.read_text().replace('"1.0"', '"1.1"'))
        archive(other, OciLayout.open(homes.dsl))
        index = homes.dsl / "index.json"
        document = json.loads(index.read_text())
        one, two = document["manifests"]
        if swap == "tag moved":
            document["manifests"] = [two | {"annotations": one["annotations"]}]
        else:
            one["annotations"], two["annotations"] = two["annotations"], one["annotations"]
        index.write_text(json.dumps(document))
    found = blocking(homes.clear())
    assert found.pop("digest") == "fail"
    assert found == ({} if swap == "index swapped" else {"payload_intact": "fail", **UNSEEN})


def test_a_header_of_the_payload_that_was_renamed_in_place_is_not_cleared(homes: Homes) -> None:
    """What a host gets, documents and contents, says nothing of it: so each run that deploys looks at the tar before it plans."""
    layout = OciLayout.open(homes.dsl)
    document = json.loads(homes.blob(homes.digest).read_bytes())
    tar = bytearray(layout.read_blob(document["layers"][0]["digest"], 1 << 20))
    name = tarfile.TarInfo.frombuf(bytes(tar[:512]), "utf-8", "strict").name
    tar[0], checksum = tar[0] + 1, tar[148:154]
    tar[148:154] = b"%06o" % (int(checksum, 8) + 1)
    document["layers"][0] |= layout.put_blob(bytes(tar), document["layers"][0]["mediaType"]).to_json()
    forged = layout.put_manifest(json.dumps(document).encode())
    index = homes.dsl / "index.json"
    entry, *others = json.loads(index.read_text())["manifests"]
    index.write_text(json.dumps({"schemaVersion": 2, "manifests": [entry | {"digest": forged.digest, "size": forged.size}, *others]}))
    assert load_package(layout, forged.digest).files[0].path == name
    clearing = homes.clear(release={"name": "hello", "version": "1.0", "digest": forged.digest})
    assert blocking(clearing) == {"payload_intact": "fail", **UNSEEN}
    assert f"are not one tree: the payload has something else in place of {name}" in clearing.clearance.text()


def test_a_package_whose_config_no_manifest_could_give_is_not_cleared(homes: Homes) -> None:
    layout = OciLayout.open(homes.dsl)
    document = json.loads(homes.blob(homes.digest).read_bytes())
    config = json.loads(homes.blob(document["config"]["digest"]).read_bytes())
    forged = layout.put_blob(json.dumps(config | {"version": "1.1", "settings": {"../x": 1}}).encode(), document["config"]["mediaType"])
    descriptor = layout.put_blob(json.dumps(document | {"config": forged.to_json()}).encode(), document["mediaType"])
    layout.tag("hello", "1.1", descriptor)
    clearing = homes.clear(release={"name": "hello", "version": "1.1", "digest": descriptor.digest})
    assert blocking(clearing) == {"payload_intact": "fail", **UNSEEN}
    assert "'../x' can't be a key of settings" in clearing.clearance.text()


def test_a_role_that_reaches_beyond_itself_is_not_cleared_whoever_archived_it(
    homes: Homes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = write_role_release(write_release(tmp_path / "release", version="2.0"))
    (release / "ansible/app/tasks/check.yml").write_text("- debug:\n- meta: end_play\n")
    with monkeypatch.context() as patch:
        patch.setattr("ansible_collections.tidegate.release.plugins.plugin_utils.dsl.role_rules.check_role", lambda *_arguments: [])
        digest = archive(release, OciLayout.open(homes.dsl)).digest
    clearing = homes.clear(release={"name": "hello", "version": "2.0", "digest": digest})
    assert blocking(clearing) == {"payload_intact": "fail", **UNSEEN}
    assert "ansible/app/tasks/check.yml:2: meta: end_play reaches beyond this role's tasks" in clearing.clearance.text()


def test_a_release_with_a_role_is_cleared_and_its_deployment_knows_of_it(homes: Homes, tmp_path: Path) -> None:
    digest = archive(write_role_release(write_release(tmp_path / "release", version="2.0")), OciLayout.open(homes.dsl)).digest
    clearing = homes.clear(release={"name": "hello", "version": "2.0", "digest": digest})
    assert clearing.clearance.granted
    with Sources(str(homes.dsl), str(homes.cmdb), None, NOW) as sources:
        plan(sources, RunRequest(str(tmp_path / "rfc.yml"), Reach({"web1", "db1"}), write=True, interrupted=str))
        begun = Journal(sources.cmdb()).latest("CHG0030001")
    assert begun
    assert (begun.rollout.role, begun.rollout.tree) == ("app", True)


@pytest.mark.parametrize("harm", ["gone", "a file", "no library", "damaged index"])
def test_a_library_that_can_not_be_read_is_inconclusive(homes: Homes, harm: str) -> None:
    if harm == "damaged index":
        (homes.dsl / "index.json").write_text("[1")
    else:
        shutil.rmtree(homes.dsl)
    if harm == "a file":
        homes.dsl.write_text("x")
    elif harm == "no library":
        homes.dsl.mkdir()
    assert blocking(homes.clear()) == dict.fromkeys((*PACKAGE, "library"), "inconclusive")


@pytest.mark.parametrize("content", [None, b"", b"no database", b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_cmdb_that_can_not_be_read_is_inconclusive(homes: Homes, content: bytes | None) -> None:
    homes.cmdb.unlink()
    if content is not None:
        homes.cmdb.write_bytes(content)
    clearing = homes.clear()
    assert blocking(clearing) == dict.fromkeys(
        ("window", "conflicts", "payload_archived", "library", "scope", "plan", "debts", "compatibility"), "inconclusive"
    )
    assert clearing.cis == ()


@pytest.mark.parametrize("scope", ["[0]", "length(@)", "[*].site", "[*].nothing.x", "['nobody']", "sum(@)", "[0:0]", "`[1]`"])
def test_a_scope_that_gives_no_cis_of_the_cmdb_is_not_cleared(homes: Homes, scope: str) -> None:
    found = blocking(homes.clear(scope=scope))
    assert found.keys() - {"window", "conflicts", "compatibility", "plan"} == {"scope"}


def test_an_rfc_that_can_not_be_read_is_told_with_every_fault(homes: Homes) -> None:
    clearing = homes.clear(state="x", risk="y")
    assert blocking(clearing)["rfc_schema"] == "fail"
    assert "state is 'x'" in clearing.clearance.text()
    assert "risk is 'y'" in clearing.clearance.text()
    assert clearing.rfc is None


def test_a_policy_that_can_not_be_read_is_inconclusive(homes: Homes) -> None:
    about_the_change = {"approvals", "communication", "documentation", "duties", "freeze", "responsibilities", "version", "window", "plan"}
    assert blocking(homes.clear(policy=homes.path / "none.yml")) == dict.fromkeys(
        about_the_change | {"library", "signatures", "malware", "evidence", "verification", "rehearsal", "opinions"}, "inconclusive"
    )


def test_what_a_policy_that_can_not_be_read_leaves_open_is_blamed_on_it(homes: Homes) -> None:
    clearing = homes.clear(policy=homes.path / "none.yml")
    reasons = {control.name: control.reason for control in clearing.clearance.controls}
    assert reasons["window"] == reasons["freeze"] == reasons["approvals"]
    assert reasons["window"].startswith("the policy could not be read: ")


def test_a_policy_decides_how_many_approve(homes: Homes) -> None:
    assert blocking(homes.clear(policy=homes.write("policy"))) == {"approvals": "fail"}


def test_documentation_that_the_policy_asks_for_has_to_be_there_and_say_something(homes: Homes, write: Write, tmp_path: Path) -> None:
    def policy(*names: str) -> Path:
        return write("policy", approvals=..., documentation={"minor": list(names)})

    assert homes.clear(policy("README*")).clearance.granted
    clearing = homes.clear(policy("README*", "RUNBOOK*"))
    assert blocking(clearing) == {"documentation": "fail"}
    assert "is named RUNBOOK*" in clearing.clearance.text()

    release = tmp_path / "empty"
    shutil.copytree(HELLO, release)
    manifest = release / "release.yml"
    manifest.write_text(manifest.read_text().replace("[README.md]", "[README.md, RUNBOOK.md]").replace('"1.0"', '"1.1"'))
    (release / "RUNBOOK.md").touch()
    digest = archive(release, OciLayout.open(homes.dsl)).digest
    clearing = homes.clear(policy("README*", "RUNBOOK*"), release={"name": "hello", "version": "1.1", "digest": digest})
    assert blocking(clearing) == {"documentation": "fail"}


def test_the_rules_for_this_release_and_risk_apply(homes: Homes) -> None:
    """The example is a minor release, and the RFC's risk is 3."""
    rule = {"when": {"release": ["minor"], "risk": [3]}, "documentation": ["*operations*"]}
    asks_more = homes.write("policy", approvals=..., rules=[rule])
    assert blocking(homes.clear(policy=asks_more)) == {"documentation": "fail"}
    others = [{**rule, "when": {"release": ["major"]}}, {**rule, "when": {"risk": [2]}}, {**rule, "when": {"change": ["emergency"]}}]
    assert homes.clear(policy=homes.write("policy", approvals=..., rules=others)).clearance.granted


def test_the_calendars_beside_the_policy_are_held_against_the_whole_plan(homes: Homes) -> None:
    """The plan has a canary at ams and a wave at fra, each of at most 30 minutes; the RFC's window is open for longer."""
    start = NOW + timedelta(minutes=30)
    event = f"BEGIN:VEVENT\nUID:1\nSUMMARY:sale\nLOCATION:%s\nDTSTART:{start:%Y%m%dT%H%M%SZ}\nDURATION:PT1H\nEND:VEVENT\n"
    with Cmdb.open(str(homes.cmdb)) as cmdb:
        cmdb.put_cis([{"name": "router9", "class": "router", "site": "lon"}], "test")
    (homes.path / "own").mkdir()
    calendar = homes.path / "own" / "freezes.ics"
    policy = homes.write("policy", approvals=..., rollout={"canary": 1, "wave_minutes": 30}, calendars={"freezes": ["own/*.ics"]})

    def write(site: str) -> Clearing:
        calendar.write_text(f"BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:x\n{event % site}END:VCALENDAR\n")
        return homes.clear(policy=policy)

    assert write("lon").clearance.granted
    found = write("ams")
    assert blocking(found) == {"freeze": "fail"}
    assert "frozen by 'sale' (freezes.ics) at ams from" in found.clearance.text()
    calendar.unlink()
    assert blocking(homes.clear(policy=policy)) == {"window": "inconclusive", "freeze": "inconclusive"}


def test_more_waves_than_the_policy_likes_are_a_note_and_stand_in_nobodys_way(homes: Homes) -> None:
    clearing = homes.clear(policy=homes.write("policy", approvals=..., rollout={"max_waves": 1}))
    assert clearing.clearance.granted
    assert any(
        note.startswith("the plan has 2 waves, more than max_waves of the policy (1); not fewer than 2 are possible, for")
        for note in clearing.clearance.notes
    )
    assert homes.clear().clearance.notes == ()


def test_what_no_plan_can_keep_is_one_refusal_with_every_fault(homes: Homes) -> None:
    stay_up = {"groups": {"name": "75%"}, "services": {"shop": 1}}
    clearing = homes.clear(policy=homes.write("policy", approvals=..., rollout={"stay_up": stay_up, "canary_hosts": ["web9"]}))
    assert blocking(clearing) == {"plan": "fail", "window": "inconclusive"}
    said = "\n".join(clearing.clearance.details(complete=True)).partition("window:")[0]
    for fault in (
        "name db1 has 1 host, 25% of 1 is none, so db1 can't change",
        "name web1 has 1 host, 25% of 1 is none, so web1 can't change",
        "the service shop depends on no host of the CMDB",
        "the canary web9 is not among the hosts that get the release",
    ):
        assert said.count(fault) == 1
    assert clearing.clearance.sentence() == "CHG0030001 is not cleared: plan stands in the way."


def test_what_the_release_itself_can_not_keep_is_said_with_the_rest(homes: Homes) -> None:
    rollout = {"confirm_minutes": 0.01, "canary_hosts": ["web9"]}
    clearing = homes.clear(policy=homes.write("policy", approvals=..., rollout=rollout))
    said = "\n".join(clearing.clearance.details(complete=True))
    assert "hosts would go back by themselves 0.6 seconds after they were switched, and hello 1.0 may take" in said
    assert "the canary web9 is not among the hosts that get the release" in said


def test_what_stays_up_is_found_in_the_cmdb_and_not_in_the_scope_alone(homes: Homes) -> None:
    with Cmdb.open(str(homes.cmdb)) as cmdb:
        cmdb.put_cis([{"name": "web2", "class": "spare", "site": "ams"}, {"name": "shop", "class": "business_service"}], "test")
        cmdb.relate([("shop", "web1", "depends_on"), ("shop", "db1", "depends_on"), ("web2", "shop", "depends_on")], "test")
    rollout = {"order_by": None, "canary": "100%", "stay_up": {"services": {"shop": "50%"}}}
    clearing = homes.clear(policy=homes.write("policy", approvals=..., rollout=rollout))
    assert clearing.waves == (("db1",), ("web1",))
    assert clearing.plan is not None
    assert clearing.plan.reason_of()["web1"] == "service shop keeps 1 of 2 up"
