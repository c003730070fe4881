# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook clear, as a user runs it with the examples: it decides, says why, and changes nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import forked
import pytest
import yaml
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.evaluate import CONTROLS
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.descriptors import MANIFEST
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.layout import OciLayout
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import archive
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.envelope import IN_TOTO, open_envelope
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.statement import TEST_RESULT
from ansible_collections.tidegate.release.plugins.plugin_utils.keys import load_public, load_signer
from documents import EXAMPLES, example_rfc, policy_of, write_document
from schemas import assert_schema
from securesystemslib.dsse import Envelope


@pytest.fixture
def rfc(tmp_path: Path) -> Path:
    """The example of an RFC, made to be in order beside a DSL and a CMDB."""
    digest = archive(EXAMPLES / "hello", OciLayout.create(tmp_path / "dsl")).digest
    with Cmdb.open(str(tmp_path / "cmdb.sqlite"), create=True) as cmdb:
        cmdb.put_cis([{"name": "web1", "class": "server", "site": "ams"}], "test")
    return write_document(tmp_path / "rfc.yml", example_rfc(digest))


def test_a_scope_that_selects_what_is_no_host_is_not_cleared(rfc: Path) -> None:
    with Cmdb.open(str(rfc.parent / "cmdb.sqlite")) as cmdb:
        cmdb.put_cis([{"name": "rack7", "class": "rack", "site": "ams"}], "test")
    change(rfc, scope="[?site=='ams']")
    done = play(rfc)
    assert done.returncode != 0
    said = " ".join(done.stdout.split())
    assert "the scope selects what is no host: rack7 (rack)" in said
    assert "narrow the scope; if it is one, give it a class that is one, or name its class in host_classes of the policy" in said


def change(path: Path, **changes: object) -> None:
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))


