# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deployments on many hosts, whole and in parts: Django as a first install, its upgrade, the way back; and the same by other means.

Ours clears, plans, stages and activates in four waves with a gate after each, and records all of it; the others do none of that.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peers
from documents import simple_manifest, write_document
from hosts import VERSIONS, Field
from measure import Costs, Finding

OLD, NEW = VERSIONS
PLAYBOOK = "a playbook of builtin modules"
PLAYBOOK_OF_COPIES = "the same with copies"
SHARED = "ours, shared files"
QUARTER = "a quarter of them"
AT_ONCE = "at one instant"
FLIPS, WAYS_BACK = "spread_of_the_flip", "spread_of_the_way_back"
WAITER, AGAINST_PLAIN = "who_waits", "controller_cpu_against_a_plain_wave"
CONTROLLER_STEP = "controller_cpu_seconds_of_a_step"
_WAVES: dict[str, Any] = {"canary": 1, "steps": [25, 50, 100]}
_TAR = "plain ssh + tar"
_LINKS, _COPIES = "plain ssh + hard links", "plain ssh + copies"
_PLAIN = "each host on its own"
_KILLED = Path(__file__).parents[1] / "integration" / "kill" / "killed.py"
_ALONE = 8  # waves of one host

# Writes when it began and ended, and to which host it went.
_TIMING_SSH = """\
#!/bin/sh
begun=$(date +%s.%N)
ssh "$@"
status=$?
for argument; do case $argument in {network}.*) host=$argument ;; esac; done
echo "$begun $(date +%s.%N) $host" >>{log}
exit $status
"""


def stage_install(field: Field) -> Finding:
    """A first install of the old version, complete beside whatever runs."""
    costs = Costs(field.meters)
    field.fresh()
    costs.take("an Ansible module that does nothing", lambda: peers.play(field, {"ansible.builtin.ping": {}}))
    costs.take(_TAR, lambda: peers.unpack(field, OLD))
    peers.clear(field)
    _take_ours(costs, field, "stage", OLD)
    return costs.finding(_TAR)


def stage_upgrade(field: Field) -> Finding:
    """The new version, complete beside the old one."""
    costs = Costs(field.meters)
    field.fresh()
    peers.unpack(field, OLD)
    costs.take(_COPIES, lambda: peers.copy_and_patch(field, "cp -a"), before=lambda: field.release(NEW))
    peers.clear(field)
    _run(field, "deploy", OLD)
    _take_ours(costs, field, "stage", NEW)
    return costs.finding(_COPIES)


def deploy_install(field: Field) -> Finding:
    """A first install, live on all hosts."""
    costs = Costs(field.meters)
    field.fresh()
    _take_ours(costs, field, "deploy", OLD)
    field.fresh()
    costs.take(_TAR, lambda: peers.unpack(field, OLD))
    peers.clear(field)
    costs.take("pyinfra", lambda: peers.pyinfra(field, OLD), before=peers.install_pyinfra)
    peers.clear(field)
    costs.take(PLAYBOOK, lambda: peers.playbook(field, OLD))
    peers.clear(field)
    costs.take("ansistrano.deploy", lambda: peers.ansistrano(field, OLD))
    peers.clear(field)
    return costs.finding(_TAR)


def deploy_upgrade(field: Field) -> Finding:
    """The new version, live on all hosts, which ran the old one; the floor makes copies, for a release's files are its own by default."""
    costs = Costs(field.meters)
    for name, shared in (("ours", False), (SHARED, True)):
        field.fresh()
        _run(field, "deploy", OLD, share_files=shared)
        _take_ours(costs, field, "deploy", NEW, name, share_files=shared)
    field.fresh()
    field.release(NEW)
    peers.unpack(field, OLD)
    for name, work in (
        (_LINKS, lambda: peers.copy_and_patch(field, "cp -al")),
        (_COPIES, lambda: peers.copy_and_patch(field, "cp -a")),
        ("pyinfra", lambda: peers.pyinfra(field, NEW)),
        (PLAYBOOK, lambda: peers.playbook(field, NEW)),
        (PLAYBOOK_OF_COPIES, lambda: peers.playbook_of_copies(field)),
    ):
        costs.take(name, work, before=peers.install_pyinfra if name == "pyinfra" else None)
        peers.without_upgrade(field)
    peers.clear(field)
    costs.take("ansistrano.deploy", lambda: peers.ansistrano(field, NEW), before=lambda: peers.ansistrano(field, OLD))
    peers.clear(field)
    return costs.finding(_COPIES)


