# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The level that spares have to be at goes with the fleet: up with a release, back with its back-out, and not down with stragglers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.schema import schema
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.assets import list_levels, move_units
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.units import MoveOrder
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import ConflictError
from ansible_collections.tidegate.release.plugins.plugin_utils.firmware.device import DeviceIdentity
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.debts import debts, settle
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import Run
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.firmware_journal import FirmwareJournal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.gate import GateDecision
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout, Share
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import SPARES, HostState
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.stock import settle_levels

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
HOLDER = Holder("ann", "other-machine", 4711, 99, "feedbeef")
ROLLOUT = Rollout(canary=Share(10, True), steps=(100,), order_by="site", firmware=True, level_days=7)
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


def stocked(cmdb: Cmdb, *tags: str, substate: str = "available", ci: str = "") -> None:
    """Units of the model, in stock or on the bench."""
    orders = [MoveOrder("receive", tag, "Contoso", f"SN-{tag}", "R750", stockroom="ams-1", substate=substate) for tag in tags]
    with cmdb.begin() as connection:
        move_units(connection, [*orders, *(MoveOrder("install", tag, ci=ci) for tag in tags if ci)], "test", NOW, True)


def read(cmdb: Cmdb, tag: str, version: str) -> None:
    t = schema()
    with cmdb.begin() as connection:
        number = connection.scalar(sa.select(t.asset.c.id).where(t.asset.c.tag == tag))
        connection.execute(sa.delete(t.asset_firmware).where(t.asset_firmware.c.asset_id == number))
        connection.execute(sa.insert(t.asset_firmware).values(asset_id=number, component="BIOS", version=version, at=NOW))


def owed(cmdb: Cmdb) -> dict[str, datetime]:
    return {debt.rfc: debt.due for debt in debts(cmdb, settled=False) if debt.duty == SPARES}


def test_units_that_a_deployment_leaves_behind_are_owed_until_they_were_read_to_be_at_level(
    cmdb: Cmdb, journal: FirmwareJournal, deploy: Deploy
) -> None:
    stocked(cmdb, "A-1", "A-2")
    stocked(cmdb, "A-3", substate="quarantine")
    stocked(cmdb, "A-4", ci="bench")
    read(cmdb, "A-1", "2.4.0")
    read(cmdb, "A-4", "2.4.0")
    deploy("2.5.0", srv1="2.4.0", srv2="2.4.0")
    assert owed(cmdb) == {"CHG-2.5.0-srv1-srv2": NOW + timedelta(days=7)}
    (debt,) = debts(cmdb)
    assert (debt.release, debt.version, debt.digest) == ("bios", "2.5.0", f"sha256:{'0' * 64}")
    for tag in ("A-1", "A-2", "A-4"):
        with pytest.raises(ConflictError, match="until they are read to have it"):
            settle(cmdb, debt, "done, believe me", "ann", NOW)
        assert settle_levels(cmdb, "ann", NOW) == []
        read(cmdb, tag, "2.5.0")
    assert len(settle_levels(cmdb, "ann", NOW)) == 1
    (debt,) = debts(cmdb)
    assert (debt.actor, debt.note) == ("ann", "no spare was read to be behind a level that it has set")
    assert settle_levels(cmdb, "ann", NOW) == []


def test_the_sentence_names_the_units(cmdb: Cmdb, deploy: Deploy) -> None:
    stocked(cmdb, *(f"A-{number}" for number in range(7)))
    read(cmdb, "A-0", "2.4.0")
    deploy("2.5.0", srv1="2.4.0")
    with pytest.raises(ConflictError) as error:
        settle(cmdb, debts(cmdb)[0], "done", "ann", NOW)
    assert "A-0 has BIOS 2.4.0, not 2.5.0; A-1 has BIOS nobody read, not 2.5.0" in str(error.value)
    assert "and 2 more; bring them to level on a bench" in str(error.value)


def test_nothing_is_owed_where_no_unit_is_behind_or_the_level_is_not_raised(cmdb: Cmdb, deploy: Deploy) -> None:
    stocked(cmdb, "A-1")
    read(cmdb, "A-1", "2.5.0")
    deploy("2.5.0", srv1="2.4.0")
    stocked(cmdb, "A-2")
    deploy("2.4.0", srv2="2.3.0")  # a straggler
    deploy("2.6.0", bench="2.5.0")
    assert owed(cmdb) == {}


def test_a_later_level_takes_over_what_is_owed_and_a_back_out_ends_it(cmdb: Cmdb, journal: FirmwareJournal, deploy: Deploy) -> None:
    stocked(cmdb, "A-1")
    deploy("2.5.0", srv1="2.4.0")
    later = deploy("2.6.0", srv1="2.5.0")
    assert owed(cmdb).keys() == {"CHG-2.5.0-srv1", "CHG-2.6.0-srv1"}
    settle_levels(cmdb, "ann", NOW)
    assert owed(cmdb).keys() == {"CHG-2.6.0-srv1"}
    back_out(journal, later, srv1="2.5.0")
    assert owed(cmdb) == {}
