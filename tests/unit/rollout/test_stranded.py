# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A deployment does not begin to go back while a device has no way down, whoever wants it to."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.assets import move_units
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.units import MoveOrder
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import StateError
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import Run
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.firmware_journal import FirmwareJournal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.gate import GateDecision
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import DeploymentState, HostState

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PROCEED = GateDecision("proceed", "because")
STAGE = {"component": "BIOS", "version": "2.5", "before": "2.4", "serial": "SN1"}


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[FirmwareJournal]:
    with Cmdb.open(str(tmp_path / "cmdb.sqlite"), create=True) as cmdb:
        cmdb.put_cis([{"name": "srv1", "attributes": {"serial": "sn1"}}, {"name": "srv2", "attributes": {"serial": "SN2"}}], "test")
        yield FirmwareJournal(cmdb)


def begun(journal: FirmwareJournal, state: HostState = HostState.STUCK, **stage: Any) -> Run:
    """A deployment whose first host was given something."""
    package = {"name": "bios", "version": "2.5", "digest": "sha256:" + "5" * 64}
    run = journal.begin("CHG0001", package, [["srv1", "srv2"]], Rollout(firmware=True), Holder.this_run(), NOW)
    for host in ("srv1", "srv2"):
        journal.staged(run, host, None, NOW)
    journal.decide_staging(run, PROCEED, NOW)
    journal.activating(run, "srv1", NOW)
    journal.note_step(run, "srv1", "identify", {"component": "BIOS", "serial": "SN1"}, NOW)
    journal.note_step(run, "srv1", "stage", {**STAGE, "way_back": False, **stage}, NOW)
    journal.activated(run, "srv1", state, "", NOW)
    return run


def test_neither_a_gate_nor_a_person_begins_to_go_back(journal: FirmwareJournal) -> None:
    run = begun(journal)
    deployment = journal.deployment(run.deployment)
    ways = journal.ways_out(deployment)
    assert "no firmware brings srv1 (serial number SN1, no way down to BIOS 2.4) back" in ways
    assert "-e tidegate_accept=srv1" in ways
    assert journal.ways_out(deployment, ["srv1"]) == ""
    with pytest.raises(StateError, match="no firmware brings srv1"):
        journal.decide_wave(run, 1, GateDecision("back_out", "a gate forgot to ask"), NOW)
    with pytest.raises(StateError, match="no firmware brings srv1"):
        journal.order_backout(run, "a person forgot to ask", NOW)
    assert journal.deployment(run.deployment).state is DeploymentState.ACTIVATING
    with journal.cmdb.begin() as connection:
        journal.accept(run, {"srv1": {}}, "ann", "it works", NOW, connection)
    assert journal.order_backout(run, "now it can", NOW) is DeploymentState.BACKING_OUT


@pytest.mark.parametrize(
    ("state", "stage"),
    [
        (HostState.FAILED, {}),  # it was read to run what it ran before
        (HostState.STUCK, {"way_back": True}),
        (HostState.ACTIVE, {"serial": "SN9"}),  # which is not there any more
        (HostState.STUCK, {"step": "read"}),
    ],
)
def test_who_has_a_way_back_or_was_exchanged_is_not_stranded(journal: FirmwareJournal, state: HostState, stage: dict[str, Any]) -> None:
    run = begun(journal, HostState.STARTED if state is HostState.ACTIVE else state, **stage)
    assert journal.ways_out(journal.deployment(run.deployment)) == ""


def test_the_unit_that_the_storage_has_there_counts_and_not_what_the_ci_says(journal: FirmwareJournal) -> None:
    run = begun(journal)
    with journal.cmdb.begin() as connection:
        new = MoveOrder("receive", "A-9", "Contoso", "SN9", "R750", stockroom="ams")
        move_units(connection, [new, MoveOrder("install", "A-9", ci="srv1")], "ann", NOW, True)
    assert journal.ways_out(journal.deployment(run.deployment)) == ""