def play(rfc: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    homes = {
        "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
        "TIDEGATE_DSL": str(rfc.parent / "dsl"),
        "TIDEGATE_CMDB": str(rfc.parent / "cmdb.sqlite"),
        "TIDEGATE_RFC": str(rfc),
    }
    command = ["ansible-playbook", "tidegate.release.clear", "-i", "localhost,", *options]
    return forked.run(command, {**os.environ, "ANSIBLE_NOCOLOR": "1", **homes, **environment}, timeout=120)


def content(folder: Path) -> dict[str, str]:
    """Every file below, the write-ahead files of SQLite left out."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.endswith(("-wal", "-shm")))
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def test_an_rfc_in_order_is_cleared_and_nothing_is_changed(rfc: Path) -> None:
    before = content(rfc.parent)
    done = play(rfc)
    assert done.returncode == 0, done.stdout
    assert "CHG0030001 is cleared: hello 1.0; 15 controls pass." in done.stdout
    assert "changed=0" in done.stdout
    assert play(rfc, "--check").returncode == 0
    assert content(rfc.parent) == before


def test_variables_go_before_the_environment(rfc: Path) -> None:
    done = play(rfc, "-e", f"tidegate_rfc={rfc}", "-e", f"tidegate_dsl={rfc.parent / 'dsl'}", TIDEGATE_RFC="/none", TIDEGATE_DSL="/none")
    assert done.returncode == 0, done.stdout


def test_all_that_blocks_is_told_and_the_play_fails(rfc: Path) -> None:
    change(rfc, on_hold=True, backout_plan=" ", approvals=[])
    before = content(rfc.parent)
    done = play(rfc)
    assert done.returncode == 2, done.stdout
    assert "CHG0030001 is not cleared: rfc_state, approvals and backout_plan stand in the way." in done.stdout
    assert done.stdout.count("CHG0030001 is on hold") == 1
    assert "not_applicable" not in done.stdout
    assert "have it approved by 1 more, not by rita" in done.stdout
    assert "write in backout_plan how the change is undone" in done.stdout
    assert "Traceback" not in done.stdout
    assert content(rfc.parent) == before


def test_every_fault_of_an_rfc_is_told_with_its_line(rfc: Path) -> None:
    rfc.write_text((EXAMPLES / "rfc.yml").read_text().replace("on_hold:", "onhold:").replace("2027-03-02", "2027-02-02"))
    done = play(rfc)
    assert done.returncode == 2, done.stdout
    assert f"{rfc}:10: onhold is not a key of the RFC; did you mean on_hold?" in done.stdout
    assert f"{rfc}:17: the window ends before it starts" in done.stdout
    assert "Traceback" not in done.stdout


def test_a_home_that_is_not_given_is_asked_for(rfc: Path) -> None:
    done = play(rfc, TIDEGATE_DSL="")
    assert done.returncode == 2, done.stdout
    assert "set tidegate_dsl or the environment variable TIDEGATE_DSL" in done.stdout
    assert "Traceback" not in done.stdout


def test_a_clearance_is_kept_as_page_data_and_signed_summary(rfc: Path) -> None:
    folder, key = rfc.parent / "clearance", rfc.parent / "key.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(key)], check=True, capture_output=True)
    key.chmod(0o600)
    before = content(rfc.parent)
    assert "changed=1" in play(rfc, "--check", "-e", f"tidegate_clearance={folder}").stdout
    assert content(rfc.parent) == before
    done = play(rfc, "-e", f"tidegate_clearance={folder}", TIDEGATE_KEY=str(key))
    assert done.returncode == 0, done.stdout
    data = json.loads((folder / "clearance.json").read_text())
    assert_schema("clearance", data)
    assert (data["granted"], data["rfc"], len(data["controls"])) == (True, "CHG0030001", len(CONTROLS))
    page = (folder / "clearance.html").read_text()
    assert "CHG0030001 is cleared" in page
    assert all(control["name"] in page for control in data["controls"])
    public = subprocess.run(["openssl", "pkey", "-in", str(key), "-pubout"], check=True, capture_output=True, text=True).stdout
    sealed = open_envelope((folder / "clearance.dsse.json").read_bytes())
    assert sealed.signed_by(load_public(public))
    assert sealed.statement.digest == data["digest"]
    assert sealed.statement.type == "https://slsa.dev/verification_summary/v1"
    assert sealed.statement.predicate["verificationResult"] == "PASSED"
    assert sealed.statement.predicate["https://tidegate.example/clearance/v1"]["cis"] == ["web1"]
    # The same clearance is not written again; one that is not granted is.
    again = play(rfc, "-e", f"tidegate_clearance={folder}", TIDEGATE_KEY=str(key))
    assert "changed=0" in again.stdout
    # What is signed also says what is on no page: how the RFC and the policy read, and which CIs there are.
    assert sealed.statement.predicate["timeVerified"].endswith("Z")
    change(rfc, backout_plan="Another one.")
    assert "changed=1" in play(rfc, "-e", f"tidegate_clearance={folder}", TIDEGATE_KEY=str(key)).stdout
    anew = open_envelope((folder / "clearance.dsse.json").read_bytes()).statement.predicate["https://tidegate.example/clearance/v1"]
    assert anew["rfcDigest"] != sealed.statement.predicate["https://tidegate.example/clearance/v1"]["rfcDigest"]
    for damage in (b"{}", (folder / "clearance.dsse.json").read_bytes().replace(b'"sig":"', b'"sig":"AAAA')):
        (folder / "clearance.dsse.json").write_bytes(damage)
        assert "changed=1" in play(rfc, "-e", f"tidegate_clearance={folder}", TIDEGATE_KEY=str(key)).stdout
        assert open_envelope((folder / "clearance.dsse.json").read_bytes()).signed_by(load_public(public))
    change(rfc, on_hold=True)
    refused = play(rfc, "-e", f"tidegate_clearance={folder}", TIDEGATE_KEY=str(key))
    assert refused.returncode == 2
    assert open_envelope((folder / "clearance.dsse.json").read_bytes()).statement.predicate["verificationResult"] == "FAILED"
    assert "CHG0030001 is not cleared" in (folder / "clearance.html").read_text()


def test_what_others_signed_counts_and_what_is_not_understood_is_named(rfc: Path) -> None:
    folder, key = rfc.parent / "clearance", rfc.parent / "key.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(key)], check=True, capture_output=True)
    public = subprocess.run(["openssl", "pkey", "-in", str(key), "-pubout"], check=True, capture_output=True, text=True).stdout
    rules = policy_of(
        identity={"policy": "https://team.example/policy.yml", "verifier": "https://team.example/changes"},
        people={"ci": {"roles": ["tester"], "keys": [{"public": public}]}},
        trust={"test-result": {"role": "tester"}},
    )
    write_document(rfc.parent / "policy.yml", rules)
    digest = yaml.safe_load(rfc.read_text())["release"]["digest"]
    subject = [{"name": "other", "digest": {"sha256": "0" * 64}}, {"name": "hello.tar", "digest": {"sha256": digest[7:]}}]
    predicate = {"result": "PASSED", "configuration": [], "passedTests": ["one"]}
    statement = {"_type": "https://in-toto.io/Statement/v0.1", "subject": subject, "predicateType": TEST_RESULT, "predicate": predicate}
    made = Envelope(json.dumps(statement).encode(), IN_TOTO, {})
    signature = load_signer(str(key)).sign(made.pae())
    envelope = json.dumps({**made.to_dict(), "signatures": [{"sig": base64.b64encode(bytes.fromhex(signature.signature)).decode()}]})
    (rfc.parent / "result.json").write_text(envelope)
    home = OciLayout.open(rfc.parent / "dsl")
    note = {"artifactType": "application/vnd.cncf.notary.signature", "subject": {"mediaType": MANIFEST, "digest": digest, "size": 1}}
    home.refer(digest, json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, **note}).encode())

    given = {"TIDEGATE_POLICY": str(rfc.parent / "policy.yml"), "TIDEGATE_KEY": str(key)}
    assert play(rfc, **given).returncode == 2
    homes = {"dsl": str(rfc.parent / "dsl"), "policy": given["TIDEGATE_POLICY"]}
    options = {"name": "hello", "version": "1.0", "envelope": str(rfc.parent / "result.json"), **homes}
    attached = subprocess.run(
        [str(Path(sys.executable).with_name("ansible")), "localhost", "-m", "tidegate.release.attestation", "-a", json.dumps(options)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert '"changed": true' in attached
    assert '"ci"' in attached
    done = play(rfc, "-e", f"tidegate_clearance={folder}", **given)
    assert done.returncode == 0, done.stdout
    said = " ".join(done.stdout.split())
    assert "[WARNING]: not all that is beside hello 1.0 is evidence about it: sha256:" in said
    assert "counts for nothing: it is of the type 'application/vnd.cncf.notary.signature', not a signed statement" in said
    predicate = dict(open_envelope((folder / "clearance.dsse.json").read_bytes()).statement.predicate)
    assert predicate["verifier"] == {"id": "https://team.example/changes"}
    assert predicate["policy"]["uri"] == "https://team.example/policy.yml"
    (entry,) = predicate["inputAttestations"]
    assert Path(entry["uri"].removeprefix("file://")).read_text() == envelope
    assert hashlib.sha256(envelope.encode()).hexdigest() == entry["digest"]["sha256"]


def test_a_control_of_the_policy_s_own_decides_too(rfc: Path) -> None:
    path = rfc.parent / "policy.yml"
    own = {"name": "small", "that": ["cmdb.cis | length < 2", "rfc.risk == 4"], "reason": "it is too big", "remedy": "make it smaller"}
    write_document(path, policy_of(controls=[own]))
    assert play(rfc, TIDEGATE_POLICY=str(path)).returncode == 0
    with Cmdb.open(str(rfc.parent / "cmdb.sqlite")) as cmdb:
        cmdb.put_cis([{"name": "web2", "class": "server", "site": "ams"}], "test")
    done = play(rfc, TIDEGATE_POLICY=str(path))
    assert done.returncode == 2
    assert "CHG0030001 is not cleared: small: it is too big" in done.stdout
    assert "not so: cmdb.cis | length < 2" in done.stdout
