# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who waits on a host for an instant outlives the login session that armed it, where logind ends all that is left of one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.tidegate.release.plugins import module_utils
from ansible_collections.tidegate.release.plugins.module_utils.lab import processes
from bed import Host, package
from fleet import Fleet
from systemd_host import boot, sweep
from waiting import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="isolated lab hosts need root")

ONE, TWO = package("1.0"), package("2.0")
HOME = "/opt/bed/hello"
LOGIND = r"""
set -e
mkdir -p /etc/systemd/logind.conf.d
printf '[Login]\nKillUserProcesses=yes\n' >/etc/systemd/logind.conf.d/kill.conf
systemctl daemon-reload
systemctl start dbus.socket dbus.service systemd-logind.service
"""
# What the program of a host does, without what brings it there.
SCRIPT = """
import sys, time
from half.instant import arm, tell
from half.release_home import ReleaseHome
from half.release_hooks import Order, Terms
from half.repair import Supplies

home, order = ReleaseHome("/opt/bed", "hello"), Order("hello-1", 1, {}, Supplies(), 0, terms=Terms(300, 30))
with home.locked(5):
    print((arm(home, *sys.argv[1:], order) if sys.argv[1:] else tell(home, time.time() + 5, order))["state"])
"""
INSIDE = "nsenter -t $(cat /run/systemd.pid) -m -p -C -r -w --"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Fleet]:
    """A host with systemd and logind, on which 1.0 is live and 2.0 staged."""
    fleet, group = Fleet(tmp_path / "fleet", count=1), ""
    own = Host(tmp_path / "bed")
    own.deploy(ONE)
    own.stage(TWO)
    fleet.path.mkdir()
    try:
        fleet.up()
        group = boot(fleet, "web1")
        fleet.run_on("web1", LOGIND)
        root = next(
            root
            for root in (Path("/proc", str(process.pid), "root") for process in processes.find(fleet.path / "lab"))
            if (root / "etc" / "ssh" / "lab_config").exists()
        )
        shutil.copytree(own.root, root / "opt" / "bed", symlinks=True)
        shutil.copytree(Path(str(module_utils.__path__[0])), root / "opt" / "half" / "half")
        (root / "opt" / "half" / "script.py").write_text(SCRIPT)
        yield fleet
    finally:
        fleet.down()
        if group:
            sweep(group)


def log_in(fleet: Fleet, command: str) -> str:
    """Run a command in a login session of a user, which ends with it; return what it prints."""
    return fleet.run_on("web1", f"{INSIDE} systemd-run --quiet --wait --pipe --uid=deploy -p PAMName=login sh -c '{command}'")


def is_held(fleet: Fleet, path: str) -> bool:
    """Whether a process holds the lock of a file."""
    return fleet.run_on("web1", f"flock --nonblock {path} true && echo free || echo held").strip() == "held"


def test_who_waits_outlives_the_session_that_armed_the_host(host: Fleet) -> None:
    assert "/session-" in log_in(host, "cat /proc/self/cgroup; setsid sleep 4321 >/dev/null 2>&1 & sleep 1")
    wait_until(lambda: host.run_on("web1", "pgrep -x sleep || true") == "")  # such a session ends with all its processes
    armed = f"sudo env PYTHONPATH=/opt/half PYTHONDONTWRITEBYTECODE=1 python3 /opt/half/script.py {TWO.digest} {ONE.digest}"
    assert log_in(host, armed).strip() == "armed"
    wait_until(lambda: "deploy" not in host.run_on("web1", f"{INSIDE} loginctl list-sessions --no-legend"))
    assert is_held(host, f"{HOME}/armed")
    assert "tidegate-guard-" in host.run_on("web1", "systemctl list-units --no-pager --type=scope")
    assert host.run_on("web1", "PYTHONPATH=/opt/half python3 /opt/half/script.py").strip() == "told"
    wait_until(lambda: not is_held(host, f"{HOME}/armed"))
    assert host.run_on("web1", f"cat {HOME}/current/version").strip() == "2.0", host.run_on("web1", f"cat {HOME}/armed")
