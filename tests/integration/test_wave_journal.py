# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal of waves that a release's own role does: all hosts begin at once, and end at once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from ansible_collections.tidegate.release.plugins.plugin_utils.actions import role_wave
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.schema import schema
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import ConflictError, StateError
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import Run
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.gate import GateDecision
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.moves import LEASE
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import HostState
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.wave_journal import Begun, WaveJournal

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
OLD, NEW = "sha256:" + "a" * 64, "sha256:" + "b" * 64
ELSEWHERE, OTHER = Holder("ann", "other-machine", 4711, 99, "feedbeef"), Holder("bob", "other-machine", 4712, 99, "feedbeef")
PROCEED = GateDecision("proceed", "because")
HOSTS = ["web1", "web2", "web3"]


@pytest.fixture
def journal(cmdb_url: str) -> Iterator[WaveJournal]:
    with Cmdb.open(cmdb_url, create=True) as cmdb:
        cmdb.put_cis([{"name": host, "class": "server"} for host in HOSTS], actor="test")
        with cmdb.begin() as connection:
            row = {"ci": "web1", "release": "hello", "version": "1.0", "digest": OLD, "deployment_id": None}
            cmdb.record_installations(connection, [row], actor="test", at=NOW)
        yield WaveJournal(cmdb)


@pytest.fixture
def run(journal: WaveJournal) -> Run:
    package = {"name": "hello", "version": "2.0", "digest": NEW}
    run = journal.begin("CHG0001", package, [["web1"], ["web2", "web3"]], Rollout(role="app", tree=False), ELSEWHERE, NOW)
    journal.stage_all(run, NOW)
    return run


def states(journal: WaveJournal, run: Run) -> dict[str, str]:
    return {target.host: str(target.state) for target in journal.targets(run.deployment)}


def events(journal: WaveJournal, host: str) -> list[str]:
    table = schema().journal
    with journal.cmdb.read() as connection:
        return list(connection.scalars(sa.select(table.c.event).where(table.c.host == host).order_by(table.c.seq)))


def test_without_a_payload_what_a_host_goes_back_to_is_what_the_cmdb_has(journal: WaveJournal, run: Run) -> None:
    before = {target.host: (target.previous_version, target.previous_digest) for target in journal.targets(run.deployment)}
    assert before == {"web1": ("1.0", OLD), "web2": (None, None), "web3": (None, None)}
    assert set(states(journal, run).values()) == {"staged"}


def test_only_the_hosts_of_an_open_wave_begin_and_all_of_them_or_none(journal: WaveJournal, run: Run) -> None:
    with pytest.raises(StateError, match="is staging, not activating"):
        journal.begin_wave(run, ["web1"], True, NOW)
    journal.decide_staging(run, PROCEED, NOW)
    with pytest.raises(StateError, match="wave 2 of CHG0001#1 is not open, so web2 must not change yet"):
        journal.begin_wave(run, ["web1", "web2"], True, NOW)
    assert set(states(journal, run).values()) == {"staged"}
    assert list(journal.begin_wave(run, ["web1"], True, NOW).hosts) == ["web1"]
    assert events(journal, "web1")[-2:] == ["activating", "drained"]


def test_what_was_seen_ends_the_wave_and_who_serves_again_is_restored(journal: WaveJournal, run: Run) -> None:
    journal.decide_staging(run, PROCEED, NOW)
    journal.begin_wave(run, ["web1"], True, NOW)
    journal.end_wave(run, {"web1": (HostState.ACTIVE, "")}, ["web1"], {"web1": ["drain", "activate"]}, NOW)
    assert events(journal, "web1")[-4:] == ["drained", "restored", "started", "active"]
    with journal.cmdb.read() as connection:
        said = connection.scalars(sa.select(schema().journal.c.data).where(schema().journal.c.event == "active")).all()
    assert said == [{"detail": "", "role": ["drain", "activate"]}]
    journal.decide_wave(run, 1, PROCEED, NOW)
    journal.begin_wave(run, ["web2", "web3"], True, NOW)
    journal.end_wave(run, {"web2": (HostState.ACTIVE, ""), "web3": (HostState.STUCK, "why")}, ["web2"], {}, NOW)
    assert states(journal, run) == {"web1": "active", "web2": "active", "web3": "stuck"}
    assert "restored" not in events(journal, "web3")
    assert list(journal.begin_wave(run, ["web2", "web3"], False, NOW).hosts) == ["web3"]  # the other one needs nothing more


def test_back_out_begins_with_all_that_were_touched_and_keeps_why(journal: WaveJournal, run: Run) -> None:
    journal.decide_staging(run, PROCEED, NOW)
    journal.begin_wave(run, ["web1"], False, NOW)
    journal.end_wave(run, {"web1": (HostState.FAILED, "it did not answer")}, [], {}, NOW)
    with pytest.raises(StateError, match="not backing out"):
        journal.begin_back_out(run, ["web1"], False, NOW)
    journal.order_backout(run, "because", NOW)
    before = journal.begin_back_out(run, ["web1"], False, NOW).hosts
    assert (before["web1"].previous_version, before["web1"].state) == ("1.0", HostState.FAILED)
    journal.end_wave(run, {"web1": (HostState.BACKED_OUT, "")}, [], {}, NOW)
    (target, *_others) = journal.targets(run.deployment)
    assert (target.state, target.detail) == (HostState.BACKED_OUT, "it did not answer")
    assert journal.begin_back_out(run, ["web1"], False, NOW) == Begun()


