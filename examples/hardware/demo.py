# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo of hardware: eight machines with a webcam each get new firmware in waves, and are saved from one that does not come up.

Run it with `make demo-hardware`. The hosts are lab hosts, fwupd on each is real, and its device is the one that fwupd has for tests.
It ends with 0 only if everything that it promises was true.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILD = ROOT / "build" / "demo-hardware"
HOSTS = {f"{site}{number}": site for site in ("ams", "lon") for number in range(1, 5)}
# The webcam of this host takes what it is given, says so, and becomes 1.2.3 when it is activated, whatever that was.
ODD = "lon4"
MODEL = "Contoso T1"
WEBCAM = "b585990a-003e-5270-89d5-3705a17f9a43"
FACTORY, GOOD, BROKEN = "1.2.2", "1.2.3", "1.2.6"
RFCS = {GOOD: "CHG0040001", BROKEN: "CHG0040002"}
BEFORE = {FACTORY: "1.2.1", GOOD: FACTORY, BROKEN: GOOD}
_METAINFO = """<?xml version="1.0" encoding="UTF-8"?>
<component type="firmware">
  <id>org.example.webcam.firmware</id><name>Webcam</name><summary>Firmware of a webcam</summary><developer_name>ACME</developer_name>
  <metadata_license>CC0-1.0</metadata_license><project_license>GPL-2.0+</project_license>
  <provides><firmware type="flashed">{guid}</firmware></provides>
  <custom>
    <value key="LVFS::VersionFormat">triplet</value><value key="LVFS::UpdateProtocol">com.acme.test</value>
  </custom>
  <releases>
    <release version="{version}" date="2026-01-01"><checksum type="sha256" filename="image.bin" target="content">{sha}</checksum></release>
  </releases>
</component>
"""


def say(text: str) -> None:
    print(f"\n== {text}", flush=True)


def run(*command: str, status: tuple[int, ...] = (0,)) -> None:
    """Run a command in sight of the user; leave when it ends with another status than was expected."""
    print("$ " + " ".join(command).replace(f"{ROOT}/", ""), flush=True)
    ended = subprocess.run(command, cwd=ROOT, env=environment(), check=False).returncode
    if ended not in status:
        raise SystemExit(f"that ended with {ended}; the demo stops here")


def environment() -> dict[str, str]:
    own = {"DSL": BUILD / "dsl", "CMDB": BUILD / "cmdb.sqlite", "POLICY": HERE / "policy.yml"}
    return {**os.environ, **{f"TIDEGATE_{name}": str(path) for name, path in own.items()}, "ANSIBLE_FORKS": "8"}


def playbook(name: str, *arguments: str, status: tuple[int, ...] = (0,)) -> None:
    run("ansible-playbook", f"tidegate.release.{name}", "-i", str(BUILD / "cmdb.yml"), *arguments, status=status)


def lab(state: str) -> None:
    hosts = [{"name": name, "site": site, "environment": "live"} for name, site in HOSTS.items()]
    variables = {"lab_path": str(BUILD / "lab"), "lab_hosts": hosts, "lab_cmdb": str(BUILD / "cmdb.sqlite"), "lab_network": "127.0.3"}
    (BUILD / "lab.json").write_text(json.dumps(variables))
    run("ansible-playbook", "tidegate.release.lab", "-i", "localhost,", "-e", f"@{BUILD}/lab.json", "-e", f"lab_state={state}")


def prepare() -> None:
    """Have each host run fwupd, the hardware storage know the machines, and the library what is to be released."""
    variables = {
        "model": MODEL,
        "odd": ODD,
        "units": [{"tag": f"A-{name}", "manufacturer": "Contoso", "serial": f"SN-{name}", "model": MODEL} for name in HOSTS],
        "places": [{"tag": f"A-{name}", "ci": name} for name in HOSTS],
        "releases": [str(make_release(version)) for version in BEFORE],
    }
    (BUILD / "prepare.json").write_text(json.dumps(variables))
    run("ansible-playbook", str(HERE / "prepare.yml"), "-i", str(BUILD / "cmdb.yml"), "-e", f"@{BUILD}/prepare.json")


