# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the CMDB has of a host that is stuck or owed is what was read of it last, and not the release before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.firmware.device import DeviceIdentity
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import Run
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.firmware_journal import FirmwareJournal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.gate import GateDecision
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.outside_journal import OutsideJournal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.readings import BEFORE, NEW
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import HostState

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ONE = {"version": "1.0", "digest": "sha256:" + "a" * 64}
TWO = {"version": "2.0", "digest": "sha256:" + "b" * 64}
HOSTS = ("web1", "web2", "web3", "web4")
BACK = GateDecision("back_out", "because")
OUTSIDE = Rollout(outside=True)


@pytest.fixture
def cmdb(cmdb_url: str) -> Iterator[Cmdb]:
    with Cmdb.open(cmdb_url, create=True) as opened:
        opened.put_cis([{"name": host, "class": "server"} for host in HOSTS], actor="test")
        yield opened


@pytest.fixture
def journal(cmdb: Cmdb) -> OutsideJournal:
    return OutsideJournal(cmdb)


def installed(cmdb: Cmdb) -> dict[str, str]:
    return {row["ci"]: row["version"] for row in cmdb.installations()}


def staged(journal: OutsideJournal, rollout: Rollout = OUTSIDE) -> Run:
    """A deployment whose hosts were read to have 1.0, and are about to change."""
    run = journal.begin("CHG0001", {"name": "hello", **TWO}, [HOSTS], rollout, Holder("ann", "here", 1, 1, "boot"), NOW)
    for host in HOSTS:
        journal.note_read(run, host, "1.0", BEFORE, NOW)
        journal.staged_outside(run, host, ONE, NOW)
    journal.decide_staging(run, GateDecision("proceed", "because"), NOW)
    for host in HOSTS:
        journal.activating(run, host, NOW)
    return run


def end(journal: OutsideJournal, run: Run, host: str, state: HostState, read: tuple[str, str] | None) -> None:
    if read is not None:
        journal.note_read(run, host, *read, NOW)
    journal.activated(run, host, state, "", NOW)


READ = (("2.0", NEW), ("1.0", BEFORE), ("3.0", ""), None)


def test_what_is_staged_is_on_record_once(journal: OutsideJournal, cmdb: Cmdb) -> None:
    run = staged(journal)
    assert installed(cmdb) == dict.fromkeys(HOSTS, "1.0")
    assert [target.previous_version for target in journal.targets(run.deployment)] == ["1.0"] * len(HOSTS)
    said = {str(row["name"]): row["attributes"]["reads"] for row in cmdb.query()}
    assert said == {host: {"hello": "1.0"} for host in HOSTS}


def test_stuck_hosts_are_recorded_with_what_was_read(journal: OutsideJournal, cmdb: Cmdb) -> None:
    run = staged(journal)
    for host, read in zip(HOSTS, READ, strict=True):
        end(journal, run, host, HostState.STUCK, read)
    journal.decide_wave(run, 1, BACK, NOW)
    assert installed(cmdb) == {"web1": "2.0", "web2": "1.0"}


def test_hosts_that_are_owed_are_recorded_with_what_was_read_since(journal: OutsideJournal, cmdb: Cmdb) -> None:
    run = staged(journal)
    for host in HOSTS:
        journal.note_read(run, host, "2.0", NEW, NOW)
        for state in (HostState.STARTED, HostState.ACTIVE):
            journal.activated(run, host, state, "", NOW)
    journal.decide_wave(run, 1, BACK, NOW)
    assert installed(cmdb) == dict.fromkeys(HOSTS, "2.0")
    for host, read in zip(HOSTS, READ, strict=True):
        journal.backing_out(run, host, NOW)
        if read is not None:
            journal.note_read(run, host, *read, NOW)
        journal.backed_out(run, host, HostState.OWED, "it is stubborn", NOW)
    journal.conclude(run, NOW)
    # The last one was not asked, so it is what it was.
    assert installed(cmdb) == {"web1": "2.0", "web2": "1.0", "web4": "2.0"}


def test_a_release_that_is_its_tree_stays_as_it_was_recorded(journal: OutsideJournal, cmdb: Cmdb) -> None:
    run = staged(journal, replace(OUTSIDE, outside=False))
    for host, read in zip(HOSTS, READ, strict=True):
        end(journal, run, host, HostState.STUCK, read)
    journal.decide_wave(run, 1, BACK, NOW)
    assert installed(cmdb) == dict.fromkeys(HOSTS, "1.0")


def test_firmware_is_recorded_by_what_devices_say(journal: OutsideJournal, cmdb: Cmdb) -> None:
    run = staged(journal, Rollout(firmware=True))
    devices = FirmwareJournal(cmdb)
    for host, read in zip(HOSTS, READ, strict=True):
        if read is not None:
            devices.note_read(run, host, DeviceIdentity(f"SN-{host}", "R750", ""), {"BIOS": read[0]}, NOW, read[1])
        journal.activated(run, host, HostState.STUCK, "", NOW)
    journal.decide_wave(run, 1, BACK, NOW)
    assert installed(cmdb) == {"web1": "2.0", "web2": "1.0"}
