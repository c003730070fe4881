# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo: a service on eight hosts is installed, upgraded in waves, and saved from three broken releases, while a client uses it.

Run it with `make demo`. It ends with 0 only if everything that it promises was true.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILD = ROOT / "build" / "demo"
SITES = ("ams", "lon")
HOSTS = {f"{site}{number}": site for site in SITES for number in range(1, 5)}
PORT = 8080
GOOD = "2.3.2"
BROKEN, DYING, WRITING = "2.4.2", "2.3.2-dies", "2.3.2-writes"
VERSIONS = {"2.2.0": "CHG0030001", GOOD: "CHG0030002", BROKEN: "CHG0030003", DYING: "CHG0030004", WRITING: "CHG0030005"}
# The start hook of a release that is bad; those in faults/ are of our own making, in what is otherwise the good one.
FAULTS = {BROKEN: '"bin/start", "--no-such-option"', DYING: '"bin/serve-briefly"', WRITING: '"bin/scribble"'}


def say(text: str) -> None:
    print(f"\n== {text}", flush=True)


def run(*command: str, status: tuple[int, ...] = (0,), **extra: str) -> int:
    """Run a command in sight of the user; leave when it ends with another status than was expected."""
    print("$ " + " ".join(command).replace(f"{ROOT}/", ""), flush=True)
    ended = subprocess.run(command, cwd=ROOT, env={**os.environ, **extra}, check=False).returncode
    if ended not in status:
        raise SystemExit(f"that ended with {ended}; the demo stops here")
    return ended


def playbook(name: str, *arguments: str, status: tuple[int, ...] = (0,)) -> int:
    inventory = BUILD / "cmdb.yml"
    return run(
        "ansible-playbook",
        name,
        "-i",
        str(inventory if inventory.exists() else BUILD / "lab" / "inventory.yml"),
        *arguments,
        status=status,
        TIDEGATE_DSL=str(BUILD / "dsl"),
        TIDEGATE_CMDB=str(BUILD / "cmdb.sqlite"),
        TIDEGATE_POLICY=str(HERE / "policy.yml"),
    )


def lab(state: str) -> None:
    hosts = [{"name": name, "site": site, "environment": "live"} for name, site in HOSTS.items()]
    variables = {"lab_path": str(BUILD / "lab"), "lab_hosts": hosts, "lab_cmdb": str(BUILD / "cmdb.sqlite")}
    (BUILD / "lab.json").write_text(json.dumps(variables))
    run("ansible-playbook", "tidegate.release.lab", "-i", "localhost,", "-e", f"@{BUILD}/lab.json", "-e", f"lab_state={state}")


def make_release(version: str) -> Path:
    """Put a release's directory together as a team would: what pip installs, two hooks and a page of documentation."""
    folder = BUILD / "releases" / version
    payload = folder / "payload"
    shutil.copytree(HERE / "pypiserver", folder, ignore=shutil.ignore_patterns("bin"))
    if version in (DYING, WRITING):
        shutil.copytree(BUILD / "releases" / GOOD / "payload", payload)
        shutil.copytree(HERE / "faults", payload / "bin", dirs_exist_ok=True)
    else:
        shutil.copytree(HERE / "pypiserver" / "bin", payload / "bin")
        run(
            sys.executable, "-m", "pip", "install", "-qqq", "--disable-pip-version-check", "--no-compile",
            "--target", str(payload / "lib"), "--constraint", str(HERE / "constraints.txt"), f"pypiserver=={version}",
        )  # fmt: skip
    manifest = folder / "release.yml"
    text = manifest.read_text().replace("@VERSION@", version).replace('"@START@"', FAULTS.get(version, '"bin/start"'))
    manifest.write_text(text.replace('"@PATIENCE@"', "5" if version in FAULTS else "20"))
    return folder


