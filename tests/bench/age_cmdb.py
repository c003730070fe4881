# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Growth laws of what asks the CMDB: a host's staging, the schedule, seats and audits."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

from age import Aged, cpu_of, law
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from aged_cmdb import NOW, Age, build_aged, host_name

_HOSTS = [host_name(number) for number in range(1, 51)]
_SEATS = 5000


def _make(path: Path, times: int) -> str:
    url = f"{path}.sqlite"
    build_aged(url, Age(deployments=200 * times, seats=_SEATS * times))
    return url


def _cmdb(aged: Aged) -> str:
    return str(aged.part("cmdb", _make))


@law("finished deployments, for 50 hosts that are staged", at_most=1.2)
def standing_of_hosts(aged: Aged) -> float:
    from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.standing import standing

    with Cmdb.open(_cmdb(aged)) as cmdb:
        return cpu_of(lambda: [standing(cmdb, host, "app00") for host in _HOSTS] and None)


@law("finished deployments", at_most=1.3)
def schedule(aged: Aged) -> float:
    from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.register import forward_schedule

    with Cmdb.open(_cmdb(aged)) as cmdb:
        return cpu_of(lambda: len(forward_schedule(cmdb, NOW)))


@law("seats of other products", at_most=1.2)
def seats_of_a_product(aged: Aged) -> float:
    from ansible_collections.tidegate.release.plugins.plugin_utils.licence.entitlements import would_reserve

    def ask() -> int:
        with cmdb.read() as connection:
            return would_reserve(connection, "prod0", "app00", _HOSTS, (NOW, NOW + timedelta(hours=1))).needed

    with Cmdb.open(_cmdb(aged)) as cmdb:
        return cpu_of(ask)


@law("seats, all of them surveyed", at_most=12)
def licence_info(aged: Aged) -> float:
    from ansible_collections.tidegate.release.plugins.plugin_utils.licence.usage import survey

    with Cmdb.open(_cmdb(aged)) as cmdb:
        return cpu_of(lambda: len(survey(cmdb, None, NOW)))


@law("hosts, 1,000 at first", at_most=15)
def audit_compare(aged: Aged) -> float:
    from ansible_collections.tidegate.release.plugins.plugin_utils.steps.audit import compare

    hosts, digest = [host_name(number) for number in range(1000 * aged.times)], f"sha256:{'a' * 64}"
    recorded = [{"ci": host, "release": "hello", "version": "1.0", "digest": digest} for host in hosts]
    live = {"name": "hello", "version": "1.0", "digest": digest, "changed": [], "extra": [], "others": []}
    return cpu_of(lambda: len(compare({host: [live] for host in hosts}, recorded, {digest}, {})), tries=1)
