# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A controller killed at any moment of each step of an update: who goes on gives no machine anything twice, and records what it runs."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.action import devices
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.firmware import update
from ansible_collections.tidegate.release.plugins.plugin_utils.firmware.device import UpdateStep
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.firmware_journal import FirmwareJournal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.gate import GateDecision
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout, Share
from bmc import PASSWORD, USER
from rack import HOSTS, Rack, build_rack
from waiting import wait_until

MOMENTS = 20
SECONDS = 0.2  # from the first to the last of them, behind the note of the step
NUMBERS = itertools.count(1)
PROCEED = GateDecision("proceed", "because")
MINUTES = {"transfer": 1, "silence": 0.05, "restart": 0.05}  # which a restart that was noted is waited for, whether or not it was ordered


@pytest.fixture(scope="module")
def rack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    patch = pytest.MonkeyPatch()
    with patch.context() as changed, build_rack(tmp_path_factory.mktemp("rack"), MINUTES) as made:
        changed.setenv("REQUESTS_CA_BUNDLE", made.authority)
        changed.setattr(update, "_LOOK", 0.02)
        changed.setattr(devices, "shares", lambda hosts, _processors: [hosts[::2], hosts[1::2]])
        yield made


def begin(rack: Rack, version: str, digest: str) -> int:
    """Begin a deployment of one wave, with all staged; its number."""
    before = rack.versions[0]
    rollout = Rollout(canary=Share(10), steps=(100,), stable=0, firmware=True)
    with Cmdb.open(str(rack.path / "cmdb.sqlite")) as cmdb:
        journal = FirmwareJournal(cmdb)
        package = {"name": "bios", "version": version, "digest": digest}
        run = journal.begin(f"CHG{next(NUMBERS):07}", package, [HOSTS], rollout, Holder.this_run(), utc_now())
        for host in HOSTS:
            journal.staged(run, host, {"version": before, "digest": digest}, utc_now())
        journal.decide_staging(run, PROCEED, utc_now())
    return run.deployment


def drive(rack: Rack, number: int, *steps: str) -> None:
    """What a controller does that goes on with a deployment."""
    with Cmdb.open(str(rack.path / "cmdb.sqlite")) as cmdb:
        journal = FirmwareJournal(cmdb)
        run = journal.take_over(number, Holder.this_run(), utc_now(), ordered=True)
        for step in steps:
            action: Any = object.__new__(devices.ActionModule)
            action.options = {"step": step, "dsl": str(rack.path / "dsl"), "redfish_user": USER, "redfish_password": PASSWORD}
            action.options["cmdb"] = str(rack.path / "cmdb.sqlite")
            own = {f"tidegate_{name}": value for name, value in action.options.items()}
            action._task_vars = {"ansible_play_batch": HOSTS, "inventory_hostname": HOSTS[0], "hostvars": dict.fromkeys(HOSTS, own)}
            action._task, action._cmdb, action._run, action._host = SimpleNamespace(args={}), cmdb, run, HOSTS[0]
            found = action.visit(journal, journal.deployment(number))
            assert "progress" not in found, found["msg"]
        if "confirm" in steps:
            journal.decide_wave(run, 1, PROCEED, utc_now())


def forked(work: Callable[[], None]) -> int:
    """A process of its own that does the work."""
    # One that is forked while a BMC of ours encrypts an answer would wait for ever for what that has locked.
    wait_until(lambda: not [thread for thread in threading.enumerate() if "process_request_thread" in thread.name])
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException as error:
            os.write(sys.__stderr__.fileno(), f"{type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(status)
    return child


def noted(rack: Rack, number: int, host: str) -> list[str]:
    query = "select data from journal where deployment_id = ? and host = ? and event = 'firmware_step' order by seq"
    try:
        return [json.loads(data)["step"] for (data,) in rack.rows(query, str(number), host)]
    except sqlite3.OperationalError:
        return []


@pytest.mark.parametrize("moment", range(MOMENTS))
@pytest.mark.parametrize("step", [step for step in UpdateStep if step is not UpdateStep.OVER])
def test_no_machine_is_given_anything_twice_and_what_it_runs_is_recorded(rack: Rack, step: UpdateStep, moment: int) -> None:
    version, host = f"3.{step}.{moment}", HOSTS[moment % len(HOSTS)]
    number = begin(rack, version, rack.archive(version, [rack.versions[0]]))
    for machine in rack.machines.values():
        machine.flashed.clear()
    child = forked(lambda: drive(rack, number, "activate", "confirm"))
    wait_until(lambda: step in noted(rack, number, host) or os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT))
    time.sleep(SECONDS * moment / MOMENTS)
    os.kill(child, signal.SIGKILL)
    _pid, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):  # the last moments of the last steps may come when all is done
        _pid, status = os.waitpid(forked(lambda: drive(rack, number, "activate", "confirm")), 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert rack.flashed == [[version]] * len(HOSTS)
    assert rack.versions == [version] * len(HOSTS)
    assert rack.installed == dict.fromkeys(HOSTS, version)
    read = rack.rows("select name, attributes from ci")
    assert {name: json.loads(attributes)["firmware"]["BIOS"] for name, attributes in read} == rack.installed
    units = "select a.tag, f.version from asset_firmware f join asset a on a.id = f.asset_id where a.ci_id is not null"
    assert dict(rack.rows(units)) == {f"A-{name}": version for name in HOSTS}
