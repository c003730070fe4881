# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controllers killed at each step of an update, and what becomes of the machines that they were at when somebody goes on.

Takes half an hour, so it is run only when it is asked for: ``make bench ONLY=firmware_kills``, with HOSTS=3 three times for each step.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.firmware.device import UpdateStep
from measure import RESULTS, machine, write_json

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from bmc import Component
from rack import Rack, build_rack

NAME = "firmware_kills"
_STEPS = [step for step in UpdateStep if step is not UpdateStep.OVER]
_MINUTES = {"transfer": 2, "silence": 2, "restart": 2}  # a busy machine is not what is looked for
_LATER = 0.4  # seconds after the step was noted within which the kill comes, so that it hits what is before, in and behind a step
_PATIENCE = 180.0
_COUNTED = ("kills", "flashed twice", "not flashed", "recorded wrong", "did not complete")


def run(times: int | None) -> None:
    """Kill each step so many times, 20 unless said; the counts go into the results."""
    count, path = times or 20, Path(tempfile.mkdtemp(prefix="tidegate-bench-"))
    chance = random.Random(16)  # noqa: S311 - the same moments each time
    found: Counter[str] = Counter()
    began, killed_at = time.monotonic(), Counter[str]()
    try:
        with build_rack(path, _MINUTES) as rack:
            rack.waves(len(rack.machines))
            version = "2.4.0"
            for number in range(count * len(_STEPS)):
                step = _STEPS[number % len(_STEPS)]
                before, version = version, f"2.5.{number}"
                found += _trial(rack, number, step, before, version, chance.uniform(0, _LATER), killed_at)
                if step is _STEPS[-1]:
                    print(f"    {dict(found)}, {time.monotonic() - began:.0f} s", flush=True)
    finally:
        shutil.rmtree(path)
    counts = {name.replace(" ", "_"): found[name] for name in _COUNTED}
    result = {**counts, "units_at_step": dict(killed_at), "seconds": round(time.monotonic() - began, 1), "machine": machine()}
    write_json(NAME, result)
    print(f"    {json.dumps(result)}\nresults in {RESULTS}", flush=True)


def _trial(rack: Rack, number: int, step: str, before: str, version: str, later: float, killed_at: Counter[str]) -> Counter[str]:
    """Deploy a version, kill the controller when one of the machines is at a step, deploy again; what is not as it should be then."""
    rfc = f"CHG{300_000 + number:07}"
    file = rack.rfc(rfc, version, rack.archive(version, [before]))
    host = list(rack.machines)[number % len(rack.machines)]
    found: Counter[str] = Counter()
    with rack.start("deploy", file) as process:
        end = time.monotonic() + _PATIENCE
        while process.poll() is None and time.monotonic() < end and step not in _steps_of(rack, rfc, host):
            time.sleep(0.01)
        time.sleep(later)
        found["kills"] += process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    killed_at.update(_steps_of(rack, rfc, name)[-1] for name in rack.machines if _steps_of(rack, rfc, name))
    status, said = rack.play("deploy", file)
    states = set(rack.states(rfc).values())
    if status or rack.deployment(rfc) != "completed" or states != {"active"}:
        found["did not complete"] += 1
        print(f"    {rfc}, killed at {step}: {rack.deployment(rfc)}, {states}\n{said[-1500:]}", flush=True)
        rack.play("backout", file)
        for one in rack.machines.values():  # the next one begins anew
            one.components["BIOS"] = Component(version)
    attributes = {name: json.loads(said) for name, said in rack.rows("select name, attributes from ci")}
    units = dict(rack.rows("select a.serial, f.version from asset_firmware f join asset a on a.id = f.asset_id"))
    for name, one in rack.machines.items():
        runs = one.components["BIOS"].version
        found["not flashed"] += version not in one.flashed
        found["flashed twice"] += one.flashed.count(version) > 1
        recorded = {rack.installed.get(name), attributes[name].get("firmware", {}).get("BIOS"), units.get(one.serial)}
        found["recorded wrong"] += recorded != {runs}
    return found


def _steps_of(rack: Rack, rfc: str, host: str) -> list[str]:
    """The steps of a host that the journal has."""
    query = (
        "select j.data from journal j join deployment d on d.id = j.deployment_id "
        "where d.rfc = ? and j.event = 'firmware_step' and j.host = ? order by j.seq"
    )
    rows: list[Any] = []
    try:
        rows = rack.rows(query, rfc, host)
    except sqlite3.OperationalError:  # somebody writes
        return []
    return [json.loads(data)["step"] for (data,) in rows]