def test_a_run_that_was_superseded_writes_nothing_more(journal: WaveJournal, run: Run) -> None:
    journal.decide_staging(run, PROCEED, NOW)
    assert journal.is_held_by(run)
    later = NOW + LEASE + timedelta(seconds=1)
    journal.take_over(run.deployment, OTHER, later)
    assert not journal.is_held_by(run)
    with pytest.raises(ConflictError, match="another controller has taken"):
        journal.begin_wave(run, ["web1"], True, later)
    assert states(journal, run)["web1"] == "staged"


def test_the_lease_is_renewed_while_a_wave_takes_its_time(journal: WaveJournal, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def lease() -> datetime:
        with journal.cmdb.read() as connection:
            return connection.scalars(sa.select(schema().deployment.c.lease_until)).one()

    monkeypatch.setattr(role_wave, "_RENEWAL", 3600.0)
    before = lease()
    role_wave.renewing(journal, run)()
    assert lease() == before
    monkeypatch.setattr(role_wave, "_RENEWAL", 0.0)
    watch = role_wave.renewing(journal, run)
    watch()
    first = lease()
    assert first > before
    watch()
    assert lease() > first
    journal.take_over(run.deployment, OTHER, NOW + LEASE, ordered=True)
    with pytest.raises(ConflictError, match="another controller has taken"):
        watch()
    # Long before the next renewal, too: what has been taken over must not go on with a loop.
    monkeypatch.setattr(role_wave, "_RENEWAL", 3600.0)
    role_wave.renewing(journal, run)()
    monkeypatch.setattr(role_wave, "_LOOK", 0.0)
    with pytest.raises(ConflictError, match="another controller has taken"):
        role_wave.renewing(journal, run)()


def test_hosts_that_may_not_change_any_more_are_left_out_and_keep_nobody_from_going_on(journal: WaveJournal, run: Run) -> None:
    journal.decide_staging(run, PROCEED, NOW)
    journal.begin_wave(run, ["web1"], False, NOW)
    journal.end_wave(run, {"web1": (HostState.ACTIVE, "")}, [], {}, NOW)
    journal.decide_wave(run, 1, PROCEED, NOW)
    table = schema().deployment_host
    with journal.cmdb.begin() as connection:
        connection.execute(table.update().where(table.c.host == "web3").values(state="superseded"))
    assert list(journal.begin_wave(run, ["web2", "web3"], False, NOW).hosts) == ["web2"]
    journal.order_backout(run, "because", NOW)
    assert list(journal.begin_back_out(run, HOSTS, False, NOW).hosts) == ["web1", "web2"]


def test_a_host_that_another_deployment_has_keeps_the_rest_of_its_wave_from_nothing(journal: WaveJournal, run: Run) -> None:
    journal.decide_staging(run, PROCEED, NOW)
    journal.begin_wave(run, ["web1"], False, NOW)
    journal.end_wave(run, {"web1": (HostState.ACTIVE, "")}, [], {}, NOW)
    journal.decide_wave(run, 1, PROCEED, NOW)
    lock = schema().lock
    with journal.cmdb.begin() as connection:
        connection.execute(lock.delete().where(lock.c.ci == "web3"))
    begun = journal.begin_wave(run, ["web2", "web3"], True, NOW)
    assert list(begun.hosts) == ["web2"]
    assert "web3 is not locked by CHG0001#1, it was given up" in begun.refused["web3"]
    assert states(journal, run) == {"web1": "active", "web2": "activating", "web3": "staged"}
    assert "drained" not in events(journal, "web3")
    journal.order_backout(run, "because", NOW)
    with journal.cmdb.begin() as connection:
        connection.execute(lock.delete().where(lock.c.ci == "web2"))
    begun = journal.begin_back_out(run, HOSTS, False, NOW)
    assert (list(begun.hosts), list(begun.refused)) == (["web1"], ["web2"])


def test_what_became_of_the_others_is_kept_when_a_person_wrote_one_off_meanwhile(journal: WaveJournal, run: Run) -> None:
    journal.decide_staging(run, PROCEED, NOW)
    journal.begin_wave(run, ["web1"], False, NOW)
    journal.end_wave(run, {"web1": (HostState.ACTIVE, "")}, [], {}, NOW)
    journal.decide_wave(run, 1, PROCEED, NOW)
    journal.begin_wave(run, ["web2", "web3"], False, NOW)
    table = schema().deployment_host
    with journal.cmdb.begin() as connection:
        connection.execute(table.update().where(table.c.host == "web3").values(state="written_off"))
    journal.end_wave(run, {"web2": (HostState.ACTIVE, ""), "web3": (HostState.LOST, "why")}, [], {}, NOW)
    assert states(journal, run) == {"web1": "active", "web2": "active", "web3": "written_off"}
