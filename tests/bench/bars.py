# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast we want to be: ratios of what was measured in the same run, and what was promised. To look at, for benchmarks fail nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from audits import ANSWER, GROWTH
from deployments import AGAINST_PLAIN, AT_ONCE, CONTROLLER_STEP, FLIPS, PLAYBOOK, QUARTER, SHARED, WAITER, WAYS_BACK
from firmware import CPU_OF_A_UNIT, POLLS
from measure import Finding
from planning import FROM_MEMORY, FROM_MEMORY_FOR_AWX, OURS_FOR_AWX, THREE_TIMES
from records import IMPACT_BAR, VERIFY_BAR


@dataclass(frozen=True)
class Bar:
    """What one of a benchmark may take at most, in times of what another takes, both as time and as CPU seconds."""

    benchmark: str
    at_most: float
    against: str
    ours: str = "ours"


BARS = (
    Bar("deploy_install", 1.0, "pyinfra"),
    Bar("deploy_install", 0.4, PLAYBOOK),
    Bar("deploy_install", 0.167, "ansistrano.deploy"),
    Bar("deploy_upgrade", 1.0, "pyinfra"),
    Bar("deploy_upgrade", 0.8, "pyinfra", SHARED),
    Bar("deploy_upgrade", 0.4, PLAYBOOK),
    Bar("deploy_upgrade", 0.167, "ansistrano.deploy"),
    Bar("backout_all", 0.5, "the upgrade"),
    Bar("deploy_nothing", 1.5, "ansible-playbook with one debug"),
    Bar("deploy_growth", 4.2, QUARTER),
    Bar("clearance_firmware", 1.2, "software"),
    Bar("plan_100k", 1.5, "an order"),
    Bar("inventory_30k", 1.5, FROM_MEMORY),
    Bar("inventory_30k", 1.25, FROM_MEMORY_FOR_AWX, OURS_FOR_AWX),
)
_STEP = 0.08  # CPU seconds of the controller for each host and step


def table(findings: Mapping[str, Finding]) -> str:
    """The bars of what was measured, each with the ratios beside it; empty when there is none."""
    rows = list(_rows(findings))
    if not rows:
        return ""
    head = ("benchmark", "what", "at most", "time", "CPU", "reached")
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in (head, *rows))


def _rows(findings: Mapping[str, Finding]) -> Iterator[tuple[str, ...]]:
    for limit in BARS:
        finding = findings.get(limit.benchmark)
        if finding and limit.ours in finding.costs and limit.against in finding.costs:
            ours, against = finding.costs[limit.ours], finding.costs[limit.against]
            yield _row(
                limit.benchmark,
                f"{limit.ours} / {limit.against}",
                limit.at_most,
                time=ours.seconds / against.seconds,
                cpu=ours.cpu_seconds / against.cpu_seconds,
            )
    growth, wave = findings.get("deploy_growth"), findings.get("small_wave")
    machines, inventory = findings.get("firmware_waves"), findings.get("inventory_30k")
    if inventory:
        ours, memory = inventory.costs["ours"].peak_mib, inventory.costs[FROM_MEMORY].peak_mib
        yield _row("inventory_30k", f"memory of ours / {FROM_MEMORY}", 1.25, cpu=ours / memory)
        many = inventory.costs[THREE_TIMES]
        ratio = many.cpu_seconds / inventory.costs["ours"].cpu_seconds
        yield _row("inventory_30k", "CPU seconds of 100,000 hosts / of 30,000", 100 / 30, cpu=ratio)
    for name, seconds in (("impact_100k", IMPACT_BAR), ("verify_1m", VERIFY_BAR)):
        if found := findings.get(name):
            yield _row(name, "seconds of ours", seconds, time=found.seconds, cpu=found.costs["ours"].cpu_seconds)
    if planner := findings.get("plan_100k"):
        planned = planner.costs["ours"]
        yield _row("plan_100k", "CPU seconds of ours", 2.0, cpu=planned.cpu_seconds)
        yield _row("plan_100k", "MiB of ours", 200.0, cpu=planned.peak_mib)
    if skew := findings.get("activation_skew"):
        waiter = skew.details[WAITER]
        yield _row("activation_skew", "seconds between the first flip and the last", 0.1, time=skew.details[FLIPS][AT_ONCE])
        yield _row("activation_skew", "seconds between the first way back and the last", 0.25, time=skew.details[WAYS_BACK])
        yield _row("activation_skew", "CPU seconds of the controller / a plain wave", 2.5, cpu=skew.details[AGAINST_PLAIN])
        yield _row("activation_skew", "MiB of a host that waits", 15.0, cpu=waiter["mib"])
        yield _row("activation_skew", "CPU of a host that waits, of one core", 0.02, cpu=waiter["cpu"])
    if audit := findings.get("audit_200"):
        yield _row("audit_200", "seconds of ours, for 200 hosts", 60.0, time=audit.seconds * 200 / audit.details["hosts"])
        yield _row("audit_200", "CPU of a host / that of one of 20", 1.1, cpu=audit.details[GROWTH])
        yield _row("audit_200", "kB of an answer of a host", 4.0, time=audit.details[ANSWER] / 1000)
    if machines:
        yield _row("firmware_waves", f"waves / ({machines.floor[0]})", 1.3, time=machines.seconds / machines.floor[1])
        yield _row("firmware_waves", "CPU seconds of the controller for each unit", 0.4, cpu=machines.details[CPU_OF_A_UNIT])
        yield _row("firmware_waves", "polls a second of a unit that is at work", 2.0, time=machines.details[POLLS])
    if spares := findings.get("stock"):
        yield _row("stock", "seconds for 500 rules and 20,000 units", 1.0, time=spares.seconds)
    if growth:
        yield _row(
            "deploy_growth", "CPU seconds of the controller for each further host and step", _STEP, cpu=growth.details[CONTROLLER_STEP]
        )
    if wave:
        yield _row("small_wave", f"ours / ({wave.floor[0]})", 1.0, time=wave.seconds / wave.floor[1])


def _row(benchmark: str, what: str, at_most: float, **ratios: float) -> tuple[str, ...]:
    reached = "yes" if all(ratio <= at_most for ratio in ratios.values()) else "no"
    return (benchmark, what, f"{at_most:.2f}", *(f"{ratios[kind]:.2f}" if kind in ratios else "-" for kind in ("time", "cpu")), reached)
