# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a deployment would do, as far as that is known without a look at any host. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median

from ..dsl.package import Package
from ..dsl.shipment import lacking, pieces
from ..metrics.judge import hopeless
from ..metrics.model import Bake
from .deployments import Past
from .options import Rollout

_KILO = 1000
_UNITS = ("bytes", "kB", "MB", "GB")


@dataclass(frozen=True)
class Transfer:
    """What a host has to be sent: how many ``files`` have contents that it lacks, and how many bytes that is before they are packed."""

    files: int
    size: int


@dataclass(frozen=True)
class Step:
    """A host of the plan: what the CMDB says that it runs, ``None`` for nothing, and what it would be sent."""

    wave: int
    host: str
    installed: str | None
    transfer: Transfer


def transfer(package: Package, base: Package | None) -> Transfer:
    """What a host has to be sent of ``package`` that has all of ``base``, or nothing of this release."""
    there = pieces(base) if base else {}
    files = sum(entry.sha256 is not None and entry.sha256 not in there for entry in package.files)
    lengths = pieces(package)
    return Transfer(files, sum(lengths[piece][1] for piece in lacking(package, base)))


def plan_lines(steps: Collection[Step], version: str) -> Iterator[str]:
    """A line for each wave and each version that hosts of it run, with their names and what each is sent; then the sum."""
    total = max((step.wave for step in steps), default=0)
    for number in range(1, total + 1):
        alike: dict[tuple[str | None, Transfer], list[str]] = {}
        for step in steps:
            if step.wave == number:
                alike.setdefault((step.installed, step.transfer), []).append(step.host)
        for (installed, sent), hosts in alike.items():
            what = f"{installed} -> {version}" if installed else f"nothing -> {version}"
            files = "1 file" if sent.files == 1 else f"{sent.files} files"
            each = " each" if len(hosts) > 1 else ""
            yield f"  wave {number}/{total}: {', '.join(hosts)}: {what}, {files}, {in_bytes(sent.size)}{each}"
    if len(steps) > 1:
        yield f"  in all: {in_bytes(sum(step.transfer.size for step in steps))} at most to {len(steps)} hosts, before packing"


def role_lines(tasks: Mapping[str, Sequence[str]], data_host: str, no_return: bool) -> Iterator[str]:
    """A line for each step of the release's own role, with the tasks that it would run on each wave's hosts, or on ``data_host``."""
    if no_return:
        yield "  point of no return: data are migrated before the first wave, and nothing brings them back; from then on no gate backs out"
    said = {
        "back_out": " (on hosts that go back)",
        "migrate": f" (once, on {data_host}, before the first wave)",
        "reverse": f" (once, on {data_host}, when all hosts are back)",
    }
    for step, names in tasks.items():
        when = said.get(step, "")
        yield f"  role, {step}{when}: {', '.join(names) or 'no task'}"


def bake_lines(rollout: Rollout) -> Iterator[str]:
    """A line for what is measured of waves before their gates; of the first, if that is another, one of its own."""
    first, others = rollout.bake_of(1), rollout.bake_of(2)
    if first is not None and first != others:
        yield f"  bake of wave 1: {_measured(first)}"
    if others is not None:
        yield f"  bake of each {'later ' if first != others else ''}wave: {_measured(others)}"


def _measured(bake: Bake) -> str:
    what = (
        f"{one.name} ({f'{one.compare.kind} against the release before' if one.compare else one.good or f'not {one.bad}'})"
        for one in bake.metrics
    )
    return f"{in_time(bake.seconds)} at least, {', '.join(what)}"


def hopeless_comparisons(rollout: Rollout, waves: Sequence[Collection[str]], having: Collection[str]) -> list[str]:
    """Why the gate of the first wave will hold whatever is measured, a sentence for each metric. ``having``: who has a release before."""
    bake = rollout.bake_of(1)
    if bake is None or not waves:
        return []
    others = sum(host in having for wave in waves[1:] for host in wave)
    faults = ((metric.name, hopeless(metric, len(waves[0]), others)) for metric in bake.metrics)
    return [f"the gate of wave 1 will hold, for {name} can't be compared: {why}" for name, why in faults if why]


def window_line(now: datetime, until: datetime, waves: int, past: Sequence[Past], release: str) -> str:
    """How the time that is left compares with what earlier deployments of the release took for a wave."""
    left = f"  window: until {until.isoformat(timespec='minutes')}, {in_time((until - now).total_seconds())} from now"
    if not past:
        return f"{left}; no earlier deployment of {release} to estimate from"
    needed = waves * median(one.seconds / max(1, one.waves) for one in past)
    fits = "" if needed <= (until - now).total_seconds() else ", which is too long: the gates would hold"
    by = "the last deployment" if len(past) == 1 else f"the last {len(past)} deployments"
    return f"{left}; by {by} of {release} it takes about {in_time(needed)}{fits}"


def in_bytes(size: int) -> str:
    """``532 bytes``, ``12.3 kB``, ``4.0 MB``."""
    if size < _KILO:
        return f"{size} bytes"
    power = next(power for power in (1, 2, 3) if size < _KILO ** (power + 1) or power == 3)
    return f"{size / _KILO**power:.1f} {_UNITS[power]}"


def in_time(seconds: float) -> str:
    """``40 s``, ``12 min``, ``2 h 5 min``."""
    whole = max(0, round(seconds))
    if whole < 120:
        return f"{whole} s"
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
