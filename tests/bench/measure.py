# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a benchmark finds, and the file that all of them write to."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RESULTS = Path("build/bench/results.json")


@dataclass
class Finding:
    """Seconds of ours, of the floor (the least that has to be done, by the plainest means) and of peers; details as they come."""

    seconds: float = 0.0
    floor: tuple[str, float] | None = None
    peers: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As results.json has it."""
        document: dict[str, Any] = {
            "seconds": round(self.seconds, 3),
            "peers": {name: round(value, 3) for name, value in self.peers.items()},
        }
        if self.floor is not None:
            document["floor"] = {"name": self.floor[0], "seconds": round(self.floor[1], 3)}
            document["ratio"] = round(self.seconds / self.floor[1], 3)
        return document | self.details | {"machine": machine()}


@contextmanager
def timed(into: dict[str, float], name: str) -> Iterator[None]:
    """Put the seconds that the block takes into ``into[name]``; a block that fails says so and leaves nothing there."""
    begun = time.monotonic()
    try:
        yield
    except Exception as error:  # a benchmark is no test: the others go on
        print(f"    {name}: left out, {error}", file=sys.stderr)
        return
    into[name] = time.monotonic() - begun
    print(f"    {name}: {into[name]:.2f} s", flush=True)


def best(work: Callable[[], object], times: int = 3) -> float:
    """The shortest of some runs, in seconds."""
    seconds = []
    for _time in range(times):
        begun = time.monotonic()
        work()
        seconds.append(time.monotonic() - begun)
    return min(seconds)


def busy() -> float:
    """CPU seconds that the machine has worked since it started, whoever it was for."""
    user, nice, system, _idle, _iowait, irq, softirq = map(int, Path("/proc/stat").read_text().split()[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


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
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results[name] = finding.to_json()
    RESULTS.write_text(json.dumps(results, indent=2, sort_keys=True) + "\n")
