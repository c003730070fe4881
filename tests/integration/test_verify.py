# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook verify on real lab hosts: what upgrades, passes its tests and goes back is signed as passed, and nothing else is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import yaml
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import archive
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.repository import create_library
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.envelope import open_envelope, sign
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.statement import VERIFICATION, release_statement
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.store import attach, collect
from ansible_collections.tidegate.release.plugins.plugin_utils.keys import load_signer
from documents import simple_manifest, write_document
from fleet import FIRST, Fleet
from releases import HELLO

LAB = {"first": FIRST + 100}
MIGRATE = [{"name": "Migrate", "ansible.builtin.shell": "echo migrated >>/srv/data"}]
NO_RETURN = {"steps": ["migrate", "drain", "activate", "check", "restore"], "migrate_on": "[?name=='web1']", "reverse": "none"}


def new_key(fleet: Fleet, name: str) -> str:
    """Make a key for somebody; return the public half."""
    key = fleet.path / f"{name}.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(key)], check=True, capture_output=True)
    key.chmod(0o600)
    return subprocess.run(["openssl", "pkey", "-in", str(key), "-pubout"], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two hosts, and a tester with a key."""
    fleet = Fleet(tmp_path_factory.mktemp("fleet"), count=2)
    public = new_key(fleet, "tess")
    fleet.policy = {
        **fleet.policy,
        "people": {"tess": {"roles": ["tester"], "keys": [{"public": public}]}},
        "trust": {"test-result": {"role": "tester"}},
        "verification": {"parity": 70, "rehearsal": True},
    }
    (fleet.path / "tmp").mkdir()
    try:
        yield fleet
    finally:
        fleet.down()


def example(
    fleet: Fleet, version: str, name: str = "hello", requires: Iterable[Mapping[str, str]] = (), user: str = "root", **hooks: str
) -> str:
    """Archive the example as this version, as a user's, with shell commands in place of its hooks."""
    folder = fleet.path / "releases" / f"{name}-{version}"
    shutil.copytree(HELLO, folder)
    manifest = yaml.safe_load((folder / "release.yml").read_text()) | {
        "name": name,
        "version": version,
        "requires": [*requires],
        "user": user,
    }
    manifest["hooks"].update({name: {"command": ["sh", "-c", command], "timeout": 10} for name, command in hooks.items()})
    (folder / "release.yml").write_text(yaml.safe_dump(manifest))
    return archive(folder, create_library(str(fleet.path / "dsl")).repository(name)).digest


def verify(fleet: Fleet, rfc: Path, *options: str, **variables: Any) -> tuple[int, str]:
    given = {"tidegate_rfc": str(rfc), "tidegate_key": str(fleet.path / "tess.pem"), "verify_lab": LAB, **variables}
    environment = {**fleet.environment, "TMPDIR": str(fleet.path / "tmp"), "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default"}
    done = subprocess.run(
        fleet.command("tidegate.release.verify", given, *options),
        env=environment,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
    )
    fleet.said.extend(done.stdout.splitlines())
    return done.returncode, done.stdout


def signed(fleet: Fleet, digest: str) -> list[dict[str, Any]]:
    home = create_library(str(fleet.path / "dsl")).repository("hello")
    return [dict(open_envelope(content).statement.predicate) for content in collect(home, digest)]


def lab_processes(fleet: Fleet) -> list[str]:
    """Processes of labs that were made below the directory of verifications."""
    mark = f"TIDEGATE_LAB={fleet.path / 'tmp'}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            found += [str(path)] if mark in path.read_bytes() else []
        except OSError:
            continue
    return found


def test_a_release_that_upgrades_and_goes_back_is_signed_and_cleared(live: Fleet) -> None:
    live.up()
    first = live.rfc("CHG0001", "1.0", example(live, "1.0"))
    live.write_policy(**Fleet(live.path).policy)  # the first was never verified
    assert live.play("tidegate.release.deploy", {"tidegate_rfc": str(first)}).returncode == 0
    # What is live, and the database beneath it, are older than the rule that packages are signed.
    live.policy["people"]["tess"]["roles"].append("builder")
    live.policy["trust"]["package"] = {"role": "builder"}
    live.write_policy(**live.policy)
    served = live.served()
    beneath = {"ci": "db1", "release": "database", "version": "3.1", "digest": example(live, "3.1", "database")}
    with Cmdb.open(str(live.path / "cmdb.sqlite")) as cmdb:
        cmdb.put_cis([{"name": "db1", "class": "database", "attributes": {"ansible_host": "127.0.1.250"}}], "test")
        cmdb.relate([("web1", "db1", "depends_on"), ("web2", "db1", "depends_on"), ("web1", "web2", "depends_on")], "test")
        with cmdb.begin() as connection:
            cmdb.record_installations(connection, [beneath], "test", utc_now())
    needs = {"database": ">=3", "hello": ">=1.1"}
    wanted = [{"release": name, "versions": versions, "scheme": "pep440"} for name, versions in needs.items()]
    # The doubles have the user of the release, as live will.
    digest = example(live, "1.1", requires=wanted, user="hello")
    signer = load_signer(str(live.path / "tess.pem"))
    attach(
        create_library(str(live.path / "dsl")).repository("hello"),
        digest,
        sign(release_statement("hello", "1.1", digest), signer, utc_now()),
    )
    rfc = live.rfc("CHG0002", "1.1", digest)
    before = live.play("tidegate.release.clear", {"tidegate_rfc": str(rfc)})
    assert "0 of 1 verified it" in before.stdout
    assert "0 of 1 rehearsed its back-out" in before.stdout

    status, output = verify(live, rfc)
    assert status == 0, output
    assert "hello 1.1: PASSED, 6 tests passed, 0 failed" in output
    assert "the back-out was rehearsed, signed by tess" in output
    (said,) = [said for said in signed(live, digest) if "result" in said]
    assert said["result"] == "PASSED"
    assert sum("test_it_says_hello" in name for name in said["passedTests"]) == 2
    more = said[VERIFICATION]
    assert more["rehearsal"]["digest"] == digest
    assert more["rehearsal"]["tests"] >= 4
    assert more["hosts"] == {"web1": "web1", "web2": "web2"}
    assert (more["parity"]["score"], more["parity"]["differences"]) == (100, [])  # relations are there too
    assert more["events"]["ok"] > 20
    assert more["events"]["failed"] == more["events"]["unreachable"] == 0
    cleared = live.play("tidegate.release.clear", {"tidegate_rfc": str(rfc)})
    assert cleared.returncode == 0, cleared.stdout
    assert live.served() == served, "live was not touched"
    assert live.installed() == {"db1": "3.1", "web1": "1.0", "web2": "1.0"}
    assert (list((live.path / "tmp").glob("tidegate-verify-*")), lab_processes(live)) == ([], [])


@pytest.mark.thorough
def test_a_directory_is_tried_before_it_is_archived_and_nothing_of_it_stays(live: Fleet) -> None:
    """Live is not even up: what it is like is a difference then, and the release is tried all the same."""
    live.policy["trust"]["package"] = {"role": "tester"}
    live.write_policy(**live.policy)
    live.write_inventory()
    with Cmdb.open(str(live.path / "cmdb.sqlite"), create=True) as store:
        store.put_cis([{"name": "web1", "class": "server", "attributes": {"ansible_host": "192.0.2.1"}}], "test")
    tried = {"tidegate_release": str(HELLO), "verify_hosts": 1, "ansible_ssh_common_args": "-o ConnectTimeout=1"}
    other = "sha256:" + "0" * 64
    status, output = verify(live, live.rfc("CHG0001", "1.0", other), **tried)
    assert status != 0
    assert f"CHG0001 names the package {other}, and the directory {HELLO} is sha256:" in output
    assert list((live.path / "tmp").iterdir()) == []
    status, output = verify(live, Path(), **tried | {"tidegate_rfc": ""})
    assert status == 0, output
    assert "hello 1.0: PASSED" in output
    assert "signed by nobody, for it is not archived" in output
    assert not (live.path / "dsl").exists()
    assert list((live.path / "tmp").iterdir()) == []


def test_a_release_that_can_not_be_backed_out_fails_its_rehearsal(live: Fleet) -> None:
    """The old one can't read what the new one wrote. Live hosts that can't be reached are not known, and said to be."""
    live.write_policy(**live.policy)
    old = example(live, "1.0", start='test ! -e "$TIDEGATE_STATE/new" && exec bin/start')
    new = example(live, "1.1", start='touch "$TIDEGATE_STATE/new" && exec bin/start')
    with Cmdb.open(str(live.path / "cmdb.sqlite"), create=True) as cmdb:
        hosts = {"ansible_host": "127.0.1.250", "ansible_port": 9, "ansible_user": "nobody"}
        cmdb.put_cis([{"name": "Web.1", "class": "server", "site": "ams", "attributes": hosts}], "test")
        with cmdb.begin() as connection:
            cmdb.record_installations(connection, [{"ci": "Web.1", "release": "hello", "version": "1.0", "digest": old}], "test", utc_now())
    compose = {"tidegate_settings": "{'address': 'database.live'}", "ansible_host": "'127.0.1.250'"}
    (live.path / "cmdb.yml").write_text(json.dumps({"plugin": "tidegate.release.cmdb", "compose": compose}))
    (live.path / "lab.yml").write_text("tidegate_settings: {address: '{{ ansible_host }}', port: 8081}")
    rfc = live.rfc("CHG0002", "1.1", new)

    assert verify(live, rfc, "--check")[0] == 0
    assert signed(live, new) == []
    status, output = verify(live, rfc, verify_vars_file=str(live.path / "lab.yml"), verify_lab={**LAB, "mode": "user"})
    assert status != 0
    assert "hello 1.1: FAILED" in output, output
    (said,) = signed(live, new)
    assert said["result"] == "FAILED"
    more = said[VERIFICATION]
    assert more["rehearsal"] | {"tests": 0} == {"digest": new, "deployed": True, "backedOut": False, "tests": 0, "from": [old]}
    assert any("the release was not backed out everywhere in the lab" in reason for reason in more["reasons"])
    assert any("hook start of hello 1.0" in reason for reason in more["reasons"]), output
    assert more["parity"]["score"] <= 40
    assert "Web.1: os: not known live" in more["parity"]["differences"]
    cleared = live.play("tidegate.release.clear", {"tidegate_rfc": str(rfc)})
    assert "tess signed that it failed" in cleared.stdout
    (kept,) = (live.path / "tmp").glob("tidegate-verify-*")
    assert (kept / "artifacts").is_dir()
    assert lab_processes(live) == []


def test_what_would_count_for_nothing_is_not_run(live: Fleet) -> None:
    live.write_policy(**live.policy)
    digest = example(live, "1.0")
    rfc = live.rfc("CHG0001", "1.0", digest)
    with Cmdb.open(str(live.path / "cmdb.sqlite"), create=True) as cmdb:
        cmdb.put_cis([{"name": "web1", "class": "server", "site": "ams"}], "test")
        one = {"ci": "web1", "release": "hello", "version": "1.0", "digest": digest}
        with cmdb.begin() as connection:
            cmdb.record_installations(connection, [one], "test", utc_now())
    (live.path / "cmdb.yml").write_text(json.dumps({"plugin": "tidegate.release.cmdb"}))
    status, output = verify(live, rfc)
    assert status != 0
    assert "there is no host to upgrade to hello 1.0: 1 were found, and all of them have it" in output
    with Cmdb.open(str(live.path / "cmdb.sqlite")) as cmdb:
        cmdb.put_cis([{"name": "web2", "class": "server", "site": "ams"}], "test")
    live.policy["people"]["tess"]["roles"] = ["cook"]
    live.policy["people"]["carl"] = {"roles": ["tester"], "keys": live.policy["people"]["tess"].pop("keys")}
    live.write_policy(**{**live.policy, "trust": {**live.policy["trust"], "package": {"role": "tester"}}})
    assert "hello 1.0 is not trusted: 0 of 1 with the role tester signed the package" in verify(live, rfc)[1]
    assert os.listdir(live.path / "tmp") == []


def with_role(fleet: Fleet, version: str, own: Mapping[str, Any] = MappingProxyType({}), **changed: list[dict[str, Any]]) -> str:
    """Archive a release that is a role alone, which writes its version to a file; ``own`` replaces what its manifest says of the role,
    ``changed`` tasks of it."""
    version_file, shell, raw = "/srv/version", "ansible.builtin.shell", "ansible.builtin.raw"  # which costs a tenth of a module
    steps = {
        "drain": [{"name": "Drain", raw: "touch /srv/drained"}],
        "activate": [{"name": "Write", raw: f"echo {version} >{version_file}"}],
        "check": [{"name": "Look", shell: f"grep -qx {version} {version_file} && test ! -e /srv/rubbish", "changed_when": False}],
        "restore": [{"name": "Restore", raw: "rm /srv/drained"}],
        "back_out": [{"name": "Remove", raw: f"rm {version_file}"}],
        **changed,
    }
    folder = fleet.path / "releases" / f"app-{version}"
    for name, tasks in steps.items():
        path = folder / "ansible" / "app" / "tasks" / f"{name}.yml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(tasks))
    ansible = {
        "role": "ansible/app",
        "steps": ["drain", "activate", "check", "restore"],
        "on_first": "back_out",
        "atomic": False,
        "gather_facts": False,
        **own,
    }
    ansible = {key: value for key, value in ansible.items() if value is not ...}
    manifest = simple_manifest(version=version, payload=..., health=..., ansible=ansible)
    (folder / "README.md").write_text("# hello\n")
    write_document(folder / "release.yml", manifest)
    return archive(folder, create_library(str(fleet.path / "dsl")).repository("hello")).digest


@pytest.mark.thorough
def test_what_a_role_does_is_rehearsed_back_to_the_release_before_and_to_having_none(live: Fleet) -> None:
    live.write_policy(**{**live.policy, "verification": {"rehearsal": True}})
    (live.path / "cmdb.yml").write_text(json.dumps({"plugin": "tidegate.release.cmdb"}))
    (live.path / "lab.yml").write_text("{}")
    # What is live is past its point of no return, also in the lab, which nobody had to approve there.
    old = with_role(live, "1.0", NO_RETURN, migrate=MIGRATE)
    reverse = [{"name": "Reverse", "ansible.builtin.shell": "grep -c . /srv/data | grep -qx 2 && sed -i '$d' /srv/data"}]
    to_data = {**NO_RETURN, "steps": [*NO_RETURN["steps"], "reverse"], "reverse": ...}
    good = with_role(live, "1.1", to_data, migrate=MIGRATE, reverse=reverse)
    # Two faults: it leaves what the check of the one before does not bear, and what undoes it where there was none fails.
    rubbish = [{"name": "Write", "ansible.builtin.raw": "echo 1.2 >/srv/version; touch /srv/rubbish"}]
    fine = [{"name": "Pretend", "ansible.builtin.command": "true", "changed_when": False}]
    fails = [{"name": "Remove", "ansible.builtin.command": "false"}]
    bad = with_role(live, "1.2", activate=rubbish, check=fine, back_out=fails)
    with Cmdb.open(str(live.path / "cmdb.sqlite"), create=True) as cmdb:
        cmdb.put_cis([{"name": "web1", "class": "server", "attributes": {"ansible_host": "192.0.2.1"}}], "test")
        with cmdb.begin() as connection:
            cmdb.record_installations(connection, [{"ci": "web1", "release": "hello", "version": "1.0", "digest": old}], "test", utc_now())
    quickly = {"ansible_ssh_common_args": "-o ConnectTimeout=1", "verify_vars_file": str(live.path / "lab.yml")}
    rfc = live.rfc("CHG0002", "1.1", good)
    status, output = verify(live, rfc, **quickly)
    assert status == 0, output
    assert "hello 1.1: PASSED" in output
    (said,) = signed(live, good)
    assert said[VERIFICATION]["hosts"] == {"web1": "web1", "web1-untouched": "web1"}
    rehearsal = said[VERIFICATION]["rehearsal"]
    assert rehearsal["from"] == ["", old]
    assert rehearsal["role"]["forward"] == ["migrate", "drain", "activate", "check", "restore"]
    assert {*rehearsal["role"]["back"]} == {"drain", "activate", "check", "back_out", "restore", "reverse"}
    assert "1 of 1 rehearsed its back-out (tess)" in live.play("tidegate.release.clear", {"tidegate_rfc": str(rfc)}, "-v").stdout

    rfc = live.rfc("CHG0003", "1.2", bad)
    status, output = verify(live, rfc, **quickly)
    assert status != 0
    assert "hello 1.2: FAILED" in output
    (said,) = signed(live, bad)
    (why,) = [reason for reason in said[VERIFICATION]["reasons"] if "not backed out everywhere" in reason]
    assert "web1: the task 'Look' (ansible.builtin.shell) failed" in why
    assert "web1-untouched: the task 'Remove' (ansible.builtin.command) failed" in why
    assert said[VERIFICATION]["rehearsal"]["role"]["back"] == []
    cleared = live.play("tidegate.release.clear", {"tidegate_rfc": str(rfc)})
    assert cleared.returncode != 0
    assert "tess signed that it failed" in cleared.stdout
    assert lab_processes(live) == []


def with_effect_outside(fleet: Fleet, version: str) -> str:
    """Archive a release for a device, which is at 1.0 before anybody has told it anything."""
    folder = fleet.path / "releases" / f"outside-{version}"
    (folder / "payload").mkdir(parents=True)
    (folder / "payload" / "file").write_text(f"{version}\n")
    (folder / "README.md").write_text("# hello\n")
    scripts = {"start": 'echo "$TIDEGATE_VERSION" >"$TIDEGATE_DEVICE"', "read": 'cat "$TIDEGATE_DEVICE" || echo 1.0'}
    hooks = {name: {"command": ["sh", "-c", script], "timeout": 10} for name, script in scripts.items()}
    health = [{"name": "ready", "command": ["true"], "timeout": 5}]
    said = {"version": version, "health": health, "settings": {"device": None}, "hooks": hooks, "effect": "outside"}
    write_document(folder / "release.yml", simple_manifest(**said))
    return archive(folder, create_library(str(fleet.path / "dsl")).repository("hello")).digest


@pytest.mark.thorough
def test_what_a_release_does_outside_its_tree_is_rehearsed_on_a_double_of_that(live: Fleet) -> None:
    live.write_policy(**{**live.policy, "verification": {"rehearsal": True}})
    (live.path / "cmdb.yml").write_text(json.dumps({"plugin": "tidegate.release.cmdb"}))
    (live.path / "lab.yml").write_text("tidegate_settings: {device: /srv/device-of-the-lab}\n")
    old, new = with_effect_outside(live, "1.0"), with_effect_outside(live, "1.1")
    with Cmdb.open(str(live.path / "cmdb.sqlite"), create=True) as cmdb:
        attributes = {"ansible_host": "192.0.2.1", "tidegate_settings": {"device": "/srv/device-of-live"}}
        cmdb.put_cis([{"name": "web1", "class": "server", "attributes": attributes}], "test")
        with cmdb.begin() as connection:
            cmdb.record_installations(connection, [{"ci": "web1", "release": "hello", "version": "1.0", "digest": old}], "test", utc_now())
    quickly = {"ansible_ssh_common_args": "-o ConnectTimeout=1"}
    rfc = live.rfc("CHG0002", "1.1", new)
    status, output = verify(live, rfc, **quickly)
    assert status != 0
    assert "hello 1.1 has its effect outside its tree" in output
    assert signed(live, new) == []
    status, output = verify(live, rfc, **quickly, verify_vars_file=str(live.path / "lab.yml"))
    assert status == 0, output
    assert "hello 1.1: PASSED" in output
    (said,) = signed(live, new)
    assert said[VERIFICATION]["rehearsal"]["from"] == [old]


@pytest.mark.thorough
def test_a_point_of_no_return_is_played_forward_and_cleared_by_who_approves_it(live: Fleet) -> None:
    """The lab asks nobody, live does."""
    live.policy["people"]["dana"] = {"roles": ["dba"], "keys": [{"public": new_key(live, "dana")}]}
    live.write_policy(**{**live.policy, "verification": {"rehearsal": True}, "no_return": {"dba": 1}})
    (live.path / "cmdb.yml").write_text(json.dumps({"plugin": "tidegate.release.cmdb"}))
    (live.path / "lab.yml").write_text("{}")
    with Cmdb.open(str(live.path / "cmdb.sqlite"), create=True) as cmdb:
        cmdb.put_cis([{"name": "web1", "class": "server", "attributes": {"ansible_host": "192.0.2.1"}}], "test")
    digest = with_role(live, "1.0", NO_RETURN, migrate=MIGRATE)
    rfc = {"tidegate_rfc": str(live.rfc("CHG0001", "1.0", digest))}
    lab = {"verify_vars_file": str(live.path / "lab.yml"), "ansible_ssh_common_args": "-o ConnectTimeout=1"}
    status, output = verify(live, Path(rfc["tidegate_rfc"]), **lab)
    assert status == 0, output
    assert "nothing was backed out, for it says reverse: none, signed by tess" in output
    (said,) = signed(live, digest)  # and nobody has approved anything
    rehearsal = said[VERIFICATION]["rehearsal"]
    assert rehearsal.pop("tests") >= 1
    assert rehearsal == {
        "digest": digest,
        "deployed": True,
        "backedOut": False,
        "from": [""],
        "reverse": "none",
        "role": {"forward": NO_RETURN["steps"], "back": []},
    }
    cleared = live.play("tidegate.release.clear", rfc, "-v")
    assert cleared.returncode != 0
    assert "1 of 1 rehearsed all of it but a way back, for it has none (reverse: none) (tess)" in cleared.stdout
    assert "0 of 1 approvals by the dba" in cleared.stdout
    approved = live.play("tidegate.release.approve", {**rfc, "tidegate_key": str(live.path / "dana.pem")})
    assert approved.returncode == 0, approved.stdout
    cleared = live.play("tidegate.release.clear", rfc)
    assert cleared.returncode == 0, cleared.stdout
    assert (list((live.path / "tmp").glob("tidegate-verify-*")), lab_processes(live)) == ([], [])
