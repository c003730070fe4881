# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The level that spares have to be at goes with the fleet: up with a release, back with its back-out, and not down with stragglers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.assets import list_levels
from ansible_collections.tidegate.release.plugins.plugin_utils.firmware.device import DeviceIdentity
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import Run
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.firmware_journal import FirmwareJournal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.gate import GateDecision
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout, Share
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import HostState

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
HOLDER = Holder("ann", "other-machine", 4711, 99, "feedbeef")
ROLLOUT = Rollout(canary=Share(10, True), steps=(100,), order_by="site", firmware=True)
PROCEED = GateDecision("proceed", "because")
UNIT = DeviceIdentity("SN1", "R750")
Deploy = Callable[..., Run]


@pytest.fixture
def cmdb(tmp_path: Path) -> Iterator[Cmdb]:
    with Cmdb.open(str(tmp_path / "cmdb.sqlite"), create=True) as cmdb:
        cmdb.put_cis([{"name": f"srv{number}", "class": "server"} for number in range(1, 4)], "test")
        cmdb.put_cis([{"name": "bench", "class": "spare"}], "test")
        yield cmdb


@pytest.fixture
def journal(cmdb: Cmdb) -> FirmwareJournal:
    return FirmwareJournal(cmdb)


@pytest.fixture
def deploy(journal: FirmwareJournal) -> Deploy:
    def deploy(version: str, **before: str) -> Run:
        """Bring hosts, each with what it has, to a version of their BIOS."""
        package = {"name": "bios", "version": version, "digest": f"sha256:{version[-1] * 64}"}
        run = journal.begin(f"CHG-{version}-{'-'.join(before)}", package, [list(before)], ROLLOUT, HOLDER, NOW)
        for host, has in before.items():
            journal.note_read(run, host, UNIT, {"BIOS": has}, NOW)
            journal.staged(run, host, None, NOW)
        journal.decide_staging(run, PROCEED, NOW)
        for host, has in before.items():
            journal.activating(run, host, NOW)
            journal.note_step(run, host, "stage", {"component": "BIOS", "before": has}, NOW)
            journal.activated(run, host, HostState.STARTED, "", NOW)
            journal.note_read(run, host, UNIT, {"BIOS": version}, NOW)
            journal.activated(run, host, HostState.ACTIVE, "", NOW)
        journal.decide_wave(run, 1, PROCEED, NOW)
        journal.release_lease(run, NOW)
        return run

    return deploy


def back_out(journal: FirmwareJournal, run: Run, by_hand: tuple[str, ...] = (), **now: str) -> None:
    """Bring a completed deployment back; ``now``: what each host was read to run afterwards."""
    run = journal.take_over(run.deployment, HOLDER, NOW)
    journal.order_backout(run, "because", NOW)
    for host, has in now.items():
        journal.backing_out(run, host, NOW)
        if host not in by_hand:
            journal.note_read(run, host, UNIT, {"BIOS": has}, NOW)
        journal.backed_out(run, host, HostState.OWED if host in by_hand else HostState.BACKED_OUT, "", NOW)
    if by_hand:
        journal.done_by_hand(run, {host: {} for host in by_hand}, "ann", "mended", NOW)
    journal.conclude(run, NOW)


def levels(cmdb: Cmdb) -> dict[str, str]:
    with cmdb.read() as connection:
        return {level.component: level.version for level in list_levels(connection)}


def test_the_level_goes_back_with_the_back_out_of_what_had_set_it(cmdb: Cmdb, journal: FirmwareJournal, deploy: Deploy) -> None:
    first = deploy("2.5.0", srv1="2.4.0", srv2="2.4.0", srv3="2.3.0")
    assert levels(cmdb) == {"BIOS": "2.5.0"}
    back_out(journal, first, srv1="2.4.0", srv2="2.4.0", srv3="2.3.0")
    assert levels(cmdb) == {"BIOS": "2.4.0"}  # as most have it
    second = deploy("2.6.0", srv1="2.4.0")
    assert levels(cmdb) == {"BIOS": "2.6.0"}
    back_out(journal, second, ("srv1",), srv1="2.4.0")  # which nobody has read
    assert levels(cmdb) == {"BIOS": "2.4.0"}


def test_stragglers_do_not_take_the_level_down_nor_their_back_out(cmdb: Cmdb, journal: FirmwareJournal, deploy: Deploy) -> None:
    deploy("2.5.0", srv1="2.4.0", srv2="2.4.0")
    straggler = deploy("2.4.0", srv3="2.3.0")
    assert levels(cmdb) == {"BIOS": "2.5.0"}
    back_out(journal, straggler, srv3="2.3.0")
    assert levels(cmdb) == {"BIOS": "2.5.0"}
    last = deploy("2.5.0", srv3="2.4.0")  # which is the level already, by another deployment
    back_out(journal, last, srv3="2.4.0")
    assert levels(cmdb) == {"BIOS": "2.5.0"}
    deploy("2.6.0", srv1="2.5.0")
    assert levels(cmdb) == {"BIOS": "2.6.0"}


def test_spares_on_a_bench_set_no_level(cmdb: Cmdb, deploy: Deploy) -> None:
    deploy("2.5.0", bench="2.4.0")
    assert levels(cmdb) == {}
    deploy("2.4.1", srv1="2.4.0", bench="2.5.0")
    assert levels(cmdb) == {"BIOS": "2.4.1"}
    deploy("2.6.0", bench="2.4.1")
    assert levels(cmdb) == {"BIOS": "2.4.1"}
