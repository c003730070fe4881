# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Firmware on many machines at once, each with a BMC that is at work for three seconds."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from multiprocessing.connection import Connection
from pathlib import Path

from measure import FORK, Costs, Finding, Meters

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from bmc import Bmc, serve
from documents import policy_of, write_document
from rack import Rack
from registry import make_certificate

CPU_OF_A_UNIT = "controller_cpu_seconds_of_a_unit"
POLLS = "polls_per_second_of_a_unit"
DEVICES = "what the devices of the waves take"
_WAVES = 4
_DEVICE_SECONDS = 3.0
_OLD, _NEW = "2.4.0", "2.5.0"
_MINUTES = {"transfer": 2, "silence": 2, "restart": 2}  # how long they may take is not the matter here
_EMPTY = "three tasks that do nothing on each host"  # as many as a deployment has for each
_NOTHING = {"hosts": "all", "gather_facts": False, "connection": "local", "tasks": [{"ansible.builtin.debug": {"msg": "x"}}] * 3}
_OF_A_PROCESS = 50  # BMCs, whose work is not the controller's, so they are in processes of their own


@dataclass
class _Record:
    """What a BMC has of a run. ``reads``: when it was asked for which page, by the monotonic clock; ``down``: from when to when it was at
    work, by the same; ``requests``: of any kind."""

    reads: list[tuple[float, str]] = field(default_factory=list)
    down: list[list[float]] = field(default_factory=list)
    requests: int = 0
    flashed: list[str] = field(default_factory=list)
    version: str = ""


class _Row:
    """BMCs that answer in a process of their own."""

    def __init__(self, machines: dict[str, Bmc], key: Path, certificate: Path) -> None:
        self._connection, theirs = FORK.Pipe()
        self._process = FORK.Process(target=_answer, args=(machines, key, certificate, theirs), daemon=True)
        self._process.start()
        theirs.close()
        for name, url in self._connection.recv().items():
            machines[name].url = url

    def cpu_seconds(self) -> float:
        """What they have used."""
        ticks = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")

    def close(self) -> dict[str, _Record]:
        """End them; what they have on record."""
        self._connection.send(None)
        records: dict[str, _Record] = self._connection.recv()
        self._process.join()
        return records


def _answer(machines: dict[str, Bmc], key: Path, certificate: Path, connection: Connection) -> None:
    """Have BMCs answer until somebody says that it is enough, who then gets their records."""
    records = {name: _Record() for name in machines}

    def note(name: str, path: str) -> None:
        records[name].reads.append((time.monotonic(), path))

    with contextlib.ExitStack() as stack:
        for name, machine in machines.items():
            machine.answer_with = lambda path, name=name: note(name, path)
            stack.enter_context(serve(machine, key, certificate, 1.0))
        connection.send({name: machine.url for name, machine in machines.items()})
        connection.recv()
        for name, machine in machines.items():
            records[name].requests, records[name].down = len(machine.requests), machine.down
            records[name].flashed, records[name].version = machine.flashed, machine.components["BIOS"].version
        connection.send(records)


def firmware_waves(units: int | None) -> Finding:
    """Deploy firmware to machines, 200 if nothing else is said, in four waves, against the time that the devices of the waves take."""
    count = units or 200
    path = Path(tempfile.mkdtemp(prefix="tidegate-bench-"))
    try:
        key, certificate = make_certificate(path)
        machines = {f"srv{n:03}": Bmc(serial=f"SN-{n:03}", tag=f"A-{n:03}", seconds=_DEVICE_SECONDS / 2) for n in range(count)}
        names = list(machines)
        cuts = [names[at : at + _OF_A_PROCESS] for at in range(0, count, _OF_A_PROCESS)]
        rows = [_Row({name: machines[name] for name in cut}, key, certificate) for cut in cuts]
        rack = Rack(path, machines, certificate, minutes=_MINUTES)
        wave = -(-count // _WAVES)
        rack.settings["ANSIBLE_FORKS"] = str(wave)
        steps = [100 * number // _WAVES for number in range(2, _WAVES + 1)]
        rollout = {"stable": 0, "canary": wave, "steps": steps, "order_by": None}
        write_document(path / "policy.yml", policy_of(rollout=rollout))
        rfc = rack.rfc("CHG0200001", _NEW, rack.archive(_NEW, [_OLD]))

        costs = Costs(lambda: Meters(cpu_seconds=sum(row.cpu_seconds() for row in rows)))
        write_document(path / "nothing.yml", [_NOTHING])
        costs.take(_EMPTY, lambda: _ended(rack.run(["ansible-playbook", "-i", str(path / "cmdb.yml"), str(path / "nothing.yml")])))
        costs.take("ours", lambda: _ended(rack.start("deploy", rfc)))
        records = {name: record for row in rows for name, record in row.close().items()}
        wrong = [name for name, one in records.items() if one.flashed != [_NEW] or one.version != _NEW or rack.installed.get(name) != _NEW]
        if wrong:
            raise RuntimeError(f"{len(wrong)} units were not flashed once and recorded so: {', '.join(wrong[:5])}")
        waves = list(_seconds_of_waves(path / "cmdb.sqlite"))
        finding = Finding(sum(waves), (DEVICES, _DEVICE_SECONDS * len(waves)), costs=costs)
        finding.details = {
            "units": count,
            "seconds_of_waves": [round(seconds, 2) for seconds in waves],
            CPU_OF_A_UNIT: round(costs["ours"].controller_cpu_seconds / count, 3),
            "of_that_for_empty_tasks": round(costs[_EMPTY].controller_cpu_seconds / count, 3),
            POLLS: round(max(map(_polls, records.values())), 2),
            "requests_of_a_unit": statistics.fmean(record.requests for record in records.values()),
        }
        print("".join(f"    {name}: {value}\n" for name, value in finding.details.items()), end="", flush=True)
        return finding
    finally:
        shutil.rmtree(path)


def _ended(process: subprocess.Popen[str]) -> None:
    with process:
        said, _none = process.communicate()
    if process.returncode:
        raise RuntimeError(said[-2000:])


def _seconds_of_waves(cmdb: Path) -> Iterator[float]:
    """From when a wave was opened to when its gate had decided, by the journal."""
    with contextlib.closing(sqlite3.connect(cmdb)) as connection:
        for opened, decided in connection.execute("select opened, decided from wave order by number"):
            yield (datetime.fromisoformat(decided) - datetime.fromisoformat(opened)).total_seconds()


def _polls(record: _Record) -> float:
    """How often a second it was asked for the page that it was asked for most while it was at work, on average."""
    polls = []
    for begun, ended in record.down:
        pages = Counter(path for at, path in record.reads if begun <= at < ended)
        polls.append(max(pages.values(), default=0) / (ended - begun))
    return max(polls, default=0.0)