def write_rfc(version: str, digest: str) -> Path:
    now = datetime.now(UTC).replace(microsecond=0)
    rfc = {
        "schema": 1,
        "number": VERSIONS[version],
        "type": "normal",
        "state": -2,
        "risk": 3,
        "impact": 3,
        "short_description": f"pypiserver {version} on all index hosts",
        "requested_by": "rita",
        "start_date": (now - timedelta(minutes=5)).isoformat(),
        "end_date": (now + timedelta(hours=2)).isoformat(),
        "backout_plan": "Every host returns to the release it had; the gate does it by itself.",
        "test_plan": "The health check of the release, on every host.",
        "release": {"name": "pypiserver", "version": version, "digest": digest},
        "scope": "[?class=='server' && environment=='live']",
        "approvals": [
            {"approver": "carl", "role": "change-manager", "state": "approved", "decided_at": (now - timedelta(hours=1)).isoformat()}
        ],
    }
    path = BUILD / f"{rfc['number']}.yml"
    path.write_text(yaml.safe_dump(rfc, sort_keys=False))
    return path


@dataclass
class Client:
    """Somebody who uses the service ten times a second, trying the next host when one does not answer."""

    addresses: list[str]
    requests: int = 0
    retries: int = 0
    failed: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._use, daemon=True)
        self._thread.start()

    def stop(self) -> dict[str, int]:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        return {"requests": self.requests, "retries": self.retries, "failed": self.failed}

    def _use(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            first = self.requests % len(self.addresses)
            self.requests += 1
            for address in self.addresses[first:] + self.addresses[:first]:
                if ask(address, "/health") is not None:
                    break
                self.retries += 1
            else:
                self.failed += 1
            self._stop.wait(max(0.0, 0.1 - (time.monotonic() - began)))


def ask(address: str, path: str) -> str | None:
    connection = http.client.HTTPConnection(address, PORT, timeout=1)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.read().decode() if answer.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def served_version(address: str) -> str | None:
    """The version that the service itself says it is."""
    found = re.search(r"running version ([0-9.]+)", ask(address, "/") or "")
    return found.group(1) if found else None


def demo() -> list[str]:
    """Run it all; return what was promised and not kept."""
    say("Bringing up eight lab hosts in two sites")
    lab("present")
    shutil.copy(HERE / "cmdb.yml", BUILD / "cmdb.yml")
    hosts = json.loads((BUILD / "lab" / "inventory.yml").read_text())["all"]["hosts"]
    addresses = {name: str(hosts[name]["ansible_host"]) for name in HOSTS}

    say("Archiving pypiserver 2.2.0, 2.3.2 and three broken releases in the definitive software library")
    rfcs = {}
    for version in VERSIONS:
        playbook("tidegate.release.archive", "-e", f"tidegate_release={make_release(version)}")
        rfcs[version] = write_rfc(version, archived_digest(version))

    say("Deploying 2.2.0 everywhere")
    playbook("tidegate.release.deploy", "-e", f"tidegate_rfc={rfcs['2.2.0']}")
    client = Client(list(addresses.values()))
    client.start()
    say("Upgrading to 2.3.2: a canary, then the rest, while a client asks ten times a second")
    playbook("tidegate.release.deploy", "-e", f"tidegate_rfc={rfcs['2.3.2']}")
    say("Trying 2.4.2, which does not start: the gate has to send it back")
    playbook("tidegate.release.deploy", "-e", f"tidegate_rfc={rfcs[BROKEN]}", status=(2,))
    say("Comparing hosts, CMDB and library")
    playbook("tidegate.release.audit")
    say("Trying a release that answers once and dies: the second look has to find it")
    playbook("tidegate.release.deploy", "-e", f"tidegate_rfc={rfcs[DYING]}", status=(2,))
    say("Trying a service that writes into its tree and does not start: what it goes back to has to be whole")
    playbook("tidegate.release.deploy", "-e", f"tidegate_rfc={rfcs[WRITING]}", status=(2,))
    say("Reading every byte that is live")
    trees = live_trees()
    probe = client.stop()
    say("Writing the report")
    playbook("tidegate.release.report", "-e", json.dumps({"tidegate_report": str(BUILD), "report_extra": {"probe": probe, "trees": trees}}))
    return judge(read_report(BUILD), addresses)


def read_report(directory: Path) -> dict[str, Any]:
    """The report in ``directory``, with all that its pages say: what each deployment did, and what each host runs."""
    report: dict[str, Any] = json.loads((directory / "report.json").read_text())
    report["deployments"] = [json.loads((directory / entry["data"]).read_text()) for entry in report["deployments"]]
    report["hosts"] = [host for page in report["hosts"] for host in json.loads((directory / page["data"]).read_text())["hosts"]]
    return report


def live_trees() -> dict[str, str]:
    """A digest over the files of the tree that is live on each host, as the host itself reads them, without any part of Tidegate."""
    folder = "{{ tidegate_root | default('/opt/tidegate') }}/pypiserver/current/"
    script = f"cd {folder} && find . -type f | LC_ALL=C sort | xargs sha256sum | sha256sum"
    become = json.dumps({"ansible_become": "{{ tidegate_become | default(true) }}"})
    command = ("ansible", ",".join(HOSTS), "-i", str(BUILD / "cmdb.yml"), "-m", "ansible.builtin.raw", "-a", script, "-e", become)
    environment = {**os.environ, "TIDEGATE_CMDB": str(BUILD / "cmdb.sqlite"), "ANSIBLE_NOCOLOR": "1"}
    said = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout
    return dict(re.findall(r"^(\S+) \| CHANGED \| rc=0 >>\n([0-9a-f]{64}) ", said, re.MULTILINE))


def tree_digest(folder: Path) -> str:
    """What :func:`live_trees` finds where the files are those of ``folder``."""
    names = sorted(f"./{path.relative_to(folder).as_posix()}" for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    lines = (f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def archived_digest(version: str) -> str:
    index = json.loads((BUILD / "dsl" / "index.json").read_text())
    reference = "org.opencontainers.image.ref.name"
    return next(entry["digest"] for entry in index["manifests"] if entry["annotations"][reference] == f"pypiserver:{version}")


def judge(report: dict[str, Any], addresses: dict[str, str]) -> list[str]:
    """Compare what happened with what was promised, and show it."""
    say("What happened")
    broken = []
    for deployment, (version, number) in zip(report["deployments"], VERSIONS.items(), strict=True):
        gates = ", ".join(
            f"wave {wave['number']} ({len(wave['hosts'])} host{'' if len(wave['hosts']) == 1 else 's'}): {wave['gate'] or 'not reached'}"
            for wave in deployment["waves"]
        )
        print(f"  {deployment['rfc']}  pypiserver {deployment['version']}  {deployment['state']:<11} {gates}")
        wanted = "backed_out" if version in FAULTS else "completed"
        if (deployment["rfc"], deployment["version"], deployment["state"]) != (number, version, wanted):
            broken.append(f"{number} should be pypiserver {version}, {wanted}")
        if version in FAULTS and deployment["waves"][0]["gate"] != "back_out":
            broken.append(f"the canary's gate of {number} should have said back_out")
    served = {name: served_version(address) for name, address in addresses.items()}
    print(f"  live now: {', '.join(f'{name} {version}' for name, version in served.items())}")
    recorded = {host["name"]: host["version"] for host in report["hosts"]}
    broken += [f"{name} should serve {GOOD}" for name in HOSTS if served[name] != GOOD]
    broken += [f"the report should say {GOOD} for {name}" for name in HOSTS if recorded.get(name) != GOOD]
    whole = tree_digest(BUILD / "releases" / GOOD / "payload")
    broken += [f"{name} should have the bytes of {GOOD}" for name in HOSTS if report["trees"].get(name) != whole]
    probe = report["probe"]
    print(f"  client: {probe['requests']} requests, {probe['retries']} retries on another host, {probe['failed']} failures")
    if probe["failed"] or not probe["requests"]:
        broken.append("no request of the client should have failed")
    print(f"  report: {BUILD / 'index.html'}", flush=True)
    return broken


def main() -> None:
    began = time.monotonic()
    shutil.rmtree(BUILD / "releases", ignore_errors=True)
    for leftover in ("cmdb.yml", "cmdb.sqlite", "cmdb.sqlite-wal", "cmdb.sqlite-shm", "report.json", "index.html"):
        (BUILD / leftover).unlink(missing_ok=True)
    for folder in ("dsl", "deployments", "hosts"):
        shutil.rmtree(BUILD / folder, ignore_errors=True)
    BUILD.mkdir(parents=True, exist_ok=True)
    lab("absent")  # what an interrupted demo may have left
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
