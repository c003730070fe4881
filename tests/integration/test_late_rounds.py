# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A deployment and its late rounds, whatever happens in whatever order: what must always be so, and that it always comes to an end."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.policy import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import ConflictError
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.register import register_change
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.source import load_rfc, open_change
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout import states
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import Deployment
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.journal import Journal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout, Share
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import DeploymentState, HostState, WaveState
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.clear import WaveStart
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.gate import decide_staging_gate, decide_wave_gate
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.write_off import end_write_offs, write_off_host
from documents import open_rfc, write_document
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
OLD, NEW = "sha256:" + "a" * 64, "sha256:" + "b" * 64
HOSTS = ["web1", "web2", "web3", "web4"]
ROLLOUT = Rollout(steps=(100,), wave_budget=Share(2), total_budget=Share(2), late_days=7)
POLICY = load_policy(None)
_D, _H = DeploymentState, HostState


def is_(*wanted: DeploymentState) -> bool:
    """As a precondition: whether the deployment is in one of these states."""
    return precondition(lambda self: self.deployment.state in wanted)  # type: ignore[no-any-return]


class Rounds(RuleBasedStateMachine):
    """One deployment to four hosts; a host may be away, fail, get lost, be written off and come back at any moment."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name)
        self.cmdb = Cmdb.open(str(path / "cmdb.sqlite"), create=True)
        self.cmdb.put_cis([{"name": host, "class": "server"} for host in HOSTS], "test")
        self.journal = Journal(self.cmdb)
        self.holder = Holder.this_run()
        package = {"name": "hello", "version": "2.0", "digest": NEW}
        self.journal.begin("CHG0001", package, [["web1"], ["web2", "web3", "web4"]], ROLLOUT, self.holder, NOW)
        rfc = write_document(path / "rfc.yml", open_rfc("CHG0001", "2.0", NEW, NOW, approvals=[]))
        with self.cmdb.begin() as connection:
            register_change(connection, load_rfc(rfc), HOSTS, NOW)
        self.change = open_change(str(rfc))

    def teardown(self) -> None:
        try:
            self.it_comes_to_an_end()
        finally:
            self.cmdb.__exit__()
            self.folder.cleanup()

    @property
    def deployment(self) -> Deployment:
        found = self.journal.latest("CHG0001")
        assert found is not None
        return found

    def states(self) -> dict[str, HostState]:
        return {target.host: target.state for target in self.journal.targets(self.deployment.id)}

    # -- what runs do ------------------------------------------------------------

    @is_(_D.STAGING)
    @rule(up=st.sampled_from([True, True, True, False]))
    def stage(self, up: bool) -> None:
        for batch in self.journal.batches("CHG0001", "stage"):
            if up:
                self.journal.staged(self.deployment.run, batch[0], {"version": "1.0", "digest": OLD}, NOW)
            else:
                self.journal.stage_failed(self.deployment.run, batch[0], "unreachable", NOW)

    @is_(_D.STAGING)
    @rule()
    def decide_staging(self) -> None:
        decide_staging_gate(self.journal, self.deployment.run, self.change, lambda *_: WaveStart(""), lambda *_: [], NOW)

    @is_(_D.ACTIVATING)
    @rule(outcome=st.sampled_from([_H.ACTIVE, _H.ACTIVE, _H.ACTIVE, _H.FAILED, _H.LOST]))
    def activate(self, outcome: HostState) -> None:
        states_, run = self.states(), self.deployment.run
        open_ = {number for number, state, _decision in self.journal.waves(self.deployment.id) if state is not WaveState.CLOSED}
        wave = {target.host: target.wave for target in self.journal.targets(self.deployment.id)}
        for batch in self.journal.batches("CHG0001", "activate")[:1]:
            host = next((host for host in batch if states_[host] is not _H.ACTIVE and wave[host] in open_), None)
            if host is not None:
                self.journal.activating(run, host, NOW)
                if outcome is _H.ACTIVE:
                    self.journal.activated(run, host, _H.STARTED, "", NOW)
                self.journal.activated(run, host, outcome, "" if outcome is _H.ACTIVE else "it says no", NOW)

    @is_(_D.ACTIVATING)
    @rule()
    def decide_wave(self) -> None:
        if self.journal.batches("CHG0001", "activate"):
            decide_wave_gate(self.journal, self.deployment.run, self.change, lambda *_: WaveStart(""), lambda *_: [], NOW)

    @is_(_D.PLANNED, _D.STAGING, _D.ACTIVATING, _D.HELD, _D.BACKING_OUT, _D.SUPPORTING)
    @rule()
    def run_again(self) -> None:
        """The controller died, or a person goes on."""
        with suppress(ConflictError):
            self.journal.refuse_resume(self.deployment)
            self.journal.take_over(self.deployment.id, self.holder, NOW)

    @is_(_D.SUPPORTING)
    @rule(apart=st.booleans())
    def bring_in(self, apart: bool) -> None:
        late = [one.host for one in self.journal.support(self.deployment, NOW).late]
        waves = [[host] for host in late] if apart else [late]
        if late:
            with suppress(ConflictError):
                self.journal.begin_late(self.deployment.id, waves, self.holder, NOW)

    @rule(days=st.sampled_from([0, 0, 0, 8]))
    def conclude(self, days: int) -> None:
        if self.deployment.state in states.OPEN:
            self.journal.conclude(self.deployment.run, NOW + timedelta(days=days))

    @is_(_D.ACTIVATING, _D.STAGING)
    @rule()
    def hold(self) -> None:
        self.journal.hold(self.deployment.run, "a person wants it", NOW)

    @is_(_D.STAGING, _D.ACTIVATING, _D.HELD, _D.SUPPORTING)
    @rule(often=st.integers(0, 9))
    def order_backout(self, often: int) -> None:
        if often == 0:
            with suppress(ConflictError):
                self.journal.order_backout(self.deployment.run, "users complain", NOW)

    @is_(_D.BACKING_OUT)
    @rule()
    def go_back(self) -> None:
        for batch in self.journal.batches("CHG0001", "backout")[:1]:
            self.journal.backing_out(self.deployment.run, batch[0], NOW)
            self.journal.backed_out(self.deployment.run, batch[0], _H.BACKED_OUT, "", NOW)

    # -- what else happens -------------------------------------------------------

    @rule(host=st.sampled_from(HOSTS))
    def write_off(self, host: str) -> None:
        write_off_host(self.cmdb, POLICY, host, "its disk died", None, NOW, write=True)

    @rule(host=st.sampled_from(HOSTS))
    def come_back(self, host: str) -> None:
        end_write_offs(self.cmdb, [host], "it answered", "test", NOW, write=True)

    @rule(host=st.sampled_from(HOSTS))
    def another_release_goes_there(self, host: str) -> None:
        package = {"name": "other", "version": "1.0", "digest": OLD}
        with suppress(ConflictError):
            run = self.journal.begin("CHG0002", package, [[host]], Rollout(), self.holder, NOW)
            self.journal.order_backout(run, "it was only a try", NOW)

    # -- what must always be so --------------------------------------------------

    @invariant()
    def nothing_is_under_way_and_nothing_is_locked_where_it_is_said_to_be_live(self) -> None:
        deployment = self.deployment
        if deployment.state in (_D.SUPPORTING, _D.COMPLETED):
            assert self.journal.locked(deployment.id) == set()
            under_way = {_H.PLANNED, _H.STAGED, _H.ACTIVATING, _H.STARTED}
            assert under_way.isdisjoint(self.states().values())
            assert all(state is not WaveState.OPEN for _number, state, _decision in self.journal.waves(deployment.id))
        if deployment.state is _D.SUPPORTING:
            assert deployment.reason or not self.journal.support(deployment, NOW).barriers(NOW)
        if deployment.state is _D.COMPLETED and not deployment.reason:
            gone = self.cmdb.write_offs()
            assert all(host in gone for host, state in self.states().items() if state in states.LATE)

    @invariant()
    def one_wave_is_open_and_who_may_change_is_locked(self) -> None:
        deployment = self.deployment
        open_ = [number for number, state, _decision in self.journal.waves(deployment.id) if state is WaveState.OPEN]
        assert len(open_) <= 1
        locked = self.journal.locked(deployment.id)
        if deployment.state is _D.ACTIVATING:
            assert {host for batch in self.journal.batches("CHG0001", "activate") for host in batch} <= locked
        if deployment.state is _D.STAGING:
            assert {host for batch in self.journal.batches("CHG0001", "stage") for host in batch} <= locked

    @invariant()
    def what_a_host_goes_back_to_is_what_it_had(self) -> None:
        assert all(target.previous_digest in (None, OLD) for target in self.journal.targets(self.deployment.id))

    def it_comes_to_an_end(self) -> None:
        """When all hosts are well and the same command is run again and again, each gets the release, or all the one before."""
        for _round in range(12):
            if self.deployment.state not in states.OPEN:
                break
            self.run_again()
            self.bring_in(apart=True) if self.deployment.state is _D.SUPPORTING else None
            while self.deployment.state is _D.STAGING and self.journal.batches("CHG0001", "stage"):
                for host in self.journal.batches("CHG0001", "stage")[0]:
                    self.journal.staged(self.deployment.run, host, {"version": "1.0", "digest": OLD}, NOW)
            if self.deployment.state is _D.STAGING:
                self.decide_staging()
            while self.deployment.state is _D.ACTIVATING and self.journal.batches("CHG0001", "activate"):
                for _host in HOSTS:
                    self.activate(_H.ACTIVE)
                self.decide_wave()
            while self.deployment.state is _D.BACKING_OUT and self.journal.batches("CHG0001", "backout"):
                self.go_back()
            self.conclude(days=0)
            self.nothing_is_under_way_and_nothing_is_locked_where_it_is_said_to_be_live()
            if self.deployment.state is _D.HELD and self.is_for_a_person():
                return
        deployment = self.deployment
        assert deployment.state not in states.OPEN, (deployment.state, deployment.reason, self.states())
        if deployment.state is _D.COMPLETED and not deployment.reason:
            assert all(state in (_H.ACTIVE, _H.WRITTEN_OFF) for state in self.states().values())

    def is_for_a_person(self) -> bool:
        """Whether a wave of the plan has no host left, so that the deployment goes back: only then."""
        first = [target.state for target in self.journal.targets(self.deployment.id)]
        return self.journal.round_start(self.deployment.id) == 1 and _H.WRITTEN_OFF in first


TestRounds = Rounds.TestCase
TestRounds.settings = settings(
    max_examples=settings().max_examples // 25,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
