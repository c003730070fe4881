# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A deployment in whose first wave the release is up, a clock that nobody waits for, and a Prometheus that says what a test wants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.metrics.model import Bake, BakeVerdict, Compared, Metric
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.bake_journal import BakeJournal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import Deployment
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.gate import GateDecision
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import HostState
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.bake import bake_wave
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.wait import Wait

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ERRORS = Metric("errors", "rate(errors{instance=~$hosts}[1m])", good="< 1", every=60)
BAKE = Bake(2, (ERRORS,))
COMPARING = Bake(2, (Metric("latency", "latency", every=60, compare=Compared("values")),))
OLD, NEW = "sha256:" + "a" * 64, "sha256:" + "b" * 64
HOSTS = [f"web{number}" for number in range(1, 10)]
WAVES = (("web1",), ("web2", "web3"), ("web4", "web5", "web6"))
HOLDER = Holder("ann", "other-machine", 4711, 99, "feedbeef")


def answered(**values: float | str) -> dict[str, Any]:
    """A document in which each host has this value."""
    result = [{"metric": {"instance": f"{host}:9100"}, "value": [1, str(value)]} for host, value in values.items()]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


@dataclass
class Baked:
    """See above. ``answers``: what the query asked next is answered with, the last one again and again; an exception is raised."""

    cmdb: Cmdb
    bake: Bake = BAKE
    waves: tuple[tuple[str, ...], ...] = WAVES
    answers: list[Any] = field(default_factory=lambda: [answered(**dict.fromkeys(HOSTS, 0))])
    asked: list[tuple[datetime, str]] = field(default_factory=list)
    slept: float = 0
    rollout: Rollout | None = None

    def __post_init__(self) -> None:
        self.cmdb.put_cis([{"name": host, "class": "server"} for host in HOSTS], actor="test")
        self.journal = BakeJournal(self.cmdb)
        package = {"name": "hello", "version": "2.0", "digest": NEW}
        rollout = self.rollout or Rollout(bake=self.bake, stable=0)
        run = self.journal.begin("CHG0001", package, self.waves, rollout, HOLDER, NOW)
        for host in (host for wave in self.waves for host in wave):
            self.journal.staged(run, host, {"version": "1.0", "digest": OLD}, NOW)
        self.journal.decide_staging(run, GateDecision("proceed", "because"), NOW)
        self.activate(*self.waves[0])

    @property
    def deployment(self) -> Deployment:
        found = self.journal.latest("CHG0001")
        assert found is not None
        return found

    def activate(self, *hosts: str, state: HostState = HostState.ACTIVE) -> None:
        for host in hosts:
            self.journal.activating(self.deployment.run, host, self.now)
            if state is HostState.ACTIVE:
                self.journal.activated(self.deployment.run, host, HostState.STARTED, "", self.now)
            self.journal.activated(self.deployment.run, host, state, "", self.now)

    @property
    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.slept)

    def ask(self, query: str) -> object:
        self.asked.append((self.now, query))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def measure(self, patience: float | None = None, interrupted: Callable[[], str] = str) -> BakeVerdict | None:
        """What baking the open wave comes to."""

        def sleep(seconds: float) -> None:
            self.slept += seconds

        wait = Wait(lambda: self.now, interrupted, patience, lambda: self.slept, sleep)
        return bake_wave(self.journal, self.deployment, self.ask, wait)[0]


GONE = TidegateError("Prometheus can't be reached")
