# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal gives one of those that are redundant the turn, by what it has of all deployments, and none to what may be the last one."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import ConflictError, StateError
from ansible_collections.tidegate.release.plugins.plugin_utils.firmware.device import DeviceError, DeviceIdentity
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import Run
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.firmware_journal import FirmwareJournal, SharedFirmwareJournal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.gate import GateDecision
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout, Share
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.redundancy import TurnDecision
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import HostState

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
HOLDER = Holder("ann", "other-machine", 4711, 99, "feedbeef")
PROCEED = GateDecision("proceed", "because")
_H = HostState


@pytest.fixture
def cmdb(tmp_path: Path) -> Iterator[Cmdb]:
    with Cmdb.open(str(tmp_path / "cmdb.sqlite"), create=True) as cmdb:
        place = {"chassis": "c1", "role": "fabric"}
        cmdb.put_cis([{"name": name, "attributes": place} for name in ("a", "b")] + [{"name": "c"}], "test")
        yield cmdb


@pytest.fixture
def journal(cmdb: Cmdb) -> FirmwareJournal:
    return FirmwareJournal(cmdb)


def begin(journal: FirmwareJournal, rfc: str, *waves: list[str], firmware: bool = True, **window: Any) -> Run:
    rollout = Rollout(canary=Share(10, True), steps=(100,), order_by="site", firmware=firmware)
    run = journal.begin(rfc, {"name": rfc, "version": "2", "digest": "sha256:" + "2" * 64}, waves, rollout, HOLDER, NOW)
    for wave in waves:
        for host in wave:
            journal.staged(run, host, None, NOW)
    journal.decide_staging(run, PROCEED, NOW, **window)
    return run


def state(journal: FirmwareJournal, run: Run, host: str) -> tuple[HostState, str]:
    return next((one.state, one.detail) for one in journal.targets(run.deployment) if one.host == host)


def give(journal: FirmwareJournal, run: Run, host: str, *, back: bool = False) -> None:
    """A host takes its turn, and its device gets something."""
    target, turn = journal.take_turn(run, host, NOW, back=back)
    assert (target is not None, turn.decision) == (True, TurnDecision.GRANTED)
    journal.note_step(run, host, "stage", {"component": "BIOS", "before": "1"}, NOW)


def test_the_second_waits_and_the_journal_has_nothing_of_that(journal: FirmwareJournal) -> None:
    run = begin(journal, "CHG1", ["a", "b", "c"])
    give(journal, run, "a")
    for _time in range(2):
        assert journal.take_turn(run, "b", NOW)[0] is None
        assert state(journal, run, "b") == (_H.STAGED, "")
    give(journal, run, "c")
    assert journal.look_at_turn(run, "b", NOW).why == "a, which is redundant with it, is activating by CHG1#1"
    journal.activated(run, "a", _H.STARTED, "", NOW)
    give(journal, run, "b")
    assert journal.look_at_turn(run, "b", NOW).decision is TurnDecision.GRANTED  # as for a run that goes on after one that was killed


@pytest.mark.parametrize("end", [_H.STUCK, _H.LOST])
def test_what_is_redundant_with_one_that_did_not_come_back_fails_untouched(journal: FirmwareJournal, end: HostState) -> None:
    run = begin(journal, "CHG1", ["a", "b"])
    give(journal, run, "a")
    journal.activated(run, "a", end, "", NOW)
    target, turn = journal.take_turn(run, "b", NOW)
    assert (target is not None, turn.decision) == (True, TurnDecision.REFUSED)
    assert state(journal, run, "b") == (_H.FAILED, turn.why)
    assert turn.why.startswith(f"a, which is redundant with it, is {end} in CHG1#1, and may not work; mend that first")
    assert journal.steps(run, "b") == []


def test_one_that_was_given_nothing_keeps_nobody(journal: FirmwareJournal) -> None:
    run = begin(journal, "CHG1", ["a", "b"])
    journal.take_turn(run, "a", NOW)
    journal.activated(run, "a", _H.LOST, "", NOW)
    give(journal, run, "b")


def test_who_has_waited_long_enough_fails(journal: FirmwareJournal) -> None:
    run = begin(journal, "CHG1", ["a", "b"])
    give(journal, run, "a")
    journal.take_turn(run, "b", NOW, given_up=True)
    failed, why = state(journal, run, "b")
    assert failed is _H.FAILED
    assert "a, which is redundant with it, is activating by CHG1#1, which has taken longer than its minutes" in why
    journal.activated(run, "a", _H.STARTED, "", NOW)
    assert journal.take_turn(run, "b", NOW, given_up=True)[1].decision is TurnDecision.GRANTED