def backout_all(field: Field) -> Finding:
    """All hosts back after the upgrade, against the upgrade."""
    costs = Costs(field.meters)
    field.fresh()
    _run(field, "deploy", OLD)
    _take_ours(costs, field, "deploy", NEW, "the upgrade")
    _take_ours(costs, field, "backout", NEW)
    return costs.finding("the upgrade")


def activate_only(field: Field) -> Finding:
    """The waves of an upgrade that is staged, against a link on each host at once."""
    costs = Costs(field.meters)
    field.fresh()
    costs.take("plain ssh + link", lambda: peers.link(field))
    peers.clear(field)
    _run(field, "deploy", OLD)
    _run(field, "stage", NEW)
    _take_ours(costs, field, "deploy", NEW)
    return costs.finding("plain ssh + link")


def deploy_nothing(field: Field) -> Finding:
    """A deployment that is complete, once more, against one debug on this machine."""
    costs = Costs(field.meters)
    field.fresh()
    _run(field, "deploy", OLD)
    _take_ours(costs, field, "deploy", OLD)
    debug = {"hosts": "localhost", "connection": "local", "become": False}
    costs.take("ansible-playbook with one debug", lambda: peers.play(field, {"ansible.builtin.debug": {}}, **debug))
    return costs.finding("ansible-playbook with one debug")


def deploy_growth(field: Field) -> Finding:
    """A first install on all hosts, against one on a quarter of them: run it with 40 hosts for 10 to 40, with 200 for 50 to 200."""
    costs = Costs(field.meters)
    quarter = field.count // 4
    field.fresh()
    _take_ours(costs, field, "deploy", OLD, QUARTER, hosts=quarter)
    field.fresh()
    _take_ours(costs, field, "deploy", OLD)
    finding = costs.finding(QUARTER)
    more = costs["ours"].controller_cpu_seconds - costs[QUARTER].controller_cpu_seconds
    steps = 2 * (field.count - quarter)  # each host is staged and activated
    return Finding(finding.seconds, finding.floor, finding.peers, costs, {CONTROLLER_STEP: round(more / steps, 3)})


