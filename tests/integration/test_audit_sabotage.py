# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What somebody did to a host by hand is named, each line of it on its host, and nothing is named of what nobody touched."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fleet import SECOND, Fleet

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="isolated lab hosts need root")

ROOT = "/opt/tidegate/hello"
TREE = f"{ROOT}/current"
PYC = f"""
cd {TREE}/lib && python3 -c '
import importlib.util, marshal
code = compile("VALUE = 666", "tool.py", "exec")
source = importlib.util.source_hash(open("tool.py", "rb").read())
import os; os.mkdir("__pycache__")
path = importlib.util.cache_from_source("tool.py")
open(path, "wb").write(importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + source + marshal.dumps(code))
'
"""
PACKAGE = """
mkdir -p /tmp/p/DEBIAN
for line in 'Package: tg-foreign' 'Version: 6.6' 'Architecture: all' 'Maintainer: x <x@example.com>' 'Description: x'; do
  echo "$line" >>/tmp/p/DEBIAN/control
done
dpkg-deb --build /tmp/p /tmp/p.deb >/dev/null && dpkg -i /tmp/p.deb >/dev/null
"""
LISTENER = """
setsid python3 -c '
import socket, time
server = socket.create_server(("127.0.0.1", 6666), reuse_port=True)
time.sleep(600)' </dev/null >/dev/null 2>&1 &
printf '[Service]\nExecStart=/bin/true\n' >/etc/systemd/system/foreign.service
mkdir -p /etc/systemd/system/multi-user.target.wants /etc/cron.d
ln -s ../foreign.service /etc/systemd/system/multi-user.target.wants/foreign.service
echo '* * * * * root /bin/true' >/etc/cron.d/foreign
sleep 0.5
"""
EVIL = "the bytes that this test calls malware"
# By host, what is done there and what has to be said of it: kind, and a part of the detail.
SABOTAGE: dict[str, list[tuple[str, str, str]]] = {
    "web1": [
        (f"echo '# x' >>{TREE}/bin/stop", "changed_files", "1 file of hello 2.0 was changed or is missing: bin/stop"),
        (f"echo x >{TREE}/unreleased; {PYC}", "extra_files", "of hello 2.0 were released by nobody: lib/__pycache__/tool.cpython-"),
        (f"printf '{EVIL}' >{ROOT}/state/../evil", "infected", "evil in the home of hello is Tidegate.Test"),
        (f"kill $(cat {ROOT}/state/pid)", "not_running", "hello 2.0 is live and does not run: health check 'answers' failed"),
        (f"cp -r {ROOT}/releases/1.0-*/tree /srv/hello", "copies", "/srv/hello has copies of"),
    ],
    "web2": [
        (f"ln -sfn releases/$(cd {ROOT}/releases; echo 1.0-*)/tree {TREE}", "other_version", "hello 1.0 is live, but the CMDB says 2.0"),
        (f"chown -R deploy {ROOT}/releases/1.0-*/tree", "changed_files", "belongs to deploy (61000), not to root"),
        (f"rm {ROOT}/log.jsonl", "changed_files", "the log of its home does not say since when"),
        (
            f"mkdir /opt/tidegate2; cp -a {ROOT} /opt/tidegate2/",
            "copies",
            "/opt/tidegate2/hello has releases of hello ",
        ),
        (PACKAGE, "other_packages", "packages: came tg-foreign:all 6.6, by the record of"),
    ],
    "web3": [
        (f"rm {ROOT}/releases/2.0-*/release.json", "unreadable", "which is not a release"),
        (LISTENER, "other_listeners", "listeners: came tcp 127.0.0.1:6666 /usr/"),
        ("", "other_units", "/etc/systemd/system/multi-user.target.wants/foreign.service -> ../foreign.service"),
        ("", "other_cron", "cron files: came /etc/cron.d/foreign "),
    ],
}


# One that can't be done where another one is.
ALONE = (f"mkdir -p /var/foreign/tree; ln -sfn /var/foreign/tree {TREE}", "unreadable", "which is not a release")
# What is so besides where something was done: what was ended listens no more, what was flipped by hand does not run, and so on.
# Of which the host can't say since when it is so.
UNDATED = {"not_running", "unreadable"}
FOLLOWS = {"not_running", "other_listeners", "missing", "extra_files"}


def prepared(fleet: Fleet) -> Fleet:
    """The fleet with a release that is live everywhere, and one before it."""
    fleet.up()
    for number, version in ((1, "1.0"), (2, "2.0")):
        folder = fleet.release(version)
        (folder / "payload" / "lib").mkdir()
        (folder / "payload" / "lib" / "tool.py").write_text("VALUE = 1\n")
        rfc = fleet.rfc(f"CHG000000{number}", version, fleet.archive_folder(folder))
        done = fleet.play("tidegate.release.deploy", {"tidegate_rfc": str(rfc)})
        assert done.returncode == 0, done.stdout
    return fleet


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path_factory.mktemp("sabotage"), policy={"rollout": {"canary": 3, "steps": [100]}})
    try:
        yield prepared(fleet)
    finally:
        fleet.down()


def audited(fleet: Fleet, **variables: Any) -> tuple[int, list[dict[str, Any]]]:
    done = fleet.play("tidegate.release.audit", variables)
    assert "Traceback" not in done.stdout, done.stdout
    ((data,),) = fleet.rows("select data from history where event = 'audited' order by seq desc limit 1")
    return done.returncode, json.loads(data)["differences"]