def test_another_deployment_counts_while_it_is_driven_and_when_it_was_left(journal: FirmwareJournal, cmdb: Cmdb) -> None:
    one, other = begin(journal, "CHG1", ["a"]), begin(journal, "CHG2", ["b"])
    with cmdb.begin() as connection:  # another controller
        table = journal._t.deployment
        connection.execute(table.update().where(table.c.id == one.deployment).values(holder=str(Holder("bob", "x", 1, 1, "y"))))
    give(journal, one, "a")
    assert journal.look_at_turn(other, "b", NOW).decision is TurnDecision.WAIT
    later = journal.look_at_turn(other, "b", NOW + timedelta(hours=1))  # whose lease has ended since
    assert later.decision is TurnDecision.REFUSED
    assert "is activating in CHG1#1, which nobody drives" in later.why
    journal.activated(one, "a", _H.STUCK, "", NOW)
    journal.decide_wave(one, 1, PROCEED, NOW)  # as a budget lets it
    assert journal.deployment(one.deployment).state == "completed"
    assert journal.look_at_turn(other, "b", NOW).decision is TurnDecision.REFUSED  # it does not work any better since
    third = begin(journal, "CHG3", ["a"])  # which is what a person does about it
    give(journal, third, "a")
    journal.activated(third, "a", _H.STARTED, "", NOW)
    give(journal, other, "b")


def test_only_firmware_takes_turns(journal: FirmwareJournal) -> None:
    software, run = begin(journal, "CHG1", ["a"], firmware=False), begin(journal, "CHG2", ["b"])
    journal.activating(software, "a", NOW)
    give(journal, run, "b")


def test_nobody_waits_for_one_of_another_wave_to_which_nobody_goes_now(journal: FirmwareJournal) -> None:
    run = begin(journal, "CHG1", ["a"], ["b"])
    give(journal, run, "a")
    journal.decide_wave(run, 1, PROCEED, NOW)
    assert journal.look_at_turn(run, "b", NOW).decision is TurnDecision.REFUSED


def test_while_a_host_waits_its_window_may_close(journal: FirmwareJournal) -> None:
    run = begin(journal, "CHG1", ["a", "b"], until=NOW + timedelta(minutes=5))
    give(journal, run, "a")
    journal.activated(run, "a", _H.STARTED, "", NOW)
    with pytest.raises(StateError, match="its window closed"):
        journal.take_turn(run, "b", NOW + timedelta(minutes=6))
    assert state(journal, run, "b") == (_H.STAGED, "")


def test_what_may_not_work_goes_back_first_and_the_last_one_that_works_stays_while_another_is_owed(journal: FirmwareJournal) -> None:
    run = begin(journal, "CHG1", ["a", "b"], ["c"])
    for host, end in (("b", _H.ACTIVE), ("a", _H.STUCK)):
        give(journal, run, host)
        journal.activated(run, host, _H.STARTED, "", NOW)
        journal.activated(run, host, end, "", NOW)
    assert journal.order_backout(run, "because", NOW) == "backing_out"
    assert journal.batches("CHG1", "backout") == [["a"], ["b"]]
    give(journal, run, "a", back=True)
    assert journal.take_turn(run, "b", NOW, back=True)[0] is None
    journal.backed_out(run, "a", _H.OWED, "", NOW)
    assert journal.take_turn(run, "b", NOW, back=True)[1].decision is TurnDecision.REFUSED
    owed, why = state(journal, run, "b")
    assert owed is _H.OWED
    assert "a, which is redundant with it, is owed in CHG1#1" in why
    # A person says that it works again.
    journal.done_by_hand(run, {"a": {}}, "ann", "mended", NOW)
    give(journal, run, "b", back=True)


def test_of_those_that_are_owed_what_works_goes_back_behind_what_may_not(journal: FirmwareJournal) -> None:
    """In one batch with the other, it would only be a matter of who looks first."""
    run = begin(journal, "CHG1", ["a", "b"])
    for host, end in (("b", _H.ACTIVE), ("a", _H.STUCK)):
        give(journal, run, host)
        journal.activated(run, host, _H.STARTED, "", NOW)
        journal.activated(run, host, end, "", NOW)
    journal.order_backout(run, "because", NOW)
    give(journal, run, "a", back=True)
    journal.backed_out(run, "a", _H.OWED, "", NOW)
    journal.take_turn(run, "b", NOW, back=True)
    assert [state(journal, run, host)[0] for host in ("a", "b")] == [_H.OWED, _H.OWED]
    assert journal.batches("CHG1", "backout") == [["a"], ["b"]]


def test_one_that_is_owed_for_want_of_a_way_down_works_so_the_others_go_back(journal: FirmwareJournal) -> None:
    run = begin(journal, "CHG1", ["a", "b"])
    for host in ("a", "b"):
        give(journal, run, host)
        journal.activated(run, host, _H.STARTED, "", NOW)
    journal.order_backout(run, "because", NOW)
    journal.take_turn(run, "a", NOW, back=True)
    journal.note_step(run, "a", "read", {"component": "BIOS"}, NOW)
    journal.backed_out(run, "a", _H.OWED, "there is no way down", NOW)
    give(journal, run, "b", back=True)