def make_release(version: str) -> Path:
    """Put a release's directory together as a team would: the cabinet of its maker, and a page of documentation."""
    folder = BUILD / "releases" / version
    own = BUILD / "releases" / f"{version}.made"
    own.mkdir(parents=True)
    major, minor, micro = map(int, version.split("."))
    image = b"0x%x\0" % (major << 24 | minor << 16 | micro)
    (own / "image.bin").write_bytes(image)
    metainfo = _METAINFO.format(guid=WEBCAM, version=version, sha=hashlib.sha256(image).hexdigest())
    (own / "image.metainfo.xml").write_text(metainfo)
    private = {f"FWUPD_{name}": str(own) for name in ("SYSCONFDIR", "LOCALSTATEDIR", "RUNDIR", "LOCKDIR")}
    command = ["fwupdtool", "build-cabinet", "webcam.cab", "image.bin", "image.metainfo.xml"]
    subprocess.run(command, cwd=own, env={**os.environ, **private}, check=True, capture_output=True)
    (folder / "images").mkdir(parents=True)
    shutil.copy(own / "webcam.cab", folder / "images")
    shutil.copy(HERE / "README.md", folder)
    text = (HERE / "release.yml").read_text()
    for key, value in (("VERSION", version), ("BEFORE", BEFORE[version]), ("WEBCAM", WEBCAM), ("MODEL", MODEL)):
        text = text.replace(f"@{key}@", value)
    (folder / "release.yml").write_text(text)
    return folder


def archived_digest(version: str) -> str:
    index = json.loads((BUILD / "dsl" / "index.json").read_text())
    reference = "org.opencontainers.image.ref.name"
    return next(entry["digest"] for entry in index["manifests"] if entry["annotations"][reference] == f"webcam:{version}")


def write_rfc(version: str, digest: str) -> Path:
    now = datetime.now(UTC).replace(microsecond=0)
    decided = (now - timedelta(hours=1)).isoformat()
    rfc = {
        "schema": 1,
        "number": RFCS[version],
        "type": "normal",
        "state": -2,
        "risk": 3,
        "impact": 3,
        "short_description": f"Firmware {version} for all webcams",
        "requested_by": "rita",
        "start_date": (now - timedelta(minutes=5)).isoformat(),
        "end_date": (now + timedelta(hours=2)).isoformat(),
        "backout_plan": "Each webcam gets the firmware that it had; the gate does it by itself.",
        "test_plan": "What each webcam says that it runs.",
        "release": {"name": "webcam", "version": version, "digest": digest},
        "scope": "[?class=='server' && environment=='live']",
        "approvals": [{"approver": "carl", "role": "change-manager", "state": "approved", "decided_at": decided}],
    }
    path = BUILD / f"{rfc['number']}.yml"
    path.write_text(yaml.safe_dump(rfc, sort_keys=False))
    return path


def read_versions() -> dict[str, str]:
    """The firmware of each webcam, as fwupd says it on its host, without any part of Tidegate."""
    script = f"fwupdmgr --json get-devices {WEBCAM} | grep -m 1 '\"Version\" :'"
    command = ("ansible", "all", "-i", str(BUILD / "cmdb.yml"), "--become", "-m", "ansible.builtin.raw", "-a", script)
    said = subprocess.run(
        command, cwd=ROOT, env={**environment(), "ANSIBLE_NOCOLOR": "1"}, check=True, capture_output=True, text=True
    ).stdout
    return dict(re.findall(r'^(\S+) \| CHANGED \| rc=0 >>\n\s*"Version" : "([0-9.]+)"', said, re.MULTILINE))


