# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the benchmarks: ``make bench``, ``make bench ONLY=stage_upgrade,archive HOSTS=8``. They measure, they never fail a build."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import traceback
from collections.abc import Callable
from functools import partial
from importlib import import_module

import age
import audits
import bars
import deployments
import firmware
import firmware_kills
import library
import planning
import records
from hosts import Field, close_field, open_field
from measure import RESULTS, Finding, write

ALONE: dict[str, Callable[[], Finding]] = {
    "archive": library.archive,
    "scrub": library.scrub,
    "scrub_small": library.scrub_small,
    "sync": library.sync,
    "inventory_30k": planning.inventory_30k,
    "cmdb_write_30k_sqlite": records.cmdb_write_30k_sqlite,
    "cmdb_write_30k_postgresql": records.cmdb_write_30k_postgresql,
    "impact_100k": records.impact_100k,
    "verify_1m": records.verify_1m,
    "clearance_10k": planning.clearance_10k,
    "clearance_firmware": planning.clearance_firmware,
    "plan_100k": planning.plan_100k,
    "journal_10k": planning.journal_10k,
    "stock": planning.stock,
}
SCALED: dict[str, Callable[[int | None], Finding]] = {
    "firmware_waves": firmware.firmware_waves,
}
ON_HOSTS: dict[str, Callable[[Field], Finding]] = {
    "stage_install": deployments.stage_install,
    "stage_upgrade": deployments.stage_upgrade,
    "deploy_install": deployments.deploy_install,
    "deploy_upgrade": deployments.deploy_upgrade,
    "backout_all": deployments.backout_all,
    "activate_only": deployments.activate_only,
    "deploy_nothing": deployments.deploy_nothing,
    "deploy_growth": deployments.deploy_growth,
    "small_wave": deployments.small_wave,
    "own_role": deployments.own_role,
    "activation_skew": deployments.activation_skew,
    "audit_200": audits.audit_fleet,
}


def run(name: str, work: Callable[[], Finding], findings: dict[str, Finding]) -> None:
    """One benchmark; one that can't be run says why and nothing else."""
    print(f"==> {name}", flush=True)
    try:
        finding = work()
    except Exception:  # a benchmark is no test: the others go on
        traceback.print_exc()
        return
    write(name, finding)
    findings[name] = finding
    print(f"    {finding.seconds:.2f} s, {finding.seconds / finding.floor[1]:.2f} x {finding.floor[0]}", flush=True)


def on_hosts(name: str, field: Field) -> Finding:
    """A benchmark on the hosts of a field."""
    finding = ON_HOSTS[name](field)
    finding.details["hosts"] = field.count
    return finding


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="names, with commas between them")
    parser.add_argument("--hosts", type=int, help="how many lab hosts, 50 unless given, or machines with a BMC, 200")
    options = parser.parse_args()
    usual = ["age", *ALONE, *SCALED, *ON_HOSTS]
    known = [*usual, firmware_kills.NAME]
    wanted = [name for name in options.only.split(",") if name] or usual
    unknown = {name for name in wanted if name not in known and not name.startswith("age.")}
    if unknown:
        sys.exit(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    findings: dict[str, Finding] = {}
    for name in wanted:
        if name == "age" or name.startswith("age."):
            print(f"==> {name}", flush=True)
            for laws in ("age_cmdb", "age_library", "age_report"):
                import_module(laws)
            age.run(name.partition(".")[2])
        elif name in ALONE:
            run(name, ALONE[name], findings)
        elif name in SCALED:
            run(name, partial(SCALED[name], options.hosts), findings)
        elif name == firmware_kills.NAME:
            print(f"==> {name}", flush=True)
            firmware_kills.run(options.hosts)
    with_hosts = [name for name in wanted if name in ON_HOSTS]
    if with_hosts and os.geteuid() != 0:
        print(f"{', '.join(with_hosts)}: need root, for lab hosts with a file system of their own")
    elif with_hosts:
        with contextlib.ExitStack() as stack:
            field = open_field(options.hosts or 50)
            stack.callback(close_field, field)
            for name in with_hosts:
                run(name, partial(on_hosts, name, field), findings)
    print(f"results in {RESULTS}\n\n{bars.table(findings)}".rstrip())


if __name__ == "__main__":
    main()