def test_what_was_touched_before_is_not_taken_for_as_it_was(journal: FirmwareJournal, cmdb: Cmdb) -> None:
    run = begin(journal, "CHG1", ["a", "b"])
    for host, end in (("b", _H.STARTED), ("a", _H.STUCK)):
        give(journal, run, host)
        journal.activated(run, host, end, "", NOW)
    give(journal, run, "b")  # a run that goes on looks at it again, though the other one is stuck
    journal.activated(run, "b", _H.STARTED, "", NOW)
    cmdb.put_cis([{"name": "b", "attributes": {"redundant_with": ["x"]}}], "test")
    journal.take_turn(run, "b", NOW)
    assert state(journal, run, "b")[0] is _H.LOST


def test_who_is_named_has_to_be_there(journal: FirmwareJournal, cmdb: Cmdb) -> None:
    run = begin(journal, "CHG1", ["a", "c"])
    for said, words in ((["x"], "names 'x', which the CMDB does not have"), (5, "is no list of names")):
        cmdb.put_cis([{"name": "c", "attributes": {"redundant_with": said}}], "test")
        with pytest.raises(DeviceError, match=words):
            journal.refuse_misnamed("c")
        assert journal.look_at_turn(run, "c", NOW).decision is TurnDecision.REFUSED
    journal.refuse_misnamed("a")
    cmdb.put_cis([{"name": "c", "attributes": {"redundant_with": ["a"]}}], "test")
    journal.refuse_misnamed("c")
    give(journal, run, "c")
    assert journal.look_at_turn(run, "a", NOW).decision is TurnDecision.WAIT


def test_machines_are_done_together_where_each_that_is_left_has_a_bmc(cmdb: Cmdb, journal: FirmwareJournal) -> None:
    begin(journal, "CHG1", ["c"], ["a", "b"])
    assert journal.batches("CHG1", "activate-devices") == []
    bmc = {"redfish": "https://bmc"}
    cmdb.put_cis([{"name": name, "attributes": bmc} for name in ("a", "c")], "test")
    assert journal.batches("CHG1", "activate-devices") == []
    cmdb.put_cis([{"name": "b", "attributes": bmc}], "test")
    assert journal.batches("CHG1", "activate-devices") == journal.batches("CHG1", "activate") == [["c"], ["a", "b"]]


def test_software_is_no_matter_of_bmcs(cmdb: Cmdb, journal: FirmwareJournal) -> None:
    cmdb.put_cis([{"name": "c", "attributes": {"redfish": "https://bmc"}}], "test")
    begin(journal, "CHG1", ["c"], firmware=False)
    assert journal.batches("CHG1", "activate-devices") == []


def test_steps_of_many_threads_are_committed_before_each_goes_on(cmdb: Cmdb, journal: FirmwareJournal) -> None:
    run = begin(journal, "CHG1", ["a", "b", "c"])
    shared = SharedFirmwareJournal(cmdb)

    def note(number: int) -> bool:
        host = "abc"[number % 3]
        shared.note_step(run, host, str(number), {"component": "BIOS"}, NOW)
        return str(number) in [step for step, _about in journal.steps(run, host)]

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(note, range(60))) == [True] * 60
    assert sorted(int(step) for host in "abc" for step, _about in journal.steps(run, host)) == list(range(60))


def test_what_was_read_and_what_it_means_is_on_record_together_or_not_at_all(cmdb: Cmdb, journal: FirmwareJournal) -> None:
    run = begin(journal, "CHG1", ["a", "b", "c"])
    shared = SharedFirmwareJournal(cmdb)
    unit = DeviceIdentity("SN-a", "R750", "")

    def recorded(host: str) -> tuple[Any, HostState]:
        (ci,) = cmdb.cis([host])
        return ci["attributes"].get("firmware"), journal.target(run, host).state

    for kept, host in ((journal, "a"), (shared, "b")):
        assert kept.take_turn(run, host, NOW)[0] is not None
        with suppress(ZeroDivisionError), kept.in_one():
            kept.note_read(run, host, unit, {"BIOS": "2"}, NOW)
            kept.activated(run, host, _H.STARTED, "", NOW)
            raise ZeroDivisionError
        assert recorded(host) == (None, _H.ACTIVATING)
        with kept.in_one():
            kept.note_read(run, host, unit, {"BIOS": "2"}, NOW)
            assert recorded(host) == (None, _H.ACTIVATING)
            kept.activated(run, host, _H.STARTED, "", NOW)
        assert recorded(host) == ({"BIOS": "2"}, _H.STARTED)
        kept.note_step(run, host, "identify", {"component": "BIOS"}, NOW)  # and this is one of its own


def test_a_run_that_was_taken_over_notes_no_step_of_any_thread(cmdb: Cmdb, journal: FirmwareJournal) -> None:
    run = begin(journal, "CHG1", ["a", "b", "c"])
    shared = SharedFirmwareJournal(cmdb)
    journal.take_over(run.deployment, Holder("bob", "other-machine", 4712, 99, "feedbeef"), NOW, ordered=True)

    def note(host: str) -> str:
        with pytest.raises(ConflictError) as error:
            shared.note_step(run, host, "stage", {"component": "BIOS"}, NOW)
        return str(error.value)

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(note, "abc")) == ["another controller has taken CHG1#1 over; this run must not go on"] * 3
    assert journal.steps(run, "a") == []