def demo() -> list[str]:
    """Run it all; return what was promised and not kept."""
    say("Bringing up eight lab hosts, each a machine with a real fwupd and its webcam, which has firmware 1.2.2")
    lab("present")
    listed = "[ansible_python_interpreter, ansible_ssh_common_args, ansible_ssh_pipelining, ansible_ssh_private_key_file]"
    (BUILD / "cmdb.yml").write_text(f"plugin: tidegate.release.cmdb\nconnection_variables: {listed}\n")
    say("Entering them in the definitive hardware storage, and firmware 1.2.2, 1.2.3 and 1.2.6 in the definitive software library")
    prepare()
    say("Deploying firmware 1.2.3: a canary, then the rest")
    playbook("deploy", "-e", f"tidegate_rfc={write_rfc(GOOD, archived_digest(GOOD))}")
    reached = read_versions()
    say("Deploying firmware 1.2.6, which one webcam takes with success and does not run: the others have to go back to 1.2.3")
    playbook("deploy", "-e", f"tidegate_rfc={write_rfc(BROKEN, archived_digest(BROKEN))}", status=(2,))
    say("Writing the report")
    playbook("report", "-e", json.dumps({"tidegate_report": str(BUILD), "report_extra": {"reached": reached, "now": read_versions()}}))
    return judge(read_report(BUILD))


def read_report(directory: Path) -> dict[str, Any]:
    """The report in ``directory``, with all that its pages say of deployments."""
    report: dict[str, Any] = json.loads((directory / "report.json").read_text())
    report["deployments"] = [json.loads((directory / entry["data"]).read_text()) for entry in report["deployments"]]
    return report


def judge(report: dict[str, Any]) -> list[str]:
    """Compare what happened with what was promised, and show it."""
    say("What happened")
    broken = []
    for deployment, (version, number) in zip(report["deployments"], RFCS.items(), strict=True):
        gates = ", ".join(
            f"wave {wave['number']} ({len(wave['hosts'])} host{'' if len(wave['hosts']) == 1 else 's'}): {wave['gate'] or 'not reached'}"
            for wave in deployment["waves"]
        )
        print(f"  {deployment['rfc']}  webcam {deployment['version']}  {deployment['state']:<11} {gates}")
        wanted = "backed_out" if version == BROKEN else "completed"
        if (deployment["rfc"], deployment["version"], deployment["state"]) != (number, version, wanted):
            broken.append(f"{number} should be webcam {version}, {wanted}")
        expected = ["proceed", "proceed", "back_out" if version == BROKEN else "proceed"]
        if [wave["gate"] for wave in deployment["waves"]] != expected:
            broken.append(f"the gates of {number} should have said {', '.join(expected)}")
    for when in ("reached", "now"):
        found = report[when]
        print(f"  {'after 1.2.3' if when == 'reached' else 'in the end'}: {', '.join(f'{name} {found.get(name)}' for name in HOSTS)}")
        broken += [f"{name} should run {GOOD}, by what its own fwupd says" for name in HOSTS if found.get(name) != GOOD]
    print(f"  report: {BUILD / 'index.html'}", flush=True)
    return broken


def main() -> None:
    began = time.monotonic()
    lacks = [program for program in ("fwupdmgr", "fwupdtool", "dbus-daemon") if shutil.which(program) is None]
    if os.geteuid() != 0 or lacks:
        raise SystemExit(f"The demo of hardware needs root for its lab hosts{''.join(f', and {name}' for name in lacks)}.")
    if BUILD.exists():
        lab("absent")  # what an interrupted demo may have left
        shutil.rmtree(BUILD)
    BUILD.mkdir(parents=True)
    try:
        broken = demo()
    finally:
        say("Taking the lab down")
        lab("absent")
    seconds = time.monotonic() - began
    if broken:
        raise SystemExit(f"\nThe demo took {seconds:.0f} s and did not keep its word:\n  " + "\n  ".join(broken))
    print(f"\nEverything was as promised, in {seconds:.0f} s.")


if __name__ == "__main__":
    main()