def scanning(fleet: Fleet) -> dict[str, Any]:
    """Have what nobody released scanned for one signature."""
    signatures = fleet.path / "signatures"
    signatures.mkdir()
    (signatures / "own.hsb").write_text(f"{hashlib.sha256(EVIL.encode()).hexdigest()}:{len(EVIL)}:Tidegate.Test\n")
    return {"audit_scan": True, "tidegate_malware_signatures": str(signatures)}


def test_what_nobody_touched_has_no_difference_and_costs_little(fleet: Fleet) -> None:
    before = fleet.rows("select count(*) from history")
    refused = fleet.play("tidegate.release.audit", {"audit_baseline": True})
    assert refused.returncode != 0
    assert "audit_baseline needs a reason" in refused.stdout
    assert fleet.rows("select count(*) from host_set") == [(0,)]
    assert fleet.play("tidegate.release.audit", {"audit_baseline": True, "tidegate_reason": "as it was made"}, "--check").returncode == 0
    assert fleet.rows("select count(*) from history") == before, "check mode changes no table"

    assert audited(fleet, audit_baseline=True, tidegate_reason="as it was made") == (0, [])
    assert fleet.rows("select count(*) from host_set where reason = 'as it was made' and actor <> ''") == [(4 * 3,)]
    assert fleet.rows("select count(*), count(distinct ci) from history where event = 'set recorded'") == [(4 * 3, 3)]
    assert audited(fleet) == (0, [])
    recorded = dict(fleet.rows("select s.name, s.sha256 from host_set s join ci on ci.id = s.ci_id where ci.name = 'web1'"))
    asked = {"running": True, "copies": ["/opt", "/srv"], "sets": recorded}
    command = ["ansible", "web1", "-i", str(fleet.path / "cmdb.yml"), "-b", "-o", "-m", "tidegate.release.release_facts", "-a"]
    done = subprocess.run([*command, json.dumps(asked)], env=fleet.environment, check=True, capture_output=True, text=True, timeout=60)
    answer = done.stdout
    assert '"sha256": "' in answer
    assert len(answer.encode()) < 4096, "an unchanged host has little to say"


def test_each_line_of_the_list_is_named_on_its_host_and_nothing_else(fleet: Fleet) -> None:
    for host, lines in SABOTAGE.items():
        for command, _kind, _said in lines:
            if command:
                fleet.run_on(host, command)
    status, found = audited(fleet, **scanning(fleet))
    assert status != 0
    if shutil.which("clamscan") is None:
        SABOTAGE["web1"] = [line for line in SABOTAGE["web1"] if line[1] != "infected"]
        found = [one for one in found if "are clean" not in one["detail"]]
    missed = [
        (host, kind, said)
        for host, lines in SABOTAGE.items()
        for _command, kind, said in lines
        if not any(one["host"] == host and one["kind"] == kind and said in one["detail"] for one in found)
    ]
    assert missed == [], json.dumps(found, indent=1)
    expected = {(host, kind) for host, lines in SABOTAGE.items() for _command, kind, _said in lines}
    named = {(one["host"], one["kind"]) for one in found if one["kind"] not in FOLLOWS}
    assert named <= expected, json.dumps(found, indent=1)
    around = [one for one in found if (one["host"], one["kind"]) in expected and one["kind"] not in UNDATED]
    assert {(one["host"], one["kind"]) for one in around} == {one for one in expected if one[1] not in UNDATED}
    assert all(one["since"] and one["latest"] and one["covered_by"] == [] for one in around), json.dumps(around, indent=1)


@pytest.mark.thorough
@pytest.mark.skipif(shutil.which("clamscan") is None, reason="needs ClamAV (apt install clamav)")
def test_each_line_alone_is_named_on_its_host_alone(tmp_path: Path) -> None:
    lines: list[tuple[str, dict[str, str]]] = []
    for command, kind, said in (*(line for own in SABOTAGE.values() for line in own), ALONE):
        if command:
            lines.append((command, {}))
        lines[-1][1][kind] = said
    count = 20  # nobody touches the last ones
    assert count - len(lines) >= 7
    fleet = Fleet(tmp_path, count=count, first=SECOND, policy={"rollout": {"canary": count, "steps": [100]}})
    try:
        prepared(fleet)
        assert audited(fleet, audit_baseline=True, tidegate_reason="as it was made") == (0, [])
        for host, (command, _wanted) in zip(fleet.hosts, lines, strict=False):
            fleet.run_on(host, command)
        _status, found = audited(fleet, **scanning(fleet))
    finally:
        fleet.down()
    by_host: dict[str, dict[str, list[str]]] = {host: {} for host in fleet.hosts}
    for one in found:
        by_host[one["host"]].setdefault(one["kind"], []).append(one["detail"])
    for host, (command, wanted) in zip(fleet.hosts, lines, strict=False):
        for kind, said in wanted.items():
            assert any(said in detail for detail in by_host[host].get(kind, ())), (command, by_host[host])
        assert by_host[host].keys() <= wanted.keys() | FOLLOWS, (command, by_host[host])
    assert [by_host[host] for host in fleet.hosts[len(lines) :]] == [{}] * (count - len(lines))
