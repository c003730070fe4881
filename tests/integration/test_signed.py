# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signed packages, as a user signs and uses them: with keys that openssl makes, and on lab hosts."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import forked
import pytest
import yaml
from documents import policy_of, write_document
from fleet import Fleet

NUMBERS = count(3001)
ROLLOUT = {"canary": 1, "steps": [100], "budget": {"wave": 0, "total": 0}, "stable": 0}
PASSPHRASE = "correct-horse-battery"  # noqa: S105 - a test's own


def openssl(*arguments: str) -> str:
    return subprocess.run(["openssl", *arguments], check=True, capture_output=True, text=True).stdout


class Signers:
    """A fleet and people with keys in files."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        for name in ("rita", "carl"):
            openssl("genpkey", "-algorithm", "ed25519", "-out", str(self.key(name)))

    def key(self, name: str) -> Path:
        return self.fleet.path / f"{name}.pem"

    def public(self, name: str) -> str:
        return openssl("pkey", "-in", str(self.key(name)), "-passin", f"pass:{PASSPHRASE}", "-pubout")

    def policy(self, file: str = "policy.yml", threshold: int = 1, **rita: str) -> Path:
        """A policy under which rita and carl may sign packages; ``rita`` is added to her key."""
        people = {
            "rita": {"roles": ["release-manager"], "keys": [{"public": self.public("rita"), **rita}]},
            "carl": {"roles": ["release-manager"], "keys": [{"public": self.public("carl")}]},
        }
        trust = {"package": {"role": "release-manager", "threshold": threshold}}
        path = self.fleet.path / file
        write_document(path, policy_of(rollout=ROLLOUT, people=people, trust=trust))
        return path

    def archive(self, version: str, name: str | None = "rita", *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        if not (self.fleet.path / "releases" / version).exists():
            self.fleet.release(version)
        variables = {"tidegate_release": str(self.fleet.path / "releases" / version)}
        if name:
            variables["tidegate_key"] = str(self.key(name))
        command = self.fleet.command("tidegate.release.archive", variables, *options, inventory="localhost,")
        return forked.run(command, {**self.fleet.environment, **environment}, timeout=120)

    def digest(self, version: str) -> str:
        index = json.loads((self.fleet.path / "dsl" / "index.json").read_text())
        tags = {entry["annotations"]["org.opencontainers.image.ref.name"]: entry["digest"] for entry in index["manifests"]}
        return str(tags[f"hello:{version}"])

    def tasks(self, *tasks: dict[str, Any], check: bool = False) -> subprocess.CompletedProcess[str]:
        """Run tasks on localhost."""
        return self.plays({"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": list(tasks)}, check=check)

    def plays(self, *plays: dict[str, Any], check: bool = False, **variables: Any) -> subprocess.CompletedProcess[str]:
        path = self.fleet.path / "play.yml"
        path.write_text(yaml.safe_dump(list(plays), sort_keys=False))
        return self.fleet.play(str(path), variables, *(["--check"] if check else []))


@pytest.fixture
def desk(tmp_path: Path) -> Signers:
    """No hosts, just files."""
    (tmp_path / "cmdb.yml").write_text("all: {hosts: {localhost: {}}}")
    return Signers(Fleet(tmp_path))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signers]:
    fleet = Fleet(tmp_path_factory.mktemp("signed"))
    try:
        fleet.up()
        signers = Signers(fleet)
        yield signers
    finally:
        fleet.down()


def said(done: subprocess.CompletedProcess[str]) -> str:
    assert "Traceback" not in done.stdout, done.stdout
    return " ".join(done.stdout.split())


def test_archive_signs_once_for_each_key(desk: Signers) -> None:
    looked = desk.archive("1.0", "rita", "--check")
    assert "changed=1" in looked.stdout, looked.stdout
    for name, changed in ((None, 1), (None, 0), ("rita", 1), ("rita", 0), ("carl", 1), ("rita", 0), ("carl", 0)):
        done = desk.archive("1.0", name, "--check") if name == "carl" and changed else None
        assert done is None or "changed=1" in done.stdout, done.stdout
        done = desk.archive("1.0", name)
        assert done.returncode == 0, done.stdout
        assert f"changed={changed}" in done.stdout, (name, done.stdout)
    desk.policy(threshold=2)
    query = {"name": "hello", "version": "1.0"}
    done = desk.tasks(
        {"tidegate.release.attestation_info": query, "register": "found"},
        {"ansible.builtin.assert": {"that": ["found.judgements.package.trusted", "found.judgements.package.people == ['carl', 'rita']"]}},
    )
    assert done.returncode == 0, done.stdout


def test_a_key_that_can_not_be_used_archives_nothing(desk: Signers) -> None:
    desk.key("rita").chmod(0o640)
    done = desk.archive("1.0")
    assert done.returncode == 2
    assert f"run chmod 600 {desk.key('rita')}" in said(done)
    assert not (desk.fleet.path / "dsl").exists()


@pytest.mark.parametrize("where", ["variable", "environment"])
def test_a_passphrase_opens_the_key_and_is_never_shown(desk: Signers, where: str) -> None:
    openssl("genpkey", "-algorithm", "ed25519", "-aes256", "-pass", f"pass:{PASSPHRASE}", "-out", str(desk.key("rita")))
    assert "has a passphrase; give it in key_passphrase" in said(desk.archive("1.0"))
    shown = {"ANSIBLE_DISPLAY_ARGS_TO_STDOUT": "1", "ANSIBLE_LOG_PATH": str(desk.fleet.path / "log"), "ANSIBLE_VERBOSITY": "4"}
    if where == "variable":
        secrets = desk.fleet.path / "secrets.yml"
        secrets.write_text(yaml.safe_dump({"tidegate_key_passphrase": PASSPHRASE}))
        done = desk.archive("1.0", "rita", "-e", f"@{secrets}", **shown)
    else:
        done = desk.archive("1.0", TIDEGATE_KEY_PASSPHRASE=PASSPHRASE, **shown)
    assert done.returncode == 0, done.stdout
    assert "changed=1" in done.stdout
    private = openssl("pkey", "-in", str(desk.key("rita")), "-passin", f"pass:{PASSPHRASE}").splitlines()[1]
    for text in (done.stdout, (desk.fleet.path / "log").read_text()):
        assert PASSPHRASE not in text
        assert private not in text


def test_evidence_is_signed_and_judged_by_tasks(desk: Signers) -> None:
    desk.policy()
    desk.archive("1.0", None)
    attestation = {"name": "hello", "version": "1.0", "type": "package", "key": str(desk.key("carl"))}
    sign = {"tidegate.release.attestation": attestation, "register": "signed"}
    ask = {"tidegate.release.attestation_info": {"name": "hello", "digest": desk.digest("1.0")}, "register": "found"}
    trusted = {"ansible.builtin.assert": {"that": "found.judgements.package.trusted"}}
    looked = desk.tasks(
        sign, ask, {"ansible.builtin.assert": {"that": ["signed.changed", "not found.judgements.package.trusted"]}}, check=True
    )
    assert looked.returncode == 0, looked.stdout
    for expected in ("signed.changed", "not signed.changed"):
        done = desk.tasks(sign, ask, trusted, {"ansible.builtin.assert": {"that": expected}})
        assert done.returncode == 0, done.stdout
    refused = desk.tasks({"tidegate.release.attestation": {**attestation, "type": "gossip"}})
    assert refused.returncode == 2
    assert "'gossip' is no kind of evidence" in said(refused)
    keyless = desk.tasks({"tidegate.release.attestation": {key: value for key, value in attestation.items() if key != "key"}})
    assert keyless.returncode == 2
    assert "no private key (a file) given; set tidegate_key or the environment variable TIDEGATE_KEY" in said(keyless)


@pytest.mark.skipif(os.geteuid() != 0, reason="isolated lab hosts need root")
class TestOnHosts:
    """Each test goes on from what the one before left."""

    def test_an_unsigned_package_is_not_cleared_and_a_signed_one_is_deployed(self, shared: Signers) -> None:
        fleet = shared.fleet
        shared.policy()
        assert shared.archive("1.0", None).returncode == 0
        rfc = fleet.rfc("CHG3000", "1.0", shared.digest("1.0"))
        refused = fleet.play("tidegate.release.deploy", {"tidegate_rfc": str(rfc)})
        assert refused.returncode != 0
        assert "signatures: 0 of 1 with the role release-manager signed the package" in said(refused)
        assert fleet.state("CHG3000") is None
        assert shared.archive("1.0").returncode == 0
        done = fleet.play("tidegate.release.deploy", {"tidegate_rfc": str(rfc), "tidegate_key": str(shared.key("carl"))})
        assert done.returncode == 0, done.stdout
        assert set(fleet.served().values()) == {"1.0"}
        # Under which clearance is kept beside the package, signed by who deployed.
        kept = "(found.evidence | selectattr('kind', 'equalto', 'clearance'))"
        looked = shared.tasks(
            {"tidegate.release.attestation_info": {"name": "hello", "version": "1.0"}, "register": "found"},
            {
                "ansible.builtin.assert": {
                    "that": [
                        f"{kept} | map(attribute='signed_by') == [['carl']]",
                        f"{kept}[0].predicate.verificationResult == 'PASSED'",
                        f"{kept}[0].predicate['https://tidegate.example/clearance/v1'].rfc == 'CHG3000'",
                    ]
                }
            },
        )
        assert looked.returncode == 0, looked.stdout

    @pytest.mark.parametrize("step", ["stage", "staging gate", "wave gate"])
    def test_trust_that_is_revoked_after_the_plan_stops_what_comes_next(self, shared: Signers, step: str) -> None:
        fleet, number = shared.fleet, next(NUMBERS)
        version, before = f"{number}.0", set(fleet.served().values())
        good = str(shared.policy())
        revoked = str(shared.policy("revoked.yml", revoked="2020-01-01T00:00:00Z"))
        shared.archive(version).check_returncode()
        rfc = str(fleet.rfc(f"CHG{number}", version, shared.digest(version)))

        def play(hosts: str, name: str, variables: dict[str, Any], **keys: Any) -> dict[str, Any]:
            role = {"role": f"tidegate.release.{name}", "vars": {"tidegate_rfc": rfc, **variables}}
            return {"hosts": hosts, "gather_facts": False, "become": hosts != "localhost", "roles": [role], **keys}

        plays = [
            play("localhost", "plan", {"tidegate_policy": good}, connection="local"),
            play("all:!localhost", "stage", {"tidegate_policy": revoked if step == "stage" else good}),
        ]
        gate = {"after": "staging", "rfc": rfc, "policy": good if step == "wave gate" else revoked}
        if step != "stage":
            tasks = [{"tidegate.release.gate": gate, "register": "decided"}, {"ansible.builtin.debug": {"var": "decided.reason"}}]
            plays.append({"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks})
        if step == "wave gate":
            plays.append(play("web1", "activate", {"tidegate_policy": revoked}))
        done = shared.plays(*plays)
        assert "Traceback" not in done.stdout
        reasons = json.dumps(fleet.rows("select detail from deployment_host") + fleet.rows("select reason from deployment")) + done.stdout
        assert "was revoked at 2020-01-01" in " ".join(reasons.split()), reasons
        served = fleet.served()
        if step == "wave gate":
            assert served == {"web1": version, "web2": before.copy().pop(), "web3": before.copy().pop()}
            assert fleet.state(f"CHG{number}") == "held"
        else:
            assert set(served.values()) == before
        if step == "stage":
            assert set(fleet.host_states(f"CHG{number}").values()) == {"stage_failed"}
            assert version not in fleet.run_on("web1", "ls /opt/tidegate/hello/releases /opt/tidegate/hello/staging 2>/dev/null; true")
        again = fleet.play("tidegate.release.deploy", {"tidegate_rfc": rfc})
        assert again.returncode == 0, again.stdout
        assert set(fleet.served().values()) == {version}

    def test_an_audit_names_what_is_not_trusted_any_more_and_what_a_revoked_key_signed(self, shared: Signers) -> None:
        fleet = shared.fleet
        fine = fleet.play("tidegate.release.audit")
        assert fine.returncode == 0, fine.stdout
        live = set(fleet.served().values()).pop()
        later = shared.policy("later.yml", revoked="2099-01-01T00:00:00Z")
        named = fleet.play("tidegate.release.audit", {"tidegate_policy": str(later)})
        assert named.returncode == 0, named.stdout
        assert f"hello {live}: rita's key" in said(named)
        assert "and was revoked at 2099-01-01T00:00:00+00:00" in said(named)
        revoked = shared.policy("revoked.yml", revoked="2020-01-01T00:00:00Z")
        failed = fleet.play("tidegate.release.audit", {"tidegate_policy": str(revoked)})
        assert failed.returncode != 0
        assert f"DSL: hello {live} is not trusted: 0 of 1" in said(failed)
        assert f"web1, web2, web3: hello {live} is live, but hello {live} is not trusted" in said(failed)
        shared.archive(live, "carl").check_returncode()
        mended = fleet.play("tidegate.release.audit", {"tidegate_policy": str(revoked)})
        assert f"DSL: hello {live} is not trusted" not in said(mended)