def small_wave(field: Field) -> Finding:
    """A wave of one host, against what the bar allows: 1.2 times the round trips of its host and 0.3 seconds."""
    costs = Costs(field.meters)
    hosts = min(_ALONE, field.count)
    waves: dict[str, Any] = {"steps": [100 * number // hosts for number in range(2, hosts + 1)]}
    field.fresh()
    _run(field, "deploy", OLD, hosts=hosts)
    _run(field, "stage", NEW, hosts=hosts, **waves)
    log, program = field.path / "trips", field.path / "timing-ssh"
    program.write_text(_TIMING_SSH.format(network=field.network, log=shlex.quote(str(log))))
    program.chmod(0o755)
    field.settings["ANSIBLE_SSH_EXECUTABLE"] = str(program)
    _take_ours(costs, field, "deploy", NEW, hosts=hosts, **waves)
    del field.settings["ANSIBLE_SSH_EXECUTABLE"]
    trips: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for line in log.read_text().splitlines():
        begun, ended, host = line.split()
        trips[host].append((float(begun), float(ended)))
    begins = sorted(min(pairs)[0] for pairs in trips.values())
    wave = (begins[-1] - begins[0]) / (len(begins) - 1)
    travel = sum(ended - begun for pairs in trips.values() for begun, ended in pairs) / len(trips)
    floor = ("1.2 x its round trips + 0.3 s", 1.2 * travel + 0.3)
    return Finding(wave, floor, costs=costs, details={"round_trips_seconds": round(travel, 3)})


def activation_skew(field: Field) -> Finding:
    """How far apart hosts are switched at one instant, and go back by themselves when the controller dies, while both cores are busy;
    and what that costs the controller, against a wave of which each host is on its own."""
    costs = Costs(field.meters)
    policies: dict[str, dict[str, Any]] = {
        _PLAIN: {},
        AT_ONCE: {"together": {"skew_milliseconds": 5000}, "confirm_minutes": 10},
    }
    spreads = {}
    for name, more in policies.items():
        field.fresh()
        field.run("tidegate.release.deploy", {"tidegate_rfc": small_release(field, "1", field.count)})
        rfc = small_release(field, "2", field.count, **more)
        field.run("tidegate.release.stage", {"tidegate_rfc": rfc})
        with _busy():
            costs.take(name, lambda rfc=rfc: field.run("tidegate.release.deploy", {"tidegate_rfc": rfc}))  # type: ignore[misc]
        spreads[name] = _spread(field)
    field.fresh()
    field.run("tidegate.release.deploy", {"tidegate_rfc": small_release(field, "1", field.count)})
    rfc = small_release(field, "2", field.count, together={"skew_milliseconds": 5000, "lead_seconds": 20}, confirm_minutes=0.25)
    deploy = field.command("tidegate.release.deploy", {"tidegate_rfc": rfc})
    killed = [sys.executable, str(_KILLED), "fire", "", "18", "group"]
    waiters: list[tuple[float, float]] = []
    with _busy():
        with subprocess.Popen([*killed, *deploy], env=field.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
            while run.poll() is None:
                waiters = max(waiters, _waiters(), key=len)
                time.sleep(1)
        if run.returncode:
            raise RuntimeError(f"the run that was to be killed ended with {run.returncode}")
        time.sleep(2 + 15 + 15)  # the instant, the time to confirm, and some more
    states = set(field.everywhere_says("cat /opt/tidegate/hello/current/file"))
    details: dict[str, Any] = {FLIPS: spreads, WAYS_BACK: _spread(field), "hosts_run_then": sorted(states)}
    most = (max((one[place] for one in waiters), default=float("nan")) for place in (0, 1))
    details[WAITER] = {"hosts": len(waiters), **dict(zip(("mib", "cpu"), most, strict=True))}
    ours, plain = costs[AT_ONCE].controller_cpu_seconds, costs[_PLAIN].controller_cpu_seconds
    details[AGAINST_PLAIN] = round(ours / plain, 2)
    print("".join(f"    {name}: {value}\n" for name, value in details.items()), end="", flush=True)
    return Finding(spreads[AT_ONCE], ("100 ms", 0.1), costs=costs, details=details)


def _waiters() -> list[tuple[float, float]]:
    """What each process takes that waits on a lab host for an instant: MiB with what it shares with others (RSS), as on a host there is one
    of it, and CPU seconds a second, since it began to wait."""
    found = []
    tick = os.sysconf("SC_CLK_TCK")
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(os.readlink(fd).endswith("/opt/tidegate/hello/armed") for fd in (process / "fd").iterdir()):
                lines = (process / "smaps_rollup").read_text().splitlines()
                own = [int(line.split()[1]) for line in lines if line.startswith(("Private_", "Shared_"))]
                fields = (process / "stat").read_text().rpartition(")")[2].split()
                age = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / tick
                cpu = (int(fields[11]) + int(fields[12])) / tick
                found.append((round(sum(own) / 1024, 1), round(cpu / max(age, 1), 3)))
    return found


def _spread(field: Field) -> float:
    """Between the first and the last of the hosts' links, by when each got its name (it was made before), in seconds."""
    named = list(map(float, field.everywhere_says("stat -c %.9Z /opt/tidegate/hello/current")))
    return round(max(named) - min(named), 4)


@contextlib.contextmanager
def _busy() -> Iterator[None]:
    """Both cores have something else to do."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _core in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def own_role(field: Field) -> Finding:
    """What a role that does nothing adds to a wave of a small tree: in one wave of six hosts, and of all of them."""
    costs = Costs(field.meters)
    added = {}
    for hosts in dict.fromkeys((min(6, field.count), field.count)):
        field.fresh()
        for version, role in (("1", False), ("2", True)):
            name = f"{'ours' if role else 'the tree alone'}, {hosts} hosts"
            rfc = small_release(field, version, hosts, role=role)
            field.run("tidegate.release.stage", {"tidegate_rfc": rfc})
            costs.take(name, lambda rfc=rfc: field.run("tidegate.release.deploy", {"tidegate_rfc": rfc}))  # type: ignore[misc]
        ours, alone = costs[f"ours, {hosts} hosts"], costs[f"the tree alone, {hosts} hosts"]
        added[hosts] = (ours.seconds - alone.seconds, (ours.cpu_seconds - alone.cpu_seconds) / hosts)
    few = min(added)
    details = {f"cpu_seconds_of_each_of_{hosts}": round(cpu, 3) for hosts, (_seconds, cpu) in added.items()}
    return Finding(added[few][0], ("two seconds a wave", 2.0), costs=costs, details=details)


def small_release(field: Field, version: str, hosts: int, *, role: bool = False, **rollout: Any) -> str:
    """An RFC for a small release, in one wave of these hosts."""
    folder = field.path / "releases" / f"small-{version}"
    (folder / "payload").mkdir(parents=True, exist_ok=True)
    (folder / "payload" / "file").write_text(version)
    (folder / "README.md").write_text("# small\n")
    own: dict[str, Any] = {}
    if role:
        steps = ["drain", "activate", "check", "restore"]
        for step in (*steps, "back_out"):
            tasks = folder / "ansible" / "app" / "tasks" / f"{step}.yml"
            tasks.parent.mkdir(parents=True, exist_ok=True)
            tasks.write_text("- name: Nothing\n  ansible.builtin.meta: noop\n")
        said = {"role": "ansible/app", "steps": steps, "on_first": "back_out", "atomic": False, "gather_facts": False}
        own["ansible"] = said
    write_document(folder / "release.yml", simple_manifest(version=version, summary="Small", **own))
    field.write_policy(rollout={"canary": hosts, "steps": [100], "stable": 0, **rollout})
    digest = field.archive_folder(folder)
    return str(field.rfc(f"CHG900000{version}", version, digest, scope=f"[?contains({field.hosts[:hosts]!r}, name)]"))


def _take_ours(costs: Costs, field: Field, verb: str, version: str, name: str = "ours", **changes: Any) -> None:
    rfc = _prepare(field, version, **changes)
    costs.take(name, lambda: field.run(f"tidegate.release.{verb}", {"tidegate_rfc": rfc}))


def _run(field: Field, verb: str, version: str, **changes: Any) -> None:
    field.run(f"tidegate.release.{verb}", {"tidegate_rfc": _prepare(field, version, **changes)})


def _prepare(field: Field, version: str, hosts: int | None = None, **rollout: Any) -> str:
    """Archive the version, write policy and RFC; returns where that is. ``hosts``: on so many of them only."""
    field.write_policy(rollout={**_WAVES, **rollout})
    scope = "[?class=='server']" if hosts is None else f"[?contains({field.hosts[:hosts]!r}, name)]"
    return str(field.rfc(f"CHG{re.sub('[.]', '', version)}", version, field.archive(version), scope=scope))
