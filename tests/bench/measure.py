# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What something takes, what a benchmark finds, and the file that all of them write to."""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import os
import platform
import resource
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar, cast

RESULTS = Path("build/bench/results.json")
FORK = multiprocessing.get_context("fork")  # what is measured is a closure
_PR_SET_CHILD_SUBREAPER = 36
_T = TypeVar("_T")


@dataclass(frozen=True)
class Meters:
    """What the hosts have counted up to now."""

    cpu_seconds: float = 0.0
    wire_bytes: int = 0
    round_trips: tuple[int, ...] = ()  # of each host


@dataclass(frozen=True)
class Cost:
    """What something took."""

    seconds: float
    controller_cpu_seconds: float
    """Of all processes that were started for it on this side, ssh included."""
    hosts_cpu_seconds: float
    """Of all processes of the hosts, sshd included."""
    wire_bytes: int
    """Over the network, to and from all hosts, with all that carries them."""
    round_trips: float
    """Commands and file transfers that a host's sshd began, on average over those that it began any."""
    peak_mib: int
    """Memory of the largest process on this side; never less than the benchmark's own, which all of them are forked from."""

    @property
    def cpu_seconds(self) -> float:
        """Of both sides."""
        return self.controller_cpu_seconds + self.hosts_cpu_seconds

    def __str__(self) -> str:
        cpu = f"CPU {self.controller_cpu_seconds:.2f} + {self.hosts_cpu_seconds:.2f} s"
        return f"{self.seconds:.2f} s, {cpu}, {self.wire_bytes / 1e6:.1f} MB, {self.round_trips:.1f} round trips, {self.peak_mib} MiB"


class Costs(dict[str, Cost]):
    """What each of several that do the same took, by name."""

    def __init__(self, meters: Callable[[], Meters] = Meters) -> None:
        super().__init__()
        self._meters = meters

    def take(self, name: str, work: Callable[[], object], before: Callable[[], object] | None = None) -> None:
        """Measure ``work``, and not what has to be there ``before``; what fails says so and is left out, for a benchmark is no test."""
        try:
            if before is not None:
                before()
            self[name] = _cost(work, self._meters)
        except Exception as error:
            print(f"    {name}: left out, {error}", file=sys.stderr, flush=True)
        else:
            print(f"    {name}: {self[name]}", flush=True)

    def finding(self, floor: str, **details: Any) -> Finding:
        """As a benchmark gives it; raises :class:`RuntimeError` when ours or the floor was left out."""
        if "ours" not in self or floor not in self:
            raise RuntimeError("could not be measured")
        peers = {name: cost.seconds for name, cost in self.items() if name not in ("ours", floor)}
        return Finding(self["ours"].seconds, (floor, self[floor].seconds), peers, self, details)


def _cost(work: Callable[[], object], meters: Callable[[], Meters]) -> Cost:
    """Do ``work`` in a process of its own: what that and its children have used when it ends is what the work took on this side."""
    before = meters()
    seconds, cpu_seconds, peak_mib = forked(lambda: _used_by(work))
    after = meters()
    round_trips = [new - old for old, new in zip(before.round_trips, after.round_trips, strict=True) if new > old]
    return Cost(
        seconds,
        cpu_seconds,
        after.cpu_seconds - before.cpu_seconds,
        after.wire_bytes - before.wire_bytes,
        sum(round_trips) / len(round_trips) if round_trips else 0.0,
        peak_mib,
    )


def forked(work: Callable[[], _T]) -> _T:
    """What ``work`` returns in a process of its own; :class:`RuntimeError` when it fails."""
    receiving, sending = FORK.Pipe(duplex=False)
    process = FORK.Process(target=_worker, args=(work, sending))
    process.start()
    sending.close()
    try:
        failed, said = receiving.recv()
    except EOFError:
        failed, said = True, "it ended without a word"
    process.join()
    if failed:
        raise RuntimeError(said)
    return cast("_T", said)


def _worker(work: Callable[[], object], sending: Connection) -> None:
    try:
        sending.send((False, work()))
    except Exception as error:
        sending.send((True, f"{type(error).__name__}: {error}"))


def _used_by(work: Callable[[], object]) -> tuple[float, float, int]:
    """The seconds, CPU seconds and MiB of ``work``, which has this process to itself."""
    # The connections that Ansible's ssh keeps open in the background are children of this process when their parents end.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    begun = time.monotonic()
    try:
        work()
    finally:
        seconds = time.monotonic() - begun
        _end_children()
    own, others = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    cpu_seconds = own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime
    return seconds, cpu_seconds, (others.ru_maxrss or own.ru_maxrss) >> 10


def _end_children() -> None:
    """End what was left behind, so that it is counted."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it may have ended meanwhile
            if int(stat.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                os.kill(int(stat.parent.name), signal.SIGTERM)
    with suppress(ChildProcessError):
        while True:
            os.wait()


@dataclass
class Finding:
    """Seconds of ours, of the floor (the least that has to be done, by the plainest means) and of peers; details as they come."""

    seconds: float
    floor: tuple[str, float]
    peers: dict[str, float] = field(default_factory=dict)
    costs: dict[str, Cost] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As results.json has it."""
        return {
            "seconds": round(self.seconds, 3),
            "floor": {"name": self.floor[0], "seconds": round(self.floor[1], 3)},
            "ratio": round(self.seconds / self.floor[1], 3),
            "peers": {name: round(value, 3) for name, value in self.peers.items()},
            "costs": {name: {key: round(value, 3) for key, value in asdict(cost).items()} for name, cost in self.costs.items()},
            "machine": machine(),
            **self.details,
        }


def best(work: Callable[[], object], times: int = 3) -> float:
    """The shortest of some runs, in seconds."""
    seconds = []
    for _time in range(times):
        begun = time.monotonic()
        work()
        seconds.append(time.monotonic() - begun)
    return min(seconds)


def machine() -> dict[str, Any]:
    """What it was measured on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    return {
        "cpus": os.cpu_count(),
        "memory_mib": memory,
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_before": LOAD,
    }


LOAD = round(os.getloadavg()[0], 2)


def write(name: str, finding: Finding) -> None:
    """Put one finding into the results, beside those of other runs."""
    write_json(name, finding.to_json())


def write_json(name: str, result: dict[str, Any]) -> None:
    """Put the result of one benchmark into the results, beside those of other runs."""
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results[name] = result
    RESULTS.write_text(json.dumps(results, indent=2, sort_keys=True) + "\n")
