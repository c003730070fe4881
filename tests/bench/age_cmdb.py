# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Growth laws of what asks the CMDB: a host's staging, the schedule, seats and audits."""

from __future__ import annotations

import itertools
import shutil
import sys
from datetime import timedelta
from pathlib import Path

from age import Aged, cpu_of, law
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.team_model import shipped_model

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from aged_cmdb import NOW, Age, build_aged, host_name
from bare_rollout import Team, live

_HOSTS = [host_name(number) for number in range(1, 51)]
_SEATS = 5000


def _make(path: Path, times: int) -> str:
    url = f"{path}.sqlite"
    build_aged(url, Age(deployments=200 * times, seats=_SEATS * times))
    return url


def _cmdb(aged: Aged) -> str:
    return str(aged.part("cmdb", _make))


@law("finished deployments; 50 hosts are staged", at_most=1.2)
def staged_hosts(aged: Aged) -> float:
    """What is asked for each host, of a release that it has and of one that it does not."""
    from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.standing import standing

    with Cmdb.open(_cmdb(aged)) as cmdb:
        return cpu_of(lambda: [standing(cmdb, host, release) for host in _HOSTS for release in ("app00", "app20")] and None)


@law("finished deployments", at_most=1.2)
def deployment(aged: Aged) -> float:
    """All that a deployment of a few hosts does on the controller, to its end and back."""
    folder = aged.folder / "team"
    folder.mkdir()
    url = str(aged.part("own_cmdb", lambda path, _times: shutil.copy(_cmdb(aged), path)))
    team, turns = Team(folder, url), itertools.count(1)
    return cpu_of(lambda: live(team, next(turns)))


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
def audit(aged: Aged) -> float:
    """From what hosts run to the lines for a person; each has three releases, and a difference in each."""
    from ansible_collections.tidegate.release.plugins.plugin_utils.report.differences import difference_lines
    from ansible_collections.tidegate.release.plugins.plugin_utils.steps.audit import account, compare

    hosts, digest = [host_name(number) for number in range(1000 * aged.times)], f"sha256:{'a' * 64}"
    names = ("one", "two", "three")
    recorded = [{"ci": host, "release": name, "version": "1.0", "digest": digest} for host in hosts for name in names]
    files: dict[str, list[str]] = {"changed": [], "extra": ["core"], "others": []}
    releases = [{"name": name, "version": "1.0", "digest": digest, **files} for name in names]
    found = account({host: {"releases": releases} for host in hosts}, hosts, [], hosts, [], shipped_model()).found
    return cpu_of(lambda: len(difference_lines(compare(found, recorded, {digest}, {}))), tries=10)
