# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of an instant against a real journal; of the hosts only the answers are made up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.actions import switch, together
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.switch import SwitchAction
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import ConflictError, NotFoundError, StateError, TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.model import IMPLEMENT
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.source import Change
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import Run
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.gate import GateDecision, decide
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.instant_journal import InstantJournal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout, Share, Together
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import HostState
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.together import Armed
from ansible_collections.tidegate.release.plugins.plugin_utils.steps import gate, instant
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.clear import WaveStart
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.gate import look_at_wave
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.instant import (
    InstantTerms,
    await_arming,
    set_instant,
    set_instant_back,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.wait import Wait

OLD, NEW = "sha256:" + "a" * 64, "sha256:" + "b" * 64
HOSTS = ["web1", "web2", "web3"]
ROLLOUT = Rollout(canary=Share(3), total_budget=Share(1), wave_budget=Share(1), together=Together(), stable=0)
ARMED = Armed(0.0, 0.05, 0.1)


@dataclass(frozen=True)
class Named:
    """An RFC that is in order, and may name an instant."""

    instant: datetime | None
    number: str = "CHG0001"
    digest: str = NEW
    on_hold: bool = False
    state: int = IMPLEMENT
    fingerprint: str = "as cleared"

    def read(self) -> Named:
        return self


class Bed:
    """Three staged hosts in one open wave."""

    def __init__(self, cmdb: Cmdb) -> None:
        self.cmdb, self.journal = cmdb, InstantJournal(cmdb)
        self.rfc, self.stop, self.interrupted = Named(None), "", ""
        self.slept = timedelta()
        self.while_asleep: Callable[[], object] = lambda: None
        cmdb.put_cis([{"name": host, "class": "server"} for host in HOSTS], "test")
        package = {"name": "hello", "version": "2.0", "digest": NEW}
        self.run = self.journal.begin("CHG0001", package, [HOSTS], ROLLOUT, Holder.this_run(), self.now)
        for host in HOSTS:
            self.journal.staged(self.run, host, {"version": "1.0", "digest": OLD}, self.now)
        self.journal.decide_staging(self.run, GateDecision("proceed", "because"), self.now)

    @property
    def now(self) -> datetime:
        return datetime.now(UTC)

    def take_over(self) -> None:
        """Another run goes on, after this one was killed."""
        self.run: Run = self.journal.take_over(self.run.deployment, Holder.this_run(), self.now)

    def states(self) -> dict[str, str]:
        return {target.host: str(target.state) for target in self.journal.targets(self.run.deployment)}

    def action(self, step: type[together.TogetherAction], host: str, *, back: bool = False) -> Any:
        """A step on a host, and in ``asked`` what that was asked."""
        action: Any = step.__new__(step)
        action._run, action._host, action.options, action._cmdb = self.run, host, {"settings": {}, "back": back}, self.cmdb
        action.asked = []
        return action

    def cut(self, step: type[together.TogetherAction], host: str, *, back: bool = False) -> str:
        """Do a step whose line is cut while the host is asked; how the host stands by it."""
        action = self.action(step, host, back=back)

        def call(*_: Any, **_arguments: Any) -> dict[str, Any]:
            raise ConnectionError

        action.call = call
        with pytest.raises(ConnectionError):
            action.visit(self.journal, self.journal.deployment(self.run.deployment))
        return str(action.lost(self.journal, "the connection was lost"))

    def step(self, step: type[together.TogetherAction], host: str, *, back: bool = False, **answers: Any) -> dict[str, Any]:
        """Do a step whose host answers each operation like this; armed, told and started unless it is said."""
        action = self.action(step, host, back=back)
        usual = {"arm": {"state": "armed", "took": 0.1}, "tell": {"state": "told"}, "collect": {"state": "started", "changed": True}}

        def call(_deployment: Any, **arguments: Any) -> dict[str, Any]:
            operation = arguments["operation"]
            action.asked.append(operation)
            clock = {"state": "clock", "clock": self.now.timestamp(), "synchronised": False}
            usual["backout"], usual["arm_back"] = {}, usual["arm"]
            return {"changed": False, "detail": "", **{**usual, "clock": clock}[operation], **answers.get(operation, {})}

        action.call = call
        action.deliver = lambda _deployment, answer, **_more: answer
        return {**action.visit(self.journal, self.journal.deployment(self.run.deployment)), "asked": action.asked}

    def about(self) -> InstantTerms:
        wait = Wait(lambda: self.now + self.slept, lambda: self.interrupted, None, self.monotonic, self.sleep)
        return InstantTerms(5, cast(Change, self.rfc), lambda _rfc, _wave: WaveStart(self.stop), wait)

    def monotonic(self) -> float:
        return self.slept.total_seconds()

    def sleep(self, seconds: float) -> None:
        self.slept += timedelta(seconds=seconds)
        self.while_asleep()

    def word(self) -> tuple[datetime | None, str]:
        return set_instant(self.journal, self.journal.deployment(self.run.deployment), self.about())

    def await_arming(self) -> str:
        return await_arming(self.journal, self.journal.deployment(self.run.deployment), self.about())

    def name(self, at: datetime | None) -> None:
        """Have the RFC name an instant."""
        self.rfc = Named(at)


@pytest.fixture
def bed(cmdb_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bed]:
    for module in (gate, instant):
        monkeypatch.setattr(module, "cleared_fingerprint", lambda *_: Named.fingerprint)
    with Cmdb.open(cmdb_url, create=True) as cmdb:
        yield Bed(cmdb)


def test_a_wave_is_armed_told_and_collected(bed: Bed) -> None:
    for host in HOSTS:
        assert bed.step(together.Arm, host)["state"] == "armed"
    assert set(bed.states().values()) == {"staged"}  # nothing has changed there
    at, said = bed.word()
    assert at is not None
    assert said.startswith("wave 1 of 1: 3 hosts to switch at 20")
    for host in HOSTS:
        assert bed.step(together.Fire, host)["state"] == "told"
    assert set(bed.states().values()) == {"activating"}
    for host in HOSTS:
        bed.step(together.Collect, host)
    assert set(bed.states().values()) == {"started"}


def test_a_host_whose_line_is_cut_while_it_is_told_is_lost_and_looked_at(bed: Bed) -> None:
    """It may have been told; what it does, its clock says."""
    for host in HOSTS:
        bed.step(together.Arm, host)
    bed.word()
    assert bed.cut(together.Fire, "web1") == bed.states()["web1"] == "lost"
    assert bed.step(together.Fire, "web1").get("skipped")  # not a second time
    assert bed.step(together.Collect, "web1")["asked"] == ["collect"]
    assert bed.states()["web1"] == "started"


def test_a_host_whose_line_is_cut_while_it_is_told_to_go_back_is_under_way_until_its_turn_comes(bed: Bed) -> None:
    up(bed)
    for host in HOSTS:
        bed.step(together.Arm, host, back=True)
    word_back(bed)
    assert bed.cut(together.Fire, "web1", back=True) == bed.states()["web1"] == "backing_out"
    assert bed.journal.batches("CHG0001", "backout") == [HOSTS]
    back = BackOut(bed, "web1")
    assert back.visit(bed.journal, bed.journal.deployment(bed.run.deployment))["state"] == "backed_out"
    assert back.asked == [{"told": True}]


def test_a_host_that_was_not_told_after_all_is_armed_with_the_others(bed: Bed) -> None:
    for host in HOSTS:
        bed.step(together.Arm, host)
    bed.word()
    bed.step(together.Fire, "web1")
    bed.journal.activating(bed.run, "web2", bed.now)  # and then the controller was killed
    bed.take_over()
    late = {"state": "failed", "changed": False, "detail": "it did not switch at the instant: it was still waiting for the instant"}
    assert bed.step(together.Arm, "web1")["asked"] == ["collect"]
    assert bed.step(together.Arm, "web2", collect=late)["asked"] == ["collect", "clock", "arm"]
    assert bed.step(together.Arm, "web3")["state"] == "armed"
    at, said = bed.word()
    assert at is not None, said
    assert bed.journal.word(bed.run, 1) is not None
    assert "2 hosts to switch" in said


def test_a_host_of_a_decided_wave_is_only_asked_what_it_runs(bed: Bed) -> None:
    """It is not armed for an instant that nobody sets."""
    bed.journal.activating(bed.run, "web1", bed.now)
    bed.journal.activated(bed.run, "web1", HostState.LOST, "the connection was lost", bed.now)
    bed.journal.decide_wave(bed.run, 1, GateDecision("proceed", "because"), bed.now)
    bed.take_over()
    late = {"state": "failed", "changed": False, "detail": "it did not switch at the instant: it was still waiting for the instant"}
    assert bed.step(together.Arm, "web1", collect=late)["asked"] == ["collect"]
    assert bed.states()["web1"] == "failed"


def test_a_host_that_went_back_by_itself_is_not_armed_again(bed: Bed) -> None:
    bed.journal.activating(bed.run, "web1", bed.now)
    bed.take_over()
    back = {"state": "failed", "changed": False, "unconfirmed": True, "detail": "it went back by itself at 20"}
    assert bed.step(together.Arm, "web1", collect=back)["asked"] == ["collect"]
    assert bed.journal.gone_back(bed.run.deployment) == {"web1"}


@pytest.mark.parametrize("how", ["refused", "clock", "lost"])
@pytest.mark.parametrize(("before", "after"), [("staged", "failed"), ("stuck", "stuck")])
def test_one_that_can_not_be_armed_stands_as_it_stood(bed: Bed, how: str, before: str, after: str) -> None:
    if before == "stuck":
        bed.journal.activating(bed.run, "web1", bed.now)
        bed.journal.activated(bed.run, "web1", HostState.STUCK, "its check failed", bed.now)
    if how == "lost":
        action: Any = together.Arm.__new__(together.Arm)
        action._run, action._host, action._journal = bed.run, "web1", bed.journal
        action._deployment, action.options = bed.journal.deployment(bed.run.deployment), {"back": False}
        action.lost(bed.journal, "the connection was lost")
    else:
        refusal = {"state": "refused", "detail": "another operation has been holding it"}
        wrong = {"clock": bed.now.timestamp() - 3600}
        bed.step(together.Arm, "web1", **({"arm": refusal} if how == "refused" else {"clock": wrong}))
    assert bed.states()["web1"] == after
    inputs = look_at_wave(bed.journal, bed.journal.deployment(bed.run.deployment)).inputs
    assert inputs.stuck == (after == "stuck")


OWN_CLOCK = {"synchronised": True, "error": 0.1}
HALFWAY = 1_800_000_000.0  # by both clocks, in each look at one


def looks_take(monkeypatch: pytest.MonkeyPatch, *seconds: float) -> None:
    """Have each look at a host's clock take so long by ours."""
    times = iter([HALFWAY + part * one for one in seconds for part in (-0.5, 0.5)])
    monkeypatch.setattr(together, "time", SimpleNamespace(time=lambda: next(times)))


@pytest.mark.parametrize(("error", "after"), [(0.1, "armed"), (0.3, "failed")])
def test_synchronised_clocks_are_as_wrong_as_both_kernels_say(bed: Bed, monkeypatch: pytest.MonkeyPatch, error: float, after: str) -> None:
    """However long the round trip takes: it is not what says that."""
    monkeypatch.setattr(together, "clock", lambda: OWN_CLOCK)
    looks_take(monkeypatch, 3.0)
    known = {"clock": HALFWAY, "synchronised": True, "error": error}
    result = bed.step(together.Arm, "web1", clock=known)
    assert result["asked"] == (["clock", "arm"] if after == "armed" else ["clock"])
    assert result["state"] == after
    if after == "failed":
        assert "+0 ms from the controller's, give or take 400 ms, and 250 ms are allowed" in result["msg"]


@pytest.mark.parametrize("whose", ["own", "the host's"])
def test_a_clock_that_is_not_synchronised_is_as_wrong_as_half_the_round_trip(bed: Bed, monkeypatch: pytest.MonkeyPatch, whose: str) -> None:
    monkeypatch.setattr(together, "clock", lambda: {**OWN_CLOCK, "synchronised": whose != "own"})
    looks_take(monkeypatch, 0.3)
    answer = {"clock": HALFWAY, "synchronised": whose == "own", "error": 0.0}
    assert bed.step(together.Arm, "web1", clock=answer)["state"] == "armed"
    assert bed.journal.armed_hosts(bed.run, 1, bed.now)["web1"].bound == pytest.approx(0.15)


def test_the_best_of_three_looks_at_a_clock_counts(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    looks_take(monkeypatch, 2.0, 1.0, 0.2)
    assert bed.step(together.Arm, "web1", clock={"clock": HALFWAY})["asked"] == ["clock", "clock", "clock", "arm"]
    looks_take(monkeypatch, 1.0, 0.8, 2.0)
    result = bed.step(together.Arm, "web2", clock={"clock": HALFWAY})
    assert result["asked"] == ["clock", "clock", "clock"]
    assert "give or take 400 ms" in result["msg"]


def test_a_clock_that_nobody_tells_is_unknown(bed: Bed) -> None:
    result = bed.step(together.Arm, "web1", clock={"state": "refused", "detail": "another operation has been holding it"})
    assert result["asked"] == ["clock", "clock", "clock"]
    assert bed.states()["web1"] == "failed"
    assert "give or take inf ms" in result["msg"]


def test_one_that_has_the_release_already_is_up_and_waits_for_no_instant(bed: Bed) -> None:
    assert bed.step(together.Arm, "web1", arm={"state": "started", "changed": False})["state"] == "started"
    assert bed.states()["web1"] == "started"
    for host in HOSTS[1:]:
        bed.step(together.Arm, host)
    assert "2 hosts to switch" in bed.word()[1]


def test_a_stuck_host_that_is_armed_is_told(bed: Bed) -> None:
    bed.journal.activating(bed.run, "web1", bed.now)
    bed.journal.activated(bed.run, "web1", HostState.STUCK, "its check failed", bed.now)
    for host in HOSTS:
        bed.step(together.Arm, host)
    bed.word()
    assert bed.step(together.Fire, "web1")["state"] == "told"


def test_one_that_can_not_go_back_for_want_of_good_copies_gets_them(bed: Bed) -> None:
    for host in HOSTS:
        bed.step(together.Arm, host)
    bed.word()
    bed.step(together.Fire, "web1")
    lacks = {"state": "stuck", "damaged": True, "detail": "no good copy", "reason": "its check failed"}
    healed = bed.step(together.Collect, "web1", collect=lacks, backout={"state": "backed_out", "repaired": ["own"]})
    assert healed["asked"] == ["collect", "backout"]
    assert bed.states()["web1"] == "failed"


def test_a_host_that_left_the_release_after_an_earlier_gate_is_recorded_with_what_it_has(bed: Bed) -> None:
    for host in HOSTS:
        bed.journal.activating(bed.run, host, bed.now)
        bed.journal.activated(bed.run, host, HostState.STARTED, "", bed.now)
        bed.journal.activated(bed.run, host, HostState.ACTIVE, "", bed.now)
    bed.journal.decide_wave(bed.run, 1, GateDecision("hold", "somebody has to look"), bed.now)
    bed.take_over()
    bed.journal.activating(bed.run, "web1", bed.now)
    bed.journal.activated(bed.run, "web1", HostState.FAILED, "it went back by itself", bed.now)
    bed.journal.decide_wave(bed.run, 1, GateDecision("hold", "again"), bed.now)
    recorded = {row["ci"]: row["version"] for row in bed.cmdb.installations(HOSTS)}
    assert recorded == {"web1": "1.0", "web2": "2.0", "web3": "2.0"}


def test_below_the_quorum_nobody_is_told_and_the_gate_holds_and_says_why(bed: Bed) -> None:
    bed.step(together.Arm, "web1")
    bed.step(together.Arm, "web2")
    at, said = bed.word()
    assert at is None
    assert "2 of 3 hosts could be armed" in said
    assert bed.step(together.Fire, "web1").get("skipped")
    assert decide(look_at_wave(bed.journal, bed.journal.deployment(bed.run.deployment)).inputs).decision == "hold"


def test_the_word_is_said_once(bed: Bed) -> None:
    for host in HOSTS:
        bed.step(together.Arm, host)
    first, _said = bed.word()
    bed.step(together.Fire, "web1")
    assert bed.word()[0] == first
    with pytest.raises(StateError, match="the instant of wave 1 is said already"):
        bed.journal.withdrawn(bed.run, 1, "because", bed.now)


def test_who_was_armed_too_long_ago_does_not_count(bed: Bed) -> None:
    for host in HOSTS:
        bed.journal.armed(bed.run, host, ARMED, bed.now - timedelta(minutes=16 if host == "web1" else 0))
    assert "2 of 3 hosts could be armed" in bed.word()[1]


def test_an_instant_behind_the_window_is_none(bed: Bed) -> None:
    tables = bed.journal._t.deployment
    with bed.cmdb.begin() as connection:
        connection.execute(tables.update().values(open_until=bed.now + timedelta(seconds=5)))
    for host in HOSTS:
        bed.step(together.Arm, host)
    at, said = bed.word()
    assert at is None
    assert "the instant would be behind" in said


def armed_for(bed: Bed, seconds: float) -> datetime:
    """Name an instant so many seconds from now, and arm all hosts."""
    at = bed.now + timedelta(seconds=seconds)
    bed.name(at)
    for host in HOSTS:
        bed.step(together.Arm, host)
    return at


def test_an_instant_that_the_rfc_names_is_told_a_minute_before(bed: Bed) -> None:
    at = armed_for(bed, 300)
    assert bed.word()[0] == at
    assert timedelta(seconds=225) < bed.slept < timedelta(seconds=231)


def test_hosts_are_armed_some_minutes_before_it(bed: Bed) -> None:
    assert bed.await_arming() == ""
    bed.name(bed.now + timedelta(minutes=30))
    assert "wave 1 of 1 to be armed at" in bed.await_arming()
    assert timedelta(minutes=19) < bed.slept < timedelta(minutes=21)
    assert bed.await_arming() == ""


def test_a_controller_that_waits_keeps_its_lease_and_ends_when_another_has_taken_over(bed: Bed) -> None:
    bed.name(bed.now + timedelta(minutes=30))
    bed.while_asleep = lambda: bed.slept > timedelta(minutes=12) and bed.run.token == first.run.token and bed.take_over()
    first = bed.journal.deployment(bed.run.deployment)
    with pytest.raises(ConflictError):
        await_arming(bed.journal, first, bed.about())
    assert bed.slept < timedelta(minutes=14)


@pytest.mark.parametrize("seconds", [-60, 0, 5])
def test_an_instant_that_is_over_or_too_near_is_none(bed: Bed, seconds: float) -> None:
    armed_for(bed, seconds)
    at, said = bed.word()
    assert at is None
    assert "as the instant, and hosts that are armed now can't switch before" in said


def test_what_came_in_the_way_while_it_was_waited_for_is_heeded(bed: Bed) -> None:
    armed_for(bed, 300)

    def freeze() -> None:
        bed.stop = "frozen by the board"

    bed.while_asleep = freeze
    assert bed.word() == (None, "wave 1 of 1: frozen by the board")


def test_who_is_interrupted_while_it_waits_tells_nobody(bed: Bed) -> None:
    armed_for(bed, 300)

    def interrupt() -> None:
        bed.interrupted = "somebody pressed Ctrl-C"

    bed.while_asleep = interrupt
    assert bed.word() == (None, "wave 1 of 1: somebody pressed Ctrl-C")
    assert bed.slept < timedelta(seconds=2)


def test_without_the_quorum_nothing_is_waited_for(bed: Bed) -> None:
    bed.name(bed.now + timedelta(seconds=300))
    bed.step(together.Arm, "web1")
    assert "the quorum is 100%" in bed.word()[1]
    assert bed.slept == timedelta()


def test_an_rfc_that_can_not_be_read_sets_no_instant(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    armed_for(bed, 300)

    def gone(_self: Named) -> Named:
        raise NotFoundError("it is gone")

    monkeypatch.setattr(Named, "read", gone)
    assert bed.word() == (None, "wave 1 of 1: it could not be found out at which instant its hosts are to switch: it is gone")


def test_hosts_that_missed_the_instant_that_others_were_told_follow_soon(bed: Bed) -> None:
    armed_for(bed, 30)
    bed.word()
    bed.step(together.Fire, "web1")
    bed.take_over()
    bed.slept = timedelta(seconds=40)
    late = {"state": "failed", "changed": False, "detail": "it did not switch at the instant"}
    for host in HOSTS:
        bed.step(together.Arm, host, collect=late)
    at, _said = bed.word()
    assert at is not None
    assert at > bed.now


@pytest.mark.parametrize("named", ["the same, still to come", "another, over"])
def test_only_the_instant_that_others_kept_is_over_for_the_rest(bed: Bed, named: str) -> None:
    at = armed_for(bed, 200)
    bed.slept = timedelta(seconds=100)
    bed.word()
    bed.step(together.Fire, "web1")
    bed.take_over()
    late = {"state": "failed", "changed": False, "detail": "it did not switch at the instant"}
    for host in HOSTS:
        bed.step(together.Arm, host, collect=late)
    if named == "the same, still to come":
        assert bed.word()[0] == at
    else:
        bed.name(at - timedelta(seconds=150))
        assert "can't switch before" in bed.word()[1]


def test_an_instant_that_nobody_was_told_is_not_kept_by_hosts_that_come_late(bed: Bed) -> None:
    at = armed_for(bed, 30)
    bed.word()  # and then the controller was killed, before it told anybody
    bed.take_over()
    assert bed.word()[1] == "wave 1 of 1: no host of 3 could be armed"
    bed.take_over()
    for host in HOSTS:
        bed.step(together.Arm, host)
    assert bed.word()[0] == at
    bed.take_over()
    bed.slept = timedelta(seconds=40)
    for host in HOSTS:
        bed.step(together.Arm, host)
    assert "can't switch before" in bed.word()[1]


def test_an_rfc_that_lost_its_instant_since_it_was_cleared_switches_nobody(bed: Bed) -> None:
    armed_for(bed, 300)
    bed.rfc = Named(None, fingerprint="edited")
    assert "the RFC was edited since it was cleared" in bed.word()[1]


def test_who_can_not_find_out_when_to_arm_arms_nobody(bed: Bed) -> None:
    bed.rfc = Named(bed.now + timedelta(hours=1), fingerprint="edited")
    assert "the RFC was edited since it was cleared" in bed.await_arming()
    assert bed.step(together.Arm, "web1")["skipped"]
    assert "the RFC was edited since it was cleared" in bed.word()[1]


def test_a_cmdb_that_is_away_for_a_moment_does_not_end_the_wait(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    bed.name(bed.now + timedelta(minutes=14))
    asked: list[int] = []

    def away(*_: Any) -> None:
        asked.append(1)
        raise TidegateError("the CMDB can't be reached")

    monkeypatch.setattr(bed.journal, "renew", away)
    assert "to be armed at" in bed.await_arming()
    assert len(asked) >= 3


def test_who_is_interrupted_while_the_wave_is_checked_tells_nobody(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    armed_for(bed, 60)

    def check(*_: Any) -> WaveStart:
        bed.interrupted = "somebody pressed Ctrl-C"
        return WaveStart("")

    monkeypatch.setattr(instant, "check_start", check)
    assert bed.word() == (None, "wave 1 of 1: somebody pressed Ctrl-C")


def test_a_wave_before_the_last_waits_for_no_instant(cmdb_url: str, bed: Bed) -> None:
    bed.cmdb.put_cis([{"name": host, "class": "server"} for host in ("web4", "web5")], "test")
    package = {"name": "other", "version": "2.0", "digest": NEW}
    bed.run = bed.journal.begin("CHG0002", package, [["web4"], ["web5"]], ROLLOUT, Holder.this_run(), bed.now)
    for host in ("web4", "web5"):
        bed.journal.staged(bed.run, host, {"version": "1.0", "digest": OLD}, bed.now)
    bed.journal.decide_staging(bed.run, GateDecision("proceed", "because"), bed.now)
    bed.name(bed.now + timedelta(hours=2))
    assert bed.await_arming() == ""
    bed.step(together.Arm, "web4")
    at, _said = bed.word()
    assert at is not None
    assert at < bed.now + timedelta(minutes=1)


def up(bed: Bed, *others: str) -> None:
    """All hosts but these have the release, and somebody has ordered that it is backed out."""
    for host in HOSTS:
        bed.journal.activating(bed.run, host, bed.now)
        bed.journal.activated(bed.run, host, HostState.STARTED if host not in others else HostState.STUCK, "", bed.now)
    bed.journal.order_backout(bed.run, "because", bed.now)


def word_back(bed: Bed, interrupted: str = "") -> tuple[datetime | None, str]:
    return set_instant_back(bed.journal, bed.journal.deployment(bed.run.deployment), 1, 5, interrupted, bed.now)


def set_instant_back_before(bed: Bed, owed: str) -> str:
    """What is said of the instant of the wave before that of a host which is owed."""
    with pytest.MonkeyPatch.context() as patch:
        found = [replace(t, wave=2, state=HostState.OWED) if t.host == owed else t for t in bed.journal.targets(bed.run.deployment)]
        patch.setattr(bed.journal, "targets", lambda _deployment: found)
        return word_back(bed)[1]


def test_a_wave_goes_back_at_one_instant(bed: Bed) -> None:
    up(bed)
    assert bed.journal.batches("CHG0001", "backout-together") == [HOSTS]
    for host in HOSTS:
        assert bed.step(together.Arm, host, back=True)["state"] == "armed"
    at, said = word_back(bed)
    assert at is not None
    assert said.startswith("wave 1: 3 hosts to go back at 20")
    for host in HOSTS:
        assert bed.step(together.Fire, host, back=True)["state"] == "told"
    assert set(bed.states().values()) == {"backing_out"}
    assert bed.journal.batches("CHG0001", "backout-together") == []
    assert bed.journal.batches("CHG0001", "backout") == [HOSTS]


@pytest.mark.parametrize("how", ["refused", "clock", "owed"])
def test_who_can_not_be_armed_to_go_back_is_left_to_its_turn(bed: Bed, how: str) -> None:
    up(bed)
    answers: dict[str, Any] = {"refused": {"arm_back": {"state": "refused"}}, "clock": {"clock": {"clock": 0.0}}}
    answers["owed"] = {"arm_back": {"state": "owed", "detail": "its way back is damaged"}}
    assert bed.step(together.Arm, "web1", back=True, **answers[how])["skipped"]
    bed.step(together.Arm, "web2", back=True)
    assert word_back(bed)[1].startswith("wave 1: 1 host to go back at")
    assert bed.step(together.Fire, "web1", back=True)["skipped"]
    assert bed.states()["web1"] == "started"


def test_a_way_back_is_closed_by_no_window_and_by_an_interruption(bed: Bed) -> None:
    up(bed)
    with bed.cmdb.begin() as connection:
        connection.execute(bed.journal._t.deployment.update().values(open_until=bed.now - timedelta(seconds=5)))
    bed.step(together.Arm, "web1", back=True)
    assert word_back(bed, "somebody pressed Ctrl-C") == (None, "wave 1: somebody pressed Ctrl-C")
    assert word_back(bed)[0] is not None


class BackOut(SwitchAction):
    """The step on one host, which answers that it is back."""

    step = "backout"

    def __init__(self, bed: Bed, host: str) -> None:
        self._run, self._host, self._cmdb = bed.run, host, bed.cmdb
        self.asked: list[dict[str, Any]] = []

    def switch(self, _deployment: Any, _previous: str | None, **arguments: Any) -> Any:
        self.asked.append(arguments)
        return {"state": "backed_out", "changed": True, "detail": "", "version": "1.0"}


def test_who_was_told_to_go_back_is_looked_at_although_somebody_has_interrupted_the_run(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    up(bed)
    bed.step(together.Arm, "web1", back=True)
    bed.step(together.Arm, "web2", back=True)
    word_back(bed)
    bed.step(together.Fire, "web1", back=True)
    monkeypatch.setattr(switch, "interrupted", lambda: "somebody pressed Ctrl-C")
    deployment = bed.journal.deployment(bed.run.deployment)
    told, others = BackOut(bed, "web1"), [BackOut(bed, "web2"), BackOut(bed, "web3")]
    assert told.visit(bed.journal, deployment)["state"] == "backed_out"
    assert told.asked == [{"told": True}]
    assert all(one.visit(bed.journal, deployment)["skipped"] and one.asked == [] for one in others)
    assert bed.states() == {"web1": "backed_out", "web2": "started", "web3": "started"}


def test_no_wave_goes_back_before_the_one_behind_it(bed: Bed) -> None:
    up(bed, "web2")
    assert bed.journal.batches("CHG0001", "backout-together") == [["web1", "web3"]]
    bed.step(together.Arm, "web1", back=True)
    assert "hosts of a wave behind it are not back" in set_instant_back_before(bed, "web2")
    targets = [replace(target, wave=number) for number, target in enumerate(bed.journal.targets(bed.run.deployment), 1)]
    assert bed.journal._in_step([["web3"], ["web2"], ["web1"]], targets) == [["web3"]]


def test_what_the_word_has_begun_is_brought_to_its_end_whoever_interrupts() -> None:
    assert together.Arm.begins
    assert not together.Fire.begins
    assert not together.Collect.begins
