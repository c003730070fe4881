# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of an instant against a real journal; of the hosts only the answers are made up."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.actions import together
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import StateError
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import Run
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.gate import GateDecision, decide
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.instant_journal import InstantJournal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout, Share, Together
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import HostState
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.together import Armed
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.gate import look_at_wave
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.instant import set_instant

OLD, NEW = "sha256:" + "a" * 64, "sha256:" + "b" * 64
HOSTS = ["web1", "web2", "web3"]
ROLLOUT = Rollout(canary=Share(3), total_budget=Share(1), wave_budget=Share(1), together=Together(), stable=0)
ARMED = Armed(0.0, 0.05, 0.1)


class Bed:
    """Three staged hosts in one open wave."""

    def __init__(self, cmdb: Cmdb) -> None:
        self.cmdb, self.journal = cmdb, InstantJournal(cmdb)
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

    def step(self, step: type[together.TogetherAction], host: str, **answers: Any) -> dict[str, Any]:
        """Do a step whose host answers each operation like this; armed, told and started unless it is said."""
        action: Any = step.__new__(step)
        action._run, action._host, action.options, action._cmdb = self.run, host, {"settings": {}}, self.cmdb
        action.asked = []
        usual = {"arm": {"state": "armed", "took": 0.1}, "tell": {"state": "told"}, "collect": {"state": "started", "changed": True}}

        def call(_deployment: Any, **arguments: Any) -> dict[str, Any]:
            operation = arguments["operation"]
            action.asked.append(operation)
            clock = {"state": "clock", "clock": self.now.timestamp(), "synchronised": False}
            usual["backout"] = {}
            return {"changed": False, "detail": "", **{**usual, "clock": clock}[operation], **answers.get(operation, {})}

        action.call = call
        action.deliver = lambda _deployment, answer, **_more: answer
        return {**action.visit(self.journal, self.journal.deployment(self.run.deployment)), "asked": action.asked}

    def word(self) -> tuple[datetime | None, str]:
        return set_instant(self.journal, self.journal.deployment(self.run.deployment), 5, "", self.now)


@pytest.fixture
def bed(cmdb_url: str) -> Iterator[Bed]:
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


@pytest.mark.parametrize("how", ["refused", "clock", "lost"])
@pytest.mark.parametrize(("before", "after"), [("staged", "failed"), ("stuck", "stuck")])
def test_one_that_can_not_be_armed_stands_as_it_stood(bed: Bed, how: str, before: str, after: str) -> None:
    if before == "stuck":
        bed.journal.activating(bed.run, "web1", bed.now)
        bed.journal.activated(bed.run, "web1", HostState.STUCK, "its check failed", bed.now)
    if how == "lost":
        action: Any = together.Arm.__new__(together.Arm)
        action._run, action._host, action._journal = bed.run, "web1", bed.journal
        action._deployment = bed.journal.deployment(bed.run.deployment)
        action.lost(bed.journal, "the connection was lost")
    else:
        refusal = {"state": "refused", "detail": "another operation has been holding it"}
        wrong = {"clock": bed.now.timestamp() - 3600}
        bed.step(together.Arm, "web1", **({"arm": refusal} if how == "refused" else {"clock": wrong}))
    assert bed.states()["web1"] == after
    inputs = look_at_wave(bed.journal, bed.journal.deployment(bed.run.deployment)).inputs
    assert inputs.stuck == (after == "stuck")


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


def test_what_the_word_has_begun_is_brought_to_its_end_whoever_interrupts() -> None:
    assert together.Arm.begins
    assert not together.Fire.begins
    assert not together.Collect.begins
